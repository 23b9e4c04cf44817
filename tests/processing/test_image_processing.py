"""Images of any kind to pixel values, masks to labels, log-odds back to masks."""

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from processing_rrsis.image_labels_rrsis import to_label_map
from processing_rrsis.image_loading_rrsis import load_image, to_rgb8
from processing_rrsis.image_processing_rrsis import RRSISImageProcessor

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
PARITY_FIRST = (0.9474270343780518, 0.7590547204017639, 0.17681314051151276, -1.0904186964035034)
PARITY_LAST = (-0.21838770806789398, -0.8981263041496277, -1.0549890995025635, -0.9852722883224487)
PARITY_LABELS = 1048


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, size=(37, 53, 3), dtype=np.uint8)


@pytest.fixture
def small():
    return RRSISImageProcessor(size={"height": 16, "width": 24})


def published_chain(image, height, width):
    """PIL's bilinear resize, ToTensor, Normalize: what the published code does."""
    values = (
        torch.from_numpy(np.array(image.resize((width, height), Image.BILINEAR))).permute(2, 0, 1).float().div(255)
    )
    return (values - torch.from_numpy(MEAN)[:, None, None]) / torch.from_numpy(STD)[:, None, None]


def test_default_size_is_the_published_one(pixels):
    inputs = RRSISImageProcessor()(pixels, return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, 480, 480)
    assert inputs["pixel_values"].dtype == torch.float32


@pytest.mark.parametrize("size", [(16, 24), (64, 48), (37, 53)])
def test_pixel_values_equal_the_published_chain(pixels, size):
    image = Image.fromarray(pixels)
    processor = RRSISImageProcessor(size={"height": size[0], "width": size[1]})
    values = processor(image, return_tensors="pt")["pixel_values"][0]
    assert torch.allclose(values, published_chain(image, *size), atol=3e-7, rtol=0)


