"""Connected pieces of a finished mask: outlines in one streamed pass, scores, areas, and whether they are cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize, shapes
from rasterio.windows import Window
from shapely.geometry import shape

from .blending import NOT_VALID, SCORE_STEPS
from .frames.ground import Ground, moved
from .rasters import read_windows
from .result import SceneObject

LABEL_SIDE_PX = 1024
"""Side of the windows in which objects are numbered pixel by pixel."""


def find_objects(
    masks: Path, scores: Path | Sequence[float], band: int, ground: Ground, min_area_m2: float = 0.0
) -> list[SceneObject]:
    """Make objects of one band of a finished mask.

    Pixels belong together that share an edge. GDAL goes over the file once; memory grows with the outlines alone.

    Args:
        masks: uint8 0, 1, 255.
        scores: Raster of probability × 254 of the same bands; or what is known: the objects' scores in their order.
        band: Number, from 1.
        ground: The scene's place on Earth.
        min_area_m2: Smaller pieces are dropped; pixels where the scene has no place on Earth.

    Returns:
        Objects from the raster's first row on, by their upper ends.
    """
    with rasterio.open(masks) as mask:
        outlines = sorted(_outlines(mask, band), key=lambda item: (item.bounds[1], item.bounds[0], item.wkb))
        shapes_found = [shapely.transform(outline, ground.to_scene) for outline in outlines]
        areas = [ground.area_m2(geometry) for geometry in shapes_found]
        sizes = [outline.area if area is None else area for outline, area in zip(outlines, areas, strict=True)]
        kept = [index for index, size in enumerate(sizes) if size >= min_area_m2]
        pieces = [outlines[index] for index in kept]
        cut = _cut_off(pieces, mask, band)
    means = _mean_scores(pieces, scores, band) if isinstance(scores, Path) else scores
    return [
        SceneObject(shapes_found[index], outlines[index], float(mean), areas[index], bool(touches))
        for index, mean, touches in zip(kept, means, cut, strict=True)
    ]


def _outlines(mask: Any, band: int) -> Iterator[Any]:
    """Polygons in pixels of all pieces whose value is 1; GDAL gives them in coordinates of the raster's CRS."""
    source = rasterio.band(mask, band)
    to_pixels = ~mask.transform
    for geometry, value in shapes(source, mask=source, connectivity=4):
        if value == 1:
            yield shapely.transform(shape(geometry), lambda points: np.rint(moved(points, to_pixels)))


def _mean_scores(outlines: Sequence[Any], scores: Path, band: int) -> NDArray[np.float64]:
    """Mean score of each outline's pixels, (N,) in [0, 1]."""
    totals, counts = np.zeros(len(outlines) + 1), np.zeros(len(outlines) + 1)
    tree = shapely.STRtree(outlines)
    with rasterio.open(scores) as raster:
        for window in read_windows(raster.width, raster.height, LABEL_SIDE_PX):
            numbers = numbered_pixels(tree, window)
            if numbers is not None:
                values = raster.read(band, window=window)
                totals += np.bincount(numbers.ravel(), weights=values.ravel(), minlength=len(totals))
                counts += np.bincount(numbers.ravel(), minlength=len(counts))
    return totals[1:] / (counts[1:] * SCORE_STEPS)


def _cut_off(outlines: Sequence[Any], mask: Any, band: int) -> NDArray[np.bool_]:
    """Which outlines touch the frame, or pixels that are not valid, (N,)."""
    low_x, low_y, high_x, high_y = shapely.bounds(outlines).reshape(-1, 4).T
    cut = (low_x == 0) | (low_y == 0) | (high_x == mask.width) | (high_y == mask.height)
    tree = shapely.STRtree(outlines)
    for window in read_windows(mask.width, mask.height, LABEL_SIDE_PX):
        left, top = max(window.col_off - 1, 0), max(window.row_off - 1, 0)
        right = min(window.col_off + window.width + 1, mask.width)
        bottom = min(window.row_off + window.height + 1, mask.height)
        wider = Window(left, top, right - left, bottom - top)
        outside = mask.read(band, window=wider) == NOT_VALID
        numbers = numbered_pixels(tree, wider) if outside.any() else None
        if numbers is not None:
            touching = np.unique(numbers[grown(outside)])
            cut[touching[touching > 0] - 1] = True
    return cut


def numbered_pixels(tree: Any, window: Window) -> NDArray[np.int32] | None:
    """Draw the outlines of a tree into a window, each with its number from 1; None where there are none.

    Args:
        tree: `shapely.STRtree` of outlines in pixels.
        window: Part of the raster.

    Returns:
        int32 (H, W), 0 outside of all.
    """
    right, bottom = window.col_off + window.width, window.row_off + window.height
    near = tree.query(shapely.box(window.col_off, window.row_off, right, bottom))
    if not len(near):
        return None
    numbers = np.zeros((window.height, window.width), dtype=np.int32)
    pairs = ((tree.geometries[index], int(index) + 1) for index in near)
    rasterize(pairs, out=numbers, transform=Affine.translation(window.col_off, window.row_off))
    return numbers


def grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask with the four neighbours of its pixels."""
    found = mask.copy()
    found[1:] |= mask[:-1]
    found[:-1] |= mask[1:]
    found[:, 1:] |= mask[:, :-1]
    found[:, :-1] |= mask[:, 1:]
    return found


def burner(
    chosen: Sequence[Sequence[SceneObject] | None],
) -> Callable[[int, Window, NDArray[np.uint8]], NDArray[np.uint8]]:
    """Make the function that `rasters.edited_pieces` takes: in each band the chosen objects stay, all else is 0.

    Args:
        chosen: For each band its objects; None to leave the band as it is.
    """
    trees = [None if items is None else shapely.STRtree([item.outline_px for item in items]) for items in chosen]

    def burn(number: int, window: Window, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        tree = trees[number]
        if tree is None:
            return values
        numbers = numbered_pixels(tree, window)
        kept = np.zeros(values.shape, dtype=np.uint8) if numbers is None else (numbers > 0).astype(np.uint8)
        return np.where(values == NOT_VALID, np.uint8(NOT_VALID), kept)

    return burn
