"""The metric of referring segmentation: mIoU, oIoU and Pr@X, from counts of pixels.

Per sample I = |P∧G| and U = |P∨G|, IoU = I/U and 0 where U = 0 (the published convention: an empty prediction for an
empty reference scores 0). mIoU is the mean of the IoUs, oIoU = ΣI/ΣU, Pr@X the share of samples with IoU ≥ X; all in
percent. Counts come first and stay integers, ratios come last, so that sums do not depend on the order of the samples,
the batch size or the number of processes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

THRESHOLDS: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9)
"""The X of Pr@X."""


def as_binary_mask(mask: Any, name: str = "mask") -> np.ndarray:
    """Reads one mask and refuses everything that is not binary.

    Args:
        mask: Two-dimensional array, tensor, nested list or PIL image; bool, or numbers that are all 0 or 1, or all 0
            or 255 (an 8-bit mask image).
        name: What the mask is called in an error.

    Returns:
        Mask of shape (H, W), bool, `True` on the target.

    Raises:
        ValueError: If the mask is not two-dimensional, has no pixels or holds other values.
    """
    array = np.asarray(mask)
    if array.ndim != 2:
        raise ValueError(
            f"Expected {name} as one mask of shape (H, W), got shape {array.shape}. "
            "Hand over a list of masks, also for a single one, and drop channel axes."
        )
    if array.size == 0:
        raise ValueError(f"Expected {name} with at least one pixel, got shape {array.shape}.")
    if array.dtype == bool:
        return array
    if array.dtype.kind not in "iuf":
        raise ValueError(f"Expected {name} as bool or numbers, got dtype {array.dtype}.")
    foreground = array == 1
    if not (foreground | (array == 0)).all():
        foreground = array == 255
        if not (foreground | (array == 0)).all():
            values = np.unique(array)
            shown = ", ".join(str(value) for value in values[:5]) + (", ..." if values.size > 5 else "")
            raise ValueError(
                f"Expected {name} to be binary (bool, 0/1 or 0/255), got the values {shown}. "
                "Threshold probabilities or log-odds first, and leave out ignored pixels."
            )
    return foreground


def intersection_and_union(prediction: Any, reference: Any) -> tuple[int, int]:
    """Counts the pixels of one sample.

    Args:
        prediction: Binary mask of shape (H, W), see `as_binary_mask`.
        reference: Binary mask of the same shape.

    Returns:
        |P∧G| and |P∨G| in pixels.

    Raises:
        ValueError: If a mask is not binary or the shapes differ.
    """
    predicted = as_binary_mask(prediction, name="the prediction")
    wanted = as_binary_mask(reference, name="the reference")
    if predicted.shape != wanted.shape:
        raise ValueError(
            f"Expected prediction and reference of one shape, got {predicted.shape} and {wanted.shape}. "
            "Resize the prediction's log-odds to the reference's size first."
        )
    return int(np.count_nonzero(predicted & wanted)), int(np.count_nonzero(predicted | wanted))


@dataclass
class _GroupCounts:
    """Sums of one group of samples; the IoUs are summed exactly, so that any order gives the same last digit."""

    n: int = 0
    intersection: int = 0
    union: int = 0
    iou_sum: Fraction = Fraction(0)  # binary fractions only: at most some 120 bits, whatever the number of samples
    reached: list[int] = field(default_factory=lambda: [0] * len(THRESHOLDS))

    def update(self, intersection: int, union: int) -> None:
        iou = intersection / union if union else 0.0
        self.n += 1
        self.intersection += intersection
        self.union += union
        self.iou_sum += Fraction(iou)
        self.reached = [count + (iou >= threshold) for count, threshold in zip(self.reached, THRESHOLDS, strict=True)]

    def merge(self, other: _GroupCounts) -> None:
        self.n += other.n
        self.intersection += other.intersection
        self.union += other.union
        self.iou_sum += other.iou_sum
        self.reached = [mine + theirs for mine, theirs in zip(self.reached, other.reached, strict=True)]

    @property
    def mean_iou(self) -> float:
        return float(100 * self.iou_sum / self.n)

    def compute(self) -> dict[str, float]:
        scores: dict[str, float] = {
            "mIoU": self.mean_iou,
            "oIoU": 100 * self.intersection / self.union if self.union else math.nan,
        }
        for threshold, count in zip(THRESHOLDS, self.reached, strict=True):
            scores[f"Pr@{threshold}"] = 100 * count / self.n
        scores["n"] = self.n
        return scores


class ReferringIoU:
    """Streaming accumulator: a few integers per group, however many samples come.

    ```python
    metric = ReferringIoU()
    for prediction, reference, category in samples:
        metric.update(*intersection_and_union(prediction, reference), category=category)
    metric.compute()["mIoU"]
    ```
    """

    def __init__(self) -> None:
        self._overall = _GroupCounts()
        self._categories: dict[str, _GroupCounts] = {}
        self._kinds: dict[str, _GroupCounts] = {}

    def update(self, intersection: int, union: int, *, category: str | None = None, kind: str | None = None) -> None:
        """Adds one sample.

        Args:
            intersection: |P∧G| in pixels.
            union: |P∨G| in pixels.
            category: Name of the target's category; a blank one counts as unknown, like `None`.
            kind: Kind of the expression; blank as for `category`.

        Raises:
            ValueError: If the counts are not 0 ≤ intersection ≤ union.
        """
        intersection, union = int(intersection), int(union)
        if not 0 <= intersection <= union:
            raise ValueError(f"Expected 0 <= intersection <= union in pixels, got {intersection} and {union}.")
        self._overall.update(intersection, union)
        if category and not category.isspace():
            self._categories.setdefault(category, _GroupCounts()).update(intersection, union)
        if kind and not kind.isspace():
            self._kinds.setdefault(kind, _GroupCounts()).update(intersection, union)

    def merge(self, other: ReferringIoU) -> None:
        """Adds the samples of another accumulator, for example another process's."""
        self._overall.merge(other._overall)
        for mine, theirs in ((self._categories, other._categories), (self._kinds, other._kinds)):
            for name, counts in theirs.items():
                mine.setdefault(name, _GroupCounts()).merge(counts)

    def compute(self) -> dict[str, Any]:
        """Scores over all samples.

        Returns:
            `mIoU`, `oIoU`, `Pr@0.5` … `Pr@0.9` in percent and `n`; where categories are known also `per_category`
            (name → mIoU) and `category_average`, the mean of these. `oIoU` is NaN where every union is empty.

        Raises:
            ValueError: If no sample was added.
        """
        if not self._overall.n:
            raise ValueError("Expected at least one sample to score, got none.")
        scores: dict[str, Any] = self._overall.compute()
        if self._categories:
            per_category = {name: counts.mean_iou for name, counts in sorted(self._categories.items())}
            scores["per_category"] = per_category
            scores["category_average"] = math.fsum(per_category.values()) / len(per_category)
        return scores

    def by_category(self) -> dict[str, dict[str, float]]:
        """Scores of every category, by name."""
        return {name: counts.compute() for name, counts in sorted(self._categories.items())}

    def by_kind(self) -> dict[str, dict[str, float]]:
        """Scores of every kind of expression, by name."""
        return {name: counts.compute() for name, counts in sorted(self._kinds.items())}


