"""The raster that is looked at: opened with what remote files need, read as 8-bit RGB with its validity."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.windows import Window

from ...errors import RRSISError
from ...image_loading_rrsis import check_blocks
from .bands import BandChoice, Stretch, choose_bands, scene_stretch, to_rgb, valid_pixels
from .files import is_remote, local_files, public_name, states_of
from .stac import stac_asset

GDAL_CACHE_BYTES = 64 * 2**20
REMOTE_TRIES = 3
REMOTE_PAUSE_S = 1.0
REMOTE_SETTINGS: dict[str, Any] = {
    "GDAL_NUM_THREADS": "1",  # with more, a failed range gives blank pixels without an error (GDAL issue 11552)
    "GDAL_HTTP_MULTIRANGE": "SERIAL",  # ranges read together are not tried again (GDAL issue 12933)
    "GDAL_HTTP_MAX_RETRY": "4",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_CONNECTTIMEOUT": "20",
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",  # side-car masks are asked for by name, folders are not listed
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/:/vsigs/:/vsiaz/",  # a failed request is not remembered
}

DRIVERS = {
    **dict.fromkeys((".tif", ".tiff"), "GTiff"),
    **dict.fromkeys((".jpg", ".jpeg"), "JPEG"),
    **{".jp2": "JP2OpenJPEG", ".png": "PNG", ".webp": "WEBP", ".vrt": "VRT"},
}
"""GDAL's names, by ending. Only a VRT leads to other files."""


