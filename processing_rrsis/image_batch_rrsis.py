"""What the two image processors do with a batch as a whole: take it apart, check it, its table of values, its masks.

The options are those of a call, `kwargs`: the image processor's attributes with what the call changes. Travels to the
Hub.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.image_transforms import normalize, rescale
from transformers.image_utils import ChannelDimension, PILImageResampling
from transformers.utils import logging

from .image_labels_rrsis import to_label_map
from .image_loading_rrsis import load_values

logger = logging.get_logger(__name__)

MAX_VALUE = 1e5
"""Far beyond any normalised value; the published ones lie between -2.2 and 2.7."""
MIN_SPAN, MAX_OFFSET = 0.1, 100
"""Between black and white, 4.4 in the published networks; and the largest value in such spans, 0.6 there."""
MAX_SIDE = 1 << 14
MANY_PIXELS = 2.0
"""Side of the square of image pixels, per pixel of the model, from which it is said that they are many."""
SAID: set[tuple[int, int]] = set()
"""Models' input sizes (height, width) of which `warn_of_many_pixels` has warned in this process."""

Shape = tuple[int, int, int]
"""Bands, height and width of an image."""


def many_pixels(height: int, width: int, size: dict[str, int]) -> str | None:
    """Say what one pixel of the model covers of an image, where that is more than `MANY_PIXELS` high or wide."""
    down, across = height / size["height"], width / size["width"]
    if max(across, down) <= MANY_PIXELS:
        return None
    return (
        f"one pixel of the model ({size['width']} x {size['height']}) covers {across:.1f} x {down:.1f} of an image of "
        f"{width} x {height}"
    )


def warn_of_many_pixels(shapes: Sequence[Shape], kwargs: dict[str, Any]) -> None:
    """Warn of the first image whose details vanish in the model's input; once for each size of this."""
    size = kwargs["size"]
    if not kwargs["do_resize"] or (size["height"], size["width"]) in SAID:
        return
    covers = [many_pixels(height, width, size) for _, height, width in shapes]
    if any(covers):
        SAID.add((size["height"], size["width"]))
        logger.warning(f"{next(filter(None, covers))}; details vanish, `rrsis scene` asks in tiles")


def flatten_images(images: Any, single_band: bool = False) -> list[Any]:
    """Flatten the input to a list of single images; a batch array becomes its items.

    Args:
        images: one image, a (nested) list, or a batch array (B, H, W, C), (B, C, H, W).
        single_band: the images are masks: an array of three axes is a batch (B, H, W).

    Raises:
        ValueError: None or nothing in it.
    """
    if images is None:
        raise ValueError("images: expected at least one image, got None")
    if isinstance(images, list | tuple):
        flat: list[Any] = []
        for item in images:
            flat.extend(flatten_images(item, single_band=single_band))
        if not flat:
            raise ValueError("images: expected at least one image, got an empty list")
        return flat
    if isinstance(images, np.ndarray | torch.Tensor):
        # A stack of masks (B, H, W) has no channel axis; (1, H, W), (H, W, 1) and colour (H, W, 3) are single masks.
        is_mask_stack = single_band and images.ndim == 3 and images.shape[0] != 1 and images.shape[-1] not in (1, 3, 4)
        if images.ndim == 4 or is_mask_stack:
            if len(images) == 0:
                raise ValueError(f"images: expected at least one image, got a batch of shape {tuple(images.shape)}")
            return list(images)
    return [images]


def value_table(num_bands: int, kwargs: dict[str, Any]) -> np.ndarray:
    """Return (bands, 256): what each 8-bit value becomes in each band; the pixels are looked up in it."""
    try:
        with np.errstate(all="ignore"):
            table = _value_table(num_bands, kwargs)
        span = np.ptp(table, axis=1).min()
        told_apart = np.isfinite(table).all() and np.diff(table).all() and span >= MIN_SPAN
        if (
            told_apart
            and np.abs(table).max() <= min(MAX_VALUE, MAX_OFFSET * span)
            and (not kwargs["do_normalize"] or np.min(kwargs["image_std"]) > 0)
        ):
            return table
    except (TypeError, OverflowError) as error:
        raise ValueError(f"expected numbers as rescale_factor, image_mean and image_std, got {error}") from error
    raise ValueError(
        "expected rescale_factor, image_mean and image_std that tell 8-bit values apart, got "
        f"{kwargs['rescale_factor']}, {kwargs['image_mean']} and {kwargs['image_std']}; ImageNet's are the published"
    )


