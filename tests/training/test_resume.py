"""A run that is killed, preempted or out of disk goes on as if nothing had happened. See killed_runs.py."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import datasets
import pytest
import torch

from processing_rrsis.errors import RRSISError
from processing_rrsis.training.checkpoints import _write_manifest, checkpoint_folders, find_damage
from processing_rrsis.training.main import main
from processing_rrsis.training.recipes.shipped import get_recipe
from processing_rrsis.training.run_folder import lock_folder

from . import killed_runs
from .killed_runs import command, digests, environment, kill_after, run, signal_all, start


class Touches:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


@pytest.fixture(scope="session")
def unbroken(made_once):
    """A run that was never stopped, the same for all processes."""

    def train(folder):
        folder.mkdir()
        run(folder / "whole", 1)

    return made_once("resume", train)


@pytest.fixture
def whole(unbroken, tmp_path):
    """The run that was never stopped, with the recipe and the data beside it; a test's own."""
    shutil.copytree(unbroken, tmp_path / "resume")
    return tmp_path / "resume" / "whole"


@pytest.fixture
def refused(fresh_accelerate, monkeypatch):
    """The error of a command that trains nothing, in this process: `refused(folder, *options)`."""

    def start_here(folder, *options):
        for name, value in environment(folder).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder.parent / "cache")
        with pytest.raises((ValueError, OSError, RRSISError)) as error:
            main(command(folder, 1, *options)[2:])
        return str(error.value)

    return start_here


