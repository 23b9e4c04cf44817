"""How well expressions are read: target, position, what is left over; for both alignments and both taggers."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..bounds_rrsis import parse_json, read_text
from ..expression_position_rrsis import MEASURES, PLACE_WORDS
from ..expression_rrsis import ExpressionParser, ParsedExpression
from ..expression_tagging_rrsis import nltk_tagger_available
from .tables import ResultTable

ENDINGS = (".tsv", ".csv", ".jsonl", ".txt")
MAX_EXAMPLES = 20
ARTICLES = ("a", "an", "the")  # they tell nothing that could be read
_WORD = re.compile(r"[A-Za-z]+")


@dataclass
class ExpressionReport:
    """Counts over a list of expressions.

    Args:
        expressions: How many there are.
        distinct: How many different ones.
        labelled: How many came with a category.
        target_right: Of these, how many whose object words are the category.
        object_found: With object words.
        one_word_objects: Whose object is one word: the released object branch gives nothing for them.
        position_found: With position words, `"wordpiece"`.
        position_found_word: The same under the released grammar, with the built-in tagger.
        position_found_nltk: The same with NLTK's tagger; `None` where its data is not installed.
        taggers_agree: Expressions whose `"word"` marks are equal under both taggers; `None` as above.
        place_words_unread: Expressions with a word that can tell a place outside object and position.
        wrong_targets: Examples: expression, category, words read as the object.
        unread_words: The most frequent words outside object and position.
        unread_places: Examples of `place_words_unread`.
        without_position: The most frequent expressions in which no position was read.
        taggers_differ: Examples of expressions whose marks differ.
    """

    expressions: int = 0
    distinct: int = 0
    labelled: int = 0
    target_right: int = 0
    object_found: int = 0
    one_word_objects: int = 0
    position_found: int = 0
    position_found_word: int = 0
    position_found_nltk: int | None = None
    taggers_agree: int | None = None
    place_words_unread: int = 0
    wrong_targets: list[tuple[str, str, str]] = field(default_factory=list)
    unread_words: dict[str, int] = field(default_factory=dict)
    unread_places: list[str] = field(default_factory=list)
    without_position: dict[str, int] = field(default_factory=dict)
    taggers_differ: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def read_expressions(path: Path, column: str = "expression") -> tuple[list[str], list[str] | None]:
    """Read expressions and, where there are some, their categories.

    Args:
        path: .tsv, .csv or .jsonl with the column, and `category` or not; .txt with an expression per line.
        column: Name of the expressions' column.

    Returns:
        The expressions, and as many categories or `None`. Blank lines of a .txt are left out.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the ending, the text or the columns are not as expected, or nothing is in it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a file of expressions, found none")
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(f"{path}: expected a file ending in {', '.join(ENDINGS)}, got {path.suffix!r}")
    try:
        text = read_text(path)
        if ending == ".txt":
            rows: list[dict[str, Any]] = [{column: line} for line in text.splitlines() if line.strip()]
        elif ending == ".jsonl":
            lines = enumerate(text.splitlines(), start=1)
            rows = [parse_json(line, source=f"line {number}") for number, line in lines if line.strip()]
        else:
            rows = list(csv.DictReader(text.splitlines(), delimiter="\t" if ending == ".tsv" else ","))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}, expected as {ending[1:]} in UTF-8: it can't be read, {error}") from error
    if not rows:
        raise ValueError(f"{path}: expected at least one expression, found none")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or not isinstance(row.get(column), str):
            names = sorted(map(str, row)) if isinstance(row, dict) else type(row).__name__
            raise ValueError(f"{path}, row {number}: expected a text in the column {column!r}, got {names}")
    categories = [str(row.get("category") or "") for row in rows]
    return [row[column] for row in rows], categories if any(categories) else None


