"""What a training run leaves besides its weights: final scores, tables, contact sheet, curves, model card."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ..metrics import CONTROLS, control_expressions, evaluate_model, evaluate_with_controls
from ..tools.model_card import ModelCardFacts, render_model_card
from ..tools.plots import training_curves
from ..tools.report import group_table, overall_table, print_tables, result_dict
from ..tools.sheet import contact_sheet, predict_samples, select_for_sheet
from .recipe import Recipe

SHEET_SAMPLES = 8  # one of each kind of the embedded benchmark
TRACKED_LIBRARIES = ("torch", "transformers", "timm", "accelerate", "datasets")


@dataclass
class RunSummary:
    """The final evaluation of a run and what produced it.

    Args:
        recipe: The run's recipe, overrides applied.
        settings: What else decides the outcome: seeds, updates, the training data's size and digest.
        seed: Seed of the run.
        best_step: Update whose weights were selected.
        best_miou: Their mIoU on the validation split, in percent.
        seconds: Wall-clock seconds by phase.
        results: Split → control → result (`EvaluationResult.to_dict()`).
        ceilings: mIoU in percent of perfect-mask readers of less than the expression, on the test split.
    """

    recipe: Recipe
    settings: dict[str, Any]
    seed: int
    best_step: int
    best_miou: float
    seconds: dict[str, float]
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    ceilings: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for metrics.json: nothing that depends on the machine's speed."""
        return {
            "recipe": self.recipe.to_dict(),
            "settings": self.settings,
            "seed": self.seed,
            "selection": f"best mIoU on validation, {self.best_miou:.2f} at step {self.best_step}",
            "results": self.results,
            "ceilings": self.ceilings,
        }


def possible_controls(split: Any) -> tuple[str, ...]:
    """The controls that a split has the columns and the variety for; see `metrics.controls`."""
    possible = []
    for control in CONTROLS:
        if control == "category" and not ("category" in split.column_names and all(split["category"])):
            continue
        try:
            control_expressions(split, control)
        except ValueError:  # one text on more than half of the samples: nothing to shuffle
            continue
        possible.append(control)
    return tuple(possible)


def evaluate_splits(
    model: Callable[..., Any], data: Mapping[str, Any], collator: Any, *, batch_size: int, accelerator: Any, seed: int
) -> dict[str, dict[str, Any]]:
    """Evaluate every test split of a benchmark, `test` with the three controls.

    Args:
        model: The selected weights, prepared by the accelerator.
        data: Splits by name; those whose name starts with `test` are evaluated.
        collator: Rows to model inputs.
        batch_size: Samples per process and step.
        accelerator: Accelerator whose processes share the work.
        seed: Seed of the shuffled control.

    Returns:
        Split → control → `EvaluationResult`.
    """
    options = {"accelerator": accelerator, "batch_size": batch_size}
    results: dict[str, dict[str, Any]] = {}
    for split in (name for name in data if name.startswith("test")):
        if split == "test":
            controls = possible_controls(data[split])
            results[split] = evaluate_with_controls(
                model, data[split], collator, controls=controls, seed=seed, **options
            )
        else:
            results[split] = {"expression": evaluate_model(model, data[split], collator, **options)}
    return results


def draw_sheet(
    model: Callable[..., Any], split: Any, collator: Any, results: Mapping[str, Any], *, device: Any, path: Path
) -> Path:
    """Contact sheet of a split from its evaluation: the best, the typical and the worst."""
    result = results["expression"]
    chosen = select_for_sheet(result.ious.tolist(), result.kinds, SHEET_SAMPLES, image_ids=list(split["image_id"]))
    samples = predict_samples(model, split, chosen, collator, device=device)
    title = f"test mIoU {result.overall['mIoU']:.1f} with the expression"
    if "shuffled" in results:
        title += f", {results['shuffled'].overall['mIoU']:.1f} with another sample's expression"
    return contact_sheet(samples, path, title=title)


def print_summary(summary: RunSummary, results: Mapping[str, Any], console: Console) -> None:
    """Tables of the test splits and of the time that the run took."""
    tables = []
    if "test" in results:
        tables.append(overall_table(results["test"], title="test", ceilings=summary.ceilings or None))
    if "test" in results and results["test"]["expression"].by_kind:
        tables.append(group_table(results["test"], "by_kind", title="test, mIoU by kind of expression"))
    others = {name: parts["expression"] for name, parts in results.items() if name != "test"}
    if others:
        tables.append(overall_table(others, title="other test splits"))
    print_tables(tables, console)
    absent = others["test_absent"].absent if "test_absent" in others else None
    if absent:
        console.print(
            f"Objects that are not there (test_absent): nothing predicted for {absent['empty_prediction']:.1f} % of "
            f"{absent['n']} expressions; mIoU is 0 by convention on empty masks."
        )
    total = sum(summary.seconds.values())
    parts = ", ".join(f"{name} {value:.0f} s" for name, value in summary.seconds.items())
    console.print(f"Selected on validation alone: step {summary.best_step}. Time: {total:.0f} s ({parts}).")


def card_text(
    summary: RunSummary, model: torch.nn.Module, *, repo_id: str, selection: str, starting_weights: str, device: str
) -> str:
    """The model card of weights of a run; what its end has not measured yet reads "not measured"."""
    facts = ModelCardFacts(
        architecture=summary.recipe.model,
        dataset=summary.recipe.dataset,
        repo_id=repo_id,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        image_size_px=summary.recipe.image_size_px,
        max_length=summary.recipe.max_length,
        train_samples=summary.settings["train_samples"],
        starting_weights=starting_weights,
        selection=selection,
        seed=summary.seed,
        training_seconds=summary.seconds.get("training"),
        hardware=f"{platform.machine()}, {device}",
        software={name: importlib.metadata.version(name) for name in TRACKED_LIBRARIES},
        recipe=summary.recipe.to_dict(),
        results=summary.results,
        ceilings=summary.ceilings,
    )
    return render_model_card(facts)


def write_metrics(summary: RunSummary, output_dir: Path) -> None:
    """metrics.json and curves.png."""
    text = json.dumps(summary.to_dict(), indent=2)
    training_curves(output_dir / "metrics.jsonl", output_dir / "curves.png")
    aside = output_dir / "metrics.json.new"
    aside.write_text(text + "\n", encoding="utf-8")
    os.replace(aside, output_dir / "metrics.json")  # last and at once: its presence says that the run has finished


def plain_results(results: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Split → control → plain values."""
    return {split: {name: dict(result_dict(one)) for name, one in parts.items()} for split, parts in results.items()}
