"""Pixel values of any mask to labels; what a mask means is decided before anything is converted.

Travels to the Hub.
"""

from typing import Any

import numpy as np
import torch
from PIL import Image

from .image_values_rrsis import checked, without_nodata

_TIFF_SUBFILE, _TIFF_EXTRA_BANDS = 254, 338
_TIFF_REDUCED = 1


def to_label_map(segmentation_map: Any) -> np.ndarray:
    """Convert one mask to labels at its own size.

    Args:
        segmentation_map: PIL image (single band or palette) or array (H, W), (H, W, 1) or (1, H, W), with the values
            {0, 255} or {0, 1} or bool; where 0, 1 and 255 all occur (or 1 and 255), 255 marks ignored pixels. A
            palette counts by its colours where those in use are black and white, by its indices where its first is
            black, the ground. Where a PIL image has transparent pixels, white that is visible is the target, see
            `without_alpha`. Pixels without data (`numpy.ma`, a TIFF's nodata) are background if they are 0, ignored
            if they alone are 255.

    Returns:
        uint8 (H, W): 0 background, 1 target, 255 ignored.

    Raises:
        TypeError: no image and no array.
        ValueError: several bands or pages, zero size, or other values, also without data.
    """
    if isinstance(segmentation_map, Image.Image):
        array = mask_values(segmentation_map)
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
    values = np.ma.getdata(array)
    hidden = np.ma.getmaskarray(array) & (values != 0)
    if not hidden.any():
        return _read_labels(values)
    if (values[hidden] != 255).any() or (values[~hidden] == 255).any():
        raise ValueError(
            "segmentation map: expected 0 where there are no data, or 255 there and nowhere else, got pixels whose "
            "values and nodata, alpha or mask tell different shapes; save the mask as plain 0 and 255"
        )
    labels = _read_labels(np.where(hidden, 0, values))
    labels[hidden] = 255
    return labels


def mask_values(mask: Image.Image) -> np.ndarray:
    """Return the numbers of a mask image, before anything is decided about them.

    Returns:
        (H, W), or (H, W, bands) of colours; upright, alpha resolved as [`without_alpha`] does, masked where a TIFF has
        no data. Of a palette the gray values where it uses black and white alone, else the indices.

    Raises:
        ValueError: as [`without_alpha`]; several pages, of which a TIFF's mask may be one; a band without a meaning; a
            palette of other colours whose first isn't black; inks and other colour spaces.
    """
    if _has_pages(mask) or 0 in np.atleast_1d(getattr(mask, "tag_v2", {}).get(_TIFF_EXTRA_BANDS, 1)):
        raise ValueError(
            "segmentation map: expected one page, and bands of known meaning, got more, which may tell another shape; "
            "save what is meant as plain 0 and 255"
        )
    if mask.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        raise ValueError(
            f"segmentation map: expected gray, or red, green and blue, got {mask.mode}, whose numbers aren't the "
            "brightness that it shows; save the mask as plain 0 and 255"
        )
    plain = without_alpha(checked(mask))
    return without_nodata(_palette_values(plain) if plain.mode == "P" else np.asarray(plain), mask)


def _has_pages(image: Image.Image) -> bool:
    """Whether a file holds other pages than smaller versions of its first."""
    try:
        number = 1
        while True:
            image.seek(number)
            if getattr(image, "tag_v2", {}).get(_TIFF_SUBFILE) != _TIFF_REDUCED:
                return True
            number += 1
    except EOFError:
        return False
    except SyntaxError:  # a TIFF's mask, which is no mode of PIL's
        return True
    finally:
        image.seek(0)


def without_alpha(mask: Image.Image) -> Image.Image:
    """Return what a mask image with alpha means, without alpha.

    An opaque one counts by its colours. Where pixels are transparent, the target is what is visible, if that is white
    alone; visible black and white count by colour if what is transparent is black, or nothing is visible but one
    colour below. All else would be a guess.

    Args:
        mask: any mode; one without alpha is handed back.

    Returns:
        The colours of an opaque mask; else mode L, 0 and 255.

    Raises:
        ValueError: half-transparent pixels, or a shape that can be read both ways.
    """
    if not mask.has_transparency_data or mask.mode not in ("L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa"):
        return mask
    pixels = np.asarray(mask.convert("RGBA"))
    alpha, colours = pixels[:, :, 3], pixels[:, :, :3]
    if (alpha == 255).all():
        return mask if mask.mode in ("L", "P", "RGB") else mask.convert("L" if mask.mode in ("LA", "La") else "RGB")
    visible, white = alpha > 0, (colours == 255).all(axis=-1)
    black = (colours == 0).all(axis=-1)
    clear = not ((alpha > 0) & (alpha < 255)).any() and (white | black)[visible].all()
    if clear and (white[visible].all() if visible.any() else white.all() or black.all()):
        return Image.fromarray(visible.astype(np.uint8) * np.uint8(255))
    if clear and white[visible].any() and black[~visible].all():
        return Image.fromarray(white.astype(np.uint8) * np.uint8(255))
    raise ValueError(
        "segmentation map: expected black and white, or white on transparent ground, got transparent pixels that "
        "leave open what the target is; save the mask without transparency"
    )


def _palette_values(image: Image.Image) -> np.ndarray:
    """Return a palette image's gray values where it uses only black and white, else its indices, if 0 is black.

    Indices have no order in a palette that was made from the pixels: Pillow's quantisation may put the shape first.
    """
    indices = np.asarray(image)
    palette = np.zeros((256, 3), dtype=np.uint8)
    colours = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    palette[: len(colours)] = colours
    used = palette[np.unique(indices)]
    is_gray = (used == used[:, :1]).all() and np.isin(used, (0, 255)).all()
    if is_gray and (len(used) == 1 or (used != used[0]).any()):  # one colour for several indices says nothing
        return palette[:, 0][indices]
    if palette[0].any():
        raise ValueError(
            "segmentation map: expected a palette of black and white, or of which the first colour is black, got one "
            "that leaves open which colour is the target; save the mask as plain 0 and 255"
        )
    return indices


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
