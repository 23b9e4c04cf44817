"""Whether anything that an expression names is there at all: calibrated log-odds of a network's best pixels.

A network that was trained on objects that are there answers with a mask in any case. How sure it is of its best
pixels tells more: they are pooled to one number an image, and a cut and a temperature, fitted on validation samples,
turn that into a probability. Nothing is trained. Travels to the Hub.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

BEST_SHARE = 0.002
"""Of an image's pixels, the ones with the highest log-odds, at least one, whose mean is taken."""
MIN_SAMPLES = 20


def pooled_log_odds(logits: torch.Tensor) -> torch.Tensor:
    """Mean log-odds of the best pixels.

    Args:
        logits: (B, H, W), foreground log-odds.

    Returns:
        Float32 (B,).
    """
    flat = logits.detach().float().flatten(1)
    count = max(1, round(BEST_SHARE * flat.shape[1]))
    return flat.topk(count, dim=1).values.mean(1)


LARGEST = 1000.0
"""Log-odds; those of networks lie within 100."""


@dataclass(frozen=True)
class Calibration:
    """How pooled log-odds become the probability that the object is there.

    Attributes:
        cut: Pooled log-odds at which the probability is one half.
        temperature: Log-odds by which the probability's own move by one.
    """

    cut: float
    temperature: float = 1.0

    def __post_init__(self) -> None:
        numbers = (self.cut, self.temperature)
        if not (
            all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers)
            and -LARGEST <= self.cut <= LARGEST
            and 1 / LARGEST <= self.temperature <= LARGEST
        ):
            raise ValueError(
                f"presence: expected a cut of -{LARGEST:g} to {LARGEST:g} log-odds and a temperature from "
                f"{1 / LARGEST:g} to {LARGEST:g}, got {str(numbers)[:80]}"
            )

    def __call__(self, pooled: torch.Tensor) -> torch.Tensor:
        """Probabilities in [0, 1], (B,), of pooled log-odds (B,)."""
        return ((pooled - self.cut) / self.temperature).sigmoid()


def fit_calibration(
    there: Sequence[float] | NDArray[Any], missing: Sequence[float] | NDArray[Any], kept: float
) -> Calibration:
    """Find cut and temperature.

    Args:
        there: Pooled log-odds (N,) of samples whose object is there.
        missing: Of samples whose object is not, (M,): how steep the probability is follows from both.
        kept: Share of the first that must be found, in (0, 1): their quantile is the cut.

    Raises:
        ValueError: If there are too few samples, or numbers that are none.
    """
    present, absent = np.asarray(there, dtype=np.float64), np.asarray(missing, dtype=np.float64)
    if min(len(present), len(absent)) < MIN_SAMPLES or not np.isfinite(np.concatenate([present, absent])).all():
        raise ValueError(
            f"presence: expected finite log-odds of at least {MIN_SAMPLES} samples with and without their object, got "
            f"{len(present)} and {len(absent)}"
        )
    if not 0 < kept < 1:
        raise ValueError(f"presence: expected a share between 0 and 1 to be kept, got {kept}")
    cut = float(np.quantile(present, 1 - kept))
    signed = np.concatenate([present - cut, cut - absent])
    weights = np.concatenate([np.full(len(present), 1 / len(present)), np.full(len(absent), 1 / len(absent))])
    steps = np.geomspace(0.05, 50, 400)  # the loss is smooth in the temperature's logarithm: 2 % apart is near enough
    losses = [float((weights * np.logaddexp(0, -signed / step)).sum()) for step in steps]
    return Calibration(cut, float(steps[int(np.argmin(losses))]))


def area_under_curve(there: NDArray[np.float64], missing: NDArray[np.float64]) -> float:
    """Probability that a sample with its object has the larger number than one without; AUROC, in [0, 1]."""
    ordered = np.sort(missing)
    below, not_above = np.searchsorted(ordered, there, "left"), np.searchsorted(ordered, there, "right")
    return float((below + not_above).mean() / (2 * len(ordered)))