def _value_table(num_bands: int, kwargs: dict[str, Any]) -> np.ndarray:
    first: dict[str, Any] = {"data_format": ChannelDimension.FIRST, "input_data_format": ChannelDimension.FIRST}
    values = np.broadcast_to(np.arange(256, dtype=np.uint8), (num_bands, 1, 256))
    if kwargs["do_rescale"]:
        values = rescale(values, kwargs["rescale_factor"], **first)
    if kwargs["do_normalize"]:
        for name in ("image_mean", "image_std"):
            if np.size(kwargs[name]) not in (1, num_bands):
                raise ValueError(
                    f"{name}: expected {num_bands} values, one per band, got {kwargs[name]}; pass as many, or "
                    "leave do_convert_rgb=True (the networks take three bands)"
                )
        values = normalize(values, kwargs["image_mean"], kwargs["image_std"], **first)
    return values[:, 0]


def resized_labels(segmentation_maps: Any, shapes: list[Shape], kwargs: dict[str, Any]) -> Sequence[np.ndarray]:
    """Check each mask against its image and resize it by nearest neighbour: int64 (height, width)."""
    maps = flatten_images(segmentation_maps, single_band=True)
    if len(maps) != len(shapes):
        raise ValueError(
            f"segmentation_maps: expected one per image ({len(shapes)}), got {len(maps)}; repeat or drop some"
        )
    labels = []
    for index, (segmentation_map, (_, *expected)) in enumerate(zip(maps, shapes, strict=True)):
        label = to_label_map(load_values(segmentation_map, is_mask=True))
        if label.shape != tuple(expected):
            raise ValueError(
                f"segmentation_maps[{index}]: expected its image's size (height, width) {tuple(expected)}, got "
                f"{label.shape}; resize the mask with nearest neighbour, or check that it belongs to the image"
            )
        resized = _resize(Image.fromarray(label), kwargs["size"], PILImageResampling.NEAREST, on=kwargs["do_resize"])
        labels.append(np.asarray(resized))
    values = empty_batch([label.shape for label in labels], dtype=np.dtype(np.int64))
    for label, out in zip(labels, values, strict=True):
        out[...] = label
    return values


def number_of_bands(shapes: list[Shape]) -> int:
    """Bands of every picture of a batch."""
    numbers = [bands for bands, _, _ in shapes]
    if len(set(numbers)) > 1:
        raise ValueError(
            f"images: expected the same number of bands in all images with do_convert_rgb=False, got {numbers}; "
            "set do_convert_rgb=True or pass them one by one"
        )
    return numbers[0]


def check_geometry(shapes: list[Shape], kwargs: dict[str, Any], return_tensors: Any) -> None:
    """Refuse options that would move the image against its mask, and stacks of different sizes."""
    for name in ("do_center_crop", "do_pad"):
        if kwargs.get(name):
            raise ValueError(
                f"{name}: expected False or None (masks and expressions refer to the whole image), got True"
            )
    sides = kwargs["size"].height, kwargs["size"].width
    if kwargs["do_resize"] and not all(isinstance(side, int) and 1 <= side <= MAX_SIDE for side in sides):
        raise ValueError(f"size: expected height and width of at least 1 and at most {MAX_SIDE}, got {sides}")
    sizes = {(height, width) for _, height, width in shapes}
    if not kwargs["do_resize"] and return_tensors is not None and len(sizes) > 1:
        raise ValueError(
            f"images: expected one size to stack them with do_resize=False, got (height, width) {sorted(sizes)}; "
            "set do_resize=True or pass them one by one"
        )


def resized_bands(picture: list[Image.Image], kwargs: dict[str, Any]) -> list[np.ndarray]:
    """Resize a picture by PIL; each of its bands as uint8 (H, W)."""
    bands: list[np.ndarray] = []
    for part in picture:
        pixels = np.asarray(_resize(part, size=kwargs["size"], resample=kwargs["resample"], on=kwargs["do_resize"]))
        bands += [pixels] if pixels.ndim == 2 else list(np.moveaxis(pixels, -1, 0))
    return bands


def empty_batch(shapes: list[tuple[int, ...]], dtype: np.dtype) -> Sequence[np.ndarray]:
    """Arrays to write into, parts of one array where the shapes agree: stacking later would copy all of it."""
    if len(set(shapes)) == 1:
        return np.empty((len(shapes), *shapes[0]), dtype=dtype)  # type: ignore[return-value]  # iterates over its parts
    return [np.empty(shape, dtype=dtype) for shape in shapes]


def _resize(image: Image.Image, size: Any, resample: int | None, on: bool) -> Image.Image:
    """Resize to (height, width); antialiased by PIL's filter. The same size is left alone, as PIL does."""
    if not on:
        return image
    return image.resize((size.width, size.height), resample=resample)
