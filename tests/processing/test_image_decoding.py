"""Files that decode badly, or only in a way of their own: damage, EXIF, TIFFs of many bands."""

import io

import numpy as np
import pytest
from PIL import Image

from processing_rrsis import image_loading_rrsis
from processing_rrsis.image_loading_rrsis import decode_image, exif_orientation, load_image, to_rgb8
from processing_rrsis.image_processing_rrsis import RRSISImageProcessor


def encode(array, image_format, **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format=image_format, **options)
    return buffer.getvalue()


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, size=(40, 56, 3), dtype=np.uint8)


@pytest.fixture
def write_tiff(tmp_path):
    rasterio = pytest.importorskip("rasterio")

    def write(bands, **options):
        count, height, width = bands.shape
        path = tmp_path / "scene.tif"
        colours = options.pop("colours", None)
        with rasterio.open(
            path, "w", driver="GTiff", count=count, height=height, width=width, dtype=bands.dtype, **options
        ) as file:
            file.write(bands)
            if colours:
                file.colorinterp = [rasterio.enums.ColorInterp[name] for name in colours]
        return path

    return write


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF"])
@pytest.mark.parametrize("reduced", [False, True])
def test_damaged_bytes_raise_nothing_but_a_named_error(image_format, reduced, pixels):
    whole = encode(pixels, image_format)
    assert decode_image(whole, name="whole", reduced=reduced).mode in ("RGB", "P")
    generator = np.random.default_rng(1)
    errors = []
    for attempt in range(60):
        data = bytearray(whole[: generator.integers(len(whole))] if attempt % 2 else whole)
        for _ in range(8):
            if data:
                data[generator.integers(min(len(data), 300))] = generator.integers(256)
        try:
            to_rgb8(decode_image(bytes(data), name="a.img", reduced=reduced))
        except ValueError as error:
            errors.append(str(error))
    assert len(errors) > 10
    assert all("a.img" in error for error in errors)


def test_half_a_jpeg_is_refused_when_decoded_at_an_eighth(pixels):
    whole = encode(pixels, "JPEG")
    assert decode_image(whole, name="a.jpg", reduced=True).size == (7, 5)
    with pytest.raises(ValueError, match=r"a\.jpg.*truncated"):
        decode_image(whole[: len(whole) * 2 // 3], name="a.jpg", reduced=True)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_exif_leaves_the_image_as_it_is(pixels):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = bytearray(encode(pixels, "JPEG", exif=exif))
    assert exif_orientation(decode_image(bytes(data), name="a.jpg")) == 6
    start = data.index(b"Exif\0\0") + 6
    for position, value in ((0, 0), (4, 255), (8, 255), (18, 99)):  # byte order, first directory, entries, orientation
        damaged = data.copy()
        damaged[start + position] = value
        assert to_rgb8(decode_image(bytes(damaged), name="a.jpg")).size in ((56, 40), (40, 56))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_image_and_label_map_turn_alike(orientation, pixels):
    exif = Image.Exif()
    exif[0x0112] = orientation
    mask = np.zeros((40, 56), dtype=np.uint8)
    mask[3:9, 20:50] = 255
    pixels[mask > 0], pixels[mask == 0] = 255, 0
    image, label = (Image.open(io.BytesIO(encode(array, "PNG", exif=exif))) for array in (pixels, mask))
    processor = RRSISImageProcessor(do_resize=False, do_normalize=False)
    inputs = processor(image, segmentation_maps=label, return_tensors="pt")
    assert inputs["labels"].shape[1:] == ((40, 56) if orientation < 5 else (56, 40))
    assert (inputs["pixel_values"][0, 0] == inputs["labels"][0]).all()


def test_tiffs_of_many_bands_give_the_first_three(write_tiff):
    bands = np.random.default_rng(0).integers(0, 256, size=(5, 8, 9), dtype=np.uint8)
    image = load_image(write_tiff(bands))
    assert np.array_equal(np.asarray(image), np.moveaxis(bands[:3], 0, -1))


def test_tiffs_that_name_their_colours(write_tiff):
    bands = np.random.default_rng(0).integers(0, 200, size=(4, 8, 9)).astype(np.float32)
    image = load_image(write_tiff(bands, colours=["blue", "green", "red", "undefined"]))
    assert np.array_equal(np.asarray(image), np.moveaxis(bands[[2, 1, 0]], 0, -1))


def test_16_bit_tiffs_are_stretched_over_pixels_with_data(write_tiff):
    ramp = np.linspace(1000, 2000, 101).astype(np.uint16)  # percentiles of the valid pixels: 1020 and 1980
    bands = np.zeros((3, 2, 101), dtype=np.uint16)
    bands[:, 0] = ramp
    values = np.asarray(load_image(write_tiff(bands, nodata=0)))
    assert values[0, [2, 50, 98]].tolist() == [[0] * 3, [128] * 3, [255] * 3]  # (1500 - 1020) / 960 · 255 = 127.5
    assert not values[1].any()


def test_two_band_tiffs_are_gray(write_tiff):
    bands = np.stack([np.full((4, 5), 7, dtype=np.int16), np.full((4, 5), -9999, dtype=np.int16)])
    bands[0, 0, 0] = 250
    assert np.asarray(load_image(write_tiff(bands)))[0, :2].tolist() == [[250] * 3, [7] * 3]


def test_float_tiffs_with_holes(write_tiff):
    bands = np.full((3, 2, 2), 0.5, dtype=np.float32)
    bands[1, 0, 0] = np.nan
    assert np.asarray(load_image(write_tiff(bands)))[:, :, 0].tolist() == [[0, 128], [128, 128]]


def test_damaged_and_huge_tiffs_of_many_bands(write_tiff, tmp_path, monkeypatch):
    path = write_tiff(np.ones((5, 64, 64), dtype=np.uint16), compress="deflate")
    (tmp_path / "cut.tif").write_bytes(path.read_bytes()[:-60])
    with pytest.raises(ValueError, match=r"cut\.tif"):
        load_image(tmp_path / "cut.tif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"scene\.tif.*at most 2,000 pixels"):
        load_image(path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_cut_tiff_gives_one_message_every_time(write_tiff):
    data = write_tiff(np.ones((5, 64, 64), dtype=np.uint8), compress="deflate").read_bytes()
    messages = set()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"cut\.tif.*damaged") as error:
            decode_image(data[:100], name="cut.tif")
        messages.add(str(error.value))
    assert len(messages) == 1


def test_a_home_of_nobody_is_no_file():
    with pytest.raises(FileNotFoundError, match=r"'~nosuch/a\.png'.*unknown user"):
        load_image("~nosuch/a.png")


def test_without_rasterio_the_error_says_what_to_install(write_tiff, monkeypatch):
    path = write_tiff(np.ones((5, 8, 9), dtype=np.uint16))
    monkeypatch.setattr(image_loading_rrsis, "rasterio", None)
    with pytest.raises(ValueError, match=r"scene\.tif.*pip install rasterio"):
        load_image(path)
