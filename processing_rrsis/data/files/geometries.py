"""Masks as GeoJSON or WKT, in pixels or in coordinates of a georeferenced image, to pixels."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Collection, Iterator, Mapping
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bounds_rrsis import TextEncodingError, decode_text, parse_json
from ...installation import install_command
from ...place import LONGITUDE_LATITUDE, Place, name_crs
from .masks import MAX_NUMBERS, check_outlines

ENDINGS = (".geojson", ".json", ".wkt")
_WKT = re.compile(
    r"\s*(?:SRID=(?P<number>\d+);\s*)?(?P<text>(?:MULTI)?(?:POINT|LINESTRING|POLYGON)"
    r"(?:\s*ZM?|\s*M)?\s*(?:\(\s*[-+.\d(][^)]*[\s(].*|EMPTY\s*)|GEOMETRYCOLLECTION\b.*)",
    re.IGNORECASE | re.DOTALL,
)
"""A file's name begins otherwise: "polygon (1).png" has no blank or bracket in its brackets."""
MAX_DEPTH = 32
"""Of collections in each other; a multi polygon has 3 brackets."""
_SLACK = 0.05
"""Share of an image's longer side by which outlines may leave it: more are in another unit than pixels."""
_CHANCE = 1e-4
_DAMAGED = (TypeError, ValueError, KeyError, IndexError, AttributeError, RecursionError)
"""What a form that is no GeoJSON raises, wherever it is looked into."""


def is_geometry(form: Any) -> bool:
    """Whether a mask is a GeoJSON object, or the text of WKT."""
    if isinstance(form, str):
        return _WKT.fullmatch(form) is not None
    return isinstance(form, Mapping) and "type" in form and "counts" not in form


def read_geometry(content: bytes, source: str) -> Any:
    """Return what a .geojson, .json or .wkt file holds.

    Raises:
        ValueError: If it is neither JSON nor WKT, or more than `parse_json` reads.
    """
    try:
        text = decode_text(content, source)
    except TextEncodingError as error:
        raise ValueError(f"{source}: expected GeoJSON or WKT, got {error.__cause__}") from error
    if text.count(",") > 4 * MAX_NUMBERS:  # a file may hold the outlines of many masks
        raise ValueError(f"{source}: expected at most {4 * MAX_NUMBERS:,} numbers, got more; cut it into parts")
    return text if is_geometry(text) else parse_json(text, source, expected="GeoJSON or WKT")


def draw_geometry(
    form: Any, size: tuple[int, int], source: str, place: Place | None = None, expression: str | None = None
) -> NDArray[np.uint8]:
    """Draw polygons; a pixel belongs to them if its centre does.

    Args:
        form: GeoJSON (geometry, feature or collection) or WKT, of polygons. Of features that name an `expression`, as
            `rrsis segment` and `rrsis scene` write them, only those of this row's count.
        size: (height, width) of the image.
        source: What the mask belongs to, for messages.
        place: Of the image. With one, coordinates may be of its CRS, of one that the form names, or longitude and
            latitude.
        expression: The row's.

    Returns:
        uint8 (height, width), 0 and 255.

    Raises:
        ImportError: rasterio or shapely is not installed.
        ValueError: For other geometries, and for coordinates that are nothing of this, or could be several of it.
    """
    try:
        import shapely
        from rasterio import features
    except ImportError as error:
        raise ImportError(
            f"{source}: GeoJSON and WKT need rasterio and shapely; run `{install_command('geo')}`"
        ) from error
    try:
        parts = _parts(form, expression)
        check_outlines([part for part, _ in parts], source)
        shapes = [_shape(part) for part, _ in parts]
        polygons = shapely.geometrycollections([polygon for shape in shapes for polygon in _polygons(shape)])
        if not np.isfinite(shapely.get_coordinates(polygons)).all():
            raise ValueError("coordinates that are no numbers")
        named, area_px = _named_crs(form), _area_px(parts)
    except (*_DAMAGED, shapely.errors.ShapelyError) as error:
        raise ValueError(
            f"{source}: expected GeoJSON or WKT of polygons, got {reprlib.repr(form)}: {error or type(error).__name__}"
        ) from error
    if polygons.is_empty:
        return np.zeros(size, dtype=np.uint8)
    found = dict(_readings(polygons, size, place, named, area_px))
    options = {"out_shape": size, "default_value": 255, "dtype": np.uint8}
    drawn = {name: features.rasterize(reading.geoms, **options) for name, reading in found.items()}
    if len(found) > 1:  # of outlines that tell how many pixels they hold
        drawn = {name: mask for name, mask in drawn.items() if np.count_nonzero(mask) == area_px}
    if len(drawn) != 1:
        bounds = ", ".join(f"{value:g}" for value in polygons.bounds)
        lie = f"fit as {' and as '.join(found)}; name their CRS" if found else "lie elsewhere; draw them in pixels"
        raise ValueError(
            f"{source}: expected polygons in pixels of the {size[1]}×{size[0]} image, or in coordinates of a "
            f"georeferenced one, got bounds {bounds}{f' in {named}' if named else ''}, which {lie}"
        )
    (mask,) = drawn.values()
    if not mask.any():
        raise ValueError(f"{source}: expected polygons that cover a pixel, got none of the {size[1]}×{size[0]} image")
    return mask


