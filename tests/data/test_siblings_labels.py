"""Every form of label by kind: the mask that is meant, or refused with a sentence, never another mask.

`pytest tests/data/test_siblings_labels.py --log-cli-level=INFO` shows the table: kind, form, outcome.
"""

import io
import json
import logging
import os
import shutil
import unicodedata

import datasets
import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from processing_rrsis import OwnData, RefSegRS
from processing_rrsis.cli.segment_files import feature_collection
from processing_rrsis.data.file_benchmark import Oddities
from processing_rrsis.data.load import with_validation
from processing_rrsis.image_loading_rrsis import load_image
from processing_rrsis.place import find_place

pytest.importorskip("rasterio")
pytest.importorskip("shapely")
import rasterio
import shapely
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.warp import transform_geom
from shapely import affinity

HEIGHT, WIDTH = 30, 40
SHAPE = np.zeros((HEIGHT, WIDTH), dtype=bool)
SHAPE[3:9, 4:14] = True
SHAPE[5:7, 6:9] = False
ON, WHITE = SHAPE.astype(np.uint8), np.full(SHAPE.shape, 255, np.uint8)
PIXELS = shapely.Polygon(
    [(4, 3), (14, 3), (14, 9), (4, 9)], holes=[[(6, 5), (9, 5), (9, 7), (6, 7)]]
)  # SHAPE's pixel edges
UTM = rasterio.Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)
TURNED = UTM @ rasterio.Affine.rotation(30)
GLOBE = rasterio.Affine(0.001, 0.0, 15.0, 0.0, -0.001, 45.0)
POINTS = [GroundControlPoint(row, col, *(UTM @ (col, row))) for row in (0, HEIGHT) for col in (0, WIDTH)]
REFUSED = "refused"


def write_raster(path, bands, *, mask=None, colours=None, inside=True, **profile):
    """A raster of (H, W) or (bands, H, W), with a mask inside or beside it."""
    bands = bands if bands.ndim == 3 else bands[None]
    shape = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside), rasterio.open(path, "w", **shape, **profile) as file:
        file.write(bands)
        if colours:
            file.colorinterp = colours
        if mask is not None:
            file.write_mask(mask)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """The same picture without a place, and at several."""
    folder = tmp_path_factory.mktemp("labels")
    pixels = np.random.default_rng(0).integers(0, 256, size=(3, HEIGHT, WIDTH), dtype=np.uint8)
    Image.fromarray(np.moveaxis(pixels, 0, -1)).save(folder / "plain.png")
    Image.fromarray(np.moveaxis(pixels, 0, -1)).resize((800, 600)).save(folder / "large.png")
    for name, transform, crs in (("map", UTM, 32633), ("turned", TURNED, 32633), ("globe", GLOBE, 4326)):
        write_raster(folder / f"{name}.tif", pixels, photometric="rgb", crs=f"EPSG:{crs}", transform=transform)
    write_raster(folder / "points.tif", pixels, photometric="rgb", crs="EPSG:32633", gcps=POINTS)
    return folder


def masks_of(folder, *rows):
    """The masks of a table of these rows, as a run reads them."""
    lines = [json.dumps({"image": "plain.png", "expression": "the red roof", **row}) for row in rows]
    (folder / "mine.jsonl").write_text("\n".join(lines), encoding="utf-8")
    builder = OwnData(folder / "mine.jsonl", cache_dir=str(folder / "cache"))
    samples = builder.without_missing(builder.read_samples())["train"]
    made = [row["mask"]["bytes"] for _, row in builder._generate_examples("train", [samples])]
    return [np.asarray(Image.open(io.BytesIO(mask))) == 255 for mask in made]


def check(kind, form, expected, folder, **row):
    """Log a line of the table; a mask that isn't the expected one is wrong, as is any other error."""
    try:
        (mask,) = masks_of(folder, row)
        outcome = "handled" if expected is not REFUSED and np.array_equal(mask, expected) else "wrong"
    except (ValueError, FileNotFoundError) as error:
        outcome = REFUSED if "expected" in str(error) or "don't exist" in str(error) else str(error)
    logging.getLogger(__name__).info("%-16s %-40s %s", kind, form, outcome)
    assert outcome == (REFUSED if expected is REFUSED else "handled")


def with_alpha(alpha, colour=WHITE):
    return Image.fromarray(np.dstack([colour, colour, colour, alpha]))


