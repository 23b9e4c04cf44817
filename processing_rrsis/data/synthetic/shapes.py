"""Outlines and markings of SyntheticRS objects as polygons and lines in the object's own frame.

In that frame the object's box is [-0.5, 0.5] × [-0.5, 0.5]: x along its length, y across.
"""

from __future__ import annotations

import math

from .layout import SceneObject

Points = tuple[tuple[float, float], ...]

_CIRCLE: Points = tuple(
    (0.5 * math.cos(2 * math.pi * step / 28), 0.5 * math.sin(2 * math.pi * step / 28)) for step in range(28)
)
_BOX: Points = ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))
_CAR: Points = (
    (-0.5, -0.36), (-0.44, -0.5), (0.4, -0.5), (0.5, -0.3), (0.5, 0.3), (0.4, 0.5), (-0.44, 0.5), (-0.5, 0.36),
)  # fmt: skip
_SHIP: Points = ((-0.5, -0.42), (0.22, -0.5), (0.5, 0.0), (0.22, 0.5), (-0.5, 0.42))
_FUSELAGE: Points = (
    (0.5, 0.0), (0.44, -0.07), (0.3, -0.085), (-0.4, -0.07), (-0.5, -0.03), (-0.5, 0.03), (-0.4, 0.07), (0.3, 0.085),
    (0.44, 0.07),
)  # fmt: skip
_WINGS: Points = (
    (0.2, 0.0), (0.02, -0.5), (-0.12, -0.5), (-0.07, 0.0), (-0.12, 0.5), (0.02, 0.5),
)  # fmt: skip
_TAIL: Points = ((-0.3, 0.0), (-0.42, -0.21), (-0.5, -0.21), (-0.47, 0.0), (-0.5, 0.21), (-0.42, 0.21))
# A quarter circle of radius 1 (the box's length) from home plate at (-0.5, 0); its chord √2 is the box's width.
_SECTOR: Points = (
    (-0.5, 0.0),
    *(
        (math.cos(math.radians(angle)) - 0.5, math.sin(math.radians(angle)) / math.sqrt(2.0))
        for angle in range(-45, 46, 6)
    ),
)

_VAN: Points = ((-0.5, -0.5), (0.42, -0.5), (0.5, -0.34), (0.5, 0.34), (0.42, 0.5), (-0.5, 0.5))
_CARGO: Points = ((-0.5, -0.5), (0.2, -0.5), (0.2, 0.5), (-0.5, 0.5))
_CAB: Points = ((0.2, -0.42), (0.42, -0.46), (0.5, -0.3), (0.5, 0.3), (0.42, 0.46), (0.2, 0.42))
_CROWN: Points = tuple(
    (radius * math.cos(2 * math.pi * step / 20), radius * math.sin(2 * math.pi * step / 20))
    for step, radius in enumerate((0.5, 0.44, 0.49, 0.43) * 5)
)
_PATCH: Points = tuple(
    (radius * math.cos(2 * math.pi * step / 16), radius * math.sin(2 * math.pi * step / 16))
    for step, radius in enumerate((0.5, 0.47, 0.41, 0.44) * 4)
)

_OUTLINES: dict[str, tuple[Points, ...]] = {
    "vehicle": (_CAR,),
    "building": (_BOX,),
    "storage tank": (_CIRCLE,),
    "tennis court": (_BOX,),
    "basketball court": (_BOX,),
    "airplane": (_FUSELAGE, _WINGS, _TAIL),
    "ship": (_SHIP,),
    "baseball field": (_SECTOR,),
    "car": (_CAR,),
    "van": (_VAN,),
    "truck": (_CARGO, _CAB),
    "tree": (_CROWN,),
    "low vegetation": (_PATCH,),
}

_DIAMOND_SIDE = 0.42
DIAMOND: Points = (
    (-0.5, 0.0),
    (-0.5 + _DIAMOND_SIDE * math.sqrt(0.5), -_DIAMOND_SIDE / 2),
    (-0.5 + _DIAMOND_SIDE * math.sqrt(2.0), 0.0),
    (-0.5 + _DIAMOND_SIDE * math.sqrt(0.5), _DIAMOND_SIDE / 2),
)
"""Infield of a baseball field: a square on home plate; y is divided by the box's width √2."""


def outlines_of(item: SceneObject) -> tuple[Points, ...]:
    """Return the polygons that together make up an object, in its own frame."""
    return _OUTLINES.get(item.category, (_BOX,))


def to_frame(
    points: Points, item: SceneObject, scale: float, shift: tuple[float, float] = (0.0, 0.0)
) -> list[tuple[float, float]]:
    """Move points from an object's own frame to the picture.

    Args:
        points: Points in the object's frame.
        item: The object.
        scale: Pixels per frame side.
        shift: Added afterwards, in shares of the frame.

    Returns:
        (x, y) in pixels.
    """
    angle = math.radians(item.angle_deg)
    cosine, sine = math.cos(angle) * scale, math.sin(angle) * scale
    offset_x, offset_y = (item.center_x + shift[0]) * scale, (item.center_y + shift[1]) * scale
    length, width = item.length, item.width
    return [
        (offset_x + x * length * cosine - y * width * sine, offset_y + x * length * sine + y * width * cosine)
        for x, y in points
    ]


def rectangle(x_low: float, x_high: float, y_low: float, y_high: float) -> Points:
    """Return a rectangle in an object's frame."""
    return ((x_low, y_low), (x_high, y_low), (x_high, y_high), (x_low, y_high))


def circle(center_x: float, center_y: float, radius_x: float, radius_y: float) -> Points:
    """Return an ellipse in an object's frame as a polygon."""
    return tuple((center_x + 2 * radius_x * x, center_y + 2 * radius_y * y) for x, y in _CIRCLE)
