"""Where a scene lies on Earth: pixels to its CRS, to metres east and north, to longitude and latitude; and areas."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import CRSError, ProjError

LONGITUDE_LATITUDE = "EPSG:4326"
ELLIPSOID = Geod(ellps="WGS84")
LONGEST_EDGE_M = 5_000.0
"""Of outlines whose area is taken: at 60° north such an edge of a parallel lies 1 m off the shortest way."""


@dataclass(frozen=True)
class Ground:
    """A raster's frame and its place.

    Attributes:
        width_px: Columns.
        height_px: Rows.
        transform: Affine, from (column, row) to the CRS.
        crs: None for a raster without a place on Earth.
    """

    width_px: int
    height_px: int
    transform: Any
    crs: CRS | None

    @classmethod
    def of(cls, dataset: Any) -> Ground:
        """Of an open raster; a CRS that is no place on Earth, such as a building site's, counts as none."""
        crs = None
        if dataset.crs is not None:
            has_no_place = dataset.transform.is_identity  # it says nothing of where its pixels lie in the CRS
            try:
                crs = CRS.from_wkt(dataset.crs.to_wkt())
                if crs.is_engineering or crs.is_geocentric or crs.geodetic_crs is None or has_no_place:
                    crs = None
            except (CRSError, ProjError):
                crs = None
        return cls(width_px=dataset.width, height_px=dataset.height, transform=dataset.transform, crs=crs)

    def to_scene(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 2) columns and rows to coordinates of the scene's CRS."""
        return moved(points, self.transform)

    def to_metres(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 2) columns and rows to metres east and north of the scene's middle.

        North is true north in the middle of the scene, whichever way its rows run. Without a CRS they are pixels to
        the right and up.
        """
        if self._local is None:
            middle = np.array([self.width_px / 2, self.height_px / 2])
            return (points - middle) * [1.0, -1.0]
        scene = self.to_scene(points)
        return np.column_stack(self._local.transform(scene[:, 0], scene[:, 1]))

    def to_degrees(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 2) coordinates of the scene's CRS to longitude and latitude; they need a CRS."""
        return np.column_stack(self._degrees.transform(points[:, 0], points[:, 1]))

    def area_m2(self, geometry: Any) -> float | None:
        """Area of a geometry in the scene's CRS, on the WGS 84 ellipsoid; None without a CRS."""
        if self.crs is None:
            return None
        # edges are straight in the CRS, not on the ellipsoid: long ones are cut
        fine = shapely.segmentize(geometry, LONGEST_EDGE_M * self.units_per_m)
        return abs(ELLIPSOID.geometry_area_perimeter(shapely.transform(fine, self.to_degrees))[0])

    @cached_property
    def units_per_m(self) -> float:
        """Units of the CRS in a metre in the middle of the scene; 1 without a CRS."""
        if self.crs is None:
            return 1.0
        return float(np.sqrt(_cross(self.to_scene(self._middle_pixel)) / _cross(self.to_metres(self._middle_pixel))))

    @property
    def pixel_m(self) -> float | None:
        """Side of a square as large as the pixel in the middle of the scene, in metres; None without a CRS."""
        if self.crs is None:
            return None
        return float(np.sqrt(_cross(self.to_metres(self._middle_pixel))))

    @property
    def _middle_pixel(self) -> NDArray[np.float64]:
        """A corner of the pixel in the middle, and the two next to it."""
        x, y = self.width_px / 2, self.height_px / 2
        return np.array([[x, y], [x + 1, y], [x, y + 1]])

    @cached_property
    def _local(self) -> Transformer | None:
        """From the CRS to an azimuthal projection around the scene's middle."""
        if self.crs is None:
            return None
        middle = self.to_scene(np.array([[self.width_px / 2, self.height_px / 2]]))[0]
        longitude, latitude = self._degrees.transform(*middle)
        local = CRS.from_proj4(f"+proj=aeqd +lat_0={latitude:.12g} +lon_0={longitude:.12g} +datum=WGS84 +units=m")
        return Transformer.from_crs(self.crs, local, always_xy=True)

    @cached_property
    def _degrees(self) -> Transformer:
        return Transformer.from_crs(self.crs, LONGITUDE_LATITUDE, always_xy=True)


def moved(points: NDArray[np.float64], transform: Any) -> NDArray[np.float64]:
    """Apply an affine transform, as rasterio's, to points (N, 2)."""
    a, b, c, d, e, f = tuple(transform)[:6]
    return points @ np.array([[a, d], [b, e]]) + [c, f]


def _cross(corner: NDArray[np.float64]) -> float:
    """Area of the parallelogram of three points (3, 2): the first and its two neighbours."""
    right, down = corner[1] - corner[0], corner[2] - corner[0]
    return abs(float(right[0] * down[1] - right[1] * down[0]))