def two_colours(first, second):
    image = Image.fromarray(ON, mode="P")
    image.putpalette([*first, *second])
    return image


RGBA = np.stack([WHITE, WHITE, WHITE, ON * 255])
COLOURS = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
PICTURES = {  # form: (file name, picture, options of saving, mask)
    "white RGBA, shape in alpha": ("png", with_alpha(ON * 255), {}, SHAPE),
    "inverted": ("png", with_alpha(255 - ON * 255), {}, ~SHAPE),
    "gray and alpha": ("png", Image.fromarray(np.dstack([WHITE, ON * 255])), {}, SHAPE),
    "WebP": ("webp", with_alpha(ON * 255), {"lossless": True, "exact": True}, SHAPE),
    "TIFF RGBA": ("tif", with_alpha(ON * 255), {}, SHAPE),
    "GIF": ("gif", with_alpha(ON * 255), {}, SHAPE),
    "white palette, a transparent index": ("png", two_colours([255] * 3, [255] * 3), {"transparency": 0}, SHAPE),
    "transparent gray value": ("png", Image.fromarray(ON * 255), {"transparency": 0}, SHAPE),
    "opaque": ("png", with_alpha(WHITE, colour=ON * 255), {}, SHAPE),
    "half transparent": ("png", with_alpha(ON * 127), {}, REFUSED),
    "black, shape in alpha": ("png", with_alpha(ON * 255, colour=ON * 0), {}, REFUSED),
    "shape in colour and complement in alpha": ("png", with_alpha(255 - ON * 255, colour=ON * 255), {}, REFUSED),
    "palette of Pillow": ("png", Image.fromarray(ON * 255).convert("RGB").quantize(2), {}, SHAPE),
    "palette black and red": ("png", two_colours([0, 0, 0], [128, 0, 0]), {}, SHAPE),
    "bilevel": ("png", Image.fromarray(SHAPE), {}, SHAPE),
    "fax": ("tif", Image.fromarray(SHAPE), {"compression": "group4"}, SHAPE),
    "two pages": ("tif", Image.fromarray(ON), {"save_all": True, "append_images": [Image.fromarray(1 - ON)]}, REFUSED),
    "animation": ("gif", Image.fromarray(ON), {"save_all": True, "append_images": [Image.fromarray(1 - ON)]}, REFUSED),
    "JPEG": ("jpg", Image.fromarray(ON * 255), {"quality": 50}, REFUSED),
    "coloured": ("png", Image.fromarray(np.dstack([ON * 255, ON * 0, ON * 0])), {}, REFUSED),
}
RASTERS = {  # form: (bands, profile, mask)
    "WebP in TIFF, alpha": (RGBA, {"compress": "webp", "WEBP_LOSSLESS": "YES"}, REFUSED),
    "JPEG 2000, alpha": (RGBA, {"driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES"}, SHAPE),
    "16 bit, alpha": (RGBA.astype(np.uint16) // 255, {"colours": COLOURS}, REFUSED),
    "fourth band without a meaning": (RGBA, {"photometric": "rgb", "alpha": "unspecified"}, REFUSED),
    "second band without a meaning": (np.stack([WHITE, ON]), {"photometric": "minisblack"}, REFUSED),
    "five equal bands": (np.stack([ON] * 5), {}, SHAPE),
    "mask inside": (WHITE, {"mask": ON * 255}, REFUSED),
    "mask inside, 16 bit": (WHITE.astype(np.uint16), {"mask": ON * 255}, REFUSED),
    "mask beside": (WHITE, {"mask": ON * 255, "inside": False}, REFUSED),
    "mask beside, 16 bit": (WHITE.astype(np.uint16) // 255, {"mask": ON * 255, "inside": False}, REFUSED),
    "nodata 0": (ON, {"nodata": 0}, SHAPE),
    "nodata 255 alone": (ON * 255, {"nodata": 255}, REFUSED),
    "nodata 255 alone, 16 bit": (ON.astype(np.int16) * 255, {"nodata": 255}, REFUSED),
    "nodata 1": (ON, {"nodata": 1}, REFUSED),
    "0 and 1 as floats": (ON.astype(np.float32), {}, SHAPE),
    "0 and 255 as doubles": (ON.astype(np.float64) * 255, {}, SHAPE),
    "NaN as background": (np.where(SHAPE, 1, np.nan).astype(np.float32), {"nodata": np.nan}, REFUSED),
    "probabilities": (np.where(SHAPE, 0.9, 0.1).astype(np.float32), {}, REFUSED),
    "of scenes, nothing found": (ON * 255, {"nodata": 255}, REFUSED),
}
NUMBERS = np.repeat(np.array([0, 1, 2, 100], dtype=np.uint8), 300).reshape(HEIGHT, WIDTH)
TYPES = ("int64", "uint64", "int32", "uint32", "int16", "uint16", "int8", "uint8", "float32", "float64")
OBJECTS = {  # form: numbers
    **{f"1, 2 and more, {kind}": NUMBERS.astype(kind) for kind in TYPES},
    "1, 2, 3000": np.where(NUMBERS == 100, 3000, NUMBERS.astype(np.int64)),
    **{f"0 and {value}": ON.astype(np.int32) * value for value in (2, 127, 254, 256, 257, 511, 65535, -1, -255)},
}


@pytest.mark.parametrize("form", PICTURES)
def test_picture_masks(form, images):
    ending, picture, options, expected = PICTURES[form]
    picture.save(images / f"m.{ending}", **options)
    check("alpha, palettes", form, expected, images, mask=f"m.{ending}")


@pytest.mark.parametrize("form", RASTERS)
def test_raster_masks(form, images):
    bands, profile, expected = RASTERS[form]
    name = "m.jp2" if profile.get("driver") else f"{len(form)}{form[0]}.tif"
    write_raster(images / name, bands, **{"driver": "GTiff", **profile})
    check("bands, no data", form, expected, images, mask=name)


@pytest.mark.parametrize("form", OBJECTS)
def test_object_numbers(form, images):
    write_raster(images / "numbers.tif", OBJECTS[form], driver="GTiff")
    check("object numbers", form, REFUSED, images, mask="numbers.tif")


def moved(transform, shape=PIXELS):
    return affinity.affine_transform(
        shape, [getattr(transform, letter) for letter in "abdexy"[:4]] + [transform.c, transform.f]
    )


def geo(shape, crs=None):
    """GeoJSON's geometry, moved from UTM zone 33 to another CRS."""
    mapping = shapely.geometry.mapping(shape)
    return json.loads(json.dumps(transform_geom("EPSG:32633", crs, mapping) if crs else mapping))


def feature(geometry, **properties):
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def collection(*features, crs=None):
    named = {"crs": {"type": "name", "properties": {"name": crs}}} if crs else {}
    return {"type": "FeatureCollection", **named, "features": list(features)}


ON_MAP, PLAIN = moved(UTM), geo(PIXELS)
DEGREES, METRES = geo(ON_MAP, "EPSG:4326"), geo(ON_MAP)
RING = [list(point) for point in PIXELS.exterior.coords]
FILLED = shapely.contains_xy(shapely.Polygon(RING), *np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5))
MANY = [[10, 10], [20, 10], [20, 20]] * 100_000 + [[10, 10]]
BEYOND = affinity.translate(PIXELS, -8, 0)
OUTSIDE = affinity.translate(PIXELS, 500, 500)


def scaled(x, y=None, shape=PIXELS):
    return affinity.scale(shape, x, y or x, origin=(0, 0))


def points(shape):
    return [list(point) for point in shape.exterior.coords]


GEOMETRIES = {  # form: (image, mask, expected)
    "geometry": ("plain.png", PLAIN, SHAPE),
    "multi polygon": ("plain.png", geo(shapely.MultiPolygon([PIXELS])), SHAPE),
    "geometry collection": ("plain.png", geo(shapely.GeometryCollection([PIXELS])), SHAPE),
    "feature": ("plain.png", feature(PLAIN), SHAPE),
    "collection": ("plain.png", collection(feature(PLAIN)), SHAPE),
    "feature of the expression": (
        "plain.png",
        collection(feature(PLAIN, expression="the red roof"), feature(geo(OUTSIDE), expression="x")),
        SHAPE,
    ),
    "features of other expressions": ("plain.png", collection(feature(PLAIN, expression="another")), REFUSED),
    "nothing found": (
        "plain.png",
        collection(feature(geo(shapely.MultiPolygon()), expression="the red roof")),
        SHAPE & False,
    ),
    "WKT": ("plain.png", PIXELS.wkt, SHAPE),
    "WKT in lower case, with blanks": ("plain.png", f"\n {PIXELS.wkt.lower()} ", SHAPE),
    "WKT with heights": ("plain.png", shapely.force_3d(PIXELS).wkt, SHAPE),
    "WKT of several": ("plain.png", shapely.MultiPolygon([PIXELS]).wkt, SHAPE),
    "EWKT": ("map.tif", f"SRID=32633;{ON_MAP.wkt}", SHAPE),
    "pixels of a map": ("map.tif", PLAIN, SHAPE),
    "map": ("map.tif", METRES, SHAPE),
    "map in WKT": ("map.tif", ON_MAP.wkt, SHAPE),
    "a turned map": ("turned.tif", geo(moved(TURNED)), SHAPE),
    "a map by control points": ("points.tif", METRES, SHAPE),
    "a map in degrees": ("globe.tif", geo(moved(GLOBE)), SHAPE),
    "degrees": ("map.tif", DEGREES, SHAPE),
    "degrees by control points": ("points.tif", DEGREES, SHAPE),
    "named CRS": ("map.tif", collection(feature(METRES), crs="urn:ogc:def:crs:EPSG::32633"), SHAPE),
    "CRS84": ("map.tif", collection(feature(DEGREES), crs="urn:ogc:def:crs:OGC:1.3:CRS84"), SHAPE),
    "named web Mercator": ("map.tif", collection(feature(geo(ON_MAP, "EPSG:3857")), crs="EPSG:3857"), SHAPE),
    "map, leaving the image": ("map.tif", geo(moved(UTM, BEYOND)), np.pad(SHAPE[:, 8:], ((0, 0), (0, 8)))),
    "GeoJSON of 300,000 points": ("plain.png", {"type": "Polygon", "coordinates": [MANY]}, REFUSED),
    "polygon of 300,000 points": ("plain.png", MANY, REFUSED),
    "WKT of 600,000 points": ("plain.png", f"POLYGON ((1 1{', 9 1, 9 9' * 300_000}, 1 1))", REFUSED),
    "polygon": ("plain.png", RING, FILLED),
    "COCO's polygon": ("plain.png", [np.ravel(RING).tolist()], FILLED),
    "point": ("plain.png", {"type": "Point", "coordinates": [4, 3]}, REFUSED),
    "line": ("plain.png", geo(PIXELS.exterior), REFUSED),
    "text for coordinates": ("plain.png", {"type": "Polygon", "coordinates": "x"}, REFUSED),
    "WKT in 30,000 brackets": (
        "plain.png",
        "GEOMETRYCOLLECTION(" * 30_000 + PIXELS.wkt + ")" * 30_000,
        REFUSED,
    ),
    "WKT in 20 collections": ("plain.png", "GEOMETRYCOLLECTION(" * 20 + PIXELS.wkt + ")" * 20, SHAPE),
    "WKT with 50,000 blanks": ("plain.png", PIXELS.wkt.replace(" ", " " * 50_000, 1), SHAPE),
    "GeoJSON in 30,000 collections": (
        "plain.png",
        '{"type":"GeometryCollection","geometries":[' * 30_000 + json.dumps(PLAIN) + "]}" * 30_000,
        REFUSED,
    ),
    "CRS in 2,000 brackets": ("map.tif", collection(feature(METRES), crs='{"a":' * 2_000), REFUSED),
    "half of a WKT": ("plain.png", "POLYGON ((1 2, 3", REFUSED),
    "TopoJSON": ("plain.png", {"type": "Topology", "objects": {}}, REFUSED),
    "LabelMe": ("plain.png", {"shapes": [{"points": RING}], "imageHeight": HEIGHT}, REFUSED),
}
UNITS = {  # form: (image, mask)
    "metres, image without a place": ("plain.png", METRES),
    "degrees, image without a place": ("plain.png", DEGREES),
    "degrees as a polygon": ("plain.png", DEGREES["coordinates"][0]),
    "another place": ("map.tif", geo(affinity.translate(ON_MAP, 10_000, 0))),
    "web Mercator, not named": ("map.tif", geo(ON_MAP, "EPSG:3857")),
    "latitude first": ("map.tif", geo(shapely.transform(shapely.geometry.shape(DEGREES), lambda xy: xy[:, ::-1]))),
    "unknown CRS": ("map.tif", collection(feature(METRES), crs="EPSG:999999")),
    "CRS, image without a place": ("plain.png", collection(feature(DEGREES), crs="EPSG:4326")),
    "shares": ("plain.png", geo(scaled(1 / WIDTH, 1 / HEIGHT))),
    "shares as WKT": ("plain.png", scaled(1 / WIDTH, 1 / HEIGHT).wkt),
    "shares as a polygon": ("plain.png", points(scaled(1 / WIDTH, 1 / HEIGHT))),
    "shares that leave the image": ("plain.png", points(shapely.box(0.1, 0.1, 1.0003, 0.9))),
    "shares from -1 to 1": ("plain.png", points(shapely.box(-0.8, -0.5, 0.6, 0.9))),
    "percent beyond the image": ("plain.png", points(shapely.box(20, 30, 70, 60))),
    "thousandths": ("large.png", points(shapely.box(700, 100, 950, 400))),
    "thousandths as GeoJSON": ("large.png", geo(shapely.box(700, 100, 950, 400))),
    "y upwards from 0": ("plain.png", geo(scaled(1, -1))),
}


@pytest.mark.parametrize("name", ["big.png", "big.geojson", "big.wkt"])
@pytest.mark.parametrize("column", ["image", "mask"])
def test_files_of_gigabytes_are_not_read(name, column, images):
    """Of 3 GB without content: refused by their size, as every file that is read whole."""
    with (images / name).open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(ValueError, match=rf"{name}: expected at most \d+ MiB, got 3072 MiB"):
        masks_of(images, {"mask": PLAIN, column: name})


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["pipe.png.aux.xml", "pipe.pgw"])
def test_a_pipe_beside_an_image_is_not_waited_for(name, images):
    shutil.copy(images / "plain.png", images / "pipe.png")
    os.mkfifo(images / name)
    try:
        with pytest.raises(OSError, match="got a pipe or a device"):
            masks_of(images, {"image": "pipe.png", "mask": PLAIN})
    finally:
        (images / name).unlink()


