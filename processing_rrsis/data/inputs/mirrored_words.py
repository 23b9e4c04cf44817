"""An expression as it reads after its image is mirrored: left and right change places, or above and below.

A word is only changed where it surely names a side of the frame. "Right" also means "directly" ("right next to the
dam"), "left" is also a verb, "second" counts from a side that is not said: such expressions are refused, and their
image must stay as it is. Refusing costs a sample its augmentation; a wrong swap would teach the wrong side.

Compass words belong to the frame as "left" and "upper" do: north is up in these benchmarks and the mirrored picture is
read by the same convention, so east and west change places with left and right, north and south with above and below.

Rotations by 90 degrees are not offered: "upper left" would have to become "lower left" or "upper right", and "above"
"to the left of", which no table of words does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

AXES: tuple[str, ...] = ("horizontal", "vertical")
"""`"horizontal"` mirrors left and right, `"vertical"` above and below."""


@dataclass(frozen=True)
class MirroredExpression:
    """What an expression becomes.

    Args:
        text: The expression for the mirrored image; `None` where it was refused.
        reason: Why it was refused, e.g. `"'right' before 'next' may mean directly"`; empty otherwise.
    """

    text: str | None
    reason: str = ""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _pairs(text: str) -> dict[str, str]:
    """`"a/b c/d"` → a ↔ b, c ↔ d."""
    pairs = [pair.split("/") for pair in text.split()]
    return {word: other for first, second in pairs for word, other in ((first, second), (second, first))}


_WORD = re.compile(r"[A-Za-z]+")
_HORIZONTAL = re.compile(
    r"(?P<head>upper|lower|top|bottom|middle|mid|center|centre|north|south)?(?P<side>left|right|east|west)"
    r"(?P<tail>most|wards?|bound|erly|ern|ernmost|hand|handed|side)?"
)
_VERTICAL = re.compile(
    r"(?P<head>mid)?(?P<side>upper|lower|top|bottom|north|south)"
    r"(?P<tail>most|wards?|bound|erly|ern|ernmost|side|left|right|middle|center|centre|east|west|eastern|western"
    r"|eastward|westward)?"
)
_SIDES = {
    "horizontal": _pairs("left/right east/west"),
    "vertical": _pairs("upper/lower top/bottom north/south above/below upward/downward upwards/downwards"),
}
_ABBREVIATED = {"horizontal": _pairs("ne/nw se/sw"), "vertical": _pairs("ne/se nw/sw")}
_REFUSED = {
    "horizontal": frozenset(),
    "vertical": _words(
        "over under underneath beneath atop overhead up down high higher highest low lowest behind front back "
        "upstream downstream uphill downhill upstairs downstairs"
    ),
}
_REFUSED_EVERYWHERE = _words(
    "letter letters word words text written reads logo number numbers numbered numeral digit digits clock mirrored "
    "starboard larboard"
)
_SAME_LETTERS = {"horizontal": frozenset("ahimotuvwxy"), "vertical": frozenset("bcdehikox")}
_SHAPES_WITH_A_SENSE = _words("comma hook mark spiral")
_NOT_READ = re.compile(  # numbered places, digits as shapes, initials of compass words
    r"\b(?:rows?|columns?|col|quadrants?)\s+(?:\d+|[ivx]+)\b|\b\d+[\s-]+shaped?\b|\b[ns]\.\s?[ew]\b"
)
_ORDINALS = _words("first second third fourth fifth sixth seventh eighth ninth tenth last penultimate")
_ORDINAL = re.compile(r"\b(?:" + "|".join(sorted(_ORDINALS)) + r"|\d+(?:st|nd|rd|th))\b")
_FROM_A_SIDE = re.compile(
    r"\bfrom\s+(?:the\s+)?(?:very\s+|far\s+)?"
    r"(?:left|right|top|bottom|upper|lower|east|west|north|south|center|centre|middle)"
)
_NEAR_MISSES = {"horizontal": ("left", "right"), "vertical": ("upper", "lower", "bottom", "above", "below")}
_NO_MISSES = _words(
    "light night tight sight might fight eight bright wright fright lift loft deft heft weft cleft let lent lest "
    "tower mower power flower slower rower bower cower lover loser blower glower supper copper abode blow bellow"
)

_PLACES = _words(
    "side sides hand corner corners edge edges part parts half section sector portion end border boundary margin area "
    "region quadrant third bank lane turn most middle center centre one ones of"
)
_PREPOSITIONS = _words("on at to in from of towards toward near by along into onto")
_BEFORE_A_SIDE = _PREPOSITIONS | _words(
    "upper lower top bottom middle mid center centre central far very extreme immediate north south the facing "
    "pointing heading turning"
)
_PROXIMITY = _words(
    "next beside besides near above below under underneath beneath behind by before after along across against "
    "between opposite over through up down in on at where outside inside off around beyond"
)
_NEVER_A_SIDE = _words(
    "angle angles angled triangle triangles triangular away now way size sizes color colour colors colours choice "
    "kind type shape shapes number amount order material answer"
)
_STOREYS = _words("deck decks level levels floor floors storey storeys story stories tier tiers roof terrace class")
_FRAME = _words("image picture photo photograph frame scene map view")
_LINKING = _words("is are was looks appears much slightly little bit even far somewhat")


@dataclass(frozen=True)
class _Word:
    """A word with its lower-cased form and its place in the text."""

    text: str
    lower: str
    start: int
    end: int


def mirror_expression(text: str, axis: str = "horizontal") -> MirroredExpression:
    """Rewrite an expression for the mirrored image, or refuse.

    Mirroring twice gives the expression back, "counter-clockwise" without its hyphen.

    Args:
        text: The expression.
        axis: One of `AXES`.

    Returns:
        The rewritten expression; unchanged where it names no side; or the reason why it can't be rewritten.

    Raises:
        ValueError: If the axis is unknown.

    Example:
        >>> mirror_expression("The ship on the lower left").text
        'The ship on the lower right'
        >>> mirror_expression("the ship right next to the dam").text is None
        True
    """
    if axis not in AXES:
        raise ValueError(f"axis: expected one of {', '.join(AXES)}, got {axis!r}")
    reason = _unread_count(text.lower())
    if reason:
        return MirroredExpression(text=None, reason=reason)
    words = [_Word(m.group(), m.group().lower(), m.start(), m.end()) for m in _WORD.finditer(text)]
    changes: list[tuple[_Word, str]] = []
    for index, word in enumerate(words):
        reason = _refusal(text, words, index, axis)
        if reason:
            return MirroredExpression(text=None, reason=reason)
        other = _mirrored_word(words, index, axis)
        if other != word.lower:
            changes.append((word, other))
    return MirroredExpression(text=_rewrite(text, changes))


def _unread_count(text: str) -> str:
    """Why what the expression counts forbids mirroring; every ordinal must say from where it counts."""
    match = _NOT_READ.search(text)
    if match:
        return f"{match.group()!r} is not read"
    ordinals = list(_ORDINAL.finditer(text))
    for number, ordinal in enumerate(ordinals):
        end = ordinals[number + 1].start() if number + 1 < len(ordinals) else len(text)
        is_fraction = ordinal.group() == "third" and re.search(r"\b(?:one|two)[\s-]+$", text[: ordinal.start()])
        if not is_fraction and not _FROM_A_SIDE.search(text, ordinal.end(), end):
            return f"{ordinal.group()!r} counts from a side that is not said"
    return ""


def _mirrored_word(words: Sequence[_Word], index: int, axis: str) -> str:
    """The word's counterpart, or the word itself."""
    word = words[index].lower
    if word == "clockwise":
        return "clockwise" if _turned(words, index) else "counterclockwise"
    if word in ("counterclockwise", "anticlockwise"):
        return "clockwise"
    if word in ("counter", "anti") and _at(words, index + 1) == "clockwise":
        return ""
    whole = {**_SIDES[axis], **_ABBREVIATED[axis]}.get(word)
    if whole is not None:
        return whole
    match = (_HORIZONTAL if axis == "horizontal" else _VERTICAL).fullmatch(word)
    if match is None:
        return word
    return (match["head"] or "") + _SIDES[axis].get(match["side"], match["side"]) + (match["tail"] or "")


