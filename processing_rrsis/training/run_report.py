"""The report of a finished run: what its folder holds, and the pictures of some test samples, in one HTML file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..data.inputs.collate import ReferringCollator
from ..hub.loading import load_pipeline
from ..reports.curves import training_curves
from ..reports.html import Section, html_page, png_of, sample_section
from ..reports.tables import ResultTable, group_table, overall_table
from .arguments import TrainingArguments
from .outputs import SAMPLES_FILE
from .recipes.shipped import Recipe, get_recipe
from .run_folder import OPTIONS_FILE, RECIPE_FILE
from .setup import load_data
from .watching import METRICS


def run_report(folder: Path) -> str:
    """The report of a run as HTML.

    Args:
        folder: The run's output folder.

    Raises:
        ValueError: If the run is not finished, or its data are others than those that it was trained on.
        OSError: If a file of it or of its data can't be read.
    """
    if not (folder / "metrics.json").is_file():
        raise ValueError(f"RUN: expected the folder of a finished run with metrics.json, {folder} has none")
    record = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    recipe = get_recipe(str(folder / RECIPE_FILE))
    results = {"validation": record["validation"], **record["results"]}
    sections = [
        Section("Run", f"{recipe.model} on {recipe.dataset}, seed {record['seed']}. Selected: {record['selection']}."),
        *(_scores(split, parts, record) for split, parts in results.items()),
        Section("Training", pictures=[("curves", png_of(lambda path: training_curves(folder / METRICS, path)))]),
    ]
    return html_page(f"Run {folder.resolve().name}", [*sections, _samples(folder, recipe), _numbers(recipe)])


def _scores(split: str, parts: dict[str, Any], record: dict[str, Any]) -> Section:
    """Scores of a split with its controls, by kind and by category."""
    tables = [
        overall_table(parts, title=split, ceilings=record["ceilings"] if split == "test" else None),
        *(group_table(parts, group, title=f"{split}, mIoU") for group in ("by_kind", "by_category")),
    ]
    return Section(f"Scores on {split}", "In percent. A model that does not read scores alike in all rows.", tables)


def _samples(folder: Path, recipe: Recipe) -> Section:
    """Pictures by the selected weights."""
    scored = json.loads((folder / SAMPLES_FILE).read_text(encoding="utf-8"))
    options = json.loads((folder / OPTIONS_FILE).read_text(encoding="utf-8"))
    rows = load_data(TrainingArguments(**options), recipe, say=lambda text: None)[scored["split"]]
    if list(rows["sample_id"]) != scored["sample_id"]:
        raise ValueError(f"{folder}: expected the samples that the run was scored on, its data have changed")
    pipe = load_pipeline(str(folder / "best"))
    return sample_section(pipe.model, rows, ReferringCollator(pipe.processor), scored["iou"], device=pipe.device)


def _numbers(recipe: Recipe) -> Section:
    """The recipe with its sources."""
    plain = recipe.to_dict()
    names = [name for name in plain if name not in ("sources", "config")]
    rows = [(name, str(plain[name]), recipe.sources.get(name, "")) for name in names]
    rows += [(name, str(value), recipe.sources.get(f"config.{name}", "")) for name, value in recipe.config.items()]
    return Section("Recipe", tables=[ResultTable("Every number", ("field", "value", "source"), tuple(rows))])