SHIFTED = UTM @ rasterio.Affine.translation(2, 0)
SOUTH_UP = rasterio.Affine(10.0, 0.0, 500_000.0, 0.0, 10.0, 5_000_000.0 - HEIGHT * 10)
LARGE = ON.repeat(2, axis=0).repeat(2, axis=1)
LIES = {"crs": "EPSG:32633", "transform": UTM}
MASK_PLACES = {  # form: (image, labels, profile of the mask, expected)
    "the image's": ("map.tif", ON, LIES, SHAPE),
    "the image's, a turned map": ("turned.tif", ON, {**LIES, "transform": TURNED}, SHAPE),
    "the image's, by control points": ("points.tif", ON, LIES, SHAPE),
    "the image's, half the pixels": ("map.tif", LARGE, {**LIES, "transform": UTM @ rasterio.Affine.scale(0.5)}, SHAPE),
    "the image's, no CRS": ("map.tif", ON, {"transform": UTM}, SHAPE),
    "a third of a pixel off": ("map.tif", ON, {**LIES, "transform": UTM @ rasterio.Affine.translation(0.3, 0)}, SHAPE),
    "none": ("map.tif", ON, {}, SHAPE),
    "one, the image none": ("plain.png", ON, LIES, SHAPE),
    "20 m east": ("map.tif", ON, {**LIES, "transform": SHIFTED}, REFUSED),
    "20 m east, no CRS": ("map.tif", ON, {"transform": SHIFTED}, REFUSED),
    "another zone": ("map.tif", ON, {**LIES, "crs": "EPSG:32634"}, REFUSED),
    "degrees": ("map.tif", ON, {"crs": "EPSG:4326", "transform": GLOBE}, REFUSED),
    "a local CRS": ("map.tif", ON, {**LIES, "crs": 'LOCAL_CS["site",UNIT["metre",1]]'}, REFUSED),
    "south up": ("map.tif", ON[::-1], {**LIES, "transform": SOUTH_UP}, REFUSED),
    "twice the ground": ("map.tif", LARGE, LIES, REFUSED),
    "a turned map's": ("map.tif", ON, {**LIES, "transform": TURNED}, REFUSED),
}
OTHER_SHAPES = {
    "transposed": ON.T,
    "10 x 100": np.ones((10, 100), np.uint8),
    "square": np.ones((40, 40), np.uint8),
    "two rows short": ON[2:],
}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("form", MASK_PLACES)
def test_places_of_mask_files(form, images):
    """A mask file's own place is its image's, or the mask is another's."""
    image, labels, profile, expected = MASK_PLACES[form]
    write_raster(images / "placed.tif", labels, driver="GTiff", **profile)
    check("mask's place", form, expected, images, image=image, mask="placed.tif")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_places_of_world_files(images):
    """A world file of the mask or of the image counts, and its change makes the table's rows anew."""
    shutil.copy(images / "plain.png", images / "world.png")
    Image.fromarray(ON).save(images / "labels.png")
    lines = {"here": "10\n0\n0\n-10\n500005\n4999995\n", "east": "10\n0\n0\n-10\n500025\n4999995\n"}
    (images / "world.pgw").write_text(lines["here"])
    check("geometry", "map of a world file", SHAPE, images, image="world.png", mask=METRES)
    hashes = []
    for where, expected in (("here", SHAPE), ("east", REFUSED)):
        (images / "labels.pgw").write_text(lines[where])
        check("mask's place", f"world file, {where}", expected, images, image="world.png", mask="labels.png")
        hashes.append(OwnData(images / "mine.jsonl", cache_dir=str(images / "cache")).archive.fingerprint())
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize("form", OTHER_SHAPES)
def test_mask_files_of_other_proportions(form, images):
    Image.fromarray(OTHER_SHAPES[form]).save(images / "shape.png")
    check("mask's place", form, REFUSED, images, mask="shape.png")


