"""What an export came out as: agreement with the network, time, scores; tables and plain values of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from ..terminal import new_table
from .folder import RuntimeManifest

MEGABYTE = 10**6
NOT_MEASURED = "not measured"
SCORES: tuple[str, ...] = ("mIoU", "oIoU")
RELATIVE_TOLERANCE = 1e-4
"""Of the spread of the log-odds: rounding alone moves them by 1e-7 to 1e-5 of it, another operation by percents."""
ROUNDING_TOLERANCE = 1e-5
"""Of the largest log-odds: where all of them lie close together, they are still sums of many float32 numbers."""


@dataclass(frozen=True)
class Agreement:
    """Log-odds of an export beside the network's own.

    Attributes:
        inputs: What both were given.
        images: How many.
        lowest: Smallest log-odds of the network.
        highest: Largest.
        largest_difference: Largest absolute difference.
        differing_pixels: Share of the pixels that lie on another side of the threshold 0.5, in [0, 1].
    """

    inputs: str
    images: int
    lowest: float
    highest: float
    largest_difference: float
    differing_pixels: float

    @property
    def tolerance(self) -> float:
        """Largest difference that a float32 export may have."""
        largest = max(abs(self.lowest), abs(self.highest))
        return max(RELATIVE_TOLERANCE * (self.highest - self.lowest), ROUNDING_TOLERANCE * largest)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "float32_tolerance": self.tolerance}


@dataclass(frozen=True)
class Measured:
    """The network or the export: size, time and scores.

    Attributes:
        name: What tables call it.
        size_bytes: Of its weights or its files.
        seconds: Of each timed run of one image and one expression.
        scores: `mIoU` and `oIoU` in percent, and `n`; empty where nothing was scored.
    """

    name: str
    size_bytes: int
    seconds: Sequence[float]
    scores: Mapping[str, float]

    @property
    def milliseconds(self) -> float:
        """Median of the runs."""
        return 1e3 * statistics.median(self.seconds)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        scores = {name: self.scores.get(name) for name in SCORES}
        return {**asdict(self), "seconds": list(self.seconds), "milliseconds": self.milliseconds, "scores": scores}


@dataclass(frozen=True)
class ExportResult:
    """All of an export.

    Attributes:
        output: The folder.
        manifest: What the folder says of the graph.
        network: The network in PyTorch, float32, eager.
        exported: The graph in its runtime.
        agreements: On seeded noise, and on the data where there are some.
        data: What was scored, such as "synthetic, test"; `None` for nothing.
        machine: Hardware and versions.
    """

    output: str
    manifest: RuntimeManifest
    network: Measured
    exported: Measured
    agreements: Sequence[Agreement]
    data: str | None
    machine: Mapping[str, Any]

    @property
    def cost(self) -> dict[str, float]:
        """Points by which the export scores less than the network; empty where nothing was scored."""
        if not self.network.scores:
            return {}
        return {name: self.network.scores[name] - self.exported.scores[name] for name in SCORES}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "output": self.output,
            "manifest": asdict(self.manifest),
            "network": self.network.to_dict(),
            "exported": self.exported.to_dict(),
            "speedup": self.network.milliseconds / self.exported.milliseconds,
            "agreements": [agreement.to_dict() for agreement in self.agreements],
            "data": self.data,
            "accuracy_cost": self.cost or NOT_MEASURED,
            "machine": dict(self.machine),
        }


def print_result(result: ExportResult, console: Console) -> None:
    """Print size, time and scores beside the network's, the agreement, and what to feed."""
    console.print(_sizes_table(result))
    console.print(_agreement_table(result.agreements))
    console.print(_accuracy_line(result))
    manifest = result.manifest
    if manifest.calibration is not None:
        console.print("Ranges of int8 from {samples} samples of {data}.".format(**manifest.calibration))
    console.print(
        f"Reads {', '.join(manifest.inputs)}: images of {manifest.size_text} alone, any number of them. Times: "
        f"medians, runs in turns: {len(result.network.seconds)}, batch: 1, threads: {result.machine['threads']}."
    )
    console.print(f'Use it: rrsis segment image.png "the ship on the left" --model {result.output}')


def _sizes_table(result: ExportResult) -> Table:
    scores = SCORES if result.network.scores else ()
    table = new_table(("",), ("MB", "ms per image", "× as fast", *scores), title=result.output)
    for row in (result.network, result.exported):
        speed = result.network.milliseconds / row.milliseconds
        cells = [f"{row.size_bytes / MEGABYTE:,.1f}", f"{row.milliseconds:,.1f}", f"{speed:.2f}"]
        table.add_row(row.name, *cells, *(f"{row.scores[name]:.2f}" for name in scores))
    return table


def _agreement_table(agreements: Sequence[Agreement]) -> Table:
    table = new_table(("agreement on",), ("images", "logits", "max |Δ logits|", "pixels that differ"))
    for agreement in agreements:
        table.add_row(
            agreement.inputs,
            f"{agreement.images}",
            f"{agreement.lowest:.2f} to {agreement.highest:.2f}",
            f"{agreement.largest_difference:.1e}",
            f"{agreement.differing_pixels:.3%}",
        )
    return table


def _accuracy_line(result: ExportResult) -> str:
    if not result.cost:
        return f"Accuracy: {NOT_MEASURED}; --dataset scores the network and the graph on a split."
    cost = ", ".join(f"{name} {round(points, 2) + 0.0:.2f}" for name, points in result.cost.items())
    return f"Accuracy cost on {result.data} (n = {result.network.scores['n']:,.0f}), in points: {cost}."
