"""`RRSISImageProcessor`: images and masks to `pixel_values` and `labels`, logits back to masks.

The chain is the published one, bit for bit: 8-bit RGB, PIL's antialiased bilinear resize to 480 × 480 (the aspect
ratio is not kept), 1/255, ImageNet mean and standard deviation; masks are resized by nearest neighbour.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, PILImageResampling, SizeDict

from .image_loading_rrsis import load_image
from .image_values_rrsis import to_bands8, to_label_map, to_rgb8


class RRSISImageProcessor(PilBackend):
    r"""Prepare aerial images and masks for the referring segmentation models.

    Accepts a path, a PIL image of any mode, a numpy array or torch tensor (H, W), (H, W, C) or (C, H, W), a batch
    array or a list of any of these. How values become 8-bit RGB is said at `to_rgb8`: alpha is dropped, 16-bit data
    gets one linear stretch from its 2nd to its 98th percentile, EXIF rotation is applied.

    Args:
        size (`dict`, *optional*, defaults to `{"height": 480, "width": 480}`): size of the model's input.
        do_resize, do_rescale, do_normalize (`bool`, *optional*, defaults to `True`): the steps of the chain.
        do_convert_rgb (`bool`, *optional*, defaults to `True`): `False` keeps the bands as they are, gray as one and
            alpha too, each resized on its own; `image_mean` and `image_std` then need as many values. The networks
            take three bands.
        resample (`int`, *optional*, defaults to bilinear): PIL's filter for images; masks always use nearest.
        image_mean, image_std (`tuple` of 3 floats, *optional*): ImageNet's.

    Example:
        >>> image_processor = RRSISImageProcessor()
        >>> image_processor(image, segmentation_maps=mask, return_tensors="pt")["labels"].shape
        torch.Size([1, 480, 480])
    """

    model_input_names = ["pixel_values"]  # noqa: RUF012 - transformers' own form
    resample = PILImageResampling.BILINEAR
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD
    size = {"height": 480, "width": 480}  # noqa: RUF012
    default_to_square = True
    do_convert_rgb = True
    do_resize = True
    do_rescale = True
    do_normalize = True
    rescale_factor = 1 / 255

    def preprocess(self, images: Any, segmentation_maps: Any = None, **kwargs: Any) -> BatchFeature:
        """Prepare images and, with them, masks.

        Args:
            images: one image or a list or batch array of images.
            segmentation_maps: as many masks: 0/255, 0/1 or bool, each of its image's size; 255 beside 1 is ignored.
            **kwargs: overrides of the constructor's arguments, `return_tensors`, `input_data_format`.

        Returns:
            `pixel_values` float32 (B, 3, H, W), normalised; `labels` int64 (B, H, W), 0 background, 1 target,
            255 ignored, where masks were given.

        Raises:
            ValueError: no image, zero size, NaN, wrong channels, or masks that do not fit their images.
            TypeError: something that is no image.
        """
        return super().preprocess(images, segmentation_maps, **kwargs)

    def _preprocess_image_like_inputs(  # type: ignore[override]
        self, images: Any, segmentation_maps: Any = None, *, return_tensors: Any = None, **kwargs: Any
    ) -> BatchFeature:
        layout = kwargs.get("input_data_format")
        channels_first = None if layout is None else str(getattr(layout, "value", layout)) == "channels_first"
        pictures = []
        for image in map(load_image, flatten_images(images)):
            if kwargs.get("do_convert_rgb") is False:
                pictures.append(to_bands8(image, channels_first=channels_first))
            else:
                pictures.append([to_rgb8(image, channels_first=channels_first)])
        _check_geometry(do_resize=kwargs["do_resize"], pictures=pictures, kwargs=kwargs, return_tensors=return_tensors)
        table = self._value_table(_number_of_bands(pictures), kwargs)
        data: dict[str, Any] = {"pixel_values": self._normalised(pictures, table, kwargs)}
        if segmentation_maps is not None:
            data["labels"] = self._labels(segmentation_maps, pictures=pictures, kwargs=kwargs)
        if return_tensors is None:
            data = {name: list(values) for name, values in data.items()}
        return BatchFeature(data=data, tensor_type=return_tensors)

    def _value_table(self, num_bands: int, kwargs: dict[str, Any]) -> np.ndarray:
        """Return (bands, 256): what each 8-bit value becomes in each band; the pixels are looked up in it."""
        values = np.broadcast_to(np.arange(256, dtype=np.uint8), (num_bands, 1, 256))
        if kwargs["do_rescale"]:
            values = self.rescale(values, kwargs["rescale_factor"])
        if kwargs["do_normalize"]:
            for name in ("image_mean", "image_std"):
                if np.size(kwargs[name]) not in (1, num_bands):
                    raise ValueError(
                        f"{name}: expected {num_bands} values, one per band, got {kwargs[name]}; pass as many, or "
                        "leave do_convert_rgb=True (the networks take three bands)"
                    )
            values = self.normalize(values, kwargs["image_mean"], kwargs["image_std"])
        return values[:, 0]

    def _normalised(
        self, pictures: list[list[Image.Image]], table: np.ndarray, kwargs: dict[str, Any]
    ) -> Sequence[np.ndarray]:
        """Resize the pictures and look their values up."""
        batch = [_bands(picture, kwargs) for picture in pictures]
        values = _empty_batch([(len(bands), *bands[0].shape) for bands in batch], dtype=table.dtype)
        for bands, outs in zip(batch, values, strict=True):
            for band, row, out in zip(bands, table, outs, strict=True):
                np.take(row, band, out=out, mode="clip")  # "clip": no copy of out
        return values

    def _labels(
        self, segmentation_maps: Any, pictures: list[list[Image.Image]], kwargs: dict[str, Any]
    ) -> Sequence[np.ndarray]:
        """Check each mask against its image and resize it by nearest neighbour."""
        maps = flatten_images(segmentation_maps, single_band=True)
        if len(maps) != len(pictures):
            raise ValueError(
                f"segmentation_maps: expected one per image ({len(pictures)}), got {len(maps)}; repeat or drop some"
            )
        labels = []
        for index, (segmentation_map, picture) in enumerate(zip(maps, pictures, strict=True)):
            label = to_label_map(load_image(segmentation_map))
            expected = (picture[0].height, picture[0].width)
            if label.shape != expected:
                raise ValueError(
                    f"segmentation_maps[{index}]: expected its image's size (height, width) {expected}, got "
                    f"{label.shape}; resize the mask with nearest neighbour, or check that it belongs to the image"
                )
            resized = _resize(
                Image.fromarray(label), kwargs["size"], PILImageResampling.NEAREST, on=kwargs["do_resize"]
            )
            labels.append(np.asarray(resized))
        values = _empty_batch([label.shape for label in labels], dtype=np.dtype(np.int64))
        for label, out in zip(labels, values, strict=True):
            out[...] = label
        return values

    def post_process_referring_segmentation(
        self,
        outputs: Any,
        target_sizes: Sequence[tuple[int, int]] | torch.Tensor | None = None,
        threshold: float = 0.5,
        return_probabilities: bool = False,
    ) -> list[torch.Tensor] | tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Turn the foreground log-odds into masks at the images' own sizes.

        Args:
            outputs (`ReferringSegmentationOutput` or `torch.Tensor`): with `logits` (B, H, W), foreground log-odds.
            target_sizes: (height, width) of each original image; None keeps the logits' size.
            threshold: probability above which a pixel is foreground, in [0, 1]; a tie is background.
            return_probabilities: also return the probabilities.

        Returns:
            B bool tensors (height, width), True is the target; with `return_probabilities` the pair of that list and
            the list of float32 probabilities in [0, 1]. The log-odds are resized bilinearly (align_corners=False).

        Raises:
            ValueError: wrong shape of the logits, number of sizes, or threshold.
        """
        logits = outputs if isinstance(outputs, torch.Tensor) else outputs["logits"]
        if logits.ndim != 3:
            raise ValueError(f"logits: expected shape (B, H, W), the foreground log-odds, got {tuple(logits.shape)}")
        if not 0.0 <= threshold <= 1.0:
            raise ValueError(f"threshold: expected a probability in [0, 1], got {threshold}")
        sizes = _target_sizes(target_sizes, logits)
        probabilities = []
        for log_odds, size in zip(logits.detach().float(), sizes, strict=True):
            if size != tuple(log_odds.shape):
                batched = log_odds[None, None]
                log_odds = F.interpolate(batched, size=size, mode="bilinear", align_corners=False)[0, 0]  # (h, w)
            probabilities.append(log_odds.sigmoid())
        masks = [probability > threshold for probability in probabilities]
        return (masks, probabilities) if return_probabilities else masks


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


