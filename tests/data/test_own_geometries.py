"""Own data's masks as GeoJSON and WKT, names from other systems, and a split for tables without one."""

import json
import unicodedata

import datasets
import numpy as np
import pytest
from PIL import Image

from processing_rrsis import load_benchmark
from processing_rrsis.data.load import with_validation
from tests.data.fake_downloads import encode, pixels_of

pytest.importorskip("rasterio")
pytest.importorskip("shapely")
import rasterio
from rasterio.warp import transform_geom

RING = [[4, 3], [14, 3], [14, 9], [4, 9], [4, 3]]
HOLE = [[6, 5], [6, 7], [9, 7], [9, 5], [6, 5]]
MASK = np.zeros((30, 40), dtype=np.uint8)
MASK[3:9, 4:14] = 255
MASK[5:7, 6:9] = 0
PIXELS = {"type": "Polygon", "coordinates": [RING, HOLE]}
TRANSFORM = rasterio.Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)


def on_map():
    rings = [[list(TRANSFORM @ point) for point in ring] for ring in (RING, HOLE)]
    return {"type": "Polygon", "coordinates": rings}


def wkt(geometry):
    rings = (", ".join(f"{x!r} {y!r}" for x, y in ring) for ring in geometry["coordinates"])
    return f"POLYGON ({', '.join(f'({ring})' for ring in rings)})"


def feature(geometry, **properties):
    return {"type": "Feature", "properties": properties, "geometry": geometry}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "plain.png").write_bytes(encode(pixels_of(1)[0], "PNG"))
    profile = {"count": 3, "height": 30, "width": 40, "dtype": "uint8", "crs": "EPSG:32633", "transform": TRANSFORM}
    with rasterio.open(tmp_path / "map.tif", "w", driver="GTiff", photometric="rgb", **profile) as file:
        file.write(np.moveaxis(pixels_of(1)[0], -1, 0))
    return tmp_path


def load(folder, *rows):
    lines = [json.dumps({"expression": "the red roof", **row}) for row in rows]
    (folder / "mine.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return load_benchmark(str(folder / "mine.jsonl"), cache_dir=str(folder / "cache"))


def mask_of(folder, mask, image="plain.png"):
    (item,) = load(folder, {"image": image, "mask": mask})["train"]
    return np.asarray(item["mask"])


DEGREES = {"type": "Polygon", "coordinates": transform_geom("EPSG:32633", "EPSG:4326", on_map())["coordinates"]}
SAME = {
    "geometry": ("plain.png", PIXELS),
    "multi polygon": ("plain.png", {"type": "MultiPolygon", "coordinates": [PIXELS["coordinates"]]}),
    "feature": ("plain.png", feature(PIXELS)),
    "collection": ("plain.png", {"type": "FeatureCollection", "features": [feature(PIXELS)]}),
    "its expression's": (
        "plain.png",
        {
            "type": "FeatureCollection",
            "features": [
                feature(PIXELS, expression="the red roof"),
                feature(
                    {"type": "Polygon", "coordinates": [[[20, 20], [25, 20], [25, 25], [20, 20]]]}, expression="x"
                ),
            ],
        },
    ),
    "WKT": ("plain.png", wkt(PIXELS)),
    "pixels of a map": ("map.tif", PIXELS),
    "map": ("map.tif", on_map()),
    "map in WKT": ("map.tif", wkt(on_map())),
    "EWKT": ("map.tif", "SRID=32633;" + wkt(on_map())),
    "degrees": ("map.tif", DEGREES),
    "named CRS": (
        "map.tif",
        {
            "type": "FeatureCollection",
            "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}},
            "features": [feature(on_map())],
        },
    ),
}


@pytest.mark.parametrize("form", SAME)
def test_geometries_mean_the_same_mask(form, folder):
    image, mask = SAME[form]
    assert np.array_equal(mask_of(folder, mask, image=image), MASK)


@pytest.mark.parametrize("name", ["a.geojson", "a.json", "a.wkt"])
def test_geometries_in_files(name, folder):
    (folder / name).write_text(wkt(PIXELS) if name.endswith("wkt") else json.dumps(PIXELS))
    assert np.array_equal(mask_of(folder, name), MASK)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("plain.png", on_map()),  # metres, and the image has no place
        ("plain.png", DEGREES),  # degrees: they cover less than a pixel
        (
            "plain.png",
            {"type": "Polygon", "coordinates": [[[0.1, 0.1], [0.4, 0.1], [0.4, 0.3], [0.1, 0.1]]]},
        ),  # shares
        ("plain.png", {"type": "Polygon", "coordinates": [[[100, 100], [900, 100], [900, 800], [100, 100]]]}),
        ("map.tif", {"type": "Polygon", "coordinates": [[[900, 900], [950, 900], [950, 950], [900, 900]]]}),
        ("plain.png", {"type": "LineString", "coordinates": RING}),
        ("plain.png", {"type": "Point", "coordinates": [3, 4]}),
        ("plain.png", {"type": "Polygon", "coordinates": "x"}),
        ("plain.png", {"type": "FeatureCollection", "features": [feature(PIXELS, expression="another")]}),
        ("plain.png", "POLYGON ((1 2, 3"),
        ("plain.png", "none.geojson"),
    ],
)
def test_geometries_that_mean_no_pixels_of_the_image_are_refused(image, mask, folder):
    with pytest.raises((ValueError, FileNotFoundError), match=r"expected|none\.geojson"):
        mask_of(folder, mask, image=image)


