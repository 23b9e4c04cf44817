"""Pixel values of any image to 8-bit RGB: modes, bit depths, channel layouts.

A scene's values, read in windows, take one stretch for all of them: `scenes/reading/bands.py`.

Travels to the Hub.
"""

from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from PIL import Image, ImageFile, ImageOps

_EIGHT_BIT_MODES = frozenset(
    ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
)
_EXIF_ORIENTATION = 0x0112
_TIFF_BITS, _TIFF_SAMPLE_FORMAT, _TIFF_NODATA, _TIFF_GDAL = 258, 339, 42113, 42112
_TIFF_PHOTOMETRIC, _TIFF_STRIPS, _TIFF_TILES = 262, 273, 324
_TIFF_BLACK_IS_ZERO = 1
BESIDE = (".msk", ".aux.xml")
"""Endings of files in which GDAL keeps a mask, nodata and more, added to the image's name."""
_STRETCH_PERCENTILES = (2.0, 98.0)
_UNIT_BELOW = 4.0
"""Floats whose 98th percentile is lower are of [0, 1]: as values of [0, 255] they would all be black."""
_ROWS_AT_ONCE = 256


def to_rgb8(image: Any, channels_first: bool | None = None) -> Image.Image:
    """Convert one image to 8-bit RGB.

    PIL images are rotated as their EXIF says. Gray is repeated, palettes and CMYK are resolved, alpha is dropped.
    uint8 and bool (0 and 255) stay as they are, the colour under transparent pixels too. All other values are mapped
    linearly, in all bands alike, from a window to 0 to 255, and clipped:

    - the window is [0, 255] if the values lie in it; for floats of a 98th percentile p, [0, 1] up to p = 4, from there
      on [0, (p / 4)²] until that is 255;
    - it is [2nd percentile, 98th percentile] for uint16, and if values lie beyond the window by its length or more;
    - between, as far as values lie beyond, it passes from the one to the other;
    - where these percentiles are equal the lowest and the highest value are taken; where all are equal they are black.

    What is marked invalid takes no part in that, and becomes black: pixels of which one band is masked (`numpy.ma`;
    nodata, masks and transparent pixels of files), NaN or infinite, or whose fourth band, alpha, is 0.

    Args:
        image: PIL image of any mode, or numpy array / torch tensor (H, W), (H, W, C) or (C, H, W) with C of 1, 3, 4.
        channels_first: the layout of an array; None finds it from the shape (a tie: first for torch, last for numpy).

    Returns:
        PIL image of mode RGB.

    Raises:
        TypeError: no image at all.
        ValueError: zero size, wrong number of channels, no valid pixel, or a PIL image that shows less than its file.
    """
    if isinstance(image, Image.Image) and image.mode in _EIGHT_BIT_MODES:
        return _resolve_mode(checked(image))
    return _array_to_rgb8(_to_channels_last(*_to_array(image, channels_first), keep_alpha=True))


def _to_array(image: Any, channels_first: bool | None) -> tuple[np.ndarray, bool | None]:
    """Bring an image to numpy; a tie between layouts is channels first for tensors."""
    if isinstance(image, Image.Image):
        return _deep_values(image), None
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


def _deep_values(image: Image.Image) -> np.ndarray:
    """Return a PIL image of more than 8 bits as an array (H, W), masked where its file says that there are no data."""
    return without_nodata(np.asarray(checked(image)), image, image.info.get("transparency"))


def without_nodata(values: np.ndarray, image: Image.Image, otherwise: Any = None) -> np.ndarray:
    """Mask the values of an image that its TIFF calls no data, or that equal `otherwise`."""
    nodata = getattr(image, "tag_v2", {}).get(_TIFF_NODATA, otherwise)
    try:
        return values if nodata is None else np.ma.MaskedArray(values, mask=values == float(str(nodata).strip("\0 ")))
    except ValueError:  # damaged: GDAL reads no number there either
        return values


