"""Where in an expression the object's place is told: the grammar of the `"wordpiece"` alignment.

Works on words and punctuation, from left to right, without a tagger: a position phrase begins at a preposition, at "to
the" or at a relation such as "next to", and ends where a clause breaks or another noun phrase begins.

Travels to the Hub: needs nothing but the standard library.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

Span = tuple[int, int]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DETERMINERS = _words("the a an this these those some any each every all both another its their")
_PREPOSITIONS = _words(
    "on in at above below near with by along from inside beside besides around across over under between among "
    "amongst behind within through toward towards into onto upon beneath underneath against outside alongside amid "
    "amidst atop off past beyond throughout than opposite"
)
_RELATIONS = _words(
    "next close closer closest adjacent parallel perpendicular nearer nearest farther farthest further furthest "
    "opposite left right north south east west similar equal"
)
_STANDALONE_PLACES = _words("above below inside outside nearby underneath beneath behind")
_MEASURES = _words("size color colour shape length width height contrast comparison")
_SIDES = _words(
    "left right top bottom upper lower middle central center centre leftmost rightmost"
    " topmost bottommost uppermost lowermost northern southern eastern western northernmost southernmost "
    "easternmost westernmost"
)
_SIDE_COMPANIONS = _words("most hand far very corner side edge part half section")
_CLAUSE_BREAKS = _words(
    "is are was were be been has have had can could may might must will that which who whose where when there it "
    "while but spans crosses stretches runs appears extends connects intersects exhibits aligns stands lies "
    "sits contains includes shows"
)
_PARTICIPLES = _words("located positioned situated parked docked driving moored placed found seen lying")
_LOCATING_VERBS = _words(
    "abutting adjoining bordering facing flanking overlooking touching crossing spanning traversing straddling "
    "surrounding connecting abuts adjoins borders faces flanks overlooks touches crosses spans traverses straddles "
    "surrounds connects intersects"
)
_ORDINALS = _words("first second third fourth fifth sixth seventh eighth ninth tenth last penultimate")
_FRACTIONS = _words("one two")
_CONJUNCTIONS = frozenset(("and", "or", "&"))
_PLAIN_ADJECTIVES = _words(
    "red blue green gray grey white black yellow orange cyan purple brown pink silver beige dark light bright large "
    "small tiny huge big little long short slender wide narrow tall high low oval round rounded rectangular square "
    "circular much bigger smaller larger biggest smallest largest visible"
)
_PRONOUNS = _words("it one ones they them thing things everything something here there")
_GROUPS = _words("group row cluster pair lot line set number series bunch couple piece frustum")
PLACE_WORDS = (_PREPOSITIONS | _RELATIONS | _SIDES | _LOCATING_VERBS | _ORDINALS) - {"similar", "equal"}
"""Words that can tell a place; one that is left unread deserves a look."""
MEASURES = _MEASURES
"""Words that make a preposition before them no place: "in size"."""
_TOKEN = re.compile(r"[^\W_]+|[^\w\s]")
_TRANSPARENT = frozenset("-'’‐‑–_")


@dataclass(frozen=True)
class Token:
    """A lower-cased word or punctuation mark and its character span."""

    word: str
    start: int
    end: int


def tokenize(text: str) -> list[Token]:
    """Split into words and punctuation; hyphens and apostrophes only separate."""
    matches = _TOKEN.finditer(text)
    return [Token(m.group().lower(), m.start(), m.end()) for m in matches if m.group() not in _TRANSPARENT]


def _is_break(token: Token) -> bool:
    return token.word in _CLAUSE_BREAKS or not token.word[0].isalnum()


def split_targets(tokens: Sequence[Token], mentions: list[Span]) -> tuple[list[Span], list[Span]]:
    """The first mention is the target, with those coordinated to it ("car, van and truck"); the rest are anchors."""
    joints = _CONJUNCTIONS | _DETERMINERS | _PLAIN_ADJECTIVES | {","}
    count = 1
    while count < len(mentions):
        between = [token.word for token in tokens[mentions[count - 1][1] : mentions[count][0]]]
        if not between or not any(word in _CONJUNCTIONS or word == "," for word in between):
            break
        if not all(word in joints for word in between):
            break
        count += 1
    return mentions[:count], mentions[count:]


def head_noun(tokens: Sequence[Token]) -> int | None:
    """Return the index of the head of the first noun phrase outside a prepositional phrase; None without one."""
    head: int | None = None
    in_phrase = False
    for index, token in enumerate(tokens):
        word = token.word
        stops = word in _PREPOSITIONS or word in ("of", "to") or _is_break(token) or word in _PARTICIPLES
        if stops or (word in _RELATIONS and head is not None and _followed_by(tokens, index, ("to", "of"))):
            if head is not None and not (word == "of" and tokens[head].word in _GROUPS):
                return head
            head = None
            in_phrase = word in _PREPOSITIONS or (in_phrase and word in ("of", "to"))
        elif word in _DETERMINERS:
            if head is not None:
                return head
            in_phrase = in_phrase and (
                tokens[index - 1].word in _PREPOSITIONS or tokens[index - 1].word in ("of", "to")
            )
        elif not in_phrase and not _is_modifier(word, has_head=head is not None):
            head = index
    return head


def _is_modifier(word: str, has_head: bool) -> bool:
    """Whether the word cannot be the head noun; participles and adverbs only after a noun."""
    if word in _PLAIN_ADJECTIVES or word in _SIDES or word in _SIDE_COMPANIONS or word in _PRONOUNS:
        return True
    return word in _CONJUNCTIONS or word in _ORDINALS or (has_head and word.endswith(("ing", "ed", "ly", "est")))


def _followed_by(tokens: Sequence[Token], index: int, words: tuple[str, ...]) -> bool:
    return index + 1 < len(tokens) and tokens[index + 1].word in words


def position_ranges(tokens: Sequence[Token], objects: Sequence[Span]) -> list[Span]:
    """Find the ranges of tokens that locate the object; ranges never touch the object's own words."""
    taken = {index for start, end in objects for index in range(start, end)}
    ranges: list[Span] = []
    index = 0
    while index < len(tokens):
        if index in taken:
            index += 1
        elif _opens_phrase(tokens, index):
            end = _phrase_end(tokens, index, taken)
            start, stop = _trim(tokens, index, end)
            if start < stop:
                ranges.append((start, stop))
            index = max(end, index + 1)
        elif tokens[index].word in _SIDES:
            end = index + 1
            while end < len(tokens) and end not in taken and tokens[end].word in _SIDES | _SIDE_COMPANIONS:
                end += 1
            if end < len(tokens) and tokens[end].word == "of":  # "right edge of the image"
                end = _phrase_end(tokens, end, taken)
            ranges.append(_trim(tokens, index, end))
            index = end
        elif tokens[index].word in _ORDINALS and tokens[max(index - 1, 0)].word not in _FRACTIONS:
            ranges.append((index, index + 1))
            index += 1
        else:
            index += 1
    return ranges


