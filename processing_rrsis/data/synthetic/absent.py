"""Expressions about objects that are not in the scene, for the split ``test_absent`` of SyntheticRS.

They are near misses: every attribute but one fits some object, so that neither the category nor the colour alone
tells that the object is absent. No object may even be `UNSURE`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...errors import RRSISError
from .draws import Draws
from .layout import SceneObject
from .queries import (
    REGION_CELLS,
    Match,
    Query,
    Scene,
    SceneReference,
    anchor_query,
    answers_of,
    match_object,
    uses_held_out_pair,
)
from .scenes import make_scene, wanted_kinds
from .vocabulary import CATEGORIES, CATEGORY_COLOURS, KINDS, RELATION_PHRASES, SIZES
from .wording import expression_of


def is_absent(query: Query, objects: Sequence[SceneObject]) -> bool:
    """Tell whether clearly no object is what a query asks for, while one fits it in all but one attribute.

    A query for a category alone has no attribute to miss: its category must not be in the scene.
    """
    sure, unsure = answers_of(query, objects)
    if sure or unsure:
        return False
    if query.kind == "category":
        return True
    return all(
        any(match_object(query.without(attribute), item, objects) is Match.YES for item in objects)
        for attribute in query.attributes
    )


def _candidates(kind: str, category: str, objects: Sequence[SceneObject]) -> Iterator[Query]:
    """Yield every query of a kind about a category."""
    if kind == "relation":
        for index, anchor in enumerate(objects):
            named = anchor_query(index, objects) if anchor.category != category else None
            if named is not None:
                for relation in RELATION_PHRASES:
                    yield Query(category=category, relation=relation, anchor=named)
        return
    names = kind.split("+")
    for colour in CATEGORY_COLOURS[category] if "colour" in names else (None,):
        for size in SIZES if "size" in names else (None,):
            for position in REGION_CELLS if "position" in names else (None,):
                yield Query(category=category, colour=colour, size=size, position=position)


def absent_queries(kind: str, objects: Sequence[SceneObject]) -> list[Query]:
    """Return all queries of a kind, without held-out pairs, whose object is absent from the scene.

    A colour must be seen in the scene on another object.
    """
    present = {item.category for item in objects}
    colours = {item.colour for item in objects}
    found = []
    for category in CATEGORIES:
        if (category in present) == (kind == "category"):
            continue
        for query in _candidates(kind, category=category, objects=objects):
            if query.colour is not None and query.colour not in colours:
                continue
            if not uses_held_out_pair(query) and is_absent(query, objects):
                found.append(query)
    return found


def make_absent_scene(key: Sequence[int], scene_index: int, count: int) -> Scene:
    """Make one scene whose expressions all name an absent object.

    Args:
        key: Seed, preset and split.
        scene_index: Number of the scene in its split.
        count: Expressions of the scene.

    Returns:
        The scene; its references have no answers.

    Raises:
        RRSISError: If the scene allows fewer such expressions than asked for.
    """
    scene = make_scene(key, scene_index=scene_index, count=count)
    objects = scene.layout.objects
    draws = Draws(*key, 3, scene_index)
    chosen: list[Query] = []
    wanted = wanted_kinds((*key, 4), scene_index=scene_index, count=count)
    for kind in [*wanted, *draws.shuffled(KINDS)]:
        pool = [query for query in absent_queries(kind, objects) if query not in chosen]
        if pool and len(chosen) < count:
            chosen.append(draws.pick(pool))
    if len(chosen) < count:
        raise RRSISError(
            f"a scene of {len(objects)} objects allows {len(chosen)} expressions about absent objects, {count} were "
            "asked for; lower expressions_per_scene"
        )
    references = tuple(
        SceneReference(
            expression=expression_of(query, draws=draws),
            category=query.category,
            kind=query.kind,
            answers=(),
            query=query,
        )
        for query in chosen
    )
    return Scene(layout=scene.layout, references=references)
