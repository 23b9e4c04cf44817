"""Objects as a map layer: GeoPackage, GeoJSON or GeoParquet, one layer or one file of all expressions."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely

from .frames.ground import LONGITUDE_LATITUDE, Ground
from .result import ExpressionResult

DRIVERS = {".gpkg": "GPKG", ".geojson": "GeoJSON", ".json": "GeoJSON", ".parquet": "GeoParquet"}
FIELDS = ("expression", "score", "area_m2", "touches_edge")
FIXED_DATE = "2000-01-01T00:00:00.000Z"
"""A GeoPackage holds the time of its last change; with a fixed one the same run gives the same bytes."""
GEOPARQUET_VERSION = "1.0.0"
_LAYER_NAME_LENGTH = 60


def check_vector(path: Path, *, georeferenced: bool) -> None:
    """Find out before the work whether a layer can be written.

    Raises:
        ValueError: If the ending names no format, or GeoJSON is asked for of a scene without a place on Earth.
    """
    driver = DRIVERS.get(path.suffix.lower())
    if driver is None:
        raise ValueError(f"vector: expected a name that ends in {', '.join(DRIVERS)}, got {path.name}")
    if driver == "GeoJSON" and not georeferenced:
        raise ValueError(
            f"vector: GeoJSON holds longitude and latitude, a scene without a CRS has none; write {path.stem}.gpkg"
        )


def write_vector(
    path: Path, results: Sequence[ExpressionResult], ground: Ground, simplify_m: float = 0.0, name: str = ""
) -> None:
    """Write the objects of all expressions.

    A GeoPackage has a layer for each expression, named after it; GeoJSON (EPSG:4326) and GeoParquet have one of all,
    told apart by the field `expression`.

    Args:
        path: New file; its ending names the format.
        results: With objects in the scene's CRS.
        ground: Of the scene.
        simplify_m: Outlines may move by so many metres to have fewer points; 0 keeps the pixels' edges.
        name: What a GeoJSON file calls itself; its file's name by default.

    Raises:
        OSError: If it can't be written.
    """
    driver = DRIVERS[path.suffix.lower()]
    if driver == "GPKG":
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": FIXED_DATE})
        for number, (result, layer) in enumerate(zip(results, layer_names(results), strict=True)):
            _write_ogr(path, _table([result], ground, simplify_m), ground.crs, driver, layer=layer, append=number > 0)
    elif driver == "GeoJSON":
        table = _table(results, ground, simplify_m, degrees=True)
        _write_ogr(path, table, LONGITUDE_LATITUDE, driver, layer=name or path.stem, RFC7946="YES")
    else:
        table = _table(results, ground, simplify_m)
        pq.write_table(table.replace_schema_metadata({"geo": json.dumps(_geo_metadata(ground))}), path)


def layer_names(results: Sequence[ExpressionResult]) -> list[str]:
    """A GeoPackage's layers: the expressions' words, joined; numbered where two are alike."""
    names: list[str] = []
    for result in results:
        name = "_".join(re.findall(r"\w+", result.expression.lower()))[:_LAYER_NAME_LENGTH] or "objects"
        name = f"_{name}" if name.startswith(("gpkg", "sqlite", "rtree")) else name  # a GeoPackage's own
        unique, number = name, result.band
        while unique in names:
            unique, number = f"{name}_{number}", number + 1
        names.append(unique)
    return names


def _table(
    results: Sequence[ExpressionResult], ground: Ground, simplify_m: float, *, degrees: bool = False
) -> pa.Table:
    """Rows of objects, geometries as WKB."""
    rows = [(result, item) for result in results for item in result.objects]
    shapes = [item.geometry for _, item in rows]
    if simplify_m > 0:
        shapes = list(shapely.simplify(shapes, simplify_m * ground.units_per_m))
    if degrees:
        shapes = [shapely.transform(geometry, ground.to_degrees) for geometry in shapes]
    columns: dict[str, Any] = {
        "expression": pa.array([result.expression for result, _ in rows], pa.string()),
        "score": pa.array([item.score for _, item in rows], pa.float64()),
        "area_m2": pa.array([item.area_m2 for _, item in rows], pa.float64()),
        "touches_edge": pa.array([item.touches_edge for _, item in rows], pa.bool_()),
        "geometry": pa.array([shapely.to_wkb(geometry) for geometry in shapes], pa.binary()),
    }
    return pa.table(columns)


def _write_ogr(
    path: Path, table: pa.Table, crs: Any, driver: str, *, layer: str, append: bool = False, **options: str
) -> None:
    pyogrio.write_arrow(
        table,
        path,
        layer=layer,
        driver=driver,
        geometry_name="geometry",
        geometry_type="Polygon",
        crs=crs if crs is None or isinstance(crs, str) else crs.to_wkt(),
        append=append,
        **options,
    )


def _geo_metadata(ground: Ground) -> dict[str, Any]:
    """What GeoParquet wants to be told of the geometries."""
    column = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "crs": None if ground.crs is None else ground.crs.to_json_dict(),
    }
    return {"version": GEOPARQUET_VERSION, "primary_column": "geometry", "columns": {"geometry": column}}
