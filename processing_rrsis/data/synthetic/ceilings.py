"""How far a reader with perfect masks gets on SyntheticRS who understands only part of the expression.

Such a reader finds every object's exact mask, keeps the objects that fit what it understands and picks one of them.
As objects do not overlap, its expected IoU is one over their number. Where an expression asks for a set of objects,
the reader takes all that fit, and the IoU is that of the sets by area. The table is the yardstick of every result on
this benchmark: a model above "without position" must be reading positions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from .layout import SceneObject
from .queries import Match, Query, Scene, SceneReference, match_object
from .sets import NOUNS, SetQuery, mean_set_iou, set_answers
from .splits import make_split_scene

READERS: tuple[str, ...] = (
    "random object",
    "category only",
    "without colour",
    "without size",
    "without position",
    "without relation",
    "without position and relation",
    "everything",
)
SET_READERS: tuple[str, ...] = ("any vehicle", "without group", "without place", "everything")
"""Readers of the RefSegRS-like preset; "without group" takes every group of vehicles for all vehicles."""


def understood(query: Query, reader: str) -> Query | None:
    """Return the part of a query that a reader understands; None for nothing."""
    if reader == "random object":
        return None
    if reader == "category only":
        return Query(category=query.category)
    if reader == "everything":
        return query
    for attribute in reader.removeprefix("without ").split(" and "):
        query = query.without(attribute)
    return query


def expected_iou(query: Query, target: int, objects: Sequence[SceneObject], reader: str) -> float:
    """Return the expected IoU, in [0, 1], of a perfect-mask reader on one expression."""
    partial = understood(query, reader)
    if partial is None:
        return 1.0 / len(objects)
    candidates = [index for index, item in enumerate(objects) if match_object(partial, item, objects) is Match.YES]
    return 1.0 / len(candidates) if target in candidates else 0.0


def expected_set_iou(query: SetQuery, answers: Sequence[int], objects: Sequence[SceneObject], reader: str) -> float:
    """Return the IoU, in [0, 1], of a perfect-mask reader on one expression that asks for a set."""
    partial = {
        "any vehicle": SetQuery(noun="vehicle"),
        "without group": SetQuery(noun="vehicle" if len(NOUNS[query.noun]) > 1 else query.noun, place=query.place),
        "without place": SetQuery(noun=query.noun),
    }.get(reader, query)
    return mean_set_iou(answers, found=set_answers(partial, objects), objects=objects)


def _readers_of(reference: SceneReference, objects: Sequence[SceneObject]) -> dict[str, float]:
    """Return each reader's expected IoU on one expression; none where nothing is asked for that is there."""
    query, answers = reference.query, reference.answers
    if isinstance(query, SetQuery) and answers:
        return {reader: expected_set_iou(query, answers, objects=objects, reader=reader) for reader in SET_READERS}
    if isinstance(query, Query) and len(answers) == 1:
        return {reader: expected_iou(query, answers[0], objects=objects, reader=reader) for reader in READERS}
    return {}


def ceilings_of(scenes: Iterable[Scene]) -> dict[str, dict[str, float]]:
    """Compute the readers' mean IoU over scenes.

    Args:
        scenes: Scenes of one preset, with references to what is there.

    Returns:
        Reader → ``"overall"`` and kind → mean IoU in percent.

    Raises:
        ValueError: If no expression has an answer.
    """
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for scene in scenes:
        for reference in scene.references:
            for reader, iou in _readers_of(reference, scene.layout.objects).items():
                scores[reader]["overall"].append(iou)
                scores[reader][reference.kind].append(iou)
    if not scores:
        raise ValueError("expected scenes with at least one expression that has an answer, got none")
    return {
        reader: {group: 100.0 * sum(ious) / len(ious) for group, ious in groups.items()}
        for reader, groups in scores.items()
    }


def reader_ceilings(
    split: str = "test",
    samples: int = 1_600,
    seed: int = 0,
    expressions_per_scene: int = 4,
    preset: str = "rrsisd",
) -> dict[str, dict[str, float]]:
    """Compute what perfect-mask readers of less than the whole expression score on a split, from layouts alone.

    Args:
        split: A split whose objects are there, so any but ``"test_absent"``.
        samples: Samples of the split, rounded up to whole scenes.
        seed: Seed of the benchmark.
        expressions_per_scene: Expressions about each scene; `SyntheticRSConfig.expressions_of` gives a split's.
        preset: ``"rrsisd"`` or ``"refsegrs"``.

    Returns:
        Reader (one of `READERS`, or of `SET_READERS` for ``"refsegrs"``) → ``"overall"`` and kind → mean IoU in
        percent.

    Raises:
        ValueError: For an unknown preset or split, one without answers, or no samples.
    """
    scenes = -(-samples // expressions_per_scene)
    return ceilings_of(
        make_split_scene(preset, seed=seed, split=split, scene_index=index, count=expressions_per_scene)
        for index in range(scenes)
    )
