"""What an ablation found, as tables for the terminal, Markdown and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from ..metrics import CONTROLS
from ..reports.published import published_tables
from ..reports.tables import NOT_MEASURED, TEXT_NAMES, ResultTable, print_tables, score_text
from ..result_files import write_result
from .scores import BENCHMARK_NAMES, BUDGET, PaperRow, PresetRuns, paper_rows
from .spread import PairedDifference, Spread

JSON_FILE, MARKDOWN_FILE = "ablate.json", "ablate.md"
SELECTION = (
    "Every run's weights were selected on the validation split alone; the test splits were read once, at its end."
)
NUMBERS = (
    "Percent, mean ± sample standard deviation (n − 1) over the seeds; a single run has no ±. Differences are taken "
    "by seed, over the seeds that both have; in brackets the 95 % interval of their mean, Student's t: it covers the "
    "seeds, not the choice of the samples."
)
BUDGET_NAMES = {
    "num_updates": "updates",
    "batch_size": "samples per update",
    "train_samples": "training samples",
    "image_size_px": "image side in px",
    "train_sha256": "training data",
}


@dataclass(frozen=True)
class AblationReport:
    """The finished runs of all presets; the first is what the others are compared with.

    Args:
        presets: At least one.
    """

    presets: tuple[PresetRuns, ...]

    @property
    def reference(self) -> PresetRuns:
        """The preset that differences are taken to."""
        return self.presets[0]

    @property
    def benchmark(self) -> str:
        """The benchmark that the runs were on, in words."""
        names = {budget["dataset"] for preset in self.presets for budget in preset.budgets()}
        return ", ".join(sorted(BENCHMARK_NAMES.get(str(name), str(name)) for name in names)) or NOT_MEASURED

    def warnings(self) -> list[str]:
        """What makes the comparison unfair or incomplete, a sentence each."""
        found = []
        for name in (*BUDGET, "train_sha256"):
            by_preset = {
                preset.name: sorted({str(budget[name]) for budget in preset.budgets()})
                for preset in self.presets
                if preset.runs
            }
            if len({value for values in by_preset.values() for value in values}) > 1:
                listed = "; ".join(f"{preset} {', '.join(values)}" for preset, values in by_preset.items())
                found.append(f"Not one budget: {BUDGET_NAMES.get(name, name)} differ: {listed}.")
        for preset in self.presets:
            missing = [str(seed) for seed in preset.wanted if seed not in preset.runs]
            if missing:
                found.append(f"Not finished: {preset.name}, seed{'s' * (len(missing) > 1)} {', '.join(missing)}.")
        plotted = [preset.name for preset in self.presets if not paper_rows(preset.name)]
        if plotted:
            found.append(f"Without a number in the paper, which only plots it: {', '.join(plotted)}.")
        return found

    def tables(self) -> list[ResultTable]:
        """All tables: the test splits, ours beside the papers', and each preset by kind of expression."""
        splits = {split: None for preset in self.presets for run in preset.runs.values() for split in run["results"]}
        found = [self.split_table("test")]
        if "test_compositional" in splits:
            found.append(self.split_table("test_compositional"))
        found += self.paper_tables()
        found += [kind_table(preset) for preset in self.presets if preset.kinds()]
        return found

    def notes(self) -> list[str]:
        """How the published numbers were chosen, a sentence for each table that the papers' rows are compared in."""
        shown = {row.setting for preset in self.presets for row in paper_rows(preset.name)}
        return [
            f"{table.name}: {table.selection}."
            for table in published_tables()
            if not table.by_category and (table.source.split(",")[0], table.benchmark, table.split) in shown
        ]

    def split_table(self, split: str) -> ResultTable:
        """One row per preset: scores on a split, and the difference to the first preset."""
        rows = []
        for preset in self.presets:
            values = preset.values(split)
            if preset is self.reference:
                change = "–"
            else:
                change = difference_text(PairedDifference.of(values, self.reference.values(split)))
            scores = [values, preset.values(split, "oIoU")]
            if split == "test":
                scores.append(preset.values(split, text="shuffled"))
            cells = [spread_text(Spread.of(one.values())) for one in scores]
            rows.append((preset.name, seeds_text(preset), *cells, change))
        shuffled = ("mIoU, shuffled",) if split == "test" else ()
        columns = ("preset", "seeds", "mIoU", "oIoU", *shuffled, "mIoU − first")
        title = f"{self.benchmark}, {split}; the first is {self.reference.name}"
        return ResultTable(title=title, columns=columns, rows=tuple(rows))

    def paper_tables(self) -> list[ResultTable]:
        """For each paper and split a table like the paper's: our mIoU, theirs, and both differences to the first."""
        published = {preset.name: paper_rows(preset.name) for preset in self.presets}
        settings = {row.setting: row for rows in published.values() for row in rows}
        found = []
        for setting, example in settings.items():
            rows = [
                self._paper_row(preset, row, published[self.reference.name])
                for preset in self.presets
                for row in published[preset.name]
                if row.setting == setting
            ]
            found.append(
                ResultTable(
                    title=f"mIoU: ours on {self.benchmark} test, {example.paper}'s paper on {example.where}",
                    columns=("preset", "ours", "ours − first", "paper", "paper − first", "in the paper"),
                    rows=tuple(rows),
                )
            )
        return found

    def _paper_row(self, preset: PresetRuns, row: PaperRow, references: Sequence[PaperRow]) -> tuple[str, ...]:
        """Cells of one published number; `references` are those of the first preset."""
        values = preset.values("test")
        change = PairedDifference.of(values, self.reference.values("test"))
        same = [other for other in references if other.setting == row.setting]
        ours = NOT_MEASURED if change is None else f"{change.mean:+.1f}"
        theirs = f"{row.scores['mIoU'] - same[0].scores['mIoU']:+.2f}" if same else "–"
        if preset is self.reference:
            ours = theirs = "–"
        spread = spread_text(Spread.of(values.values()))
        return preset.name, spread, ours, f"{row.scores['mIoU']:.2f}", theirs, row.table or "–"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON."""
        return {
            "benchmark": self.benchmark,
            "selection": SELECTION,
            "numbers": NUMBERS,
            "reference": self.reference.name,
            "warnings": self.warnings(),
            "presets": [preset.to_dict(self.reference) for preset in self.presets],
        }

    def to_markdown(self) -> str:
        """A page with all tables."""
        parts = [f"# Ablation on {self.benchmark}", SELECTION, NUMBERS]
        parts += [f"**Warning.** {warning}" for warning in self.warnings()]
        parts += [f"## {table.title}\n\n{table.to_markdown()}" for table in self.tables()]
        parts += ["## How the papers chose their weights", "\n".join(f"- {note}" for note in self.notes())]
        return "\n\n".join(parts) + "\n"


def kind_table(preset: PresetRuns) -> ResultTable:
    """Scores (mIoU) on the test split by kind of expression, a column for each text that the model was given."""
    rows = [
        (
            kind,
            str(count),
            *(spread_text(Spread.of(preset.values("test", text=text, kind=kind).values())) for text in CONTROLS),
        )
        for kind, count in preset.kinds().items()
    ]
    title = f"{preset.name}: mIoU on test by kind of expression"
    return ResultTable(title=title, columns=("kind", "n", *(TEXT_NAMES[text] for text in CONTROLS)), rows=tuple(rows))


def spread_text(spread: Spread | None) -> str:
    """`"61.5 ± 1.2"`, `"61.5"` for a single run, or "not measured"."""
    if spread is None:
        return NOT_MEASURED
    text = score_text(spread.mean)
    return text if spread.deviation is None or math.isnan(spread.mean) else f"{text} ± {spread.deviation:.1f}"


def difference_text(difference: PairedDifference | None) -> str:
    """`"+2.4 [+0.1, +4.7]"`, without the interval for a single pair, or "not measured"."""
    if difference is None:
        return NOT_MEASURED
    if difference.interval is None:
        return f"{difference.mean:+.1f} (one pair)"
    low, high = difference.interval
    return f"{difference.mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def seeds_text(preset: PresetRuns) -> str:
    """`"3"`, or `"2 of 3"` where some are missing."""
    done, wanted = len(preset.runs), len(preset.wanted)
    return str(done) if done == wanted else f"{done} of {wanted}"


def write_report(presets: Sequence[PresetRuns], output_dir: Path, console: Console) -> AblationReport:
    """Write `ablate.json` and `ablate.md`, which follow from the runs and are replaced, then print the tables.

    Args:
        presets: The finished runs, the preset to compare with first.
        output_dir: Existing folder for the two files.
        console: Where the tables are shown.
    """
    report = AblationReport(tuple(presets))
    text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False)
    write_result(output_dir / JSON_FILE, f"{text}\n".encode())
    write_result(output_dir / MARKDOWN_FILE, report.to_markdown().encode())
    first, *others = report.tables()
    print_tables([first], console)
    console.print(f"{SELECTION} {NUMBERS}")
    print_tables(others, console)
    for note in report.notes():
        console.print(f"[dim]{escape(note)}[/]")
    for warning in report.warnings():
        console.print(f"[bold yellow]warning:[/] {escape(warning)}")
    console.print(escape(f"Written: {output_dir / MARKDOWN_FILE}, {output_dir / JSON_FILE}"))
    return report
