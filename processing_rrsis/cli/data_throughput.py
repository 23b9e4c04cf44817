"""`rrsis data-throughput`: how fast training batches are read, beside a plain PyTorch data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..benchmark.throughput_report import (
    ThroughputReport,
    ThroughputSpec,
    agreement_line,
    throughput_table,
    training_table,
)
from .common import _plain_errors, check_result_files


def data_throughput(
    data_dir: Annotated[Path, typer.Option(help="Folder of the download, or of `rrsis prepare --demo`; no zip.")],
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="rrsisd, refsegrs, risbench.")] = "rrsisd",
    split: Annotated[str, typer.Option("--split", "-s", help="Split to read.")] = "train",
    workers: Annotated[str, typer.Option(help="Numbers of worker processes, separated by commas.")] = "0,1,2",
    batch_size: Annotated[int, typer.Option(min=1, help="Samples of a batch.")] = 8,
    batches: Annotated[int, typer.Option(min=1, help="Batches timed in a pass.")] = 40,
    warmup_batches: Annotated[int, typer.Option(min=0, help="Batches before the clock starts, in every pass.")] = 4,
    repeat: Annotated[int, typer.Option(min=1, help="Passes of each way with each number of workers.")] = 3,
    training_steps: Annotated[
        int, typer.Option(min=0, help="Also train a tiny LAVT for so many steps, with one worker; 0: don't.")
    ] = 0,
    image_size: Annotated[int, typer.Option(min=32, help="Side in px that images are resized to.")] = 480,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the order of the samples.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write every number as JSON.", show_default=False)
    ] = None,
) -> None:
    """Measure how fast training batches are read from a benchmark: decode, resize, tokenise, masks to labels.

    Two ways read the same samples in the same shuffled order with the same
    tokenizer (the embedded one, nothing is downloaded):
    - rrsis: load_benchmark, and ReferringCollator with RRSISProcessor;
    - plain: a PyTorch data set as research code writes it: opens the image with
      Pillow, decodes run lengths with pycocotools (or opens the mask file),
      resizes, normalises with torchvision, pads the tokens, default_collate.

    The first batches of both are compared before anything is timed. rrsis does
    more: the two masks of object and position words, and a check of every mask
    and expression. Its first run builds the data set, which is not timed.

    Passes of both ways alternate; medians over --repeat are shown.
    - per core: samples/s divided by the workers; without any, one process reads.
    - CPU ms: processor time per sample of the processes that read; it depends
      less than the clock on what else the machine does.
    - decoding: share of JPEG, PNG, TIFF and run lengths in that time.
    - waiting: share of a training step spent waiting for its batch.

    After the first pass the files come from the system's cache: the speed of
    disks is not measured.

    Examples:
        rrsis data-throughput --data-dir RRSIS-D

        rrsis data-throughput -d refsegrs --data-dir RefSegRS --workers 0,1,4
            --training-steps 20 --json throughput.json
    """
    with _plain_errors():
        json_file = check_result_files({"--json": json_file})["--json"]
        spec = ThroughputSpec(
            dataset=dataset,
            data_dir=data_dir,
            split=split,
            workers=_numbers(workers),
            batch_size=batch_size,
            batches=batches,
            warmup_batches=warmup_batches,
            repeat=repeat,
            training_steps=training_steps,
            image_size_px=image_size,
            seed=seed,
        )
        from ..benchmark.throughput import measure_throughput

        report = measure_throughput(spec)
        try:  # one is there if the other fails
            if json_file is not None:
                json_file.write_text(json.dumps(report.to_dict(), indent=1) + "\n", encoding="utf-8")
        finally:
            _print(report)


def _numbers(text: str) -> tuple[int, ...]:
    """Read "0,1,2"."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"--workers: expected numbers separated by commas such as 0,1,2, got {text!r}")
    return tuple(dict.fromkeys(map(int, parts)))


def _print(report: ThroughputReport) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print(throughput_table(report))
    if report.training:
        console.print(training_table(report))
    console.print(agreement_line(report))
