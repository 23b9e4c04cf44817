"""What an evaluation returns: scores computed from integer counts per sample."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .confidence import BootstrapIntervals, bootstrap_intervals
from .referring_iou import ReferringIoU

COUNT_NAMES = (
    "index",
    "intersection",
    "union",
    "predicted_px",
    "reference_px",
    "scored_px",
    "native_intersection",
    "native_union",
    "native_differs",
    "input_height_px",
    "input_width_px",
    "repeated",
    "difference_e9",
)
"""What is counted per sample: areas in pixels; the last two are of the check by batches of one (`repeated` 0 or 1, the
largest difference of the log-odds in units of 1e-9)."""


@dataclass
class EvaluationResult:
    """Scores of one model on one split, with the counts they come from.

    Args:
        overall: `mIoU`, `oIoU`, `Pr@0.5` … `Pr@0.9` in percent and `n`, at the model's input size; where the dataset
            has categories also `per_category` and `category_average`.
        by_kind: The same scores per kind of expression; empty where the dataset has no `kind`.
        by_category: The same scores per category; empty where the dataset has no `category`.
        native: Overall scores at each mask's own size, the log-odds resized bilinearly; `None` where no mask has
            another size than the model's input.
        absent: For the samples whose reference is empty: `n`, `empty_prediction` (percent of them with an empty
            prediction: N-acc of GRES, Liu et al., CVPR 2023) and `predicted_area` (mean percent of the image that is
            predicted); `None` without such samples. Where others have their object, also GRES's `T_acc` (percent of
            those with a prediction) and `gIoU` (mean IoU of all in percent, 100 where rightly nothing is predicted).
        intersections: |P∧G| per sample in the order of the dataset, int64 (n,).
        unions: |P∨G| per sample, int64 (n,).
        native_intersections: As `intersections`, at the masks' own size.
        native_unions: As `unions`, at the masks' own size.
        kinds: Kind of each sample's expression, or `None`.
        threshold: Probability above which a pixel counts as predicted.
        resolution: Note on the sizes that were scored.
        seconds: Wall-clock time of the evaluation.
        image_ids: Image of each sample, or `None`.
        categories: Category of each sample, or `None`.
        batch_check: What the comparison with batches of one found, see `evaluate_model`; `None` where it was not
            asked for.
    """

    overall: dict[str, Any]
    by_kind: dict[str, dict[str, float]]
    by_category: dict[str, dict[str, float]]
    native: dict[str, Any] | None
    absent: dict[str, float] | None
    intersections: np.ndarray
    unions: np.ndarray
    native_intersections: np.ndarray
    native_unions: np.ndarray
    kinds: list[str | None] | None = field(repr=False)
    threshold: float
    resolution: str
    seconds: float
    image_ids: list[str | None] | None = field(default=None, repr=False)
    categories: list[str | None] | None = field(default=None, repr=False)
    batch_check: dict[str, Any] | None = None

    @property
    def ious(self) -> np.ndarray:
        """IoU per sample at the input size, float64 (n,) in [0, 1]; 0 where the union is empty."""
        return np.divide(self.intersections, self.unions, out=np.zeros(len(self.unions)), where=self.unions > 0)

    def intervals(
        self, *, native: bool = False, kind: str | None = None, category: str | None = None, **options: Any
    ) -> BootstrapIntervals:
        """Bootstrap intervals of the scores; whole images are drawn where every sample's image is known.

        Args:
            native: For the scores at the masks' own size instead of the input size.
            kind: Only the samples of this kind of expression.
            category: Only the samples of this category.
            options: `confidence`, `num_resamples` and `seed` of `bootstrap_intervals`.

        Returns:
            The intervals.

        Raises:
            ValueError: If no sample is of that kind and category.
        """
        chosen = np.ones(len(self.unions), dtype=bool)
        for wanted, names in ((kind, self.kinds), (category, self.categories)):
            if wanted is not None:
                chosen &= np.array([name == wanted for name in names or [None] * len(chosen)])
        if not chosen.any():
            raise ValueError(f"Expected samples of kind {kind!r} and category {category!r}, the split has none.")
        images = self.image_ids
        if images is not None:
            images = None if None in images else [images[index] for index in np.flatnonzero(chosen)]
        return bootstrap_intervals(
            (self.native_intersections if native else self.intersections)[chosen],
            (self.native_unions if native else self.unions)[chosen],
            image_ids=images,
            **options,
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything but the per-sample counts and the time, ready for JSON (an undefined score is `None`)."""
        return _without_nan(
            {
                "overall": self.overall,
                "by_kind": self.by_kind,
                "by_category": self.by_category,
                "native": self.native,
                "absent": self.absent,
                "threshold": self.threshold,
                "resolution": self.resolution,
            }
        )


