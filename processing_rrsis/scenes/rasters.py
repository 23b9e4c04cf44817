"""Strips to rasters: a tiled BigTIFF in the scratch folder, then a cloud-optimised copy that is read back once."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.shutil import copy
from rasterio.windows import Window

from ..errors import RRSISError
from .blending import NOT_VALID
from .reading.source import SceneSource
from .receipts import Scratch
from .tiling import Tiling

TILE_SIDE_PX = 512
READ_SIDE_PX = 2048
"""Side of the windows in which finished rasters are gone through."""

Piece = tuple[Window, NDArray[Any]]


def scratch_profile(source: SceneSource, count: int, dtype: str) -> dict[str, Any]:
    """Creation options of a raster on a scene's grid."""
    return {
        "driver": "GTiff",
        "width": source.width_px,
        "height": source.height_px,
        "count": count,
        "dtype": dtype,
        "nodata": float("nan") if dtype == "float32" else NOT_VALID,
        "crs": source.dataset.crs,
        "transform": source.dataset.transform,
        "tiled": True,
        "blockxsize": TILE_SIDE_PX,
        "blockysize": TILE_SIDE_PX,
        "compress": "deflate",
        "zlevel": 1,
        "bigtiff": "if_safer",
    }


def strip_pieces(scratch: Scratch, tiling: Tiling, part: str) -> Iterator[Piece]:
    """The finished strips of a pass, one after another.

    Args:
        scratch: Where they are.
        tiling: Of the pass.
        part: Attribute of `Strip`: `"mask"`, `"score"` or `"probability"`.
    """
    for number, block in enumerate(tiling.blocks):
        for row in range(len(tiling.rows)):
            top, bottom = tiling.strip_rows(row)
            window = Window(block.start_px, top, block.stop_px - block.start_px, bottom - top)
            yield window, getattr(scratch.load(number, row, (window.height, window.width)), part)


def write_raster(path: Path, profile: dict[str, Any], pieces: Iterable[Piece], names: Sequence[str]) -> None:
    """Write a raster from windows of it; bands get their names as descriptions."""
    with rasterio.open(path, "w", **profile) as raster:
        for number, name in enumerate(names, start=1):
            raster.set_band_description(number, name)
        for window, values in pieces:
            raster.write(values, window=window)


def read_windows(width: int, height: int, side: int = READ_SIDE_PX) -> Iterator[Window]:
    """Windows that cover a raster, row after row."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield Window(left, top, min(side, width - left), min(side, height - top))


def checksum(path: Path) -> int:
    """A checksum of all values of a raster, read through; files with the same values have the same one."""
    found = 0
    with rasterio.open(path) as raster:
        for window in read_windows(raster.width, raster.height):
            found = zlib.crc32(raster.read(window=window).tobytes(), found)
    return found


def write_cog(plain: Path, target: Path) -> None:
    """Copy a raster to a cloud-optimised GeoTIFF with overviews, and read it back.

    Args:
        plain: Finished raster.
        target: New file; nothing of that name may be there yet.

    Raises:
        RRSISError: If what is on the disk has other values: a full disk shows itself only so.
        OSError: If it can't be written.
    """
    floating = "float" in _dtype_of(plain)
    try:
        copy(
            plain,
            target,
            driver="COG",
            compress="DEFLATE",
            predictor="YES" if floating else "NO",
            blocksize=TILE_SIDE_PX,
            bigtiff="IF_SAFER",
            overviews="AUTO",
            overview_resampling="AVERAGE" if floating else "MODE",
        )
        same = checksum(plain) == checksum(target)
    except RasterioError as error:
        raise RRSISError(
            f"{target}: expected to write the raster, got: {error}; make room and run it again"
        ) from error
    if not same:
        raise RRSISError(
            f"{target}: expected the values that were computed, found others on the disk; make room and run it again, "
            "nothing that is finished is lost"
        )
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def _dtype_of(path: Path) -> str:
    with rasterio.open(path) as raster:
        return str(raster.dtypes[0])


def edited_pieces(
    path: Path, bands: Sequence[int], burn: Callable[[int, Window, NDArray[np.uint8]], NDArray[np.uint8]]
) -> Iterator[Piece]:
    """Windows of a mask raster whose bands are made from those of another.

    Args:
        path: Masks, uint8 0, 1, 255.
        bands: For each new band the one it is made from, from 1.
        burn: The new band's number, the window and the old values (H, W) in, the new values out.
    """
    with rasterio.open(path) as raster:
        for window in read_windows(raster.width, raster.height):
            values = raster.read(list(bands), window=window)
            yield window, np.stack([burn(number, window, band) for number, band in enumerate(values)])
