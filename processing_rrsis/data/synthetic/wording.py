"""The sentences of SyntheticRS: a structured query in words, and every word that one can hold.

The wording follows RRSIS-D ("A large tennis court on the upper right", "The vehicle is on the left of the red
building"); unlike there, "a" and "an" are always right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .vocabulary import CATEGORIES, COLOURS, POSITION_PHRASES, RELATION_PHRASES, SIZES

if TYPE_CHECKING:
    from .draws import Draws
    from .queries import Query

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
