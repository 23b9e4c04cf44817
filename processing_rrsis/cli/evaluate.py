"""`rrsis evaluate`: a model on a split, in the papers' tables, beside the published rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from ..reports.evaluation_task import EvaluationTask, Resolution, find_comparability
from ..result_files import check_untouched, write_result
from ..runtimes.spec import RUNTIME_HELP, Runtime
from .common import (
    COMPUTES,
    HTML_ENDINGS,
    MODEL_HELP,
    RESULTS,
    TrustRemoteCode,
    _plain_errors,
    check_result_files,
    write_json,
)

_DATA, _SCORES, _SPEED = "Data", "Scores", "Speed"


def evaluate(
    model: Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP, rich_help_panel=COMPUTES)],
    dataset: Annotated[
        str,
        typer.Option(
            "--dataset",
            "-d",
            help="synthetic, refsegrs, rrsisd, risbench, own, or a .csv or .jsonl file.",
            rich_help_panel=_DATA,
        ),
    ],
    split: Annotated[str, typer.Option("--split", help="Split to score.", rich_help_panel=_DATA)] = "test",
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder or zip of the download.", rich_help_panel=_DATA, show_default=False)
    ] = None,
    max_samples: Annotated[
        int | None,
        typer.Option(min=1, help="Only the first ones, for a quick look.", rich_help_panel=_DATA, show_default=False),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size",
            "-s",
            min=32,
            help="synthetic: side of its images in px.",
            show_default="the model's input size",
            rich_help_panel=_DATA,
        ),
    ] = None,
    data_seed: Annotated[int, typer.Option(min=0, help="synthetic: seed of its scenes.", rich_help_panel=_DATA)] = 0,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Leave out samples whose files are missing.", rich_help_panel=_DATA),
    ] = False,
    resolution: Annotated[
        Resolution,
        typer.Option(
            help="480: prediction and mask at the model's input size, the papers' protocol; native: the log-odds "
            "resized to each mask's own size.",
            rich_help_panel=_SCORES,
        ),
    ] = Resolution.BOTH,
    threshold: Annotated[
        float, typer.Option(help="Probability above which a pixel is predicted.", rich_help_panel=_SCORES)
    ] = 0.5,
    controls: Annotated[
        bool,
        typer.Option(
            "--controls",
            help="Also score with shuffled expressions, with the category alone and without text.",
            rich_help_panel=_SCORES,
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the shuffling.", rich_help_panel=_SCORES)] = 0,
    confidence: Annotated[float, typer.Option(help="Of the intervals.", rich_help_panel=_SCORES)] = 0.95,
    resamples: Annotated[int, typer.Option(help="Of the bootstrap.", rich_help_panel=_SCORES)] = 2_000,
    batch_size: Annotated[
        int, typer.Option("--batch-size", "-b", min=1, help="Samples a step.", rich_help_panel=_SPEED)
    ] = 8,
    num_workers: Annotated[int, typer.Option(min=0, help="Processes that load the data.", rich_help_panel=_SPEED)] = 1,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="Run every sample alone. Without it only samples near a tie are, which is enough for equal numbers "
            "as long as the reported largest difference stays below the margin.",
            rich_help_panel=_SPEED,
        ),
    ] = False,
    runtime: Annotated[Runtime, typer.Option(help=RUNTIME_HELP, rich_help_panel=COMPUTES)] = Runtime.AUTO,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json",
            "--output",
            "-o",
            help="Also write every number as JSON.",
            show_default=False,
            rich_help_panel=RESULTS,
        ),
    ] = None,
    html_file: Annotated[
        Path | None,
        typer.Option(
            "--html",
            help="Also write a report with pictures of best, worst and random samples.",
            rich_help_panel=RESULTS,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier result.", rich_help_panel=RESULTS)
    ] = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Score a model on a split, in the layout of the papers' tables.

    Prints Pr@0.5 to Pr@0.9, oIoU and mIoU with bootstrap intervals (whole images
    are drawn), mIoU per category and per kind of expression, and the published
    rows on the same split with how their checkpoints were chosen.

    The numbers are the same for any --batch-size and number of processes; see
    --exact for what that rests on.

    Examples:
        rrsis evaluate -m runs/fianet/best -d synthetic --controls

        rrsis evaluate -m MODEL -d rrsisd --data-dir RRSIS-D --json results.json

    Several processes share the work, one per GPU or, on CPUs, started by torchrun:
        accelerate launch -m processing_rrsis.cli.app evaluate -m MODEL ...

        ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 -m
            processing_rrsis.cli.app evaluate -m MODEL ...
    """
    task = EvaluationTask(
        model=model,
        dataset=dataset,
        split=split,
        data_dir=data_dir,
        max_samples=max_samples,
        image_size=image_size,
        data_seed=data_seed,
        allow_missing=allow_missing,
        resolution=resolution,
        threshold=threshold,
        controls=controls,
        seed=seed,
        confidence=confidence,
        resamples=resamples,
        exact=exact,
        batch_size=batch_size,
        num_workers=num_workers,
    )
    with _plain_errors():
        files = check_result_files({"--json": json_file, "--html": html_file}, {"--html": HTML_ENDINGS})
        if any(files.values()):
            from ..data.own_data import table_files

            read = [task.model, task.dataset, task.data_dir, *table_files(task.dataset, task.data_dir)]
            check_untouched(files.values(), reads=read, overwrite=overwrite)
        _check(task)
        _run(task, files, runtime=runtime, trust_remote_code=trust_remote_code)


