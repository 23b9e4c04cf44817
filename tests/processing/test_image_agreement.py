"""Deep files by path, stream and Pillow, with and without rasterio: the picture of the file's numbers, or refused."""

import io
import logging
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from processing_rrsis import image_loading_rrsis
from processing_rrsis.image_labels_rrsis import to_label_map
from processing_rrsis.image_loading_rrsis import load_image, load_values, to_rgb8

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
HEIGHT, WIDTH = 20, 30
VALUES = np.linspace(2000, 3000, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
HOLES = np.where(np.arange(HEIGHT)[:, None] < 5, np.uint16(65535), VALUES)
DARK = np.linspace(0, 400, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
NODATA = "<PAMDataset><PAMRasterBand band='1'><NoDataValue>65535</NoDataValue></PAMRasterBand></PAMDataset>"
TURNED = Image.Exif()
TURNED[0x0112] = 6
ANYWHERE, RASTERIO, NOWHERE = "equal anywhere", "equal by path with rasterio", "refused by path"


def geotiff(values, *, mask=None, inside=True, tags=None, window=None, **options):
    """A function that writes a one-band TIFF."""

    def write(path):
        shape = {"height": HEIGHT, "width": WIDTH, "count": 1, "dtype": values.dtype}
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside),
            rasterio.open(path, "w", driver="GTiff", **shape, **options) as file,
        ):
            file.write(values, 1, window=window)
            file.update_tags(**(tags or {}))
            if mask is not None:
                file.write_mask(mask)

    return write


def saved(values, **options):
    return lambda path: Image.fromarray(values).save(path, **options)


def with_aux(path):
    geotiff(HOLES)(path)
    Path(f"{path}.aux.xml").write_text(NODATA, encoding="utf-8")


def netpbm(magic, values, most=65535):
    """Binary or ASCII gray and colours."""
    binary = magic in (b"P5", b"P6")
    body = values.astype(">u2").tobytes() if binary else " ".join(map(str, values.ravel())).encode()
    return lambda path: Path(path).write_bytes(magic + f"\n{WIDTH} {HEIGHT}\n{most}\n".encode() + body)


def floats(path):
    Path(path).write_bytes(f"Pf\n{WIDTH} {HEIGHT}\n-1.0\n".encode() + (DARK / 400).astype("<f4")[::-1].tobytes())


def with_xmp(path):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta xmlns:x="adobe:ns:meta/"><tiff:Orientation>3</tiff:Orientation>')
    Image.fromarray(VALUES).save(path, pnginfo=info)


