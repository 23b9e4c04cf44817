"""Every command that writes: nothing that is there is replaced unasked, and nothing that is read at all."""

import json
import logging
import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from typer.testing import CliRunner

from processing_rrsis import RRSISImageProcessorTorchvision, image_batch_rrsis
from processing_rrsis.cli.app import app
from processing_rrsis.cli.segment_files import feature_collection
from processing_rrsis.hub.model_folder import save_hub_folder
from processing_rrsis.image_loading_rrsis import load_image
from processing_rrsis.place import NoPlaceError, Place, find_place
from processing_rrsis.runtimes.loading import open_pipeline
from tests.tiny import build_tiny_model, build_tiny_processor

COMMANDS = {  # form: (arguments, what it writes, what it reads and might be named as the result)
    "segment": ("segment in.png ship -m best -o {}", "m.png", "in.png"),
    "segment --overlay": ("segment in.png ship -m best -o new.png --overlay {}", "m.png", "in.png"),
    "segment --polygons": ("segment in.png ship -m best -o new.png --polygons {}", "m.json", "best/config.json"),
    "segment --probability": ("segment in.png ship -m best -o new.png --probability {}", "m.tif", None),
    "scene": ("scene in.tif ship -m best -o {}", "m.tif", "in.tif"),
    "scene, a part of its source": ("scene in.vrt ship -m best -o {}", "m.tif", "in.tif"),
    "scene --vector": ("scene in.tif ship -m best -o new.tif --vector {}", "m.gpkg", None),
    "evaluate": ("evaluate -m best -d mine.csv -o {}", "m.json", "mine.csv"),
    "evaluate, the model's": ("evaluate -m best -d mine.csv -o {}", "m.json", "best/config.json"),
    "evaluate, a mask": ("evaluate -m best -d mine.csv -o {}", "m.json", "mask.json"),
    "evaluate --html": ("evaluate -m best -d mine.csv --html {}", "m.html", "best/page.html"),
    "report": ("report run -o {}", "m.html", "run/best/page.html"),
    "recipes --json": ("recipes --json {}", "m.json", None),
    "recipes --yaml": ("recipes mine.yaml --yaml {}", "m.json", "mine.yaml"),
    "ablations": ("ablations --json {}", "m.json", None),
    "prepare": ("prepare data --json {}", "m.json", "data/list.txt"),
    "parse-report": ("parse-report mine.csv --json {}", "m.json", "mine.csv"),
    "benchmark": ("benchmark -m ./best --json {}", "m.json", "best/config.json"),
    "benchmark profile": ("benchmark profile -m ./best --trace {}", "m.json", "best/config.json"),
    "benchmark scaling": ("benchmark scaling -m ./best --json {}", "m.json", "best/config.json"),
    "export": ("export best {}", "old", "best"),
    "export, around the model": ("export best {}", "old", "."),
    "export --json": ("export best new --json {}", "m.json", "best/config.json"),
    "convert": ("convert old/weights.pth {} --tokenizer best", "done", "old"),
    "convert, the tokenizer": ("convert old/weights.pth {} --tokenizer best", "done", "best"),
    "write-demo": ("write-demo {}", "old", None),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, an image, a raster and a table, and earlier results."""
    folder = tmp_path_factory.mktemp("results")
    save_hub_folder(build_tiny_model("lavt"), build_tiny_processor(), folder / "best")
    pixels = np.random.default_rng(0).integers(0, 256, size=(30, 44, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "in.png")
    Image.fromarray(pixels).save(folder / "in.tif")
    (folder / "mask.json").write_text(json.dumps([[1, 1], [9, 1], [9, 9]]))
    (folder / "mine.csv").write_text("image,mask,expression,split\nin.png,mask.json,the ship,test\n")
    (folder / "in.vrt").write_text(
        '<VRTDataset rasterXSize="44" rasterYSize="30">'
        + "".join(
            f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource><SourceFilename relativeToVRT="1">in.tif'
            f"</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
            for band in (1, 2, 3)
        )
        + "</VRTDataset>"
    )
    for name in ("old", "data", "done", "run/best"):
        (folder / name).mkdir(parents=True)
    results = ("m.png", "m.tif", "m.json", "m.gpkg", "m.html", "mine.yaml", "best/page.html", "run/best/page.html")
    for name in (*results, "data/list.txt", "old/weights.pth"):
        (folder / name).write_bytes(b"earlier")
    (folder / "run" / "recipe.yaml").write_text("model: fianet\n")
    for name in ("old", "done"):  # as an earlier run of these commands leaves them
        (folder / name / "config.json").write_text("{}")
        (folder / name / "runtime.json").write_text("{}")
    return folder


def log(kind, form, outcome):
    """A line of the table."""
    logging.getLogger(__name__).info("%-18s %-32s %s", kind, form, outcome)


def contents(folder):
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", COMMANDS)
@pytest.mark.parametrize("kind", ["there", "read", "read, by a link"])
def test_results_replace_nothing(kind, form, folder, monkeypatch):
    monkeypatch.chdir(folder)
    arguments, there, read = COMMANDS[form]
    if form.startswith("scene"):
        pytest.importorskip("rasterio")
    target = there if kind == "there" else read
    if target is None:
        pytest.skip("reads nothing that it might write to")
    before = contents(folder)
    name = target
    if kind == "read, by a link":
        name = f"link{os.path.splitext(there)[1]}"
        os.symlink(target, name)
    words = [word.format(name) for word in arguments.split()]
    result = CliRunner().invoke(app, words if kind == "there" else [*words, "--overwrite"])
    if kind == "read, by a link":
        os.unlink(name)
    shutil.rmtree("new", ignore_errors=True)
    log(kind, form, "refused" if result.exit_code == 1 else "wrong")
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    assert ("overwrite" if kind == "there" else "expected") in result.output
    assert contents(folder) == before


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("words", "same"),
    [
        ("in.png ship dam -o z.png --overlay z-1.png", "z-1.png"),
        ("in.png ship dam -o z.png --overlay sub/../z-2.png", "z-2.png"),
        ("in.png ship dam -o z-1.tif --probability z.tif --overlay z-2.tif", "z-2.tif"),
        ("in.png ship dam -o z.png --overlay link.png", "z-2.png"),  # a link to it
        ("a.png a-1.png ship dam -o z.png --overlay ./z-a-1.png", None),
        ("a.png b.png ship -o z.png --overlay z-a.png", None),
    ],
)
def test_no_result_of_a_call_replaces_another(words, same, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.symlink(folder / "best", "best")
    os.mkdir("sub")
    os.symlink("z-2.png", "link.png")
    for name in ("in.png", "a.png", "a-1.png", "b.png"):
        shutil.copy(folder / "in.png", name)
    before = set(tmp_path.iterdir())
    result = CliRunner().invoke(app, ["segment", *words.split(), "-m", "best"])
    written = {path.name for path in set(tmp_path.iterdir()) - before}
    log("own results", words, "refused" if result.exit_code == 1 else "handled")
    if same:
        assert result.exit_code == 1
        assert f"{same};" in result.output.replace("\n", "")
        assert not written
    else:
        named = [name for line in result.output.splitlines() for name in line.partition(" -> ")[2].split(", ") if name]
        assert result.exit_code == 0, result.output
        assert set(named) == written


GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737)


def write_place(path, orientation=None, **profile):
    """A gray TIFF of 44 x 30 px with a bright pixel at column 7 and row 3; with an orientation tag if wished."""
    rasterio = pytest.importorskip("rasterio")
    pixels = np.zeros((30, 44), np.uint8)
    pixels[3, 7] = 255
    with rasterio.open(path, "w", driver="GTiff", height=30, width=44, count=1, dtype="uint8", **profile) as file:
        file.write(pixels, 1)
    if orientation:
        with Image.open(path) as image:
            tags = ImageFileDirectory_v2()
            for tag in GEO_TAGS:
                if tag in image.tag_v2:
                    tags.tagtype[tag], tags[tag] = image.tag_v2.tagtype[tag], image.tag_v2[tag]
        tags[274] = orientation
        Image.fromarray(pixels).save(path, tiffinfo=tags)


def utm():
    from rasterio import Affine
    from rasterio.control import GroundControlPoint

    transform = Affine(10, 0, 500_000, 0, -10, 5_000_000)
    points = [GroundControlPoint(row, col, *(transform @ (col, row))) for row in (0, 30) for col in (0, 44)]
    return transform, points


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("by", ["transform", "control points"])
def test_a_turned_image_keeps_its_place(by, orientation, tmp_path):
    """The bright pixel's centre lies 75 m east and 35 m south of the corner, however the picture is turned."""
    pytest.importorskip("rasterio")
    transform, points = utm()
    how = {"transform": transform} if by == "transform" else {"gcps": points}
    write_place(tmp_path / "in.tif", orientation, crs="EPSG:32633", **how)
    upright = np.asarray(load_image(tmp_path / "in.tif"))  # Pillow turns a TIFF as it loads it
    assert upright.shape == ((30, 44) if orientation < 5 else (44, 30))
    ((row, column),) = np.argwhere(upright)
    place = find_place(tmp_path / "in.tif", upright.shape)
    found = place.to_map(np.array([[column + 0.5, row + 0.5]]), place.crs)
    np.testing.assert_allclose(found, [[500_075, 4_999_965]], atol=1e-3)
    log("place", f"{by}, orientation {orientation}", "handled")


def segment_at_place(folder, tmp_path, capsys):
    """The least outline coordinates of all, whether the mask's TIFF has a transform, and what is said."""
    words = ["segment", str(tmp_path / "in.tif"), "ship", "-m", str(folder / "best"), "-o", str(tmp_path / "m.tif")]
    app([*words, "--polygons", str(tmp_path / "m.json"), "--threshold", "0"], standalone_mode=False)
    geometry = json.loads((tmp_path / "m.json").read_text())["features"][0]["geometry"]
    corner = np.array(geometry["coordinates"][0][0]).min(axis=0)
    with Image.open(tmp_path / "m.tif") as mask:
        has_transform = 34264 in mask.tag_v2 or 33550 in mask.tag_v2
    said = capsys.readouterr()
    return corner.tolist(), has_transform, (said.out + said.err).replace("\n", "")


SAID = {  # form: (profile, world file, mask has the transform, what is said)
    "transform and CRS": ({"crs": "EPSG:32633", "transform": True}, False, True, None),
    "transform alone": ({"transform": True}, False, True, "pixels: expected"),
    "world file": ({}, True, True, "pixels: expected"),
    "a local CRS": (
        {"crs": 'LOCAL_CS["site",UNIT["metre",1]]', "transform": True},
        False,
        True,
        "got others, of site",
    ),
    "CRS alone": ({"crs": "EPSG:32633"}, False, False, "got only EPSG:32633"),
    "polynomials": ({"rpcs": True}, False, False, "no place on Earth is kept"),
    "nothing": ({}, False, False, None),
}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("form", SAID)
def test_what_results_lose_of_a_place_is_said(form, folder, tmp_path, capsys):
    pytest.importorskip("rasterio")
    from rasterio.rpc import RPC

    profile, has_world_file, has_transform, said = SAID[form]
    line = [0.0] * 20
    numbers = {
        f"{axis}_{kind}": 1.0 for axis in ("lat", "long", "height", "line", "samp") for kind in ("off", "scale")
    }
    coefficients = {f"{axis}_{part}_coeff": line for axis in ("line", "samp") for part in ("num", "den")}
    values = {"transform": utm()[0], "rpcs": RPC(**numbers, **coefficients)}
    write_place(tmp_path / "in.tif", **{key: values.get(key, value) for key, value in profile.items()})
    if has_world_file:
        (tmp_path / "in.tfw").write_text("10\n0\n0\n-10\n500005\n4999995\n")
    corner, kept, output = segment_at_place(folder, tmp_path, capsys)
    assert kept == has_transform
    assert "{" not in output
    if said:
        assert said in output
    else:
        assert "pixels:" not in output
        assert "place" not in output
    is_on_earth = form == "transform and CRS"
    assert corner == (pytest.approx([15.0, 45.15], abs=0.01) if is_on_earth else [0, 0])
    log("place", form, "said" if said else "handled")


def test_a_place_that_can_not_be_asked_for_is_said(folder, tmp_path, monkeypatch):
    write_place(tmp_path / "in.tif", crs="EPSG:32633", transform=utm()[0])
    with pytest.raises(NoPlaceError, match="got an address"):
        find_place("https://example.org/in.tif", (30, 44))
    monkeypatch.setitem(sys.modules, "rasterio", None)
    words = ["segment", str(tmp_path / "in.tif"), "ship", "-m", str(folder / "best"), "-o"]
    result = CliRunner().invoke(app, [*words, str(tmp_path / "m.tif")])
    assert result.exit_code == 0, result.output
    assert "no place on Earth is kept" in result.output
    assert "rasterio" in result.output


OUTLINES = {  # form: (CRS, west, north, size of a pixel, parts, longitudes from, to)
    "zone 60": (32660, 780_000, 100_000, 1000, 2, 179.6, -179.68),
    "zone 1": (32601, 140_000, 100_000, 1000, 2, 179.86, -179.42),
    "degrees beyond 180": (4326, 179, 1, 0.025, 2, 179.25, -178.75),
    "degrees below -180": (4326, -181, 1, 0.025, 2, 179.25, -178.75),
    "degrees from 0 to 360": (4326, 200, 1, 0.025, 1, -159.75, -157.75),
    "zone 33": (32633, 500_000, 100_000, 1000, 1, 15.09, 15.81),
    "the Pacific": (3832, 0, 100_000, 40_000, 2, 153.6, -177.8),
}


@pytest.mark.parametrize("form", OUTLINES)
def test_outlines_are_cut_at_the_antimeridian(form):
    """RFC 7946: 3.1.9 has them cut, 3.1.6 outlines anticlockwise; a hole stays one."""
    pytest.importorskip("shapely")
    from rasterio import Affine
    from rasterio.crs import CRS
    from shapely.geometry import shape

    crs, west, north, step, parts, first, last = OUTLINES[form]
    mask = np.zeros((64, 96), np.uint8)
    mask[10:20, 10:90] = 255
    mask[14:16, 20:22] = 0
    result = {"label": "a", "score": 0.5, "mask": Image.fromarray(mask)}
    place = Place(CRS.from_epsg(crs), Affine(step, 0, west, 0, -step, north))
    found = shape(feature_collection([result], place)["features"][0]["geometry"])
    assert found.is_valid
    assert len(found.geoms) == parts
    assert all(part.exterior.is_ccw and not any(hole.is_ccw for hole in part.interiors) for part in found.geoms)
    assert sum(len(part.interiors) for part in found.geoms) == 1
    assert sum(part.bounds[2] - part.bounds[0] for part in found.geoms) < 60
    bounds = [part.bounds for part in found.geoms]
    assert any(west == pytest.approx(first, abs=0.3) for west, _, _, _ in bounds)
    assert any(east == pytest.approx(last, abs=0.3) for _, _, east, _ in bounds)
    log("outlines", form, "handled")


def test_outlines_around_a_pole_stay_in_pixels():
    pytest.importorskip("shapely")
    from rasterio import Affine
    from rasterio.crs import CRS

    result = {"label": "a", "score": 0.5, "mask": Image.fromarray(np.full((64, 96), 255, np.uint8))}
    with pytest.raises(ValueError, match="around a pole"):
        feature_collection([result], Place(CRS.from_epsg(3413), Affine(1000, 0, -48_000, 0, -1000, 32_000)))


def pipeline_of(folder):
    return open_pipeline(str(folder / "best"), trust_remote_code=False)


SQUEEZED = {  # form: (what is asked of a folder with a picture of 576 x 64, for a model of 64 x 64)
    "pipeline, path": lambda folder: pipeline_of(folder)("wide.png", text="ship"),
    "pipeline, array": lambda folder: pipeline_of(folder)(np.zeros((64, 576, 3), np.uint8), text=["ship", "dam"]),
    "pipeline, rows": lambda folder: list(pipeline_of(folder)(iter([{"image": "wide.png", "text": "ship"}] * 3))),
    "processor": lambda folder: pipeline_of(folder).processor(images="wide.png", text="ship", return_tensors="pt"),
    "torchvision": lambda folder: RRSISImageProcessorTorchvision(size={"height": 64, "width": 64})(["wide.png"] * 2),
    "evaluate": lambda folder: app(
        ["evaluate", "-m", str(folder / "best"), "-d", "wide.csv", "--num-workers", "0"], standalone_mode=False
    ),
}


@pytest.mark.parametrize("form", SQUEEZED)
def test_what_a_model_pixel_covers_is_said_once(form, folder, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(image_batch_rrsis, "SAID", set())
    Image.new("RGB", (576, 64)).save("wide.png")
    (tmp_path / "mask.json").write_text(json.dumps([[1, 1], [9, 1], [9, 9]]))
    rows = "wide.png,mask.json,the ship,test\n" * 3
    (tmp_path / "wide.csv").write_text(f"image,mask,expression,split\n{rows}")
    SQUEEZED[form](folder)
    said = [record.getMessage() for record in caplog.records if "one pixel of the model" in record.getMessage()]
    assert len(said) == 1
    assert "(64 x 64) covers 9.0 x 1.0 of an image of 576 x 64" in said[0]
    log("pixels", form, "said")


def test_no_more_than_two_pixels_a_side_are_said_nothing_of(folder, monkeypatch, caplog):
    monkeypatch.setattr(image_batch_rrsis, "SAID", set())
    pipeline_of(folder)(np.zeros((128, 100, 3), np.uint8), text="ship")
    assert "one pixel of the model" not in caplog.text
