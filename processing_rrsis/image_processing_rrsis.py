"""Images and masks to `pixel_values` and `labels`, log-odds back to masks: by PIL, or by torchvision on any device.

The chain is the published one: 8-bit RGB, antialiased bilinear resize to 480 × 480 (the aspect ratio is not kept),
1/255, ImageNet mean and standard deviation; masks are resized by nearest neighbour. `RRSISImageProcessor` gives the
published values bit for bit. `RRSISImageProcessorTorchvision` differs from it in the resizing of the images alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.image_processing_backends import PilBackend, TorchvisionBackend
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, PILImageResampling

from .image_batch_rrsis import (
    Shape,
    check_geometry,
    empty_batch,
    flatten_images,
    number_of_bands,
    resized_bands,
    resized_labels,
    value_table,
    warn_of_many_pixels,
)
from .image_loading_rrsis import load_image
from .image_values_rrsis import to_bands8, to_rgb8, to_tensor8
from .mask_output_rrsis import logits_to_masks


class _ImagesAndMasks(ABC):
    """What the two image processors share: defaults, checks, the table of values, masks in and masks out."""

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
        return super().preprocess(images, segmentation_maps, **kwargs)  # type: ignore[misc]  # a backend's

    def _preprocess_image_like_inputs(
        self, images: Any, segmentation_maps: Any = None, *, return_tensors: Any = None, **kwargs: Any
    ) -> BatchFeature:
        layout = kwargs.get("input_data_format")
        channels_first = None if layout is None else str(getattr(layout, "value", layout)) == "channels_first"
        pictures = [
            self._read(load_image(image), channels_first=channels_first, kwargs=kwargs)
            for image in flatten_images(images)
        ]
        shapes = list(map(self._shape, pictures))
        check_geometry(shapes=shapes, kwargs=kwargs, return_tensors=return_tensors)
        warn_of_many_pixels(shapes, kwargs)
        table = value_table(number_of_bands(shapes), kwargs)
        data: dict[str, Any] = {"pixel_values": self._normalised(pictures, table, kwargs)}
        if segmentation_maps is not None:
            labels = resized_labels(segmentation_maps, shapes=shapes, kwargs=kwargs)
            data["labels"] = self._beside(labels, data["pixel_values"])
        if return_tensors is None:
            data = {name: list(values) for name, values in data.items()}
        return BatchFeature(data=data, tensor_type=return_tensors)

    @abstractmethod
    def _read(self, image: Any, channels_first: bool | None, kwargs: dict[str, Any]) -> Any:
        """An image as 8-bit values, in the backend's form."""

    @abstractmethod
    def _shape(self, picture: Any) -> Shape:
        """Bands, height and width of what `_read` gives."""

    @abstractmethod
    def _normalised(self, pictures: list[Any], table: np.ndarray, kwargs: dict[str, Any]) -> Sequence[Any]:
        """Resize the pictures and look their values up in the table (bands, 256)."""

    @abstractmethod
    def _beside(self, labels: Sequence[np.ndarray], pixel_values: Sequence[Any]) -> Sequence[Any]:
        """The labels in the form, and on the device, of the pixel values."""

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
        masks, probabilities = logits_to_masks(logits, target_sizes=target_sizes, threshold=threshold)
        return (masks, probabilities) if return_probabilities else masks


