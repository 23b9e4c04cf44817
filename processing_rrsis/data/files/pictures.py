"""Image files on their way into a dataset: checked, measured, and kept byte for byte where a reader can open them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...image_labels_rrsis import mask_values, to_label_map, without_alpha
from ...image_loading_rrsis import FORMATS, decode_values, exif_orientation, to_rgb8
from ...image_values_rrsis import upright
from .rows import encode_png

_TURNS: dict[int, Image.Transpose] = {
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by EXIF orientation; 1 to 4 keep height and width."""


@dataclass(frozen=True)
class Picture:
    """An image file.

    Attributes:
        data: The file's bytes, or a PNG of it where Pillow, and so `datasets`, can't open the file.
        size: (height, width) upright, as `datasets`, the image processor and viewers show it.
        orientation: EXIF's, 1 to 8.
    """

    data: bytes
    size: tuple[int, int]
    orientation: int


def read_picture(data: bytes, name: str, beside: Mapping[str, bytes] | None = None) -> Picture:
    """Check that an image decodes completely, and measure it.

    Args:
        data: Content of the file.
        name: Its name, for messages.
        beside: What belongs to it and lies beside it, see `decode_values`.

    Returns:
        The picture; a file that Pillow reads not at all or not whole becomes an 8-bit RGB PNG (`decode_image` says
        which, `to_rgb8` how).

    Raises:
        ValueError: If it is no image, truncated, damaged or too large; the message names the file.
    """
    decoded = decode_values(data, name=name, reduced=True, beside=beside)
    if isinstance(decoded, np.ndarray):
        return Picture(data=encode_png(np.asarray(to_rgb8(decoded))), size=decoded.shape[:2], orientation=1)
    with Image.open(io.BytesIO(data), formats=FORMATS) as header:
        orientation = exif_orientation(header)  # a TIFF is turned as it is decoded, and has none after that
        width, height = decoded.size if header.format == "TIFF" else header.size  # others may be reduced
    is_upright = exif_orientation(decoded) != orientation
    size = (width, height) if orientation in _TURNS and not is_upright else (height, width)
    return Picture(data=data, size=size, orientation=orientation)


def read_gray(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode a mask file to one band of 8 bit, (H, W), upright.

    Raises:
        ValueError: If it is no image, damaged, has more than 8 bits, or a transparent part that leaves open what it
            means; the message names the file.
    """
    image = decode_values(data, name=name)
    if isinstance(image, np.ndarray) or image.mode[0] in "IF":
        raise ValueError(f"mask file {name!r}: expected 8 bits a value, got more; save it with values of 0 to 255")
    try:
        return np.asarray(without_alpha(upright(image)).convert("L"))
    except ValueError as error:
        raise ValueError(f"mask file {name!r}: {error}") from error


def read_mask(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode a mask file of two values to 0 and 255, (H, W), upright.

    Args:
        data: Content of the file: values 0 and 255, 0 and 1, a palette in black and white, palette indices 0 and 1 of
            other colours, three equal bands of these, or white on transparent ground.
        name: Its name, for messages.

    Raises:
        ValueError: If it is no image, damaged, coloured, or has other values; the message names the file.
    """
    image = decode_values(data, name=name, is_mask=True)
    try:
        values = mask_values(image) if isinstance(image, Image.Image) else image
        bands = np.moveaxis(np.atleast_3d(np.ma.getdata(values)), -1, 0)
        if any(not np.array_equal(bands[0], band) for band in bands[1:]):
            raise ValueError("expected one band or three equal ones, got a coloured image")
        labels = to_label_map(values if values.ndim == 2 else values[:, :, 0])
    except ValueError as error:
        raise ValueError(f"mask file {name!r}: {error}") from error
    if (labels == 255).any():
        raise ValueError(
            f"mask file {name!r}: expected two values, got 0, 1 and 255 (ignored), which the column can't hold; "
            "decide for each ignored pixel whether it belongs to the object"
        )
    return labels * np.uint8(255)


def fit_mask(mask: NDArray[np.uint8], picture: Picture) -> tuple[NDArray[np.uint8], bool]:
    """Bring a mask to the upright size of its image.

    A mask that has the size of the stored pixels and not of the upright image is turned with the image; any other
    size is resized by nearest neighbour. Where both sizes are equal (squares, half turns), masks are taken to be drawn
    on the upright image, which is what viewers and labelling tools show.

    Args:
        mask: uint8 (H, W).
        picture: The image it belongs to.

    Returns:
        The mask at the image's size, and whether it was resized.
    """
    if mask.shape == picture.size:
        return mask, False
    image = Image.fromarray(mask)
    if picture.orientation in _TURNS and mask.shape == picture.size[::-1]:
        return np.asarray(image.transpose(_TURNS[picture.orientation])), False
    height, width = picture.size
    return np.asarray(image.resize((width, height), Image.Resampling.NEAREST)), True
