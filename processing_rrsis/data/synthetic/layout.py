"""Layout of a SyntheticRS scene: objects, roads and ground as plain records, and where objects fit.

Lengths and coordinates are shares of the frame's side: x to the right, y down, both in [0, 1]. Angles turn from the
x axis towards the y axis, in degrees.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .draws import Draws

FRAME_MARGIN = 0.015
OBJECT_MARGIN = 0.025
SIZE_JITTER = 0.04
PLACEMENT_TRIES = 24
STALL_PITCH = 0.083
"""Distance of neighbouring stalls of a parking area."""
GROUNDS: tuple[str, ...] = ("grass", "dry", "field", "sand")


@dataclass(frozen=True, slots=True)
class CategoryShape:
    """How large a category is drawn.

    Attributes:
        small_length: Length of the small size, share of the frame.
        large_length: Length of the large size, at least 1.6 small ones after jitter.
        aspect: Width over length.
        surround: Length and width of the apron or basin around it over its own; (1, 1) for none.
    """

    small_length: float
    large_length: float
    aspect: float
    surround: tuple[float, float] = (1.0, 1.0)


CATEGORY_SHAPES: dict[str, CategoryShape] = {
    "vehicle": CategoryShape(small_length=0.148, large_length=0.26, aspect=0.5),
    "building": CategoryShape(small_length=0.15, large_length=0.262, aspect=0.78),
    "storage tank": CategoryShape(small_length=0.132, large_length=0.23, aspect=1.0),
    "tennis court": CategoryShape(small_length=0.165, large_length=0.289, aspect=0.56),
    "basketball court": CategoryShape(small_length=0.16, large_length=0.28, aspect=0.64),
    "airplane": CategoryShape(small_length=0.16, large_length=0.28, aspect=0.95, surround=(1.06, 1.12)),
    "ship": CategoryShape(small_length=0.175, large_length=0.306, aspect=0.38, surround=(1.16, 1.7)),
    "baseball field": CategoryShape(small_length=0.13, large_length=0.227, aspect=1.414),
}


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object of a scene.

    Attributes:
        category: One of the preset's categories.
        colour: Colour word.
        size: ``"small"`` or ``"large"`` for its category.
        center_x: Centre of its box, share of the frame.
        center_y: Likewise, down.
        angle_deg: Direction of its length.
        length: Side of its box along that direction, share of the frame.
        width: Side across, share of the frame.
    """

    category: str
    colour: str
    size: str
    center_x: float
    center_y: float
    angle_deg: float
    length: float
    width: float


@dataclass(frozen=True, slots=True)
class Road:
    """A straight road between two points on the frame's rim; units are shares of the frame."""

    start_x: float
    start_y: float
    end_x: float
    end_y: float
    width: float


@dataclass(frozen=True, slots=True)
class SceneLayout:
    """Everything a scene is drawn from.

    Attributes:
        objects: The objects, none overlapping, all inside the frame.
        roads: Roads under the objects.
        ground: Name of the ground palette.
        sun_deg: Direction in which shadows fall.
        texture_key: Key of the random texture.
    """

    objects: tuple[SceneObject, ...]
    roads: tuple[Road, ...]
    ground: str
    sun_deg: float
    texture_key: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """What is to be placed, and where its centre may lie.

    Attributes:
        category: Category.
        colour: Colour word.
        size: Size word.
        zone: (x low, x high, y low, y high) for the centre, in shares of the frame.
        accepts: Further condition on the centre (x, y), or None.
    """

    category: str
    colour: str
    size: str
    zone: tuple[float, float, float, float] = (0.0, 1.0, 0.0, 1.0)
    accepts: Callable[[float, float], bool] | None = None


class Box(NamedTuple):
    """An oriented box with its direction's cosine and sine and the radius of the circle around it."""

    center_x: float
    center_y: float
    cosine: float
    sine: float
    half_length: float
    half_width: float
    reach: float


def _footprint(category: str, center_x: float, center_y: float, angle_deg: float, length: float, width: float) -> Box:
    along, across = CATEGORY_SHAPES[category].surround if category in CATEGORY_SHAPES else (1.0, 1.0)
    angle, half_length, half_width = math.radians(angle_deg), length * along / 2, width * across / 2
    return Box(
        center_x=center_x,
        center_y=center_y,
        cosine=math.cos(angle),
        sine=math.sin(angle),
        half_length=half_length,
        half_width=half_width,
        reach=math.hypot(half_length, half_width),
    )


def footprint_of(item: SceneObject) -> Box:
    """Return the box that must stay free of other objects: the object with its apron or basin."""
    return _footprint(
        item.category,
        center_x=item.center_x,
        center_y=item.center_y,
        angle_deg=item.angle_deg,
        length=item.length,
        width=item.width,
    )


