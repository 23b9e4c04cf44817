"""Masks from log-odds, and a mask as polygons along its pixels' edges. Travels to the Hub."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

try:  # only for polygons
    from rasterio import features
except ImportError:
    features = None


def logits_to_masks(
    logits: torch.Tensor, target_sizes: Sequence[tuple[int, int]] | torch.Tensor | None, threshold: float
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Resize log-odds to the images' own sizes, and threshold their probabilities.

    Args:
        logits: (B, H, W), foreground log-odds.
        target_sizes: (height, width) of each original image; None keeps the logits' size.
        threshold: probability above which a pixel is foreground, in [0, 1]; a tie is background.

    Returns:
        B bool masks (height, width), True is the target, and B float32 probabilities in [0, 1].

    Raises:
        ValueError: wrong shape of the logits, number of sizes, or threshold; logits that are no numbers.
    """
    if logits.ndim != 3:
        raise ValueError(f"logits: expected shape (B, H, W), the foreground log-odds, got {tuple(logits.shape)}")
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"threshold: expected a probability in [0, 1], got {threshold}")
    if logits.isnan().any():
        raise ValueError("logits: expected numbers, got NaN: the weights are damaged, or their type is too narrow")
    probabilities = []
    for log_odds, size in zip(logits.detach().float(), _target_sizes(target_sizes, logits), strict=True):
        if size != tuple(log_odds.shape):
            batched = log_odds[None, None]
            log_odds = F.interpolate(batched, size=size, mode="bilinear", align_corners=False)[0, 0]  # (h, w)
        probabilities.append(log_odds.sigmoid())
    return [probability > threshold for probability in probabilities], probabilities


def check_polygons_available() -> None:
    """Find out before any work is done whether polygons can be made.

    Raises:
        ImportError: rasterio is not installed.
    """
    if features is None:
        raise ImportError('output="polygons": expected rasterio, it is not installed; run `pip install rasterio`')


def mask_to_polygons(mask: NDArray[Any]) -> dict[str, Any]:
    """Return the exact outlines of a mask, in pixels; drawn again, they give the very same mask.

    Coordinates are [x, y], whole numbers: the origin is the upper left corner of the image, x counts pixel edges to
    the right (0 to width), y downwards (0 to height). Pixels that touch by a corner alone are polygons of their own.

    Args:
        mask: (H, W), True or non-zero where foreground.

    Returns:
        A geometry in GeoJSON's form, `{"type": "MultiPolygon", "coordinates": [...]}`: per polygon a list of closed
        rings, first the outline, then its holes; no polygons for an empty mask.

    Raises:
        ImportError: rasterio is not installed.
        ValueError: the mask is no (H, W) array.
    """
    check_polygons_available()
    if mask.ndim != 2:
        raise ValueError(f"mask: expected an array (H, W), got the shape {mask.shape}")
    foreground = mask.astype(bool)
    shapes = features.shapes(foreground.astype(np.uint8), mask=foreground, connectivity=4)
    polygons = [[_whole_numbers(ring) for ring in geometry["coordinates"]] for geometry, _ in shapes]
    return {"type": "MultiPolygon", "coordinates": polygons}


def _whole_numbers(ring: Any) -> list[list[int]]:
    return [[round(x), round(y)] for x, y in ring]


def _target_sizes(
    target_sizes: Sequence[tuple[int, int]] | torch.Tensor | None, logits: torch.Tensor
) -> list[tuple[int, int]]:
    """Check the wished sizes: one (height, width) per image."""
    if target_sizes is None:
        return [(logits.shape[1], logits.shape[2])] * len(logits)
    sizes = target_sizes.tolist() if isinstance(target_sizes, torch.Tensor) else list(target_sizes)
    if len(sizes) != len(logits):
        raise ValueError(f"target_sizes: expected one (height, width) per image ({len(logits)}), got {len(sizes)}")
    checked = []
    for size in sizes:
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"target_sizes: expected (height, width) of at least 1, got {tuple(size)}")
        checked.append((int(size[0]), int(size[1])))
    return checked