def _check(task: EvaluationTask) -> None:
    """Find out before anything is loaded what can't work."""
    if not 0 < task.threshold < 1:
        raise ValueError(f"--threshold: expected a probability between 0 and 1, got {task.threshold}")
    if not 0 < task.confidence < 1:
        raise ValueError(f"--confidence: expected a share between 0 and 1, such as 0.95, got {task.confidence}")
    if task.resamples < 100:
        raise ValueError(f"--resamples: expected at least 100, got {task.resamples}")


def _run(task: EvaluationTask, files: dict[str, Path | None], *, runtime: Runtime, trust_remote_code: bool) -> None:
    """Load, evaluate, print, write."""
    import torch
    from accelerate import Accelerator
    from rich.console import Console

    from ..data.files.content_hash import content_hash
    from ..data.inputs.collate import ReferringCollator
    from ..data.load import load_split
    from ..metrics import TIE_MARGIN, evaluate_model, evaluate_with_controls
    from ..metrics.controls import CONTROLS, possible_controls
    from ..reports.evaluation import describe, evaluation_page, print_results
    from ..runtimes.loading import open_pipeline
    from ..terminal import working

    accelerator = Accelerator()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # float32, as in the protocol
    with working(f"loading {task.model}"):
        pipe = open_pipeline(task.model, runtime=runtime, trust_remote_code=trust_remote_code)
    size = pipe.processor.image_processor.size
    with accelerator.main_process_first():
        data = load_split(
            task.dataset,
            task.split,
            input_size_px=min(size["height"], size["width"]),
            data_dir=task.data_dir,
            num_samples=task.max_samples,
            image_size_px=task.image_size,
            seed=task.data_seed,
            num_proc=max(1, task.num_workers),
            allow_missing=task.allow_missing,
        )
    options = {
        "accelerator": accelerator,
        "batch_size": task.batch_size,
        "threshold": task.threshold,
        "num_workers": task.num_workers,
        "tie_margin": math.inf if task.exact else TIE_MARGIN,
    }
    network = pipe.model if getattr(pipe.model, "is_quantized", False) else pipe.model.float()
    network, collator = network.to(accelerator.device).eval(), ReferringCollator(pipe.processor)
    if task.controls:
        controls = possible_controls(data)
        results = evaluate_with_controls(network, data, collator, controls=controls, seed=task.seed, **options)
    else:
        results = {"expression": evaluate_model(network, data, collator, **options)}
    if not accelerator.is_main_process:
        return
    document = describe(
        task,
        data,
        network,
        results,
        data_hash=content_hash(data),
        comparability=find_comparability(task),
        accelerator=accelerator,
    )
    if files["--json"] is not None:  # before anything is printed: a closed pipe loses nothing
        write_json(document, files["--json"])
    if files["--html"] is not None:
        with working("drawing the report"):
            page = evaluation_page(task, network, data, collator, results)
        write_result(files["--html"], page.encode())
    console = Console(highlight=False)
    print_results(task, results, document, console)
    missing = [name for name in CONTROLS if task.controls and name not in results]
    if missing:
        console.print(f"Controls that this split can't have: {', '.join(missing)} (no categories, or one text).")
