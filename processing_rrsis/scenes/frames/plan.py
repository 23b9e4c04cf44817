"""In which frame each expression is answered, and what a network is asked for to do so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .places import Direction, Place, read_place

FRAMES = ("auto", "tile", "scene", "hybrid")
_COMPASS_WITHOUT_CRS = "the scene has no CRS, so north is taken for up in the image: {}"


@dataclass(frozen=True)
class Plan:
    """How one expression is answered.

    Attributes:
        expression: As it was given.
        frame: `"tile"`, `"scene"` or `"hybrid"`.
        reason: Why.
        place: What is resolved on objects, in `"hybrid"`.
    """

    expression: str
    frame: str
    reason: str
    place: Place | None = None

    @property
    def phrases(self) -> tuple[str, ...]:
        """What a network is asked for; the target first."""
        return (self.expression,) if self.place is None else self.place.phrases


def plan_expression(expression: str, frame: str) -> Plan:
    """Choose the frame of an expression.

    Args:
        expression: What is looked for.
        frame: One of `FRAMES`.

    Returns:
        The plan; `"tile"` where `"hybrid"` was asked for and the place can't be resolved.
    """
    if frame in ("tile", "scene"):
        return Plan(expression, frame, reason="asked for")
    place = read_place(expression)
    if place.all_unread:
        words = ", ".join(f"'{word}'" for word in place.all_unread)
        return Plan(expression, "tile", reason=f"asked tile by tile: {words} can't be resolved in the whole scene")
    if not place.has_place:
        return Plan(
            expression,
            "tile",
            reason="asked tile by tile: no place or relation is read that the whole scene could resolve",
        )
    return Plan(expression, "hybrid", reason=f"place resolved in the whole scene: {describe(place)}", place=place)


def describe(place: Place) -> str:
    """What was read, in words: "'the ship', upper left (image), near 'the harbour'"."""
    parts = [f"'{place.phrase}'"]
    if place.choice is not None:
        parts.append(place.choice)
    for direction in place.positions:
        parts.append(f"{_direction_words(direction)} ({direction.frame})")
    for relation in place.relations:
        words: str = relation.kind
        if relation.direction is not None:
            words = f"{_direction_words(relation.direction)} ({relation.direction.frame}) of"
        parts.append(f"{words} " + " and ".join(describe(anchor) for anchor in relation.anchors))
    return ", ".join(parts)


def _direction_words(direction: Direction) -> str:
    x, y = direction.x, direction.y
    if (x, y) == (0, 0):
        return "middle"
    image = direction.frame == "image"
    upright = {1: "upper" if image else "north", -1: "lower" if image else "south", 0: ""}[y]
    sideways = {1: "right" if image else "east", -1: "left" if image else "west", 0: ""}[x]
    most = "farthest " if direction.extreme else ""
    return most + " ".join(word for word in (upright, sideways) if word)


def compass_warnings(plans: Sequence[Plan], *, georeferenced: bool) -> tuple[str, ...]:
    """Warn of compass words in a scene without a CRS."""
    if georeferenced:
        return ()
    return tuple(
        _COMPASS_WITHOUT_CRS.format(plan.expression)
        for plan in plans
        if plan.place is not None and _uses_compass(plan.place)
    )


def _uses_compass(place: Place) -> bool:
    directions = [*place.positions, *(relation.direction for relation in place.relations)]
    return any(direction is not None and direction.frame == "ground" for direction in directions) or any(
        _uses_compass(anchor) for relation in place.relations for anchor in relation.anchors
    )