VALID = np.where(HOLES == 65535, 0, 255).astype(np.uint8)
MASKED = np.ma.masked_equal(HOLES, 65535)
LARGE = np.linspace(0, 4e9, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint32)
COLOURS = np.stack([DARK, DARK[::-1], DARK[:, ::-1]], axis=-1)
CORNER = {"window": rasterio.windows.Window(0, 0, WIDTH, 4), "SPARSE_OK": True, "blockysize": 4, "nodata": 7}
SPARSE = np.where(np.arange(HEIGHT)[:, None] < 4, VALUES, np.uint16(7))
FILES = {  # form: (file name, function that writes it, its numbers, where it is read)
    "16 bit": ("a.tif", geotiff(VALUES), VALUES, ANYWHERE),
    "signed": ("a.tif", geotiff(VALUES.astype(np.int16)), VALUES.astype(np.int16), ANYWHERE),
    "float": ("a.tif", geotiff((VALUES / 3000).astype(np.float32)), (VALUES / 3000).astype(np.float32), ANYWHERE),
    "PNG": ("a.png", saved(VALUES), VALUES, ANYWHERE),
    "nodata": ("a.tif", geotiff(HOLES, nodata=65535), MASKED, ANYWHERE),
    "mask inside": ("a.tif", geotiff(HOLES, mask=VALID), MASKED, RASTERIO),
    "mask beside": ("a.tif", geotiff(HOLES, mask=VALID, inside=False), MASKED, RASTERIO),
    "nodata beside": ("a.tif", with_aux, MASKED, RASTERIO),
    "nodata in GDAL's tag": ("a.tif", geotiff(HOLES, tags={"NODATA_VALUES": "65535"}), MASKED, RASTERIO),
    "above 2^31": ("a.tif", geotiff(LARGE), LARGE, RASTERIO),
    "white is zero": ("a.tif", geotiff(VALUES, photometric="miniswhite"), None, NOWHERE),
    "parts left out": ("a.tif", geotiff(VALUES[:4], **CORNER), np.ma.masked_equal(SPARSE, 7), RASTERIO),
    "turned PNG": ("a.png", saved(VALUES, exif=TURNED), np.rot90(VALUES, -1), NOWHERE),
    "turned by XMP": ("a.png", with_xmp, VALUES[::-1, ::-1], NOWHERE),
    "turned TIFF": ("a.tif", saved(VALUES, exif=TURNED, compression="tiff_lzw"), np.rot90(VALUES, -1), NOWHERE),
    "PGM": ("a.pgm", netpbm(b"P5", DARK), DARK, RASTERIO),
    "PGM of 10 bit": ("a.pgm", netpbm(b"P5", DARK, most=1023), DARK, RASTERIO),
    "PPM": ("a.ppm", netpbm(b"P6", COLOURS), COLOURS, RASTERIO),
    "ASCII PGM": ("a.pgm", netpbm(b"P2", DARK), DARK, NOWHERE),
    "ASCII PPM": ("a.ppm", netpbm(b"P3", COLOURS), COLOURS, NOWHERE),
    "PFM": ("a.pfm", floats, DARK / 400, NOWHERE),
}


def opened(path):
    with path.open("rb") as stream:
        return load_image(stream)


def loaded(path):
    image = Image.open(path)
    image.load()
    return image


WAYS = {"path": load_image, "stream": opened, "Pillow": Image.open, "Pillow, loaded": loaded}


@pytest.mark.parametrize("with_rasterio", [True, False])
@pytest.mark.parametrize("form", FILES)
def test_every_way_in_gives_the_picture_of_the_numbers_or_refuses(form, with_rasterio, tmp_path, monkeypatch):
    name, write, values, where = FILES[form]
    write(tmp_path / name)
    if not with_rasterio:
        monkeypatch.setattr(image_loading_rrsis, "rasterio", None)
    outcomes = {}
    for way, read in WAYS.items():
        try:
            picture = to_rgb8(read(tmp_path / name))
            outcomes[way] = values is not None and np.array_equal(np.asarray(picture), np.asarray(to_rgb8(values)))
        except ValueError as error:
            reason = str(error).replace("or a damaged one; install rasterio", "")
            outcomes[way] = "refused" if "expected" in reason and "damaged" not in reason else reason
    equal = [way for way, outcome in outcomes.items() if outcome is True]
    for way, outcome in outcomes.items():
        logging.getLogger(__name__).info("%-8s %-20s %s", "equal" if way in equal else outcome, form, way)
    assert all(outcome == "refused" for way, outcome in outcomes.items() if way not in equal)
    if where == ANYWHERE:
        assert equal == list(WAYS)
    elif where == RASTERIO:
        assert equal == (["path", "stream"] if with_rasterio else [])
    elif with_rasterio:
        assert not {"path", "stream"} & set(equal)


