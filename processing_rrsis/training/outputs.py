"""What a run leaves: folders of weights, panels, the final report."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Mapping
from typing import Any

import torch
from accelerate.utils import DistributedType

from ..data.synthetic.ceilings import reader_ceilings
from ..hub.converted import CONVERTED
from ..hub.model_card import ModelCardFacts, render_model_card
from ..hub.model_folder import save_hub_folder
from ..metrics import EvaluationResult
from ..metrics.controls import evaluate_splits
from ..reports.curves import training_curves
from ..reports.sheet import contact_sheet, predict_samples, select_for_sheet
from ..reports.tables import group_table, overall_table, print_tables, result_dict
from .run import Run
from .run_folder import starting_weights
from .watching import METRICS

SAMPLES_FILE = "samples.json"
"""IoU of every test sample with the selected weights, for `rrsis report`."""
SHEET_SAMPLES = 8  # one of each kind of the embedded benchmark
REPORT_BATCHES = 4
TRACKED_LIBRARIES = ("torch", "transformers", "timm", "accelerate", "datasets")


def save_weights(run: Run, name: str) -> None:
    """Write a Hub-shaped folder of the current weights; every process returns when it is there."""
    sharded = run.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
    weights = run.accelerator.get_state_dict(run.model) if sharded else None
    if run.accelerator.is_main_process:
        network = run.network()
        selection = f"the {name} weights of the run so far; test scores are in the card of best/ when it ends"
        card = make_card(run, network, selection=selection)
        save_hub_folder(network, run.processor, run.output_dir / name, model_card=card, state_dict=weights)
    run.accelerator.wait_for_everyone()


@torch.no_grad()
def draw_panel(run: Run) -> None:
    """Draw the same validation samples at every evaluation, in `panels/`."""
    count = min(run.args.panel_samples, len(run.data["validation"]))
    if not count or not run.accelerator.is_main_process:
        return
    rows = run.data["validation"]
    network = run.network()
    was_training = network.training
    network.eval()
    try:
        chosen = [number * len(rows) // count for number in range(count)]
        samples = predict_samples(network, rows, chosen, run.collator(), device=run.accelerator.device)
    finally:
        network.train(was_training)
    path = run.output_dir / "panels" / f"step-{run.progress.step:08d}.png"
    path.parent.mkdir(exist_ok=True)
    contact_sheet(samples, path, title=f"validation after update {run.progress.step}: image, prediction, truth")
    run.watch.log_image("validation", path, step=run.progress.step)


def make_card(
    run: Run,
    network: torch.nn.Module,
    *,
    selection: str,
    results: Mapping[str, Any] | None = None,
    ceilings: Mapping[str, float] | None = None,
) -> str:
    """The model card of weights of a run; what its end has not measured yet reads "not measured".

    Args:
        run: The run.
        network: Its weights.
        selection: How they were chosen.
        results: Split → control → result, plain values.
        ceilings: mIoU in percent of perfect-mask readers of less than the expression, on the test split.
    """
    recipe, validation = run.recipe, run.progress.best_validation
    samples, absent = run.settings["train_samples"], run.args.absent_share
    start, others = run.settings["starting_weights"], getattr(network.config, CONVERTED, None)
    if others:
        start = f"{others['weights']} ({others['source']}), trained by others; licence: {others['licence']}"
    facts = ModelCardFacts(
        architecture=recipe.model,
        dataset=recipe.dataset,
        repo_id=str(run.output_dir / "best"),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        image_size_px=recipe.image_size_px,
        max_length=recipe.max_length,
        train_samples=f"{samples:,}, {100 * absent:g} % of them about objects that are not there"
        if absent
        else samples,
        starting_weights=start,
        base_models=starting_weights(run.args, recipe)[1],
        selection=selection,
        seed=run.args.seed,
        licence=run.args.license or ("unknown" if others else None),
        hardware=f"{platform.machine()}, {run.accelerator.device.type}",
        software={name: importlib.metadata.version(name) for name in TRACKED_LIBRARIES},
        recipe=recipe.to_dict(),
        results={**({"validation": validation} if validation else {}), **(results or {})},
        ceilings=ceilings or {},
    )
    return render_model_card(facts)


def report(run: Run) -> None:
    """Test the selected weights, once, and write and print the outcome.

    The weights are read back from `best/`: what is tested is what others will load.
    """
    start = time.perf_counter()
    network = type(run.network()).from_pretrained(run.output_dir / "best").to(run.accelerator.device).eval()
    with run.accelerator.autocast():
        results = evaluate_splits(
            network,
            run.data,
            run.collator(),
            batch_size=REPORT_BATCHES * run.micro_batch,
            accelerator=run.accelerator,
            seed=run.args.seed,
        )
    run.progress.add_seconds("test", start)
    if run.accelerator.is_main_process:
        with run.watch.working("writing card, pictures and curves"):
            ceilings = write_report(run, network, results)
        print_summary(run, results, ceilings)
    run.accelerator.wait_for_everyone()


def write_report(
    run: Run, network: torch.nn.Module, results: dict[str, dict[str, EvaluationResult]]
) -> dict[str, float]:
    """Pictures, metrics.json and the model card of the selected weights; the ceilings of the test split."""
    progress, ceilings = run.progress, {}
    if run.recipe.dataset == "synthetic" and "test" in results:
        readers = reader_ceilings(samples=len(run.data["test"]), seed=run.args.data_seed)
        ceilings = {reader: scores["overall"] for reader, scores in readers.items()}
    record: dict[str, Any] = {  # nothing that depends on the machine's speed
        "recipe": run.recipe.to_dict(),
        "settings": run.settings,
        "seed": run.args.seed,
        "selection": f"best mIoU on validation, {progress.best_miou:.2f} at step {progress.best_step}",
        "validation": progress.best_validation,
        "results": plain_results(results),
        "ceilings": ceilings,
    }
    selection = f"best mIoU on the validation split, update {progress.best_step} of {run.num_updates}"
    card = make_card(run, network, selection=selection, results=record["results"], ceilings=ceilings)
    save_hub_folder(network, run.processor, run.output_dir / "best", model_card=card, metrics=record)
    draw_samples(run, network, "test" if "test" in results else next(iter(results)), results)
    timing = {name: round(value, 1) for name, value in progress.seconds.items()}
    (run.output_dir / "timing.json").write_text(json.dumps({"seconds": timing}, indent=2) + "\n", encoding="utf-8")
    training_curves(run.output_dir / METRICS, run.output_dir / "curves.png")
    aside = run.output_dir / "metrics.json.new"
    aside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    os.replace(aside, run.output_dir / "metrics.json")  # last and at once: its presence says that the run has finished
    return ceilings


def draw_samples(run: Run, network: torch.nn.Module, split: str, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Contact sheet of a split, the best, the typical and the worst; and the IoU of every sample in a file."""
    rows, result = run.data[split], results[split]["expression"]
    ious, sheet = result.ious.tolist(), run.output_dir / "contact_sheet.png"
    chosen = select_for_sheet(ious, result.kinds, SHEET_SAMPLES, image_ids=list(rows["image_id"]))
    samples = predict_samples(network, rows, chosen, run.collator(), device=run.accelerator.device)
    title = f"{split} mIoU {result.overall['mIoU']:.1f} with the expression"
    if "shuffled" in results[split]:
        title += f", {results[split]['shuffled'].overall['mIoU']:.1f} with another sample's expression"
    contact_sheet(samples, sheet, title=title)
    scored = {"split": split, "sample_id": list(rows["sample_id"]), "iou": ious}
    (run.output_dir / SAMPLES_FILE).write_text(json.dumps(scored) + "\n", encoding="utf-8")
    run.watch.say(
        f"The model is in {run.output_dir / 'best'}; look at {sheet}, or at all: rrsis report {run.output_dir}"
    )


