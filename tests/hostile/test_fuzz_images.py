"""2,000 images: damaged, cut, of any size and kind, and whole ones whose pixels must come out."""

import functools
import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from processing_rrsis.data.files.pictures import read_mask, read_picture
from processing_rrsis.image_loading_rrsis import load_image, to_rgb8
from processing_rrsis.pipeline_rrsis import ReferringSegmentationPipeline

from .harness import WrongResultError, mutated, try_all

rasterio = pytest.importorskip("rasterio")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.filterwarnings("ignore"),
]
COUNT, SEED = 2000, 18
LOSSLESS = (("PNG", "L"), ("PNG", "RGB"), ("TIFF", "RGB"), ("BMP", "RGB"), ("PPM", "RGB"))


def pixels(mode="RGB", side=37):
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(noise).convert(mode)


def saved(image_format, mode="RGB", **options):
    buffer = io.BytesIO()
    pixels(mode).save(buffer, format=image_format, **options)
    return buffer.getvalue()


def raster(count=1, dtype="uint16", side=37, **options):
    values = np.random.default_rng(0).integers(0, 200, (count, side, side)).astype(dtype)
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", count=count, dtype=dtype, width=side, height=side, **options) as dataset:
            dataset.write(values)
        return memory.read()


def originals():
    """Files of every kind that is opened, and of some that must stay shut."""
    kinds = [saved(image_format, mode) for image_format, mode in LOSSLESS]
    kinds += [saved("PNG", mode) for mode in ("1", "P", "LA", "RGBA", "I;16")]
    kinds += [saved("JPEG", mode) for mode in ("L", "RGB", "CMYK")] + [saved("JPEG", progressive=True)]
    kinds += [saved("TIFF", compression=name) for name in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")]
    kinds += [saved("TIFF", mode) for mode in ("1", "P", "F", "I;16")]
    kinds += [saved(name) for name in ("WEBP", "GIF", "JPEG2000", "AVIF", "EPS", "TGA", "ICO", "PDF")]
    kinds += [raster(), raster(4), raster(3, "float32"), raster(12, "uint8"), raster(2, tiled=True, blockxsize=16)]
    kinds += [raster(3, compress="deflate", interleave="pixel"), raster(1, "int16", nodata=7), raster(BIGTIFF="YES")]
    kinds += [b"%!PS-Adobe-3.0\nshowpage\n", b"", b"BM", b"<svg xmlns='http://www.w3.org/2000/svg'/>"]
    return kinds


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def large_png(width, height, colour):
    """All zeros: as many pixels as are said, or fewer, in a few kilobytes."""
    channels, rows = {0: 1, 2: 3, 6: 4}[colour], min(height, 4_000_000_000 // (width * 4))
    packer, packed = zlib.compressobj(9), []
    packed += [packer.compress(bytes(1 + width * channels)) for _ in range(min(rows, height))]
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", b"".join(packed) + packer.flush())
        + chunk(b"IEND", b"")
    )


def sparse_tiff(generator):
    """A TIFF of a few hundred bytes with blocks of any size and no bytes in them."""
    width, height = (generator.choice((1, 100, 5000, 13_300, 13_370, 60_000, 2**31 - 1)) for _ in range(2))
    samples, bits = generator.choice((1, 2, 3, 4, 5, 40, 500)), generator.choice((1, 8, 16, 32, 64, 128))
    tags = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, generator.choice((1, 1, 5, 8, 32773)))]
    tags += [(262, 3, generator.choice((0, 1, 2, 5))), (273, 4, 0), (277, 3, samples), (279, 4, 0)]
    tags += [(278, 4, generator.choice((1, height))), (284, 3, generator.choice((1, 2)))]
    tags += [(339, 3, generator.choice((1, 2, 3, 5)))]
    entries = b"".join(
        struct.pack("<HHI", tag, kind, 1)
        + struct.pack("<HH" if kind == 3 else "<I", *((value, 0) if kind == 3 else (value,)))
        for tag, kind, value in sorted(tags)
    )
    return struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)


def open_and_look(data, folder, how, expected=None):
    if how == 0:
        (folder / "a.tif").write_bytes(data)
        image = ReferringSegmentationPipeline.open_image(str(folder / "a.tif"))
    elif how == 1:
        image = to_rgb8(load_image(data))
    elif how == 2:
        read_picture(data, name="a.png")
        return
    else:
        values = read_mask(data, name="a.png")
        if not set(np.unique(values)) <= {0, 255}:
            raise WrongResultError("a mask of other values")
        return
    if image.mode != "RGB" or (expected is not None and np.asarray(image).tobytes() != expected):
        raise WrongResultError(f"other pixels, {image.size}")


def cases(folder):
    generator, kinds = random.Random(SEED), originals()
    for number, (image_format, mode) in enumerate(LOSSLESS):
        data, expected = saved(image_format, mode), np.asarray(pixels(mode).convert("RGB")).tobytes()
        for how in (0, 1):
            yield f"whole {number}", functools.partial(open_and_look, data, folder, how, expected)
    for width, height, colour in ((13_300, 13_300, 2), (13_300, 13_300, 6), (18_000, 9_900, 0), (60_000, 60_000, 2)):
        yield f"PNG {width}×{height}", functools.partial(open_and_look, large_png(width, height, colour), folder, 0)
    for number in range(150):
        data, how = sparse_tiff(generator), generator.randrange(4)
        yield f"sparse {number}", functools.partial(open_and_look, data, folder, how)
    for number in range(COUNT - 164):
        data = mutated(generator.choice(kinds), generator)
        if generator.random() < 0.1:
            data += generator.choice(kinds)
        yield f"damaged {number}", functools.partial(open_and_look, data, folder, generator.randrange(4))


def test_images(tmp_path, capfd):
    try_all("images", cases(tmp_path), capfd)
