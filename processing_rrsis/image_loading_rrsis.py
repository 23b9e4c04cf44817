"""Any aerial image in, decoded: files, URLs and bytes, and the errors that name them.

Used by the image processor, the pipeline and the dataset builders. Travels to the Hub.
"""

import base64
import binascii
import io
import os
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from .bounds_rrsis import MAX_FILE_BYTES, MAX_SHOWN_CHARACTERS, read_url, shown
from .image_values_rrsis import BESIDE, exif_orientation, is_deep, is_plain_band, to_bands8, to_rgb8

try:  # only for files of more than three bands or 8 bits, of which PIL reads few and some wrongly
    import rasterio
except ImportError:
    rasterio = None

__all__ = ["BESIDE", "decode_image", "exif_orientation", "load_image", "to_bands8", "to_rgb8"]

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "PPM", "AVIF")
"""PIL's names of the formats that are opened; others stay shut, PostScript above all."""
_DRIVERS = {"TIFF": "GTiff", "JPEG2000": "JP2OpenJPEG", "PNG": "PNG", "PPM": "PNM"}
"""GDAL's names of the formats that may be deep."""
_BINARY_PPM = (b"P5", b"P6")
"""Of the kinds of PPM, those that GDAL reads."""
_BEGINNINGS = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\0\0\0\x0cjP  ": "JPEG2000",
    b"\xff\x4f\xff\x51": "JPEG2000",
}
_OTHER_COLOURS = frozenset(("cyan", "magenta", "yellow", "black", "hue", "saturation", "lightness", "Y", "Cb", "Cr"))
MAX_PIXELS = 100_000_000
"""Most that are decoded at once: with what readers and conversions hold beside them, they take 1.6 GB of memory."""
MAX_BLOCK_BYTES = 1 << 29
"""Most of a block of a deep file, of all its bands; and a third of what its values take until they are 8-bit."""
WORLDS = (".ovr", ".tfw", ".wld", ".pgw", ".jgw", ".prj", ".aux", ".hdr", ".rpb", ".imd")
"""Endings that GDAL puts in the place of a raster's own."""
_ORIENTATION = 0x0112
_URL_PREFIXES = ("http://", "https://")


class ImageSizeError(ValueError):
    """An image of more pixels than are decoded at once."""


def load_image(source: Any) -> Any:
    """Open a path, URL, stream or bytes and decode the image; anything else is handed back as it came.

    Unlike `transformers.image_utils.load_image` nothing is clipped: what PIL does not read, or not whole, comes back
    with the values of `to_rgb8`.

    Args:
        source: path (str or `os.PathLike`), http(s) or `data:` URL, bytes, a stream, PIL image, or array.

    Returns:
        The decoded PIL image in its own mode, or `source` itself where there is nothing to read from.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no image, a truncated one, or one so large that decoding it is refused; the text names the file.
        ConnectionError: the URL could not be read.
    """
    values = load_values(source)
    return to_rgb8(values) if isinstance(values, np.ma.MaskedArray) and values is not source else values


