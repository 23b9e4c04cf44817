"""Makes SyntheticRS scenes: contrast sets for the wanted kinds of expression, then more queries from the same objects.

A contrast set is a target with one distractor for every attribute of its expression. What comes out is always put
to the checker of `queries`; nothing here is trusted to be right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...errors import RRSISError
from .draws import Draws
from .layout import Box, Placement, SceneLayout, SceneObject, footprint_of, place_object, sample_ground
from .queries import (
    HIGH_START,
    LOW_END,
    MIDDLE_END,
    MIDDLE_START,
    REGION_CELLS,
    Match,
    Query,
    Scene,
    SceneReference,
    anchor_query,
    region_match,
    relation_match,
    uses_held_out_pair,
    valid_queries,
    valid_queries_about,
)
from .vocabulary import (
    CATEGORIES,
    CATEGORY_COLOURS,
    HELD_OUT_COLOURS,
    HELD_OUT_POSITIONS,
    KINDS,
    RELATION_PHRASES,
    SIZES,
)
from .wording import expression_of

MIN_OBJECTS = 4
MAX_OBJECTS = 7
STRICT_ATTEMPTS = 80
SCENE_ATTEMPTS = 100
CROWDED_SHARE: dict[int, float] = {7: 0.8, 8: 0.25, 9: 0.05}
"""Share of the scenes with so many objects that is kept; sets the ceiling of a reader that picks any object."""
SET_TRIES = 5
SECOND_POSITION_DISTRACTOR = 0.35
"""How often a position has two distractors elsewhere instead of one; sets the ceiling of a reader without it."""
CATEGORY_WEIGHTS: dict[str, int] = {
    "vehicle": 3,
    "building": 5,
    "storage tank": 4,
    "tennis court": 4,
    "basketball court": 4,
    "airplane": 6,
    "ship": 5,
    "baseball field": 6,
}
"""How often a category is tried for a contrast set; large footprints fit less often and are tried more."""
THIRDS: tuple[tuple[float, float], ...] = ((0.0, LOW_END), (MIDDLE_START, MIDDLE_END), (HIGH_START, 1.0))


Admits = Callable[[Query], bool]


def admits_common(query: Query) -> bool:
    """Admit what the ordinary splits may say: no held-out pair."""
    return not uses_held_out_pair(query)


def _round_of_kinds(kinds: Sequence[str], draws: Draws) -> list[str]:
    """Shuffle the kinds such that each half of a round fits into one scene of few objects.

    One half holds two kinds of two attributes, whose objects serve single attributes too; the other half holds the
    third and, where asked for, the lone object of a category and the relation, for which it is a good anchor.
    """
    pairs = draws.shuffled([kind for kind in kinds if "+" in kind])
    singles = draws.shuffled([kind for kind in kinds if kind in ("colour", "size", "position")])
    others = [kind for kind in kinds if kind not in pairs and kind not in singles]
    half = len(kinds) // 2
    taken = half - len(pairs[:2])
    halves = [pairs[:2] + singles[:taken], pairs[2:] + others + singles[taken:]]
    first, second = draws.shuffled(halves)
    return draws.shuffled(first) + draws.shuffled(second)


def wanted_kinds(key: Sequence[int], scene_index: int, count: int, kinds: Sequence[str] = KINDS) -> list[str]:
    """Return the kinds that a scene should ask for: equal shares over every ``len(kinds)`` expressions."""
    wanted = []
    for number in range(scene_index * count, (scene_index + 1) * count):
        round_index, slot = divmod(number, len(kinds))
        wanted.append(_round_of_kinds(kinds, draws=Draws(*key, round_index))[slot])
    return wanted


def _zone_of(region: str) -> tuple[float, float, float, float]:
    column, row = REGION_CELLS[region]
    return (*THIRDS[column], *THIRDS[row])


def _outside(region: str) -> Callable[[float, float], bool]:
    return lambda x, y: region_match(region, x, y) is Match.NO


@dataclass(frozen=True, slots=True)
class _SetChoice:
    """What the target of a contrast set is to be."""

    category: str
    colour: str
    size: str
    region: str

    @property
    def other_size(self) -> str:
        return SIZES[1 - SIZES.index(self.size)]


def _choose(kind: str, category: str, held_out: bool, draws: Draws) -> _SetChoice | None:
    """Draw the target's attributes such that its expression is admitted in the split."""
    colours, regions = list(CATEGORY_COLOURS[category]), list(REGION_CELLS)
    rare_colours = [colour for colour in colours if (category, colour) in HELD_OUT_COLOURS]
    rare_regions = [region for region in regions if (category, region) in HELD_OUT_POSITIONS]
    if held_out:
        by_colour = "colour" in kind and ("position" not in kind or draws.chance(0.5))
        colours = rare_colours if by_colour else colours
        regions = rare_regions if "position" in kind and not by_colour else regions
    else:
        colours = [colour for colour in colours if colour not in rare_colours] if "colour" in kind else colours
        regions = [region for region in regions if region not in rare_regions] if "position" in kind else regions
    if not colours or not regions:
        return None
    return _SetChoice(
        category=category, colour=draws.pick(colours), size=draws.pick(SIZES), region=draws.pick(regions)
    )