def test_pixel_values_equal_the_parity_numbers():
    """First values of the parity file's case "up" (30 × 44 to 64 × 64), image by its weight generator."""
    seed = int.from_bytes(hashlib.sha256(b"prep:up:image").digest()[:8], "little")
    with np.errstate(over="ignore"):
        raw = np.uint64(seed) + np.arange(1, 30 * 44 * 3 + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        raw = (raw ^ (raw >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        raw = (raw ^ (raw >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        image = ((raw ^ (raw >> np.uint64(31))) >> np.uint64(56)).astype(np.uint8).reshape(30, 44, 3)
    rows, columns = np.mgrid[:30, :44]
    mask = ((rows - 15) / 10) ** 2 + ((columns - 22) / 11) ** 2 < 1
    inputs = RRSISImageProcessor(size={"height": 64, "width": 64})(image, segmentation_maps=mask, return_tensors="pt")
    values = inputs["pixel_values"][0].numpy()
    np.testing.assert_array_equal(values[0, 0, :4], np.float32(PARITY_FIRST))
    np.testing.assert_array_equal(values[2, 63, -4:], np.float32(PARITY_LAST))
    assert int(inputs["labels"].sum()) == PARITY_LABELS


PARITY_MASKS = {  # name: input height and width, output side, foreground in, SHA-256 of the published output (start)
    "down": (100, 80, 48, 2081, "fa0a1febccf336b5"),
    "up": (30, 44, 64, 335, "65975840564cb7b8"),
    "rsz800": (200, 200, 120, 10475, "93ce4f094b72cb18"),
}


@pytest.mark.parametrize("name", PARITY_MASKS)
def test_masks_equal_the_parity_masks(name):
    """Ellipses of the parity file, resized by nearest: every pixel of the published output.

    Ten lattice points lie exactly on the rim of "rsz800"; the stored input sum tells that rounding put the four at
    (±64, ±14) inside.
    """
    height, width, side, foreground, digest = PARITY_MASKS[name]
    rows, columns = np.mgrid[:height, :width]
    mask = (3 * width * (2 * rows - height)) ** 2 + (4 * height * (2 * columns - width)) ** 2 < (
        2 * height * width
    ) ** 2
    if name == "rsz800":
        mask[np.ix_([36, 164], [86, 114])] = True
    assert int(mask.sum()) == foreground
    inputs = RRSISImageProcessor(size={"height": side, "width": side})(
        np.zeros((height, width, 3), dtype=np.uint8), segmentation_maps=mask, return_tensors="np"
    )
    resized = np.ascontiguousarray(inputs["labels"][0].astype(np.uint8))
    assert hashlib.sha256(resized).hexdigest()[:16] == digest


def test_array_layouts_give_the_same_pixels(pixels, small):
    expected = small(Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
    chw = np.moveaxis(pixels, -1, 0)
    alpha = np.concatenate([pixels, np.full((37, 53, 1), 9, dtype=np.uint8)], axis=-1)
    for image in (
        pixels,
        chw,
        torch.from_numpy(pixels),
        torch.from_numpy(chw.copy()),
        alpha,
        pixels / 255.0,
        pixels.astype(int),
    ):
        assert torch.equal(small(image, return_tensors="pt")["pixel_values"], expected)
    batch = small(np.stack([pixels, pixels]), return_tensors="pt")["pixel_values"]
    assert torch.equal(batch, expected.expand(2, -1, -1, -1))
    assert torch.equal(small([[pixels], [chw]], return_tensors="pt")["pixel_values"], batch)


def test_a_tie_in_the_layout_is_channels_last_for_numpy_and_first_for_torch():
    array = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3)
    assert to_rgb8(array).size == (5, 3)
    assert to_rgb8(torch.from_numpy(array)).size == (3, 5)
    assert to_rgb8(array, channels_first=True).size == (3, 5)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16"])
def test_every_pil_mode(mode, pixels, small):
    if mode == "LAB":
        image = Image.merge("LAB", Image.fromarray(pixels).split())
    elif mode == "I;16":
        image = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(pixels).convert(mode)
    assert image.mode == mode
    values = small(image, return_tensors="pt")["pixel_values"]
    assert values.shape == (1, 3, 16, 24)
    assert values.isfinite().all()
    assert values.std() > 0.05


def test_alpha_is_dropped_and_the_colour_below_stays(pixels):
    image = Image.fromarray(pixels)
    image.putalpha(0)
    assert np.array_equal(np.asarray(to_rgb8(image)), pixels)


def test_exif_rotation_is_applied(pixels, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    turned = to_rgb8(load_image(tmp_path / "turned.png"))
    assert np.array_equal(np.asarray(turned), np.rot90(pixels, k=-1))


def test_16_bit_gets_one_stretch_over_all_bands():
    ramp = np.linspace(100, 3100, 101)  # percentile p lies at 100 + 30 p: 160 becomes 0, 3040 becomes 255
    bands = np.stack([ramp, ramp, np.full(101, 1600.0)], axis=-1)[None].astype(np.uint16)
    image = np.asarray(to_rgb8(np.stack([ramp] * 3, axis=-1)[None].astype(np.uint16)))
    assert image[0, 2, 0] == 0
    assert image[0, 98, 0] == 255
    assert image[0, 50, 0] == 128  # (1600 - 160) / 2880 · 255 = 127.5, rounded to even
    together = np.asarray(to_rgb8(bands))
    assert together[0, 50].tolist() == [together[0, 50, 0]] * 3  # equal values stay equal across bands


@pytest.mark.parametrize(
    ("array", "value"),
    [
        (np.full((4, 4), 7000, dtype=np.uint16), 0),  # constant: no contrast to stretch
        (np.full((4, 4), 0.5), 128),
        (np.full((4, 4), 200.4), 200),
        (np.full((4, 4), 200, dtype=np.int32), 200),
        (np.full((4, 4), -3.0), 0),
        (np.ones((4, 4), dtype=bool), 255),
        (torch.full((4, 4), 0.5, dtype=torch.bfloat16), 128),
    ],
)
def test_values_of_other_dtypes(array, value):
    assert np.unique(np.asarray(to_rgb8(array))).tolist() == [value]


def test_sparse_16_bit_image_is_stretched_from_its_extremes():
    array = np.zeros((10, 10), dtype=np.uint16)
    array[0, 0] = 9000
    assert np.asarray(to_rgb8(array))[0, 0].tolist() == [255, 255, 255]


def test_labels_are_nearest_and_keep_255_as_ignored(pixels):
    processor = RRSISImageProcessor(size={"height": 74, "width": 106})
    mask = np.zeros((37, 53), dtype=np.uint8)
    mask[3:9, 4:8] = 1
    mask[20:, 30:] = 255
    labels = processor(pixels, segmentation_maps=mask, return_tensors="pt")["labels"]
    assert labels.dtype == torch.int64
    assert torch.equal(labels[0], torch.from_numpy(mask).long().repeat_interleave(2, 0).repeat_interleave(2, 1))


@pytest.mark.parametrize("form", ["L", "1", "bool", "int64", "P", "hw1", "1hw", "torch"])
def test_mask_forms_mean_the_same(form):
    truth = np.zeros((6, 8), dtype=bool)
    truth[2:5, 1:4] = True
    picture = Image.fromarray(truth.astype(np.uint8) * 255)
    palette = Image.fromarray(truth.astype(np.uint8), mode="P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    forms = {
        "L": picture,
        "1": picture.convert("1"),
        "bool": truth,
        "int64": truth.astype(np.int64) * 255,
        "P": palette,
        "hw1": truth[:, :, None].astype(np.uint8),
        "1hw": truth[None].astype(np.uint8) * 255,
        "torch": torch.from_numpy(truth).long(),
    }
    assert np.array_equal(to_label_map(forms[form]), truth.astype(np.uint8))


def test_every_8_bit_value_of_a_mask_is_read_or_refused():
    for value in range(256):
        mask = np.array([[0, value], [value, 0]], dtype=np.uint8)
        if value in (0, 1, 255):
            assert to_label_map(mask).tolist() == [[0, int(value > 0)], [int(value > 0), 0]]
        else:
            with pytest.raises(ValueError, match=rf"got also \[{value}\]"):
                to_label_map(mask)
    assert to_label_map(np.array([[0, 1, 255]], dtype=np.uint8)).tolist() == [[0, 1, 255]]
    mask = np.zeros((2, 2), dtype=np.uint8)
    assert not np.shares_memory(to_label_map(mask), mask)


def test_images_of_several_sizes_stay_apart_without_tensors(pixels):
    inputs = RRSISImageProcessor(do_resize=False)(
        [pixels, pixels[:9]], segmentation_maps=[pixels[:, :, 0] > 9, pixels[:9, :, 0] > 9]
    )
    assert [values.shape for values in inputs["pixel_values"]] == [(3, 37, 53), (3, 9, 53)]
    assert [labels.shape for labels in inputs["labels"]] == [(37, 53), (9, 53)]
    assert np.array_equal(inputs["pixel_values"][0][:, :9], inputs["pixel_values"][1])


def test_mask_stacks_are_taken_apart(small):
    images, masks = np.zeros((2, 6, 8, 3), dtype=np.uint8), np.zeros((2, 6, 8), dtype=bool)
    masks[1] = True
    labels = small(images, segmentation_maps=masks, return_tensors="pt")["labels"]
    assert labels.flatten(1).float().mean(dim=1).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("image", "error", "text"),
    [
        (None, ValueError, "at least one image, got None"),
        ([], ValueError, "empty list"),
        (np.zeros((0, 4, 4, 3)), ValueError, "batch of shape"),
        (np.full((4, 4, 3), np.nan), ValueError, "48 NaN or infinite ones of 48"),
        (np.array([[np.nan, np.inf]]), ValueError, "2 NaN or infinite ones of 2"),
        (np.zeros((0, 5, 3), dtype=np.uint8), ValueError, r"at least 1 pixel, got shape \(0, 5, 3\)"),
        (Image.new("RGB", (0, 5)), ValueError, "at least 1 pixel"),
        (np.zeros((5, 6, 2), dtype=np.uint8), ValueError, r"got shape \(5, 6, 2\).*three bands"),
        (np.zeros((13, 6, 7), dtype=np.uint8), ValueError, "expected 1 .gray., 3 .RGB. or 4"),
        (np.zeros(5), ValueError, r"\(H, W\), \(H, W, C\) or \(C, H, W\)"),
        (np.array([["a"]]), TypeError, "integer, float or bool"),
        (3, TypeError, "got int"),
        ("nowhere.png", FileNotFoundError, "nowhere.png"),
    ],
)
def test_bad_images_are_refused_with_a_reason(small, image, error, text):
    with pytest.raises(error, match=text):
        small(image, return_tensors="pt")


@pytest.mark.parametrize(
    ("mask", "error", "text"),
    [
        (np.zeros((6, 9), dtype=bool), ValueError, r"segmentation_maps\[0\].*\(6, 8\), got \(6, 9\)"),
        ([np.zeros((6, 8), dtype=bool)] * 2, ValueError, r"one per image \(1\), got 2"),
        (np.full((6, 8), 7), ValueError, r"got also \[7\]; threshold"),
        (np.full((6, 8), 0.5), ValueError, r"got also \[0\.5\]"),
        (np.full((6, 8), 256), ValueError, r"got also \[256\]"),
        (np.full((6, 8), np.nan), ValueError, r"got also \[nan\]"),
        (np.zeros((6, 8, 3), dtype=np.uint8), ValueError, "one band"),
        (Image.new("RGB", (8, 6)), ValueError, "one band"),
        (5, TypeError, "got int"),
    ],
)
def test_bad_masks_are_refused_with_a_reason(small, mask, error, text):
    with pytest.raises(error, match=text):
        small(np.zeros((6, 8, 3), dtype=np.uint8), segmentation_maps=mask, return_tensors="pt")


def test_geometry_options_that_would_break_the_expression_are_refused(small, pixels):
    with pytest.raises(ValueError, match="do_center_crop"):
        small(pixels, do_center_crop=True, crop_size=8)
    with pytest.raises(ValueError, match="one size to stack"):
        small([pixels, pixels[:9]], do_resize=False, return_tensors="pt")


def test_damaged_files_are_named(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:400])
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"cut\.png.*truncated"):
        load_image(tmp_path / "cut.png")
    with pytest.raises(ValueError, match=r"text\.png.*PIL can read"):
        load_image(str(tmp_path / "text.png"))
    with pytest.raises(ValueError, match="got a folder"):
        load_image(tmp_path)


def test_decompression_bomb_is_refused(tmp_path, monkeypatch):
    Image.new("L", (100, 100)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"bomb\.png.*at most 2,000 pixels"):
        load_image(tmp_path / "bomb.png")


def test_post_processing_resizes_the_log_odds():
    logits = torch.tensor([[[-2.0, 2.0], [-2.0, 2.0]], [[8.0, 8.0], [8.0, 8.0]]])
    masks, probabilities = RRSISImageProcessor().post_process_referring_segmentation(
        {"logits": logits}, target_sizes=[(2, 4), (3, 5)], return_probabilities=True
    )
    assert [mask.shape for mask in masks] == [(2, 4), (3, 5)]
    assert masks[0].dtype == torch.bool
    # bilinear with align_corners=False from two to four columns: -2, -1, 1, 2
    torch.testing.assert_close(probabilities[0][0], torch.tensor([-2.0, -1.0, 1.0, 2.0]).sigmoid())
    assert masks[0].tolist() == [[False, False, True, True]] * 2
    assert masks[1].all()


def test_post_processing_threshold_and_own_size():
    logits = torch.tensor([[[0.0, 1.0, -1.0]]])
    processor = RRSISImageProcessor()
    assert processor.post_process_referring_segmentation(logits)[0].tolist() == [
        [False, True, False]
    ]  # a tie is background
    assert processor.post_process_referring_segmentation(logits, threshold=0.2)[0].all()
    same = processor.post_process_referring_segmentation(logits, target_sizes=torch.tensor([[1, 3]]))
    assert same[0].tolist() == [[False, True, False]]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"target_sizes": [(4, 4), (5, 5)]}, r"per image \(1\), got 2"),
        ({"target_sizes": [(4, 0)]}, "at least 1"),
        ({"threshold": 50}, r"probability in \[0, 1\], got 50"),
    ],
)
def test_post_processing_errors(options, text):
    with pytest.raises(ValueError, match=text):
        RRSISImageProcessor().post_process_referring_segmentation(torch.zeros(1, 2, 2), **options)
    with pytest.raises(ValueError, match=r"\(B, H, W\)"):
        RRSISImageProcessor().post_process_referring_segmentation(torch.zeros(1, 2, 2, 2))