class RRSISImageProcessor(_ImagesAndMasks, PilBackend):
    r"""Prepare aerial images and masks for the referring segmentation models, by PIL, on the CPU.

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
        >>> import numpy as np
        >>> from processing_rrsis import RRSISImageProcessor

        >>> image = np.zeros((600, 800, 3), dtype=np.uint8)
        >>> mask = np.zeros((600, 800), dtype=bool)
        >>> inputs = RRSISImageProcessor()(image, segmentation_maps=mask, return_tensors="pt")
        >>> inputs["pixel_values"].shape, inputs["labels"].shape
        (torch.Size([1, 3, 480, 480]), torch.Size([1, 480, 480]))
    """

    def _preprocess_image_like_inputs(  # type: ignore[override]
        self, images: Any, segmentation_maps: Any = None, *, device: Any = None, **kwargs: Any
    ) -> BatchFeature:
        if device is not None and torch.device(device).type != "cpu":
            raise ValueError(
                f'device: expected None or "cpu", because PIL computes on the CPU, got {device!r}; move the result '
                "with .to(device), or use RRSISImageProcessorTorchvision"
            )
        return super()._preprocess_image_like_inputs(images, segmentation_maps, **kwargs)

    def _read(self, image: Any, channels_first: bool | None, kwargs: dict[str, Any]) -> list[Image.Image]:
        if kwargs.get("do_convert_rgb") is False:
            return to_bands8(image, channels_first=channels_first)
        return [to_rgb8(image, channels_first=channels_first)]

    def _shape(self, picture: list[Image.Image]) -> Shape:
        return sum(len(part.getbands()) for part in picture), picture[0].height, picture[0].width

    def _normalised(
        self, pictures: list[list[Image.Image]], table: np.ndarray, kwargs: dict[str, Any]
    ) -> Sequence[np.ndarray]:
        batch = [resized_bands(picture, kwargs) for picture in pictures]
        values = empty_batch([(len(bands), *bands[0].shape) for bands in batch], dtype=table.dtype)
        for bands, outs in zip(batch, values, strict=True):
            for band, row, out in zip(bands, table, outs, strict=True):
                np.take(row, band, out=out, mode="clip")  # "clip": no copy of out
        return values

    def _beside(self, labels: Sequence[np.ndarray], pixel_values: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        return labels


class RRSISImageProcessorTorchvision(_ImagesAndMasks, TorchvisionBackend):  # type: ignore[misc]  # masks beside images
    r"""Prepare images as [`RRSISImageProcessor`] does, but resize them by torchvision, on the device they are on.

    Takes, refuses and returns the same, as tensors: each on its image's device, or on `device` where a call names one;
    images in a batch must then be on one. 8-bit tensors never leave their device. Other dtypes, whose values are
    ranked or scaled, are brought to 8 bit on the CPU and come back; masks are prepared on the CPU too.

    The difference to PIL: the two round resized values at different steps. Of 480 × 480 values, up to 5 % (on a CPU
    with AVX-512) or 13 to 27 % (on an H200) come out as the next one of the 256, in noise a few as the next but one.
    After normalisation such a step is 1/255 divided by the band's standard deviation, at most 0.0176. Images that need
    no resizing give equal values, and labels are equal everywhere.

    In a process that has imported `modeling_rrsis`, `AutoImageProcessor` and `AutoProcessor` give this one for
    `backend="torchvision"`, and PIL's without it.

    Args:
        kwargs: the arguments of [`RRSISImageProcessor`].

    Example:
        >>> import torch
        >>> from processing_rrsis import RRSISImageProcessorTorchvision

        >>> device = "cuda" if torch.cuda.is_available() else "cpu"
        >>> images = torch.zeros(2, 3, 600, 800, dtype=torch.uint8, device=device)
        >>> inputs = RRSISImageProcessorTorchvision()(images, return_tensors="pt")
        >>> inputs["pixel_values"].shape, inputs["pixel_values"].device == images.device
        (torch.Size([2, 3, 480, 480]), True)
    """

    def _read(self, image: Any, channels_first: bool | None, kwargs: dict[str, Any]) -> torch.Tensor:
        keep_bands = kwargs.get("do_convert_rgb") is False
        return to_tensor8(image, channels_first=channels_first, keep_bands=keep_bands).to(kwargs.get("device"))

    def _shape(self, picture: torch.Tensor) -> Shape:
        bands, height, width = picture.shape
        return bands, height, width

    def _normalised(
        self, pictures: list[torch.Tensor], table: np.ndarray, kwargs: dict[str, Any]
    ) -> Sequence[torch.Tensor]:
        rows = torch.from_numpy(table)
        values = []
        for picture in pictures:
            if kwargs["do_resize"]:
                picture = self.resize(picture, size=kwargs["size"], resample=kwargs["resample"])
            looked_up = [row[band.int()] for row, band in zip(rows.to(picture.device), picture, strict=True)]
            values.append(torch.stack(looked_up))
        return torch.stack(values) if len({value.shape for value in values}) == 1 else values  # type: ignore[return-value]

    def _beside(self, labels: Sequence[np.ndarray], pixel_values: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        tensors = [
            torch.from_numpy(label).to(values.device) for label, values in zip(labels, pixel_values, strict=True)
        ]
        return torch.stack(tensors) if isinstance(pixel_values, torch.Tensor) else tensors  # type: ignore[return-value]

    def to_dict(self) -> dict[str, Any]:
        """The settings, under PIL's name: as in transformers, the backend is chosen when they are loaded."""
        return {**super().to_dict(), "image_processor_type": RRSISImageProcessor.__name__}
