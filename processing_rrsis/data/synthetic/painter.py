"""Draws single SyntheticRS objects: their filled outlines and the markings that make a category recognisable."""

from __future__ import annotations

import math
from collections.abc import Callable

from PIL import Image, ImageDraw

from .layout import CATEGORY_SHAPES, STALL_PITCH, Road, SceneObject
from .shapes import DIAMOND, Points, circle, outlines_of, rectangle, to_frame

Colour = tuple[int, int, int]

COLOUR_VALUES: dict[str, Colour] = {
    "white": (236, 236, 232),
    "gray": (132, 134, 137),
    "red": (198, 42, 38),
    "blue": (42, 84, 200),
    "green": (36, 146, 66),
    "yellow": (238, 204, 46),
    "orange": (234, 124, 26),
}
SURFACE_VALUES: dict[str, Colour] = {
    "road": (84, 84, 88),
    "sidewalk": (188, 184, 176),
    "impervious surface": (122, 121, 120),
    "low vegetation": (112, 158, 62),
    "tree": (26, 74, 36),
}
"""Colours of what is not painted; they do not depend on a colour word."""
ROAD_VALUE: Colour = (96, 96, 98)
APRON_VALUE: Colour = (178, 175, 168)
BASIN_VALUE: Colour = (40, 82, 112)
LINE_VALUE: Colour = (240, 240, 236)
GLASS_VALUE: Colour = (38, 44, 54)
EDGELESS: frozenset[str] = frozenset({"airplane", "road", "sidewalk", "impervious surface", "low vegetation", "tree"})


def _shade(colour: Colour, factor: float) -> Colour:
    return tuple(min(255, max(0, round(channel * factor))) for channel in colour)  # type: ignore[return-value]


class Painter:
    """Draws in frame units on a fine grid."""

    def __init__(self, canvas: Image.Image, fine_size_px: int, pixel: float) -> None:
        self.draw = ImageDraw.Draw(canvas)
        self.scale = float(fine_size_px)
        self.pixel = pixel  # fine pixels per pixel of the picture

    def fill(self, item: SceneObject, points: Points, colour: Colour) -> None:
        """Fill a polygon given in the object's frame."""
        self.draw.polygon(to_frame(points, item=item, scale=self.scale), fill=colour)

    def line(self, item: SceneObject, points: Points, colour: Colour, width_px: float, closed: bool = False) -> None:
        """Draw a line given in the object's frame; its width is in pixels of the picture."""
        corners = to_frame(points, item=item, scale=self.scale)
        if closed:
            corners.append(corners[0])
        self.draw.line(corners, fill=colour, width=max(1, round(width_px * self.pixel)))

    def court_line_px(self, item: SceneObject) -> float:
        """Return the width of a court's lines in pixels of the picture."""
        return max(0.75, 0.035 * item.width * self.scale / self.pixel)

    def road(self, road: Road) -> None:
        """Draw a road with its dashed centre line."""
        along_x, along_y = road.end_x - road.start_x, road.end_y - road.start_y
        length = math.hypot(along_x, along_y)
        normal_x, normal_y = -along_y / length * road.width / 2, along_x / length * road.width / 2
        corners = (
            (road.start_x + normal_x, road.start_y + normal_y),
            (road.end_x + normal_x, road.end_y + normal_y),
            (road.end_x - normal_x, road.end_y - normal_y),
            (road.start_x - normal_x, road.start_y - normal_y),
        )
        self.draw.polygon([(x * self.scale, y * self.scale) for x, y in corners], fill=ROAD_VALUE)
        dash, period = 0.04 / length, 0.09 / length
        for start in (number * period for number in range(math.ceil(1.0 / period))):
            ends = [
                ((road.start_x + share * along_x) * self.scale, (road.start_y + share * along_y) * self.scale)
                for share in (start, start + dash)
            ]
            self.draw.line(ends, fill=(214, 214, 206), width=max(1, round(0.006 * self.scale)))

    def surround(self, item: SceneObject) -> None:
        """Draw the apron under an airplane or the basin around a ship."""
        if item.category not in ("airplane", "ship"):
            return
        along, across = (factor / 2 for factor in CATEGORY_SHAPES[item.category].surround)
        if item.category == "airplane":
            self.fill(item, points=rectangle(-along, along, -across, across), colour=APRON_VALUE)
        else:
            self.fill(item, points=circle(0.0, 0.0, radius_x=along + 0.06, radius_y=across), colour=BASIN_VALUE)


