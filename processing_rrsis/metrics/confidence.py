"""How sure a score is: percentile bootstrap over the samples, or over the images where several samples share one.

Expressions about one image share its content, so their IoUs are not independent: resampling samples would give
intervals that are too narrow. Where images are known, whole images are drawn (cluster bootstrap).

Reference: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13 (percentile interval); Field and
Welsh, Bootstrapping clustered data, J. R. Stat. Soc. B 69 (2007), section 2 (drawing whole clusters).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .referring_iou import THRESHOLDS

SCORE_NAMES: tuple[str, ...] = ("mIoU", "oIoU", *(f"Pr@{threshold}" for threshold in THRESHOLDS))
CHUNK_DRAWS = 4_000_000  # indices held at once: 32 MB


@dataclass(frozen=True)
class BootstrapIntervals:
    """Percentile intervals of the scores of one set of samples.

    Args:
        scores: `mIoU`, `oIoU`, `Pr@0.5` … `Pr@0.9` → (lower, upper) in percent.
        confidence: Share of the resamples inside each interval.
        unit: `"image"` or `"sample"`: what was drawn.
        num_units: How many of them there are.
        num_resamples: Number of resamples.
        seed: Seed of the draws.
    """

    scores: dict[str, tuple[float, float]]
    confidence: float
    unit: str
    num_units: int
    num_resamples: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a bound that is undefined (all unions empty) is `None`."""
        bounds = {name: [None if math.isnan(bound) else bound for bound in pair] for name, pair in self.scores.items()}
        return {
            **bounds,
            "confidence": self.confidence,
            "method": f"percentile bootstrap, drawing {self.unit}s",
            "units": self.num_units,
            "resamples": self.num_resamples,
            "seed": self.seed,
        }


def bootstrap_intervals(
    intersections: Any,
    unions: Any,
    *,
    image_ids: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    num_resamples: int = 2_000,
    seed: int = 0,
) -> BootstrapIntervals:
    """Confidence intervals of mIoU, oIoU and Pr@X.

    The result does not depend on the order of the samples.

    Args:
        intersections: |P∧G| in pixels, integers (n,).
        unions: |P∨G| in pixels, integers (n,).
        image_ids: The image of every sample: whole images are drawn. `None` draws single samples, which is right only
            where no two samples share an image.
        confidence: Between 0 and 1.
        num_resamples: At least 100; 2,000 settle a bound to some 0.1 points on a split of 2,000 samples.
        seed: Seed of the draws.

    Returns:
        The intervals. With one unit (one image) each is a single point, which says nothing.

    Raises:
        ValueError: If there is no sample, lengths differ, counts are impossible or an argument is out of range.
    """
    inside, whole = _check_counts(intersections, unions)
    if not 0 < confidence < 1:
        raise ValueError(f"Expected a confidence between 0 and 1, got {confidence}.")
    if num_resamples < 100:
        raise ValueError(f"Expected at least 100 resamples, got {num_resamples}.")
    if image_ids is not None and len(image_ids) != len(inside):
        raise ValueError(f"Expected one image id per sample ({len(inside)}), got {len(image_ids)}.")
    sums = _sums_per_unit(inside, whole, image_ids)
    scores = _scores(_resample(sums, num_resamples=num_resamples, seed=seed))
    return BootstrapIntervals(
        scores={name: _percentiles(column, confidence) for name, column in zip(SCORE_NAMES, scores.T, strict=True)},
        confidence=confidence,
        unit="sample" if image_ids is None else "image",
        num_units=len(sums),
        num_resamples=num_resamples,
        seed=seed,
    )


def _check_counts(intersections: Any, unions: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both as int64 (n,), after checking."""
    inside, whole = np.asarray(intersections), np.asarray(unions)
    if inside.ndim != 1 or inside.shape != whole.shape or not len(inside):
        raise ValueError(
            f"Expected intersections and unions of one length, at least 1, got shapes {inside.shape} and "
            f"{whole.shape}."
        )
    if inside.dtype.kind not in "iu" or whole.dtype.kind not in "iu":
        raise ValueError(f"Expected counts of pixels as integers, got {inside.dtype} and {whole.dtype}.")
    bad = np.flatnonzero((inside < 0) | (inside > whole))
    if len(bad):
        first = bad[0]
        raise ValueError(
            f"Expected 0 <= intersection <= union in pixels, got {inside[first]} and {whole[first]} for sample "
            f"{first}."
        )
    return inside.astype(np.int64), whole.astype(np.int64)


def _sums_per_unit(inside: np.ndarray, whole: np.ndarray, image_ids: Sequence[Hashable] | None) -> np.ndarray:
    """What the scores are made of, summed per drawn unit in a canonical order.

    Returns:
        float64 (units, 4 + thresholds): n, Σ IoU, Σ I, Σ U and the number of samples that reach each threshold.
    """
    if image_ids is None:
        unit = np.zeros(len(inside), dtype=np.int64)
    else:
        names = sorted(set(image_ids), key=lambda name: (type(name).__name__, str(name)))
        rank = {name: number for number, name in enumerate(names)}
        unit = np.array([rank[name] for name in image_ids], dtype=np.int64)
    order = np.lexsort((whole, inside, unit))
    inside, whole, unit = inside[order], whole[order], unit[order]
    iou = np.divide(inside, whole, out=np.zeros(len(whole)), where=whole > 0)
    reached = [iou >= threshold for threshold in THRESHOLDS]
    table = np.column_stack([np.ones(len(iou)), iou, inside, whole, *reached]).astype(np.float64)
    if image_ids is None:
        return table
    return np.add.reduceat(table, np.flatnonzero(np.diff(unit, prepend=-1)), axis=0)


def _resample(sums: np.ndarray, *, num_resamples: int, seed: int) -> np.ndarray:
    """Sums over as many units as there are, drawn with replacement; float64 (num_resamples, columns)."""
    generator = np.random.default_rng(seed)
    units = len(sums)
    per_chunk = max(1, CHUNK_DRAWS // units)
    totals = []
    for start in range(0, num_resamples, per_chunk):
        rows = min(per_chunk, num_resamples - start)
        drawn = generator.integers(0, units, size=(rows, units))
        drawn += units * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units)  # how often each was drawn
        totals.append(times @ sums)
    return np.concatenate(totals)


def _scores(totals: np.ndarray) -> np.ndarray:
    """Scores in percent from sums, in the order of `SCORE_NAMES`; oIoU is NaN where the union is empty."""
    n, iou, inside, whole = totals[:, 0], totals[:, 1], totals[:, 2], totals[:, 3]
    overall = np.divide(inside, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return 100 * np.column_stack([iou / n, overall, totals[:, 4:] / n[:, None]])


def _percentiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """The central share of the values; resamples without any pixel have no oIoU and are left out."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return math.nan, math.nan
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(defined, [tail, 100 - tail])
    return float(low), float(high)
