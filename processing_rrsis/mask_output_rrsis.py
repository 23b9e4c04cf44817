"""A mask in another form: as polygons along its pixels' edges. Travels to the Hub."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

try:  # only for polygons
    from rasterio import features
except ImportError:
    features = None


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
