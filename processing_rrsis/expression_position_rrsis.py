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


_DETERMINERS = _words(
    "the a an this these those some any each every all both another its their many several numerous few"
)
_PREPOSITIONS = _words(
    "on in at above below near with by along from inside beside besides around across over under between among "
    "amongst behind within through toward towards into onto upon beneath underneath against outside alongside amid "
    "amidst atop off past beyond throughout than opposite astride athwart mid midst neath nigh"
)
_OTHER_PREPOSITIONS = _words(
    "without about aboard after ahead although apart as aside at barring because before but concerning considering "
    "despite down during except excluding for following given including like minus notwithstanding out per plus "
    "regarding round save since till unless unlike until up upon versus via whereas while worth having sans thru unto "
    "vs w"
)
"""These lead to other things than the object, but tell no place; the closed rest of English prepositions."""
_FUNCTION_WORDS = _words(
    "not no nor only just also too very quite rather more less least most so if though whether then thus please me us "
    "i we you he she his her our your my such same other others almost nearly exactly directly"
)
_REQUESTS = _words("find show segment select locate highlight mark detect identify outline give get point")
_RELATIONS = _words(
    "next close closer closest adjacent parallel perpendicular nearer nearest farther farthest further furthest "
    "opposite left right north south east west northeast northwest southeast southwest similar equal"
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
_ORDINAL_NUMBERS = (
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh"),
    *("twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth"),
    "twentieth",
)
_ORDINALS = frozenset(_ORDINAL_NUMBERS) | _words("last penultimate")
_ORDINAL_FIGURES = re.compile(r"(\d+)(st|nd|rd|th)")
_FRACTIONS = _words("one two")
_CONJUNCTIONS = frozenset(("and", "or", "&"))
_PLAIN_ADJECTIVES = _words(
    "red blue green gray grey white black yellow orange cyan purple brown pink silver beige dark light bright large "
    "small tiny huge big little long short slender wide narrow tall high low oval round rounded rectangular square "
    "circular much bigger smaller larger biggest smallest largest visible"
)
_PRONOUNS = _words("it one ones they them thing things everything something here there")
_GROUPS = _words("group row cluster pair lot line set number series bunch couple piece frustum")
_NEVER_HEADS = _PLAIN_ADJECTIVES | _SIDES | _SIDE_COMPANIONS | _PRONOUNS | _CONJUNCTIONS | _FUNCTION_WORDS
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
    """Split into words and punctuation; hyphens and apostrophes only separate, and "2nd" is the word "second"."""
    matches = _TOKEN.finditer(text)
    return [Token(_word(m.group()), m.start(), m.end()) for m in matches if m.group() not in _TRANSPARENT]


def _word(piece: str) -> str:
    """Return a piece in lower case; the ordinals up to 20th, written in figures, as words."""
    word = piece.lower()
    figures = _ORDINAL_FIGURES.fullmatch(word)
    number = int(figures[1][:3]) if figures else 0
    return _ORDINAL_NUMBERS[number - 1] if 0 < number <= len(_ORDINAL_NUMBERS) else word


def _is_ordinal(word: str) -> bool:
    return word in _ORDINALS or _ORDINAL_FIGURES.fullmatch(word) is not None


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


def target_mentions(tokens: Sequence[Token], mentions: list[Span]) -> tuple[list[Span], list[Span]]:
    """Return the targets and the anchors: a mention inside a position phrase is an anchor if a noun stands outside.

    Without any mention the head noun is the target. Lists are empty where there is nothing.
    """
    led = led_ranges(tokens)
    inside = {index for start, end in led for index in range(start, end)}
    inside |= {start for start, end in mentions if _is_owner(tokens, end)}
    first = next((number for number, (start, _) in enumerate(mentions) if start not in inside), None)
    if first is not None:
        targets, anchors = split_targets(tokens, mentions[first:])
        return targets, sorted(mentions[:first] + anchors)
    head = _head_outside(tokens, led)
    if head is None and mentions:
        return split_targets(tokens, mentions)
    head = head_noun(tokens) if head is None else head
    return ([] if head is None else [(head, head + 1)]), mentions


def led_ranges(tokens: Sequence[Token]) -> list[Span]:
    """Return what prepositions and relations lead to, whether it tells a place or not."""
    ranges: list[Span] = []
    index = 0
    while index < len(tokens):
        if _opens_phrase(tokens, index) or tokens[index].word in _OTHER_PREPOSITIONS:
            end = max(_phrase_end(tokens, index, set()), index + 1)
            ranges.append((index, end))
            index = end
        else:
            index += 1
    return ranges


def _is_owner(tokens: Sequence[Token], end: int) -> bool:
    """Whether the noun before `end` owns the next one: "the bridge's ship"."""
    return end < len(tokens) and tokens[end].word == "s" and tokens[end].start == tokens[end - 1].end + 1


def _head_outside(tokens: Sequence[Token], ranges: Sequence[Span]) -> int | None:
    """Return the index of the head noun among the words outside ranges, each of which separates like a comma."""
    kept: list[int] = []
    words: list[Token] = []
    start = 0
    for first, last in [*ranges, (len(tokens), len(tokens))]:
        kept += [*range(start, first), first]
        words += [*tokens[start:first], Token(",", 0, 0)]
        start = last
    head = head_noun(words)
    return None if head is None else kept[head]


def head_noun(tokens: Sequence[Token]) -> int | None:
    """Return the index of the head of the first noun phrase outside a prepositional phrase; None without one."""
    head: int | None = None
    in_phrase = False
    for index, token in enumerate(tokens):
        word = token.word
        leads = word in _PREPOSITIONS or word in _OTHER_PREPOSITIONS
        stops = leads or word in ("of", "to") or _is_break(token) or word in _PARTICIPLES
        if stops or (word in _RELATIONS and head is not None and _followed_by(tokens, index, ("to", "of"))):
            if head is not None and not (word == "of" and tokens[head].word in _GROUPS):
                return head
            head = None
            in_phrase = leads or (in_phrase and word in ("of", "to"))
        elif word in _DETERMINERS:
            if head is not None:
                return head
            before = tokens[index - 1].word
            in_phrase = in_phrase and (before in _PREPOSITIONS | _OTHER_PREPOSITIONS or before in ("of", "to"))
        elif index < 2 and head is None and word in _REQUESTS and index + 1 < len(tokens):
            continue
        elif not in_phrase and not _is_modifier(word, has_head=head is not None):
            head = index
    return head


def _is_modifier(word: str, has_head: bool) -> bool:
    """Whether the word cannot be the head noun; participles and adverbs only after a noun."""
    if word in _NEVER_HEADS or word == "nearby":
        return True
    return _is_ordinal(word) or (has_head and word.endswith(("ing", "ed", "ly", "est")))


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
        elif _is_ordinal(tokens[index].word) and tokens[max(index - 1, 0)].word not in _FRACTIONS:
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
    if word == "nearby":
        return index > 0 and index + 1 < len(tokens) and tokens[index + 1].word in _DETERMINERS
    if word == "to":
        return index + 1 < len(tokens) and tokens[index + 1].word in _DETERMINERS | _SIDES | _SIDE_COMPANIONS
    if word in _LOCATING_VERBS:
        return _locates(tokens, index)
    if index == 0 and word in ("nearest", "closest"):
        return _followed_by(tokens, index, ("to", *_DETERMINERS))
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
        if token.word in _DETERMINERS and index > start + 1:
            before = tokens[index - 1].word
            joins = _PREPOSITIONS | _CONJUNCTIONS | _DETERMINERS | _RELATIONS | {"of", "to"}
            if before not in joins or before in _SIDES:
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