@pytest.mark.parametrize("orientation", [2, 3, 4, 6, 8])
def test_map_coordinates_on_an_image_turned_by_its_tag(orientation, images):
    """The same shape on the ground, however the image is shown: as Pillow turns the pixels, so the mask."""
    with Image.open(images / "map.tif") as image:
        tags = ImageFileDirectory_v2()
        for tag in (33550, 33922, 34735, 34736, 34737):
            if tag in image.tag_v2:
                tags.tagtype[tag], tags[tag] = image.tag_v2.tagtype[tag], image.tag_v2[tag]
        tags[274] = orientation
        Image.fromarray(np.asarray(image)).save(images / "tagged.tif", tiffinfo=tags)
        Image.fromarray(ON).save(images / "tagged_mask.tif", tiffinfo={274: orientation})
    expected = np.asarray(load_image(images / "tagged_mask.tif")) == 1
    check("geometry", f"map, orientation {orientation}", expected, images, image="tagged.tif", mask=METRES)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("form", GEOMETRIES)
def test_geometries(form, images):
    image, mask, expected = GEOMETRIES[form]
    check("geometry", form, expected, images, image=image, mask=mask)


@pytest.mark.parametrize("form", UNITS)
def test_other_units(form, images):
    image, mask = UNITS[form]
    check("units", form, REFUSED, images, image=image, mask=mask)


