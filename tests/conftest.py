"""What several test modules share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
def run_dir(tmp_path_factory):
    """Four updates of the small FIANet, started the way a user does it."""
    folder = tmp_path_factory.mktemp("run")
    command = [sys.executable, str(ROOT / "train_accelerate.py"), "--output_dir", str(folder / "out")]
    command += ["--max_steps", "4", "--eval_every", "2", "--warmup_steps", "1", "--log_every", "1"]
    command += ["--max_samples", "24", "--batch_size", "8", "--num_workers", "0"]
    environment = {**os.environ, "HF_DATASETS_CACHE": str(folder / "cache"), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "output.txt").write_text(done.stdout)
    return folder / "out"
