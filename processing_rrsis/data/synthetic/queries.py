"""What an expression of SyntheticRS means: structured queries, their checker, and the search for valid ones.

Every predicate has three values. An object near the border of a region is `UNSURE`, and a query to which any object
is `UNSURE` is never asked. The checker reads only the query and the object list, nothing of how a scene was made.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .layout import SceneLayout, SceneObject
from .vocabulary import HELD_OUT_COLOURS, HELD_OUT_POSITIONS, RELATION_PHRASES

if TYPE_CHECKING:
    from .sets import SetQuery

LOW_END, MIDDLE_START, MIDDLE_END, HIGH_START = 0.30, 0.37, 0.63, 0.70
"""Borders of the thirds of the frame; between a third and the next lies a dead zone."""

REGION_CELLS: dict[str, tuple[int, int]] = {
    "upper left": (0, 0),
    "top": (1, 0),
    "upper right": (2, 0),
    "left": (0, 1),
    "middle": (1, 1),
    "right": (2, 1),
    "lower left": (0, 2),
    "bottom": (1, 2),
    "lower right": (2, 2),
}
"""Column and row of each region."""

RELATION_AXES: dict[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}
RELATION_COSINE = math.cos(math.radians(28.0))
"""An object is left of another one if its direction from there is within 28° of left, ..."""
UNRELATED_COSINE = math.cos(math.radians(62.0))
"""... and is not left of it if that direction is more than 62° away."""


class Match(enum.IntEnum):
    """Whether an object is what a query asks for."""

    NO = 0
    UNSURE = 1
    YES = 2


@dataclass(frozen=True, slots=True)
class Query:
    """What an expression asks for; None where it says nothing.

    Attributes:
        category: Category of the object.
        colour: Colour word.
        size: Size word.
        position: Region of the frame, a key of `REGION_CELLS`.
        relation: Side of the anchor, a key of `RELATION_AXES`.
        anchor: The object it is related to.
    """

    category: str
    colour: str | None = None
    size: str | None = None
    position: str | None = None
    relation: str | None = None
    anchor: Query | None = None

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of the attributes the expression uses beyond the category."""
        return tuple(name for name in ("colour", "size", "position", "relation") if getattr(self, name) is not None)

    @property
    def kind(self) -> str:
        """Name of the expression kind, one of ``KINDS``."""
        return "+".join(self.attributes) or "category"

    def without(self, attribute: str) -> Query:
        """Return the query with one attribute unread."""
        relation = None if attribute == "relation" else self.relation
        return Query(
            category=self.category,
            colour=None if attribute == "colour" else self.colour,
            size=None if attribute == "size" else self.size,
            position=None if attribute == "position" else self.position,
            relation=relation,
            anchor=self.anchor if relation is not None else None,
        )


@dataclass(frozen=True, slots=True)
class SceneReference:
    """One expression with what it refers to.

    Attributes:
        expression: The words.
        category: Category the expression names.
        kind: Kind of expression.
        answers: Indices of the objects that the mask covers; none for an absent object.
        query: The structured form, None where a preset has none.
    """

    expression: str
    category: str
    kind: str
    answers: tuple[int, ...]
    query: Query | SetQuery | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """A layout and the expressions about it."""

    layout: SceneLayout
    references: tuple[SceneReference, ...]


def _bands(coordinate: float) -> tuple[int, ...]:
    """Return the thirds that a coordinate may count to: one, or two in a dead zone."""
    if coordinate <= LOW_END:
        return (0,)
    if coordinate < MIDDLE_START:
        return (0, 1)
    if coordinate <= MIDDLE_END:
        return (1,)
    return (1, 2) if coordinate < HIGH_START else (2,)


def region_match(region: str, x: float, y: float) -> Match:
    """Tell whether a point lies in a region of the frame.

    A corner is neither clearly "on the left" nor clearly not, so it is `UNSURE` for the side it touches.
    """
    column, row = REGION_CELLS[region]
    columns, rows = _bands(x), _bands(y)
    if columns == (column,) and rows == (row,):
        return Match.YES
    column_possible, row_possible = column in columns, row in rows
    if column_possible and row_possible:
        return Match.UNSURE
    touches_side = (row == 1 and column != 1 and column_possible) or (column == 1 and row != 1 and row_possible)
    return Match.UNSURE if touches_side else Match.NO


def region_of(x: float, y: float) -> str | None:
    """Return the region that a point clearly lies in, or None in a dead zone."""
    columns, rows = _bands(x), _bands(y)
    if len(columns) > 1 or len(rows) > 1:
        return None
    return next(region for region, cell in REGION_CELLS.items() if cell == (columns[0], rows[0]))


def relation_match(relation: str, x: float, y: float, anchor: SceneObject) -> Match:
    """Tell whether a point lies on a side of an anchor."""
    offset_x, offset_y = x - anchor.center_x, y - anchor.center_y
    distance = math.hypot(offset_x, offset_y)
    if distance == 0.0:
        return Match.NO
    axis_x, axis_y = RELATION_AXES[relation]
    cosine = (offset_x * axis_x + offset_y * axis_y) / distance
    if cosine >= RELATION_COSINE:
        return Match.YES
    return Match.NO if cosine <= UNRELATED_COSINE else Match.UNSURE