def test_own_polygons_are_read_back(folder):
    from processing_rrsis.cli.segment_files import feature_collection
    from processing_rrsis.place import find_place

    results = [{"label": "the red roof", "score": 0.5, "mask": Image.fromarray(MASK)}]
    results.append({"label": "another", "score": 0.5, "mask": Image.fromarray(255 - MASK)})
    for image in ("plain.png", "map.tif"):
        outlines = feature_collection(results, find_place(folder / image, (30, 40)))
        (folder / "out.geojson").write_text(json.dumps(outlines))
        assert np.array_equal(mask_of(folder, "out.geojson", image=image), MASK)


def test_names_of_other_systems_are_found(folder):
    (folder / "sub").mkdir()
    name = unicodedata.normalize("NFC", "Fläche.png")
    (folder / "sub" / name).write_bytes(encode(pixels_of(1)[0], "PNG"))
    for written in (f"sub\\{name}", unicodedata.normalize("NFD", f"sub/{name}"), f"./sub/{name}"):
        assert mask_of(folder, [[2, 1], [6, 1], [6, 4]], image=written).any()


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint16", "uint8", "float32"])
def test_object_numbers_are_refused_in_any_type(dtype, folder):
    numbers = np.zeros((1, 30, 40), dtype=dtype)
    for number, value in enumerate((1, 2, 200 if dtype == "uint8" else 3000)):
        numbers[0, 5 * number : 5 * number + 4] = value
    with rasterio.open(folder / "m.tif", "w", driver="GTiff", count=1, height=30, width=40, dtype=dtype) as file:
        file.write(numbers)
    with pytest.raises(ValueError, match=r"expected only 0 and 255, or 0 and 1"):
        mask_of(folder, "m.tif")


def test_a_table_without_splits_gets_a_validation_of_its_own_images():
    rows = {"image_id": [f"image {index % 10}" for index in range(40)], "expression": ["a"] * 40}
    data = datasets.DatasetDict({"train": datasets.Dataset.from_dict(rows)})
    said = []
    parts = with_validation(data, said.append)
    train, validation = set(parts["train"]["image_id"]), set(parts["validation"]["image_id"])
    assert (len(train), len(validation)) == (8, 2)
    assert not train & validation
    assert len(parts["train"]) + len(parts["validation"]) == 40
    assert "2 of 10 images" in said[0]
    again = with_validation(datasets.DatasetDict({"train": data["train"].shuffle(seed=1)}))
    assert set(again["validation"]["image_id"]) == validation
    one = datasets.DatasetDict({"train": data["train"].select([0, 10])})
    assert with_validation(one) is one
    assert with_validation(parts) is parts