def _number_of_bands(pictures: list[list[Image.Image]]) -> int:
    """Bands of every picture of a batch."""
    numbers = [sum(len(part.getbands()) for part in picture) for picture in pictures]
    if len(set(numbers)) > 1:
        raise ValueError(
            f"images: expected the same number of bands in all images with do_convert_rgb=False, got {numbers}; "
            "set do_convert_rgb=True or pass them one by one"
        )
    return numbers[0]


def _check_geometry(
    do_resize: bool, pictures: list[list[Image.Image]], kwargs: dict[str, Any], return_tensors: Any
) -> None:
    """Refuse options that would move the image against its mask, and stacks of different sizes."""
    for name in ("do_center_crop", "do_pad"):
        if kwargs.get(name):
            raise ValueError(
                f"{name}: expected False or None (masks and expressions refer to the whole image), got True"
            )
    sizes = {picture[0].size[::-1] for picture in pictures}
    if not do_resize and return_tensors is not None and len(sizes) > 1:
        raise ValueError(
            f"images: expected one size to stack them with do_resize=False, got (height, width) {sorted(sizes)}; "
            "set do_resize=True or pass them one by one"
        )


def _bands(picture: list[Image.Image], kwargs: dict[str, Any]) -> list[np.ndarray]:
    """Resize a picture; each of its bands as uint8 (H, W)."""
    bands: list[np.ndarray] = []
    for part in picture:
        pixels = np.asarray(_resize(part, size=kwargs["size"], resample=kwargs["resample"], on=kwargs["do_resize"]))
        bands += [pixels] if pixels.ndim == 2 else list(np.moveaxis(pixels, -1, 0))
    return bands