def _turned(words: Sequence[_Word], index: int) -> bool:
    """Whether "counter" or "anti" stands before "clockwise" as a word of its own."""
    return _at(words, index - 1) in ("counter", "anti")


def _refusal(text: str, words: Sequence[_Word], index: int, axis: str) -> str:
    """Why the word forbids mirroring; empty where it does not."""
    word = words[index].lower
    if word in _REFUSED_EVERYWHERE or word in _REFUSED[axis]:
        if word == "low" and _at(words, index + 1) == "vegetation":
            return ""
        return f"{word!r} is not read"
    if words[index].text in (("E", "W") if axis == "horizontal" else ("N", "S")):
        return f"{words[index].text!r} may be a direction"
    if word == "port" and _at(words, index + 1) == "side":
        return "'port side' is not read"
    is_letter = len(word) == 1 and (words[index].text.isupper() or _at(words, index + 1) in ("shaped", "shape"))
    if is_letter and word not in _SAME_LETTERS[axis] | {"a"}:
        return f"the mirrored shape is no {words[index].text}"
    if word in _SHAPES_WITH_A_SENSE and _at(words, index + 1) in ("shaped", "shape"):
        return f"the mirrored shape is no {word}"
    if _may_be_a_name(words, index, axis):
        return f"{words[index].text!r} may be part of a name"
    if word not in _NO_MISSES and any(_one_edit_apart(word, side) for side in _NEAR_MISSES[axis]):
        return f"{word!r} may be a misspelt side"
    reader = _READERS[axis].get(word)
    return reader(words, index) if reader else ""


def _may_be_a_name(words: Sequence[_Word], index: int, axis: str) -> bool:
    """Whether a side is written with a capital before another capital: "East Road", "the Left Bank"."""
    if index + 1 >= len(words) or _mirrored_word(words, index, axis) == words[index].lower:
        return False
    following = words[index + 1]
    return words[index].text.istitle() and following.text.istitle() and following.lower not in _SIDES[axis]


