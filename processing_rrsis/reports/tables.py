"""Result tables, once for the terminal (rich) and once as Markdown (model card, README)."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..metrics.evaluation_result import EvaluationResult
from ..terminal import new_table

NOT_MEASURED = "not measured"
SCORES: tuple[str, ...] = ("mIoU", "oIoU", "Pr@0.5", "Pr@0.6", "Pr@0.7", "Pr@0.8", "Pr@0.9")
TEXT_NAMES: dict[str, str] = {
    "expression": "expression",
    "shuffled": "shuffled",
    "category": "category only",
    "blank": "blank",
}
"""What the texts of an evaluation are called in a table; the keys are `processing_rrsis.metrics.CONTROLS`."""

Results = Mapping[str, EvaluationResult | Mapping[str, Any]]


@dataclass(frozen=True)
class ResultTable:
    """A titled table of finished cells, the first column being the row's name.

    Args:
        title: What the numbers are: model, split, size.
        columns: Headings.
        rows: Cells, as many per row as there are headings.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_rich(self) -> Table:
        """The table for a `rich` console; in 80 columns headings wrap, numbers are never cut."""
        table = new_table(self.columns[:1], self.columns[1:], title=self.title)
        for number, column in enumerate(table.columns[1:], start=1):
            column.no_wrap, column.min_width = False, max((len(row[number]) for row in self.rows), default=0)
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table

    def fitted(self, width: int) -> list[ResultTable]:
        """The table in parts that fit a width, each with the rows' names; one where all fits.

        Args:
            width: Of the console, in characters.
        """
        needed = [max(len(text) for text in column) for column in zip(*self.rows, strict=True)]
        headings = [max((len(word) for word in heading.split()), default=0) for heading in self.columns]
        widths = [max(pair) + 1 for pair in zip(needed, headings, strict=True)]
        names = min(widths[0], width // 3)
        parts: list[list[int]] = [[]]
        for number in range(1, len(self.columns)):
            if parts[-1] and names + sum(widths[other] for other in [*parts[-1], number]) > width:
                parts.append([])
            parts[-1].append(number)
        return [
            ResultTable(
                title=self.title if part is parts[0] else f"{self.title}, continued",
                columns=(self.columns[0], *(self.columns[number] for number in part)),
                rows=tuple((row[0], *(row[number] for number in part)) for row in self.rows),
            )
            for part in parts
        ]

    def to_markdown(self) -> str:
        """The table as Markdown, without its title."""
        lines = [
            self.columns,
            tuple("---" if number == 0 else "---:" for number in range(len(self.columns))),
            *self.rows,
        ]
        shown = ([html.escape(cell, quote=False).replace("|", "\\|") for cell in line] for line in lines)
        return "\n".join(f"| {' | '.join(cells)} |" for cells in shown)


def score_text(value: float | None, digits: int = 1) -> str:
    """A score as text: "not measured" for `None`, "undefined" for NaN.

    Args:
        value: Score in percent.
        digits: Digits after the point.

    Returns:
        The cell of a table.
    """
    if value is None:
        return NOT_MEASURED
    return "undefined" if math.isnan(value) else f"{value:.{digits}f}"


def overall_table(results: Results, *, title: str, ceilings: Mapping[str, float] | None = None) -> ResultTable:
    """One row per text of the evaluation, one column per score.

    Args:
        results: Result of `evaluate_with_controls` (or its results' `to_dict()`), by control; `"expression"` should be
            the first.
        title: Heading.
        ceilings: mIoU in percent of perfect-mask readers, by what they understand; each becomes a row.

    Returns:
        The table.

    Raises:
        ValueError: If there are no results.
    """
    scores = {name: result_dict(result)["overall"] for name, result in _checked(results).items()}
    rows = [
        (TEXT_NAMES.get(name, name), *(_cell(overall, score) for score in SCORES)) for name, overall in scores.items()
    ]
    for reader, ceiling in (ceilings or {}).items():
        rows.append((f"ceiling: {reader}", score_text(ceiling), *("",) * (len(SCORES) - 1)))
    counts = {score.get("n") for score in scores.values()}
    n = counts.pop() if len(counts) == 1 else None  # several splits have each its own
    return ResultTable(title=f"{title} (n = {n:,})" if n else title, columns=("text", *SCORES), rows=tuple(rows))


def group_table(results: Results, group: str, *, title: str, score: str = "mIoU") -> ResultTable:
    """One row per kind of expression or per category, one column per text of the evaluation.

    Args:
        results: As in `overall_table`.
        group: `"by_kind"` or `"by_category"`.
        title: Heading.
        score: Which score to show.

    Returns:
        The table; without rows if the dataset has no such groups.

    Raises:
        ValueError: If there are no results or the group is unknown.
    """
    if group not in ("by_kind", "by_category"):
        raise ValueError(f"Expected the group 'by_kind' or 'by_category', got {group!r}.")
    groups = {name: result_dict(result)[group] for name, result in _checked(results).items()}
    first = next(iter(groups.values()))
    rows = tuple(
        (name, str(int(scores["n"])), *(_cell(texts.get(name, {}), score) for texts in groups.values()))
        for name, scores in first.items()
    )
    heading = {"by_kind": "kind of expression", "by_category": "category"}[group]
    return ResultTable(
        title=title, columns=(heading, "n", *(TEXT_NAMES.get(name, name) for name in groups)), rows=rows
    )


def print_tables(tables: Sequence[ResultTable], console: Console | None = None) -> None:
    """Shows tables on a console, leaving out empty ones.

    Args:
        tables: What to show.
        console: Where; `None` for the standard output.
    """
    console = console or Console()
    for table in tables:
        if table.rows:
            for part in table.fitted(console.width):
                console.print(part.to_rich())


def result_dict(result: EvaluationResult | Mapping[str, Any]) -> Mapping[str, Any]:
    """A result as plain values, whether it comes from an evaluation or from a JSON file."""
    return result.to_dict() if isinstance(result, EvaluationResult) else result


def _cell(scores: Mapping[str, Any], name: str) -> str:
    """A score that is there but `None` was NaN before it went through JSON."""
    value = scores.get(name)
    return score_text(math.nan if value is None and name in scores else value)


def _checked(results: Results) -> Results:
    if not results:
        raise ValueError("Expected at least one result for a table, got none.")
    return results
