"""The launch files: Accelerate reads each, they name what exists, and the SLURM job stops, saves and queues again."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_multi_gpu_env

from modeling_rrsis import MODELS
from tests.modeling.tiny import tiny_inputs, tiny_model

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = sorted((CONFIGS / "accelerate").glob("*.yaml"))
SBATCH = CONFIGS / "slurm" / "train.sbatch"
EXPECTED = {  # name → kind, machines, processes
    "deepspeed_zero2": (DistributedType.DEEPSPEED, 1, 4),
    "four_gpus": (DistributedType.MULTI_GPU, 1, 4),
    "fsdp": (DistributedType.FSDP, 1, 4),
    "one_gpu": (DistributedType.NO, 1, 1),
    "two_nodes_of_eight": (DistributedType.MULTI_GPU, 2, 16),
}


def launch_arguments(name, *options):
    """What `accelerate launch --config_file …` makes of a file."""
    path = CONFIGS / "accelerate" / f"{name}.yaml"
    arguments = launch_command_parser().parse_args(["--config_file", str(path), *options, "train_accelerate.py"])
    return _validate_launch_command(arguments)[0]


def test_every_file_has_its_row():
    assert [path.stem for path in FILES] == sorted(EXPECTED)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_accelerate_reads_it_and_knows_every_key(path):
    config = load_config_from_file(str(path))  # refuses unknown keys of the first level
    assert isinstance(config, ClusterConfig)
    assert (config.distributed_type, config.num_machines, config.num_processes) == EXPECTED[path.stem]
    options = vars(launch_command_parser().parse_args(["script.py"]))
    nested = yaml.safe_load(path.read_text())
    keys = [key for part in ("fsdp_config", "deepspeed_config") for key in nested.get(part, {})]
    assert set(keys) <= set(options)
    assert bool(keys) == (path.stem in ("fsdp", "deepspeed_zero2"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_precision_is_left_to_the_recipe(path):
    assert "mixed_precision" not in yaml.safe_load(path.read_text())


@pytest.mark.parametrize(
    ("name", "launcher"),
    [
        ("four_gpus", "multi_gpu"),
        ("two_nodes_of_eight", "multi_gpu"),
        ("fsdp", "use_fsdp"),
        ("deepspeed_zero2", "use_deepspeed"),
    ],
)
def test_a_file_chooses_its_launcher(name, launcher):
    arguments = launch_arguments(name)
    launchers = ("multi_gpu", "use_fsdp", "use_deepspeed")
    assert [option for option in launchers if getattr(arguments, option)] == [launcher]


def test_options_place_a_node_among_the_two():
    options = ("--machine_rank", "1", "--main_process_ip", "node7", "--main_process_port", "21234")
    arguments = launch_arguments("two_nodes_of_eight", *options)
    prepare_multi_gpu_env(arguments)
    assert (arguments.nnodes, arguments.nproc_per_node, arguments.node_rank) == ("2", "8", 1)
    assert arguments.rdzv_endpoint == "node7:21234"


def test_fsdp_is_the_second_version_and_reads_weights_on_every_process():
    environment = prepare_multi_gpu_env(launch_arguments("fsdp", "--main_process_port", "0"))
    assert environment["FSDP_VERSION"] == "2"
    assert environment["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "false"
    assert environment["FSDP_AUTO_WRAP_POLICY"] == "TRANSFORMER_BASED_WRAP"


@pytest.mark.parametrize("name", MODELS)
def test_fsdp_wraps_modules_whose_forward_is_called(name):
    """FSDP gathers parameters in `forward`: a module that is driven part by part would compute with its shards."""
    fsdp = yaml.safe_load((CONFIGS / "accelerate" / "fsdp.yaml").read_text())["fsdp_config"]
    classes = set(fsdp["fsdp_transformer_layer_cls_to_wrap"].split(","))
    model = tiny_model(name)
    wrapped = {key: module for key, module in model.named_modules() if type(module).__name__ in classes}
    assert {type(module).__name__ for module in wrapped.values()} == classes
    called = set()
    for key, module in wrapped.items():
        module.register_forward_hook(lambda *_, key=key: called.add(key))
    with torch.no_grad():
        model(**tiny_inputs())
    assert called == set(wrapped)


FAKE_TRAINING = """#!/usr/bin/env python3
import os, pathlib, signal, sys, time
folder = pathlib.Path(os.environ["FAKE_FOLDER"])
def stop(number, frame):
    (folder / "saved").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
