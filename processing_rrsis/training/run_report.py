"""The report of a finished run: what its folder holds, and the pictures of some test samples, in one HTML file."""

from __future__ import annotations

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
from .run_record import read_object, read_record
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
    record = read_record(folder / "metrics.json")
    missing = [name for name in ("seed", "selection", "validation") if record.get(name) in (None, {}, [])]
    missing += [split for split, texts in record["results"].items() if not texts]
    if missing:
        raise ValueError(f"{folder / 'metrics.json'}: expected {', '.join(missing)} in it, as a finished run has them")
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
        overall_table(parts, title=split, ceilings=record.get("ceilings") if split == "test" else None),
        *(group_table(parts, group, title=f"{split}, mIoU") for group in ("by_kind", "by_category")),
    ]
    absent = parts.get("expression", {}).get("absent") or {}
    if absent.get("n") and absent["n"] == parts["expression"]["overall"]["n"]:
        told = (
            f"Of {absent['n']:,} expressions about objects that are not there, {absent['empty_prediction']:.1f} % got "
            "an empty mask. IoU is 0 by convention on empty masks."
        )
        return Section(f"Scores on {split}", told)
    return Section(f"Scores on {split}", "In percent. A model that does not read scores alike in all rows.", tables)


def _samples(folder: Path, recipe: Recipe) -> Section:
    """Pictures by the selected weights."""
    scored, options = read_object(folder / SAMPLES_FILE), read_object(folder / OPTIONS_FILE)
    try:
        arguments = TrainingArguments(**options)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{folder / OPTIONS_FILE}: expected the options of a run, got {error}") from error
    data = load_data(arguments, recipe, say=lambda text: None)
    split, ious = scored.get("split"), scored.get("iou")
    if not isinstance(split, str) or split not in data or list(data[split]["sample_id"]) != scored.get("sample_id"):
        raise ValueError(f"{folder}: expected the samples that the run was scored on, its data have changed")
    rows = data[split]
    if not isinstance(ious, list) or len(ious) != len(rows) or not all(isinstance(iou, int | float) for iou in ious):
        raise ValueError(f"{folder / SAMPLES_FILE}: expected an IoU for each of {len(rows)} samples")
    pipe = load_pipeline(str(folder / "best"))
    return sample_section(pipe.model, rows, ReferringCollator(pipe.processor), ious, device=pipe.device)


def _numbers(recipe: Recipe) -> Section:
    """The recipe with its sources."""
    plain = recipe.to_dict()
    names = [name for name in plain if name not in ("sources", "config")]
    rows = [(name, str(plain[name]), recipe.sources.get(name, "")) for name in names]
    rows += [(name, str(value), recipe.sources.get(f"config.{name}", "")) for name, value in recipe.config.items()]
    return Section("Recipe", tables=[ResultTable("Every number", ("field", "value", "source"), tuple(rows))])
