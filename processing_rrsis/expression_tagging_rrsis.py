"""The `"word"` alignment's reading: words, part-of-speech tags with and without NLTK, chunks, marks.

The released code of FIANet tokenises with NLTK and tags with its averaged perceptron. This file splits words as the
Penn Treebank does (the same pieces on one-sentence expressions) and tags with NLTK where its data is installed. Where
it is not, a lexicon with a few context rules takes over: it is deterministic and follows the perceptron on the
vocabulary of the two benchmarks, its mistakes included ("slender" is a noun for it).

Travels to the Hub: needs nothing but the standard library; NLTK is optional.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PIECES = re.compile(r"""\.{3}|--|[()\[\]{}<>;@#$%&?!"]|[:,](?!\d)|[^\s()\[\]{}<>;@#$%&?!":,.\-]+|[:,.\-]""")
_CONTRACTIONS = ("n't", "'ll", "'re", "'ve", "'s", "'m", "'d")

_LEXICON_BY_TAG = {
    "DT": "the a an this these those some any no each every another",
    "IN": (
        "on in at of above below than near with by along from inside beside besides around across over under between "
        "among amongst behind within without through toward towards into onto upon beneath underneath against outside "
        "via for like about after before alongside amid amidst atop as if while because since during past despite "
        "throughout beyond"
    ),
    "TO": "to",
    "CC": "and or but nor &",
    "PRP": "it they he she them i we you",
    "PRP$": "its their his her my our your",
    "WDT": "which",
    "WP": "who what",
    "WRB": "where when how why",
    "EX": "there",
    "MD": "can may will could should would might must",
    "VB": "be",
    "VBZ": (
        "is has runs spans crosses stretches aligns appears extends lies sits connects exhibits intersects shows "
        "stands"
    ),
    "VBP": "are have run lie",
    "VBD": "was were had did parked",
    "VBN": (
        "located positioned situated surrounded seen found placed docked marked attached aligned featured lined "
        "painted enclosed moored anchored damaged paved equipped characterized filled covered rotated cut rounded"
    ),
    "VBG": "driving lying going running making moving facing marking extending traversing abutting standing flying",
    "RB": (
        "far very directly just slightly partially closely vertically horizontally predominantly relatively not also "
        "much only away together nearly"
    ),
    "RP": "off out up down",
    "CD": "one two three four five six seven eight nine ten one-third",
    "JJR": "lower smaller larger bigger closer longer taller wider higher shorter brighter darker",
    "JJS": "smallest largest biggest closest nearest farthest longest tallest widest highest brightest furthest most",
    "JJ": (
        "upper top right gray grey large small tiny huge green orange black blue red oval long white yellow "
        "rectangular little purple brown dark light big low high square circular impervious similar next adjacent "
        "parallel visible central distinct distinctive light-duty unpaved dense wide narrow short tall round bright "
        "empty other same second third last first opposite straight curved left-most right-most top-most bottom-most "
        "leftmost rightmost northern southern eastern western pink silver clear residential industrial commercial "
        "present fourth"
    ),
    "NN": (
        "middle left bottom slender cyan center corner side edge part area image picture heavy-duty front size beige "
        "top-left top-right bottom-left bottom-right middle-right middle-left mid-left topmost"
    ),
    "NNS": "crossroads surroundings",
    "POS": "'s",
}
_LEXICON = {word: tag for tag, words in _LEXICON_BY_TAG.items() for word in words.split()}
_SUFFIXES = (
    ("ing", "VBG"),
    ("ed", "VBN"),
    ("ly", "RB"),
    ("est", "JJS"),
    ("ous", "JJ"),
    ("ful", "JJ"),
    ("ish", "JJ"),
    ("ive", "JJ"),
    ("ible", "JJ"),
    ("able", "JJ"),
    ("ical", "JJ"),
    ("ial", "JJ"),
    ("less", "JJ"),
    ("lar", "JJ"),
    ("-most", "JJ"),
    ("-duty", "JJ"),
)
_SINGULAR_ENDINGS = ("ss", "us", "is")
_NOUNS_IN_FORM_OF_VERBS = _words("building parking crossing landing clearing mooring swimming housing wing ring")
_POSITION_NOUNS = _words("corner side edge part section area half end position portion region quadrant")


def split_words(text: str) -> list[tuple[int, int]]:
    """Split as the Penn Treebank does: punctuation apart, hyphenated words whole, "'s" and "n't" apart.

    Args:
        text: the expression.

    Returns:
        The (start, end) character span of every word, in order.
    """
    spans: list[tuple[int, int]] = []
    for chunk in re.finditer(r"\S+", text):
        spans.extend(_split_chunk(text, chunk.start(), chunk.end()))
    return spans


def _split_chunk(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Split one blank-free chunk; "." and "-" inside a word stay, a sentence-final "." does not."""
    spans: list[tuple[int, int]] = []
    word_start = start
    for piece in _PIECES.finditer(text, start, end):
        token = piece.group()
        is_word_like = token[0] not in '()[]{}<>;@#$%&?!":,' and token not in ("...", "--")
        if token in (":", ",") and piece.end() < end and text[piece.end()].isdigit():
            is_word_like = True
        if is_word_like:
            continue
        spans.extend(_split_word(text, word_start, piece.start(), ends_sentence=False))
        spans.append(piece.span())
        word_start = piece.end()
    ends_sentence = not text[end:].lstrip()[:1].islower()
    spans.extend(_split_word(text, word_start, end, ends_sentence=ends_sentence))
    return spans


def _split_word(text: str, start: int, end: int, ends_sentence: bool) -> list[tuple[int, int]]:
    """Cut a final full stop and an English contraction off one word."""
    if start >= end:
        return []
    if ends_sentence and end - start > 1 and text[end - 1] == ".":
        return [*_split_word(text, start, end - 1, ends_sentence=False), (end - 1, end)]
    lowered = text[start:end].lower()
    for suffix in _CONTRACTIONS:
        if lowered.endswith(suffix) and len(lowered) > len(suffix):
            cut = end - len(suffix)
            return [(start, cut), (cut, end)]
    return [(start, end)]


@lru_cache(maxsize=1)
def _nltk_tagger():  # noqa: ANN202 - an NLTK class or None
    """Return NLTK's perceptron tagger, or None where NLTK or its data is not installed."""
    try:
        from nltk.tag.perceptron import PerceptronTagger

        return PerceptronTagger()
    except (ImportError, LookupError, OSError, ValueError):
        return None


def nltk_tagger_available() -> bool:
    """Whether NLTK and the data of its averaged perceptron tagger are installed here."""
    return _nltk_tagger() is not None


def tag_words(words: list[str], use_nltk: bool) -> list[str]:
    """Give every word its Penn Treebank tag.

    Args:
        words: the words of one expression, in order.
        use_nltk: with NLTK's perceptron (its data has to be installed), else with the built-in lexicon.

    Returns:
        One tag per word.

    Raises:
        LookupError: NLTK was asked for and its tagger data is missing.
    """
    if not use_nltk:
        return _tag_with_lexicon(words)
    tagger = _nltk_tagger()
    if tagger is None:
        raise LookupError(
            "expected NLTK with the data package averaged_perceptron_tagger_eng, found neither or only one of them; "
            'install it with nltk.download("averaged_perceptron_tagger_eng") or use tagger="builtin"'
        )
    return [tag for _, tag in tagger.tag(words)]


def _tag_with_lexicon(words: list[str]) -> list[str]:
    """Tag by lexicon, suffix and the neighbouring words."""
    tags: list[str] = []
    lowered = [word.lower() for word in words]
    for index, word in enumerate(lowered):
        previous = tags[-1] if tags else ""
        following = lowered[index + 1] if index + 1 < len(lowered) else ""
        tags.append(_tag_in_context(word, previous, following) or _LEXICON.get(word) or _tag_unknown(word))
    return tags


def _tag_in_context(word: str, previous: str, following: str) -> str | None:
    """Tag the ambiguous words of the benchmarks by their neighbours; None where the word alone decides."""
    if word == "that":
        return "DT" if previous in ("", "IN", "CC") else "WDT"
    if word == "all":
        return "PDT" if following in ("the", "these", "those") else "DT"
    if word in ("top", "right") and previous != "IN" and (following in ("", "of", ".", ",", "on", "in", "at")):
        return "JJ" if word == "top" and following != "of" else "NN"
    if word in ("left", "bottom", "middle") and following in _POSITION_NOUNS:
        return "JJ" if previous == "DT" else "VBD" if word == "left" and previous == "NN" else "NN"
    if word in ("gray", "grey") and previous == "JJ":
        return "NN"
    if word in ("parked", "docked") and previous in ("VBZ", "VBP"):
        return "VBN"
    if word == "road" or word in _NOUNS_IN_FORM_OF_VERBS:
        return "NN"
    return None


def _tag_unknown(word: str) -> str:
    """Guess from the form: a number, punctuation, a known ending, a plural, else a noun."""
    if not any(character.isalnum() for character in word):
        return word[0] if word[0] in ".,:()" else "SYM"
    if word[0].isdigit():
        return "CD"
    for suffix, tag in _SUFFIXES:
        if word.endswith(suffix) and len(word) > len(suffix) + 2:
            return tag
    if word.endswith("s") and not word.endswith(_SINGULAR_ENDINGS) and len(word) > 3:
        return "NNS"
    return "NN"


def released_objects(text: str, words: Sequence[str], categories: Iterable[str]) -> list[tuple[int, int]]:
    """Mark every category that is a substring of the text, at the first word containing its first word."""
    marks: list[tuple[int, int]] = []
    for name in categories:
        if name not in text:
            continue
        first_word, length = name.split()[0], len(name.split())
        index = next((i for i, word in enumerate(words) if first_word in word), None)
        if index is not None:
            marks.append((index, length))
    return marks


def released_positions(words: Sequence[str], tags: Sequence[str]) -> list[tuple[int, int]]:
    """Chunk `<IN><DT>?<JJ.*>?<NN>`, then `...<JJ>`, then `<IN><DT>?<JJ.*><VBD>`; drop those containing "of"."""
    used = [False] * len(words)
    chunks: list[tuple[int, int]] = []
    for last_tag in ("NN", "JJ", "VBD"):
        index = 0
        while index < len(words):
            length = 0 if used[index] else _chunk_length(tags, used, index, last_tag)
            if length:
                used[index : index + length] = [True] * length
                chunks.append((index, length))
            index += max(length, 1)
    marks: list[tuple[int, int]] = []
    for start, length in sorted(chunks):
        if "of" not in " ".join(words[start : start + length]):
            marks.append((words.index(words[start]), length))
    return marks


def _chunk_length(tags: Sequence[str], used: Sequence[bool], start: int, last_tag: str) -> int:
    """Return the length of the chunk at `start`, 0 where there is none. The adjective is a must before VBD."""

    def tag_at(index: int) -> str:
        return tags[index] if index < len(tags) and not used[index] else ""

    if tag_at(start) != "IN":
        return 0
    index = start + 1
    if tag_at(index) == "DT":
        index += 1
    if tag_at(index).startswith("JJ") and tag_at(index + 1) == last_tag:
        return index + 2 - start
    return index + 1 - start if last_tag != "VBD" and tag_at(index) == last_tag else 0
