"""What `rrsis data-throughput` measures and found: settings, results, tables."""

from __future__ import annotations

import os
import statistics
from dataclasses import asdict, dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

OURS, PLAIN = "rrsis", "plain"
"""The two ways to read: this package's, and a plain data set."""


@dataclass(frozen=True)
class ThroughputSpec:
    """What is measured.

    Attributes:
        dataset: ``"rrsisd"``, ``"refsegrs"`` or ``"risbench"``.
        data_dir: Folder of the download.
        split: Split that is read.
        workers: Numbers of worker processes, 0 for none.
        batch_size: Samples of a batch.
        batches: Batches that are timed in a pass.
        warmup_batches: Batches read before the clock starts, in every pass.
        repeat: Passes of each way with each number of workers.
        training_steps: Steps of a tiny LAVT on the batches of one worker; 0 leaves training out.
        image_size_px: Side that images are resized to.
        seed: Seed of the order.
        cache_dir: Where built data sets lie; that of `datasets` by default.
    """

    dataset: str
    data_dir: str | PathLike[str]
    split: str = "train"
    workers: tuple[int, ...] = (0, 1, 2)
    batch_size: int = 8
    batches: int = 40
    warmup_batches: int = 4
    repeat: int = 3
    training_steps: int = 0
    image_size_px: int = 480
    seed: int = 0
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        from ..data.facts import DOWNLOADS  # here, since the command's --help needs this file and no data

        if self.dataset not in DOWNLOADS:
            raise ValueError(f"dataset: expected one of {', '.join(DOWNLOADS)}, got {self.dataset!r}")
        if not self.workers or min(self.workers) < 0:
            raise ValueError(f"workers: expected numbers of 0 and more, got {list(self.workers)}")
        limits = {"batch_size": 1, "batches": 1, "warmup_batches": 0, "repeat": 1, "training_steps": 0}
        for name, low in {**limits, "image_size_px": 32}.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name}: expected at least {low}, got {getattr(self, name)}")


@dataclass(frozen=True)
class Agreement:
    """How the first batches of both ways agree.

    Attributes:
        batches: Batches that were compared.
        largest_pixel_difference: In image values from 0 to 1, before normalisation.
        differing_labels: Pixels whose labels differ.
    """

    batches: int
    largest_pixel_difference: float
    differing_labels: int


@dataclass(frozen=True)
class Throughput:
    """Speed of one way with one number of workers; lists hold a value per pass.

    Attributes:
        way: `OURS` or `PLAIN`.
        num_workers: Worker processes; 0 reads in the main process.
        samples_per_second: By the clock on the wall.
        cpu_ms_per_sample: Processor time of the process that reads, or of all workers with their start; `None` where
            the operating system does not tell.
    """

    way: str
    num_workers: int
    samples_per_second: list[float]
    cpu_ms_per_sample: list[float | None]

    @property
    def median(self) -> float:
        """Samples per second."""
        return statistics.median(self.samples_per_second)

    @property
    def median_per_core(self) -> float:
        """Samples per second and reading process."""
        return self.median / max(1, self.num_workers)

    @property
    def median_cpu_ms(self) -> float | None:
        """Processor time of a sample in ms."""
        known = [value for value in self.cpu_ms_per_sample if value is not None]
        return statistics.median(known) if known else None


@dataclass(frozen=True)
class TrainingWait:
    """What training waits for data that one worker reads.

    Attributes:
        way: `OURS` or `PLAIN`.
        device: Where the network computes.
        threads: Threads of a network on the CPU, beside the worker.
        steps: Steps that were timed.
        seconds_per_step: Median; all of a step: waiting for its batch, forward, backward, update.
        waiting_share: Share of the time spent waiting, 0 to 1.
        cpu_ms_per_sample: Processor time of the worker, with its start.
    """

    way: str
    device: str
    threads: int
    steps: int
    seconds_per_step: float
    waiting_share: float
    cpu_ms_per_sample: float | None


@dataclass(frozen=True)
class ThroughputReport:
    """All that was measured.

    Attributes:
        spec: What was asked for.
        samples: Samples of the split.
        agreement: How the two ways agree.
        decode_share: Share of decoding in the processor time of reading, by way, 0 to 1.
        throughput: A row for each way and number of workers.
        training: A row for each way; empty where training was left out.
        versions: Of the libraries that decide the speed.
    """

    spec: ThroughputSpec
    samples: int
    agreement: Agreement
    decode_share: dict[str, float]
    throughput: list[Throughput]
    training: list[TrainingWait]
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with medians and what the machine has."""
        rows = [
            {
                **asdict(row),
                "median_samples_per_second": row.median,
                "median_samples_per_second_per_core": row.median_per_core,
                "median_cpu_ms_per_sample": row.median_cpu_ms,
            }
            for row in self.throughput
        ]
        return {
            "settings": {**asdict(self.spec), "data_dir": str(self.spec.data_dir), "samples_in_split": self.samples},
            "machine": {"cores": os.cpu_count(), **self.versions},
            "agreement": asdict(self.agreement),
            "decode_share": self.decode_share,
            "throughput": rows,
            "training": [asdict(row) for row in self.training],
        }


def throughput_table(report: ThroughputReport) -> Table:
    """Speed of both ways by number of workers, medians over the passes, for 80 columns."""
    from rich import box
    from rich.table import Table

    spec = report.spec
    title = f"{spec.dataset}, {spec.split}: batches of {spec.batch_size} at {spec.image_size_px} px"
    table = Table(title=title, box=box.SIMPLE, pad_edge=False)
    table.add_column("way", no_wrap=True)
    for name in ("workers", "samples/s", "lowest–highest", "per core", "CPU ms", "decoding"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.throughput:
        table.add_row(
            row.way,
            str(row.num_workers),
            f"{row.median:.1f}",
            f"{min(row.samples_per_second):.1f}–{max(row.samples_per_second):.1f}",
            f"{row.median_per_core:.1f}",
            "–" if row.median_cpu_ms is None else f"{row.median_cpu_ms:.2f}",
            f"{report.decode_share[row.way]:.0%}",
        )
    return table


def training_table(report: ThroughputReport) -> Table:
    """What training waits for data, for 80 columns."""
    from rich import box
    from rich.table import Table

    device, steps = report.training[0].device, report.training[0].steps
    title = f"Training a tiny LAVT on {device}, one worker, {steps} steps"
    table = Table(title=title, box=box.SIMPLE, pad_edge=False)
    table.add_column("way", no_wrap=True)
    for name in ("s/step", "samples/s", "waiting", "CPU ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.training:
        table.add_row(
            row.way,
            f"{row.seconds_per_step:.3f}",
            f"{report.spec.batch_size / row.seconds_per_step:.1f}",
            f"{row.waiting_share:.1%}",
            "–" if row.cpu_ms_per_sample is None else f"{row.cpu_ms_per_sample:.2f}",
        )
    return table


def agreement_line(report: ThroughputReport) -> str:
    """How the compared batches agree, in a sentence."""
    agreement = report.agreement
    return (
        f"First {agreement.batches} batches: equal labels and tokens, pixels differ by at most "
        f"{255 * agreement.largest_pixel_difference:.2f} of 255."
    )
