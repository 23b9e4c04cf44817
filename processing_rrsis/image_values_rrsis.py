"""Pixel values of any image to 8-bit RGB, of any mask to labels: modes, bit depths, channel layouts.

Travels to the Hub.
"""

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

_EIGHT_BIT_MODES = frozenset(
    ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
)
_EXIF_ORIENTATION = 0x0112
_STRETCH_PERCENTILES = (2.0, 98.0)


def to_rgb8(image: Any, channels_first: bool | None = None) -> Image.Image:
    """Convert one image to 8-bit RGB.

    PIL images are rotated as their EXIF says. Gray is repeated, palettes and CMYK are resolved, alpha is dropped (the
    colour under transparent pixels stays as stored). Values become 8-bit like this:

    - uint8 and bool: as they are (bool: 0 and 255);
    - float in [0, 1]: times 255; float or integer (not uint16) in [0, 255]: rounded;
    - everything else, uint16 always: one linear stretch over all bands together, 2nd percentile to 0 and 98th to 255.

    Args:
        image: PIL image of any mode, or numpy array / torch tensor (H, W), (H, W, C) or (C, H, W) with C of 1, 3, 4.
        channels_first: the layout of an array; None finds it from the shape (a tie: first for torch, last for numpy).

    Returns:
        PIL image of mode RGB.

    Raises:
        TypeError: no image at all.
        ValueError: zero size, wrong number of channels, NaN or infinite values.
    """
    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise _zero_size(image.size[::-1])
        image = upright(image)
        if image.mode in _EIGHT_BIT_MODES:
            return _resolve_mode(image)
        return _array_to_rgb8(_to_channels_last(np.asarray(image), channels_first=None))
    return _array_to_rgb8(_to_channels_last(*_to_array(image, channels_first)))


def _to_array(image: Any, channels_first: bool | None) -> tuple[np.ndarray, bool | None]:
    """Bring an array or a tensor to numpy; a tie between layouts is channels first for tensors."""
    if isinstance(image, torch.Tensor):
        channels_first = True if channels_first is None and _is_tie(tuple(image.shape)) else channels_first
        tensor = image.detach().cpu()
        image = (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor).numpy()
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f"image: expected a PIL image, a numpy array or a torch tensor, got {type(image).__name__}; "
            "open files with PIL.Image.open or hand the path to the pipeline"
        )
    return image, channels_first


def to_bands8(image: Any, channels_first: bool | None = None) -> list[Image.Image]:
    """Convert one image to 8 bit like [`to_rgb8`], but keep its bands: no repetition of gray, alpha as a band.

    Args:
        image: as for [`to_rgb8`]; a PIL mode other than L, LA, RGB and RGBA is converted to RGB.
        channels_first: as for [`to_rgb8`].

    Returns:
        One PIL image of mode L for each of the 1, 2, 3 or 4 bands.

    Raises:
        TypeError: no image at all.
        ValueError: zero size, wrong number of channels, NaN or infinite values.
    """
    if isinstance(image, Image.Image):
        kept = image.mode in ("L", "LA", "RGB", "RGBA") and 0 not in image.size
        return list((upright(image) if kept else to_rgb8(image)).split())
    array = _to_channels_last(*_to_array(image, channels_first), keep_alpha=True)
    return [Image.fromarray(band) for band in np.ascontiguousarray(np.moveaxis(to_uint8(array), -1, 0))]


def to_tensor8(image: Any, channels_first: bool | None = None, keep_bands: bool = False) -> torch.Tensor:
    """Convert one image to 8 bit like [`to_rgb8`], as a tensor on the device that it is on.

    An 8-bit tensor is read where it is; other tensors go through the CPU, where their values become 8-bit.

    Args:
        image: as for [`to_rgb8`].
        channels_first: as for [`to_rgb8`].
        keep_bands: keep the bands, as [`to_bands8`] does.

    Returns:
        uint8 (bands, H, W), 3 bands without `keep_bands`.

    Raises:
        TypeError, ValueError: as [`to_rgb8`].
    """
    if isinstance(image, torch.Tensor) and image.dtype == torch.uint8:
        is_first = True if channels_first is None and _is_tie(tuple(image.shape)) else channels_first
        bands = _to_channels_last(image, is_first, keep_alpha=keep_bands).movedim(-1, 0)
        return bands.expand(3, -1, -1) if len(bands) == 1 and not keep_bands else bands
    pictures = to_bands8(image, channels_first) if keep_bands else [to_rgb8(image, channels_first)]
    parts = [np.atleast_3d(np.asarray(picture)) for picture in pictures]
    tensor = torch.from_numpy(np.concatenate(parts, axis=-1)).movedim(-1, 0)
    return tensor.to(image.device) if isinstance(image, torch.Tensor) else tensor


def upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF rotation; an image without one is handed back uncopied."""
    return ImageOps.exif_transpose(image) if exif_orientation(image) != 1 else image


def exif_orientation(image: Image.Image) -> int:
    """Return how an image is to be turned to be upright: 1 (as it is) to 8; 1 where the EXIF data are damaged."""
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # damaged EXIF raises nearly every kind there is, and the pixels are fine
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _resolve_mode(image: Image.Image) -> Image.Image:
    """Convert an 8-bit mode to RGB; premultiplied and palette alpha go through the plain mode first."""
    if image.mode == "RGB":
        return image
    if image.mode in ("La", "RGBa", "PA", "LAB"):
        plain = {"La": "LA", "RGBa": "RGBA", "PA": "RGBA", "LAB": "LAB"}[image.mode]
        if image.mode == "LAB":
            from PIL import ImageCms

            to_srgb = ImageCms.buildTransform(
                ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), inMode="LAB", outMode="RGB"
            )
            converted = ImageCms.applyTransform(image, to_srgb)
            return image.convert("RGB") if converted is None else converted
        image = image.convert(plain)
    return image.convert("RGB")


def _zero_size(shape: tuple[int, ...]) -> ValueError:
    return ValueError(f"image: expected a height and width of at least 1 pixel, got shape {tuple(shape)}; remove it")


def _is_tie(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[0] in (1, 3, 4) and shape[-1] in (1, 3, 4)


def _to_channels_last(array: Any, channels_first: bool | None, keep_alpha: bool = False) -> Any:
    """Return an array or tensor as (H, W, C) with C of 1 or 3 (alpha dropped, or kept: 4), checked."""
    if array.ndim == 2:
        array = array[:, :, None]
    elif array.ndim != 3:
        raise ValueError(
            f"image: expected an array of shape (H, W), (H, W, C) or (C, H, W), got {tuple(array.shape)}; "
            "pass a batch as a list of images or as one array (B, H, W, C) or (B, C, H, W)"
        )
    elif channels_first or (channels_first is None and array.shape[0] in (1, 3, 4) and not _is_tie(array.shape)):
        array = torch.movedim(array, 0, -1) if isinstance(array, torch.Tensor) else np.moveaxis(array, 0, -1)
    if array.shape[-1] not in (1, 3, 4):
        raise ValueError(
            "image: expected 1 (gray), 3 (RGB) or 4 (RGB and alpha) channels first or last, got shape "
            f"{tuple(array.shape)}; choose three bands"
        )
    if 0 in array.shape:
        raise _zero_size(array.shape)
    return array[:, :, :3] if array.shape[-1] == 4 and not keep_alpha else array


def _array_to_rgb8(array: np.ndarray) -> Image.Image:
    """Bring (H, W, 1 or 3) values of any dtype to 8 bit and to three channels."""
    array = to_uint8(array)
    if array.shape[-1] == 1:
        return Image.fromarray(array[:, :, 0]).convert("RGB")
    return Image.fromarray(np.ascontiguousarray(array))


def to_uint8(array: np.ndarray) -> np.ndarray:
    """Apply the value rules of `to_rgb8`."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        if not finite.all():
            raise ValueError(
                f"image: expected finite pixel values, got {int(finite.size - finite.sum())} NaN or infinite ones of "
                f"{finite.size}; replace them (nodata) before the call"
            )
    elif array.dtype.kind not in "iu":
        raise TypeError(f"image: expected integer, float or bool pixels, got dtype {array.dtype}")
    low, high = float(array.min()), float(array.max())
    if array.dtype != np.uint16 and low >= 0.0 and high <= 255.0:
        scale = 255.0 if array.dtype.kind == "f" and high <= 1.0 else 1.0
        return np.rint(array.astype(np.float64) * scale).astype(np.uint8)
    return _stretch(array, low=low, high=high)


