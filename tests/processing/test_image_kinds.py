"""Value ranges, invalid pixels and forms of input: what a user may hand over is right, or refused with a reason."""

import base64
import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from processing_rrsis.image_labels_rrsis import mask_values, to_label_map
from processing_rrsis.image_loading_rrsis import load_image, load_values, to_rgb8
from processing_rrsis.image_values_rrsis import to_bands8

RAMP = np.linspace(0.0, 1.0, 400).reshape(20, 20)


def picture(values):
    return np.asarray(to_rgb8(values), dtype=int)


@pytest.mark.parametrize("factor", [1.0 + 1e-7, 1.001, 1.01, 1.1])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("full", [1.0, 255.0])
def test_a_range_that_is_slightly_left_changes_the_picture_slightly(factor, dtype, full):
    inside, beyond = (picture((RAMP * full * scale).astype(dtype)) for scale in (1.0, factor))
    assert np.abs(inside - beyond).max() <= 2 + 260 * (factor - 1.0)
    below = picture(((RAMP - (factor - 1.0)) * full).astype(dtype))
    assert np.abs(inside - below).max() <= 2 + 520 * (factor - 1.0)


def test_pictures_are_continuous_in_the_range_from_black_to_far_beyond():
    for full in (1.0, 255.0):
        pictures = [picture(RAMP * full * scale) for scale in np.linspace(0.9, 2.5, 80)]
        assert max(np.abs(first - second).mean() for first, second in itertools.pairwise(pictures)) < 6


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64", "uint32", "float32"])
def test_one_step_beyond_8_bits_is_nearly_the_same(dtype):
    inside = np.arange(400).reshape(20, 20).clip(0, 255)
    beyond = inside.copy()
    beyond[-1, -1] = 256
    assert np.abs(picture(inside.astype(np.uint8)) - picture(beyond.astype(dtype))).max() <= 2


@pytest.mark.parametrize("hot", [37.0, 300.0, 1e6])
def test_a_hot_pixel_leaves_reflectance_visible(hot):
    values = RAMP.astype(np.float32).copy()
    values[0, 0] = hot
    assert picture(values).mean() > 100


FACTORS = np.geomspace(0.5, 1000.0, 760)  # steps of 1 %


@pytest.mark.parametrize("values", [RAMP, RAMP**3, RAMP - 0.1, RAMP * 0.6 + 0.4])
def test_floats_have_no_cliff_between_shares_and_8_bits(values):
    pictures = [picture((values * factor).astype(np.float32)) for factor in FACTORS]
    assert max(np.abs(first - second).mean() for first, second in itertools.pairwise(pictures)) < 4


def test_the_window_of_floats_grows_from_1_to_255():
    """With a 98th percentile p of 4 or less it is [0, 1], at 16 [0, 16], at 64 and beyond [0, 255]."""
    values = np.full((10, 10), 16.0)
    values[0, :2] = 4.0, 8.0
    assert picture(values)[0, :3, 0].tolist() == [64, 128, 255]  # 4 / 16 · 255 = 63.75
    values = np.full((10, 10), 64.0)
    values[0, :2] = 4.0, 255.0
    assert picture(values)[0, :3, 0].tolist() == [4, 255, 64]
    bright = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    assert np.array_equal(picture(bright.astype(np.float32)), bright)


@pytest.mark.parametrize("dtype", ["float32", "int16", "int32"])
def test_constant_images_become_black_where_they_leave_8_bits(dtype):
    """White at the window's end c, and with v = c · (1 + b) the window is [b · v, b · v + c · (1 - b) + b · c]."""
    found = [picture(np.full((3, 3), value, dtype=dtype)).max() for value in (255, 300, 382, 450, 510, 3000)]
    assert found == sorted(found, reverse=True)
    assert (found[0], found[-2:]) == (255, [0, 0])
    assert found[2] in (190, 191, 192)  # 1 - b² with b ≈ 0.5


@pytest.mark.parametrize("value", [1e20, 1e300, -1e300])
def test_numbers_without_an_end_have_a_picture(value):
    assert not picture(np.full((3, 3), value)).any()
    assert picture(np.linspace(0, value, 9).reshape(3, 3)).max() == 255


@pytest.mark.parametrize("how", ["nan", "masked", "infinite"])
def test_a_pixel_that_is_invalid_in_one_band_is_black_and_stays_out(how):
    values = np.dstack([RAMP * 1000 + 2000] * 3)
    lost = np.zeros(values.shape, dtype=bool)
    lost[:10, :, 1] = True
    filled = np.where(lost, {"nan": np.nan, "infinite": np.inf, "masked": -9999.0}[how], values)
    found = picture(np.ma.MaskedArray(filled, mask=lost) if how == "masked" else filled)
    assert not found[:10].any()
    assert np.array_equal(found[10:], picture(values[10:]))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("marked", [np.nan, -9999.0])