def match_object(query: Query, item: SceneObject, objects: Sequence[SceneObject]) -> Match:
    """Tell whether one object of a scene is what a query asks for."""
    if item.category != query.category:
        return Match.NO
    if query.colour is not None and item.colour != query.colour:
        return Match.NO
    if query.size is not None and item.size != query.size:
        return Match.NO
    match = Match.YES
    if query.position is not None:
        match = region_match(query.position, item.center_x, item.center_y)
    if query.relation is not None and query.anchor is not None and match is not Match.NO:
        anchors = [other for other in objects if match_object(query.anchor, other, objects) is not Match.NO]
        if len(anchors) != 1:
            return Match.UNSURE
        if anchors[0] is item:
            return Match.NO
        match = min(match, relation_match(query.relation, item.center_x, item.center_y, anchors[0]))
    return match


def answers_of(query: Query, objects: Sequence[SceneObject]) -> tuple[list[int], list[int]]:
    """Answer a query.

    Args:
        query: What is asked for.
        objects: The objects of the scene.

    Returns:
        Indices of the objects that clearly are what is asked for, and of those that may or may not be.
    """
    sure: list[int] = []
    unsure: list[int] = []
    for index, item in enumerate(objects):
        match = match_object(query, item, objects)
        if match is not Match.NO:
            (sure if match is Match.YES else unsure).append(index)
    return sure, unsure


def distractors_of(query: Query, target: int, attribute: str, objects: Sequence[SceneObject]) -> list[int]:
    """Return the objects that differ from the target in exactly one attribute of the expression.

    They share the category and, unless it is the attribute, colour and size; they fulfil what else the query says.
    """
    wanted = objects[target]
    rest = query.without(attribute)
    found = []
    for index, item in enumerate(objects):
        if index == target or item.category != wanted.category:
            continue
        same_colour = attribute == "colour" or item.colour == wanted.colour
        same_size = attribute == "size" or item.size == wanted.size
        if not (same_colour and same_size):
            continue
        if match_object(query, item, objects) is Match.NO and match_object(rest, item, objects) is Match.YES:
            found.append(index)
    return found


def is_valid(query: Query, target: int, objects: Sequence[SceneObject]) -> bool:
    """Tell whether a query has exactly one answer, the target, and a distractor for every attribute it uses."""
    sure, unsure = answers_of(query, objects)
    if sure != [target] or unsure:
        return False
    if query.kind == "category":
        return len({item.category for item in objects}) > 1
    return all(distractors_of(query, target, attribute, objects) for attribute in query.attributes)


def uses_held_out_pair(query: Query) -> bool:
    """Tell whether an expression, its anchor included, names a held-out colour or position of a category."""
    if (query.category, query.colour) in HELD_OUT_COLOURS or (query.category, query.position) in HELD_OUT_POSITIONS:
        return True
    return query.anchor is not None and uses_held_out_pair(query.anchor)


def anchor_query(anchor: int, objects: Sequence[SceneObject]) -> Query | None:
    """Return the shortest phrase that names one object alone: its category, or its colour and category."""
    item = objects[anchor]
    rivals = [other for other in objects if other.category == item.category and other is not item]
    if not rivals:
        return Query(category=item.category)
    if any(other.colour == item.colour for other in rivals):
        return None
    return Query(category=item.category, colour=item.colour)


def _relation_queries(target: int, objects: Sequence[SceneObject]) -> Iterator[Query]:
    item = objects[target]
    for index, anchor in enumerate(objects):
        if index == target or anchor.category == item.category:
            continue
        named = anchor_query(index, objects)
        if named is None:
            continue
        for relation in RELATION_PHRASES:
            if relation_match(relation, item.center_x, item.center_y, anchor) is Match.YES:
                yield Query(category=item.category, relation=relation, anchor=named)


def queries_about(target: int, kind: str, objects: Sequence[SceneObject]) -> Iterator[Query]:
    """Yield the queries of a kind that describe one object rightly, whether or not it is the only answer."""
    item = objects[target]
    if kind == "relation":
        yield from _relation_queries(target, objects)
        return
    names = kind.split("+")
    position = region_of(item.center_x, item.center_y) if "position" in names else None
    if "position" in names and position is None:
        return
    yield Query(
        category=item.category,
        colour=item.colour if "colour" in names else None,
        size=item.size if "size" in names else None,
        position=position,
    )


def valid_queries_about(target: int, kind: str, objects: Sequence[SceneObject]) -> list[Query]:
    """Return the valid queries of a kind with a given target."""
    return [query for query in queries_about(target, kind, objects) if is_valid(query, target, objects)]


def valid_queries(kind: str, objects: Sequence[SceneObject]) -> list[tuple[Query, int]]:
    """Return all valid queries of a kind with their targets."""
    return [(query, target) for target in range(len(objects)) for query in valid_queries_about(target, kind, objects)]
