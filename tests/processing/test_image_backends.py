"""The two image processors: equal but for the rounding of resized images, and on the device that a call says."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoProcessor

import modeling_rrsis  # noqa: F401 - registers the backends
from processing_rrsis import RRSISImageProcessor, RRSISImageProcessorTorchvision
from tests.tiny import build_tiny_processor

SIZE = {"height": 48, "width": 64}
ONE_LEVEL = 1 / 255 / 0.224  # of 256, divided by the smallest of the three standard deviations
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, size=(37, 53, 3), dtype=np.uint8)
DEEP = RANDOM.integers(0, 4000, size=(37, 53, 3)).astype(np.uint16)
FORMS = {
    "PIL": Image.fromarray(PIXELS),
    "gray": Image.fromarray(PIXELS[:, :, 0]),
    "alpha": Image.fromarray(np.dstack([PIXELS, PIXELS[:, :, 0]])),
    "channels last": PIXELS,
    "tensor": torch.from_numpy(PIXELS).movedim(-1, 0),
    "tensor, channels last": torch.from_numpy(PIXELS),
    "tensor with alpha": torch.from_numpy(np.dstack([PIXELS, PIXELS[:, :, 0]])),
    "gray tensor": torch.from_numpy(PIXELS[:, :, 0]),
    "float tensor": torch.from_numpy(PIXELS).movedim(-1, 0) / 255,
    "16 bit": DEEP,
    "bool": PIXELS > 127,
    "batch": torch.from_numpy(np.stack([PIXELS, PIXELS[::-1]])),
}


def both(image, **options):
    return [
        processor(image, return_tensors="pt", **options)
        for processor in (RRSISImageProcessor(size=SIZE), RRSISImageProcessorTorchvision(size=SIZE))
    ]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("convert", [True, False])
def test_every_form_gives_equal_values_where_nothing_is_resized(form, convert):
    bands = {"do_convert_rgb": False, "image_mean": 0.5, "image_std": 0.25} if not convert else {}
    pil, torchvision = both(FORMS[form], do_resize=False, **bands)
    assert pil["pixel_values"].dtype == torchvision["pixel_values"].dtype == torch.float32
    assert torch.equal(pil["pixel_values"], torchvision["pixel_values"])


@pytest.mark.parametrize(("height", "width"), [(800, 800), (600, 430), (512, 512), (100, 70), (31, 300)])
def test_resized_values_differ_by_two_levels_of_256_at_most(height, width):
    generator = np.random.default_rng(height)
    coarse = Image.fromarray(generator.integers(0, 256, (height // 9, width // 9, 3), dtype=np.uint8))
    for pixels in (
        generator.integers(0, 256, (height, width, 3), dtype=np.uint8),
        np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)),
    ):
        values = [
            processor(pixels, return_tensors="pt")["pixel_values"]
            for processor in (RRSISImageProcessor(), RRSISImageProcessorTorchvision())
        ]
        difference = (values[0] - values[1]).abs()
        assert difference.max() <= 2 * ONE_LEVEL + 1e-6
        assert (difference > ONE_LEVEL + 1e-6).float().mean() <= 1e-4
        assert (difference > 1e-6).float().mean() <= 0.05


def test_labels_are_equal():
    mask = RANDOM.choice(np.array([0, 1, 255], dtype=np.uint8), size=PIXELS.shape[:2])
    pil, torchvision = both([PIXELS, PIXELS], segmentation_maps=[mask, mask.T.copy().T])
    assert torch.equal(pil["labels"], torchvision["labels"])
    assert torchvision["labels"].dtype == torch.int64


def test_sizes_that_differ_stay_apart_without_tensors():
    options = {"do_resize": False, "segmentation_maps": [PIXELS[:, :, 0] > 9, PIXELS[:9, :, 0] > 9]}
    done = RRSISImageProcessorTorchvision()([PIXELS, PIXELS[:9]], **options)
    assert [tuple(values.shape) for values in done["pixel_values"]] == [(3, 37, 53), (3, 9, 53)]
    assert [tuple(values.shape) for values in done["labels"]] == [(37, 53), (9, 53)]
    with pytest.raises(ValueError, match="expected one size to stack them"):
        RRSISImageProcessorTorchvision()([PIXELS, PIXELS[:9]], return_tensors="pt", **options)


@pytest.mark.parametrize("processor", [RRSISImageProcessor(), RRSISImageProcessorTorchvision()])
def test_both_refuse_the_same(processor):
    for image, error, text in (
        (torch.zeros(5, 9, 9, dtype=torch.uint8), ValueError, r"got shape \(5, 9, 9\)"),
        (torch.zeros(3, 0, 9, dtype=torch.uint8), ValueError, "at least 1 pixel"),
        (torch.full((3, 9, 9), torch.nan), ValueError, "finite pixel values"),
        (object(), TypeError, "expected a PIL image"),
    ):
        with pytest.raises(error, match=text):
            processor(image)
    with pytest.raises(ValueError, match="size: expected height and width"):
        processor(PIXELS, size={"shortest_edge": 9})


def test_pil_refuses_another_device():
    assert RRSISImageProcessor()(PIXELS, device="cpu", return_tensors="pt")["pixel_values"].device.type == "cpu"
    with pytest.raises(ValueError, match="use RRSISImageProcessorTorchvision"):
        RRSISImageProcessor()(PIXELS, device="cuda")


def test_the_backend_is_chosen_when_a_processor_is_loaded(tmp_path):
    """PIL's is the default, whichever was saved; elsewhere, as remote code, a folder gives the one that was saved."""
    processor = build_tiny_processor()
    processor.save_pretrained(tmp_path / "pil")
    processor.image_processor = RRSISImageProcessorTorchvision(size=SIZE)
    processor.save_pretrained(tmp_path / "torchvision")
    for name in ("pil", "torchvision"):
        for options, expected in (
            ({}, RRSISImageProcessor),
            ({"backend": "pil"}, RRSISImageProcessor),
            ({"backend": "torchvision"}, RRSISImageProcessorTorchvision),
        ):
            assert type(AutoImageProcessor.from_pretrained(tmp_path / name, **options)) is expected
            assert type(AutoProcessor.from_pretrained(tmp_path / name, **options).image_processor) is expected
    settings = json.loads((tmp_path / "torchvision" / "processor_config.json").read_text())["image_processor"]
    assert settings["auto_map"]["AutoImageProcessor"] == "image_processing_rrsis.RRSISImageProcessorTorchvision"