def test_a_band_without_a_valid_value_is_refused(marked, write):
    bands = np.stack([RAMP, RAMP[::-1], np.full_like(RAMP, marked)]).astype(np.float32)
    with pytest.raises(ValueError, match="choose other bands"):
        load_image(write(bands, nodata=marked))
    with pytest.raises(ValueError, match="choose other bands"):
        to_rgb8(np.ma.masked_equal(bands, marked) if marked < 0 else bands)


@pytest.fixture
def write(tmp_path):
    rasterio = pytest.importorskip("rasterio")

    def write(bands, mask=None, **options):
        path = tmp_path / "scene.tif"
        shape = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype}
        internal = options.pop("internal", True)
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal),
            rasterio.open(path, "w", driver="GTiff", **shape, **options) as file,
        ):
            file.write(bands)
            if mask is not None:
                file.write_mask(mask)
        return path

    return write


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("how", ["nodata", "nan", "inf", "internal mask", "mask beside", "nan nodata"])
def test_invalid_pixels_stay_out_of_the_stretch_in_any_number_of_bands(how, count, write):
    dtype = "float32" if how in ("nan", "inf", "nan nodata") else "uint16"
    bands = np.stack([RAMP * 1000 + 2000] * count).astype(dtype)
    expected = picture(np.moveaxis(bands[: 3 if count >= 3 else 1, 10:], 0, -1))
    bands[:, :10] = {"nan": np.nan, "inf": np.inf, "nan nodata": np.nan}.get(how, 65535)
    mask = np.repeat([0, 255], 200).reshape(20, 20).astype(np.uint8)
    options = {"nodata": {"nodata": 65535}, "nan nodata": {"nodata": np.nan}}.get(how, {})
    path = write(bands, mask if "mask" in how else None, internal=how != "mask beside", **options)
    found = picture(load_image(path))
    assert np.array_equal(found[10:], expected)
    assert not found[:10].any()


def test_alpha_masked_arrays_and_transparent_gray_stay_out_of_the_stretch(tmp_path):
    values = (RAMP * 1000 + 2000).astype(np.uint16)
    expected = picture(values[10:])
    values[:10] = 65535
    alpha = np.repeat([0, 9], 200).reshape(20, 20).astype(np.uint16)
    four = np.stack([values] * 3 + [alpha], axis=-1)
    masked = np.ma.masked_equal(values, 65535)
    Image.fromarray(values).save(tmp_path / "gray.png", transparency=65535)
    for image in (four, torch.from_numpy(four), masked, load_image(tmp_path / "gray.png")):
        found = picture(image)
        assert np.array_equal(found[10:], expected)
        assert not found[:10].any()
    assert np.asarray(to_bands8(np.where(four == 0, 0, 65535).astype(np.uint16))[3])[15, 3] == 255