def boxes_overlap(first: Box, second: Box, margin: float = OBJECT_MARGIN) -> bool:
    """Tell whether two oriented boxes come nearer than a margin (separating axes)."""
    offset_x, offset_y = second.center_x - first.center_x, second.center_y - first.center_y
    distance = math.hypot(offset_x, offset_y)
    if distance > first.reach + second.reach + margin:
        return False
    cosine = abs(first.cosine * second.cosine + first.sine * second.sine)
    sine = abs(first.cosine * second.sine - first.sine * second.cosine)
    for box, other in ((first, second), (second, first)):
        along = abs(offset_x * box.cosine + offset_y * box.sine)
        across = abs(offset_y * box.cosine - offset_x * box.sine)
        if along > box.half_length + other.half_length * cosine + other.half_width * sine + margin:
            return False
        if across > box.half_width + other.half_length * sine + other.half_width * cosine + margin:
            return False
    return True


def reach_in_frame(angle_deg: float, length: float, width: float) -> tuple[float, float]:
    """Return how far a turned box reaches from its centre in x and in y."""
    cosine, sine = abs(math.cos(math.radians(angle_deg))), abs(math.sin(math.radians(angle_deg)))
    return (length * cosine + width * sine) / 2, (length * sine + width * cosine) / 2


def place_object(wanted: Placement, taken: Sequence[Box], draws: Draws) -> SceneObject | None:
    """Find a free spot for an object.

    Args:
        wanted: What is to be placed and where.
        taken: Footprints of the objects already there.
        draws: Random draws.

    Returns:
        The placed object, or None where no spot was found in ``PLACEMENT_TRIES`` tries.
    """
    shape = CATEGORY_SHAPES[wanted.category]
    base = shape.large_length if wanted.size == "large" else shape.small_length
    x_low, x_high, y_low, y_high = wanted.zone
    unit = draws.unit
    for _ in range(PLACEMENT_TRIES):
        length = base * draws.uniform(1 - SIZE_JITTER, 1 + SIZE_JITTER)
        angle_deg = 360.0 * unit()
        reach_x, reach_y = reach_in_frame(angle_deg=angle_deg, length=length, width=length * shape.aspect)
        left, right = max(x_low, reach_x + FRAME_MARGIN), min(x_high, 1 - reach_x - FRAME_MARGIN)
        top, bottom = max(y_low, reach_y + FRAME_MARGIN), min(y_high, 1 - reach_y - FRAME_MARGIN)
        if left >= right or top >= bottom:
            continue
        center_x, center_y = left + (right - left) * unit(), top + (bottom - top) * unit()
        if wanted.accepts is not None and not wanted.accepts(center_x, center_y):
            continue
        footprint = _footprint(
            wanted.category,
            center_x=center_x,
            center_y=center_y,
            angle_deg=angle_deg,
            length=length,
            width=length * shape.aspect,
        )
        if any(boxes_overlap(footprint, other) for other in taken):
            continue
        return SceneObject(
            category=wanted.category,
            colour=wanted.colour,
            size=wanted.size,
            center_x=center_x,
            center_y=center_y,
            angle_deg=angle_deg,
            length=length,
            width=length * shape.aspect,
        )
    return None


def sample_ground(objects: Sequence[SceneObject], draws: Draws) -> tuple[str, float, tuple[Road, ...]]:
    """Choose ground, sun and up to two roads that keep away from the objects where they can."""
    roads = []
    for number in range(1 + draws.integer(2)):
        candidates = [_crossing_road(upright=draws.chance(0.5), draws=draws) for _ in range(6)]
        roads.append(max(candidates, key=lambda road: _clearance(road, objects)))
        if number == 0 and _clearance(roads[0], objects) < 0.0 and draws.chance(0.5):
            break
    return draws.pick(GROUNDS), draws.uniform(20.0, 70.0), tuple(roads)


def _crossing_road(upright: bool, draws: Draws) -> Road:
    start, end = draws.uniform(0.05, 0.95), 0.0
    end = min(max(start + draws.uniform(-0.25, 0.25), 0.02), 0.98)
    width = draws.uniform(0.05, 0.075)
    if upright:
        return Road(start_x=start, start_y=-0.05, end_x=end, end_y=1.05, width=width)
    return Road(start_x=-0.05, start_y=start, end_x=1.05, end_y=end, width=width)


def _clearance(road: Road, objects: Sequence[SceneObject]) -> float:
    along_x, along_y = road.end_x - road.start_x, road.end_y - road.start_y
    length = (along_x**2 + along_y**2) ** 0.5
    return min(
        abs((item.center_x - road.start_x) * along_y - (item.center_y - road.start_y) * along_x) / length
        - item.length / 2
        - road.width / 2
        for item in objects
    )
