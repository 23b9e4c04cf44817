"""`rrsis scene` with small networks: the blend of the whole frame, batches, places, errors of one sentence."""

import json

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

from processing_rrsis.cli.app import app
from processing_rrsis.pipeline_rrsis import ReferringSegmentationPipeline
from processing_rrsis.scenes import segment_scene
from processing_rrsis.scenes.reader import NetworkReader, open_reader
from processing_rrsis.scenes.tiling import Tiling

from ..runtimes.conftest import SIZE_PX, build_model, build_tiny_processor, save_model
from .rasters import blend_of_the_whole, noise, write_raster


def build_pipeline(name):
    processor = build_tiny_processor()
    processor.image_processor.size = {"height": SIZE_PX, "width": SIZE_PX}
    return ReferringSegmentationPipeline(model=build_model(name), processor=processor)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return save_model("lavt", tmp_path_factory.mktemp("model"))


def run(*arguments):
    result = CliRunner().invoke(app, ["scene", *map(str, arguments)], env={"COLUMNS": "200"})
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize("name", ["lavt", "danet", "fianet"])
def test_no_pixel_differs_from_the_blend_of_the_whole_frame(tmp_path, name):
    values = noise(150, 190)
    source = write_raster(tmp_path / "scene.tif", values)
    pipeline = build_pipeline(name)
    phrases = ["the ship", "a large red vehicle"]
    segment_scene(source, phrases, tmp_path / "mask.tif", model=pipeline, frame="tile")
    tiling = Tiling(190, 150, tile_px=SIZE_PX, overlap_px=SIZE_PX // 4)
    expected = blend_of_the_whole(values, NetworkReader(pipeline), phrases, tiling)
    with rasterio.open(tmp_path / "mask.tif") as raster:
        found = raster.read()
    assert (found == (expected > 0.5)).all()
    assert 0 < found.mean() < 1


def test_batches_over_windows_and_phrases_change_nothing():
    pipeline = build_pipeline("fianet")
    windows = np.stack([noise(SIZE_PX, SIZE_PX, seed).transpose(1, 2, 0) for seed in range(3)])
    phrases = ["the ship", "a large red vehicle", "the dam on the left"]
    single = NetworkReader(pipeline, batch_size=1)(windows, phrases)
    for size in (2, 3, 4, 6, 20):
        found = NetworkReader(pipeline, batch_size=size)(windows, phrases)
        np.testing.assert_allclose(found, single, atol=1e-4)


def test_what_a_reader_can_be():
    with pytest.raises(TypeError, match="ReferringSegmentationPipeline"):
        open_reader(3)
    with pytest.raises(ValueError, match="batch_size"):
        open_reader(noise, batch_size=0)


def test_the_command_writes_what_it_is_asked_for(tmp_path, model_folder):
    source = write_raster(tmp_path / "scene.tif", noise(150, 190))
    mask, layer, preview = (tmp_path / name for name in ("mask.tif", "layer.geojson", "preview.png"))
    arguments = [source, "the ships on the left", "the ship", "-m", model_folder, "-o", mask, "--vector", layer]
    code, said = run(*arguments, "--preview", preview, "--min-area-m2", "4")
    assert code == 0, said
    assert "hybrid: place resolved in the whole scene: 'the ships', left (image)" in said
    with rasterio.open(mask) as raster:
        assert raster.descriptions == ("the ships on the left", "the ship")
        assert raster.profile["nodata"] == 255
    features = json.loads(layer.read_text())["features"]
    assert {"expression", "score", "area_m2", "touches_edge"} == set(features[0]["properties"])
    assert min(feature["properties"]["area_m2"] for feature in features) >= 4
    longitude, latitude = features[0]["geometry"]["coordinates"][0][0]
    assert (longitude, latitude) == (pytest.approx(15, abs=0.01), pytest.approx(45.15, abs=0.01))
    assert preview.stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--bands", "1,2,9"], "one number or three between 1 and 3"),
        (["--stretch", "3,1"], "a lower and a higher number"),
        (["--stretch", "high"], "--stretch: expected numbers"),
        (["--vector", "layer.shp"], "ends in .gpkg"),
        (["--resolution-m", "0"], "above 0"),
        (["--tile-size", "4"], "at least 8 pixels"),
    ],
)
def test_what_is_refused_in_one_sentence(tmp_path, model_folder, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    write_raster(tmp_path / "scene.tif", noise(80, 80))
    code, output = run("scene.tif", "the ship", "-m", model_folder, *options)
    assert code == 1
    assert said in output
    assert "Traceback" not in output


def test_a_scene_that_is_none(tmp_path, model_folder):
    (tmp_path / "scene.tif").write_text("no raster")
    code, output = run(tmp_path / "scene.tif", "the ship", "-m", model_folder, "-o", tmp_path / "mask.tif")
    assert code == 1
    assert "expected a raster that GDAL opens" in output


def test_tiles_are_as_large_on_the_ground_as_the_model_expects(tmp_path):
    source = write_raster(tmp_path / "scene.tif", noise(100, 100))  # 0.5 m
    asked = []

    def reader(windows, phrases):
        asked.append(windows.shape)
        return np.zeros((len(windows), len(phrases), *windows.shape[1:3]), np.float32)

    segment_scene(source, "the ship", model=reader, tile_size_px=20, resolution_m=1.0)
    assert {shape[1:3] for shape in asked} == {(40, 40)}