@dataclass
class SceneSource:
    """An open raster.

    Attributes:
        address: What GDAL opens; it may hold a signature and is never shown.
        name: Path or address, without what a signature adds to it.
        dataset: rasterio's.
        choice: Its red, green and blue.
        stretch: How its values become 8-bit; None where they are.
        files: On this machine, that it is read from.
    """

    address: str = field(repr=False)
    name: str
    dataset: Any
    choice: BandChoice
    stretch: Stretch | None
    files: list[Path]

    @property
    def width_px(self) -> int:
        """Columns."""
        return int(self.dataset.width)

    @property
    def height_px(self) -> int:
        """Rows."""
        return int(self.dataset.height)

    def read(
        self, window: Window, shape: tuple[int, int] | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Read a window.

        Args:
            window: Inside the frame.
            shape: Height and width to read it at; its own if absent.

        Returns:
            RGB uint8 (H, W, 3), and which pixels are valid, bool (H, W).

        Raises:
            OSError: If it can't be read or decoded.
        """
        indexes = list(self.choice.indexes)
        options = {} if shape is None else {"out_shape": (len(indexes), *shape), "resampling": self.choice.resampling}
        values = self._tried(lambda dataset: dataset.read(indexes, window=window, **options))
        valid = self._read_masks(window, shape)
        if values.dtype.kind == "f":
            valid &= np.isfinite(values).all(axis=0)
        return to_rgb(values, self.choice, self.stretch), valid

    def read_valid(self, window: Window) -> NDArray[np.bool_]:
        """Read which pixels of a window are valid, as `read` tells: bool (H, W); values where NaN may be."""
        has_nan = any(np.dtype(self.dataset.dtypes[index - 1]).kind == "f" for index in self.choice.indexes)
        return self.read(window)[1] if has_nan else self._read_masks(window)

    def _read_masks(self, window: Window, shape: tuple[int, int] | None = None) -> NDArray[np.bool_]:
        """Read which pixels are valid by nodata, alpha, internal and side-car masks; bool (H, W)."""
        return self._tried(lambda dataset: valid_pixels(dataset, self.choice.indexes, window=window, shape=shape))

    def _tried(self, read: Callable[[Any], NDArray[Any]]) -> NDArray[Any]:
        """Read; a remote raster that fails is opened anew, since GDAL remembers an answer that was cut off."""
        try:
            return read(self.dataset)
        except RasterioIOError:
            if not is_remote(self.address):
                raise

        def read_anew() -> NDArray[Any]:
            self.dataset.close()
            self.dataset = rasterio.open(self.address, driver=_driver(self.address))
            return read(self.dataset)

        return tried(read_anew, self.address)

    def place_of(self, window: Window) -> str:
        """A window in words: pixels, and the coordinates of its centre."""
        column, row = window.col_off + window.width / 2, window.row_off + window.height / 2
        x, y = self.dataset.xy(row, column, offset="ul")
        crs = self.dataset.crs
        return (
            f"rows {window.row_off} to {window.row_off + window.height}, columns {window.col_off} to "
            f"{window.col_off + window.width}"
            + (f" (around {x:.10g}, {y:.10g} in {crs.to_string()[:40]})" if crs else "")
        )


@contextmanager
def open_scene(
    source: str | Path, *, bands: Sequence[int] | None = None, stretch: Sequence[float] | None = None
) -> Iterator[SceneSource]:
    """Open a raster for as long as the context lasts; to be done in the process and thread that reads it.

    Args:
        source: Whatever rasterio opens: path, `https://`, `s3://`, `/vsi.../`; or a STAC item, see [`stac_asset`].
        bands: See [`choose_bands`].
        stretch: See [`scene_stretch`].

    Raises:
        OSError: If it can't be opened.
        ValueError: If it has no red, green and blue.
    """
    address = stac_asset(str(source))
    if not is_remote(address):
        address = str(Path(address).expanduser()) if not address.startswith("/vsi") else address
    settings = REMOTE_SETTINGS if is_remote(address) else {}
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES, **settings), ExitStack() as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # told in our own words where it matters
        warnings.filterwarnings("ignore", "'crs' was not provided")  # the same by pyogrio
        files = local_files(str(source))
        dataset = _open(address)
        opened.callback(dataset.close)
        check_blocks(dataset, public_name(address))
        choice, name = choose_bands(dataset, bands), public_name(address)
        try:
            values = scene_stretch(dataset, choice, stretch)
        except RasterioIOError as error:
            raise RRSISError(
                f"{name}: expected to read what its values range over, got: {error.__cause__ or error}; check the file"
            ) from error
        scene = SceneSource(address=address, name=name, dataset=dataset, choice=choice, stretch=values, files=files)
        opened.callback(lambda: scene.dataset.close())
        yield scene


def tried(read: Callable[[], Any], address: str) -> Any:
    """Read something; of a remote raster, a failure is tried again: GDAL itself does not where an answer was cut off.

    Raises:
        RasterioIOError: If it fails in the end.
    """
    for number in range(1, REMOTE_TRIES if is_remote(address) else 1):
        try:
            return read()
        except RasterioIOError:
            time.sleep(REMOTE_PAUSE_S * number)
    return read()


def _open(address: str) -> Any:
    """Open a raster by the driver that fits its name."""
    try:
        return tried(partial(rasterio.open, address, driver=_driver(address)), address)
    except RasterioIOError as error:
        raise RRSISError(
            f"{public_name(address)}: expected a raster that GDAL opens, got: {without_query(error)}; "
            + ("check address and connection" if is_remote(address) else "check path and file")
        ) from None


def _driver(address: str) -> str | None:
    """GDAL's driver for a name: text that names another file or address, under the name of a picture, is no way to it.

    Others are opened by what they hold; of these `local_files` refuses such text.
    """
    return "VRT" if address.startswith("vrt://") else DRIVERS.get(Path(public_name(address)).suffix.lower())


def without_query(error: BaseException) -> str:
    """An error's text, addresses in it without what a signature adds."""
    words = (re.sub(r"(?<=://)[^/@\s]*@", "", word) for word in str(error).split())
    return " ".join(re.sub(r"\?[^\s,;:)]*=[^\s,;:)]*", "", word) for word in words)


def source_identity(source: SceneSource) -> dict[str, Any]:
    """What a receipt holds of a raster, so that another one under the same name is noticed.

    Of its files size and time of change; of any raster its frame, place and kind of values. A remote file is
    recognised by these alone.
    """
    dataset = source.dataset
    return {
        "name": source.name,
        "size_px": [dataset.width, dataset.height],
        "count": dataset.count,
        "dtypes": sorted(set(dataset.dtypes)),
        "crs": None if dataset.crs is None else dataset.crs.to_wkt(),
        "transform": list(dataset.transform)[:6],
        "files": states_of(source.files),
    }
