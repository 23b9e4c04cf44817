"""Wheel and source distribution hold what they should and nothing else."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("modeling_rrsis", "processing_rrsis", "hub_cards")
MADE = ("PKG-INFO", "setup.cfg", "rrsis.egg-info")
BUILD = "from setuptools import build_meta as b; b.build_wheel('out'); b.build_sdist('out')"


def tracked():
    if not (ROOT / ".git").exists():
        pytest.skip("only a checkout knows which files are its own")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()}


def test_they_hold_the_tracked_files(tmp_path):
    names = tracked()
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for left in ("hub_cards/space/app.pyi", "tests/__pycache__/x.pyc", "processing_rrsis/cli/app.pyi"):
        (tmp_path / left).parent.mkdir(exist_ok=True)
        (tmp_path / left).touch()  # by Gradio and Python, where the code ran
    (tmp_path / "out").mkdir()
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,), (archive,) = (tmp_path / "out").glob("*.whl"), (tmp_path / "out").glob("*.tar.gz")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert inside == {name for name in names if name.startswith(PACKAGES)}
    with tarfile.open(archive) as files:
        sent = {member.name.split("/", 1)[1] for member in files.getmembers() if member.isfile()}
    assert {name for name in sent if not name.startswith(MADE)} == names - {".gitignore"}
