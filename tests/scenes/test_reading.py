"""Files behind a raster, names without secrets, values of every width and what is valid of them."""

import os
import zipfile

import numpy as np
import pytest
import rasterio
import shapely
from pyproj import CRS, Geod

from processing_rrsis.errors import RRSISError
from processing_rrsis.scenes import segment_scene
from processing_rrsis.scenes.frames.ground import Ground
from processing_rrsis.scenes.reading.files import file_states, local_files, public_name
from processing_rrsis.scenes.reading.source import open_scene

from .rasters import noise, red_reader, write_raster


def write_vrt(path, source, size=(40, 50)):
    height, width = size
    band = "<VRTRasterBand dataType='Byte' band='{0}'><ColorInterp>{1}</ColorInterp><SimpleSource><SourceFilename"
    band += " relativeToVRT='1'>{2}</SourceFilename><SourceBand>{0}</SourceBand></SimpleSource></VRTRasterBand>"
    bands = "".join(band.format(n, c, source) for n, c in enumerate(("Red", "Green", "Blue"), start=1))
    path.write_text(f"<VRTDataset rasterXSize='{width}' rasterYSize='{height}'>{bands}</VRTDataset>")
    return path


def test_files_behind_a_vrt_of_a_vrt_and_in_an_archive_are_known(tmp_path):
    leaf = write_raster(tmp_path / "leaf.tif", noise(40, 50))
    outer = write_vrt(tmp_path / "outer.vrt", write_vrt(tmp_path / "inner.vrt", "leaf.tif").name)
    assert set(file_states(str(outer))) == {"outer.vrt", "inner.vrt", "leaf.tif"}
    before = file_states(str(outer))
    os.utime(leaf, (1e9, 1e9))
    assert file_states(str(outer)) != before
    with pytest.raises(ValueError, match=r"leaf\.tif: expected a name of its own for a result"):
        segment_scene(outer, "the ship", leaf, model=red_reader, overwrite=True)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(leaf, "x.tif")
    inside = f"{tmp_path}/a.zip"
    for address in (f"zip://{inside}!x.tif", f"/vsizip/{inside}/x.tif", f"/vsizip/{{{inside}}}/x.tif"):
        assert local_files(address) == [tmp_path / "a.zip"]
        with pytest.raises(ValueError, match=r"a\.zip: expected a name of its own|ends with"):
            segment_scene(address, "the ship", tmp_path / "a.zip", model=red_reader, overwrite=True)
    assert zipfile.is_zipfile(tmp_path / "a.zip")


def test_a_mask_beside_a_raster_and_an_item_before_it_are_known(tmp_path):
    write_raster(tmp_path / "k.tif", noise(8, 8))
    (tmp_path / "k.tif.msk").touch()
    (tmp_path / "item.json").write_text('{"assets": {"visual": {"href": "k.tif", "type": "image/tiff"}}}')
    assert set(file_states(str(tmp_path / "k.tif"))) == {"k.tif", "k.tif.msk"}
    assert set(file_states(str(tmp_path / "item.json"))) == {"item.json", "k.tif", "k.tif.msk"}
    assert file_states(str(tmp_path / "none.tif")) == {}


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://u:pw@h/a.tif?sig=s#x", "https://h/a.tif"),
        ("/vsizip//vsicurl/http://u:pw@h/a.zip/a.tif", "/vsizip//vsicurl/http://h/a.zip/a.tif"),
        ("vrt://https://u:pw@h/a.tif?bands=1", "vrt://https://h/a.tif"),
        ("COG:https://u:p@w@h/a", "COG:https://h/a"),
        ('NETCDF:"https://u:pw@h/a.nc?token=s":band', 'NETCDF:"https://h/a.nc":band'),
        ("scenes/a#1?.tif", "scenes/a#1?.tif"),
    ],
)
def test_a_name_tells_neither_user_nor_signature(address, name):
    assert public_name(address) == name


@pytest.mark.parametrize(
    "address",
    [
        "/vsisubfile/0_9,a.tif",
        "/vsicached?file=a.tif",
        "/vsistdin/",
        "/vsizip//vsisparse/a",
        "<VRTDataset></VRTDataset>",
    ],
)
def test_what_hides_its_file_is_not_opened(address):
    with pytest.raises(RRSISError, match="name the file itself"), open_scene(address):
        pass


def read_rgb(path, **options):
    with open_scene(path, **options) as scene:
        return scene.read(rasterio.windows.Window(0, 0, scene.dataset.width, scene.dataset.height))[0]


def test_a_band_whose_own_pixels_are_missing_is_stretched_by_the_others(tmp_path):
    values = np.tile(np.linspace(0, 1000, 100, dtype=np.int16), (3, 100, 1))
    values[2, :, ::10] = -9999
    picture = read_rgb(write_raster(tmp_path / "s.tif", values, nodata=-9999))
    assert abs(int(picture[0, 51, 2]) - int(picture[0, 51, 0])) < 8