def fail(folder, *options, **variables):
    """Run a command that must end with exit code 1; its one error."""
    done = subprocess.run(
        command(folder, 1, *options),
        capture_output=True,
        text=True,
        env={**environment(folder), **variables},
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


def wait_for(path, process):
    while not path.exists() and process.poll() is None:
        time.sleep(0.01)


def test_killed_while_saving_it_ends_with_the_same_bytes(whole):
    folder = whole.parent / "killed"
    process = start(folder, 1)
    wait_for(folder / "checkpoints" / "step-00000003", process)
    assert kill_after(process, folder, seconds=None).startswith("while saving")
    output = run(folder, 1, "--resume", "latest")
    assert "Going on from" in " ".join(output.split())
    assert digests(folder) == digests(whole)
    assert [path.name for path in [*folder.rglob("*.partial"), *folder.glob(".*")]] == [".lock"]


def test_sigterm_saves_and_exits_cleanly(whole):
    folder = whole.parent / "preempted"
    process = start(folder, 1, "--checkpoint_every", "1000")
    wait_for(folder / "metrics.jsonl", process)  # the first update is done; before it there is nothing to save
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    output = " ".join(folder.with_suffix(".txt").read_text().split())
    assert "stopped: " in output
    assert "SIGTERM" in output
    assert "--resume latest" in output
    (checkpoint,) = checkpoint_folders(folder)
    assert find_damage(checkpoint.folder) is None
    run(folder, 1, "--resume", "latest")
    assert digests(folder) == digests(whole)


def test_two_runs_do_not_share_a_folder(whole):
    folder = whole.parent / "shared"
    lock = lock_folder(folder)
    try:
        error = fail(folder)  # in a process of its own: to this one the lock is open
    finally:
        lock.close()
    assert "Another process is training in" in error
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_a_damaged_checkpoint_is_skipped(whole):
    folder = whole.parent / "damaged"
    shutil.copytree(whole, folder)
    (folder / "metrics.json").unlink()
    (folder / "checkpoints" / "step-00000012" / "optimizer.bin").write_bytes(b"half")
    output = " ".join(run(folder, 1, "--resume", "latest").split())
    assert "skipping the checkpoint" in output
    assert "step-00000009, update 9 of 12" in output
    assert digests(folder) == digests(whole)


@pytest.mark.slow
def test_killed_between_the_renames_of_best_it_goes_on(whole):
    """In the final report: `best/` is called `.best.old` for a moment."""
    folder = whole.parent / "renamed"
    shutil.copytree(whole, folder)
    (folder / "metrics.json").unlink()
    (folder / "best").rename(folder / ".best.old")
    run(folder, 1, "--resume", "latest")
    assert digests(folder) == digests(whole)
    assert not (folder / ".best.old").exists()


@pytest.mark.slow
def test_an_older_checkpoint_makes_a_finished_run_unfinished(whole):
    folder = whole.parent / "older"
    shutil.copytree(whole, folder)
    process = start(folder, 1, "--resume", str(folder / "checkpoints" / "step-00000009"))
    while (folder / "metrics.json").exists() and process.poll() is None:
        time.sleep(0.01)
    kill_after(process, folder, seconds=0.0)
    assert not (folder / "metrics.json").exists()
    output = " ".join(run(folder, 1, "--resume", "latest").split())
    assert "is finished" not in output
    assert digests(folder) == digests(whole)


def test_an_error_ends_the_process_and_its_workers(whole):
    """Workers ignore SIGTERM, by which Python would end them."""
    folder = whole.parent / "broken"
    script = (
        "import runpy, sys\n"
        "from processing_rrsis.training import loop\n"
        "def fail(*arguments): raise RuntimeError('out of memory')\n"
        "loop.train_update = fail\n"
        f"sys.argv = {command(folder, 1)[1:]!r}\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=environment(folder),
        timeout=90,
        check=False,
    )
    assert done.returncode == 1
    assert "out of memory" in done.stderr


def test_a_checkpoint_of_another_run_is_refused(whole, refused):
    error = refused(whole.parent / "elsewhere", "--resume", str(whole / "checkpoints" / "step-00000012"))
    assert "is of another run" in error


def sign(checkpoint):
    """A manifest that is right about files that were changed."""
    (checkpoint / "manifest.json").unlink()
    _write_manifest(checkpoint)


@pytest.mark.parametrize("name", ["custom_checkpoint_0.pkl", "optimizer.bin", "random_states_0.pkl"])
def test_nothing_in_a_checkpoint_runs(whole, name, refused):
    """Files that run code when they are unpickled, listed in a manifest that is right."""
    folder = whole.parent / f"hostile_{name}"
    shutil.copytree(whole, folder)
    (folder / "metrics.json").unlink()
    shutil.rmtree(folder / "checkpoints" / "step-00000009")
    checkpoint = folder / "checkpoints" / "step-00000012"
    torch.save(Touches(folder / "touched"), checkpoint / name)
    sign(checkpoint)
    assert "All 1 checkpoints" in refused(folder, "--resume", "latest")
    assert not (folder / "touched").exists()


def test_a_progress_of_other_kinds_is_refused(whole, refused):
    folder = whole.parent / "progress"
    shutil.copytree(whole, folder)
    (folder / "metrics.json").unlink()
    shutil.rmtree(folder / "checkpoints" / "step-00000009")
    state = folder / "checkpoints" / "step-00000012" / "state.json"
    values = json.loads(state.read_text())
    values["progress"]["losses"] = "none"
    state.write_text(json.dumps(values))
    sign(state.parent)
    assert "step-00000012 holds another progress than ['step'" in refused(folder, "--resume", "latest")


def test_a_foreign_folder_is_left_alone(whole, refused):
    folder = whole.parent / "foreign"
    (folder / "logs").mkdir(parents=True)
    assert "holds logs" in refused(folder)
    assert (folder / "logs").is_dir()


def test_a_new_run_on_a_runs_own_weights_needs_another_folder(whole, refused):
    assert "Choose another --output_dir" in refused(whole, "--init_from", str(whole / "best"))


def test_a_finetuned_model_decides_its_recipe(whole):
    folder = whole.parent / "tuned"
    run(folder, 1, "--init_from", str(whole / "best"), "--max_steps", "2")
    recipe = get_recipe(str(folder / "recipe.yaml"))
    config = json.loads((whole / "best" / "config.json").read_text())
    assert recipe.config["decoder_hidden_size"] == config["decoder_hidden_size"] == 16
    assert json.loads((folder / "metrics.json").read_text())["settings"]["starting_weights"].startswith("those of a ")


def test_a_finished_run_is_left_alone(whole):
    before = digests(whole)
    output = run(whole, 1, "--resume", "latest")
    assert "is finished; nothing to do" in " ".join(output.split())
    assert digests(whole) == before


def test_other_settings_are_named(whole, refused):
    error = refused(whole, "--resume", "latest", "--learning_rate", "0.1", "--seed", "7")
    assert "learning_rate was 0.0008, is 0.1; seed was 0, is 7" in error


def test_an_earlier_run_is_kept(whole):
    folder = whole.parent / "again"
    shutil.copytree(whole, folder)
    output = " ".join(run(folder, 1, "--max_steps", "2").split())
    assert "Moved the earlier run" in output
    assert digests(folder / "previous" / "1") == digests(whole)
    assert json.loads((folder / "metrics.json").read_text())["settings"]["num_updates"] == 2


def test_divergence_names_the_batch(whole):
    folder = whole.parent / "diverged"
    error = fail(folder, "--learning_rate", "1e30", "--warmup_steps", "0")
    assert "Training diverged at update" in error
    facts = json.loads((folder / "divergence.json").read_text())
    assert len(set(facts["sample_ids"])) == 8
    assert all(name.startswith("train_") for name in facts["sample_ids"])


@pytest.fixture
def small_disk(tmp_path, whole):
    """A file system with room for two and a half checkpoints."""
    folder = tmp_path / "disk"
    folder.mkdir()
    size = int(2.5 * checkpoint_folders(whole)[0].num_bytes())
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_a_clear_error_and_the_last_checkpoint_is_whole(whole, small_disk):
    folder = small_disk / "run"
    cache = {"HF_DATASETS_CACHE": str(whole.parent / "cache")}
    error = fail(folder, "--checkpoint_every", "1", "--keep_checkpoints", "9", **cache)
    assert "The checkpoint of step 3 could not be written" in error
    assert "No space left" in error
    assert "--resume latest" in error
    assert [checkpoint.step for checkpoint in checkpoint_folders(folder)] == [2, 1]
    assert find_damage(checkpoint_folders(folder)[0].folder) is None
    assert not list((folder / "checkpoints").glob("*.partial"))
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    run(folder, 1, "--resume", "latest", "--checkpoint_every", "1")
    assert digests(folder) == digests(whole)


@pytest.mark.slow
def test_a_disk_that_fills_while_a_checkpoint_is_written(small_disk, whole):
    ballast = small_disk / "ballast"
    size = checkpoint_folders(whole)[0].num_bytes()
    ballast.write_bytes(bytes(2 * size))  # half a checkpoint is left
    error = fail(small_disk / "run", HF_DATASETS_CACHE=str(whole.parent / "cache"))
    assert "The checkpoint of step 3 could not be written" in error
    assert "There is no earlier one" in error
    assert list((small_disk / "run" / "checkpoints").iterdir()) == []


@pytest.mark.slow
def test_two_processes_stop_together_and_go_on(whole):
    alone = whole.parent / "two"
    run(alone, 2)
    folder = whole.parent / "two_preempted"
    process = start(folder, 2, "--checkpoint_every", "1000")
    wait_for(folder / "recipe.yaml", process)
    signal_all(process, signal.SIGTERM)
    process.wait(timeout=60)
    assert checkpoint_folders(folder)
    run(folder, 2, "--resume", "latest")
    assert digests(folder) == digests(alone)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_eight_kills():
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.killed_runs", "--runs", "8", "--seed", "1"],
        capture_output=True,
        text=True,
        cwd=killed_runs.ROOT,
        env=os.environ,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 of 8" in done.stdout
