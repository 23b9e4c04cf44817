"""The command line: results, one-sentence errors, quick help."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from processing_rrsis.cli.app import BUSY, HUGE_PAGES, NO_BARS, SHORT_SPIN, app
from processing_rrsis.hub.model_folder import save_hub_folder
from processing_rrsis.reports.overlay import paint_overlay
from tests.tiny import build_tiny_model, build_tiny_processor

run = CliRunner().invoke


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return save_hub_folder(build_tiny_model("lavt"), build_tiny_processor(), tmp_path_factory.mktemp("cli") / "best")


@pytest.fixture(scope="module")
def image_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli_image") / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, size=(30, 44, 3), dtype=np.uint8)).save(path)
    return path


def test_segment_writes_mask_and_overlay(model_folder, image_file, tmp_path):
    mask, overlay = tmp_path / "mask.png", tmp_path / "overlay.png"
    result = run(
        app,
        [
            "segment",
            str(image_file),
            "a ship",
            "-m",
            str(model_folder),
            "-o",
            str(mask),
            "--overlay",
            str(overlay),
            "--threshold",
            "0",
        ],
    )
    assert result.exit_code == 0, result.output
    picture = Image.open(mask)
    assert (picture.mode, picture.size) == ("L", (44, 30))
    assert Image.open(overlay).size == (44, 30)
    assert '"a ship": 1320 of 1320 px (100.00 %), confidence 0.' in result.output


def test_segment_says_when_nothing_is_found(model_folder, image_file, tmp_path):
    arguments = [
        "segment",
        str(image_file),
        "a ship",
        "-m",
        str(model_folder),
        "-o",
        str(tmp_path / "m.png"),
        "--threshold",
        "1",
    ]
    result = run(app, arguments)
    assert result.exit_code == 0
    assert "nothing found" in result.output


def test_segment_several_expressions_to_every_kind_of_file(model_folder, image_file, tmp_path):
    features = pytest.importorskip("rasterio.features", reason="polygons need rasterio")
    names = {"-o": "mask.png", "--overlay": "all.jpg", "--polygons": "all.geojson", "--probability": "p.tif"}
    options = [part for option, name in names.items() for part in (option, str(tmp_path / name))]
    arguments = [str(image_file), "a ship", "the dam on the left", "-m", str(model_folder), *options]
    result = run(app, ["segment", *arguments, "--threshold", "0.45"])
    assert result.exit_code == 0, result.output
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"mask-1.png", "mask-2.png", "p-1.tif", "p-2.tif", "all.jpg", "all.geojson"}
    collection = json.loads((tmp_path / "all.geojson").read_text())
    assert [item["properties"]["expression"] for item in collection["features"]] == ["a ship", "the dam on the left"]
    for number, feature in enumerate(collection["features"], start=1):
        mask = np.asarray(Image.open(tmp_path / f"mask-{number}.png"))
        probability = np.asarray(Image.open(tmp_path / f"p-{number}.tif"))
        assert probability.dtype == np.float32
        np.testing.assert_array_equal(mask == 255, probability > 0.45)
        drawn = features.rasterize([(feature["geometry"], 255)], out_shape=mask.shape)
        np.testing.assert_array_equal(drawn, mask)
        assert feature["properties"]["area_px"] == (mask == 255).sum()
    lines = [line for line in result.output.splitlines() if line.startswith('"')]
    assert len(lines) == 2
    gray = [str(image_file), "a ship", "-m", str(model_folder), "-o", str(tmp_path / "m.png")]
    assert run(app, ["segment", *gray, "--probability", str(tmp_path / "p.png")]).exit_code == 0
    values = np.asarray(Image.open(tmp_path / "p.png"))
    first = np.asarray(Image.open(tmp_path / "p-1.tif"))
    assert values.dtype == np.uint8
    assert np.abs(values / 255 - first).max() < 0.5 / 255 + 1e-4


def test_errors_are_one_sentence(model_folder, image_file, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.json").write_text("{}")
    unknown = tmp_path / "unknown"
    unknown.mkdir()
    for name in ("config.json", "processor_config.json"):
        (unknown / name).write_text('{"model_type": "no_such_model"}')
    (unknown / "model.safetensors").write_bytes(b"")
    damaged, incomplete = (shutil.copytree(model_folder, tmp_path / name) for name in ("damaged", "incomplete"))
    (damaged / "model.safetensors").write_bytes((model_folder / "model.safetensors").read_bytes()[:1000])
    weights = load_file(model_folder / "model.safetensors")
    weights.pop(next(name for name in weights if name.startswith("text")))
    save_file(weights, incomplete / "model.safetensors", metadata={"format": "pt"})
    cases = [
        (["nowhere.jpg", "a ship", "-m", str(model_folder)], "nowhere.jpg"),
        ([str(image_file), " ", "-m", str(model_folder)], "expected words such as"),
        ([str(image_file), "a ship", "-m", str(tmp_path / "none")], "train one with"),
        ([str(image_file), "a ship", "-m", str(model_folder.parent)], "did you mean"),
        ([str(image_file), "a ship", "-m", str(empty)], "expected weights (model.safetensors)"),
        ([str(image_file), "a ship", "-m", str(unknown)], "no_such_model"),
        ([str(image_file), "a ship", "-m", str(damaged)], "got damaged or cut ones"),
        ([str(image_file), "a ship", "-m", str(incomplete)], "tensors that config.json asks for are missing"),
        (
            [str(image_file), "a ship", "-m", str(model_folder), "-o", str(tmp_path / "no" / "m.png")],
            "create it first",
        ),
        ([str(image_file), "a ship", "-m", str(model_folder), "-o", str(tmp_path / "m.xyz")], ".bmp, got"),
        ([str(image_file), "a ship", "-m", str(model_folder), "-o", str(tmp_path / "m.jpg")], "ends with .png"),
        ([str(image_file), "a ship", "-m", str(model_folder), "--polygons", str(tmp_path / "m.shp")], ".json, got"),
        ([str(image_file), "ship", "-m", str(model_folder), "-o", "m.png", "--overlay", "m.png"], "a file of its own"),
    ]
    for arguments, expected in cases:
        result = run(app, ["segment", *arguments])
        assert result.exit_code == 1, arguments
        assert expected in result.output.replace("\n", " "), result.output
        assert "Traceback" not in result.output


def test_parse_shows_object_and_position():
    result = run(app, ["parse", "The ship on the lower left of the dam"])
    assert result.exit_code == 0
    assert "object    ship" in result.output
    assert "position  on the lower left of the dam" in result.output
    own = run(app, ["parse", "the silo near the pier", "--categories", "silo, pier"])
    assert "object    silo" in own.output
    nothing = run(app, ["parse", "Bridge", "--alignment", "word"])
    assert "the model reads no object" in nothing.output
    for arguments in (["x", "--categories", "rsisd"], ["x", "--alignment", "letter"], [""]):
        result = run(app, ["parse", *arguments])
        assert result.exit_code == 1
        assert "expected" in result.output


@pytest.mark.parametrize("command", [[], ["segment"], ["demo"], ["parse"]])
def test_help_teaches(command):
    result = run(app, [*command, "--help"])
    assert result.exit_code == 0
    assert not command or "Example" in result.output


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from typer.testing import CliRunner; from processing_rrsis.cli.app import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'transformers', 'numpy', 'PIL', 'datasets', 'nltk'} & set(sys.modules)\n"
        "raise SystemExit(f'imported {heavy}' if heavy else 0)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr


def test_commands_that_segment_ask_for_huge_pages(monkeypatch):
    monkeypatch.setenv(HUGE_PAGES, "0")  # the user's word counts
    run(app, ["segment", "--help"])
    assert os.environ[HUGE_PAGES] == "0"
    monkeypatch.delenv(HUGE_PAGES)
    for command, expected in (("benchmark", None), ("segment", "1")):
        assert run(app, [command, "--help"]).exit_code == 0
        assert os.environ.get(HUGE_PAGES) == expected


def test_overlay_paints_inside_only():
    picture, mask = Image.new("RGB", (20, 20), (0, 0, 0)), Image.new("L", (20, 20), 0)
    mask.paste(255, (5, 5, 15, 15))
    painted = np.asarray(paint_overlay(picture, mask))
    assert painted[0, 0].tolist() == [0, 0, 0]
    assert painted[5, 10].tolist() == [255, 40, 40]  # the outline
    assert painted[10, 10].tolist() == [115, 18, 18]  # 0.45 of the colour
    second = Image.new("L", (20, 20), 0)
    second.paste(255, (0, 0, 3, 3))
    painted = np.asarray(paint_overlay(picture, [mask, second]))
    assert painted[10, 10].tolist() == [115, 18, 18]
    assert painted[1, 1].tolist() == [0, 72, 115]  # of the second colour


@pytest.mark.skipif(not hasattr(os, "getloadavg"), reason="this system tells no load")
@pytest.mark.parametrize(("load", "own", "expected"), [(1.1, None, "1000"), (0.9, None, None), (1.1, "5", "5")])
def test_threads_give_busy_cores_away(monkeypatch, load, own, expected):
    name, _ = SHORT_SPIN
    monkeypatch.setenv(name, own or "")  # so that it is put back
    if own is None:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "getloadavg", lambda: (load * BUSY * os.cpu_count(), 0.0, 0.0))
    assert run(app, ["recipes"]).exit_code == 0
    assert os.environ.get(name) == expected


def test_a_log_has_no_bars_of_datasets(monkeypatch):
    monkeypatch.setenv(NO_BARS, "")
    monkeypatch.delenv(NO_BARS)
    assert run(app, ["recipes"]).exit_code == 0
    assert os.environ[NO_BARS] == "1"
