"""Is it there? Log-odds of samples with and without their object, a calibration of them, and what it is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.inputs.collate import ReferringCollator
from ..presence_rrsis import Calibration, area_under_curve, pooled_log_odds

BATCH_SIZE = 16
CALIBRATION_BINS = 10


@torch.inference_mode()
def pooled_of(
    network: Any, processor: Any, rows: Any, expressions: Sequence[str], on_batch: Callable[[int], None]
) -> NDArray[np.float64]:
    """Pooled log-odds (N,) of a split's images with some expressions.

    Args:
        network: Any of the networks, or a graph of one, in evaluation.
        processor: Its processor.
        rows: Split with `image`.
        expressions: One for each row.
        on_batch: Called with the number of samples that were looked at.
    """
    collator = ReferringCollator(processor)
    found = []
    for first in range(0, len(rows), BATCH_SIZE):
        count = min(BATCH_SIZE, len(rows) - first)
        part = [{"image": rows[first + n]["image"], "expression": expressions[first + n]} for n in range(count)]
        inputs = {name: value.to(network.device) for name, value in collator(part).items()}
        found.append(pooled_log_odds(network(**inputs).logits).cpu().double().numpy())
        on_batch(count)
    return np.concatenate(found)


def presence_scores(
    calibration: Calibration, there: NDArray[np.float64], missing: NDArray[np.float64]
) -> dict[str, float]:
    """What a calibration is worth on samples with and without their object.

    Returns:
        In percent: `T_acc`, share of the first that are found; `N_acc`, share of the second that are not (both as
        GRES defines them, Liu et al., CVPR 2023); `AUROC` of the log-odds; `ECE`, mean gap between probability and
        truth over ten bins, both kinds weighing the same.
    """
    sure, unsure = (calibration(torch.from_numpy(values)).numpy() for values in (there, missing))
    return {
        "T_acc": float(100 * (sure >= 0.5).mean()),
        "N_acc": float(100 * (unsure < 0.5).mean()),
        "AUROC": 100 * area_under_curve(there, missing),
        "ECE": 100 * _calibration_error(sure, unsure),
    }


def _calibration_error(sure: NDArray[np.float64], unsure: NDArray[np.float64]) -> float:
    probability = np.concatenate([sure, unsure])
    truth = np.concatenate([np.ones(len(sure)), np.zeros(len(unsure))])
    weight = np.concatenate([np.full(len(sure), 0.5 / len(sure)), np.full(len(unsure), 0.5 / len(unsure))])
    bins = np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=weight * (probability - truth), minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum())
