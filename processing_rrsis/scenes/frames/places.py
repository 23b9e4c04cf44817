"""What a sentence says of a place: the target's words, where in the scene, and next to what.

A small grammar over words, without a tagger, in the manner of the `"wordpiece"` reading. Image words (upper, left)
mean the image's frame, compass words (north, eastern) the ground's. What it can't resolve it leaves unread, and says
so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ...expression_position_rrsis import PLACE_WORDS, Token, _words, head_noun, tokenize

Frame = Literal["image", "ground"]
Choice = Literal["largest", "smallest"]


@dataclass(frozen=True)
class Direction:
    """A direction in a frame.

    Attributes:
        frame: `"image"` (x to the right, y up) or `"ground"` (x east, y north).
        x: -1, 0 or 1.
        y: -1, 0 or 1; the middle is (0, 0).
        extreme: Whether only what lies farthest that way is meant ("northernmost").
        half: Whether all of that half is meant, not its outer third.
        middle: Whether the middle of that side is meant ("top center").
    """

    frame: Frame
    x: int
    y: int
    extreme: bool = False
    half: bool = False
    middle: bool = False


@dataclass(frozen=True)
class Relation:
    """Where something lies as seen from something else.

    Attributes:
        kind: `"direction"`, `"near"`, `"nearest"`, `"between"` or `"inside"`.
        anchors: What it is seen from; two for `"between"` of two phrases, else one.
        direction: Of `"direction"`.
        every: Whether it must hold for all anchors ("above both tanks"), not for any.
    """

    kind: Literal["direction", "near", "nearest", "between", "inside"]
    anchors: tuple[Place, ...]
    direction: Direction | None = None
    every: bool = False


@dataclass(frozen=True)
class Place:
    """A noun phrase with its place taken out.

    Attributes:
        phrase: What is left to ask a network for: "the storage tanks".
        count: How many are meant: 1, another number, or None for all of them.
        positions: Where in the scene; all of them hold.
        relations: Next to what; all of them hold.
        choice: Which of those that are there, by size.
        unread: Words of a place that were left in the phrase because nothing here resolves them.
    """

    phrase: str
    count: int | None = 1
    positions: tuple[Direction, ...] = ()
    relations: tuple[Relation, ...] = ()
    choice: Choice | None = None
    unread: tuple[str, ...] = ()

    @property
    def has_place(self) -> bool:
        """Whether anything is said that needs the whole scene."""
        return bool(self.positions or self.relations or self.choice)

    @property
    def phrases(self) -> tuple[str, ...]:
        """All that a network is asked for: the target, then the anchors."""
        return (self.phrase, *(p for relation in self.relations for place in relation.anchors for p in place.phrases))

    @property
    def all_unread(self) -> tuple[str, ...]:
        """Unread words of the target and of the anchors."""
        anchors = (place for relation in self.relations for place in relation.anchors)
        return (*self.unread, *(word for place in anchors for word in place.all_unread))


_IMAGE = {"left": (-1, 0), "right": (1, 0), "top": (0, 1), "upper": (0, 1), "bottom": (0, -1), "lower": (0, -1)}
_COMPASS = {"north": (0, 1), "south": (0, -1), "east": (1, 0), "west": (-1, 0)}
_MIDDLE = ("middle", "center", "centre", "central", "mid")
_SIDE = r"(?:left|right|top|bottom|upper|lower|middle|center|centre|central|mid)"
_POINT = r"(?:north|south)?\s?(?:east|west)|north|south"
_DIRECTION = (
    rf"(?P<dir>(?:(?:far|very|extreme|most)\s)?(?:{_SIDE}(?:\s(?:hand|most))?(?:\s{_SIDE})?|{_SIDE}most"
    rf"|(?:{_POINT})(?:ern)?(?:most)?))"
)
_PART = r"(?:\s(?:hand|most|side|part|edge|corner|end|area|half|section|third|quadrant|border|portion|region))*"
_COUNTED = "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
_FRAME_NOUN = r"(?:image|picture|photo|photograph|scene|frame|view|map|raster|satellite\simage|aerial\simage|area)"
_LEAD = (
    r"(?:\b(?:that|which)\s)?(?:\b(?:is|are|was|were|s|lies|lie|sits|stands|stand)\s)?(?:\b(?:located|situated|"
    r"positioned|placed|lying|found|seen|parked|standing|moored|docked)\s)?"
    r"(?:(?:just|directly|immediately|right|slightly|due)\s)?"
)
_AT = r"(?:\b(?:on|in|at|to|towards?|near)\s)?(?:the\s)?"
_SCENE_END = (
    rf"(?:\s(?:of|in)\s(?:the|this)\s{_FRAME_NOUN})?(?=$|[,;.]|\s(?:and|that|which|there|is|are|above|below|next|"
    r"near|north|south|east|west|left|right|on|to|between)\b)"
)

_POSITION = re.compile(rf"{_LEAD}\b(?:on|in|at|to|towards?)\sthe\s{_DIRECTION}{_PART}{_SCENE_END}")
_IN_SCENE = re.compile(rf"\s?\b(?:of|in|on)\s(?:the|this)\s{_FRAME_NOUN}(?=$|[,;.])")
_SIDE_OF = re.compile(rf"{_LEAD}{_AT}{_DIRECTION}(?:\s(?:hand|most|side))*\s(?:of|from)\s(?=\w)")  # not a part of it
_ON_TOP = re.compile(r"\bon\stop\sof\b")
_ABOVE = re.compile(rf"{_LEAD}\b(?P<word>above|below)\s(?=\w)")
_NEAREST = re.compile(rf"{_LEAD}\b(?:nearest|closest)(?:\sto)?\s(?=(?:the|a|an)\b)")
_NEAR = re.compile(
    rf"{_LEAD}\b(?:(?:next|close|adjacent)\sto|near|beside|besides|alongside|by|in\sthe\svicinity\sof)\s"
    r"(?=(?:the|a|an|another|some)\b)"
)
_BETWEEN = re.compile(rf"{_LEAD}\b(?:in\s)?between\s(?=\w)")
_INSIDE = re.compile(rf"{_LEAD}\b(?:inside|within)\s(?:of\s)?(?=(?:the|a|an)\b)")
_ADJECTIVE = re.compile(
    rf"^(?P<before>(?:(?:the|a|an|all|both|every|{_COUNTED}|\d+)\s)*){_DIRECTION}(?:\shand)?\s(?=\w)"
)
_LARGEST = re.compile(r"\b(?P<word>largest|biggest|smallest|tiniest)\s")
_LOOSE = re.compile(r"^(?:there\s)?(?:is|are)\s|(?:\s(?:that|which))?\s(?:is|are)$")
"""What a place leaves behind: "On the left [is] a ship"."""
_NUMBERS = {word: number for number, word in enumerate(_COUNTED.split("|"), start=2)} | {"both": 2, "pair": 2}
_EVERY = frozenset(("all", "every", "each", "both"))
_NOT = _words(
    "not no never neither nor nothing none cannot unless except excepting excluding isn aren wasn weren doesn don"
)
"""What turns a place into its opposite, which nothing here resolves."""
_LEFT_OVER = _words(
    "or but save apart than rather minus instead anything everything else due that which who whose where there s most "
    "bit halfway immediate similar , ; ."
)
"""What no noun phrase has: where it is left over, more was said than was read."""
_COLOURS = _words(
    "white black red green blue yellow gray grey brown orange pink purple silver golden beige cyan dark light bright"
)
_PLURALS = _words("people men women children geese cattle")
_OF_ONE = re.compile(rf"\sof\s(?:the|this|these|a|an|both|{_COUNTED}|\d+)\b")
_COUNT = re.compile(rf"^(?:(?:the|all|of|these|those)\s)*(?P<number>{_COUNTED}|both|\d+|a\spair\sof|pair\sof)\s")
_ALL = frozenset(("all", "every", "each", "any", "several", "some", "many", "multiple"))
_SINGULAR_ENDINGS = ("ss", "us", "is")
_LOCAL = _words("on in at with along around off across over through past than from toward towards into")
"""Prepositions that tell what is to be seen in a tile, too ("driving on the road"): left to the network."""
_RELATION_PATTERNS = (_BETWEEN, _NEAREST, _NEAR, _SIDE_OF, _ABOVE, _INSIDE)


def read_place(text: str) -> Place:
    """Read one sentence.

    Args:
        text: Such as "the storage tanks north of the harbour".

    Returns:
        Its target without its place; the whole sentence as the target where it tells no place that is resolved here.
    """
    words = " ".join(re.findall(r"[^\W_]+|[,;.]", text.lower().replace("-", " ")))
    negations = tuple(word for word in words.split() if word in _NOT)
    if negations or _ON_TOP.search(words):
        return Place(phrase=text.strip(), count=None, unread=negations or ("on top of",))
    place = _read(words.strip(" ,;."))
    if place.has_place and all(head_noun(tokenize(phrase)) is not None for phrase in place.phrases):
        return place
    return Place(phrase=text.strip(), count=place.count, unread=place.unread)


def _read(words: str) -> Place:
    """Read a noun phrase: relations from the left, since what follows an anchor belongs to it."""
    relation, rest = _first_relation(words)
    positions: list[Direction] = []
    rest, choice = _take_choice(rest)
    adjective = _ADJECTIVE.match(rest)
    if adjective is not None:
        positions.append(_direction(adjective["dir"]))
        rest = adjective["before"] + rest[adjective.end() :]
        if _OF_ONE.search(rest):  # "the left wing of the plane", "the lower of the two ships"
            return Place(phrase=words, count=None, unread=(adjective["dir"], "of"))
    while (match := _POSITION.search(rest)) is not None:
        positions.append(_direction(match["dir"], half="half" in match[0].split()))
        rest = _without(rest, match)
    rest = _LOOSE.sub("", _IN_SCENE.sub("", rest)).strip(" ,;.")
    count = _count(rest)
    if choice is not None:
        rest, among = re.subn(r"^(?:the\s)?of\s(?=the\b)", "", rest)  # "the smallest of the ships"
        count = 1 if among else count
        if count is None:  # "the largest ships": how many?
            return Place(phrase=words, count=None, unread=(choice,))
    return Place(
        phrase=rest,
        count=count,
        positions=tuple(positions),
        relations=relation,
        choice=choice,
        unread=_unread(rest),
    )


def _first_relation(words: str) -> tuple[tuple[Relation, ...], str]:
    """The leftmost relation, with those joined to it by "and", and the words before it."""
    matches = [match for pattern in _RELATION_PATTERNS if (match := _search(pattern, words)) is not None]
    if not matches:
        return (), words
    match = min(matches, key=lambda found: (found.start(), -found.end()))
    before, after = words[: match.start()].strip(" ,;"), words[match.end() :]
    if not before:  # "north of the harbour is a ship": the target is not where it is looked for
        return (), words
    first, others = _split_relations(after)
    relation = _relation(match, first)
    return (relation, *others), re.sub(r"\s(?:and|but)$", "", before)


def _search(pattern: re.Pattern[str], words: str) -> re.Match[str] | None:
    """The leftmost match that is no position in the scene ("on the left of the image")."""
    for match in pattern.finditer(words):
        if not re.match(rf"(?:the|this)\s{_FRAME_NOUN}(?=$|[,;.\s])", words[match.end() :]):
            return match
    return None


def _split_relations(after: str) -> tuple[str, tuple[Relation, ...]]:
    """Cut "the harbour and left of the road" where another relation of the same target begins."""
    for joint in re.finditer(r"(?:\s(?:and|but)|,)\s", after):
        rest = after[joint.end() :]
        for pattern in _RELATION_PATTERNS:
            match = pattern.match(rest)
            if match is not None:
                first, others = _split_relations(rest[match.end() :])
                return after[: joint.start()], (_relation(match, first), *others)
    return after, ()


def _relation(match: re.Match[str], anchor: str) -> Relation:
    if match.re is _BETWEEN:
        parts = re.split(r"\sand\s", anchor, maxsplit=1)
        return Relation(kind="between", anchors=tuple(_read(part) for part in parts))
    anchors = (_read(anchor),)
    every = bool(_EVERY & set(anchor.split()[:2]))
    if match.re is _SIDE_OF:
        direction = _direction(match["dir"])
        if (direction.x, direction.y) == (0, 0):  # "in the middle of the harbour"
            if anchors[0].count == 2:  # "in the middle of the two harbours"
                return Relation(kind="between", anchors=anchors)
            return Relation(kind="inside", anchors=anchors, every=every)
        return Relation(kind="direction", anchors=anchors, direction=direction, every=every)
    if match.re is _ABOVE:
        up = 1 if match["word"] == "above" else -1
        return Relation(kind="direction", anchors=anchors, direction=Direction("image", 0, up), every=every)
    kinds = {_NEAREST: "nearest", _NEAR: "near", _INSIDE: "inside"}
    return Relation(kind=kinds[match.re], anchors=anchors, every=every)  # type: ignore[arg-type]


def _direction(words: str, *, half: bool = False) -> Direction:
    """Such as "far upper left", "topmost", "north eastern", "top center"."""
    extreme = "most" in words or words.startswith("extreme")
    x = y = 0
    compass = False
    for word in re.sub(r"(north|south)(?=\w)", r"\1 ", words).split():
        stem = word.removesuffix("most").removesuffix("ern")
        step = _COMPASS.get(stem, _IMAGE.get(stem))
        compass = compass or stem in _COMPASS
        if step is not None:
            x, y = x or step[0], y or step[1]
    middle = (x, y) != (0, 0) and bool(set(words.split()) & set(_MIDDLE))
    return Direction("ground" if compass else "image", x, y, extreme=extreme, half=half, middle=middle)


def _take_choice(words: str) -> tuple[str, Choice | None]:
    match = _LARGEST.search(words)
    if match is None:
        return words, None
    return _without(words, match), "largest" if match["word"] in ("largest", "biggest") else "smallest"


def _without(words: str, match: re.Match[str]) -> str:
    return f"{words[: match.start()].rstrip()} {words[match.end() :].lstrip()}".strip()


def _count(phrase: str) -> int | None:
    """How many a noun phrase means: a number before its noun tells, else the noun's ending."""
    tokens = tokenize(phrase)
    words = [token.word for token in tokens]
    is_plural = _is_plural(tokens)
    number = _COUNT.match(f"{phrase} ")
    if number is not None:
        word = number["number"].removeprefix("a ").removesuffix(" of")
        counted = _NUMBERS.get(word) or int(word)
        return counted if is_plural or counted == 1 else 1  # "the two story building" is one
    if _ALL & set(words) or "are" in words:
        return None
    return None if is_plural else 1


