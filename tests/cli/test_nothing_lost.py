"""No command writes over what it reads; results are there before anything is printed; names never act as markup."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from processing_rrsis.cli.app import app
from processing_rrsis.hub.model_folder import save_hub_folder
from processing_rrsis.reports.tables import ResultTable, print_tables
from processing_rrsis.result_files import check_untouched, write_result
from tests.tiny import build_tiny_model, build_tiny_processor

run = CliRunner().invoke
PIXELS = np.random.default_rng(0).integers(0, 256, size=(30, 44, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return save_hub_folder(build_tiny_model("lavt"), build_tiny_processor(), tmp_path_factory.mktemp("lost") / "best")


@pytest.fixture
def image(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "in.png")
    return tmp_path / "in.png"


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
@pytest.mark.parametrize("option", ["--output", "--overlay", "--probability"])
def test_segment_never_replaces_its_image(link, option, image, tmp_path):
    name = image
    if link:
        name = tmp_path / "link.png"
        link(image, name)
    before = image.read_bytes()
    output = [] if option == "--output" else ["-o", str(tmp_path / "m.png")]
    arguments = ["segment", str(image), "a ship", "-m", "nowhere", *output, option, str(name), "--overwrite"]
    result = run(app, arguments)
    assert result.exit_code == 1
    assert "is read" in result.output
    assert image.read_bytes() == before


def test_results_are_replaced_only_where_asked(tmp_path):
    old = tmp_path / "mask.png"
    old.write_bytes(b"old")
    with pytest.raises(ValueError, match="--overwrite"):
        check_untouched([old], reads=[], overwrite=False)
    check_untouched([old, None, tmp_path / "new.png"], reads=["org/model", tmp_path / "none"], overwrite=True)
    with pytest.raises(ValueError, match="is read"):
        check_untouched([old], reads=[tmp_path], overwrite=True)
    (tmp_path / "link.png").symlink_to(old)
    write_result(tmp_path / "link.png", b"new")
    assert old.read_bytes() == b"new"
    assert (tmp_path / "link.png").is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"mask.png", "link.png"}


def test_parse_report_keeps_its_file(tmp_path):
    table = tmp_path / "a.txt"
    table.write_text("the ship\n")
    result = run(app, ["parse-report", str(table), "--json", str(table), "--overwrite"])
    assert result.exit_code == 1
    assert table.read_text() == "the ship\n"


@pytest.mark.parametrize("how", ["transform", "gcps"])
def test_a_geotiff_keeps_its_place(how, model_folder, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    from rasterio.control import GroundControlPoint

    transform = rasterio.Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)
    corners = [GroundControlPoint(row, col, *(transform @ (col, row))) for row in (0, 30) for col in (0, 44)]
    place = {"transform": {"transform": transform}, "gcps": {"gcps": corners}}[how]
    profile = {"count": 3, "height": 30, "width": 44, "dtype": "uint8", "crs": "EPSG:32633", **place}
    with rasterio.open(tmp_path / "in.tif", "w", driver="GTiff", photometric="rgb", **profile) as file:
        file.write(np.moveaxis(PIXELS, -1, 0))
    names = {"-o": "m.tif", "--probability": "p.tif", "--polygons": "p.geojson"}
    options = [part for option, name in names.items() for part in (option, str(tmp_path / name))]
    arguments = ["segment", str(tmp_path / "in.tif"), "a ship", "-m", str(model_folder), *options, "--threshold", "0"]
    result = run(app, arguments)
    assert result.exit_code == 0, result.output
    for name in ("m.tif", "p.tif"):
        with rasterio.open(tmp_path / name) as file:
            crs = file.crs if how == "transform" else file.gcps[1]
            found = file.transform if how == "transform" else rasterio.transform.from_gcps(file.gcps[0])
            assert crs.to_epsg() == 32633
            assert found.almost_equals(transform, precision=1e-6)
    with rasterio.open(tmp_path / "m.tif") as file:
        assert np.unique(file.read()).tolist() == [255]
    (feature,) = json.loads((tmp_path / "p.geojson").read_text())["features"]
    corners = np.array(feature["geometry"]["coordinates"][0][0])
    # UTM 33's central meridian is 15° E; 5,000,000 m north lie at 45.15° N; 440 m east are 0.0056°
    np.testing.assert_allclose(corners.min(axis=0), [15.0, 45.1504], atol=5e-3)
    np.testing.assert_allclose(np.ptp(corners, axis=0), [0.0056, 0.0027], atol=2e-4)
    arguments[arguments.index(str(tmp_path / "m.tif"))] = str(tmp_path / "m.png")
    result = run(app, [*arguments, "--overwrite"])
    assert "hold no place on Earth" in result.output


def test_what_a_model_pixel_covers_is_said_and_bounded(model_folder, tmp_path):
    side = 64 * 9
    Image.new("RGB", (side, 64)).save(tmp_path / "wide.png")
    arguments = [
        "segment",
        str(tmp_path / "wide.png"),
        "a ship",
        "-m",
        str(model_folder),
        "-o",
        str(tmp_path / "m.png"),
    ]
    stopped = run(app, arguments)
    assert stopped.exit_code == 1
    assert "covers" in stopped.output
    assert "rrsis scene" in stopped.output
    assert not (tmp_path / "m.png").exists()
    forced = run(app, [*arguments, "--force"])
    assert forced.exit_code == 0, forced.output
    assert "covers" in forced.output


NAMES = ("tank [/b]", "[bold]x", "a | b", "[link=x]y[/link]", "\\[red]", "船")


def test_names_never_act_as_markup():
    stream = io.StringIO()
    table = ResultTable(
        title="[/b]", columns=("category [/b]", "mIoU [x]"), rows=tuple((name, "1.0") for name in NAMES)
    )
    print_tables([table], Console(file=stream, width=120, highlight=False))
    for text in (*NAMES, "category [/b]", "mIoU [x]"):
        assert text in stream.getvalue()
    result = run(app, ["parse", "the [/b] ship on [the left"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_digit_is_lost_at_any_width(width):
    columns = ("method", *(f"Pr@0.{digit} of all" for digit in range(5, 10)), "oIoU", "mIoU", "not measured yet")
    rows = tuple(
        (f"a method of number {row} and a long name", *(f"{row}{col}.66 ± 1.23" for col in range(8)))
        for row in range(1, 4)
    )
    stream = io.StringIO()
    print_tables([ResultTable(title="t", columns=columns, rows=rows)], Console(file=stream, width=width))
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= width
    for row in rows:
        assert all(cell in text for cell in row[1:])


def test_an_ascii_terminal_and_a_closed_pipe_lose_nothing(tmp_path):
    (tmp_path / "a.txt").write_text("the ship 船 on the left\n" * 50, encoding="utf-8")
    command = [sys.executable, "-m", "processing_rrsis.cli.app", "parse-report", str(tmp_path / "a.txt")]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    ascii_run = subprocess.run(
        [*command, "--json", str(tmp_path / "1.json")], capture_output=True, env=environment, timeout=120, check=False
    )
    assert ascii_run.returncode == 0, ascii_run.stderr
    closed = subprocess.Popen(
        [*command, "--json", str(tmp_path / "2.json")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    closed.stdout.close()
    _, errors = closed.communicate(timeout=120)
    assert b"Traceback" not in errors
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()