def _contrast_set(kind: str, choice: _SetChoice, draws: Draws) -> list[Placement]:
    """Return the target and the distractors of a kind without relations."""
    names = kind.split("+")
    positioned = "position" in names
    zone = _zone_of(choice.region) if positioned else (0.0, 1.0, 0.0, 1.0)
    others = [colour for colour in CATEGORY_COLOURS[choice.category] if colour != choice.colour]
    target = Placement(category=choice.category, colour=choice.colour, size=choice.size, zone=zone)
    members = [target]
    if "colour" in names:
        members.append(Placement(category=choice.category, colour=draws.pick(others), size=choice.size, zone=zone))
    if "size" in names:
        members.append(Placement(category=choice.category, colour=choice.colour, size=choice.other_size, zone=zone))
    if positioned:
        elsewhere = Placement(
            category=choice.category, colour=choice.colour, size=choice.size, accepts=_outside(choice.region)
        )
        members += [elsewhere] * (2 if draws.chance(SECOND_POSITION_DISTRACTOR) else 1)
    return members


class _SceneMaker:
    """One attempt at a scene: objects placed so far and the categories still free."""

    def __init__(self, draws: Draws, held_out: bool) -> None:
        self.draws = draws
        self.held_out = held_out
        self.objects: list[SceneObject] = []
        self.boxes: list[Box] = []
        self.free_categories = draws.shuffled(CATEGORIES)

    def place_all(self, members: Sequence[Placement]) -> bool:
        """Place all members or none."""
        placed: list[SceneObject] = []
        boxes = list(self.boxes)
        for member in members:
            item = place_object(member, taken=boxes, draws=self.draws)
            if item is None:
                return False
            placed.append(item)
            boxes.append(footprint_of(item))
        self.objects += placed
        self.boxes = boxes
        self.free_categories = [
            category for category in self.free_categories if all(category != item.category for item in placed)
        ]
        return True

    def add_single(self) -> bool:
        """Place one object of a category that is not in the scene yet."""
        category = self.free_categories[0]
        placement = Placement(
            category=category, colour=self.draws.pick(CATEGORY_COLOURS[category]), size=self.draws.pick(SIZES)
        )
        return self.place_all([placement])

    def _nameable_anchors(self) -> list[int]:
        """Return the objects that a phrase admitted in this split names alone."""
        named = [(index, anchor_query(index, self.objects)) for index in range(len(self.objects))]
        return [index for index, query in named if query is not None and admits_common(query)]

    def _relation_set(self, category: str) -> bool:
        """Place a pair of one category on two sides of an anchor."""
        anchor = self.objects[self.draws.pick(self._nameable_anchors())]
        side = self.draws.pick(tuple(RELATION_PHRASES))
        colour, size = self.draws.pick(CATEGORY_COLOURS[category]), self.draws.pick(SIZES)

        def on_side(x: float, y: float) -> bool:
            return relation_match(side, x, y, anchor) is Match.YES

        def off_side(x: float, y: float) -> bool:
            return relation_match(side, x, y, anchor) is Match.NO

        target = Placement(category=category, colour=colour, size=size, accepts=on_side)
        distractor = Placement(category=category, colour=colour, size=size, accepts=off_side)
        return self.place_all([target, distractor])

    def add_set(self, kind: str) -> bool:
        """Place a contrast set for a kind, of a category that is not in the scene yet."""
        if kind == "relation" and not self._nameable_anchors() and not self.add_single():
            return False
        for _ in range(SET_TRIES):
            if not self.free_categories:
                return False
            category = self.draws.pick([name for name in self.free_categories for _ in range(CATEGORY_WEIGHTS[name])])
            if kind == "relation":
                placed = self._relation_set(category)
            else:
                choice = _choose(kind, category=category, held_out=self.held_out, draws=self.draws)
                placed = choice is not None and self.place_all(_contrast_set(kind, choice=choice, draws=self.draws))
            if placed:
                return True
        return False


def _pick_query(
    kind: str, objects: Sequence[SceneObject], used: set[int], admits: Admits, draws: Draws
) -> tuple[Query, int] | None:
    """Return an admitted valid query of a kind about an object that no expression refers to yet."""
    for target in draws.shuffled([index for index in range(len(objects)) if index not in used]):
        found = [query for query in valid_queries_about(target, kind, objects) if admits(query)]
        if found:
            return draws.pick(found), target
    return None