def score_counts(
    counts: dict[str, np.ndarray],
    *,
    kinds: list[str | None] | None,
    categories: list[str | None] | None,
    threshold: float,
    seconds: float,
    image_ids: list[str | None] | None = None,
    tie_margin: float | None = None,
) -> EvaluationResult:
    """Scores of a split from its counts.

    Args:
        counts: `COUNT_NAMES` as int64 arrays (n,), in the order of the dataset.
        kinds: Kind of each sample's expression, where known.
        categories: Category of each sample, where known.
        threshold: Probability above which a pixel was counted as predicted.
        seconds: Wall-clock time of the counting.
        image_ids: Image of each sample, where known.
        tie_margin: Log-odds below which a pixel was checked by a batch of one; `None` where nothing was checked.

    Returns:
        The scores at the input size, per kind and category, and at the masks' own size where it differs.
    """
    metric, native = ReferringIoU(), ReferringIoU()
    for index in range(len(counts["index"])):
        names = {
            "kind": None if kinds is None else kinds[index],
            "category": None if categories is None else categories[index],
        }
        metric.update(counts["intersection"][index], counts["union"][index], **names)
        native.update(counts["native_intersection"][index], counts["native_union"][index], **names)
    resized = int(counts["native_differs"].sum())
    sizes = sorted(set(zip(counts["input_height_px"].tolist(), counts["input_width_px"].tolist(), strict=True)))
    smallest, largest = (f"{height}×{width}" for height, width in (sizes[0], sizes[-1]))
    resolution = f"{smallest} px (model input)" if len(sizes) == 1 else f"{smallest} to {largest} px (model input)"
    if resized:
        resolution += f"; native: own size of each mask, {resized} of {len(counts['index'])} differ from the input"
    batch_check = None
    if tie_margin is not None:
        batch_check = {
            "margin": tie_margin if math.isfinite(tie_margin) else "every sample alone",
            "repeated": int(counts["repeated"].sum()),
            "largest_difference": float(counts["difference_e9"].max()) / 1e9,
        }
    return EvaluationResult(
        overall=metric.compute(),
        by_kind=metric.by_kind(),
        by_category=metric.by_category(),
        native=native.compute() if resized else None,
        absent=_score_absent(counts),
        intersections=counts["intersection"],
        unions=counts["union"],
        native_intersections=counts["native_intersection"],
        native_unions=counts["native_union"],
        kinds=kinds,
        threshold=threshold,
        resolution=resolution,
        seconds=seconds,
        image_ids=image_ids,
        categories=categories,
        batch_check=batch_check,
    )


def _score_absent(counts: dict[str, np.ndarray]) -> dict[str, float] | None:
    """What is predicted where nothing is there."""
    absent = counts["reference_px"] == 0
    if not absent.any():
        return None
    predicted = counts["predicted_px"][absent]
    share = predicted / np.maximum(counts["scored_px"][absent], 1)
    scores = {
        "n": int(absent.sum()),
        "empty_prediction": float(100 * (predicted == 0).mean()),
        "predicted_area": float(100 * share.mean()),
    }
    if not absent.all():
        ious = counts["intersection"][~absent] / counts["union"][~absent]
        scores["T_acc"] = float(100 * (counts["predicted_px"][~absent] > 0).mean())
        scores["gIoU"] = float(100 * (ious.sum() + (predicted == 0).sum()) / len(absent))
    return scores


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