def _draw_vehicle(painter: Painter, item: SceneObject, colour: Colour) -> None:
    painter.fill(item, points=rectangle(0.08, 0.26, -0.4, 0.4), colour=GLASS_VALUE)
    painter.fill(item, points=rectangle(-0.36, -0.24, -0.38, 0.38), colour=GLASS_VALUE)


def _draw_van(painter: Painter, item: SceneObject, colour: Colour) -> None:
    painter.fill(item, points=rectangle(0.24, 0.38, -0.42, 0.42), colour=GLASS_VALUE)
    painter.line(item, points=((-0.42, 0.0), (0.16, 0.0)), colour=_shade(colour, factor=0.8), width_px=0.6)


def _draw_truck(painter: Painter, item: SceneObject, colour: Colour) -> None:
    painter.fill(item, points=rectangle(0.17, 0.22, -0.5, 0.5), colour=GLASS_VALUE)
    painter.fill(item, points=rectangle(0.34, 0.41, -0.4, 0.4), colour=GLASS_VALUE)
    painter.fill(item, points=rectangle(-0.46, 0.14, -0.4, 0.4), colour=_shade(colour, factor=0.86))


def _draw_trailer(painter: Painter, item: SceneObject, colour: Colour) -> None:
    painter.fill(item, points=rectangle(-0.45, 0.45, -0.36, 0.36), colour=_shade(colour, factor=0.78))


def _draw_bus(painter: Painter, item: SceneObject, colour: Colour) -> None:
    painter.fill(item, points=rectangle(0.41, 0.46, -0.42, 0.42), colour=GLASS_VALUE)
    for start in (-0.36, -0.08, 0.2):
        hatch = rectangle(start, start + 0.11, -0.22, 0.22)
        painter.fill(item, points=hatch, colour=_shade(colour, factor=0.72))


def _draw_building(painter: Painter, item: SceneObject, colour: Colour) -> None:
    painter.fill(item, points=rectangle(-0.5, 0.5, 0.0, 0.5), colour=_shade(colour, factor=0.76))


def _draw_storage_tank(painter: Painter, item: SceneObject, colour: Colour) -> None:
    painter.fill(item, points=circle(0.0, 0.0, radius_x=0.41, radius_y=0.41), colour=_shade(colour, factor=1.1))
    ring = circle(0.0, 0.0, radius_x=0.26, radius_y=0.26)
    painter.line(item, points=ring, colour=_shade(colour, factor=0.7), width_px=0.6, closed=True)


def _draw_tennis_court(painter: Painter, item: SceneObject, colour: Colour) -> None:
    width_px = painter.court_line_px(item)
    painter.line(item, points=rectangle(-0.42, 0.42, -0.38, 0.38), colour=LINE_VALUE, width_px=width_px, closed=True)
    painter.line(item, points=((0.0, -0.44), (0.0, 0.44)), colour=LINE_VALUE, width_px=width_px)
    painter.line(item, points=((-0.22, 0.0), (0.22, 0.0)), colour=LINE_VALUE, width_px=width_px)


def _draw_basketball_court(painter: Painter, item: SceneObject, colour: Colour) -> None:
    width_px = painter.court_line_px(item)
    painter.line(item, points=rectangle(-0.45, 0.45, -0.42, 0.42), colour=LINE_VALUE, width_px=width_px, closed=True)
    ring = circle(0.0, 0.0, radius_x=0.13, radius_y=0.2)
    painter.line(item, points=ring, colour=LINE_VALUE, width_px=width_px, closed=True)
    for side in (-1, 1):
        painter.fill(item, points=rectangle(side * 0.27, side * 0.45, -0.16, 0.16), colour=LINE_VALUE)


