"""What is asked about a large SyntheticRS scene, and the true answers: every kind of place, one object or several.

Nothing here knows how a place is resolved elsewhere. As in `synthetic.queries`, every predicate has three values, and
a query to which any object is `UNSURE` is never asked. Objects are records in shares of a frame, so that the same
query can be put to a scene and to a tile of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..synthetic.draws import Draws
from ..synthetic.layout import SceneObject
from ..synthetic.queries import RELATION_COSINE, UNRELATED_COSINE, Match, region_match
from ..synthetic.vocabulary import POSITION_PHRASES
from ..synthetic.wording import noun_phrase_of

KINDS = (
    "position",
    "compass position",
    "extreme",
    "relation",
    "compass relation",
    "next to",
    "between",
    "largest",
)
COMPASS: dict[str, tuple[int, int]] = {
    "north": (0, 1), "north-east": (1, 1), "east": (1, 0), "south-east": (1, -1), "south": (0, -1),
    "south-west": (-1, -1), "west": (-1, 0), "north-west": (-1, 1),
}  # fmt: skip
"""Steps to the east and to the north."""
_COMPASS_REGIONS = {
    "north-west": "upper left", "north": "top", "north-east": "upper right", "west": "left", "east": "right",
    "south-west": "lower left", "south": "bottom", "south-east": "lower right",
}  # fmt: skip
_SIDES: dict[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "top": (0, 1), "bottom": (0, -1)}
_RELATIONS = {"on the left of": (-1, 0), "on the right of": (1, 0), "above": (0, 1), "below": (0, -1)}
EXTREME_MARGIN = 0.03
"""By how much of the frame the farthest object is farther than the next one."""
NEXT_TO, NOT_NEXT_TO = 1.35, 4.0
"""Distance of two middles over the mean length: up to the first they are next to each other, from the second not."""
BETWEEN_COSINE, NOT_BETWEEN_COSINE = math.cos(math.radians(150.0)), math.cos(math.radians(95.0))
LARGEST_MARGIN = 1.03
"""Area of the largest object over that of the next one."""

Axes = tuple[tuple[float, float], tuple[float, float]]
"""East and north as unit vectors in the image: x to the right, y down."""
NORTH_UP: Axes = ((1.0, 0.0), (0.0, -1.0))


@dataclass(frozen=True)
class SceneQuery:
    """One question about a scene.

    Attributes:
        kind: One of `KINDS`.
        category: Of the target.
        colour: Of the target.
        size: Of the target; None where it is the place that tells.
        plural: Whether all are meant that are there, not one.
        word: Region, compass word, side or wording of the relation.
        anchors: Objects that the place is seen from, as (category, colour); each is alone of its kind in the scene.
    """

    kind: str
    category: str
    colour: str
    size: str | None
    plural: bool
    word: str = ""
    anchors: tuple[tuple[str, str], ...] = ()

    @property
    def expression(self) -> str:
        """The question in words."""
        noun = noun_phrase_of(self.category, self.colour, self.size) + ("s" if self.plural else "")
        seen_from = [f"the {colour} {category}" for category, colour in self.anchors]
        if self.kind == "extreme":
            return f"the {self.word}{'ern' if self.word in COMPASS else ''}most {noun}"
        if self.kind == "largest":
            return f"the largest {noun}"
        places = {
            "position": POSITION_PHRASES.get(self.word, ("",))[0],
            "compass position": f"in the {self.word}",
            "relation": f"{self.word} {seen_from[0] if seen_from else ''}",
            "compass relation": f"{self.word} of {seen_from[0] if seen_from else ''}",
            "next to": f"next to {seen_from[0] if seen_from else ''}",
            "between": f"between {' and '.join(seen_from)}",
        }
        return f"the {noun} {places[self.kind]}"

    def answers(self, objects: Sequence[SceneObject], axes: Axes = NORTH_UP) -> tuple[list[int], list[int]]:
        """Answer it.

        Args:
            objects: Those of the frame, in shares of it.
            axes: Where east and north are in the image.

        Returns:
            Indices of the objects that clearly are meant, and of those that may or may not be.
        """
        alike = [index for index, item in enumerate(objects) if self.describes(item)]
        if self.kind in ("extreme", "largest"):
            return self._farthest(alike, objects, axes)
        sure: list[int] = []
        unsure: list[int] = []
        for index in alike:
            match = self._match(objects[index], objects, axes)
            if match is not Match.NO:
                (sure if match is Match.YES else unsure).append(index)
        return sure, unsure

    def describes(self, item: SceneObject) -> bool:
        """Whether an object is what is asked for, wherever it lies."""
        same = item.category == self.category and item.colour == self.colour
        return same and self.size in (None, item.size)

    def _match(self, item: SceneObject, objects: Sequence[SceneObject], axes: Axes) -> Match:
        if self.kind == "position":
            return region_match(self.word, item.center_x, item.center_y)
        if self.kind == "compass position":
            offset = item.center_x - 0.5, item.center_y - 0.5
            reach = max(abs(x) + abs(y) for x, y in axes)  # a turned frame's ground box is larger than the frame
            east, north = (_dot(offset, axis) / reach for axis in axes)
            return region_match(_COMPASS_REGIONS[self.word], 0.5 + east, 0.5 - north)
        seen_from = [other for kind in self.anchors for other in objects if (other.category, other.colour) == kind]
        if len(seen_from) != len(self.anchors):
            return Match.NO
        if self.kind == "next to":
            distance = math.dist(_middle(item), _middle(seen_from[0])) / ((item.length + seen_from[0].length) / 2)
            return Match.YES if distance <= NEXT_TO else Match.NO if distance >= NOT_NEXT_TO else Match.UNSURE
        if self.kind == "between":
            cosine = _cosine(*(_offset(item, other) for other in seen_from))
            return _graded(-cosine, yes=-BETWEEN_COSINE, no=-NOT_BETWEEN_COSINE)
        offset = _offset(seen_from[0], item)
        return _graded(_cosine(offset, self._axis(axes)), yes=RELATION_COSINE, no=UNRELATED_COSINE)

    def _axis(self, axes: Axes) -> tuple[float, float]:
        """The direction of the word in the image, y down."""
        if self.word in COMPASS:
            east, north = COMPASS[self.word]
            (east_x, east_y), (north_x, north_y) = axes
            return east * east_x + north * north_x, east * east_y + north * north_y
        x, up = {**_SIDES, **_RELATIONS}[self.word]
        return float(x), float(-up)

    def _farthest(
        self, alike: Sequence[int], objects: Sequence[SceneObject], axes: Axes
    ) -> tuple[list[int], list[int]]:
        """The one that lies farthest, or is largest; unsure where the next one is about as far."""
        if self.kind == "largest":
            values = [math.log(objects[index].length * objects[index].width) for index in alike]
            margin = math.log(LARGEST_MARGIN)
        else:
            axis = self._axis(axes)
            values = [_dot(_middle(objects[index]), axis) for index in alike]
            margin = EXTREME_MARGIN
        ranked = sorted(zip(values, alike, strict=True), reverse=True)
        if not ranked or (len(ranked) > 1 and ranked[0][0] - ranked[1][0] < margin):
            return [], list(alike)
        return [ranked[0][1]], []


def scene_queries(
    objects: Sequence[SceneObject],
    landmarks: Sequence[tuple[str, str]],
    count: int,
    draws: Draws,
    axes: Axes = NORTH_UP,
) -> list[tuple[SceneQuery, list[int]]]:
    """Draw questions that have a clear answer.

    Args:
        objects: Of the scene.
        landmarks: (category, colour) that one object alone has.
        count: Of the questions; kinds and numbers in turns.
        draws: Random draws.
        axes: Where east and north are in the image.

    Returns:
        Questions and the indices of their answers: one, or at least two where several are asked for. Fewer than asked
        for where the scene allows no more.
    """
    pools = [
        _valid(kind, plural, objects, landmarks, draws, axes)
        for kind in KINDS
        for plural in (False, True)
        if not (plural and kind in ("extreme", "largest"))
    ]
    found: dict[SceneQuery, list[int]] = {}
    while len(found) < count and pools:
        for pool in list(pools):
            query = next(pool, None)
            if query is None:
                pools.remove(pool)
            elif len(found) < count:
                found.setdefault(*query)
    return list(found.items())


def _valid(
    kind: str,
    plural: bool,
    objects: Sequence[SceneObject],
    landmarks: Sequence[tuple[str, str]],
    draws: Draws,
    axes: Axes,
) -> Iterator[tuple[SceneQuery, list[int]]]:
    """Questions of a kind with a clear answer, in random order."""
    words: dict[str, Sequence[str]] = {
        "position": list(POSITION_PHRASES),
        "compass position": list(COMPASS),
        "extreme": [*(word for word in COMPASS if "-" not in word), *_SIDES],
        "relation": list(_RELATIONS),
        "compass relation": list(COMPASS),
    }
    kinds_of_targets = sorted({(item.category, item.colour, item.size) for item in objects})
    seen_from = _anchor_choices(kind, landmarks)
    for category, colour, size in draws.shuffled(kinds_of_targets):
        if (category, colour) in landmarks:
            continue
        for word in draws.shuffled(words.get(kind, [""])):
            for anchors in draws.shuffled(seen_from)[:8]:
                sized = None if kind == "largest" else size
                query = SceneQuery(kind, category, colour, sized, plural, word, anchors)
                sure, unsure = query.answers(objects, axes)
                distractors = sum(query.describes(item) for item in objects) > len(sure)
                if not unsure and distractors and (len(sure) >= 2 if plural else len(sure) == 1):
                    yield query, sure
                    break


def _anchor_choices(kind: str, landmarks: Sequence[tuple[str, str]]) -> list[tuple[tuple[str, str], ...]]:
    if kind in ("relation", "compass relation", "next to"):
        return [(landmark,) for landmark in landmarks]
    if kind == "between":
        return [(first, second) for number, first in enumerate(landmarks) for second in landmarks[number + 1 :]]
    return [()]


def _graded(value: float, yes: float, no: float) -> Match:
    return Match.YES if value >= yes else Match.NO if value <= no else Match.UNSURE


def _middle(item: SceneObject) -> tuple[float, float]:
    return item.center_x, item.center_y


def _offset(start: SceneObject, end: SceneObject) -> tuple[float, float]:
    return end.center_x - start.center_x, end.center_y - start.center_y


def _dot(first: tuple[float, float], second: tuple[float, float]) -> float:
    return first[0] * second[0] + first[1] * second[1]


def _cosine(first: tuple[float, float], second: tuple[float, float]) -> float:
    length = math.hypot(*first) * math.hypot(*second)
    return _dot(first, second) / length if length else 0.0