@pytest.mark.parametrize("name", ["a.geojson", "a.json", "a.wkt"])
def test_geometries_in_files(name, images):
    (images / name).write_text(PIXELS.wkt if name.endswith("wkt") else json.dumps(PLAIN))
    check("geometry", f"file {name}", SHAPE, images, mask=name)


def test_a_mask_file_may_be_called_polygon(images):
    Image.fromarray(ON).save(images / "polygon (1).png")
    check("geometry", "file polygon (1).png", SHAPE, images, mask="polygon (1).png")


@pytest.mark.parametrize("unit", [100, 1000])
def test_percent_and_thousandths_are_told_by_the_whole_table(unit, images):
    """One polygon in a corner is an object there; of five images one would lie elsewhere."""
    shapes = [
        points(shapely.box(unit * 0.2, unit * 0.1, unit * right, unit * 0.9)) for right in (0.3, 0.5, 0.7, 0.9, 1)
    ]
    for number in range(5):
        Image.new("L", (6 * unit, 8 * unit)).save(images / f"{number}.png")
    rows = [{"image": f"{number}.png", "mask": shape} for number, shape in enumerate(shapes)]
    with pytest.raises(ValueError, match="percent" if unit == 100 else "thousandths"):
        masks_of(images, *rows)
    elsewhere = {"image": "0.png", "mask": points(shapely.box(unit, unit, 3 * unit, 2 * unit))}
    assert len(masks_of(images, *rows, elsewhere)) == 6