def _placing_order(kind: str) -> int:
    """Two attributes need most objects; a lone object of its category makes a good anchor for the relation."""
    return 0 if "+" in kind else {"category": 1, "relation": 3}.get(kind, 2)


def _attempt(
    wanted: Sequence[str], admits: Admits, held_out: bool, strict: bool, draws: Draws
) -> tuple[list[SceneObject], list[tuple[Query, int]]]:
    """Try once to make a scene; a strict attempt ends at the first kind that does not fit, others leave it out."""
    maker = _SceneMaker(draws=draws, held_out=held_out)
    queries: list[tuple[Query, int]] = []
    for kind in sorted(wanted, key=_placing_order):
        used = {target for _, target in queries}
        found = _pick_query(kind, objects=maker.objects, used=used, admits=admits, draws=draws)
        if found is None and len(maker.objects) < MAX_OBJECTS - 1 and maker.free_categories and maker.add_set(kind):
            found = _pick_query(kind, objects=maker.objects, used=used, admits=admits, draws=draws)
        if found is not None:
            queries.append(found)
        elif strict:
            return maker.objects, queries
    while len(maker.objects) < MIN_OBJECTS and maker.free_categories and maker.add_single():
        pass
    return maker.objects, queries


def sample_objects(
    wanted: Sequence[str], draws: Draws, held_out: bool = False
) -> tuple[list[SceneObject], list[tuple[Query, int]]]:
    """Make the objects of a scene and one valid query for each wanted kind.

    Args:
        wanted: Kinds, in the order of the expressions.
        draws: Random draws.
        held_out: Whether every query must name a held-out pair; otherwise none does.

    Returns:
        The objects and the (query, target) pairs. A kind that never fitted is replaced by another one.

    Raises:
        RRSISError: If no attempt gave enough queries, e.g. for more expressions than a scene can hold.
    """
    admits = uses_held_out_pair if held_out else admits_common
    for attempt in range(SCENE_ATTEMPTS):
        strict = attempt < STRICT_ATTEMPTS
        objects, queries = _attempt(wanted, admits=admits, held_out=held_out, strict=strict, draws=draws)
        if strict and (len(queries) < len(wanted) or not draws.chance(CROWDED_SHARE.get(len(objects), 1.0))):
            continue
        if not MIN_OBJECTS <= len(objects) <= MAX_OBJECTS:
            continue
        queries.sort(key=lambda pair: wanted.index(pair[0].kind))
        queries = _complete(queries, objects=objects, count=len(wanted), admits=admits, draws=draws)
        if len(queries) == len(wanted):
            return objects, queries
    raise RRSISError(
        f"no scene allowed {len(wanted)} different expressions in {SCENE_ATTEMPTS} attempts; "
        "lower expressions_per_scene"
    )


def _complete(
    queries: list[tuple[Query, int]], objects: Sequence[SceneObject], count: int, admits: Admits, draws: Draws
) -> list[tuple[Query, int]]:
    """Fill up with queries of other kinds, first about objects not asked for yet; maybe too few are found."""
    if len(queries) == count:
        return queries
    pool = [pair for kind in KINDS for pair in valid_queries(kind, objects) if admits(pair[0])]
    pool = [pair for pair in draws.shuffled(pool) if pair not in queries]
    while len(queries) < count and pool:
        used = {target for _, target in queries}
        fresh = [pair for pair in pool if pair[1] not in used]
        chosen = (fresh or pool)[0]
        queries = [*queries, chosen]
        pool.remove(chosen)
    return queries


def reference_of(query: Query, target: int, draws: Draws) -> SceneReference:
    """Put a query with one answer into words."""
    return SceneReference(
        expression=expression_of(query, draws=draws),
        category=query.category,
        kind=query.kind,
        answers=(target,),
        query=query,
    )


def make_scene(key: Sequence[int], scene_index: int, count: int, held_out: bool = False) -> Scene:
    """Make one scene of the RRSIS-D-like preset.

    Args:
        key: Seed, preset and split.
        scene_index: Number of the scene in its split.
        count: Expressions of the scene.
        held_out: Whether its expressions name held-out pairs.

    Returns:
        The scene; it depends on the arguments alone.
    """
    kinds = [kind for kind in KINDS if "colour" in kind or "position" in kind] if held_out else KINDS
    wanted = wanted_kinds((*key, 1), scene_index=scene_index, count=count, kinds=kinds)
    draws = Draws(*key, 0, scene_index)
    objects, queries = sample_objects(wanted, draws=draws, held_out=held_out)
    ground, sun_deg, roads = sample_ground(objects, draws=draws)
    layout = SceneLayout(
        objects=tuple(objects), roads=roads, ground=ground, sun_deg=sun_deg, texture_key=(*key, 2, scene_index)
    )
    return Scene(layout=layout, references=tuple(reference_of(query, target, draws) for query, target in queries))