def checked(image: Image.Image) -> Image.Image:
    """Turn a PIL image upright.

    Raises:
        ValueError: it has no pixels, or PIL shows less than its file says, as far as it still knows its file.
    """
    if 0 in image.size:
        raise _zero_size(image.size[::-1])
    if isinstance(image, ImageFile.ImageFile) and not _is_whole(image):
        raise ValueError(
            f"image: expected all that the file says, but of this {image.format} file PIL loses bits, a mask or what "
            "the values mean; hand over the path, or read it with rasterio and pass the array"
        )
    return upright(image)


def _is_whole(image: ImageFile.ImageFile) -> bool:
    """Whether an opened or loaded PIL image shows its file, as far as it still knows that."""
    if hasattr(image, "tag_v2") and image.filename and exif_orientation(image) > 4:
        return False  # Pillow 12.3 maps such a file into memory with height and width exchanged
    if image.mode not in _EIGHT_BIT_MODES:
        return is_plain_band(image)
    if image.tile or hasattr(image, "tag_v2"):
        return not is_deep(image)
    try:
        with Image.open(image.filename, formats=[str(image.format)]) as again:
            return not is_deep(again)
    except (OSError, ValueError, AttributeError):
        return True


def is_plain_band(image: ImageFile.ImageFile) -> bool:
    """Whether PIL reads a deep image as rasterio does: one band whose numbers it keeps, and nothing that masks them.

    Args:
        image: opened or loaded, of any format.
    """
    name = str(image.filename or getattr(getattr(image, "fp", None), "name", ""))
    if image.mode in _EIGHT_BIT_MODES or getattr(image, "is_animated", False):  # another page may be a mask
        return False
    if image.format not in ("PNG", "TIFF") or any(Path(name + ending).exists() for ending in BESIDE):
        return False
    tags = getattr(image, "tag_v2", {_TIFF_PHOTOMETRIC: _TIFF_BLACK_IS_ZERO})
    is_unsigned_32 = 32 in tags.get(_TIFF_BITS, ()) and 1 in tags.get(_TIFF_SAMPLE_FORMAT, (1,))  # PIL gives signs
    return not (
        is_unsigned_32
        or _is_sparse(image)
        or tags.get(_TIFF_PHOTOMETRIC) != _TIFF_BLACK_IS_ZERO
        or "NODATA_VALUES" in str(tags.get(_TIFF_GDAL))
    )


def _is_sparse(image: ImageFile.ImageFile) -> bool:
    """Whether a TIFF leaves parts out: PIL reads the file's beginning there."""
    tags = getattr(image, "tag_v2", {})
    return 0 in tags.get(_TIFF_STRIPS, ()) or 0 in tags.get(_TIFF_TILES, ())


def is_deep(image: ImageFile.ImageFile) -> bool:
    """Whether an image that PIL has opened, and not yet loaded, holds other values than the 8 bits that PIL shows.

    That is: more bits, a sign, a fraction, or parts that a TIFF leaves out.

    Args:
        image: from `PIL.Image.open`: JPEG, PNG, TIFF, BMP, WebP, GIF, JPEG 2000, PPM or AVIF.
    """
    if image.mode not in _EIGHT_BIT_MODES:
        return True
    if hasattr(image, "tag_v2"):
        bits, signs = image.tag_v2.get(_TIFF_BITS, (1,)), image.tag_v2.get(_TIFF_SAMPLE_FORMAT, (1,))
        return max(bits) > 8 or any(sign != 1 for sign in signs) or _is_sparse(image)
    if image.format in ("PNG", "SGI"):
        return "16" in f"{image.tile[0].codec_name}{image.tile[0].args}"
    if image.format == "PPM":
        tile = image.tile[0]
        return tile.codec_name.startswith("ppm") and cast(tuple[Any, ...], tile.args)[-1] > 255
    if image.format not in ("JPEG2000", "AVIF"):
        return False
    stream = cast(BinaryIO, image.fp)
    place = stream.tell()
    stream.seek(0)
    head = stream.read(1 << 12)
    stream.seek(place)
    if (
        image.format == "AVIF"
    ):  # ISO/IEC 23000-22: the second byte after a configuration's version says "high bit depth"
        return any(part[2:3] and part[2] & 0x40 for part in head.split(b"av1C")[1:])
    header = head.find(b"ihdr")  # ISO/IEC 15444-1: height, width, components, then bits less 1, 128 for signed ones
    depths = head[header + 14 : header + 15] if header >= 0 else head[42 : 42 + 3 * head[41] : 3]
    return any(depth > 7 for depth in depths)


