"""Remote scenes: range requests that fail are tried again or told, and never become blank pixels."""

import json
from contextlib import suppress

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from processing_rrsis.errors import RRSISError
from processing_rrsis.scenes import segment_scene
from processing_rrsis.scenes.reading import source
from processing_rrsis.scenes.reading.files import public_name
from processing_rrsis.scenes.reading.source import open_scene
from processing_rrsis.scenes.reading.stac import stac_asset

from .range_server import serve
from .rasters import noise, red_reader, write_raster

TRIES = 5
OPTIONS = {"model": red_reader, "tile_size_px": 64, "overlap_px": 16}


@pytest.fixture(autouse=True)
def fast_tries(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(source.REMOTE_SETTINGS, "GDAL_HTTP_RETRY_DELAY", "0.01")
    monkeypatch.setattr(source, "REMOTE_PAUSE_S", 0.01)


def grains(height, width):
    """Values that no compression and no blank page resembles."""
    return np.random.default_rng(0).integers(1, 256, (3, height, width), np.uint8)


@pytest.fixture
def scene(tmp_path):
    tile = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    folder = tmp_path / "served"
    folder.mkdir()
    return write_raster(folder / "scene.tif", grains(400, 300), **tile)


def masks_of(address, folder):
    folder.mkdir(exist_ok=True)
    segment_scene(address, "the ship", folder / "mask.tif", **OPTIONS)
    with rasterio.open(folder / "mask.tif") as raster:
        return raster.read()


@pytest.mark.parametrize("fault", [None, "drop", "delay", "truncate", "refuse"])
@pytest.mark.parametrize("every", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_requests_that_fail_now_and_then_change_nothing(scene, tmp_path, fault, every):
    expected = masks_of(scene, tmp_path / "local")
    with serve(scene.parent, fault=fault, every=every) as (address, requests):
        for _ in range(TRIES):  # a request may fail more often than one run tries again
            with suppress(RRSISError):
                found = masks_of(f"{address}/scene.tif", tmp_path / "remote")
                break
            assert not (tmp_path / "remote" / "mask.tif").exists()
    assert (found == expected).all()
    assert requests.count > 0


@pytest.mark.parametrize("fault", ["drop", "truncate", "refuse"])
def test_a_connection_that_is_lost_ends_the_run_and_the_same_command_goes_on(scene, tmp_path, fault):
    expected = masks_of(scene, tmp_path / "local")
    (tmp_path / "remote").mkdir()
    with serve(scene.parent, fault=fault, every=1, after=3) as (address, requests):
        arguments = f"{address}/scene.tif", "the ship", tmp_path / "remote" / "mask.tif"
        with pytest.raises(RRSISError, match=r"rows \d+ to \d+, columns 0 to 300 .* the same command goes on"):
            segment_scene(*arguments, **OPTIONS)
        assert not (tmp_path / "remote" / "mask.tif").exists()
        requests.heal()
        segment_scene(*arguments, **OPTIONS)
    with rasterio.open(tmp_path / "remote" / "mask.tif") as raster:
        assert (raster.read() == expected).all()


def test_a_server_that_never_answers_is_told(tmp_path, scene):
    with serve(scene.parent, fault="drop", every=1) as (address, _), pytest.raises(RRSISError, match="connection"):
        masks_of(f"{address}/scene.tif", tmp_path / "remote")


def test_a_window_costs_its_own_bytes(tmp_path):
    tile = {"tiled": True, "blockxsize": 256, "blockysize": 256}
    path = write_raster(tmp_path / "large.tif", grains(3000, 3000), **tile)
    with serve(tmp_path) as (address, requests), open_scene(f"{address}/large.tif") as remote:
        remote.read(Window(1024, 1024, 300, 300))
    assert requests.sent_bytes < 0.06 * path.stat().st_size


def test_a_signature_is_never_written_down(scene, tmp_path):
    with serve(scene.parent) as (address, _):
        signed = f"{address}/scene.tif?signature=secret"
        segment_scene(signed, "the ship", tmp_path / "mask.tif", **OPTIONS)
        with pytest.raises(RRSISError) as told, open_scene(f"{address}/none.tif?signature=secret"):
            pass
    assert "secret" not in (tmp_path / "mask.tif.receipt.json").read_text()
    assert "secret" not in str(told.value)
    assert public_name("https://me:key@host/scene.tif?x=1#y") == "https://host/scene.tif"


def test_an_asset_of_a_stac_item(tmp_path):
    write_raster(tmp_path / "scene.tif", noise(64, 64))
    item = {"assets": {"visual": {"href": "scene.tif", "type": "image/tiff"}, "nir": {"href": "b.tif", "type": "tif"}}}
    (tmp_path / "item.json").write_text(json.dumps(item))
    assert stac_asset(f"{tmp_path}/item.json") == f"{tmp_path}/scene.tif"
    assert stac_asset(f"{tmp_path}/item.json#nir") == f"{tmp_path}/b.tif"
    with pytest.raises(ValueError, match="visual, nir"):
        stac_asset(f"{tmp_path}/item.json#red")
    with open_scene(f"{tmp_path}/item.json") as scene:
        assert scene.width_px == 64
    for spoiled, message in (
        ({"roles": 5}, None),
        ({"href": "\ud800.tif"}, "expected an address as the asset's href"),
    ):
        item["assets"]["visual"] = {"href": "scene.tif", "type": "image/tiff"} | spoiled
        (tmp_path / "item.json").write_text(json.dumps(item))
        if message is None:
            assert stac_asset(f"{tmp_path}/item.json#visual") == f"{tmp_path}/scene.tif"
        else:
            with pytest.raises(ValueError, match=message):
                stac_asset(f"{tmp_path}/item.json#visual")
