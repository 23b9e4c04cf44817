"""Scores over seeds: mean, spread, and how sure the difference of two presets is.

Runs of one seed share the order of the samples, so differences are taken seed by seed. The interval is Student's for
their mean: NIST/SEMATECH, e-Handbook of Statistical Methods, section 1.3.5.2.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

CONFIDENCE = 0.95
# 97.5 % quantiles of Student's t for 1 to 30 degrees of freedom: NIST/SEMATECH, e-Handbook of Statistical Methods,
# section 1.3.6.7.2, table of upper critical values, column 0.975.
T_QUANTILES = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


def t_quantile(degrees: int) -> float:
    """97.5 % quantile of Student's t; beyond 30 degrees of freedom that of 30, a little wide.

    Args:
        degrees: Degrees of freedom, at least 1.

    Raises:
        ValueError: If there are none.
    """
    if degrees < 1:
        raise ValueError(f"t quantile: expected at least 1 degree of freedom, got {degrees}; give two samples or more")
    return T_QUANTILES[min(degrees, len(T_QUANTILES)) - 1]


@dataclass(frozen=True)
class Spread:
    """A score over seeds.

    Args:
        mean: In percent; NaN where one of the runs has it undefined.
        deviation: Sample standard deviation (n − 1) in points; `None` for a single run.
        n: Number of runs.
    """

    mean: float
    deviation: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """Mean and deviation; `None` without values."""
        found = list(values)
        if not found:
            return None
        if any(math.isnan(value) for value in found):
            return cls(math.nan, None, len(found))
        return cls(statistics.fmean(found), statistics.stdev(found) if len(found) > 1 else None, len(found))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "mean": None if math.isnan(self.mean) else self.mean,
            "standard_deviation": self.deviation,
            "n": self.n,
        }


@dataclass(frozen=True)
class PairedDifference:
    """A score minus another preset's, over the seeds that both have.

    Args:
        mean: In points.
        interval: 95 % t interval (lower, upper) in points; `None` for a single pair.
        seeds: The seeds of the pairs.
    """

    mean: float
    interval: tuple[float, float] | None
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, values: Mapping[int, float], reference: Mapping[int, float]) -> PairedDifference | None:
        """Differences `values` − `reference` by seed; `None` without a pair of defined scores.

        Args:
            values: Seed → score in percent.
            reference: The same of the preset that is compared with.
        """
        pairs = {seed: values[seed] - reference[seed] for seed in sorted(set(values) & set(reference))}
        pairs = {seed: value for seed, value in pairs.items() if not math.isnan(value)}
        if not pairs:
            return None
        mean, interval = statistics.fmean(pairs.values()), None
        if len(pairs) > 1:
            half = t_quantile(len(pairs) - 1) * statistics.stdev(pairs.values()) / math.sqrt(len(pairs))
            interval = (mean - half, mean + half)
        return cls(mean, interval, tuple(pairs))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "mean": self.mean,
            "interval": None if self.interval is None else list(self.interval),
            "confidence": CONFIDENCE,
            "seeds": list(self.seeds),
        }