@pytest.mark.parametrize("with_rasterio", [True, False])
def test_parts_that_an_8_bit_tiff_leaves_out_are_not_the_files_beginning(with_rasterio, tmp_path, monkeypatch):
    geotiff(VALUES[:4].astype(np.uint8), **{**CORNER, "nodata": 0})(tmp_path / "a.tif")
    if not with_rasterio:
        monkeypatch.setattr(image_loading_rrsis, "rasterio", None)
        with pytest.raises(ValueError, match="install rasterio"):
            load_image(tmp_path / "a.tif")
    else:
        picture = np.asarray(to_rgb8(load_image(tmp_path / "a.tif")))
        assert np.array_equal(picture[:4, :, 0], VALUES[:4].astype(np.uint8))
        assert not picture[4:].any()
    with pytest.raises(ValueError, match="all that the file says"):
        to_rgb8(Image.open(tmp_path / "a.tif"))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_turned_tiffs_that_pillow_maps_into_memory_are_refused(dtype, tmp_path):
    saved((VALUES / 16).astype(dtype), exif=TURNED)(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="all that the file says"):
        to_rgb8(Image.open(tmp_path / "a.tif"))
    if dtype == "uint8":
        turned = np.asarray(to_rgb8(load_image(tmp_path / "a.tif")))[:, :, 0]
        assert np.array_equal(turned, np.rot90((VALUES / 16).astype(dtype), -1))


@pytest.mark.parametrize("form", ["PNG of 16 bit", "SGI of 16 bit"])
def test_files_that_pillow_cuts_to_8_bits_are_refused(form, tmp_path):
    path = tmp_path / ("a.png" if form.startswith("PNG") else "a.sgi")
    if path.suffix == ".png":
        with rasterio.open(path, "w", driver="PNG", height=HEIGHT, width=WIDTH, count=2, dtype="uint16") as file:
            file.write(np.stack([DARK > 200, DARK < 500]).astype(np.uint16))
    else:
        Image.fromarray(DARK.astype(np.uint8)).save(path, bpc=2)
    for image in (Image.open(path), loaded(path)):
        for read in (to_rgb8, to_label_map):
            with pytest.raises(ValueError, match="all that the file says"):
                read(image)


@pytest.mark.parametrize("form", [form for form, (*_, where) in FILES.items() if where != ANYWHERE])
def test_masks_are_refused_where_pillow_shows_less_than_the_file(form, tmp_path):
    name, write, *_ = FILES[form]
    write(tmp_path / name)
    with pytest.raises(ValueError, match=r"expected (all that the file says|one page|only 0 and 255|one band)"):
        to_label_map(Image.open(tmp_path / name))


def test_a_turned_mask_of_16_bit_is_refused(tmp_path):
    saved((VALUES > 2500).astype(np.uint16), exif=TURNED)(tmp_path / "a.png")
    with pytest.raises(ValueError, match="turn it"):
        load_values(tmp_path / "a.png", is_mask=True)
    assert to_label_map(Image.open(tmp_path / "a.png")).shape == (WIDTH, HEIGHT)


class Somewhere:
    """An object that names a file."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return str(self.path)


def test_whatever_holds_or_names_a_file_is_read(tmp_path):
    path = tmp_path / "a.png"
    colours = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    Image.fromarray(colours).save(path)
    with (
        path.open(encoding="utf-8") as text,
        path.open("rb", buffering=0) as raw,
        tempfile.NamedTemporaryFile(suffix=".png") as named,
        tempfile.SpooledTemporaryFile() as spooled,
        subprocess.Popen(
            [sys.executable, "-c", f"import sys; sys.stdout.buffer.write(open({str(path)!r}, 'rb').read())"],
            stdout=subprocess.PIPE,
        ) as process,
    ):
        named.write(path.read_bytes())
        spooled.write(path.read_bytes())
        for source in (text, raw, named, spooled, process.stdout, memoryview(path.read_bytes()), Somewhere(path)):
            assert np.array_equal(np.asarray(load_image(source)), colours)


def test_streams_of_text_are_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    for source in (io.StringIO(str(tmp_path / "a.png")), io.TextIOWrapper(io.BytesIO(b"\x89PNG"))):
        with pytest.raises(ValueError, match="expected a stream of bytes"):
            load_image(source)
