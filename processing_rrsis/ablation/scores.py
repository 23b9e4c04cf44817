"""What the runs of an ablation have scored, and what the papers print: read from folders and tables, not judged."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.facts import FACTS
from ..reports.published import published_tables
from ..reports.tables import SCORES
from ..training.recipes.presets import ABLATIONS
from ..training.recipes.recipe import MODEL_NAMES
from ..training.run_record import METRICS_FILE, read_record
from .spread import PairedDifference, Spread

__all__ = ["METRICS_FILE", "PaperRow", "PresetRuns", "expand_presets", "paper_rows", "read_metrics", "read_runs"]

BENCHMARK_NAMES = {name: FACTS[name].name for name in ("synthetic", "refsegrs", "rrsisd")}
"""Names of those that ablations run on."""
PAPER_NAMES = {"danet": "DANet", "fianet": "FIANet", "rmsin": "RMSIN"}
BUDGET = ("num_updates", "batch_size", "train_samples", "image_size_px", "dataset", "data_seed", "max_samples")
"""Settings of a run that must be equal for a fair comparison."""


@dataclass(frozen=True)
class PaperRow:
    """What a paper prints for a preset on one benchmark.

    Args:
        paper: The paper's short name.
        table: Table or figure in words; `""` where the number was repeated without one.
        benchmark: Key of `BENCHMARK_NAMES`.
        split: `"test"` or `"validation"`.
        scores: Score → percent.
    """

    paper: str
    table: str
    benchmark: str
    split: str
    scores: Mapping[str, float]

    @property
    def setting(self) -> tuple[str, str, str]:
        """Equal for numbers that one paper measured on one split."""
        return self.paper, self.benchmark, self.split

    @property
    def where(self) -> str:
        """Benchmark and split, such as `"RefSegRS test"`."""
        return f"{BENCHMARK_NAMES[self.benchmark]} {self.split}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**vars(self), "scores": dict(self.scores)}


def paper_rows(preset: str) -> list[PaperRow]:
    """The published rows of a preset or of a whole network; none where a paper only plots it.

    Args:
        preset: A name of `ABLATIONS`, or of a network.
    """
    if preset in ABLATIONS:
        ablation = ABLATIONS[preset]
        return [
            PaperRow(
                paper=PAPER_NAMES[ablation.paper],
                table=ablation.table,
                benchmark=benchmark,
                split="validation" if benchmark == "rrsisd" else "test",  # DANet's tables; see `PUBLISHED_ON`
                scores=scores,
            )
            for benchmark, scores in (ablation.published or {}).items()
        ]
    return [
        PaperRow(
            paper=table.source.split(",")[0],
            table=f"table {table.table}" if table.table else "",
            benchmark=table.benchmark,
            split=table.split,
            scores=row.scores,
        )
        for table in published_tables()
        if not table.by_category
        for row in table.rows
        if row.method.lower() == preset
    ]


@dataclass(frozen=True)
class PresetRuns:
    """The finished runs of one preset.

    Args:
        name: Preset or network.
        wanted: Seeds that were asked for.
        runs: Seed → the run's metrics.json.
    """

    name: str
    wanted: tuple[int, ...]
    runs: Mapping[int, Mapping[str, Any]]

    def values(
        self, split: str, score: str = "mIoU", *, text: str = "expression", kind: str | None = None
    ) -> dict[int, float]:
        """Seed → score in percent; NaN where undefined, without the seeds that have not measured it.

        Args:
            split: `"test"` or another split whose name begins so.
            score: `"mIoU"`, `"oIoU"` or `"Pr@0.5"` ….
            text: What the model was given, see `processing_rrsis.metrics.CONTROLS`.
            kind: Only expressions of this kind; `None` for all.
        """
        found = {}
        for seed, metrics in sorted(self.runs.items()):
            result = metrics["results"].get(split, {}).get(text)
            scores = {} if result is None else result["overall"] if kind is None else result["by_kind"].get(kind, {})
            if score in scores:
                found[seed] = math.nan if scores[score] is None else float(scores[score])
        return found

    def kinds(self, split: str = "test") -> dict[str, int]:
        """Kinds of expressions of a split, and how many samples each has."""
        for metrics in self.runs.values():
            result = metrics["results"].get(split, {}).get("expression")
            if result is not None:
                return {kind: int(scores["n"]) for kind, scores in result["by_kind"].items()}
        return {}

    def budgets(self) -> list[dict[str, Any]]:
        """The different values of `BUDGET` and of the training data's digest among the runs."""
        names = (*BUDGET, "train_sha256")
        found = [{name: metrics["settings"].get(name) for name in names} for metrics in self.runs.values()]
        return [budget for number, budget in enumerate(found) if budget not in found[:number]]

    def to_dict(self, reference: PresetRuns) -> dict[str, Any]:
        """Everything as plain values for JSON.

        Args:
            reference: The preset that differences are taken to.
        """
        splits: dict[str, dict[str, Any]] = {}
        for metrics in self.runs.values():
            for split, texts in metrics["results"].items():
                values = {text: self._text_values(split, text, result["overall"]) for text, result in texts.items()}
                splits.setdefault(split, {}).update(values)
        differences = {
            split: PairedDifference.of(self.values(split), reference.values(split))
            for split in splits
            if reference is not self
        }
        return {
            "name": self.name,
            "seeds": sorted(self.runs),
            "missing_seeds": [seed for seed in self.wanted if seed not in self.runs],
            "selection": {seed: metrics.get("selection") for seed, metrics in sorted(self.runs.items())},
            "budgets": self.budgets(),
            "results": splits,
            "mIoU_difference": {split: value and value.to_dict() for split, value in differences.items()},
            "published": [row.to_dict() for row in paper_rows(self.name)],
        }

    def _text_values(self, split: str, text: str, measured: Iterable[str]) -> dict[str, Any]:
        """Overall scores and mIoU by kind of one split with one text."""
        return {
            "overall": {name: self._plain(split, name, text) for name in measured if name in SCORES},
            "mIoU_by_kind": {kind: self._plain(split, "mIoU", text, kind) for kind in self.kinds(split)},
        }

    def _plain(self, split: str, score: str, text: str, kind: str | None = None) -> dict[str, Any]:
        values = self.values(split, score, text=text, kind=kind)
        by_seed = {seed: None if math.isnan(value) else value for seed, value in values.items()}
        spread = Spread.of(values.values())
        return {"by_seed": by_seed, **(spread.to_dict() if spread else {})}


