"""What an expression says: ground-object words and spatial-position words (FIANet, section III-B).

Two readings:

- `"wordpiece"` (training, the default): the first category phrase is the object, everything that locates it, later
  category phrases included, is the position. It needs no tagger, so it reads the same on every machine.
- `"word"`: what FIANet's released code does, its quirks included, for the released weights: every category named is
  marked, found by substring ("damaged" names a dam); prepositional phrases come from a tag grammar and are marked at
  the first occurrence of their preposition; word indices are used as token indices.

Travels to the Hub: needs nothing but the standard library and its two neighbour files; NLTK is optional.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .bounds_rrsis import MAX_EXPRESSION_CHARACTERS
from .expression_position_rrsis import Token, position_ranges, target_mentions, tokenize, uncovered_anchors
from .expression_tagging_rrsis import (
    nltk_tagger_available,
    released_objects,
    released_positions,
    split_words,
    tag_words,
)

Span = tuple[int, int]

CATEGORY_SETS: dict[str, tuple[str, ...]] = {
    "rrsisd": (
        "airplane",
        "airport",
        "baseball field",
        "basketball court",
        "bridge",
        "chimney",
        "dam",
        "expressway service area",
        "expressway toll station",
        "golf field",
        "ground track field",
        "harbor",
        "overpass",
        "ship",
        "stadium",
        "storage tank",
        "tennis court",
        "train station",
        "vehicle",
        "windmill",
    ),
    "refsegrs": (
        "bikeway",
        "building",
        "bus",
        "car",
        "impervious surface",
        "low vegetation",
        "road",
        "road marking",
        "sidewalk",
        "trailer",
        "tree",
        "truck",
        "van",
        "vehicle",
    ),
    "synthetic": (
        "vehicle",
        "building",
        "storage tank",
        "tennis court",
        "basketball court",
        "airplane",
        "ship",
        "baseball field",
    ),
}
_SHOWN_CHARACTERS = 120
MAX_CATEGORIES = 2_000
_TURNS = frozenset(("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"))
"""Classes of characters that turn the direction of the text after them, also beyond the expression."""
ALIGNMENTS = ("wordpiece", "word")
TAGGERS = ("auto", "nltk", "builtin")


@dataclass(frozen=True)
class ParsedExpression:
    """The two parts of an expression, as half-open (start, end) character spans of `text`.

    Attributes:
        text: the expression as given.
        alignment: `"wordpiece"` or `"word"`, the reading that produced it.
        ground_object: spans of the object words; empty where none was found.
        spatial_position: spans of the position words; empty where none was found.
        object_words: `"word"` alone: (word index, length) of every mark the released code makes for the object.
        position_words: `"word"` alone: the same for the position.
    """

    text: str
    alignment: str
    ground_object: list[Span]
    spatial_position: list[Span]
    object_words: tuple[Span, ...] = ()
    position_words: tuple[Span, ...] = ()

    def words_of(self, part: str) -> list[str]:
        """Return the marked text pieces of `"ground_object"` or `"spatial_position"`."""
        return [self.text[start:end] for start, end in getattr(self, part)]


def check_text(text: str, source: str = "text") -> None:
    """Refuse characters that no expression has and that a terminal, a log or a browser may act on.

    Args:
        text: an expression.
        source: what it is called in the message.

    Raises:
        ValueError: half a surrogate pair, control characters other than white space, such as turn the direction, or a
            text of any length.
    """
    if len(text) > MAX_EXPRESSION_CHARACTERS:
        raise ValueError(
            f"{source}: expected at most {MAX_EXPRESSION_CHARACTERS:,} characters, got {len(text):,}: "
            f"{shortened(text)}; say it in a sentence"
        )
    for character in text:
        is_control = unicodedata.category(character) in ("Cc", "Cs") and not character.isspace()
        if is_control or unicodedata.bidirectional(character) in _TURNS:
            raise ValueError(
                f"{source}: expected words such as 'the ship on the left', got {shortened(text)} with the control "
                f"character {character!r}; remove it"
            )


def shortened(text: str) -> str:
    """Return an expression in quotes for a message: cut, and with what can't be printed as escapes."""
    return repr(text) if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]!r}…"


