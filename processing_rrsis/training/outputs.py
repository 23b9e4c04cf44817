"""What a run leaves: folders of weights, panels, the final report."""

from __future__ import annotations

import json
import time
from typing import Any

import torch
from accelerate.utils import DistributedType

from ..data.synthetic_ceilings import reader_ceilings
from ..metrics import EvaluationResult
from ..tools.export import save_hub_folder
from ..tools.sheet import contact_sheet, predict_samples
from .run import Run
from .run_report import (
    RunSummary,
    card_text,
    draw_sheet,
    evaluate_splits,
    plain_results,
    print_summary,
    write_metrics,
)

REPORT_BATCHES = 4


def save_weights(run: Run, name: str) -> None:
    """Write a Hub-shaped folder of the current weights; every process returns when it is there."""
    sharded = run.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
    weights = run.accelerator.get_state_dict(run.model) if sharded else None
    if run.accelerator.is_main_process:
        network = run.network()
        selection = f"the {name} weights of the run so far; test scores are in the card of best/ when it ends"
        card = make_card(run, network, summarize(run), selection=selection)
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


def summarize(run: Run, **found: Any) -> RunSummary:
    """What is known of the run; `found` are the results of its end."""
    return RunSummary(
        recipe=run.recipe,
        settings=run.settings,
        seed=run.args.seed,
        best_step=run.progress.best_step,
        best_miou=run.progress.best_miou,
        seconds=run.progress.seconds,
        **found,
    )


def make_card(run: Run, network: torch.nn.Module, summary: RunSummary, selection: str) -> str:
    """The model card of a folder of weights."""
    return card_text(
        summary,
        network,
        repo_id=str(run.output_dir / "best"),
        selection=selection,
        starting_weights=run.settings["starting_weights"],
        device=run.accelerator.device.type,
    )


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
        write_report(run, network, results)
    run.accelerator.wait_for_everyone()


def write_report(run: Run, network: torch.nn.Module, results: dict[str, dict[str, EvaluationResult]]) -> None:
    """Pictures, metrics.json and the model card of the selected weights, and the tables on the screen."""
    ceilings = {}
    if run.recipe.dataset == "synthetic" and "test" in results:
        ceilings = reader_ceilings(samples=len(run.data["test"]), seed=run.args.data_seed)
    summary = summarize(
        run,
        results=plain_results(results),
        ceilings={reader: scores["overall"] for reader, scores in ceilings.items()},
    )
    selection = f"best mIoU on the validation split, update {run.progress.best_step} of {run.num_updates}"
    card = make_card(run, network, summary, selection=selection)
    save_hub_folder(network, run.processor, run.output_dir / "best", model_card=card, metrics=summary.to_dict())
    if "test" in results:
        sheet = run.output_dir / "contact_sheet.png"
        device = run.accelerator.device
        draw_sheet(network, run.data["test"], run.collator(), results["test"], device=device, path=sheet)
        run.watch.say(f"Look at {sheet}; the model is in {run.output_dir / 'best'}.")
    timing = {name: round(value, 1) for name, value in run.progress.seconds.items()}
    (run.output_dir / "timing.json").write_text(json.dumps({"seconds": timing}, indent=2) + "\n", encoding="utf-8")
    write_metrics(summary, run.output_dir)
    print_summary(summary, results, run.watch.console)