@pytest.mark.parametrize("image", ["plain.png", "map.tif", "turned.tif", "points.tif", "globe.tif"])
def test_own_polygons_are_read_back(image, images):
    results = [{"label": "the red roof", "score": 0.5, "mask": Image.fromarray(ON * 255)}]
    results.append({"label": "another", "score": 0.5, "mask": Image.fromarray(255 - ON * 255)})
    outlines = feature_collection(results, find_place(images / image, (HEIGHT, WIDTH)))
    (images / "out.geojson").write_text(json.dumps(outlines))
    check("geometry", f"own output, {image}", SHAPE, images, image=image, mask="out.geojson")


ONE = np.zeros(SHAPE.shape, dtype=np.uint8)
ONE[0, 0] = 1
COARSE = rasterio.Affine(0.05, 0.0, 5.0, 0.0, -0.05, 20.0)
DEGREE = rasterio.Affine(1.0, 0.0, 5.0, 0.0, -1.0, 25.0)
BEYOND_180 = rasterio.Affine(0.05, 0.0, 179.7, 0.0, -0.05, 20.0)
OWN = {  # form: (labels, CRS and transform of the image, expected)
    "the first pixel": (ONE, None, ONE),
    "the first pixel, small pixels": (ONE, ("EPSG:4326", GLOBE), ONE),
    "all": (ONE * 0 + 1, None, ONE * 0 + 1),
    "coarse degrees": (ON, ("EPSG:4326", COARSE), SHAPE),
    "coarse degrees, the first pixel": (ONE, ("EPSG:4326", COARSE), ONE),
    "a pixel a degree": (ON, ("EPSG:4326", DEGREE), REFUSED),
    "across the antimeridian in degrees": (ON, ("EPSG:4326", BEYOND_180), SHAPE),
    "from 0 to 360": (ON, ("EPSG:4326", rasterio.Affine(0.05, 0, 200, 0, -0.05, 20)), SHAPE),
    "across the antimeridian": (ON, ("EPSG:32660", rasterio.Affine(1e4, 0, 730_000, 0, -1e4, 300_000)), SHAPE),
    "across the antimeridian, all": (
        ONE * 0 + 1,
        ("EPSG:32601", rasterio.Affine(1e3, 0, 150_000, 0, -1e3, 3e5)),
        None,
    ),
    "a transform without a CRS": (ON, (None, UTM), SHAPE),
}