def resolve_categories(categories: str | Iterable[str]) -> tuple[str, ...]:
    """Return the category names for a set name or a list of names.

    Args:
        categories: `"rrsisd"`, `"refsegrs"`, `"synthetic"` or names such as `["storage tank", "Golf-field"]`.

    Returns:
        Lower-case names with single blanks, in the given order, without repetition.

    Raises:
        ValueError: unknown set name, or an empty name.
        TypeError: something that is neither a string nor a list of strings.
    """
    if isinstance(categories, str):
        if categories not in CATEGORY_SETS:
            raise ValueError(
                f"categories: expected one of {sorted(CATEGORY_SETS)} or a list of names, got {categories!r}; "
                f"for a single category of your own write [{categories!r}]"
            )
        return CATEGORY_SETS[categories]
    if not isinstance(categories, Iterable):
        raise TypeError(f"categories: expected a set name or a list of names, got {type(categories).__name__}")
    names: list[str] = []
    for name in categories:
        if not isinstance(name, str):
            raise TypeError(f"categories: expected names as strings, got {type(name).__name__} ({name!r})")
        words = re.findall(r"[^\W_]+", name.lower())
        if not words:
            raise ValueError(f"categories: expected names with at least one letter, got {name!r}; remove it")
        names.append(" ".join(words))
        if len(names) > MAX_CATEGORIES:
            raise ValueError(f"categories: expected at most {MAX_CATEGORIES:,} names, got more")
    return tuple(dict.fromkeys(names))


class ExpressionParser:
    """Decouple an expression into ground object and spatial position.

    Args:
        categories: `"rrsisd"`, `"refsegrs"`, `"synthetic"` or a list of names.
        alignment: `"wordpiece"` (right) or `"word"` (as released).
        tagger: for `"word"` alone: `"nltk"`, `"builtin"`, or `"auto"`: NLTK where its data is installed.

    Example:
        >>> from processing_rrsis import ExpressionParser

        >>> ExpressionParser("rrsisd").parse("The ship on the lower left").words_of("spatial_position")
        ['on the lower left']
    """

    def __init__(
        self, categories: str | Iterable[str] = "rrsisd", alignment: str = "wordpiece", tagger: str = "auto"
    ) -> None:
        if alignment not in ALIGNMENTS:
            raise ValueError(f"alignment: expected one of {list(ALIGNMENTS)}, got {alignment!r}")
        if tagger not in TAGGERS:
            raise ValueError(f"tagger: expected one of {list(TAGGERS)}, got {tagger!r}")
        self.categories = resolve_categories(categories)
        self.alignment = alignment
        self.tagger = tagger
        self._phrases = _phrase_index(self.categories)

    def parse(self, text: str) -> ParsedExpression:
        """Read one expression, in time linear in its length.

        Args:
            text: the expression; may be blank, then both parts are empty.

        Returns:
            The object's and the position's character spans.

        Raises:
            TypeError: `text` is no string.
        """
        if not isinstance(text, str):
            raise TypeError(f"text: expected a string, got {type(text).__name__}; pass expressions one by one")
        return self._parse_released(text) if self.alignment == "word" else self._parse(text)

    def _parse(self, text: str) -> ParsedExpression:
        """Read for the `"wordpiece"` alignment: (1) category phrases, (2) the target, (3) the position."""
        tokens = tokenize(text)
        mentions = self._find_mentions(text, tokens)
        objects, anchors = target_mentions(tokens, mentions)
        position = position_ranges(tokens, objects)
        position += uncovered_anchors(anchors, position, tokens)
        return ParsedExpression(
            text=text,
            alignment=self.alignment,
            ground_object=_to_characters(tokens, objects),
            spatial_position=_to_characters(tokens, sorted(position)),
        )

    def _find_mentions(self, text: str, tokens: Sequence[Token]) -> list[Span]:
        """Find category phrases as token ranges: left to right, longest first, never overlapping."""
        mentions: list[Span] = []
        index = 0
        while index < len(tokens):
            length = self._match_length(text, tokens, index)
            if length:
                mentions.append((index, index + length))
            index += max(length, 1)
        return mentions

    def _match_length(self, text: str, tokens: Sequence[Token], index: int) -> int:
        """Return how many tokens the longest category phrase at `index` covers; 0 for none."""
        for phrase in self._phrases.get(tokens[index].word, ()):
            if index + len(phrase) > len(tokens):
                continue
            window = tokens[index : index + len(phrase)]
            if not all(token.word in forms for token, forms in zip(window, phrase, strict=True)):
                continue
            gaps = (text[left.end : right.start] for left, right in pairwise(window))
            if all(gap in ("-", "_") or gap.isspace() for gap in gaps):
                return len(phrase)
        return 0

    def _parse_released(self, text: str) -> ParsedExpression:
        """Read as the released code, by the words of `expression_tagging_rrsis.py`."""
        spans = split_words(text)
        words = [text[start:end] for start, end in spans]
        object_words = released_objects(text, words, self.categories)
        use_nltk = self.tagger == "nltk" or (self.tagger == "auto" and nltk_tagger_available())
        position_words = released_positions(words, tag_words(words, use_nltk=use_nltk))
        return ParsedExpression(
            text=text,
            alignment=self.alignment,
            ground_object=_words_to_characters(spans, object_words),
            spatial_position=_words_to_characters(spans, position_words),
            object_words=tuple(object_words),
            position_words=tuple(position_words),
        )


