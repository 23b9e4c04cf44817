"""Bands, palettes, stretches, validity; masks on the ground of rasters of every kind; layers that others read."""

import os
import shutil

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Geod
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioIOError
from rasterio.windows import Window
from rio_cogeo import cog_validate

from processing_rrsis.errors import RRSISError
from processing_rrsis.scenes import segment_scene
from processing_rrsis.scenes.reading.source import open_scene

from .rasters import GRID, looking_around, noise, red_reader, write_raster

OPTIONS = {"model": red_reader, "tile_size_px": 32, "overlap_px": 8}


def read_all(path, **options):
    with open_scene(path, **options) as scene:
        return scene.read(Window(0, 0, scene.width_px, scene.height_px)), scene.stretch


def test_values_of_8_bits_are_left_alone_and_others_are_stretched_once(tmp_path):
    values = noise(40, 40)
    (picture, _), stretch = read_all(write_raster(tmp_path / "byte.tif", values))
    assert stretch is None
    assert (picture == values.transpose(1, 2, 0)).all()
    deep = np.linspace(1000, 3000, 3 * 40 * 40).reshape(3, 40, 40).astype(np.uint16)
    path = write_raster(tmp_path / "deep.tif", deep)
    (picture, _), stretch = read_all(path)
    assert stretch == tuple((pytest.approx(np.percentile(b, 2)), pytest.approx(np.percentile(b, 98))) for b in deep)
    (picture, _), stretch = read_all(path, stretch=[1000, 3000])
    assert stretch == ((1000, 3000),) * 3
    assert picture.reshape(-1, 3)[0].tolist() == [0, 85, 170]  # thirds of the range


def test_nan_and_nodata_are_not_valid_and_do_not_stretch(tmp_path):
    values = np.linspace(0, 1, 3 * 30 * 30, dtype=np.float32).reshape(3, 30, 30)
    values[1, :5] = np.nan
    values[:, 20:] = -9999
    (picture, valid), stretch = read_all(write_raster(tmp_path / "float.tif", values, nodata=-9999))
    assert (~valid).sum() == 15 * 30
    assert min(low for low, _ in stretch) >= 0
    assert (picture[:5, :, 1] == 0).all()


def test_alpha_and_a_mask_of_its_own(tmp_path):
    values = np.concatenate([noise(30, 30), np.full((1, 30, 30), 255, np.uint8)])
    values[3, :, :10] = 0
    path = write_raster(tmp_path / "alpha.tif", values, photometric="RGB", ALPHA="YES")
    with rasterio.open(path) as raster:
        assert raster.colorinterp[3] is ColorInterp.alpha
    assert read_all(path)[0][1].sum() == 20 * 30
    path = write_raster(tmp_path / "mask.tif", noise(30, 30))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as raster:
        raster.write_mask(values[3])
    assert (tmp_path / "mask.tif.msk").exists()
    assert read_all(path)[0][1].sum() == 20 * 30


def test_palettes_and_single_bands(tmp_path):
    path = tmp_path / "palette.tif"
    profile = {"width": 2, "height": 1, "count": 1, "dtype": "uint8", "photometric": "palette", "transform": GRID}
    with rasterio.open(path, "w", driver="GTiff", **profile) as raster:
        raster.write_colormap(1, {0: (1, 2, 3), 7: (200, 100, 50)})
        raster.write(np.array([[[0, 7]]], dtype=np.uint8))
    assert read_all(path)[0][0].tolist() == [[[1, 2, 3], [200, 100, 50]]]
    gray = write_raster(tmp_path / "gray.tif", noise(8, 8)[:1])
    assert (np.ptp(read_all(gray)[0][0], axis=2) == 0).all()


def test_bands_that_are_not_plain_are_listed(tmp_path):
    path = write_raster(tmp_path / "five.tif", np.zeros((5, 8, 8), np.uint16))
    with pytest.raises(ValueError, match=r"1 gray uint16, 2 undefined uint16.*--bands"), open_scene(path):
        pass
    with open_scene(path, bands=[4, 3, 2]) as scene:
        assert scene.choice.indexes == (4, 3, 2)


PLACES = {
    "north-up": (GRID, "EPSG:32633"),
    "rotated": (GRID @ Affine.rotation(30) if hasattr(Affine, "__matmul__") else GRID, "EPSG:32633"),
    "south-up": (Affine(0.5, 0, 500_000, 0, 0.5, 5_000_000), "EPSG:32633"),
    "geographic": (Affine(1e-5, 0, 14, 0, -1e-5, 46), "EPSG:4326"),
    "feet": (Affine(2, 0, 2_000_000, 0, -2, 700_000), "EPSG:2263"),
}