@pytest.mark.parametrize("form", OWN)
def test_own_polygons_of_any_place_are_read_back(form, images):
    """By the number of pixels that they tell, where they fit as pixels and as degrees."""
    labels, lies, expected = OWN[form]
    crs, transform = lies or (None, None)
    place = {} if lies is None else {"crs": crs, "transform": transform}
    write_raster(images / "own.tif", np.stack([labels * 9] * 3), driver="GTiff", photometric="rgb", **place)
    result = {"label": "the red roof", "score": 0.5, "mask": Image.fromarray(labels * np.uint8(255))}
    found = find_place(images / "own.tif", labels.shape)
    outlines = feature_collection([result], None if crs is None else found)
    (images / "own.geojson").write_text(json.dumps(outlines))
    expected = labels if expected is None else expected
    expected = expected if expected is REFUSED else expected == 1
    check("geometry", f"own output, {form}", expected, images, image="own.tif", mask="own.geojson")


NUMBERS_OF = {  # form: (mask, expected)
    "box, score, class": ([10, 10, 30, 20, 0.9, 1], REFUSED),
    "boxes, scores, classes": ([[10, 10, 30, 20, 0.9, 1], [1, 1, 3, 2, 0.4, 17]], REFUSED),
    "image, class, box": ([3, 17, 10, 10, 30, 20], REFUSED),
    "turned box, score": ([[20, 15, 20, 10, 0.35, 0.9]], REFUSED),
    "four corners, class, score": ([10, 10, 30, 10, 30, 20, 10, 20, 17, 0.9], REFUSED),
    "four key points": ([10, 10, 2, 30, 10, 2, 30, 20, 2, 10, 20, 1], REFUSED),
    "two key points": ([[10, 10, 2, 30, 10, 0]], REFUSED),
    "box": ([10, 10, 30, 20], REFUSED),
    "box and score": ([10, 10, 30, 20, 0.9], REFUSED),
    "COCO's triangle": ([[2, 2, 20, 2, 5, 20]], None),
    "a triangle of points": ([[0, 0], [20, 0], [0, 20]], None),
    "COCO's five corners, from the edge": ([[0, 5, 20, 5, 20, 20, 10, 25, 0, 20]], None),
    "COCO's six corners": ([[4, 3, 10, 3, 14, 3, 14, 9, 7, 9, 4, 9]], FILLED),
}


