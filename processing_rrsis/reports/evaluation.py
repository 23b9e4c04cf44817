"""The two forms of an evaluation's result: a JSON document, and tables beside the published rows on a console."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import Console
from rich.markup import escape

from ..metrics.evaluation_result import EvaluationResult
from .evaluation_task import Comparability, EvaluationTask
from .html import Section, html_page, sample_section
from .paper_tables import (
    MIN_UNITS,
    category_table,
    checkpoint_selection,
    library_versions,
    model_revision,
    paper_table,
    result_values,
)
from .published import PublishedTable, published_for
from .tables import group_table, overall_table, print_tables

PUBLISHED_SIZE = "480×480"


def describe(
    task: EvaluationTask,
    data: Any,
    network: Any,
    results: dict[str, EvaluationResult],
    *,
    data_hash: str,
    comparability: Comparability,
    accelerator: Accelerator,
) -> dict[str, Any]:
    """The JSON document; everything but `run` is the same for any batch size and number of processes.

    Returns:
        `model`, `data`, `protocol`, `versions`, `results` by text, and `run`.
    """
    first = results["expression"]
    graph = getattr(network, "manifest", None)  # of `rrsis export`
    return {
        "model": {
            "name": task.model,
            "class": type(network).__name__ if graph is None else graph.network_class,
            "parameters": network.num_parameters(),
            "revision": model_revision(task.model, network),
            "selection": checkpoint_selection(task.model),
        },
        "data": {
            "dataset": task.dataset,
            "split": task.split,
            "samples": len(data),
            "images": len(set(data["image_id"])) if "image_id" in data.column_names else None,
            "first_samples_only": task.max_samples is not None,
            "content_sha256": data_hash,
            "published_samples": comparability.published_samples,
            "is_demo": comparability.is_demo,
            "allow_missing": task.allow_missing,
            "left_out": list(comparability.left_out),
            "not_like_published": comparability.reasons(len(data)),
            **({"seed": task.data_seed} if task.dataset == "synthetic" else {}),
        },
        "protocol": {
            "input": "prediction and mask at the model's input size, the mask resized by nearest neighbour",
            "native": "log-odds resized bilinearly to each mask's own size, the mask as stored",
            "resolution": first.resolution,
            "threshold": task.threshold,
            "runtime": "torch" if graph is None else graph.format,
            "precision": "float32" if graph is None else graph.precision,
            "intervals": {**task.interval_options, "method": first.intervals(num_resamples=100).to_dict()["method"]},
            **({"shuffling_seed": task.seed} if task.controls else {}),
        },
        "versions": library_versions(),
        "results": {
            text: result_values(result, task.resolutions, task.interval_options) for text, result in results.items()
        },
        "run": {
            "batch_size": task.batch_size,
            "processes": accelerator.num_processes,
            "device": accelerator.device.type,
            "seconds": {text: round(result.seconds, 2) for text, result in results.items()},
            "ties": {text: result.batch_check for text, result in results.items()},
        },
    }


def print_results(
    task: EvaluationTask, results: dict[str, EvaluationResult], document: dict[str, Any], console: Console
) -> None:
    """Tables in the papers' layouts, beside the published ones on the same split, and what they rest on."""
    result, options = results["expression"], task.interval_options
    resolutions = task.resolutions if result.native is not None else task.resolutions[:1]  # equal: shown once
    found = {name: result.intervals(native=name == "native", **options) for name in resolutions}
    native_first = resolutions[0] == "native"
    by_category = {
        name: result.intervals(category=name, native=native_first, **options) for name in result.by_category
    }
    tables = published_for(task.dataset)
    same = [table for table in tables if table.split == task.split]
    title = f"{task.dataset}, {task.split} (n = {len(result.unions):,})"
    ours = document["model"]["class"].removesuffix("ForReferringSegmentation") + ", ours"
    beside: list[PublishedTable | None] = [table for table in same if table.table and not table.by_category]
    for table in beside or [None]:
        heading = f"{title}, beside {table.name}" if table else title
        print_tables([paper_table(result, found, title=heading, ours=ours, published=table)], console)
        _print_source(table, console)
    if result.by_category:
        printed = next((table for table in same if table.by_category), None)
        heading = "mIoU per category" + (f", beside {printed.name}" if printed else "")
        print_tables(
            [category_table(result, by_category, title=heading, resolutions=resolutions, published=printed)],
            console,
        )
        _print_source(printed, console)
    if result.by_kind:
        print_tables([group_table(results, "by_kind", title="mIoU by kind of expression")], console)
    if len(results) > 1:
        print_tables([overall_table(results, title="what the text is worth")], console)
    for table in same:
        if not table.table:
            scores = "; ".join(f"{row.method} {_listed(row.scores)}" for row in table.rows)
            console.print(f"{table.name}: {scores}. {' '.join(table.notes)}")
    if same and document["data"]["not_like_published"]:
        reasons = "; ".join(document["data"]["not_like_published"])
        console.print(f"[bold yellow]not comparable with the published rows:[/] {escape(reasons)}.")
    if same and not result.resolution.startswith(PUBLISHED_SIZE):
        console.print(f"Published at {PUBLISHED_SIZE} px: not like for like, this model reads {result.resolution}.")
    others = sorted({table.name for table in tables if table.split != task.split})
    if others:
        console.print(f"Published on other splits, not comparable: {'; '.join(others)}.")
    _print_footer(result, document, console)


