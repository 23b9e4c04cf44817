"""Where an image file lies on Earth: by a transform, or by ground control points."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .bounds_rrsis import shown
from .image_loading_rrsis import FORMATS, check_beside, exif_orientation
from .installation import install_command

LONGITUDE_LATITUDE = "EPSG:4326"


class NoPlaceError(ValueError):
    """A file that lies on Earth, or may, without a place that its picture can be given."""


@dataclass(frozen=True)
class Place:
    """Where an image lies on Earth.

    Attributes:
        crs: rasterio's; None where the file, or the world file beside it, names none.
        pixels_to_map: Affine, from (column, row) to the CRS; or a list of rasterio's ground control points.
    """

    crs: Any
    pixels_to_map: Any

    @property
    def name(self) -> str:
        """What the CRS is called."""
        return name_crs(self.crs)

    @property
    def profile(self) -> dict[str, Any]:
        """What `rasterio.open` is told to write it."""
        return {"crs": self.crs, "gcps" if isinstance(self.pixels_to_map, list) else "transform": self.pixels_to_map}

    def to_map(self, points: NDArray[np.float64], crs: Any = LONGITUDE_LATITUDE) -> NDArray[np.float64]:
        """Move points (N, 2) from (column, row), counted from the upper left corner, to a CRS (x, y).

        Raises:
            ValueError: If there is no such CRS, or a point has no place in it.
        """
        with self._transformer() as transformer:
            xs, ys = transformer.xy(points[:, 1], points[:, 0], offset="ul")
        return _transform(self.crs, crs, xs, ys).T

    def to_pixels(
        self, points: NDArray[np.float64], crs: Any = LONGITUDE_LATITUDE, turn_deg: float = 0
    ) -> NDArray[np.float64]:
        """Move points (N, 2) from a CRS (x, y) to (column, row).

        Args:
            points: Their coordinates.
            crs: What these are of.
            turn_deg: Of an image in longitude and latitude: what its longitudes are more than the points'.

        Raises:
            ValueError: If there is no such CRS, or a point has no place in the image's.
        """
        xs, ys = _transform(crs, self.crs, points[:, 0], points[:, 1])
        with self._transformer() as transformer:
            rows, columns = transformer.rowcol(xs + turn_deg, ys, op=np.positive)
        return np.stack([columns, rows], axis=-1)

    def _transformer(self) -> Any:
        from rasterio.transform import AffineTransformer, GCPTransformer

        is_list = isinstance(self.pixels_to_map, list)
        return (GCPTransformer if is_list else AffineTransformer)(self.pixels_to_map)


def name_crs(crs: Any) -> str:
    """What a CRS is called: its EPSG code, else its name."""
    if crs is None:
        return "a transform without a CRS"
    text = str(crs)
    return text.split('"')[1] if '["' in text else text


def _transform(source: Any, target: Any, xs: Any, ys: Any) -> NDArray[np.float64]:
    """Coordinates (2, N) of one CRS in another."""
    from rasterio._err import CPLE_BaseError  # raised as it is, and public nowhere
    from rasterio.errors import CRSError
    from rasterio.warp import transform

    if source == target:
        return np.array([xs, ys])
    try:
        moved = np.array(transform(source, target, xs, ys))
    except (CPLE_BaseError, CRSError) as error:  # whose texts are long, and PROJ's
        raise ValueError(_no_way(source, target)) from error
    if not np.isfinite(moved).all():
        raise ValueError(_no_way(source, target))
    return moved


def _no_way(source: Any, target: Any) -> str:
    return f"expected coordinates that have a place in {name_crs(target)}, got others, of {name_crs(source)}"


def find_place(path: str | Path, size: tuple[int, int]) -> Place | None:
    """Return where a file says that the pixels of its picture lie, which is turned as its orientation tag says.

    Args:
        path: Of the image.
        size: (height, width) of the picture that was read of it.

    Returns:
        The place; None where the file says nothing about one.

    Raises:
        NoPlaceError: It says something that is no place of its picture, or can't be asked: it is at an address, or
            rasterio is not installed.
        OSError: A pipe or a device lies beside it, where GDAL looks.
    """
    if "://" in str(path):
        raise NoPlaceError(
            f"{shown(path)}: expected a file to take the place on Earth from, got an address; download it"
        )
    try:
        import rasterio
    except ImportError as error:
        raise NoPlaceError(
            f"{shown(path)}: where it lies on Earth, if it says so, needs rasterio; run `{install_command('geo')}`"
        ) from error
    check_beside(Path(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.open(Path(path).absolute()) as dataset:
                return _read_place(dataset, Path(path), size)
    except rasterio.errors.RasterioError:
        return None


def _read_place(dataset: Any, path: Path, size: tuple[int, int]) -> Place | None:
    """The place of an open file, see `find_place`."""
    points, crs_of_points = dataset.gcps
    has_transform = not dataset.transform.is_identity
    if not has_transform and not points and dataset.crs is None and dataset.rpcs is None:
        return None
    turn = _turn(path, dataset.height, dataset.width)
    shape = dataset.shape if turn.a else dataset.shape[::-1]
    if size != shape:
        raise NoPlaceError(
            f"{shown(path)}: expected a place of a picture of {size} (height, width), got one of {shape}"
        )
    if has_transform:
        return Place(crs=dataset.crs, pixels_to_map=dataset.transform @ turn)
    if points and crs_of_points:
        return Place(crs=crs_of_points, pixels_to_map=[_turned(point, ~turn) for point in points])
    got = name_crs(dataset.crs) if dataset.crs else "control points or polynomials"
    raise NoPlaceError(
        f"{shown(path)}: expected a place on Earth as a transform, or as control points with a CRS, got only {got}; "
        "warp it first (gdalwarp)"
    )


def _turn(path: Path, height: int, width: int) -> Any:
    """Affine from (column, row) of the upright picture to those of the file, (height, width), by its orientation."""
    from rasterio import Affine

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # only the header is read
            with Image.open(path, formats=FORMATS) as header:
                orientation = exif_orientation(header)
    except (OSError, ValueError, Image.DecompressionBombError):  # no format of PIL's, which alone are turned
        orientation = 1
    return {
        1: Affine.identity(),
        2: Affine(-1, 0, width, 0, 1, 0),
        3: Affine(-1, 0, width, 0, -1, height),
        4: Affine(1, 0, 0, 0, -1, height),
        5: Affine(0, 1, 0, 1, 0, 0),
        6: Affine(0, 1, 0, -1, 0, height),
        7: Affine(0, -1, width, -1, 0, height),
        8: Affine(0, -1, width, 1, 0, 0),
    }[orientation]


def _turned(point: Any, turn: Any) -> Any:
    """A control point of a turned picture."""
    from rasterio.control import GroundControlPoint

    column, row = turn @ (point.col, point.row)
    return GroundControlPoint(row=row, col=column, x=point.x, y=point.y, z=point.z)
