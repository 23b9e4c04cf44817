"""Words of SyntheticRS: categories, colours, sizes, positions, relations and the sentences made of them.

The wording follows RRSIS-D ("A large tennis court on the upper right", "The vehicle is on the left of the red
building"); unlike there, "a" and "an" are always right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .synthetic_draws import Draws
    from .synthetic_queries import Query

CATEGORIES: tuple[str, ...] = (
    "vehicle",
    "building",
    "storage tank",
    "tennis court",
    "basketball court",
    "airplane",
    "ship",
    "baseball field",
)
COLOURS: tuple[str, ...] = ("white", "gray", "red", "blue", "green", "yellow", "orange")
SIZES: tuple[str, ...] = ("small", "large")
CATEGORY_COLOURS: dict[str, tuple[str, ...]] = {
    "vehicle": ("white", "red", "blue", "yellow"),
    "building": ("gray", "red", "white", "blue"),
    "storage tank": ("white", "gray", "green", "yellow"),
    "tennis court": ("green", "blue", "orange"),
    "basketball court": ("red", "gray", "orange", "yellow"),
    "airplane": ("white", "gray", "blue", "red"),
    "ship": ("white", "gray", "red", "orange"),
    "baseball field": ("green", "orange", "red"),
}

KINDS: tuple[str, ...] = (
    "category",
    "colour",
    "size",
    "position",
    "colour+position",
    "size+position",
    "colour+size",
    "relation",
)

POSITION_PHRASES: dict[str, tuple[str, ...]] = {
    "upper left": ("on the upper left",),
    "top": ("on the top", "on the top", "on the top", "at the top"),
    "upper right": ("on the upper right",),
    "left": ("on the left",),
    "middle": ("in the middle",),
    "right": ("on the right",),
    "lower left": ("on the lower left",),
    "bottom": ("at the bottom", "at the bottom", "at the bottom", "on the bottom"),
    "lower right": ("on the lower right",),
}
"""The nine regions of the frame and their wordings; a repeated wording is drawn that much more often."""

RELATION_PHRASES: dict[str, str] = {
    "left": "on the left of",
    "right": "on the right of",
    "above": "above",
    "below": "below",
}

HELD_OUT_COLOURS: frozenset[tuple[str, str]] = frozenset(
    {
        ("vehicle", "red"),
        ("building", "blue"),
        ("storage tank", "green"),
        ("tennis court", "orange"),
        ("basketball court", "gray"),
        ("airplane", "red"),
        ("ship", "white"),
        ("baseball field", "red"),
    }
)
"""(category, colour) pairs that no expression outside of ``test_compositional`` names."""

HELD_OUT_POSITIONS: frozenset[tuple[str, str]] = frozenset(
    {
        ("vehicle", "left"),
        ("building", "upper right"),
        ("storage tank", "bottom"),
        ("tennis court", "upper left"),
        ("basketball court", "right"),
        ("airplane", "lower left"),
        ("ship", "top"),
        ("baseball field", "lower right"),
    }
)
"""(category, region) pairs that no expression outside of ``test_compositional`` names."""

DEFINITE_SHARE = 0.6
"""Share of expressions that start with "The" and not with "A" or "An"."""


def with_article(noun_phrase: str, definite: bool) -> str:
    """Put "The", "A" or "An" in front of a noun phrase."""
    if definite:
        return f"The {noun_phrase}"
    return f"An {noun_phrase}" if noun_phrase[0] in "aeiou" else f"A {noun_phrase}"


def noun_phrase_of(category: str, colour: str | None, size: str | None, size_first: bool = True) -> str:
    """Join adjectives and category; RRSIS-D uses both orders, "large green" and "green large"."""
    adjectives = (size, colour) if size_first else (colour, size)
    return " ".join(word for word in (*adjectives, category) if word is not None)


def expression_of(query: Query, draws: Draws) -> str:
    """Put a structured query into words.

    Args:
        query: What is asked for.
        draws: Random draws that choose the article, the order of adjectives and the wording.

    Returns:
        The expression, e.g. ``"A small baseball field on the upper right"``.
    """
    phrase = noun_phrase_of(query.category, query.colour, query.size, size_first=draws.chance(0.6))
    words = with_article(phrase, definite=draws.chance(DEFINITE_SHARE))
    if query.position is not None:
        words = f"{words} {draws.pick(POSITION_PHRASES[query.position])}"
    if query.relation is not None and query.anchor is not None:
        verb = "is " if draws.chance(0.7) else ""
        anchor = noun_phrase_of(query.anchor.category, query.anchor.colour, query.anchor.size)
        words = f"{words} {verb}{RELATION_PHRASES[query.relation]} the {anchor}"
    return words


def grammar_words() -> tuple[str, ...]:
    """Return every lower-case word that an expression of this grammar can hold, sorted."""
    phrases = [*CATEGORIES, *COLOURS, *SIZES, *RELATION_PHRASES.values(), "the", "a", "an", "is"]
    phrases += [wording for wordings in POSITION_PHRASES.values() for wording in wordings]
    return tuple(sorted({word for phrase in phrases for word in phrase.split()}))