def _is_plural(tokens: Sequence[Token]) -> bool:
    """Whether the head of a noun phrase means several; of a compound the last noun tells: "storage tanks"."""
    words = [token.word for token in tokens]
    head = head_noun(tokens)
    if head is None:
        return False
    for place, following in enumerate([*words[1:], ""]):
        if place < head:
            continue
        last = not following.isalpha() or following in PLACE_WORDS | {"of", "to"}
        # a participle after a plural is no part of it: "the ships sailing"; "sports building" is a compound
        ended = following.endswith(("ing", "ed", "visible", "with")) and following not in ("building", "parking")
        if last or (ended and _ends_as_plural(words[place])):
            return _ends_as_plural(words[place])
    return False


def _ends_as_plural(noun: str) -> bool:
    return noun in _PLURALS or (noun.endswith("s") and not noun.endswith(_SINGULAR_ENDINGS) and len(noun) > 3)


def _unread(phrase: str) -> tuple[str, ...]:
    """Words in a phrase that tell a place and that nothing here resolved, or that no noun phrase has."""
    words = [token.word for token in tokenize(phrase)]
    found = [word for word in words if word in PLACE_WORDS - _LOCAL or word in _LEFT_OVER or word.isdecimal()]
    found += [word for word in words[: 1 + (words[:1] == ["the"])] if word in ("of", "and")]
    for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
        joined = word == "and" and not {before, after} <= _COLOURS
        told = word in ("is", "are", "was", "were") and not re.search(r"(?:ing|ed|^(?:in|on|at))$", after)
        if joined or told:  # "is moored at the quay" is for the network
            found.append(word)
    number = _COUNT.match(f"{phrase} ")
    if number is not None and number["number"] in found:
        found.remove(number["number"])
    return tuple(found)