def read_runs(output_dir: Path, presets: Sequence[str], seeds: int | None) -> list[PresetRuns]:
    """The finished runs of the presets, `OUTPUT_DIR/PRESET/seed-N/metrics.json`.

    Args:
        output_dir: Folder of all runs.
        presets: Presets and networks.
        seeds: How many seeds were asked for, from 0; `None` for every seed that a preset has here.

    Raises:
        ValueError: If a metrics.json can't be read; the message names it.
    """
    found: dict[str, dict[int, Path]] = {preset: {} for preset in presets}
    for preset in presets:
        for path in (output_dir / preset).glob(f"seed-*/{METRICS_FILE}"):
            number = path.parent.name.removeprefix("seed-")
            if number.isdecimal():
                found[preset][int(number)] = path
    known = {seed for paths in found.values() for seed in paths}
    wanted = tuple(sorted(known)) if seeds is None else tuple(range(seeds))
    return [
        PresetRuns(preset, wanted, {seed: read_metrics(path) for seed, path in paths.items() if seed in wanted})
        for preset, paths in found.items()
    ]


def read_metrics(path: Path) -> dict[str, Any]:
    """The metrics.json of a finished run.

    Raises:
        ValueError: If it is no such file.
    """
    try:
        metrics = read_record(path, groups=("by_kind",))
        if any(isinstance(metrics["settings"].get(name), list | dict) for name in (*BUDGET, "train_sha256")):
            raise ValueError("expected plain values in settings")
        return metrics
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{path}: expected the record of a finished run, which this is not. Delete it and call again without "
            "--report-only: the run then only repeats its end."
        ) from error


def expand_presets(names: Sequence[str]) -> list[str]:
    """Networks and presets by name; a table's prefix becomes its presets, in the paper's order.

    Args:
        names: `"lavt"`, `"danet"`, `"fianet"`, `"rmsin"`, names of `ABLATIONS`, or what they begin with up to a dash.

    Returns:
        Each once, in the order given.

    Raises:
        ValueError: If a name is none of these; the message has the nearest.
    """
    chosen: list[str] = []
    tables = list(dict.fromkeys("-".join(name.split("-")[:2]) for name in ABLATIONS))
    for name in names:
        if name in MODEL_NAMES or name in ABLATIONS:
            chosen.append(name)
            continue
        rows = [preset for preset in ABLATIONS if preset.startswith(f"{name}-")]
        if not rows:
            near = difflib.get_close_matches(name, [*MODEL_NAMES, *tables, *ABLATIONS], n=3, cutoff=0.5)
            raise ValueError(
                f"PRESET: expected a network ({', '.join(MODEL_NAMES)}), a table ({', '.join(tables)}) or a name of "
                f"`rrsis ablations`, got {name!r}." + (f" Near it: {', '.join(near)}." if near else "")
            )
        chosen += rows
    return list(dict.fromkeys(chosen))
