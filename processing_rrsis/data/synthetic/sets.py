"""Expressions with set-valued answers, as in RefSegRS: nouns that name one category or several, and places.

"light-duty vehicle driving on the road" asks for every car and van whose centre lies on the road. As in
`queries`, the checker reads only the query and the object list.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from .layout import SceneObject

VEHICLES: tuple[str, ...] = ("car", "van", "truck", "trailer", "bus")
SURFACES: tuple[str, ...] = ("road", "sidewalk", "impervious surface", "low vegetation")
"""What other objects may stand on; drawn first, in the order of the object list."""

NOUNS: dict[str, tuple[str, ...]] = {
    **{category: (category,) for category in VEHICLES},
    "light-duty vehicle": ("car", "van"),
    "heavy-duty vehicle": ("truck", "trailer", "bus"),
    "vehicle": VEHICLES,
    **{category: (category,) for category in ("building", "tree", *SURFACES)},
}
"""Noun → categories of the objects it names."""

PLACE_PHRASES: dict[str, str] = {"road": "driving on the road", "impervious surface": "in the parking area"}
"""Category of the surface that a vehicle stands on → wording."""

HELD_OUT_PLACES: frozenset[tuple[str, str]] = frozenset(
    {("van", "impervious surface"), ("truck", "road"), ("heavy-duty vehicle", "impervious surface")}
)
"""(noun, place) pairs that no expression outside of ``test_compositional`` names."""

SET_KINDS: tuple[str, ...] = ("category", "group", "category+place", "group+place")


@dataclass(frozen=True, slots=True)
class SetQuery:
    """What an expression asks for.

    Attributes:
        noun: A key of `NOUNS`.
        place: A key of `PLACE_PHRASES`, or None for anywhere.
    """

    noun: str
    place: str | None = None

    @property
    def kind(self) -> str:
        """Name of the expression kind, one of `SET_KINDS`."""
        kind = "group" if len(NOUNS[self.noun]) > 1 else "category"
        return kind if self.place is None else f"{kind}+place"

    @property
    def category(self) -> str:
        """RefSegRS's category of the expression: a group of vehicles counts as ``"vehicle"``."""
        return "vehicle" if len(NOUNS[self.noun]) > 1 else self.noun

    @property
    def expression(self) -> str:
        """The words, lower-case and without article as in RefSegRS."""
        return self.noun if self.place is None else f"{self.noun} {PLACE_PHRASES[self.place]}"


def stands_on(item: SceneObject, surface: SceneObject) -> bool:
    """Tell whether the centre of an object lies on a surface."""
    angle = math.radians(surface.angle_deg)
    offset_x, offset_y = item.center_x - surface.center_x, item.center_y - surface.center_y
    along = offset_x * math.cos(angle) + offset_y * math.sin(angle)
    across = offset_y * math.cos(angle) - offset_x * math.sin(angle)
    return abs(along) <= surface.length / 2 and abs(across) <= surface.width / 2


def set_answers(query: SetQuery, objects: Sequence[SceneObject]) -> list[int]:
    """Return the indices of all objects that a query asks for."""
    surfaces = [item for item in objects if item.category == query.place]
    return [
        index
        for index, item in enumerate(objects)
        if item.category in NOUNS[query.noun]
        and (query.place is None or any(stands_on(item, surface) for surface in surfaces))
    ]


def all_set_queries() -> list[SetQuery]:
    """Return every query that can be put into words."""
    placed = itertools.product((noun for noun in NOUNS if set(NOUNS[noun]) <= set(VEHICLES)), PLACE_PHRASES)
    return [SetQuery(noun=noun) for noun in NOUNS] + [SetQuery(noun=noun, place=place) for noun, place in placed]


def _contrasts(query: SetQuery, objects: Sequence[SceneObject]) -> bool:
    """Tell whether noun and place both matter in a scene, whatever the answer."""
    noun = NOUNS[query.noun]
    present = {item.category for item in objects if item.category in VEHICLES}
    if query.place is None:
        return len(noun) == 1 or len(present & set(noun)) > 1
    elsewhere = next(place for place in PLACE_PHRASES if place != query.place)
    rivals = set_answers(SetQuery(noun="vehicle", place=query.place), objects)
    other_nouns = [index for index in rivals if objects[index].category not in noun]
    return bool(set_answers(SetQuery(noun=query.noun, place=elsewhere), objects)) and (
        query.noun == "vehicle" or bool(other_nouns)
    )


def is_valid_set(query: SetQuery, objects: Sequence[SceneObject]) -> bool:
    """Tell whether a query has an answer, is not answered by everything, and has its distractors.

    With a place, objects of the noun stand elsewhere too, and others (but for "vehicle") stand there; a group has
    members of two categories; one category of vehicle has another beside it.
    """
    answers = set_answers(query, objects)
    present = {item.category for item in objects}
    if not answers or len(answers) == len(objects):
        return False
    if query.kind == "category" and query.noun in VEHICLES and not (present & set(VEHICLES)) - {query.noun}:
        return False
    if query.kind == "group" and not present - set(NOUNS[query.noun]):
        return False
    return _contrasts(query, objects)


def is_absent_set(query: SetQuery, objects: Sequence[SceneObject]) -> bool:
    """Tell whether nothing in a scene is what a query asks for, though it well could be.

    With a place, objects of the noun stand elsewhere and other vehicles stand there.
    """
    if set_answers(query, objects):
        return False
    return query.kind == "category" or (query.place is not None and _contrasts(query, objects))


def mean_set_iou(wanted: Sequence[int], found: Sequence[int], objects: Sequence[SceneObject]) -> float:
    """Return the IoU in [0, 1] of two sets of objects by the areas of their boxes."""
    area = [item.length * item.width for item in objects]
    union = sum(area[index] for index in set(wanted) | set(found))
    return sum(area[index] for index in set(wanted) & set(found)) / union if union else 0.0
