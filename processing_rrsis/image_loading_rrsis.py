"""Any aerial image in, decoded: files, URLs and bytes, and the errors that name them.

Used by the image processor, the pipeline and the dataset builders. Travels to the Hub.
"""

import io
import re
import warnings
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import numpy as np
from PIL import Image, UnidentifiedImageError

from .image_values_rrsis import exif_orientation, to_bands8, to_label_map, to_rgb8, to_uint8

try:  # only for TIFFs of many bands or bit depths, which PIL does not read
    import rasterio
except ImportError:
    rasterio = None

__all__ = ["decode_image", "exif_orientation", "load_image", "to_bands8", "to_label_map", "to_rgb8"]

_URL_PREFIXES = ("http://", "https://")
_URL_TIMEOUT_S = 30
_MEMORY_NAME = re.compile(r"\S*[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}[\w./]*")
"""The random name that rasterio gives to a file in memory."""
_TIFF_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def load_image(source: Any) -> Any:
    """Open a path or URL with PIL and decode it; anything else is handed back as it came.

    Unlike `transformers.image_utils.load_image` nothing is converted: a 16-bit file keeps its values, which
    `to_rgb8` then stretches once instead of clipping them at 255. The exception are TIFFs that PIL does not read
    (five and more bands, 16-bit or float data in several bands): see `decode_image`.

    Args:
        source: path (str or `Path`), http(s) URL, PIL image, or array.

    Returns:
        The decoded PIL image in its own mode, or `source` itself where it is no path and no URL.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no image, a truncated one, or one so large that decoding it is refused; the text names the file.
        ConnectionError: the URL could not be read.
    """
    if not isinstance(source, str | Path):
        return source
    name = str(source)
    if name.startswith(_URL_PREFIXES):
        return decode_image(_read_url(name), name=name)
    try:
        path = Path(source).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(
            f"image file {name!r}: expected an existing file, got '~' of an unknown user"
        ) from error
    if not path.exists():
        raise FileNotFoundError(
            f"image file {name!r}: expected an existing file or an http(s) URL, found nothing there"
        )
    if path.is_dir():
        raise ValueError(
            f"image file {name!r}: expected a file, got a folder; pass the images one by one or as a list"
        )
    with path.open("rb") as stream:
        return _decode(stream, name=name)


def _read_url(url: str) -> bytes:
    try:
        with urlopen(Request(url, headers={"User-Agent": "rrsis"}), timeout=_URL_TIMEOUT_S) as response:
            return response.read()
    except (URLError, TimeoutError, OSError) as error:
        raise ConnectionError(
            f"image URL {url!r} could not be read ({error}); download it and pass the file"
        ) from error


def decode_image(data: bytes, name: str, reduced: bool = False) -> Image.Image:
    """Decode a file's bytes completely, so that a damaged file fails here and by name.

    A TIFF that PIL does not read goes through rasterio where that is installed and comes back as 8-bit RGB: of the
    bands that the file marks as red, green and blue, else of its first three (one or two bands: the first, as gray),
    with the values of `to_rgb8`; pixels without data become black and are left out of the stretch.

    Args:
        data: the content of the file.
        name: its name, for messages.
        reduced: a JPEG may come back at an eighth of its size: all of the file is read, in less than half the time.

    Returns:
        The decoded image in its own mode, its EXIF rotation not yet applied.

    Raises:
        ValueError: as `load_image`.
    """
    return _decode(io.BytesIO(data), name=name, reduced=reduced)


def _decode(stream: Any, name: str, reduced: bool = False) -> Image.Image:
    try:
        image = Image.open(stream)
        if reduced and image.format == "JPEG":
            image.draft(image.mode, (max(1, image.width // 8), max(1, image.height // 8)))
        image.load()
    except UnidentifiedImageError as error:
        stream.seek(0)
        if stream.read(4) in _TIFF_BEGINNINGS:
            stream.seek(0)
            return _decode_bands(stream.read(), name=name)
        raise ValueError(
            f"image file {name!r}: expected an image PIL can read (JPEG, PNG, TIFF with 8-bit or single-band 16-bit "
            "data), got something else; read a multi-band scene with rasterio and pass the array"
        ) from error
    except Image.DecompressionBombError as error:
        raise _bomb(name, str(error)) from error
    except Exception as error:  # on damaged files the formats' readers raise nearly every kind there is
        raise ValueError(
            f"image file {name!r}: expected a complete image, got a truncated or damaged one ({error}); fetch it again"
        ) from error
    return image


def _bomb(name: str, reason: str) -> ValueError:
    return ValueError(
        f"image file {name!r}: {reason}; cut it into parts, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file"
    )


def _decode_bands(data: bytes, name: str) -> Image.Image:
    """Read a TIFF that PIL does not read; which bands and values `decode_image` says."""
    if rasterio is None:
        raise ValueError(
            f"image file {name!r}: expected an image PIL can read (JPEG, PNG, TIFF with 8-bit or single-band 16-bit "
            "data), got a TIFF of other bands or bit depth; install rasterio (pip install 'rrsis[geo]') to read it"
        )
    try:
        with warnings.catch_warnings(), rasterio.MemoryFile(data) as memory:
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            dataset = memory.open(driver="GTiff")
            limit = 2 * Image.MAX_IMAGE_PIXELS if Image.MAX_IMAGE_PIXELS else None  # the bound of PIL's own check
            if limit is not None and dataset.width * dataset.height > limit:
                raise _bomb(name, f"{dataset.width} × {dataset.height} pixels exceed the limit of {limit}")
            colours = {colour.name: band for band, colour in enumerate(dataset.colorinterp, start=1)}
            bands = [colours.get(colour, 0) for colour in ("red", "green", "blue")]
            if 0 in bands:
                bands = [1, 2, 3] if dataset.count >= 3 else [1]
            pixels = np.moveaxis(dataset.read(bands), 0, -1)  # (H, W, 1 or 3)
            valid = dataset.dataset_mask() > 0
    except rasterio.errors.RasterioError as error:
        reason = _MEMORY_NAME.sub("the file", str(error))
        raise ValueError(
            f"image file {name!r}: expected a complete TIFF, got a damaged one ({reason}); fetch it again"
        ) from error
    if pixels.dtype.kind not in "biuf":
        raise ValueError(f"image file {name!r}: expected integer or float pixels, got {pixels.dtype}")
    if pixels.dtype.kind == "f":
        valid &= np.isfinite(pixels).all(axis=-1)
    result = np.zeros(pixels.shape, dtype=np.uint8)
    if valid.any():
        result[valid] = to_uint8(pixels[valid])
    return Image.fromarray(np.broadcast_to(result, (*result.shape[:2], 3)).copy())
