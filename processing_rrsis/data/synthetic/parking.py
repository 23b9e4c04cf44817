"""Makes the scenes of SyntheticRS's RefSegRS-like preset: a road and a parking area with vehicles, and what is around.

Expressions ask for sets: "car", "light-duty vehicle", "truck driving on the road", "vehicle in the parking area".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ...errors import RRSISError
from .draws import Draws
from .layout import (
    FRAME_MARGIN,
    GROUNDS,
    STALL_PITCH,
    Box,
    SceneLayout,
    SceneObject,
    boxes_overlap,
    footprint_of,
    reach_in_frame,
)
from .queries import Scene, SceneReference
from .sets import (
    HELD_OUT_PLACES,
    SET_KINDS,
    VEHICLES,
    SetQuery,
    all_set_queries,
    is_absent_set,
    is_valid_set,
    set_answers,
)

VEHICLE_SIZES: dict[str, tuple[float, float]] = {
    "car": (0.1, 0.05),
    "van": (0.128, 0.06),
    "truck": (0.19, 0.066),
    "trailer": (0.16, 0.064),
    "bus": (0.23, 0.066),
}
"""Length and width in shares of the frame."""
VEHICLE_COLOURS: tuple[str, ...] = ("white", "gray", "red", "blue", "yellow", "orange")
PARKED_LONG = ("truck", "trailer", "bus")
ROAD_WIDTH, SIDEWALK_WIDTH = 0.18, 0.035
PARKING_LENGTH, PARKING_WIDTH = 0.62, 0.3
STALL_ROW, LONG_ROW = -0.065, 0.095
"""Where the rows of stalls and of long vehicles lie across the parking area."""
ATTEMPTS = 200


class _ParkingMaker:
    """One attempt at a scene, built in a frame turned with the road: u along it, v across, origin in the middle."""

    def __init__(self, draws: Draws) -> None:
        self.draws = draws
        self.angle_deg = draws.uniform(-10.0, 10.0) + 90.0 * draws.integer(4)
        self.objects: list[SceneObject] = []
        self.boxes: list[Box] = []

    def add(
        self, category: str, u: float, v: float, length: float, width: float, turn_deg: float = 0.0, colour: str = ""
    ) -> SceneObject:
        """Add an object given in the turned frame."""
        angle = math.radians(self.angle_deg)
        item = SceneObject(
            category=category,
            colour=colour,
            size="",
            center_x=0.5 + u * math.cos(angle) - v * math.sin(angle),
            center_y=0.5 + u * math.sin(angle) + v * math.cos(angle),
            angle_deg=self.angle_deg + turn_deg,
            length=length,
            width=width,
        )
        self.objects.append(item)
        self.boxes.append(footprint_of(item))
        return item

    def add_vehicle(self, category: str, u: float, v: float, turn_deg: float) -> float:
        """Add a vehicle where it fits into the frame; return its length, or 0 where it does not."""
        length, width = (side * self.draws.uniform(0.96, 1.04) for side in VEHICLE_SIZES[category])
        item = self.add(
            category, u=u, v=v, length=length, width=width, turn_deg=turn_deg, colour=self.draws.pick(VEHICLE_COLOURS)
        )
        if is_inside(item):
            return length
        self.objects.pop()
        self.boxes.pop()
        return 0.0

    def add_road(self, v: float) -> None:
        """Add the road with traffic on both lanes."""
        sidewalk = self.draws.chance(0.6)
        self.add("road", u=0.0, v=v, length=1.7, width=ROAD_WIDTH, colour="gray")
        if sidewalk:
            for side in (-1, 1):
                offset = v + side * (ROAD_WIDTH + SIDEWALK_WIDTH) / 2
                self.add("sidewalk", u=0.0, v=offset, length=1.7, width=SIDEWALK_WIDTH, colour="white")

    def drive(self, v: float) -> None:
        """Put vehicles on the road's two lanes."""
        for lane in (-1, 1):
            u = self.draws.uniform(-0.4, -0.1)
            while u < 0.4:
                category = self.draws.pick(VEHICLES)
                length = VEHICLE_SIZES[category][0]
                if self.draws.chance(0.6):
                    self.add_vehicle(
                        category, u=u + length / 2, v=v + lane * ROAD_WIDTH * 0.26, turn_deg=90.0 * (1 - lane)
                    )
                u += length + self.draws.uniform(0.05, 0.3)

    def park(self, u: float, v: float, side: int) -> None:
        """Put vehicles into the stalls and the row for long vehicles; `side` is 1 or -1 and turns the area."""
        stalls = int(PARKING_LENGTH / STALL_PITCH)
        for stall in range(stalls):
            if self.draws.chance(0.45):
                offset = u + (stall + 0.5) * STALL_PITCH - PARKING_LENGTH / 2
                self.add_vehicle(
                    self.draws.pick(("car", "car", "van")),
                    u=offset,
                    v=v + side * STALL_ROW,
                    turn_deg=90.0 * self.draws.pick((1, -1)),
                )
        start = u - PARKING_LENGTH / 2 + self.draws.uniform(0.02, 0.08)
        while self.draws.chance(0.75):
            category = self.draws.pick(PARKED_LONG)
            length = VEHICLE_SIZES[category][0]
            if start + length > u + PARKING_LENGTH / 2 - 0.02:
                break
            self.add_vehicle(
                category, u=start + length / 2, v=v + side * LONG_ROW, turn_deg=180.0 * self.draws.integer(2)
            )
            start += length + self.draws.uniform(0.04, 0.1)

    def scatter(self, category: str, number: int) -> None:
        """Put things beside roads and parking area."""
        for _ in range(12 * number):
            if sum(item.category == category for item in self.objects) >= number:
                return
            length, width = self._side_lengths(category)
            item = SceneObject(
                category=category,
                colour=self.draws.pick(("white", "gray", "red", "orange")) if category == "building" else "green",
                size="",
                center_x=self.draws.unit(),
                center_y=self.draws.unit(),
                angle_deg=self.angle_deg + self.draws.uniform(-20.0, 20.0),
                length=length,
                width=width,
            )
            footprint = footprint_of(item)
            if is_inside(item) and not any(boxes_overlap(footprint, other) for other in self.boxes):
                self.objects.append(item)
                self.boxes.append(footprint)

    def _side_lengths(self, category: str) -> tuple[float, float]:
        if category == "tree":
            side = self.draws.uniform(0.085, 0.13)
            return side, side
        if category == "building":
            return self.draws.uniform(0.17, 0.26), self.draws.uniform(0.13, 0.17)
        return self.draws.uniform(0.18, 0.28), self.draws.uniform(0.12, 0.18)

    def make(self) -> list[SceneObject]:
        """Make the objects in drawing order, surfaces first."""
        side = self.draws.pick((1, -1))
        road_v = -side * self.draws.uniform(0.16, 0.26)
        parking_v = road_v + side * (ROAD_WIDTH / 2 + SIDEWALK_WIDTH + 0.03 + PARKING_WIDTH / 2)
        parking_u = self.draws.uniform(-0.16, 0.16)
        self.add_road(road_v)
        self.add(
            "impervious surface",
            u=parking_u,
            v=parking_v,
            length=PARKING_LENGTH,
            width=PARKING_WIDTH,
            turn_deg=0.0 if side == 1 else 180.0,
            colour="gray",
        )
        self.scatter("low vegetation", number=self.draws.integer(2))
        self.drive(road_v)
        self.park(u=parking_u, v=parking_v, side=side)
        self.scatter("building", number=1 + self.draws.integer(2))
        self.scatter("tree", number=self.draws.integer(4))
        return self.objects


