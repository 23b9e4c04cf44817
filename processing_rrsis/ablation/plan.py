"""The runs of an ablation, worked out and checked before the first one starts."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

from transformers import HfArgumentParser

from ..training.arguments import TrainingArguments, resolve_recipe
from ..training.recipes.recipe import MODEL_NAMES
from ..training.recipes.shipped import Recipe
from ..training.run_folder import SAME_OPTIONS
from .scores import METRICS_FILE, read_metrics

OWN_OPTIONS = {
    "model": "a PRESET",
    "ablation": "a PRESET",
    "seed": "--seeds",
    "output_dir": "--output-dir",
    "dataset": "--dataset beside --train",
    "data_dir": "--data-dir beside --train",
    "resume": "nothing: runs always go on",
}
"""Training options that `rrsis ablate` sets itself, and what to give instead."""


@dataclass(frozen=True)
class PlannedRun:
    """One run of an ablation.

    Args:
        preset: Preset or network.
        seed: Its seed.
        folder: Its output folder.
        options: The training command's options.
        recipe: Its recipe, options applied.
        settings: What its metrics.json will hold under `settings`, as far as it is known before the data is.
    """

    preset: str
    seed: int
    folder: Path
    options: tuple[str, ...]
    recipe: Recipe
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        """For lines on the screen."""
        return f"{self.preset}, seed {self.seed}"

    @property
    def log(self) -> Path:
        """File that everything the run prints is appended to."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def is_finished(self) -> bool:
        """Whether it has left its record."""
        return (self.folder / METRICS_FILE).is_file()

    @property
    def budget(self) -> str:
        """Length and size of the run in words."""
        recipe = self.recipe
        length = f"{recipe.max_steps:,} updates" if recipe.max_steps else f"{recipe.max_epochs} epochs"
        return f"{length} of {recipe.batch_size} samples at {recipe.image_size_px} px"


class OptionParser(HfArgumentParser):
    """The training command's options; a wrong one is a `ValueError`."""

    def error(self, message: str) -> NoReturn:
        """Raise it."""
        raise ValueError(f"--train: {message}; `rrsis train --help` lists the options")


def plan_runs(
    presets: Sequence[str],
    *,
    seeds: int,
    output_dir: Path,
    dataset: str | None = None,
    data_dir: Path | None = None,
    options: Sequence[str] = (),
) -> list[PlannedRun]:
    """All runs, preset by preset, checked before the first one starts.

    Args:
        presets: Presets and networks, see `expand_presets`.
        seeds: Runs of each preset, with the seeds 0 to `seeds` − 1.
        output_dir: Folder of all runs.
        dataset: Benchmark; the recipe's, or synthetic, if `None`.
        data_dir: Folder or zip of a downloaded benchmark.
        options: Further options of the training command, the same for all.

    Raises:
        ValueError: For options that don't fit, or a finished run in the folder that had others.
    """
    check_options(options)
    common = [*options]
    for name, value in (("--dataset", dataset), ("--data_dir", data_dir)):
        common += [] if value is None else [name, str(value)]
    planned = []
    for preset in presets:
        for seed in range(seeds):
            folder = output_dir / preset / f"seed-{seed}"
            what = "--model" if preset in MODEL_NAMES else "--ablation"
            own = [what, preset, "--seed", str(seed), "--output_dir", str(folder), "--resume", "latest"]
            run = plan_run(preset, seed, folder, [*common, *own])
            if run.is_finished:
                check_finished(run)
            planned.append(run)
    return planned


def plan_run(preset: str, seed: int, folder: Path, options: Sequence[str]) -> PlannedRun:
    """One run, its recipe worked out."""
    (arguments,) = OptionParser(cast(Any, TrainingArguments)).parse_args_into_dataclasses(list(options))
    recipe = resolve_recipe(arguments)
    settings = {key: value for key, value in recipe.to_dict().items() if key not in ("source", "sources", "name")}
    settings |= {key: getattr(arguments, key) for key in SAME_OPTIONS}
    return PlannedRun(preset, seed, folder, tuple(options), recipe, json.loads(json.dumps(settings)))


def check_options(options: Sequence[str]) -> None:
    """Raise a `ValueError` for options that the training command lacks, or that are set here."""
    parser = OptionParser(cast(Any, TrainingArguments), add_help=False)
    absent = object()  # argparse leaves alone what the namespace already holds
    given = argparse.Namespace(**dict.fromkeys(OWN_OPTIONS, absent))
    parser.parse_args(list(options), namespace=given)
    for name, instead in OWN_OPTIONS.items():
        if getattr(given, name) is not absent:
            raise ValueError(f"--train: `rrsis ablate` sets --{name} itself; give {instead}")


def check_finished(run: PlannedRun) -> None:
    """Raise a `ValueError` unless a finished run had the planned settings."""
    before = read_metrics(run.folder / METRICS_FILE)["settings"]
    different = [
        f"{key} was {before.get(key)!r}, is {value!r}"
        for key, value in run.settings.items()
        if before.get(key) != value
    ]
    if different:
        raise ValueError(
            f"{run.folder} holds a finished run with other settings: {'; '.join(different)}. Give the same options, "
            "another --output-dir, or --report-only for a report of what is there."
        )


def budget_warning(runs: Sequence[PlannedRun]) -> str | None:
    """What to say where the presets' recipes have different budgets."""
    budgets = {run.preset: run.budget for run in runs}
    if len(set(budgets.values())) < 2:
        return None
    listed = "; ".join(f"{preset} {budget}" for preset, budget in budgets.items())
    return f"Not one budget: {listed}. Give --max_steps and --batch_size in --train to make them equal."
