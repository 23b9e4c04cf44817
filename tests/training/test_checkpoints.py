"""Checkpoints: whole or not there, newest first, damage named."""

import errno
import json
import os
import shutil
from types import SimpleNamespace

import pytest
import torch

from processing_rrsis.training import checkpoints
from processing_rrsis.training.checkpoints import (
    CheckpointError,
    checkpoint_folders,
    find_damage,
    load_checkpoint,
    newest_whole,
    remove_partial,
    resolve_resume,
    save_checkpoint,
)


class FakeAccelerator:
    """Writes two files, or as many as the disk takes."""

    is_main_process = True
    distributed_type = "NO"
    _optimizers = ()

    def __init__(self, error=None):
        self.error = error

    def wait_for_everyone(self):
        pass

    def save_state(self, folder):
        with open(f"{folder}/model.safetensors", "wb") as file:
            file.write(b"weights" * 100)
        if self.error is not None:
            raise self.error
        torch.save({"state": {}, "param_groups": []}, f"{folder}/optimizer.bin")


def save(folder, *steps, keep=9):
    for step in steps:
        save_checkpoint(FakeAccelerator(), folder, {"progress": {"step": step}}, step=step, keep=keep)


def test_the_newest_whole_one_is_found(tmp_path):
    save(tmp_path, 5, 20, 10)
    found = newest_whole(tmp_path, pytest.fail)
    assert (found.step, found.state()) == (20, {"progress": {"step": 20}})
    assert found.folder.name == "step-00000020"
    assert found.num_bytes() > 1400


def test_no_checkpoints_is_no_error(tmp_path):
    assert newest_whole(tmp_path, pytest.fail) is None
    assert resolve_resume("latest", tmp_path, pytest.fail) is None


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "no manifest.json"),
        (lambda folder: (folder / "manifest.json").write_text('{"format": 3, "fi'), "can't be read"),
        (lambda folder: (folder / "optimizer.bin").unlink(), "optimizer.bin is missing"),
        (lambda folder: (folder / "optimizer.bin").write_bytes(b"half"), "has 4 bytes, "),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"Weights" * 100), "other content"),
        (lambda folder: (folder / "state.json").write_text("{"), "state.json has 1 bytes"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json or state.json can't be read"),
        (lambda folder: (folder / "manifest.json").write_text('{"format": []}'), "it has format []"),
        (lambda folder: (folder / "manifest.json").write_text('{"format": 3, "files": 7}'), "can't be read"),
        (lambda folder: (folder / "manifest.json").write_text("[" * 100_000), "can't be read"),
        (lambda folder: (folder / "manifest.json").unlink() or os.mkfifo(folder / "manifest.json"), "is no file"),
        (lambda folder: (folder / "custom_checkpoint_0.pkl").touch(), "custom_checkpoint_0.pkl was not written"),
    ],
)
def test_damaged_ones_are_skipped_and_named(tmp_path, damage, words):
    save(tmp_path, 1, 2)
    damage(tmp_path / "checkpoints" / "step-00000002")
    said = []
    assert newest_whole(tmp_path, said.append).step == 1
    assert "step-00000002" in said[0]
    assert words in said[0]
    with pytest.raises(CheckpointError, match="is damaged"):
        resolve_resume(str(tmp_path / "checkpoints" / "step-00000002"), tmp_path, pytest.fail)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"progress": {"step": 1_000_000}}, "its state.json is of step 1000000"),
        ({"progress": {"step": "00000002"}}, "can't be read"),
        ({"progress": []}, "can't be read"),
        ([], "can't be read"),
        ({}, "can't be read"),
    ],
)
def test_a_state_of_another_kind_is_skipped(tmp_path, state, words):
    save(tmp_path, 1)
    save_checkpoint(FakeAccelerator(), tmp_path, state, step=2, keep=9)
    (tmp_path / "checkpoints" / "step-00000003").touch()  # a stray file is no checkpoint
    said = []
    assert newest_whole(tmp_path, said.append).step == 1
    assert words in said[0]