def compute_referring_iou(
    predictions: Iterable[Any], references: Iterable[Any], categories: Sequence[str | None] | None = None
) -> dict[str, Any]:
    """Scores predicted masks against their references.

    Args:
        predictions: Binary masks of shape (H, W), one per sample; sizes may differ between samples.
        references: As many binary masks, each of its prediction's shape.
        categories: Category of every sample, for the mean per category; `None` or blank where it is not known.

    Returns:
        `mIoU`, `oIoU`, `Pr@0.5` … `Pr@0.9` in percent and `n`; with `categories` also `per_category` (name → mIoU) and
        `category_average`. `oIoU` is NaN where all masks are empty.

    Raises:
        ValueError: If there is no sample, the numbers of items differ, a mask is not binary or shapes do not agree.
    """
    predicted, wanted = list(predictions), list(references)
    if len(predicted) != len(wanted):
        raise ValueError(f"Expected as many predictions as references, got {len(predicted)} and {len(wanted)}.")
    if categories is not None and len(categories) != len(predicted):
        raise ValueError(f"Expected one category per prediction ({len(predicted)}), got {len(categories)}.")
    metric = ReferringIoU()
    for index, (prediction, reference) in enumerate(zip(predicted, wanted, strict=True)):
        try:
            intersection, union = intersection_and_union(prediction, reference)
        except ValueError as error:
            raise ValueError(f"Sample {index}: {error}") from error
        metric.update(intersection, union, category=None if categories is None else categories[index])
    return metric.compute()
