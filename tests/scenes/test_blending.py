"""The blend by strips and by blocks of columns is the blend of the whole frame; its weights are above zero."""

import numpy as np
import pytest
import rasterio

from processing_rrsis.scenes import segment_scene, tiling
from processing_rrsis.scenes.tiling import Tiling, tile_starts, tile_weights

from .rasters import blend_of_the_whole, looking_around, noise, write_raster


@pytest.mark.parametrize(
    ("length", "starts"),
    [(100, [0, 24, 48, 68]), (32, [0]), (33, [0, 1]), (31, [0]), (1, [0]), (56, [0, 24]), (57, [0, 24, 25])],
)
def test_the_last_tile_is_moved_back_into_the_frame(length, starts):
    assert tile_starts(length, tile_px=32, overlap_px=8) == starts


def test_weights_are_above_zero_and_fall_over_the_overlap():
    weights = tile_weights(8, 2)
    assert weights.tolist() == [0.25, 0.75, 1, 1, 1, 1, 0.75, 0.25]
    assert tile_weights(4, 0).tolist() == [1, 1, 1, 1]


def test_refused_tilings():
    with pytest.raises(ValueError, match="tile_size_px"):
        Tiling(100, 100, tile_px=4, overlap_px=0)
    with pytest.raises(ValueError, match="overlap_px"):
        Tiling(100, 100, tile_px=32, overlap_px=17)


SIZES = [(32, 32), (33, 47), (100, 71), (20, 90), (90, 20), (1, 64), (64, 1), (1, 1), (57, 56), (31, 200)]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("overlap", [0, 8, 13])
def test_no_pixel_differs_from_the_blend_of_the_whole_frame(tmp_path, height, width, overlap):
    values = noise(height, width, seed=height * width)
    source = write_raster(tmp_path / "scene.tif", values)
    segment_scene(
        source,
        ["the ship", "the dam"],
        tmp_path / "mask.tif",
        model=looking_around,
        tile_size_px=32,
        overlap_px=overlap,
        probability=tmp_path / "probability.tif",
        threshold=0.55,
    )
    expected = blend_of_the_whole(
        values, looking_around, ["the ship", "the dam"], Tiling(width, height, tile_px=32, overlap_px=overlap)
    )
    with rasterio.open(tmp_path / "mask.tif") as raster:
        assert (raster.read() == (expected > 0.55)).all()
    with rasterio.open(tmp_path / "probability.tif") as raster:
        np.testing.assert_allclose(raster.read(), expected, atol=1e-6)


def test_blocks_of_columns_change_nothing(tmp_path, monkeypatch):
    values = noise(90, 300)
    source = write_raster(tmp_path / "scene.tif", values)
    options = {"model": looking_around, "tile_size_px": 32, "overlap_px": 8, "threshold": 0.55}
    segment_scene(source, "the ship", tmp_path / "one.tif", **options)
    monkeypatch.setattr(tiling, "BLOCK_AREA_PX", 32 * 60)
    assert len(Tiling(300, 90, tile_px=32, overlap_px=8).blocks) == 6
    segment_scene(source, "the ship", tmp_path / "six.tif", **options)
    with rasterio.open(tmp_path / "one.tif") as one, rasterio.open(tmp_path / "six.tif") as six:
        assert (one.read() == six.read()).all()


def test_pixels_that_are_not_valid_are_255_and_windows_without_any_cost_nothing(tmp_path):
    values = noise(100, 100)
    values[:, :, :70] = 0
    source = write_raster(tmp_path / "scene.tif", values, nodata=0)
    asked = []

    def reader(windows, phrases):
        asked.append(len(windows))
        return looking_around(windows, phrases)

    segment_scene(source, "the ship", tmp_path / "mask.tif", model=reader, tile_size_px=32, overlap_px=8)
    with rasterio.open(tmp_path / "mask.tif") as raster:
        invalid = (values == 0).all(axis=0)
        assert (raster.read(1)[invalid] == 255).all()
        assert (raster.read(1)[~invalid] != 255).all()
    assert sum(asked) == 2 * 4  # of 4 columns of tiles those that begin at 48 and 68 reach over column 70


def test_the_scene_frame_is_one_question_about_the_whole(tmp_path):
    values = np.zeros((3, 80, 160), dtype=np.uint8)
    values[0, :, 80:] = 255
    source = write_raster(tmp_path / "scene.tif", values)
    asked = []

    def reader(windows, phrases):
        asked.append(windows.shape)
        return windows[:, None, :, :, 0].astype(np.float32) / 255

    result = segment_scene(
        source, "the upper ship", tmp_path / "mask.tif", model=reader, tile_size_px=32, frame="scene"
    )
    assert asked == [(1, 32, 32, 3)]
    assert result[0].frame == "scene"
    with rasterio.open(tmp_path / "mask.tif") as raster:
        assert (raster.read(1) == (values[0] > 0)).all()