def is_inside(item: SceneObject) -> bool:
    """Tell whether an object lies wholly inside the frame."""
    reach_x, reach_y = reach_in_frame(angle_deg=item.angle_deg, length=item.length, width=item.width)
    margin = FRAME_MARGIN
    return margin + reach_x <= item.center_x <= 1 - margin - reach_x and (
        margin + reach_y <= item.center_y <= 1 - margin - reach_y
    )


def _wanted_set_kinds(scene_index: int, count: int, split: str) -> Iterator[str]:
    kinds = {
        "test_compositional": ("category+place", "group+place"),
        "test_absent": ("category", "category+place", "group+place"),
    }.get(split, SET_KINDS)
    return (kinds[(scene_index * count + number) % len(kinds)] for number in range(count))


def _choose_queries(
    wanted: Sequence[str], split: str, objects: Sequence[SceneObject], draws: Draws
) -> list[SetQuery] | None:
    """Pick one query for each wanted kind, with different answers; None where the scene does not allow it."""
    allowed = is_absent_set if split == "test_absent" else is_valid_set
    rare = split == "test_compositional"
    pool = [
        query
        for query in draws.shuffled(all_set_queries())
        if ((query.noun, query.place) in HELD_OUT_PLACES) == rare and allowed(query, objects)
    ]
    chosen: list[SetQuery] = []
    for kind in wanted:
        used = [set_answers(query, objects) for query in chosen if split != "test_absent"]
        found = [
            query
            for query in pool
            if query.kind == kind and query not in chosen and set_answers(query, objects) not in used
        ]
        if not found:
            return None
        chosen.append(found[0])
    return chosen


def make_parking_scene(key: Sequence[int], scene_index: int, count: int, split: str) -> Scene:
    """Make one scene of the RefSegRS-like preset.

    Args:
        key: Seed, preset and split.
        scene_index: Number of the scene in its split.
        count: Expressions of the scene.
        split: Name of the split.

    Returns:
        The scene; it depends on the arguments alone.

    Raises:
        RRSISError: If no attempt allowed that many different expressions.
    """
    draws = Draws(*key, 0, scene_index)
    wanted = list(_wanted_set_kinds(scene_index, count=count, split=split))
    for _ in range(ATTEMPTS):
        objects = _ParkingMaker(draws).make()
        queries = _choose_queries(wanted, split=split, objects=objects, draws=draws)
        if queries is None:
            continue
        references = tuple(
            SceneReference(
                expression=query.expression,
                category=query.category,
                kind=query.kind,
                answers=tuple(set_answers(query, objects)),
                query=query,
            )
            for query in queries
        )
        layout = SceneLayout(
            objects=tuple(objects),
            roads=(),
            ground=draws.pick(GROUNDS),
            sun_deg=draws.uniform(20.0, 70.0),
            texture_key=(*key, 2, scene_index),
        )
        return Scene(layout=layout, references=references)
    raise RRSISError(
        f"no scene allowed {count} different expressions in {ATTEMPTS} attempts; lower expressions_per_scene"
    )
