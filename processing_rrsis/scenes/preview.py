"""A picture of a scene with what was found: masks painted in, legend, scale bar, north arrow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import Resampling
from rasterio.windows import Window

from ..reports.overlay import OVERLAY_COLOURS, paint_overlay
from .frames.ground import Ground
from .reading.source import SceneSource
from .result import ExpressionResult

LONG_SIDE_PX = 1600
DPI = 100
LEGEND_ROW_PX = 34
BAR_SHARE = 0.25
"""Of the picture's width that the scale bar takes at most."""
ARROW_SHARE = 0.08
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".pdf", ".svg")


def check_preview(path: Path) -> None:
    """Find out before the work whether a picture can be drawn.

    Raises:
        ValueError: If the ending names no format.
    """
    if path.suffix.lower() not in PICTURE_ENDINGS:
        raise ValueError(f"preview: expected a name that ends in {', '.join(PICTURE_ENDINGS)}, got {path.name}")


def draw_preview(
    path: Path, source: SceneSource, masks: Path, results: Sequence[ExpressionResult], ground: Ground
) -> None:
    """Draw the whole scene at 1,600 pixels or fewer, its rows as they are stored.

    Args:
        path: New picture.
        source: The scene.
        masks: Finished masks, a band for each expression.
        results: What was found.
        ground: The scene's place.
    """
    scale = max(1.0, max(ground.width_px, ground.height_px) / LONG_SIDE_PX)
    shape = max(1, round(ground.height_px / scale)), max(1, round(ground.width_px / scale))
    picture, valid = source.read(Window(0, 0, source.width_px, source.height_px), shape=shape)
    picture[~valid] = 255
    with rasterio.open(masks) as raster:
        found = raster.read(out_shape=(raster.count, *shape), resampling=Resampling.nearest)
    layers = [Image.fromarray(np.where(band == 1, 255, 0).astype(np.uint8)) for band in found]
    painted = np.asarray(paint_overlay(Image.fromarray(picture), layers))
    height, width = shape
    legend_px = LEGEND_ROW_PX * len(results)
    figure = Figure(figsize=(max(width, 320) / DPI, (height + legend_px) / DPI), dpi=DPI)
    axes = figure.add_axes((0.0, legend_px / (height + legend_px), 1.0, height / (height + legend_px)))
    axes.imshow(painted, interpolation="nearest")
    axes.set_axis_off()
    if ground.pixel_m is not None:
        across = np.hypot(*metre_steps(ground)[:, 0])
        _draw_scale_bar(axes, width, height, metres_per_px=across * scale)
    if ground.crs is not None:
        _draw_north(axes, width, height, north_in_pixels(ground))
    handles = [
        Patch(
            color="#{:02x}{:02x}{:02x}".format(*OVERLAY_COLOURS[number % len(OVERLAY_COLOURS)]),
            label=f"{result.expression} ({len(result.objects)})",
        )
        for number, result in enumerate(results)
    ]
    figure.legend(handles=handles, loc="lower left", frameon=False, borderaxespad=0.3)
    figure.savefig(path, format=path.suffix.lower().lstrip("."), dpi=DPI)


def metre_steps(ground: Ground) -> NDArray[np.float64]:
    """Metres east and north (rows) of a step of a column and of a row (columns) in the scene's middle, (2, 2)."""
    x, y = ground.width_px / 2, ground.height_px / 2
    ends = ground.to_metres(np.array([[x, y], [x + 1, y], [x, y + 1]]))
    return np.column_stack([ends[1] - ends[0], ends[2] - ends[0]])


def north_in_pixels(ground: Ground) -> NDArray[np.float64]:
    """The direction of true north in the middle of the scene: unit vector (columns, rows), rows down."""
    north = np.linalg.solve(metre_steps(ground), [0.0, 1.0])
    return north / np.hypot(*north)


def bar_length_m(longest_m: float) -> float:
    """The largest of 1, 2, 5, 10, 20, 50, ... metres that is no longer than asked."""
    power = 10.0 ** math.floor(math.log10(longest_m))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= longest_m * (1 + 1e-9))


def _draw_scale_bar(axes: Any, width: int, height: int, metres_per_px: float) -> None:
    length_m = bar_length_m(width * BAR_SHARE * metres_per_px)
    length_px, left, low = length_m / metres_per_px, 0.03 * width, 0.96 * height
    label = f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"
    for colour, line_width in (("black", 6), ("white", 3)):
        axes.plot([left, left + length_px], [low, low], color=colour, linewidth=line_width)
    axes.text(
        left + length_px / 2, low - 0.012 * height, label, color="white", ha="center", va="bottom",
        bbox={"facecolor": "black", "alpha": 0.5, "pad": 2, "edgecolor": "none"},
    )  # fmt: skip


def _draw_north(axes: Any, width: int, height: int, north: NDArray[np.float64]) -> None:
    length = ARROW_SHARE * min(width, height)
    middle = np.array([width - 1.4 * length, 1.4 * length])
    tail, tip = middle - north * length / 2, middle + north * length / 2
    axes.annotate(
        "", xy=tip, xytext=tail, arrowprops={"facecolor": "white", "edgecolor": "black", "width": 4, "headwidth": 12}
    )
    behind = 9 * north * [-1.0, 1.0]  # rows go down, points up
    axes.annotate(
        "N", xy=tail, xytext=behind, textcoords="offset points", color="white", ha="center", va="center",
        fontweight="bold", path_effects=[withStroke(linewidth=2, foreground="black")],
    )  # fmt: skip