def is_in_pixels(bounds: tuple[float, ...], size: tuple[int, int]) -> bool:
    """Whether polygons can be in pixels of an image.

    Args:
        bounds: Least x and y, largest x and y.
        size: (height, width) of the image.

    Returns:
        False where they leave the image by more than `_SLACK`, or fill no more than the unit square, as shares do.
    """
    left, top, right, bottom = bounds
    height, width = size
    slack = _SLACK * max(size) + 1
    is_unit = max(map(abs, bounds)) < 1.5 and max(size) > 2
    return left >= -slack and top >= -slack and right <= width + slack and bottom <= height + slack and not is_unit


def check_unit(reaches: Collection[tuple[int, int]], source: str) -> None:
    """Refuse polygons that are in percent or thousandths, which only many of them together tell.

    Args:
        reaches: Of every image the farthest column or row that its polygons reach, and its shorter side, in pixels.
        source: The table, for messages.

    Raises:
        ValueError: If all lie so far in the upper left corners that it can't be chance, not even of objects that are
            all in upper left quarters.
    """
    for most, unit in ((100, "percent"), (1000, "thousandths")):
        chance = math.prod((2 * most / side) ** 2 for _, side in reaches)
        if all(reach <= most for reach, _ in reaches) and chance < _CHANCE:
            raise ValueError(
                f"{source}: expected polygons in pixels, got points of 0 to {max(reach for reach, _ in reaches)} in "
                f"all of {len(reaches)} images of {min(side for _, side in reaches)} px and more; are they {unit}?"
            )


def _parts(form: Any, expression: str | None) -> list[tuple[Any, Mapping[str, Any]]]:
    """WKT or the geometries of GeoJSON with their properties; of features that name expressions, those of this one."""
    if isinstance(form, str) or form["type"] not in ("Feature", "FeatureCollection"):
        return [(form, {})]
    features = form["features"] if form["type"] == "FeatureCollection" else [form]
    parts = [(feature["geometry"], feature.get("properties") or {}) for feature in features]
    named = [(geometry, properties) for geometry, properties in parts if "expression" in properties]
    if not named or expression is None:
        return parts
    parts = [part for part in named if str(part[1]["expression"]).strip() == expression]
    if not parts:
        raise ValueError(f"no feature is of the expression {expression!r}")
    return parts


def _area_px(parts: list[tuple[Any, Mapping[str, Any]]]) -> int | None:
    """How many pixels the features hold, where all say it, as those of `rrsis segment` do."""
    areas = [properties["area_px"] for _, properties in parts if isinstance(properties.get("area_px"), int)]
    return sum(areas) if areas and len(areas) == len(parts) else None


def _shape(part: Any) -> Any:
    """A geometry of WKT or GeoJSON."""
    import shapely
    from shapely.geometry import shape

    match = _WKT.fullmatch(part) if isinstance(part, str) else None
    if match is None:
        return shape(part)
    depths = accumulate((text == "(") - (text == ")") for text in re.findall(r"[()]", match["text"]))
    if max(depths, default=0) > MAX_DEPTH:  # GEOS reads them on the stack, and ends the process where that is full
        raise ValueError(f"brackets in more than {MAX_DEPTH} others")
    return shapely.from_wkt(match["text"])


def _polygons(shape: Any) -> Iterator[Any]:
    """The polygons that a geometry consists of."""
    if shape.geom_type == "Polygon":
        yield shape
    elif shape.geom_type in ("MultiPolygon", "GeometryCollection"):
        for part in shape.geoms:
            yield from _polygons(part)
    else:
        raise ValueError(f"a {shape.geom_type} covers no pixels")


def _named_crs(form: Any) -> str | None:
    """The CRS that a form names: GeoJSON's former member, or EWKT's number."""
    if isinstance(form, str):
        match = _WKT.fullmatch(form)
        return f"EPSG:{match['number']}" if match and match["number"] else None
    return str(form["crs"]["properties"]["name"]) if form.get("crs") else None


def _readings(
    polygons: Any, size: tuple[int, int], place: Place | None, named: str | None, area_px: int | None
) -> Iterator[tuple[str, Any]]:
    """What coordinates can mean: (name, polygons in pixels)."""
    import shapely
    from rasterio.crs import CRS

    left, top, right, bottom = polygons.bounds
    fits = is_in_pixels(polygons.bounds, size) and max(right - left, bottom - top) >= 1
    is_first_pixel = (left, top, right, bottom) == (0, 0, 1, 1) and area_px == 1
    if named is None and (fits or is_first_pixel):
        yield "pixels", polygons
    if place is None:
        return
    height, width = size
    turns = (0, 360, -360) if place.crs is not None and place.crs.is_geographic else (0,)
    for crs in (named,) if named else dict.fromkeys((place.crs, CRS.from_user_input(LONGITUDE_LATITUDE))):
        try:
            moved = [
                shapely.transform(polygons, lambda points, crs=crs, turn=turn: place.to_pixels(points, crs, turn))
                for turn in turns
            ]
        except (ValueError, RecursionError):  # a CRS that there is not, or where these coordinates are none
            continue
        inside = [shapes for shapes in moved if shapes.intersects(shapely.box(0, 0, width, height))]
        if inside:
            parts = [polygon for shapes in inside for polygon in shapes.geoms]
            yield f"coordinates in {named or name_crs(crs)}", shapely.geometrycollections(parts)
