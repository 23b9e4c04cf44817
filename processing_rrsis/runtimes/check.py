"""An exported graph beside the network it comes from: the same log-odds, how fast, how good."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..benchmark.timing import Work, time_interleaved
from ..data.inputs.collate import ReferringCollator
from ..errors import RRSISError
from ..metrics import evaluate_model
from .result import SCORES, Agreement

COMPARED_ROWS = 16  # of the data; seeded noise looks like no image
Caller = Callable[..., Any]


@torch.no_grad()
def compare(network: Caller, exported: Caller, batches: Iterable[Mapping[str, Tensor]], inputs: str) -> Agreement:
    """Run both on the same batches.

    Args:
        network: The network.
        exported: The export; both return `.logits` (B, H, W).
        batches: Tensors for both.
        inputs: What the batches are.

    Raises:
        RRSISError: If the export gives another shape, or numbers that are none.
    """
    images, pixels, differing = 0, 0, 0
    lows, highs, differences = [], [], []
    for batch in batches:
        expected, found = network(**batch).logits, exported(**batch).logits
        if found.shape != expected.shape or not found.isfinite().all():
            kind = "finite logits" if found.shape == expected.shape else f"logits of shape {tuple(expected.shape)}"
            raise RRSISError(
                f"expected {kind} from the exported graph, got {tuple(found.shape)} with "
                f"{int((~found.isfinite()).sum())} that are none; nothing was written"
            )
        images, pixels = images + len(expected), pixels + expected.numel()
        differing += int(((expected > 0) != (found > 0)).sum())
        lows.append(float(expected.min()))
        highs.append(float(expected.max()))
        differences.append(float((expected - found).abs().max()))
    return Agreement(inputs, images, min(lows), max(highs), max(differences), differing / pixels)


def check_agreement(agreement: Agreement) -> None:
    """Raise an `RRSISError` where a float32 export is another function than the network."""
    if agreement.largest_difference > agreement.tolerance:
        raise RRSISError(
            f"the exported graph is not the network: its logits differ by up to {agreement.largest_difference:.2g}, "
            f"at most {agreement.tolerance:.2g} was expected of logits from {agreement.lowest:.3g} to "
            f"{agreement.highest:.3g} ({agreement.inputs}); nothing was written. Another version of torch or "
            "of the runtime may do better; please report it"
        )


def time_both(
    network: Caller, exported: Caller, inputs: Mapping[str, Tensor], rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds of the runs of both, in turns, after a run of each that is not counted."""
    works = {
        "network": Work(torch.no_grad()(lambda: network(**inputs))),
        "exported": Work(lambda: exported(**inputs)),
    }
    timings = time_interleaved(works, rounds=rounds)
    return timings["network"].seconds, timings["exported"].seconds


def row_batches(rows: Any, collator: ReferringCollator, count: int) -> list[dict[str, Tensor]]:
    """Rows one a batch, as tensors for a network: `count` of them, evenly from the first to the last."""
    count = min(count, len(rows))
    batches = (collator([rows[number * len(rows) // count]]) for number in range(count))
    return [{name: value for name, value in batch.items() if name != "labels"} for batch in batches]


def score(network: Caller, rows: Any, collator: ReferringCollator, description: str) -> dict[str, float]:
    """The project's metric at the input size; one image at a time.

    Returns:
        `mIoU` and `oIoU` in percent, and `n`.
    """
    result = evaluate_model(network, rows, collator, batch_size=1, description=description)
    return {name: float(result.overall[name]) for name in (*SCORES, "n")}