def _opens_phrase(tokens: Sequence[Token], index: int) -> bool:
    """Whether a position phrase begins here: a preposition, "to the", "next to", or a verb as in "facing the"."""
    word = tokens[index].word
    if word in _PREPOSITIONS:
        return not _followed_by(tokens, index, tuple(_MEASURES))
    if word == "to":
        return index + 1 < len(tokens) and tokens[index + 1].word in _DETERMINERS | _SIDES | _SIDE_COMPANIONS
    if word in _LOCATING_VERBS:
        return _locates(tokens, index)
    return word in _RELATIONS and _followed_by(tokens, index, ("to", "of"))


def _locates(tokens: Sequence[Token], index: int) -> bool:
    """Whether the verb here has something to locate by: "facing the pool", "intersects other roads"."""
    return index + 1 < len(tokens) and tokens[index + 1].word in _DETERMINERS | _PREPOSITIONS | _SIDES | {"other"}


def _phrase_end(tokens: Sequence[Token], start: int, taken: set[int]) -> int:
    """Go on until a clause breaks, the object's own noun phrase begins, or a new noun phrase starts."""
    for index in range(start + 1, len(tokens)):
        token = tokens[index]
        if index in taken or _is_break(token):
            return index
        if token.word in _DETERMINERS:
            before = tokens[index - 1].word
            joins = _PREPOSITIONS | _CONJUNCTIONS | _DETERMINERS | _RELATIONS | {"of", "to"}
            joins |= _LOCATING_VERBS if index == start + 1 else frozenset()
            if before not in joins or (before in _SIDES and index - 1 > start):
                return index
        if token.word in _PARTICIPLES or (token.word in _LOCATING_VERBS and _locates(tokens, index)):
            return index
    return len(tokens)


def _trim(tokens: Sequence[Token], start: int, end: int) -> Span:
    """Drop function words at the end; a lone "above" stays, a lone "on" does not."""
    loose = _PREPOSITIONS | _DETERMINERS | _CONJUNCTIONS | {"of", "to"}
    while end > start and tokens[end - 1].word in loose and tokens[end - 1].word not in _STANDALONE_PLACES:
        end -= 1
    return start, end


def uncovered_anchors(anchors: Sequence[Span], ranges: Sequence[Span], tokens: Sequence[Token]) -> list[Span]:
    """Give anchors outside every position phrase a range of their own, from the preceding "of" or "to" on."""
    covered = {index for start, end in ranges for index in range(start, end)}
    missing: list[Span] = []
    for start, end in anchors:
        if start in covered:
            continue
        begin = start
        while begin > 0 and (begin - 1) not in covered and _leads_to_noun(tokens, begin - 1):
            begin -= 1
        if begin > 0 and tokens[begin - 1].word in ("of", "to") and (begin - 1) not in covered:
            begin -= 1
        missing.append((begin, end))
        covered.update(range(begin, end))
    return missing


def _leads_to_noun(tokens: Sequence[Token], index: int) -> bool:
    """Whether the word belongs to the noun phrase that goes on after it: "the white and gray tiny" vehicle."""
    if tokens[index].word in _CONJUNCTIONS:
        return index > 0 and tokens[index - 1].word in _PLAIN_ADJECTIVES
    return tokens[index].word in _DETERMINERS | _PLAIN_ADJECTIVES
