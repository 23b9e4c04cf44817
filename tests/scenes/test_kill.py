"""kill -9 at random moments, then the same command: the same bytes, no strip twice but the one under way."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .rasters import noise, write_raster
from .test_resume import files

ROOT = Path(__file__).parents[2]
KILLS = 20
TILES_IN_A_ROW = 6
ROWS = 12
PAUSE_S = 0.03


def start(scene, folder):
    command = [sys.executable, "-m", "tests.scenes.killed_scene", str(scene), str(folder), str(PAUSE_S)]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_kills(tmp_path):
    scene = write_raster(tmp_path / "scene.tif", noise(64 + 48 * (ROWS - 1), 64 + 48 * (TILES_IN_A_ROW - 1)))
    started = time.monotonic()
    assert start(scene, tmp_path / "whole").wait() == 0
    whole_s = time.monotonic() - started
    expected = files(tmp_path / "whole")
    assert len((tmp_path / "whole.log").read_bytes()) == TILES_IN_A_ROW * ROWS
    draw = random.Random(0)
    for number in range(KILLS):
        folder = tmp_path / f"killed{number}"
        process = start(scene, folder)
        time.sleep(draw.uniform(0.2, 1.0) * whole_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert start(scene, folder).wait() == 0
        assert files(folder) == expected
        seen = len((tmp_path / f"killed{number}.log").read_bytes())
        assert TILES_IN_A_ROW * ROWS <= seen <= TILES_IN_A_ROW * (ROWS + 1)
        print(number, seen - TILES_IN_A_ROW * ROWS)  # noqa: T201