def to_bands8(image: Any, channels_first: bool | None = None) -> list[Image.Image]:
    """Convert one image to 8 bit like [`to_rgb8`], but keep its bands: no repetition of gray, alpha as a band.

    Args:
        image: as for [`to_rgb8`]; a PIL mode other than L, LA, RGB and RGBA is converted to RGB.
        channels_first: as for [`to_rgb8`].

    Returns:
        One PIL image of mode L for each of the 1, 2, 3 or 4 bands; alpha is scaled from its type's range, [0, 1] for
        floats.

    Raises:
        TypeError, ValueError: as [`to_rgb8`].
    """
    if isinstance(image, Image.Image):
        kept = image.mode in ("L", "LA", "RGB", "RGBA")
        return list((checked(image) if kept else to_rgb8(image)).split())
    array = to_uint8(_to_channels_last(*_to_array(image, channels_first), keep_alpha=True))
    return [Image.fromarray(band) for band in np.ascontiguousarray(np.moveaxis(array, -1, 0))]


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
            "a batch is passed as a list of images, or to an image processor as one array"
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
    """Bring (H, W, 1, 3 or 4) values of any dtype to 8 bit and to three channels."""
    array = to_uint8(array)
    if array.shape[-1] == 1:
        return Image.fromarray(array[:, :, 0]).convert("RGB")
    return Image.fromarray(np.ascontiguousarray(array[:, :, :3]))


def to_uint8(array: np.ndarray) -> np.ndarray:
    """Apply the value rules of `to_rgb8` to an array (H, W, C), which may be masked; of 4 bands the last is alpha."""
    values = np.ma.getdata(array)
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind not in "iuf":
        raise TypeError(f"image: expected integer, float or bool pixels, got dtype {values.dtype}")
    result = np.zeros(values.shape, dtype=np.uint8)
    colours = values[:, :, :3]
    finite = np.isfinite(colours)
    valid = (finite & ~np.ma.getmaskarray(array)[:, :, :3]).all(axis=-1)
    if values.shape[-1] == 4:
        valid &= values[:, :, 3] > 0
        full = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max)
        _map_window(values[:, :, 3:], 0.0, full, out=result[:, :, 3:])
    if not valid.any():
        num_lost = finite.size - np.count_nonzero(finite)
        raise ValueError(
            f"image: expected finite pixel values in all bands of a pixel, got {num_lost} NaN or infinite ones of "
            f"{finite.size}, others without data or transparent; choose other bands, or leave the image out"
        )
    _map_window(colours, *_window(colours[valid]), out=result[:, :, :3])
    result[:, :, :3][~valid] = 0
    return result


def _window(known: np.ndarray) -> tuple[float, float]:
    """Return the values that become 0 and 255, as `to_rgb8` says."""
    lower, upper = (float(value) for value in np.percentile(known, _STRETCH_PERCENTILES))
    low, high = float(known.min()), float(known.max())
    full = min(min(max(upper / _UNIT_BELOW, 1.0), 16.0) ** 2, 255.0) if known.dtype.kind == "f" else 255.0
    if lower == upper:
        lower, upper = (low, high) if low < high else (low, low + full)
    beyond = min(max(-low, high - full, 0.0) / full, 1.0) if known.dtype.newbyteorder("=") != np.uint16 else 1.0
    return beyond * lower, (1.0 - beyond) * full + beyond * upper


def _map_window(values: np.ndarray, lower: float, upper: float, out: np.ndarray) -> None:
    """Map `lower` to 0 and `upper` to 255, some rows at a time: float64 takes eight times the memory of the result."""
    if lower >= upper:  # too large to tell apart
        return
    for start in range(0, len(values), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        known = np.nan_to_num(values[rows].astype(np.float64), posinf=0.0, neginf=0.0)
        out[rows] = np.rint(np.clip((known - lower) * 255.0 / (upper - lower), 0.0, 255.0))
