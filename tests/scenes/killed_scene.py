"""A run over a scene for `test_kill.py`: it writes a byte for every window that it looks at, and is slow at it."""

import sys
import time
from pathlib import Path

from processing_rrsis.scenes import segment_scene
from tests.scenes.rasters import looking_around

scene, folder, pause_s = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])


def reader(windows, phrases):
    with (folder.parent / f"{folder.name}.log").open("ab") as log:
        log.write(b"." * len(windows))
    time.sleep(pause_s * len(windows))
    return looking_around(windows, phrases)


folder.mkdir(exist_ok=True)
segment_scene(
    scene,
    ["the ship", "the largest dam"],
    folder / "mask.tif",
    model=reader,
    vector=folder / "objects.gpkg",
    probability=folder / "probability.tif",
    preview=folder / "preview.png",
    tile_size_px=64,
    overlap_px=16,
)