def expression_masks(
    parsed: ParsedExpression, attention_mask: Sequence[int], offsets: Sequence[Span] | None = None
) -> tuple[list[int], list[int]]:
    """Turn a parse into the two token masks of one tokenised expression.

    `"wordpiece"` marks exactly the pieces that overlap a span; a part without any marked piece (none found, or cut by
    truncation) becomes the attention mask. `"word"` marks word index + 1 whatever the pieces are, clips marks beyond
    the end, leaves an empty object mask all zero and makes an empty position the attention mask.

    Args:
        parsed: what `ExpressionParser.parse` returned.
        attention_mask: 1 for tokens ([CLS] and [SEP] included), 0 for padding; length L.
        offsets: the (start, end) characters of each of the L tokens, (0, 0) for special ones; `"wordpiece"` needs it.

    Returns:
        (ground-object mask, spatial-position mask), lists of L zeros and ones.
    """
    full = [int(value) for value in attention_mask]
    if parsed.alignment == "word":
        objects = _mark_words(len(full), parsed.object_words)
        positions = _mark_words(len(full), parsed.position_words) if parsed.position_words else full
        return objects, list(positions)
    if offsets is None:
        raise ValueError('alignment "wordpiece": expected the character offsets of the tokens, got None')
    objects = _mark_pieces(offsets, parsed.ground_object, full)
    positions = _mark_pieces(offsets, parsed.spatial_position, full)
    return objects, positions


def _mark_words(length: int, marks: Iterable[Span]) -> list[int]:
    mask = [0] * length
    for word_index, count in marks:
        for token_index in range(word_index + 1, min(word_index + 1 + count, length)):
            mask[token_index] = 1
    return mask


def _mark_pieces(offsets: Sequence[Span], spans: Sequence[Span], full: list[int]) -> list[int]:
    """Mark tokens overlapping a span; both lists are sorted, so one pass is enough."""
    mask = [0] * len(full)
    span_index = 0
    for index, (start, end) in enumerate(offsets):
        if start == end or not full[index]:
            continue
        while span_index < len(spans) and spans[span_index][1] <= start:
            span_index += 1
        if span_index < len(spans) and spans[span_index][0] < end:
            mask[index] = 1
    return mask if any(mask) else list(full)


def _forms(word: str) -> frozenset[str]:
    """Return the word with its regular plurals and, for a name given in the plural, the singular."""
    forms = {word, f"{word}s", f"{word}es"}
    if word.endswith("y"):
        forms.add(f"{word[:-1]}ies")
    if word.endswith("s") and not word.endswith("ss") and len(word) > 3:
        forms.add(word[:-1])
    return frozenset(forms)


def _phrase_index(categories: Iterable[str]) -> dict[str, list[tuple[frozenset[str], ...]]]:
    """Index the phrases by every form of their first word, longest first; "storagetank" counts as "storage tank"."""
    index: dict[str, list[tuple[frozenset[str], ...]]] = {}
    for name in categories:
        words = name.split()
        variants = [tuple(_forms(word) for word in words)]
        if len(words) > 1:
            variants.append((_forms("".join(words)),))
        for phrase in variants:
            for form in phrase[0]:
                index.setdefault(form, []).append(phrase)
    for phrases in index.values():
        phrases.sort(key=len, reverse=True)
    return index


def _to_characters(tokens: Sequence[Token], ranges: Iterable[Span]) -> list[Span]:
    return [(tokens[start].start, tokens[end - 1].end) for start, end in ranges]


def _words_to_characters(spans: Sequence[Span], marks: Iterable[Span]) -> list[Span]:
    """Return the sorted, merged character spans of marked words."""
    marked = sorted({i for first, count in marks for i in range(first, first + count) if i < len(spans)})
    merged: list[list[int]] = []
    for position, index in enumerate(marked):
        if position and marked[position - 1] == index - 1:
            merged[-1][1] = spans[index][1]
        else:
            merged.append([spans[index][0], spans[index][1]])
    return [(start, end) for start, end in merged]
