"""Where an image file lies on Earth: by a transform, or by ground control points."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LONGITUDE_LATITUDE = "EPSG:4326"


@dataclass(frozen=True)
class Place:
    """Where an image lies on Earth.

    Attributes:
        crs: rasterio's.
        pixels_to_map: Affine, from (column, row) to the CRS; or a list of rasterio's ground control points.
    """

    crs: Any
    pixels_to_map: Any

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

    def to_pixels(self, points: NDArray[np.float64], crs: Any = LONGITUDE_LATITUDE) -> NDArray[np.float64]:
        """Move points (N, 2) from a CRS (x, y) to (column, row).

        Raises:
            ValueError: If there is no such CRS, or a point has no place in the image's.
        """
        xs, ys = _transform(crs, self.crs, points[:, 0], points[:, 1])
        with self._transformer() as transformer:
            rows, columns = transformer.rowcol(xs, ys, op=np.positive)
        return np.stack([columns, rows], axis=-1)

    def _transformer(self) -> Any:
        from rasterio.transform import AffineTransformer, GCPTransformer

        is_list = isinstance(self.pixels_to_map, list)
        return (GCPTransformer if is_list else AffineTransformer)(self.pixels_to_map)


def _transform(source: Any, target: Any, xs: Any, ys: Any) -> NDArray[np.float64]:
    """Coordinates (2, N) of one CRS in another."""
    from rasterio._err import CPLE_BaseError  # raised as it is, and public nowhere
    from rasterio.warp import transform

    if source == target:
        return np.array([xs, ys])
    try:
        moved = np.array(transform(source, target, xs, ys))
    except CPLE_BaseError as error:
        raise ValueError(f"expected coordinates that have a place in {target}, got others: {error}") from error
    if not np.isfinite(moved).all():
        raise ValueError(f"expected coordinates that have a place in {target}, got others")
    return moved


def find_place(path: Path, size: tuple[int, int]) -> Place | None:
    """Return where a file says that its pixels lie; None without a file, a CRS, or rasterio.

    Args:
        path: Of the image.
        size: (height, width) of the picture that was read of it; that of a turned image is another.
    """
    try:
        import rasterio
    except ImportError:
        return None
    if not path.is_file():
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.open(path.absolute()) as dataset:
                points, crs_of_points = dataset.gcps
                if dataset.shape != size:
                    return None
                if dataset.crs is not None and not dataset.transform.is_identity:
                    return Place(crs=dataset.crs, pixels_to_map=dataset.transform)
                return Place(crs=crs_of_points, pixels_to_map=points) if points and crs_of_points else None
    except rasterio.errors.RasterioError:
        return None