def _draw_airplane(painter: Painter, item: SceneObject, colour: Colour) -> None:
    painter.line(item, points=((-0.42, 0.0), (0.4, 0.0)), colour=_shade(colour, factor=0.84), width_px=0.6)


def _draw_ship(painter: Painter, item: SceneObject, colour: Colour) -> None:
    painter.fill(item, points=rectangle(-0.38, -0.16, -0.26, 0.26), colour=_shade(colour, factor=0.66))
    painter.line(item, points=((-0.1, 0.0), (0.34, 0.0)), colour=_shade(colour, factor=0.74), width_px=0.7)


def _draw_baseball_field(painter: Painter, item: SceneObject, colour: Colour) -> None:
    painter.fill(item, points=DIAMOND, colour=(206, 168, 116))
    painter.fill(item, points=circle(-0.2, 0.0, radius_x=0.05, radius_y=0.036), colour=LINE_VALUE)


def _draw_road(painter: Painter, item: SceneObject, colour: Colour) -> None:
    period, dash = 0.1 / item.length, 0.05 / item.length
    for number in range(int(1.0 / period)):
        start = -0.5 + number * period
        painter.line(item, points=((start, 0.0), (start + dash, 0.0)), colour=LINE_VALUE, width_px=0.7)
    for side in (-0.45, 0.45):
        painter.line(item, points=((-0.5, side), (0.5, side)), colour=(170, 170, 166), width_px=0.5)


def _draw_parking(painter: Painter, item: SceneObject, colour: Colour) -> None:
    for number in range(int(item.length / STALL_PITCH) + 1):
        x = -0.5 + number * STALL_PITCH / item.length
        painter.line(item, points=((x, -0.46), (x, -0.02)), colour=(206, 206, 202), width_px=0.5)


def _draw_tree(painter: Painter, item: SceneObject, colour: Colour) -> None:
    painter.fill(item, points=circle(-0.1, -0.1, radius_x=0.26, radius_y=0.26), colour=_shade(colour, factor=1.4))
    painter.fill(item, points=circle(0.14, 0.16, radius_x=0.12, radius_y=0.12), colour=_shade(colour, factor=0.7))


def _draw_low_vegetation(painter: Painter, item: SceneObject, colour: Colour) -> None:
    for x, y in ((-0.25, -0.1), (0.02, 0.2), (0.24, -0.16)):
        painter.fill(item, points=circle(x, y, radius_x=0.05, radius_y=0.08), colour=_shade(colour, factor=0.8))


_MARKINGS: dict[str, Callable[[Painter, SceneObject, Colour], None]] = {
    "vehicle": _draw_vehicle,
    "car": _draw_vehicle,
    "van": _draw_van,
    "truck": _draw_truck,
    "trailer": _draw_trailer,
    "bus": _draw_bus,
    "building": _draw_building,
    "storage tank": _draw_storage_tank,
    "tennis court": _draw_tennis_court,
    "basketball court": _draw_basketball_court,
    "airplane": _draw_airplane,
    "ship": _draw_ship,
    "baseball field": _draw_baseball_field,
    "road": _draw_road,
    "impervious surface": _draw_parking,
    "tree": _draw_tree,
    "low vegetation": _draw_low_vegetation,
}


def draw_object(painter: Painter, item: SceneObject, brightness: float) -> None:
    """Draw an object: filled outline, markings, and a darker edge where it has one."""
    value = SURFACE_VALUES.get(item.category) or COLOUR_VALUES[item.colour]
    colour = _shade(value, factor=brightness)
    for outline in outlines_of(item):
        painter.fill(item, points=outline, colour=colour)
    if item.category in _MARKINGS:
        _MARKINGS[item.category](painter, item, colour)
    if item.category not in EDGELESS:
        for outline in outlines_of(item):
            painter.line(item, points=outline, colour=_shade(colour, factor=0.62), width_px=0.35, closed=True)
