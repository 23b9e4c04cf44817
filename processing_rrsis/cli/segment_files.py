"""The files of `rrsis segment`: masks and probabilities with their image's place on Earth, outlines as GeoJSON."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..result_files import write_result

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from ..place import Place

FLOAT_ENDINGS = (".tif", ".tiff")


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


def save_outlines(results: Sequence[dict[str, Any]], path: Path, place: Place | None) -> None:
    """Write the masks' outlines as GeoJSON: longitude and latitude of an image with a place, else pixels."""
    write_result(path, (json.dumps(feature_collection(results, place)) + "\n").encode())


def feature_collection(results: Sequence[dict[str, Any]], place: Place | None = None) -> dict[str, Any]:
    """Return the masks' outlines as GeoJSON, a feature per expression.

    Args:
        results: items of the pipeline: `label`, `score`, `mask`.
        place: Of the image.

    Returns:
        Features with the properties `expression`, `score` and `area_px`. Coordinates are longitude and latitude (WGS
        84, as RFC 7946 has it) with a place; without one pixels, see `mask_to_polygons`.
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
    import numpy as np

    return {
        "type": geometry["type"],
        "coordinates": [
            [place.to_map(np.array(ring, dtype=np.float64)).tolist() for ring in polygon]
            for polygon in geometry["coordinates"]
        ],
    }