@pytest.mark.parametrize("form", NUMBERS_OF)
def test_numbers_that_are_no_outline(form, images):
    mask, expected = NUMBERS_OF[form]
    if expected is None:  # as its points are drawn
        (expected,) = masks_of(images, {"mask": np.reshape(mask, (-1, 2)).tolist()})
    check("numbers", form, expected, images, mask=mask)


NAME = unicodedata.normalize("NFC", "Fläche.png")
PATHS = {
    "backslashes": f"sub\\{NAME}",
    "decomposed": unicodedata.normalize("NFD", f"sub/{NAME}"),
    "composed": f"sub/{NAME}",
    "decomposed, backslashes": unicodedata.normalize("NFD", f".\\sub\\{NAME}"),
    "dot first": f"./sub/{NAME}",
    "not there": "sub\\none.png",
    "a drive": "C:\\data\\a.png",
}


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("form", PATHS)
def test_paths_of_other_systems(form, stored, images):
    (images / "sub").mkdir(exist_ok=True)
    for file in (images / "sub").iterdir():
        file.unlink()
    Image.fromarray(ON).save(images / "sub" / unicodedata.normalize(stored, NAME))
    expected = REFUSED if form in ("not there", "a drive") else SHAPE
    check("paths", f"{form}, stored {stored}", expected, images, image=PATHS[form], mask=PATHS[form])


def table(**splits):
    rows = {split: {"image_id": ids, "expression": ["a"] * len(ids)} for split, ids in splits.items()}
    return datasets.DatasetDict({split: datasets.Dataset.from_dict(columns) for split, columns in rows.items()})


def test_tables_without_validation_get_one_of_their_own_images():
    said, many = [], table(train=[f"image {index % 10}" for index in range(40)])
    parts = with_validation(many, said.append)
    train, validation = set(parts["train"]["image_id"]), set(parts["validation"]["image_id"])
    assert (len(train), len(validation), len(parts["train"]) + len(parts["validation"])) == (8, 2, 40)
    assert not train & validation
    assert "2 of train's 10 images" in said.pop()
    again = with_validation(datasets.DatasetDict({"train": many["train"].shuffle(seed=1)}), said.append)
    assert set(again["validation"]["image_id"]) == validation
    tested = with_validation(table(train=["a", "b"], test=["c"]), said.append)
    assert {split: len(rows) for split, rows in tested.items()} == {"train": 1, "validation": 1, "test": 1}
    said.clear()
    for whole in (table(train=["a", "a"]), table(test=["a", "b"]), parts):
        assert with_validation(whole, said.append) is whole
    assert said == []


@pytest.mark.parametrize("where", ["folder", "zip"])
def test_what_lies_beside_an_image_counts_in_data_too(where, tmp_path):
    """The mask of a 16-bit scene stays out of its stretch, as where the file is opened by its path."""
    values = np.linspace(2000, 3000, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
    values[:5] = 65535
    for folder in ("images", "masks"):
        (tmp_path / "RefSegRS" / folder).mkdir(parents=True)
    path = tmp_path / "RefSegRS" / "images" / "1.tif"
    write_raster(path, values, mask=np.where(values < 65535, 255, 0).astype(np.uint8), inside=False, driver="GTiff")
    Image.fromarray(ON * 255).save(tmp_path / "RefSegRS" / "masks" / "1.tif")
    for split in ("train", "val", "test"):
        (tmp_path / "RefSegRS" / f"output_phrase_{split}.txt").write_text("1 the road\n")
    source = tmp_path / "RefSegRS"
    if where == "zip":
        source = shutil.make_archive(str(tmp_path / "RefSegRS"), "zip", tmp_path, "RefSegRS")
    builder = RefSegRS(data_dir=str(source), cache_dir=str(tmp_path / "cache"))
    made = builder.make_row(builder.read_samples()["train"][0], Oddities())["image"]["bytes"]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(made))), np.asarray(load_image(path)))