def test_what_pil_cut_to_8_bits_is_refused(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    bands = np.stack([RAMP * 4095] * 3).astype(np.uint16)
    for driver, name in (("GTiff", "a.tif"), ("PNG", "a.png"), ("JP2OpenJPEG", "a.jp2")):
        options = {"photometric": "rgb"} if driver == "GTiff" else {}
        shape = {"count": 3, "height": 20, "width": 20, "dtype": "uint16"}
        with rasterio.open(tmp_path / name, "w", driver=driver, **shape, **options) as file:
            file.write(bands)
        assert picture(load_image(tmp_path / name)).max() == 255
        with pytest.raises(ValueError, match="PIL loses bits"):
            to_rgb8(Image.open(tmp_path / name))
        if driver == "JP2OpenJPEG":
            continue  # PIL itself doesn't load it
        loaded = Image.open(tmp_path / name)
        loaded.load()
        with pytest.raises(ValueError, match="PIL loses bits"):
            to_rgb8(loaded)


def test_streams_bytes_and_data_urls_are_read(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(colours).save(buffer, "PNG")
    data = buffer.getvalue()
    (tmp_path / "a.png").write_bytes(data)
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    with (tmp_path / "a.png").open("rb") as stream:
        for source in (buffer, data, bytearray(data), url, stream, tmp_path / "a.png"):
            assert np.array_equal(np.asarray(load_image(source)), colours)
    with pytest.raises(FileNotFoundError, match=r"pass the bytes") as error:
        load_image(base64.b64encode(bytes(5000)).decode())
    assert len(str(error.value)) < 400
    with pytest.raises(ValueError, match="expected base64 text"):
        load_image("data:image/png;base64,&&&")
    (tmp_path / "none.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"none\.png.*empty file"):
        load_image(tmp_path / "none.png")
    (tmp_path / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(ValueError, match="got something else"):
        load_image(tmp_path / "script.png")
    with pytest.raises(ValueError, match="a batch"):
        to_rgb8(np.zeros((2, 6, 7, 3), dtype=np.uint8))


def test_a_sparse_tiff_that_would_fill_the_memory_is_refused(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    shape = {"count": 4, "height": 13_300, "width": 13_300, "dtype": "uint16"}
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", SPARSE_OK=True, tiled=True, **shape):
        pass
    with pytest.raises(ValueError, match="decoded at once"):
        load_image(tmp_path / "a.tif")


SHAPE = np.zeros((6, 8), dtype=np.uint8)
SHAPE[2:5, 1:4] = 255


def with_alpha(colours, alpha):
    return Image.fromarray(np.dstack([colours] * 3 + [alpha]).astype(np.uint8))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize(
    ("colours", "alpha"),
    [
        (np.full_like(SHAPE, 255), SHAPE),  # white everywhere, the shape is in alpha
        (SHAPE, SHAPE),
        (SHAPE, np.full_like(SHAPE, 255)),  # opaque
        (SHAPE, np.where(np.arange(8) < 6, 255, 0) * np.ones_like(SHAPE)),  # a transparent black rim
    ],
)
def test_masks_with_alpha_that_say_what_they_mean(mode, colours, alpha):
    mask = with_alpha(colours, alpha).convert(mode)
    if mode == "RGBA" and (alpha == 255).all():
        mask = mask.convert("L")
    assert np.array_equal(to_label_map(mask) * 255, SHAPE)


@pytest.mark.parametrize(
    ("colours", "alpha"),
    [
        (np.zeros_like(SHAPE), SHAPE),  # black on transparent ground: drawn, or left out?
        (255 - SHAPE, SHAPE),  # black drawn on transparent white
        (np.zeros_like(SHAPE), 255 - SHAPE),  # black with a hole
        (np.full_like(SHAPE, 255), SHAPE // 2),  # half transparent
        (np.full_like(SHAPE, 128), SHAPE),
        (SHAPE, np.zeros_like(SHAPE)),  # nothing visible, but a shape below
    ],
)
def test_masks_with_alpha_that_could_mean_two_things_are_refused(colours, alpha):
    for mode in ("RGBA", "LA"):
        with pytest.raises(ValueError, match="without transparency"):
            to_label_map(with_alpha(colours, alpha).convert(mode))


def made(how, shape, ground):
    """A palette image of SHAPE, as Pillow makes its palette."""
    colours = np.where(SHAPE[..., None] > 0, np.uint8(shape), np.uint8(ground))
    image = Image.fromarray(colours.astype(np.uint8))
    if how == "GIF":
        buffer = io.BytesIO()
        image.save(buffer, "GIF")
        return Image.open(buffer)
    return image.quantize(2) if how == "quantize" else image.convert("P", palette=Image.Palette.ADAPTIVE, colors=2)


@pytest.mark.parametrize("how", ["quantize", "adaptive", "GIF"])
@pytest.mark.parametrize(
    ("shape", "ground"),
    [
        ((255, 0, 0), (0, 0, 0)),
        ((255, 255, 0), (0, 0, 0)),
        ((200, 200, 200), (10, 10, 10)),
        ((0, 128, 0), (255, 255, 255)),
        ((255, 255, 255), (255, 0, 0)),
        ((255, 255, 255), (1, 1, 1)),
    ],
)
def test_palettes_made_from_coloured_pixels_are_refused(how, shape, ground):
    image = made(how, shape, ground)
    assert image.mode == "P"
    with pytest.raises(ValueError, match="which colour is the target"):
        to_label_map(image)


@pytest.mark.parametrize(("colours", "wanted"), [([0, 0, 0, 255, 0, 0], SHAPE), ([255] * 3 + [0] * 3, 255 - SHAPE)])
def test_palettes_that_say_what_they_mean(colours, wanted):
    image = Image.fromarray(SHAPE // 255, mode="P")
    image.putpalette(colours)
    assert np.array_equal(to_label_map(image) * 255, wanted)


def test_a_deep_mask_with_a_colour_table_is_refused(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    options = {"driver": "GTiff", "height": 6, "width": 8, "count": 1, "dtype": "uint16"}
    for number, colours in enumerate(({0: (255,) * 4, 1: (0, 0, 0, 255)}, {0: (0, 0, 0, 255), 1: (255, 0, 0, 255)})):
        with rasterio.open(tmp_path / f"{number}.tif", "w", **options) as file:
            file.write(SHAPE.astype(np.uint16) // 255, 1)
            file.write_colormap(1, colours)
        with pytest.raises(ValueError, match="without a colour table"):
            load_values(tmp_path / f"{number}.tif", is_mask=True)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB", "HSV"])
def test_masks_whose_numbers_are_no_brightness_are_refused(mode):
    """Of inks 255 is black: four equal bands would be the complement."""
    with pytest.raises(ValueError, match="brightness"):
        mask_values(Image.merge(mode, [Image.fromarray(SHAPE)] * Image.getmodebands(mode)))