(folder / "arguments").write_text(" ".join(sys.argv[1:]))
if os.environ["FAKE_ENDING"] == "finish":
    (folder / "out").mkdir()
    (folder / "out" / "metrics.json").touch()
    sys.exit(0)
if os.environ["FAKE_ENDING"] == "fail":
    sys.exit(3)
(folder / "running").touch()
time.sleep(60)
"""
FAKES = {
    "srun": 'shift\nexport SLURM_NODEID=0\necho $$ > "$FAKE_FOLDER/task"\nexec "$@"\n',
    "scontrol": 'if [ "$1" = show ]; then echo node7; echo node8; else echo "$@" > "$FAKE_FOLDER/requeued"; fi\n',
    "accelerate": '"$FAKE_FOLDER/training" "$@" &\nwait $!\n',  # the launcher, with the training as its child
}


@pytest.fixture
def job(tmp_path):
    """Start the job with SLURM's and Accelerate's commands replaced."""
    for name, lines in FAKES.items():
        (tmp_path / name).write_text("#!/bin/bash\n" + lines)
    (tmp_path / "training").write_text(FAKE_TRAINING)
    for name in (*FAKES, "training"):
        (tmp_path / name).chmod(0o755)
    started = []

    def start(ending, *arguments):
        slurm = {"SLURM_JOB_ID": "41", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "node[7-8]"}
        paths = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "FAKE_FOLDER": str(tmp_path), "FAKE_ENDING": ending}
        process = subprocess.Popen(
            ["bash", str(SBATCH), *arguments],
            env={**os.environ, **slurm, **paths},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(path, process, seconds=30.0):
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, f"ended before {path.name} appeared: {process.stdout.read()}"
        assert time.monotonic() < end, f"{path.name} did not appear"
        time.sleep(0.02)


def test_the_job_is_a_shell_script():
    assert subprocess.run(["bash", "-n", str(SBATCH)], check=False).returncode == 0


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTERM"])
def test_a_stopped_job_saves_and_queues_again(job, tmp_path, name):
    process = job("stop", "--recipe", "lavt-rrsisd", "--output_dir", str(tmp_path / "out"))
    wait_for(tmp_path / "running", process)
    os.kill(int((tmp_path / "task").read_text()), getattr(signal, name))
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert (tmp_path / "saved").exists()
    assert (tmp_path / "requeued").read_text().split() == ["requeue", "41"]


def test_the_job_starts_a_launcher_that_goes_on_from_the_latest_checkpoint(job, tmp_path):
    process = job("finish", "--recipe", "a b", f"--output_dir={tmp_path / 'out'}")
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert not (tmp_path / "requeued").exists()
    arguments = (tmp_path / "arguments").read_text()
    assert "--num_machines 2 --num_processes 16 --machine_rank 0" in arguments
    assert "--main_process_ip node7 --main_process_port 20041 train_accelerate.py --recipe a b" in arguments
    assert arguments.endswith("--resume latest")


def test_a_failed_job_is_not_queued_again(job, tmp_path):
    process = job("fail", "--output_dir", str(tmp_path / "out"))
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 3, output
    assert not (tmp_path / "requeued").exists()


def test_the_job_needs_to_know_the_output_folder(job):
    process = job("finish", "--recipe", "lavt-rrsisd")
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "expected --output_dir FOLDER" in output


@pytest.mark.parametrize(("shards", "shard"), [(None, "3/2"), ("64", "3/64")])
def test_jobs_of_an_array_take_their_shard(tmp_path, shards, shard):
    command = tmp_path / "rrsis"
    command.write_text('#!/bin/bash\nprintf "%s|" "$@"\nexit 7\n')
    command.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "2"}
    if shards:
        environment["SHARDS"] = shards
    script = CONFIGS / "slurm" / "scenes.sbatch"
    done = subprocess.run(
        ["bash", script, "t.csv", "out", "-e", "the ship"], env=environment, capture_output=True, text=True
    )
    assert done.stdout == f"scenes|t.csv|--out|out|--shard|{shard}|-e|the ship|"
    assert done.returncode == 7
