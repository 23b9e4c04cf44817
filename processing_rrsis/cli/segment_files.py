"""The files of `rrsis segment`: masks and probabilities with their image's place on Earth, outlines as GeoJSON."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..installation import install_command
from ..result_files import write_result

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from ..place import Place

FLOAT_ENDINGS = (".tif", ".tiff")
_ALL_LATITUDES = 1000
_EDGE_PARTS = 8
"""Of a long edge, none of which leads around half of the Earth."""


def save_raster(pixels: NDArray[np.uint8 | np.float32], path: Path, place: Place | None) -> None:
    """Write a mask, uint8 0 and 255, or a probability, float32 in [0, 1] (0 to 255 in a PNG); (H, W)."""
    import numpy as np
    from PIL import Image

    if pixels.dtype.kind == "f" and path.suffix.lower() not in FLOAT_ENDINGS:
        pixels = np.round(pixels * 255).astype(np.uint8)
    if place is None or path.suffix.lower() not in FLOAT_ENDINGS:
        save_picture(Image.fromarray(pixels), path)
        return
    import rasterio

    profile = {"count": 1, "height": pixels.shape[0], "width": pixels.shape[1], "dtype": pixels.dtype}
    profile |= {**place.profile, "compress": "deflate"}
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", **profile) as dataset:
            dataset.write(pixels, 1)
        write_result(path, memory.read())


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture in the format of its ending."""
    from PIL import Image

    buffer = io.BytesIO()
    picture.save(buffer, format=Image.registered_extensions()[path.suffix.lower()])
    write_result(path, buffer.getvalue())


def save_outlines(results: Sequence[dict[str, Any]], path: Path, place: Place | None) -> list[str]:
    """Write the masks' outlines as GeoJSON: longitude and latitude of an image with a place, else pixels.

    Returns:
        Why they are in pixels though there is a place, or nothing.
    """
    try:
        collection, lines = feature_collection(results, place), []
    except ValueError as error:
        collection, lines = feature_collection(results), [f"the outlines are in pixels: {error}"]
    write_result(path, (json.dumps(collection) + "\n").encode())
    return lines


def feature_collection(results: Sequence[dict[str, Any]], place: Place | None = None) -> dict[str, Any]:
    """Return the masks' outlines as GeoJSON, a feature per expression.

    Args:
        results: items of the pipeline: `label`, `score`, `mask`.
        place: Of the image.

    Returns:
        Features with the properties `expression`, `score` and `area_px`. Coordinates are longitude and latitude with a
        place, as RFC 7946 has it: WGS 84, cut at the antimeridian, outlines anticlockwise; without one pixels, see
        `mask_to_polygons`.

    Raises:
        ValueError: If an outline has no place in longitude and latitude.
    """
    import numpy as np

    from processing_rrsis.mask_output_rrsis import mask_to_polygons

    features = [
        {
            "type": "Feature",
            "properties": {
                "expression": result["label"],
                "score": round(result["score"], 4),
                "area_px": result["mask"].histogram()[255],
            },
            "geometry": _on_earth(mask_to_polygons(np.asarray(result["mask"])), place),
        }
        for result in results
    ]
    return {"type": "FeatureCollection", "features": features}


def _on_earth(geometry: dict[str, Any], place: Place | None) -> dict[str, Any]:
    """Move a MultiPolygon of pixels to longitude and latitude."""
    if place is None or not geometry["coordinates"]:
        return geometry
    moved = [[_ring_on_earth(ring, place) for ring in polygon] for polygon in geometry["coordinates"]]
    parts = [part for rings in moved for part in _cut(rings)]
    return {"type": geometry["type"], "coordinates": [[_wound(*ring) for ring in enumerate(part)] for part in parts]}


def _ring_on_earth(ring: list[list[int]], place: Place) -> NDArray[np.float64]:
    """Move a ring to longitude and latitude, (N, 2); longitudes go on where it crosses the antimeridian."""
    import numpy as np

    corners = np.array(ring, dtype=np.float64)
    moved = place.to_map(corners)
    if np.ptp(moved[:, 0]) < 180:
        return moved
    shares = np.arange(_EDGE_PARTS)[:, None] / _EDGE_PARTS
    inner = corners[:-1, None] + shares * np.diff(corners, axis=0)[:, None]  # (N - 1, parts, 2)
    along = place.to_map(np.concatenate([inner.reshape(-1, 2), corners[-1:]]))
    along[:, 0] = np.unwrap(along[:, 0], period=360)
    if abs(along[-1, 0] - along[0, 0]) > 180:
        raise ValueError("expected outlines that can be drawn in longitude and latitude, got one around a pole")
    return along[::_EDGE_PARTS]


def _cut(rings: list[NDArray[np.float64]]) -> list[list[NDArray[np.float64]]]:
    """Cut a polygon, its outline and holes, at the antimeridian (RFC 7946, 3.1.9)."""
    import numpy as np

    centre = (rings[0][:, 0].min() + rings[0][:, 0].max()) / 2
    for hole in rings[1:]:
        hole[:, 0] += 360 * np.round((centre - (hole[:, 0].min() + hole[:, 0].max()) / 2) / 360)
    first, last = np.floor((rings[0][:, 0].min() + 180) / 360), np.ceil((rings[0][:, 0].max() - 180) / 360)
    if first >= 0 >= last:
        return [rings]
    try:
        import shapely
    except ImportError as error:
        raise ImportError(f"outlines across the antimeridian need shapely; run `{install_command('geo')}`") from error
    parts = []
    for turn in np.arange(first, last + 1) * 360:
        world = shapely.box(turn - 180, -_ALL_LATITUDES, turn + 180, _ALL_LATITUDES)
        inside = shapely.get_parts(shapely.Polygon(rings[0], rings[1:]) & world)
        for part in inside[shapely.area(inside) > 0]:
            parts.append([np.array(ring.coords) - [turn, 0] for ring in (part.exterior, *part.interiors)])
    return parts


def _wound(number: int, ring: NDArray[np.float64]) -> list[list[float]]:
    """An outline (number 0) anticlockwise, a hole clockwise."""
    x, y = (ring - ring[0]).T
    is_anticlockwise = (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() > 0
    return (ring if is_anticlockwise == (number == 0) else ring[::-1]).tolist()