def report_expressions(
    expressions: Sequence[str], categories: str | Sequence[str], labels: Sequence[str] | None = None
) -> ExpressionReport:
    """Parse every expression in every way and count.

    Args:
        expressions: The texts.
        categories: Names that count as objects, as for `ExpressionParser`.
        labels: The category of every expression, `""` where it is not known.

    Returns:
        The counts and examples.
    """
    wordpiece = ExpressionParser(categories)
    word = ExpressionParser(categories, alignment="word", tagger="builtin")
    nltk = ExpressionParser(categories, alignment="word", tagger="nltk") if nltk_tagger_available() else None
    report = ExpressionReport(expressions=len(expressions), distinct=len(set(expressions)))
    if nltk is not None:
        report.position_found_nltk = report.taggers_agree = 0
    unread, without = Counter[str](), Counter[str]()
    for index, text in enumerate(expressions):
        parsed, released = wordpiece.parse(text), word.parse(text)
        report.position_found_word += bool(released.position_words)
        if nltk is not None:
            _compare_taggers(report, released, nltk.parse(text))
        _count_target(report, parsed, labels[index] if labels else "")
        report.position_found += bool(parsed.spatial_position)
        if not parsed.spatial_position:
            without[text] += 1
        left = _unread_words(parsed)
        unread.update(word for word in left if word not in ARTICLES)
        following = [*left[1:], ""]
        if any(word in PLACE_WORDS and after not in MEASURES for word, after in zip(left, following, strict=False)):
            report.place_words_unread += 1
            _keep(report.unread_places, text)
    report.unread_words = dict(unread.most_common(MAX_EXAMPLES))
    report.without_position = dict(without.most_common(MAX_EXAMPLES))
    return report


def _count_target(report: ExpressionReport, parsed: ParsedExpression, label: str) -> None:
    """Object words, and whether the first of them are the labelled category."""
    objects = parsed.words_of("ground_object")
    report.object_found += bool(objects)
    report.one_word_objects += len(" ".join(objects).split()) == 1
    if not label:
        return
    report.labelled += 1
    if objects and _is_form_of(objects[0], label):
        report.target_right += 1
    else:
        _keep(report.wrong_targets, (parsed.text, label, ", ".join(objects)))


def _is_form_of(words: str, category: str) -> bool:
    """Whether the words are the category, in singular or plural, however it is spaced."""
    found, wanted = (_letters(text) for text in (words, category))
    return found in {wanted, f"{wanted}s", f"{wanted}es", f"{wanted[:-1]}ies" if wanted.endswith("y") else wanted}


def _letters(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())


def _compare_taggers(report: ExpressionReport, builtin: ParsedExpression, nltk: ParsedExpression) -> None:
    same = builtin.position_words == nltk.position_words
    report.position_found_nltk = (report.position_found_nltk or 0) + bool(nltk.position_words)
    report.taggers_agree = (report.taggers_agree or 0) + same
    if not same:
        _keep(report.taggers_differ, nltk.text)


def _unread_words(parsed: ParsedExpression) -> list[str]:
    """Lower-cased words outside object and position, in order."""
    spans = [*parsed.ground_object, *parsed.spatial_position]
    return [
        match.group().lower()
        for match in _WORD.finditer(parsed.text)
        if not any(start < match.end() and match.start() < end for start, end in spans)
    ]


def _keep(examples: list[Any], example: Any) -> None:
    """Keep the first few different examples."""
    if len(examples) < MAX_EXAMPLES and example not in examples:
        examples.append(example)


def report_table(report: ExpressionReport, title: str) -> ResultTable:
    """The counts as a table.

    Args:
        report: The counts.
        title: Heading.

    Returns:
        A row per count, with its share.
    """

    def row(name: str, count: int | None, total: int) -> tuple[str, str, str]:
        if count is None:
            return name, "not measured", ""
        return name, f"{count:,}", f"{100 * count / total:.2f} %" if total else "–"

    n = report.expressions
    rows: Iterable[tuple[str, str, str]] = (
        ("expressions", f"{n:,}", f"{report.distinct:,} different"),
        row("target is the labelled category", report.target_right, report.labelled),
        row("object found", report.object_found, n),
        row("object of one word", report.one_word_objects, n),
        row('position found, "wordpiece"', report.position_found, n),
        row('position found, "word", built-in tagger', report.position_found_word, n),
        row('position found, "word", NLTK', report.position_found_nltk, n),
        row('both taggers mark the same, "word"', report.taggers_agree, n),
        row("a word that can tell a place is unread", report.place_words_unread, n),
    )
    return ResultTable(title=title, columns=("", "expressions", "share"), rows=tuple(rows))