@pytest.mark.parametrize(
    ("kind", "base", "step"),
    [("uint32", 3e9, 1), ("int32", 2e9, 1), ("float64", 1e9, 0.01), ("float64", 0, 1e-60), ("float64", 0, 1e200)],
)
def test_large_and_small_numbers_keep_their_steps(tmp_path, kind, base, step):
    values = (base + step * np.tile(np.arange(101), (3, 4, 1))).astype(kind)
    picture = read_rgb(write_raster(tmp_path / "s.tif", values))
    assert np.unique(picture[0, :, 0]).size > 90


def test_colours_of_values_beyond_a_byte(tmp_path):
    values = np.full((1, 4, 5), 300, dtype=np.uint16)
    path = write_raster(tmp_path / "s.tif", values, photometric="palette")
    with rasterio.open(path, "r+") as raster:
        raster.write_colormap(1, {255: (0, 0, 255, 255), 300: (255, 0, 0, 255)})
    assert read_rgb(path)[0, 0].tolist() == [255, 0, 0]


def test_valid_pixels_between_those_of_the_decimated_read_decide(tmp_path):
    values = np.zeros((1, 4096, 4096), dtype=np.uint16)
    values[:, 1003:1006, 1003:1006] = np.arange(500, 509).reshape(3, 3)
    with open_scene(write_raster(tmp_path / "s.tif", values, nodata=0, compress="deflate")) as scene:
        ((low, high),) = scene.stretch
    assert 500 <= low < 501
    assert 507 < high <= 508


def test_bytes_of_which_few_bits_are_used_fill_the_range(tmp_path):
    path = write_raster(tmp_path / "s.tif", np.tile(np.arange(4, dtype=np.uint8), (1, 2, 1)), NBITS=2)
    assert read_rgb(path)[0, :, 0].tolist() == [0, 85, 170, 255]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda w, p: np.full((len(w), len(p), *w.shape[1:3]), np.nan), "none \\(NaN\\)"),
        (lambda w, p: np.full((len(w), len(p), *w.shape[1:3]), 3.0), "probabilities from 0 to 1"),
        (lambda w, p: np.zeros((len(w), *w.shape[1:3])), "expected probabilities"),
    ],
)
@pytest.mark.parametrize("frame", ["tile", "scene"])
def test_answers_that_are_no_probabilities_end_the_run(tmp_path, answer, message, frame):
    path = write_raster(tmp_path / "s.tif", noise(40, 50))
    with pytest.raises(RRSISError, match=message):
        segment_scene(path, ["the ship", "the dam"], tmp_path / "m.tif", model=answer, frame=frame, tile_size_px=32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bands": (1.7, 2, 3)}, "expected whole numbers"),
        ({"min_area_m2": float("nan")}, "min_area_m2: expected"),
        ({"simplify_m": -1}, "simplify_m: expected"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(tmp_path, options, message):
    path = write_raster(tmp_path / "s.tif", noise(40, 50))
    with pytest.raises(ValueError, match=message):
        segment_scene(path, "the ship", tmp_path / "m.tif", model=red_reader, **options)


def test_areas_of_large_objects():
    ground = Ground(360, 180, rasterio.transform.from_origin(-180, 90, 1, 1), CRS.from_epsg(4326))
    sphere = Geod(ellps="WGS84")
    strip = shapely.segmentize(shapely.box(-50, -10, 50, 10), 0.001)
    assert ground.area_m2(shapely.box(-50, -10, 50, 10)) == pytest.approx(
        abs(sphere.geometry_area_perimeter(strip)[0]), rel=1e-4
    )


def test_a_crs_without_a_place_is_none(tmp_path):
    path = write_raster(tmp_path / "s.tif", noise(40, 50), transform=rasterio.Affine.identity())
    with rasterio.open(path) as raster:
        assert Ground.of(raster).crs is None
    result = segment_scene(path, "the ship", tmp_path / "m.tif", model=red_reader, tile_size_px=32)
    assert "a CRS and no transform" in result.warnings[0]


def test_a_replaced_mask_leaves_nothing_of_the_former_beside_it(tmp_path):
    path = write_raster(tmp_path / "s.tif", noise(40, 50))
    result = tmp_path / "m.tif"
    segment_scene(path, "the ship", result, model=red_reader, tile_size_px=32)
    write_raster(tmp_path / "m.tif.msk", np.zeros((1, 40, 50), dtype=np.uint8))
    segment_scene(path, "the dam", result, model=red_reader, tile_size_px=32, overwrite=True)
    assert not (tmp_path / "m.tif.msk").exists()