class Calls:
    """Pickled as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("custom_checkpoint_0.pkl", Calls(print, "ran"), "custom_checkpoint_0.pkl is no file of a checkpoint"),
        ("random_states_0.pkl", Calls(print, "ran"), "random_states_0.pkl is no file of a checkpoint"),
        ("pytorch_model/mp_rank_00_model_states.pt", {}, "is no file of a checkpoint"),
        ("optimizer.bin", Calls(print, "ran"), "it also holds __builtin__.print"),
        ("optimizer.bin", {"state": Calls(bytearray, 8_000_000_000)}, "it also holds __builtin__.bytearray"),
    ],
)
def test_files_that_run_code_are_skipped_though_the_manifest_names_them(tmp_path, name, content, words, capsys):
    save(tmp_path, 1, 2)
    folder = tmp_path / "checkpoints" / "step-00000002"
    (folder / name).parent.mkdir(exist_ok=True)
    torch.save(content, folder / name)
    (folder / "manifest.json").unlink()
    checkpoints._write_manifest(folder)
    said = []
    assert newest_whole(tmp_path, said.append).step == 1
    assert words in said[0]
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values["param_groups"][0].update(weight_decay=9.0),
        lambda values: values["state"][0].update(exp_avg=torch.zeros(3)),
        lambda values: values["state"][0].update(exp_avg=torch.full((2,), torch.nan)),
        lambda values: values["state"][0].update(step="one"),
        lambda values: values.update(state=[]),
        lambda values: values.update(param_groups=7),
    ],
)
def test_an_optimizer_of_another_run_is_told(tmp_path, change):
    parameter = torch.nn.Parameter(torch.ones(2))

    class Loading(FakeAccelerator):
        _optimizers = (torch.optim.AdamW([parameter]),)

        def load_state(self, folder):
            self._optimizers[0].load_state_dict(values)

    trained = torch.optim.AdamW([parameter])
    parameter.grad = torch.ones(2)
    trained.step()
    values = trained.state_dict()
    save(tmp_path, 1)
    load_checkpoint(Loading(), newest_whole(tmp_path, pytest.fail))
    change(values)
    with pytest.raises(CheckpointError, match="step-00000001 can't be loaded: "):
        load_checkpoint(Loading(), newest_whole(tmp_path, pytest.fail))


def test_what_a_loader_stumbles_over_is_said(tmp_path):
    class Stumbling(FakeAccelerator):
        def load_state(self, folder):
            raise KeyError("param_groups")

    save(tmp_path, 1)
    with pytest.raises(CheckpointError, match=r"step-00000001 can't be loaded: 'param_groups'. Use another"):
        load_checkpoint(Stumbling(), newest_whole(tmp_path, pytest.fail))


def test_nothing_but_damage_is_an_error(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "checkpoints" / "step-00000001" / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="All 1 checkpoints"):
        newest_whole(tmp_path, lambda text: None)


def test_a_folder_can_be_named(tmp_path):
    save(tmp_path, 1, 2)
    folder = tmp_path / "checkpoints" / "step-00000001"
    assert resolve_resume(str(folder), tmp_path, pytest.fail).step == 1
    assert resolve_resume("none", tmp_path, pytest.fail) is None
    with pytest.raises(CheckpointError, match="expected none, latest or the folder"):
        resolve_resume("newest", tmp_path, pytest.fail)


def test_old_ones_go_after_the_new_one_is_whole(tmp_path):
    save(tmp_path, 1, 2, 3, keep=2)
    assert [checkpoint.step for checkpoint in checkpoint_folders(tmp_path)] == [3, 2]


def test_a_half_written_one_has_no_name_and_is_removed(tmp_path):
    save(tmp_path, 1)
    half = tmp_path / "checkpoints" / "step-00000002.partial"
    shutil.copytree(tmp_path / "checkpoints" / "step-00000001", half)
    (tmp_path / ".best.tmp-123").mkdir()
    assert newest_whole(tmp_path, pytest.fail).step == 1
    assert remove_partial(tmp_path) == [".best.tmp-123", "step-00000002.partial"]
    assert not half.exists()


def test_a_damaged_one_is_replaced_by_its_new_self(tmp_path):
    save(tmp_path, 1)
    folder = tmp_path / "checkpoints" / "step-00000001"
    (folder / "optimizer.bin").write_bytes(b"half")
    (folder / "left_over.bin").write_bytes(b"")
    save(tmp_path, 1)
    assert find_damage(folder) is None
    assert sorted(json.loads((folder / "manifest.json").read_text())["files"]) == [
        "model.safetensors",
        "optimizer.bin",
        "state.json",
    ]
    assert not (folder / "left_over.bin").exists()


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("unexpected pos 64")]
)
def test_a_failed_save_leaves_the_last_one_and_no_rest(tmp_path, error):
    save(tmp_path, 1)
    with pytest.raises(
        CheckpointError, match=r"step 2 could not be written.*step-00000001, is whole.*--resume latest"
    ):
        save_checkpoint(FakeAccelerator(error), tmp_path, {}, step=2, keep=1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]
    assert find_damage(tmp_path / "checkpoints" / "step-00000001") is None


def test_too_little_space_is_seen_before_writing(tmp_path, monkeypatch):
    save(tmp_path, 1)
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(CheckpointError, match="No space left: the last one has"):
        save(tmp_path, 2)