def _read_left_right(words: Sequence[_Word], index: int) -> str:
    """Whether a bare "left" or "right" is a side: by the words around it."""
    word, before, after = words[index].lower, _at(words, index - 1), _at(words, index + 1)
    if after in _NEVER_A_SIDE or (after == "of" and _at(words, index + 2) == "way"):
        return f"{word!r} before {after!r} is no side"
    if word == "left" and before in ("is", "was", "remains") and _at(words, index - 2) == "what":
        return "'what is left' is no side"
    if before == "the" and after in _PROXIMITY and _at(words, index - 2) not in _PREPOSITIONS:
        return f"{word!r} before {after!r} may mean directly"
    joined = before in ("and", "or") and _at(words, index - 2) in ("left", "right", "the")
    if before in _BEFORE_A_SIDE or after in _PLACES or joined or (after in ("and", "or") and index == 0):
        return ""
    if len(words) == 1 or (after in ("bottom", "top", "upper", "lower") and before not in _LINKING):
        return ""
    return f"{word!r} between {before!r} and {after!r} may be no side"


def _read_upper_lower(words: Sequence[_Word], index: int) -> str:
    """The words "upper" and "lower" are sides unless they name a storey or compare heights."""
    word, before, after = words[index].lower, _at(words, index - 1), _at(words, index + 1)
    if after in _STOREYS:
        return f"'{word} {after}' is part of an object"
    if word == "upper":
        return ""
    if after == "than" or (before in _LINKING - {"far"} and after not in _PLACES | {"left", "right"}):
        return "'lower' may compare heights"
    return ""


def _read_top_bottom(words: Sequence[_Word], index: int) -> str:
    """The words "top" and "bottom" are sides unless they are a part of the object or "on top of"."""
    word, before, after = words[index].lower, _at(words, index - 1), _at(words, index + 1)
    if before == "on" and after == "of":
        return f"'on {word} of' is no side"
    if after == "of" and not _FRAME & {_at(words, index + 2), _at(words, index + 3)}:
        return f"'{word} of' may be a part of the object"
    sides = _PLACES | {"left", "right"}
    if before in _BEFORE_A_SIDE | {"image", "left", "right"} or after in sides or index == 0:
        return ""
    return f"{word!r} after {before!r} may be a part of the object"


def _read_above(words: Sequence[_Word], index: int) -> str:
    """The words "above" and "below" are sides unless they stand before "ground"."""
    word, after = words[index].lower, _at(words, index + 1)
    return f"'{word} ground' is no side" if after == "ground" and _at(words, index + 2) != "track" else ""


_READERS: dict[str, dict[str, Callable[[Sequence[_Word], int], str]]] = {
    "horizontal": {"left": _read_left_right, "right": _read_left_right},
    "vertical": {
        "lower": _read_upper_lower,
        "upper": _read_upper_lower,
        "top": _read_top_bottom,
        "bottom": _read_top_bottom,
        "above": _read_above,
        "below": _read_above,
    },
}


def _at(words: Sequence[_Word], index: int) -> str:
    return words[index].lower if 0 <= index < len(words) else ""


def _one_edit_apart(word: str, other: str) -> bool:
    """Whether one letter is missing, added, wrong, or two neighbours changed places."""
    if word == other or abs(len(word) - len(other)) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(word, other, strict=False)) if a != b), min(len(word), len(other)))
    rest, wanted = word[start:], other[start:]
    swapped = len(rest) > 1 and len(wanted) > 1 and rest[:2] == wanted[1::-1] and rest[2:] == wanted[2:]
    return swapped or rest[1:] == wanted[1:] or rest[1:] == wanted or rest == wanted[1:]


def _rewrite(text: str, changes: Sequence[tuple[_Word, str]]) -> str:
    """Put the new words in, keeping capitals and matching "a" and "an"."""
    pieces: list[str] = []
    end = 0
    for word, other in changes:
        between = text[end : word.start]
        if other:
            between = _matching_article(between, old=word.lower, new=other)
            pieces += [between, _with_capitals(other, word.text)]
            end = word.end
        else:  # "counter" of "counter-clockwise"
            pieces.append(between)
            end = word.end + len(text[word.end :]) - len(text[word.end :].lstrip(" -"))
    return "".join(pieces) + text[end:]


def _matching_article(between: str, old: str, new: str) -> str:
    """Change "a" to "an" before the new word, or back, where it was right before the old one."""
    match = re.search(r"(?<![A-Za-z])(an?)(\s+)$", between, flags=re.IGNORECASE)
    vowels = tuple("aeiou")
    if match is None or (len(match[1]) == 2) != old.startswith(vowels):
        return between
    article = match[1][0] + ("n" if new.startswith(vowels) else "")
    return between[: match.start()] + article + match[2]


def _with_capitals(word: str, like: str) -> str:
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word.capitalize() if like[0].isupper() else word
