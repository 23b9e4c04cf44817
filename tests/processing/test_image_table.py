"""Every format, depth and layout that Pillow or rasterio writes here, against the same numbers as an array.

Equal or refused with a sentence, nothing else. `pytest -m "slow or not slow" --log-cli-level=INFO` on this file shows
the table.
"""

import io
import itertools
import logging
import warnings

import numpy as np
import pytest
from PIL import Image

from processing_rrsis import image_loading_rrsis
from processing_rrsis.image_loading_rrsis import load_image, to_rgb8

HEIGHT, WIDTH = 12, 20
PIL_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I;16", "I;16B", "I", "F")
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64", "complex64")
DRIVERS = {"GTiff": "TIFF", "COG": "TIFF", "PNG": "PNG", "JP2OpenJPEG": "JPEG2000", "PNM": "PPM", "BMP": "BMP"}
OTHER_DRIVERS = ("HFA", "ENVI", "NITF", "PCIDSK", "RST", "SGI", "ERS", "GIF", "JPEG", "WEBP", "AAIGrid", "netCDF")


def numbers(dtype, count):
    """Values as their type has them: 8 bit, 12 bit of a sensor, reflectance in [0, 1]; (count, H, W)."""
    ramp = np.linspace(0.0, 1.0, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    bands = np.stack([np.roll(ramp, 3 * band) for band in range(count)])
    if np.dtype(dtype).kind in "fc":
        return bands.astype(dtype)
    most = {"uint8": 255, "int8": 127}.get(dtype, 4095)
    return np.round(bands * most).astype(dtype)


def pil_cases():
    """(name, file, reference, lossy) of everything that Pillow writes."""
    Image.init()
    gray = numbers("uint8", 1)[0]
    colours = np.moveaxis(numbers("uint8", 3), 0, -1)
    for image_format, mode in itertools.product(sorted(Image.SAVE), PIL_MODES):
        if mode in ("I", "F", "I;16", "I;16B"):
            image = Image.fromarray(numbers({"I": "int32", "F": "float32"}.get(mode, "uint16"), 1)[0])
            image = image.convert(mode) if mode == "I;16B" else image
        elif mode in ("LAB", "HSV", "YCbCr", "CMYK"):
            image = Image.merge(mode, [Image.fromarray(gray)] * Image.getmodebands(mode))
        else:
            image = Image.fromarray(colours).convert(mode)
        options = {"save_all": True} if image_format == "MPO" else {}
        buffer = io.BytesIO()
        try:
            image.save(buffer, format=image_format, **options)
        except Exception:  # what this format doesn't hold
            continue
        reference = image if mode[0] in "IF" else _reopened(buffer)
        if reference is None or (mode[0] in "IF" and not _holds(buffer, np.asarray(image))):
            continue  # written as other numbers, or what Pillow itself reads no more
        values = np.asarray(reference) if reference.mode[0] in "IF" else reference
        yield f"Pillow {image_format} {mode}", buffer.getvalue(), to_rgb8(values), False


def _reopened(buffer):
    """The 8-bit picture as Pillow reads what it wrote."""
    try:
        image = Image.open(buffer)
        image.load()
    except Exception:
        return None
    return image


def _holds(buffer, values):
    """Whether a file holds these very numbers."""
    image = _reopened(buffer)
    return image is not None and np.array_equal(np.asarray(image), values)


def rasterio_cases(folder):
    """The same of everything that rasterio writes, from a file on disk."""
    rasterio = pytest.importorskip("rasterio")
    layouts = [{}, {"interleave": "band"}, {"tiled": True, "blockxsize": 16, "blockysize": 16}, {"BIGTIFF": "YES"}]
    layouts += [{"compress": name} for name in ("deflate", "lzw", "zstd", "lerc", "packbits")]
    layouts += [{"photometric": name} for name in ("rgb", "minisblack", "miniswhite", "cielab", "cmyk")]
    layouts += [{"ENDIANNESS": "BIG"}, {"compress": "webp", "WEBP_LOSSLESS": "YES"}, {"alpha": "unspecified"}]
    layouts += [{"compress": "deflate", "predictor": 2}, {"compress": "deflate", "predictor": 3}, {"nbits": 12}]
    lossless = {"JP2OpenJPEG": {"QUALITY": 100, "REVERSIBLE": "YES"}, "WEBP": {"WEBP_LOSSLESS": "YES"}}
    for driver in (*DRIVERS, *OTHER_DRIVERS):
        tried = layouts if driver == "GTiff" else [lossless.get(driver, {})]
        for dtype, count, layout in itertools.product(DTYPES, (1, 2, 3, 4, 5), tried):
            bands = numbers(dtype, count)
            path = folder / f"case-{driver}.dat"
            path.unlink(missing_ok=True)
            shape = {"count": count, "height": HEIGHT, "width": WIDTH, "dtype": dtype}
            try:
                with rasterio.open(path, "w", driver=driver, **shape, **layout) as file:
                    file.write(bands)
                with rasterio.open(path) as file:
                    written = file.read()
                    alpha = "alpha" in [colour.name for colour in file.colorinterp]
            except Exception:  # what this driver doesn't hold
                continue
            if written.dtype != bands.dtype or not np.array_equal(written, bands):
                continue  # this driver converts
            if layout.get("photometric") == "miniswhite" and dtype == "uint8":
                bands = 255 - bands  # Pillow shows what the file says: 0 is white
            kept = bands[:3] if count - alpha >= 3 else bands[:1]
            if alpha:  # the fourth band of an array; for gray the same, by a mask
                kept = np.ma.MaskedArray(kept, mask=np.broadcast_to(bands[-1:] == 0, kept.shape))
            picture = None if np.dtype(dtype).kind == "c" else to_rgb8(np.moveaxis(kept, 0, -1))
            what = " ".join(f"{key}={value}" for key, value in layout.items())
            yield f"rasterio {driver} {dtype} × {count} {what}".strip(), path, picture, driver == "JPEG"


def by_pillow(source):
    """What a user opens by Pillow, and what Pillow doesn't read refused."""
    try:
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        image.load()
    except Exception as error:
        raise ValueError("expected a file that Pillow reads") from error
    return image


def outcome(source, reference, lossy, read):
    """ "equal", or "refused", or what is wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            picture = to_rgb8(read(source))
    except ValueError as error:
        return "refused" if "expected" in str(error) else f"refused without a reason: {error}"
    if reference is None:
        return "wrong: read what has no picture"
    difference = np.abs(np.asarray(picture, dtype=int) - np.asarray(reference, dtype=int))
    return "equal" if difference.max() <= (30 if lossy else 0) else f"wrong by up to {difference.max()}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("read", "with_rasterio", "num_equal"), [(load_image, True, 900), (load_image, False, 150), (by_pillow, True, 200)]
)
def test_every_file_is_the_same_picture_as_its_numbers_or_refused(
    read, with_rasterio, num_equal, tmp_path, monkeypatch
):
    cases = rasterio_cases(tmp_path)
    if not with_rasterio:
        monkeypatch.setattr(image_loading_rrsis, "rasterio", None)
    outcomes = {name: outcome(*case, read=read) for name, *case in itertools.chain(pil_cases(), cases)}
    for name, result in outcomes.items():
        logging.getLogger(__name__).info("%-8s %s", result, name)
    assert {name: result for name, result in outcomes.items() if result not in ("equal", "refused")} == {}
    assert sum(result == "equal" for result in outcomes.values()) > num_equal