def print_summary(run: Run, results: Mapping[str, Any], ceilings: Mapping[str, float]) -> None:
    """Tables of the test splits and of the time that the run took."""
    tables, console = [], run.watch.console
    first = "test" if "test" in results else next(iter(results))
    tables.append(overall_table(results[first], title=first, ceilings=ceilings or None))
    tables.append(group_table(results[first], "by_kind", title=f"{first}, mIoU by kind of expression"))
    others = {name: parts["expression"] for name, parts in results.items() if name != first}
    if others:
        tables.append(overall_table(others, title="other test splits"))
    print_tables(tables, console)
    absent = others["test_absent"].absent if "test_absent" in others else None
    if absent:
        console.print(
            f"Objects that are not there (test_absent): nothing predicted for {absent['empty_prediction']:.1f} % of "
            f"{absent['n']} expressions; mIoU is 0 by convention on empty masks."
        )
    total = sum(run.progress.seconds.values())
    parts = ", ".join(f"{name} {value:.0f} s" for name, value in run.progress.seconds.items())
    console.print(f"Selected on validation alone: step {run.progress.best_step}. Time: {total:.0f} s ({parts}).")


def plain_results(results: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Split → control → plain values."""
    return {split: {name: dict(result_dict(one)) for name, one in parts.items()} for split, parts in results.items()}