@pytest.mark.parametrize("place", PLACES)
def test_masks_and_layers_lie_on_the_ground_of_the_scene(tmp_path, place):
    transform, crs = PLACES[place]
    values = noise(70, 90)
    source = write_raster(tmp_path / "scene.tif", values, transform=transform, crs=crs)
    mask, layer, parquet = (tmp_path / name for name in ("mask.tif", "layer.gpkg", "layer.parquet"))
    result = segment_scene(source, "the ship", mask, vector=layer, **OPTIONS)
    segment_scene(source, "the ship", vector=parquet, **OPTIONS)
    with rasterio.open(source) as raster, rasterio.open(mask) as found:
        assert found.crs == raster.crs
        assert found.transform.almost_equals(raster.transform)
        assert (found.read(1) == (values[0] > 127)).all()
        foreground = found.read(1) == 1
    frame, table = geopandas.read_file(layer), geopandas.read_parquet(parquet)
    assert frame.crs == table.crs == crs
    assert len(frame) == len(table) == len(result[0].objects)
    pixel = abs(transform.determinant)
    assert frame.area.sum() == pytest.approx(foreground.sum() * pixel, rel=1e-6)
    truth = [abs(Geod(ellps="WGS84").geometry_area_perimeter(shape)[0]) for shape in frame.to_crs(4326).geometry]
    assert frame.area_m2.tolist() == pytest.approx(truth, rel=1e-3)
    assert table.area_m2.sum() == pytest.approx(frame.area_m2.sum())
    assert cog_validate(mask, quiet=True)[0]


def test_objects_that_may_go_on_are_told(tmp_path):
    values = np.zeros((3, 64, 64), np.uint8)
    values[:, 1:60, 1:60] = 1
    values[0, 10:20, 10:20] = 255  # alone
    values[0, 30:40, 50:60] = 255  # beside pixels that are not valid
    values[:, 60:, :9] = 1
    values[0, 60:, :9] = 255  # at the frame
    source = write_raster(tmp_path / "scene.tif", values, nodata=0)
    found = segment_scene(source, "the ships", model=red_reader, tile_size_px=64)[0].objects
    assert [(item.outline_px.bounds, item.touches_edge) for item in found] == [
        ((10, 10, 20, 20), False),
        ((50, 30, 60, 40), True),
        ((0, 60, 9, 64), True),
    ]
    assert [item.score for item in found] == [1.0, 1.0, 1.0]
    assert found[0].area_m2 == pytest.approx(25.0, rel=1e-3)


def test_small_pieces_are_dropped_from_mask_and_layer(tmp_path):
    values = np.zeros((3, 64, 64), np.uint8)
    values[0, 5:7, 5:7] = 255
    values[0, 20:40, 20:40] = 255
    source = write_raster(tmp_path / "scene.tif", values)
    result = segment_scene(source, "the ships", tmp_path / "mask.tif", min_area_m2=10, **OPTIONS)
    assert len(result[0].objects) == 1
    with rasterio.open(tmp_path / "mask.tif") as raster:
        assert raster.read(1).sum() == 400


def test_without_a_crs_there_is_no_area_and_no_geojson(tmp_path):
    source = write_raster(tmp_path / "scene.tif", noise(40, 40), crs=None, transform=Affine.identity())
    result = segment_scene(source, "the northernmost ship", model=red_reader, tile_size_px=32)
    assert result[0].objects[0].area_m2 is None
    assert "no CRS" in result.warnings[0]
    with pytest.raises(ValueError, match="GeoJSON"):
        segment_scene(source, "the ship", vector=tmp_path / "layer.geojson", **OPTIONS)
    corners = [GroundControlPoint(row, col, *(GRID @ (col, row))) for row in (0, 40) for col in (0, 40)]
    with rasterio.open(source, "r+") as raster:
        raster.gcps = corners, rasterio.CRS.from_epsg(32633)
    result = segment_scene(source, "the ship", model=red_reader, tile_size_px=32)
    assert "control points" in result.warnings[0]


def vrt_of(source, rows=30):
    band = f'<VRTRasterBand dataType="Byte" band="{{}}"><SimpleSource><SourceFilename relativeToVRT="1">{source}'
    band += "</SourceFilename><SourceBand>BAND</SourceBand></SimpleSource></VRTRasterBand>"
    bands = "".join(band.replace("BAND", number) for number in "123")
    return f'<VRTDataset rasterXSize="30" rasterYSize="{rows}">{bands}</VRTDataset>'


