"""Connected pieces of a finished mask: outlines in one streamed pass, scores, areas, and whether they are cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import geometry_mask, rasterize, shapes
from rasterio.windows import Window
from shapely.geometry import shape

from .blending import NOT_VALID, SCORE_STEPS
from .ground import Ground, moved
from .rasters import read_windows
from .result import SceneObject


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
    found: list[SceneObject] = []
    with rasterio.open(masks) as mask, ExitStack() as opened:
        score = opened.enter_context(rasterio.open(scores)) if isinstance(scores, Path) else None
        for outline in sorted(_outlines(mask, band), key=lambda item: (item.bounds[1], item.bounds[0], item.wkb)):
            geometry = shapely.transform(outline, ground.to_scene)
            area = ground.area_m2(geometry)
            if (outline.area if area is None else area) >= min_area_m2:
                mean, cut = _look_inside(outline, mask=mask, score=score, band=band)
                mean = mean if isinstance(scores, Path) else scores[len(found)]
                found.append(SceneObject(geometry, outline_px=outline, score=mean, area_m2=area, touches_edge=cut))
    return found


def _outlines(mask: Any, band: int) -> Iterator[Any]:
    """Polygons in pixels of all pieces whose value is 1; GDAL gives them in coordinates of the raster's CRS."""
    source = rasterio.band(mask, band)
    to_pixels = ~mask.transform
    for geometry, value in shapes(source, mask=source, connectivity=4):
        if value == 1:
            yield shapely.transform(shape(geometry), lambda points: np.rint(moved(points, to_pixels)))


def _look_inside(outline: Any, *, mask: Any, score: Any, band: int) -> tuple[float, bool]:
    """Mean score of an outline's pixels, 0 without scores, and whether one of their neighbours is not valid or out."""
    left, top, right, bottom = (int(value) for value in outline.bounds)
    cut = left == 0 or top == 0 or right == mask.width or bottom == mask.height
    low, high = max(left - 1, 0), min(right + 1, mask.width)
    first, last = max(top - 1, 0), min(bottom + 1, mask.height)
    total, count = 0.0, 0
    for part in read_windows(high - low, last - first):
        window = Window(part.col_off + low, part.row_off + first, part.width, part.height)
        inside = inside_window(outline, window)
        if score is not None:
            total += float(score.read(band, window=window)[inside].sum())
        count += int(inside.sum())
        cut = cut or bool((grown(inside) & (mask.read(band, window=window) == NOT_VALID)).any())
    return total / (count * SCORE_STEPS), cut


def inside_window(outline: Any, window: Window) -> NDArray[np.bool_]:
    """The pixels of a window that an outline in pixels holds, bool (H, W)."""
    place = Affine.translation(window.col_off, window.row_off)
    return geometry_mask([outline], out_shape=(window.height, window.width), transform=place, invert=True)


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
        right, bottom = window.col_off + window.width, window.row_off + window.height
        near = tree.geometries.take(tree.query(shapely.box(window.col_off, window.row_off, right, bottom)))
        kept = np.zeros(values.shape, dtype=np.uint8)
        if len(near):
            place = Affine.translation(window.col_off, window.row_off)
            rasterize(((outline, 1) for outline in near), out=kept, transform=place)
        return np.where(values == NOT_VALID, np.uint8(NOT_VALID), kept)

    return burn
