"""Peak memory of a scene beyond the model, by size, and time against the sum of the reader's calls.

    python benchmarks/scene_memory.py --sizes 10000 20000

Each size is run in a process of its own by a reader that costs little and finds some objects. Beyond the model: the
process's peak (VmHWM) less what it held before the scene was opened. `--model` takes a network's folder instead.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

PATCH_PX = 250


def write_scene(path, width, height):
    """Patches of two brightnesses, tiled and compressed, written strip by strip."""
    profile = {
        "driver": "GTiff", "width": width, "height": height, "count": 3, "dtype": "uint8", "crs": "EPSG:32633",
        "transform": from_origin(500_000, 5_000_000, 0.3, 0.3), "tiled": True, "blockxsize": 512, "blockysize": 512,
        "compress": "deflate", "zlevel": 1, "photometric": "RGB", "bigtiff": "if_safer",
    }  # fmt: skip
    draw = np.random.default_rng(0)
    with rasterio.open(path, "w", **profile) as raster:
        for top in range(0, height, 512):
            rows = min(512, height - top)
            patches = draw.random((rows // PATCH_PX + 2, width // PATCH_PX + 1)) > 0.97
            strip = patches.repeat(PATCH_PX, 0)[:rows].repeat(PATCH_PX, 1)[:, :width]
            values = np.where(strip, 220, draw.integers(30, 60, (rows, width))).astype(np.uint8)
            raster.write(np.broadcast_to(values, (3, rows, width)), window=((top, top + rows), (0, width)))


def memory_mb(name):
    """`VmRSS` or `VmHWM` of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise RuntimeError(name)


class Timed:
    """A reader, and how long its calls took together."""

    identity = "benchmark"

    def __init__(self, reader):
        self.reader = reader
        self.window_px = getattr(reader, "window_px", 480)
        self.seconds = 0.0
        self.windows = 0

    def __call__(self, windows, phrases):
        started = time.perf_counter()
        answers = self.reader(windows, phrases)
        self.seconds += time.perf_counter() - started
        self.windows += len(windows)
        return answers


def cheap(windows, phrases):
    """Bright is the target."""
    return np.repeat((windows[..., 0] > 128).astype(np.float32)[:, None], len(phrases), axis=1)


def measure(path, output, model, phrases):
    """Run one scene; called in a process of its own."""
    from processing_rrsis.scenes import segment_scene
    from processing_rrsis.scenes.reader import open_reader

    reader = Timed(cheap if model is None else open_reader(model, runtime="auto"))
    reader(np.zeros((1, reader.window_px, reader.window_px, 3), np.uint8), phrases)  # whatever a first call allocates
    reader.seconds = reader.windows = 0
    before = memory_mb("VmRSS")
    started = time.perf_counter()
    result = segment_scene(path, phrases, output, model=reader, vector=Path(output).with_suffix(".gpkg"))
    seconds = time.perf_counter() - started
    print(json.dumps({
        "before_mb": round(before), "beyond_mb": round(memory_mb("VmHWM") - before), "seconds": round(seconds, 2),
        "reader_seconds": round(reader.seconds, 2), "windows": reader.windows, "objects": len(result[0].objects),
    }))  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 20_000])
    parser.add_argument("--height", type=int, help="of all sizes, to compare widths")
    parser.add_argument("--model")
    parser.add_argument("--phrases", nargs="+", default=["the ship"])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(*options.one, options.model, options.phrases)
        return
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "scene.tif"
            write_scene(path, size, options.height or size)
            command = [sys.executable, __file__, "--one", str(path), str(Path(folder) / "mask.tif"), "--phrases"]
            command += [*options.phrases, *(["--model", options.model] if options.model else [])]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            print(f"{size} × {options.height or size}: {done.stdout.strip()}")


if __name__ == "__main__":
    main()
