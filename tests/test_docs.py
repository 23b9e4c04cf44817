"""The Python of docs/training.md runs as printed, on a run of four updates."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.parametrize("code", SNIPPETS, ids=["trainer", "lora", "8 bit"])
def test_runs_as_printed(code, run_dir, tmp_path):
    if "torchao" in code and importlib.util.find_spec("torchao") is None:
        pytest.skip("torchao: pip install -e '.[quantize]'")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "fianet").symlink_to(run_dir)
    folders = {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_DATASETS_CACHE": str(tmp_path / "data")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, **folders, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