def load_values(source: Any, is_mask: bool = False) -> Any:
    """Open and decode like [`load_image`], but never convert.

    Args:
        source: as there.
        is_mask: as for [`decode_values`].

    Returns:
        What [`decode_values`] returns, or `source` itself where there is nothing to read from.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return decode_values(bytes(source), name="(bytes)", is_mask=is_mask)
    if hasattr(source, "seekable"):
        return load_values(_content(source), is_mask)
    if not isinstance(source, str | os.PathLike):
        return source
    name = os.fsdecode(source)
    if name.startswith(_URL_PREFIXES):
        return decode_values(read_url(name), name=shown(name), is_mask=is_mask)
    if name.startswith("data:"):
        return decode_values(_read_data_url(name), name=shown(name), is_mask=is_mask)
    path = _existing(name)
    if is_mask and path.with_name(f"{path.name}.msk").exists():
        raise second_mask(name)
    check_beside(path)
    with path.open("rb") as stream:
        return _decode(stream, name=shown(name), path=path.absolute(), is_mask=is_mask)


def _content(stream: Any) -> bytes | Path:
    """Return what a stream holds, from its start if it has one, or its path, beside which more may lie."""
    if stream.seekable():
        stream.seek(0)
    try:
        if os.path.samefile(stream.name, stream.fileno()):
            return Path(stream.name).absolute()
    except (AttributeError, TypeError, OSError, ValueError):  # in memory, a pipe, deleted since
        pass
    content = None if isinstance(stream, io.TextIOBase) else stream.read(MAX_FILE_BYTES)
    if not isinstance(content, bytes):
        raise ValueError(f"image: expected a stream of bytes, got a {type(stream).__name__}; open it with 'rb'")
    return content


def second_mask(name: str) -> ValueError:
    """The error for a mask file beside which another mask lies."""
    return ValueError(
        f"mask file {name!r}: expected the target in its values, got another mask beside it ({name}.msk), which may "
        "tell another shape; save it without"
    )


def _existing(name: str) -> Path:
    """Return the path of the file that a text names."""
    try:
        path = Path(name).expanduser()
        exists = path.exists()
    except RuntimeError as error:
        raise FileNotFoundError(
            f"image file {shown(name)!r}: expected an existing file, got '~' of an unknown user"
        ) from error
    except (OSError, ValueError):  # too long for a name, or holding a null
        exists = False
    if not exists:
        is_long = len(name) > MAX_SHOWN_CHARACTERS
        hint = "; write base64 text as 'data:image/png;base64,…', or pass the bytes" if is_long else ""
        raise FileNotFoundError(
            f"image file {shown(name)!r}: expected an existing file or an http(s) URL, found nothing there{hint}"
        )
    if not path.is_file():
        found = "a folder; pass the images one by one or as a list" if path.is_dir() else "a pipe or a device"
        raise ValueError(f"image file {shown(name)!r}: expected a file, got {found}")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise _too_large(shown(name))
    return path


def beside(path: Path) -> list[Path]:
    """Where GDAL looks for a raster's mask, overviews and place."""
    root, _ = os.path.splitext(path)
    return [Path(f"{path}{ending}") for ending in BESIDE] + [Path(f"{root}{ending}") for ending in WORLDS]


def check_beside(path: Path) -> None:
    """Refuse a pipe or a device, which has no end, beside a file where GDAL looks for its mask and place.

    Raises:
        OSError: There is one.
    """
    for file in beside(path):
        if os.path.exists(file) and not os.path.isfile(file) and not os.path.isdir(file):
            raise OSError(
                f"{shown(file)}: expected a file beside {shown(path.name)}, got a pipe or a device; remove it"
            )


