"""Image files on their way into a dataset: checked, measured, and kept byte for byte where a reader can open them."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ...image_loading_rrsis import decode_image, exif_orientation, to_label_map, to_rgb8
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


def read_picture(data: bytes, name: str) -> Picture:
    """Check that an image decodes completely, and measure it.

    Args:
        data: Content of the file.
        name: Its name, for messages.

    Returns:
        The picture; a TIFF of many bands or bit depths becomes an 8-bit RGB PNG (`decode_image` says how).

    Raises:
        ValueError: If it is no image, truncated, damaged or too large; the message names the file.
    """
    decoded = decode_image(data, name=name, reduced=True)
    if decoded.format is None:  # not by Pillow
        return Picture(data=encode_png(np.asarray(to_rgb8(decoded))), size=decoded.size[::-1], orientation=1)
    orientation = exif_orientation(decoded)
    with Image.open(io.BytesIO(data)) as header:
        width, height = header.size  # the decoded one may be reduced
    size = (width, height) if orientation in _TURNS else (height, width)
    return Picture(data=data, size=size, orientation=orientation)


def read_gray(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode a mask file to one band of 8 bit, (H, W), upright.

    Raises:
        ValueError: If it is no image, or damaged; the message names the file.
    """
    return np.asarray(_upright(decode_image(data, name=name)).convert("L"))


def read_mask(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode a mask file of two values to 0 and 255, (H, W), upright.

    Args:
        data: Content of the file: values 0 and 255, 0 and 1, a palette in black and white, palette indices 0 and 1 of
            other colours, or three equal bands of these.
        name: Its name, for messages.

    Raises:
        ValueError: If it is no image, damaged, coloured, or has other values; the message names the file.
    """
    image = _upright(decode_image(data, name=name))
    if image.mode in ("RGB", "RGBA", "LA"):
        bands = image.split()
        colours = [np.asarray(band) for band in bands[: 3 if image.mode.startswith("RGB") else 1]]
        if any(not np.array_equal(colours[0], band) for band in colours[1:]):
            raise ValueError(f"mask file {name!r}: expected one band or three equal ones, got a coloured image")
        image = bands[0]
    try:
        labels = to_label_map(image)
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


def _upright(image: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(image) if exif_orientation(image) != 1 else image
