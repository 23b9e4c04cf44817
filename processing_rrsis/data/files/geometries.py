"""Masks as GeoJSON or WKT, in pixels or in the map coordinates of a GeoTIFF, to pixels."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ENDINGS = (".geojson", ".json", ".wkt")
WKT_BEGINNINGS = ("polygon", "multipolygon", "geometrycollection", "srid=")
_LONGITUDE_LATITUDE = "EPSG:4326"
_SLACK = 0.02
"""Share of the image's longer side by which outlines may leave it."""


def is_geometry(form: Any) -> bool:
    """Whether a mask is a GeoJSON object, or the text of WKT."""
    if isinstance(form, str):
        return form.strip().lower().startswith(WKT_BEGINNINGS)
    return isinstance(form, Mapping) and "type" in form and "counts" not in form


def read_geometry(content: bytes, source: str) -> Any:
    """Return what a .geojson, .json or .wkt file holds.

    Raises:
        ValueError: If it is neither JSON nor WKT.
    """
    try:
        text = content.decode("utf-8-sig").strip()
        form = text if is_geometry(text) else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source}: expected GeoJSON or WKT, got {error}") from error
    return form


def draw_geometry(
    form: Any, size: tuple[int, int], source: str, *, image: Path | None = None, expression: str | None = None
) -> NDArray[np.uint8]:
    """Draw polygons; a pixel belongs to them if its centre does.

    Args:
        form: GeoJSON (geometry, feature or collection) or WKT, of polygons. Of features that name an `expression`, as
            `rrsis segment` writes them, only those of this row's count.
        size: (height, width) of the image.
        source: What the mask belongs to, for messages.
        image: Its file. Where that is a GeoTIFF, coordinates may be those of its CRS, or longitude and latitude.
        expression: The row's.

    Returns:
        uint8 (height, width), 0 and 255.

    Raises:
        ImportError: rasterio or shapely is not installed.
        ValueError: For other geometries, or coordinates that are no pixels and nothing else that is known, or both.
    """
    try:
        import shapely
        from rasterio import features
    except ImportError as error:
        raise ImportError(
            f"{source}: GeoJSON and WKT need rasterio and shapely; run `pip install 'rrsis[geo]'`"
        ) from error
    parts = _parts(form, expression, source)
    try:
        shape = shapely.union_all([_shape(part) for part in parts])
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, shapely.errors.ShapelyError) as error:
        raise ValueError(f"{source}: expected GeoJSON or WKT of polygons, got {reprlib.repr(form)}") from error
    if shape.geom_type not in ("Polygon", "MultiPolygon", "GeometryCollection") or not np.isfinite(shape.area):
        raise ValueError(f"{source}: expected polygons, got a {shape.geom_type}")
    if shape.is_empty:
        return np.zeros(size, dtype=np.uint8)
    named = _named_crs(form)
    found = [(name, moved) for name, moved in _readings(shape, image, named) if _fits(moved, size)]
    if len(found) != 1:
        bounds = ", ".join(f"{value:g}" for value in shape.bounds)
        what = f"that fit as {' and as '.join(name for name, _ in found)}" if found else "that lie elsewhere"
        raise ValueError(
            f"{source}: expected polygons in pixels of the {size[1]}×{size[0]} image, or in map coordinates of a "
            f"GeoTIFF, got coordinates {bounds} {what}; draw them in pixels"
        )
    drawn = features.rasterize([(found[0][1], 255)], out_shape=size, dtype=np.uint8)
    if not drawn.any():
        raise ValueError(f"{source}: expected polygons that cover a pixel, got none of the {size[1]}×{size[0]} image")
    return drawn


def _parts(form: Any, expression: str | None, source: str) -> list[Any]:
    """WKT or the geometries of GeoJSON; of features that name expressions, those of this one."""
    if isinstance(form, str) or form.get("type") not in ("Feature", "FeatureCollection"):
        return [form]
    parts = form.get("features") if form["type"] == "FeatureCollection" else [form]
    if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
        raise ValueError(f"{source}: expected a list of features, got {reprlib.repr(parts)}")
    named = [part for part in parts if "expression" in (part.get("properties") or {})]
    if named and expression is not None:
        parts = [part for part in named if part["properties"]["expression"] == expression]
        if not parts:
            raise ValueError(f"{source}: expected a feature of the expression {expression!r}, found other expressions")
    return [part.get("geometry") for part in parts]


def _shape(part: Any) -> Any:
    """A geometry of WKT or GeoJSON."""
    import shapely
    from shapely.geometry import shape

    if not isinstance(part, str):
        return shape(part)
    text = part.strip()
    return shapely.from_wkt(text.partition(";")[2] if text.lower().startswith("srid=") else text)


def _named_crs(form: Any) -> str | None:
    """The CRS that a form names: GeoJSON's former member, or EWKT's number."""
    if isinstance(form, str):
        head = form.strip().partition(";")[0]
        return f"EPSG:{head[5:]}" if head.lower().startswith("srid=") else None
    named = form.get("crs")
    return str(named["properties"]["name"]) if isinstance(named, Mapping) and "properties" in named else None


def _readings(shape: Any, image: Path | None, named: str | None) -> list[tuple[str, Any]]:
    """What coordinates may mean: (name, in pixels)."""
    import warnings

    import rasterio
    from rasterio.warp import transform_geom
    from shapely.affinity import affine_transform
    from shapely.geometry import mapping
    from shapely.geometry import shape as shaped

    readings = [("pixels", shape)] if named is None else []
    if image is None or image.suffix.lower() not in (".tif", ".tiff", ".jp2"):
        return readings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(image) as dataset:
            crs, back = dataset.crs, ~dataset.transform
    if crs is None or (~back).is_identity:
        return readings
    names = [named] if named else [crs] if crs == _LONGITUDE_LATITUDE else [crs, _LONGITUDE_LATITUDE]
    for name in names:
        try:
            on_map = shape if name == crs else shaped(transform_geom(name, crs, mapping(shape)))
        except (rasterio.errors.RasterioError, ValueError):
            continue
        if all(map(math.isfinite, on_map.bounds)):
            pixels = affine_transform(on_map, [back.a, back.b, back.d, back.e, back.c, back.f])
            readings.append((f"coordinates in {name}", pixels))
    return readings


def _fits(shape: Any, size: tuple[int, int]) -> bool:
    """Whether polygons lie in an image but for a little, and not in the unit square that shares would fill."""
    left, top, right, bottom = shape.bounds
    height, width = size
    slack = _SLACK * max(size) + 1
    inside = left >= -slack and top >= -slack and right <= width + slack and bottom <= height + slack
    return inside and (max(right, bottom) > 1 or max(size) == 1)