def _empty_batch(shapes: list[tuple[int, ...]], dtype: np.dtype) -> Sequence[np.ndarray]:
    """Arrays to write into, parts of one array where the shapes agree: stacking later would copy all of it."""
    if len(set(shapes)) == 1:
        return np.empty((len(shapes), *shapes[0]), dtype=dtype)  # type: ignore[return-value]  # iterates over its parts
    return [np.empty(shape, dtype=dtype) for shape in shapes]


def _resize(image: Image.Image, size: SizeDict, resample: int | None, on: bool) -> Image.Image:
    """Resize to (height, width); antialiased by PIL's filter. The same size is left alone, as PIL does."""
    if not on:
        return image
    if not (size.height and size.width):
        raise ValueError(f"size: expected height and width of at least 1, got {size}")
    return image.resize((size.width, size.height), resample=resample)


def _target_sizes(
    target_sizes: Sequence[tuple[int, int]] | torch.Tensor | None, logits: torch.Tensor
) -> list[tuple[int, int]]:
    """Check the wished sizes: one (height, width) per image."""
    if target_sizes is None:
        return [(logits.shape[1], logits.shape[2])] * len(logits)
    sizes = target_sizes.tolist() if isinstance(target_sizes, torch.Tensor) else list(target_sizes)
    if len(sizes) != len(logits):
        raise ValueError(f"target_sizes: expected one (height, width) per image ({len(logits)}), got {len(sizes)}")
    checked = []
    for size in sizes:
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"target_sizes: expected (height, width) of at least 1, got {tuple(size)}")
        checked.append((int(size[0]), int(size[1])))
    return checked