def test_saved_and_loaded(tmp_path):
    processor = RRSISImageProcessor(size={"height": 96, "width": 128}, do_normalize=False)
    processor.save_pretrained(tmp_path)
    loaded = RRSISImageProcessor.from_pretrained(tmp_path)
    assert (loaded.size.height, loaded.size.width, loaded.do_normalize) == (96, 128, False)


@pytest.mark.parametrize("kind", ["array", "tensor", "pil"])
@pytest.mark.parametrize("num_bands", [1, 3, 4])
def test_bands_are_kept_where_no_rgb_is_wanted(kind, num_bands):
    values = np.random.default_rng(0).integers(0, 256, (9, 7, num_bands), dtype=np.uint8)
    image = {
        "array": values,
        "tensor": torch.from_numpy(values).permute(2, 0, 1),
        "pil": Image.fromarray(values[:, :, 0] if num_bands == 1 else values),
    }[kind]
    options = {"do_convert_rgb": False, "image_mean": [0.0] * num_bands, "image_std": [1.0] * num_bands}
    size = {"height": 4, "width": 5}
    pixels = RRSISImageProcessor(size=size)(image, return_tensors="pt", **options)["pixel_values"]
    assert pixels.shape == (1, num_bands, 4, 5)
    for band, got in zip(np.moveaxis(values, -1, 0), pixels[0], strict=True):  # each on its own: alpha weighs nothing
        expected = np.asarray(Image.fromarray(band).resize((5, 4), Image.Resampling.BILINEAR), dtype=np.float32) / 255
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_bands_that_do_not_fit_are_named():
    image_processor = RRSISImageProcessor(do_convert_rgb=False)
    four = np.zeros((8, 8, 4), dtype=np.uint8)
    with pytest.raises(ValueError, match="image_mean: expected 4 values, one per band"):
        image_processor(four, return_tensors="pt")
    with pytest.raises(ValueError, match=r"same number of bands .* got \[4, 3\]"):
        image_processor([four, four[:, :, :3]], return_tensors="pt")
    assert image_processor(four[:, :, :3], return_tensors="pt")["pixel_values"].shape == (1, 3, 480, 480)