WMS = "<GDAL_WMS><Service name='TMS'><ServerUrl>http://127.0.0.1:9/${z}</ServerUrl></Service></GDAL_WMS>"
LEADING = {  # form: (the scene's name, files)
    "a pipe": ("{}/pipe.tif", {}),
    "a pipe in a VRT": ("{}/scene.vrt", {"scene.vrt": vrt_of("pipe.tif")}),
    "a pipe in a VRT in a VRT": ("{}/scene.vrt", {"scene.vrt": vrt_of("a/../b.vrt"), "b.vrt": vrt_of("pipe.tif")}),
    "a pipe beside": ("{}/good.tif", {"good.tif.aux.xml": None}),
    "a pipe's world file": ("{}/good.tif", {"good.tfw": None}),
    "a VRT under another name": ("{}/scene.tif", {"scene.tif": vrt_of("good.tif")}),
    "such a one in a VRT": (
        "scene.vrt",
        {"scene.vrt": vrt_of("b.dat"), "b.dat": vrt_of("/vsicurl/http://127.0.0.1:9/")},
    ),
    "a map server": ("{}/scene.tif", {"scene.tif": WMS}),
    "a map server in a VRT": ("{}/scene.vrt", {"scene.vrt": vrt_of("b.xml"), "b.xml": WMS}),
    "a pipe as an archive": ("/vsizip/{}/pipe.tif/a.tif", {}),
    "a pipe as a page": ("GTIFF_DIR:1:{}/pipe.tif", {}),
    "nothing": ("/there-is-none.tif", {}),
    "a pipe as an address": ("file://{}/pipe.tif", {}),
    "a pipe as a packed file in a VRT": ("{}/scene.vrt", {"scene.vrt": vrt_of("/vsigzip/{}/pipe.tif")}),
    "another driver's": ("{}/scene.tif", {"scene.tif": '{"type": "FeatureCollection", "stac_version": "1.0.0"}'}),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("form", LEADING)
def test_what_leads_elsewhere_is_not_followed(tmp_path, form):
    """A pipe has no end, and a table's files could reach servers: both are a sentence, before GDAL looks."""
    name, files = LEADING[form]
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "pipe.tif")
    write_raster(tmp_path / "good.tif", noise(30, 30))
    for file, text in files.items():
        os.mkfifo(tmp_path / file) if text is None else (tmp_path / file).write_text(text.replace("{}", str(tmp_path)))
    with (
        pytest.raises((RRSISError, OSError), match="expected"),
        open_scene(name.replace("{}", str(tmp_path)), bands=[1, 2, 3]),
    ):
        pass


def test_a_vrt_is_read_under_its_own_name(tmp_path):
    values = noise(30, 30)
    write_raster(tmp_path / "good.tif", values)
    (tmp_path / "b.VRT").write_text(vrt_of("good.tif"))
    (tmp_path / "scene.vrt").write_text(vrt_of("b.VRT"))
    (picture, _), _ = read_all(tmp_path / "scene.vrt", bands=[1, 2, 3])
    assert (picture == values.transpose(1, 2, 0)).all()
    shutil.copy(tmp_path / "good.tif", tmp_path / "good")  # a name without an ending is no reason
    assert (read_all(tmp_path / "good")[0][0] == picture).all()
    assert (read_all(f"vrt://{tmp_path}/good.tif?bands=1,2,3")[0][0] == picture).all()
    (tmp_path / "own.vrt").write_text(vrt_of("a/../own.vrt"))
    (tmp_path / "a").mkdir()
    with pytest.raises(RasterioIOError), open_scene(tmp_path / "own.vrt", bands=[1, 2, 3]) as scene:
        scene.read(Window(0, 0, 30, 30))


@pytest.mark.parametrize("frame", ["tile", "scene"])
def test_nan_without_a_tag_is_not_valid_in_any_frame(tmp_path, frame):
    values = noise(60, 70).astype(np.float32)
    values[:, :20] = np.nan
    scene = write_raster(tmp_path / "scene.tif", values)
    segment_scene(scene, "the ship", tmp_path / "mask.tif", model=looking_around, frame=frame, tile_size_px=32)
    with rasterio.open(tmp_path / "mask.tif") as mask:
        found = mask.read(1)
    assert (found[:20] == 255).all()
    assert (found[20:] < 255).all()