def evaluation_page(
    task: EvaluationTask, network: Any, data: Any, collator: Any, results: dict[str, EvaluationResult]
) -> str:
    """The evaluation as one HTML file: tables, and pictures of the best, the worst and of random samples."""
    title = f"{task.dataset}, {task.split}"
    tables = [
        overall_table(results, title=title),
        *(group_table(results, group, title=f"{title}, mIoU") for group in ("by_kind", "by_category")),
    ]
    result = results["expression"]
    samples = sample_section(network, data, collator, result.ious.tolist(), device=network.device, seed=task.seed)
    scores = Section("Scores", f"In percent, at {result.resolution}, threshold {result.threshold}.", tables)
    return html_page(f"{Path(task.model).name} on {title}", [scores, samples])


def _listed(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in scores.items())


def _print_source(table: PublishedTable | None, console: Console) -> None:
    """How the published numbers came about."""
    if table is not None:
        notes = " ".join(table.notes)
        console.print(f"[dim]{table.name}: checkpoint: {table.selection}. {notes}[/]\n")


def _print_footer(result: EvaluationResult, document: dict[str, Any], console: Console) -> None:
    """Resolution, checkpoint, data and ties."""
    data, ties = document["data"], result.batch_check
    if result.absent:
        share = f"{result.absent['empty_prediction']:.1f} %"
        mixed = (
            "" if "gIoU" not in result.absent else " T-acc {T_acc:.1f} %, gIoU {gIoU:.1f} %.".format(**result.absent)
        )
        console.print(
            f"{result.absent['n']} masks are empty: nothing predicted for {share} of them (N-acc), IoU 0 by "
            f"convention.{mixed}"
        )
    intervals = document["protocol"]["intervals"]["method"]
    if len(result.unions) < MIN_UNITS or (data["images"] or MIN_UNITS) < MIN_UNITS:
        intervals = f"none, of fewer than {MIN_UNITS} images they would look surer than they are"
    console.print(f"Resolution: {result.resolution}. Intervals: {intervals}.")
    console.print(
        escape(f"Checkpoint: {document['model']['selection']}. Data: sha256 {data['content_sha256'][:16]}….")
    )
    if document["protocol"]["runtime"] != "torch":
        console.print("Computed by {runtime} in {precision}.".format(**document["protocol"]))
    if ties and isinstance(ties["margin"], float) and 2 * ties["largest_difference"] > ties["margin"]:
        console.print(
            f"[bold yellow]warning:[/] batching moved log-odds by up to {ties['largest_difference']:.1e}, the margin "
            f"is {ties['margin']:.0e}: another batch size may change a pixel. --exact rules that out."
        )
