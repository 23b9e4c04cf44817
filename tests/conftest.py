"""What several test modules share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[1]
# Processes of pytest-xdist share the cores. PyTorch reads the variable at its import.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))
# Of transformers' common tests, see modeling/transformers_tests.py
MARKERS = ("accelerate_tests", "flash_attn_test", "flash_attn_3_test", "flash_attn_4_test", "torch_compile_test")


def pytest_configure(config):
    for marker in MARKERS:
        config.addinivalue_line("markers", f"{marker}: of transformers' common tests")


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """Make a folder by its name, once for all processes of pytest-xdist: `made_once(name, make)` calls `make(path)`.

    What is made is nobody's to change.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    shared.mkdir(exist_ok=True)

    def made(name, make):
        with FileLock(shared / f"{name}.lock"):
            if not (shared / f"{name}.done").exists():
                make(shared / name)
                (shared / f"{name}.done").touch()
        return shared / name

    return made


@pytest.fixture
def one_thread():
    """One thread of PyTorch, so that sums have one order."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def fresh_accelerate():
    """Accelerate keeps its state for the life of a process: other tests' precision must not decide ours."""
    import torch
    from accelerate.state import AcceleratorState

    threads = torch.get_num_threads()
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def run_dir(made_once):
    """Four updates of the small FIANet, started the way a user does it."""

    def train(folder):
        command = [sys.executable, str(ROOT / "train_accelerate.py"), "--output_dir", str(folder / "out")]
        command += ["--max_steps", "4", "--eval_every", "2", "--warmup_steps", "1", "--log_every", "1"]
        command += ["--max_samples", "24", "--batch_size", "8", "--num_workers", "0", "--cpu_threads", "1"]
        environment = {**os.environ, "HF_DATASETS_CACHE": str(folder / "cache"), "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        (folder / "output.txt").write_text(done.stdout)

    return made_once("run", train) / "out"
