"""The README's promises: its two commands have the form that is relied on, and its Python runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fence(comment):
    (command,) = re.findall(rf"^<!-- {comment} -->\n```bash\n(.*?)\n```", README, flags=re.MULTILINE | re.DOTALL)
    return command


@pytest.mark.parametrize(("comment", "words"), [("main-job", "rrsis train"), ("tests", "pytest")])
def test_each_command_is_one_line_that_installs_and_runs(comment, words):
    command = fence(comment)
    assert command.startswith("pip install")
    assert "\n" not in command
    assert words in command


def test_fits_two_screens():
    assert len(README.splitlines()) <= 70


def test_python_runs_as_printed(run_dir, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(code.splitlines()) == 8
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "fianet").symlink_to(run_dir)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.size == (320, 320)
        assert mask.mode == "L"