def _read_data_url(url: str) -> bytes:
    try:
        return base64.b64decode(url.partition(",")[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(
            f"image {shown(url)!r}: expected base64 text behind 'data:image/png;base64,', got {error}"
        ) from error


def decode_image(data: bytes, name: str, reduced: bool = False) -> Image.Image:
    """Decode a file's bytes as [`load_image`] does, so that a damaged file fails here and by name.

    Args:
        data: the content of the file.
        name: its name, for messages.
        reduced: a JPEG may come back at an eighth of its size: all of the file is read, in less than half the time.

    Returns:
        The decoded image, its EXIF rotation not yet applied.

    Raises:
        ValueError: as `load_image`; `ImageSizeError` for too many pixels.
    """
    values = decode_values(data, name=name, reduced=reduced)
    return to_rgb8(values) if isinstance(values, np.ndarray) else values


def decode_values(
    data: bytes, name: str, reduced: bool = False, is_mask: bool = False, beside: Mapping[str, bytes] | None = None
) -> Image.Image | np.ma.MaskedArray:
    """Decode a file's bytes completely, to the numbers that it holds.

    Files of 8 bits come from PIL, in its own mode. A deeper one, and a TIFF or JPEG 2000 that PIL does not read, comes
    from rasterio: of the bands that the file marks as red, green and blue, else of its first three (one or two bands:
    the first), masked where nodata, alpha or a mask say so. Without rasterio, PIL reads deep files of one band, and
    the others are refused.

    Args:
        data: as for [`decode_image`].
        name: as there.
        reduced: as there.
        is_mask: of a deep file all bands that aren't alpha are read, since any may hold the shape.
        beside: content of the files that lie beside a deep one and belong to it, by the ending that they add to its
            name, as in `BESIDE`.

    Returns:
        A PIL image, its EXIF rotation not yet applied, or an array (H, W, 1 or 3, or of a mask all bands).

    Raises:
        ValueError: as `decode_image`; a deep mask of several pages.
    """
    return _decode(io.BytesIO(data), name=name, reduced=reduced, is_mask=is_mask, beside=beside)


def _decode(
    stream: BinaryIO,
    name: str,
    path: Path | str | None = None,
    reduced: bool = False,
    is_mask: bool = False,
    beside: Mapping[str, bytes] | None = None,
) -> Any:
    """Decode by PIL or rasterio, which finds by its path what lies beside a file."""
    beginning = stream.read(8)
    stream.seek(0)
    if not beginning:
        raise ValueError(f"image file {name!r}: expected an image, got an empty file; fetch it again")
    kind = next((kind for start, kind in _BEGINNINGS.items() if beginning.startswith(start)), None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is twice as many pixels
            image = Image.open(stream, formats=FORMATS)
        if image.width * image.height > _most_pixels():
            raise _too_large(name)
        if not is_deep(image) or (rasterio is None and not beside and is_plain_band(image)):
            if reduced and image.format == "JPEG":
                image.draft(image.mode, (max(1, image.width // 8), max(1, image.height // 8)))
            image.load()
            return image
        kind, is_turned = image.format, exif_orientation(image) != 1
    except ImageSizeError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(name) from error
    except Exception as error:  # on damaged files the formats' readers raise nearly every kind there is
        if kind is None:
            raise _unreadable(name, error) from error
        is_turned = kind == "TIFF" and _tiff_orientation(stream) != 1
    stream.seek(0)
    if is_turned:
        raise ValueError(f"image file {name!r}: expected an upright image, got a deep one to be turned; turn it")
    if kind not in _DRIVERS or (kind == "PPM" and beginning[:2] not in _BINARY_PPM):
        raise ValueError(
            f"image file {name!r}: expected 8 bits a value in this kind of {kind} file, got more; save it as TIFF"
        )
    with ExitStack() as stack:
        if path is None and rasterio is not None:
            folder, contents = f"rrsis-{uuid4()}", {"": stream.read(), **(beside or {})}
            files = [
                stack.enter_context(rasterio.MemoryFile(content, dirname=folder, filename=f"image{ending}"))
                for ending, content in contents.items()
            ]
            path = files[0].name
        return _decode_bands(path, name=name, kind=str(kind), is_mask=is_mask)


def _unreadable(name: str, error: Exception) -> ValueError:
    if isinstance(error, UnidentifiedImageError):
        return ValueError(
            f"image file {name!r}: expected an image PIL can read (JPEG, PNG, TIFF, WebP, …), got something else; "
            "read other formats with rasterio and pass the array"
        )
    return ValueError(
        f"image file {name!r}: expected a complete image, got a truncated or damaged one ({error}); fetch it again"
    )


def _too_large(name: str) -> ImageSizeError:
    return ImageSizeError(
        f"image file {name!r}: expected at most {_most_pixels():,.0f} pixels, fewer of more than 8 bits, which are "
        "decoded at once, got more; cut it into parts, or read it in tiles with `rrsis scene`"
    )


def _decode_bands(path: Path | str | None, name: str, kind: str, is_mask: bool) -> np.ma.MaskedArray:
    """Read a file with rasterio; which bands and values `decode_image` says."""
    if rasterio is None:
        raise ValueError(
            f"image file {name!r}: expected an image that PIL reads whole, got a {kind} of other bands, compression "
            "or bit depth, or a damaged one; install rasterio (pip install rasterio) to read it"
        )
    try:
        with warnings.catch_warnings(), ExitStack() as stack:
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            dataset = stack.enter_context(rasterio.open(path, driver=_DRIVERS[kind]))
            _check_meaning(dataset, name=name)
            names = [colour.name for colour in dataset.colorinterp]
            if is_mask and dataset.subdatasets:
                raise ValueError(f"mask file {name!r}: expected one page, got several; save the one that is meant")
            bands = _colour_bands(names) if is_mask else _bands_to_read(names)
            _check_size(dataset, len(bands), name=name)
            pixels = np.moveaxis(dataset.read(bands, masked=True), 0, -1)  # (H, W, 1 or 3)
            palette = dataset.colormap(1) if names[0] == "palette" else None
            if is_mask and palette:
                raise ValueError(
                    f"mask file {name!r}: expected plain 0 and 255, got colours; save without a colour table"
                )
    except rasterio.errors.RasterioError as error:
        raise ValueError(
            f"image file {name!r}: expected a complete {kind}, got a truncated or damaged one; fetch it again"
        ) from error
    if palette is not None:
        table = np.array([palette.get(index, (0, 0, 0))[:3] for index in range(max(palette) + 1)], dtype=np.uint8)
        return np.ma.MaskedArray(table[np.minimum(pixels.data[:, :, 0], len(table) - 1)])
    return pixels


def _colour_bands(names: list[str]) -> list[int]:
    """Return the numbers, from 1, of the bands that aren't alpha."""
    return [number for number, name in enumerate(names, start=1) if name != "alpha"] or [1]


def _bands_to_read(names: list[str]) -> list[int]:
    """Return the numbers, from 1, of red, green and blue, else of the first three bands, or one, that aren't alpha."""
    bands = _colour_bands(names)
    if {"red", "green", "blue"} <= set(names):
        return [names.index(colour) + 1 for colour in ("red", "green", "blue")]
    return bands[:3] if len(bands) >= 3 else bands[:1]


def _check_meaning(dataset: Any, name: str) -> None:
    """Refuse a file whose numbers aren't the colours that it shows."""
    structure = dataset.tags(ns="IMAGE_STRUCTURE")
    colours = {colour.name for colour in dataset.colorinterp} & _OTHER_COLOURS
    if colours or structure.get("MINISWHITE") == "YES" or "SOURCE_COLOR_SPACE" in structure:
        raise ValueError(
            f"image file {name!r}: expected gray from black to white or red, green and blue in a deep file, got "
            f"{', '.join(sorted(colours)) or structure.get('SOURCE_COLOR_SPACE', 'white as 0')}; convert it to RGB"
        )


def _tiff_orientation(stream: BinaryIO) -> int:
    """Return how a TIFF is to be turned, which rasterio doesn't tell; 1 is upright, and where the tag is damaged."""
    try:
        stream.seek(0)
        header = stream.read(16)
        tags = ImageFileDirectory_v2(header if header[2] == 43 or header[3] == 43 else header[:8])
        stream.seek(tags.next)
        tags.load(stream)
        return tags.get(_ORIENTATION, 1)
    except Exception:  # damaged tags raise nearly every kind there is, and rasterio tells what is damaged
        return 1


def _check_size(dataset: Any, num_bands: int, name: str) -> None:
    """Refuse a file before its first pixel is read that takes too much memory, as a whole or in one of its blocks."""
    check_blocks(dataset, name)
    size = max(np.dtype(kind).itemsize for kind in dataset.dtypes)
    pixels = dataset.width * dataset.height
    needed = pixels * num_bands * (3 * size + 4)  # the values, twice those of them that are ranked, masks and result
    if Image.MAX_IMAGE_PIXELS and (pixels > _most_pixels() or needed > 3 * MAX_BLOCK_BYTES):
        raise _too_large(name)


def check_blocks(dataset: Any, name: str) -> None:
    """Refuse a raster, before its first pixel is read, whose numbers have no place or whose blocks fill the memory.

    Args:
        dataset: rasterio's.
        name: what it is called in the message.

    Raises:
        ValueError: complex numbers, or a block, which is read whole with all of its bands, of too many bytes.
    """
    if any(not kind.startswith(("int", "uint", "float")) for kind in dataset.dtypes):
        raise ValueError(f"image file {name!r}: expected integer or float pixels, got {dataset.dtypes[0]}")
    size = max(np.dtype(kind).itemsize for kind in dataset.dtypes)
    together = dataset.count if dataset.interleaving is rasterio.enums.Interleaving.pixel else 1
    most = max(height * width for height, width in dataset.block_shapes) * together * size
    if most > MAX_BLOCK_BYTES:
        raise ImageSizeError(
            f"image file {name!r}: expected blocks of at most {MAX_BLOCK_BYTES >> 20} MiB, which are read whole, got "
            f"{most >> 20} MiB; write it in tiles (gdal_translate -co TILED=YES)"
        )


def _most_pixels() -> float:
    """Our bound, and PIL's: users set `PIL.Image.MAX_IMAGE_PIXELS`, to None for no bound at all."""
    return min(MAX_PIXELS, 2 * Image.MAX_IMAGE_PIXELS) if Image.MAX_IMAGE_PIXELS else float("inf")
