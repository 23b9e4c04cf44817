"""The papers' result tables: read from `hub_cards/results/published.json`, as printed, with split and source."""

from __future__ import annotations

import importlib.resources
import json
from dataclasses import dataclass, field
from functools import cache
from typing import Any

SPLIT_NAMES = {"validation": "val"}


@dataclass(frozen=True)
class PublishedRow:
    """One method of a published table.

    Args:
        method: Name of the method.
        scores: `mIoU`, `oIoU`, `Pr@0.5` … in percent, as far as printed.
        categories: mIoU per category in percent; empty in a table of overall scores.
        average: Printed average over the categories.
    """

    method: str
    scores: dict[str, float] = field(default_factory=dict)
    categories: dict[str, float] = field(default_factory=dict)
    average: float | None = None


@dataclass(frozen=True)
class PublishedTable:
    """One table of a paper.

    Args:
        source: The paper.
        table: Number of the table; `None` where the numbers were repeated without it.
        benchmark: `"refsegrs"` or `"rrsisd"`.
        split: The split that was scored, in our names.
        selection: How the scored checkpoint was chosen.
        notes: What else is known of the numbers, misprints included.
        rows: The methods, in the paper's order.
    """

    source: str
    table: str | None
    benchmark: str
    split: str
    selection: str
    notes: tuple[str, ...]
    rows: tuple[PublishedRow, ...]

    @property
    def name(self) -> str:
        """Paper, table and split in short, e.g. `"FIANet, table I, test"`."""
        paper = self.source.split(",")[0]
        table = f"{paper}, table {self.table}" if self.table else paper
        return f"{table}, {SPLIT_NAMES.get(self.split, self.split)}"

    @property
    def by_category(self) -> bool:
        """Whether it holds scores per category."""
        return any(row.categories for row in self.rows)


@cache
def published_tables() -> tuple[PublishedTable, ...]:
    """All tables: I–IV of FIANet, 1–2 of DANet, and LAVT's test scores on RRSIS-D from RMSIN's paper."""
    file = importlib.resources.files("hub_cards") / "results" / "published.json"
    return tuple(_read_table(table) for table in json.loads(file.read_text(encoding="utf-8"))["tables"])


def published_for(benchmark: str) -> tuple[PublishedTable, ...]:
    """The tables on one benchmark; none for others than `"refsegrs"` and `"rrsisd"`."""
    return tuple(table for table in published_tables() if table.benchmark == benchmark)


def _read_table(table: dict[str, Any]) -> PublishedTable:
    rows = tuple(
        PublishedRow(
            method=row["method"],
            scores={name: value for name, value in row.items() if name in ("mIoU", "oIoU") or name.startswith("Pr@")},
            categories=row.get("categories", {}),
            average=row.get("average"),
        )
        for row in table["rows"]
    )
    fields = {name: table[name] for name in ("source", "table", "benchmark", "split", "selection")}
    return PublishedTable(**fields, notes=tuple(table["notes"]), rows=rows)