def _stretch(array: np.ndarray, low: float, high: float) -> np.ndarray:
    """Stretch linearly from the 2nd to the 98th percentile; from the extremes where those two are equal."""
    values = array.astype(np.float64)
    lower, upper = (float(value) for value in np.percentile(values, _STRETCH_PERCENTILES))
    if upper <= lower:
        lower, upper = low, high
    if upper <= lower:
        return np.zeros(array.shape, dtype=np.uint8)
    return np.rint(np.clip((values - lower) / (upper - lower), 0.0, 1.0) * 255.0).astype(np.uint8)


def to_label_map(segmentation_map: Any) -> np.ndarray:
    """Convert one mask to labels at its own size.

    Args:
        segmentation_map: PIL image (single band or palette) or array (H, W), (H, W, 1) or (1, H, W), with the values
            {0, 255} or {0, 1} or bool; where 0, 1 and 255 all occur (or 1 and 255), 255 marks ignored pixels. A
            palette counts by its indices, but by its colours where those in use are black and white.

    Returns:
        uint8 (H, W): 0 background, 1 target, 255 ignored.

    Raises:
        TypeError: no image and no array.
        ValueError: several bands, zero size, or other values.
    """
    if isinstance(segmentation_map, Image.Image):
        oriented = upright(segmentation_map)
        if oriented.mode == "P":
            array = _palette_values(oriented)
        else:
            array = np.asarray(oriented.convert("L") if oriented.mode == "LA" else oriented)
    elif isinstance(segmentation_map, torch.Tensor):
        array = segmentation_map.detach().cpu().numpy()
    elif isinstance(segmentation_map, np.ndarray):
        array = segmentation_map
    else:
        raise TypeError(
            "segmentation map: expected a PIL image, a numpy array or a torch tensor, got "
            f"{type(segmentation_map).__name__}"
        )
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[-1]):
        array = array[0] if array.shape[0] == 1 else array[:, :, 0]
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(
            f"segmentation map: expected one band of shape (H, W) with H, W >= 1, got {array.shape}; "
            'convert a colour mask with mask.convert("L")'
        )
    return _read_labels(array)


def _palette_values(image: Image.Image) -> np.ndarray:
    """Return a palette image's gray values where it uses only black and white, else its indices.

    Indices have no order in a palette that was made from the pixels: Pillow's quantisation may put white first.
    """
    indices = np.asarray(image)
    palette = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    used = np.unique(indices)
    if not used.size or used[-1] >= len(palette):
        return indices
    colours = palette[used]
    gray = colours[:, 0]
    two_tone = (colours == gray[:, None]).all() and np.isin(gray, (0, 255)).all()
    if not two_tone or (used.size > 1 and (gray == gray[0]).all()):  # one colour for several indices says nothing
        return indices
    return palette[:, 0][indices]


def _read_labels(array: np.ndarray) -> np.ndarray:
    """Map the values to 0, 1 and 255; in a mask of only 0 and 255, 255 is the target."""
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    with np.errstate(invalid="ignore"):  # NaN has no 8-bit value; it is found to differ below
        values = array.astype(np.uint8)
    wrapped = values + np.uint8(1)  # 255, 0 and 1 become 0, 1 and 2: one pass finds all others
    odd = np.unique(values[wrapped > 2]) if wrapped.max() > 2 else values[:0]
    if array.dtype != np.uint8 and not np.array_equal(values, array):
        odd = np.unique(array[values != array])
    if odd.size:
        raise ValueError(
            f"segmentation map: expected only 0 and 255, or 0 and 1 (255 ignored), got also {odd[:5].tolist()}; "
            "threshold the mask first, e.g. mask > 127"
        )
    return values if (values == 1).any() else (values == 255).view(np.uint8)
