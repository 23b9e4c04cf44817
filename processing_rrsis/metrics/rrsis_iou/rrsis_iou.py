"""`evaluate` module of the metric of referring segmentation.

Self-contained on purpose: it is loaded by path or from a Space, without this project. The definition it repeats is
`processing_rrsis.metrics.referring_iou`; a test holds the two equal.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

_DESCRIPTION = """
IoU of referring segmentation: one expression, one binary mask. Per sample I = |P∧G|, U = |P∨G|, IoU = I/U and 0 where
U = 0. mIoU is the mean IoU, oIoU = ΣI/ΣU, Pr@X the share of samples with IoU >= X; all in percent.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: binary masks (H, W) of 0 and 1; with the configuration "counts" the intersections in pixels.
    references: binary masks of the same shapes; with the configuration "counts" the unions in pixels.
    categories: optional list with the category name of every sample.

Returns:
    mIoU, oIoU, Pr@0.5 ... Pr@0.9 in percent, n; with categories also per_category and category_average.

Examples:
    >>> metric = evaluate.load("processing_rrsis/metrics/rrsis_iou")
    >>> metric.compute(predictions=[[[1, 1], [0, 0]]], references=[[[1, 0], [0, 0]]])["mIoU"]
    50.0
"""

_CITATION = ""

_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


def _count_pixels(predictions: Sequence[Any], references: Sequence[Any]) -> Iterator[tuple[int, int]]:
    for index, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
        predicted, wanted = np.asarray(prediction), np.asarray(reference)
        if predicted.ndim != 2 or predicted.shape != wanted.shape:
            raise ValueError(
                f"Sample {index}: expected two masks of one shape (H, W), got {predicted.shape} and {wanted.shape}."
            )
        if max(predicted.max(initial=0), wanted.max(initial=0)) > 1:
            raise ValueError(f"Sample {index}: expected masks of 0 and 1. Hand over `mask > 127` for 8-bit masks.")
        yield int(((predicted == 1) & (wanted == 1)).sum()), int(((predicted == 1) | (wanted == 1)).sum())


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class RRSISIoU(evaluate.Metric):
    """mIoU, oIoU and Pr@X of referring segmentation, in percent."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name in ("default", "masks"):
            mask = datasets.Sequence(datasets.Sequence(datasets.Value("uint8")))
            features = {"predictions": mask, "references": mask}
        elif self.config_name == "counts":
            features = {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
        else:
            raise ValueError(f'Expected the configuration "masks" or "counts", got {self.config_name!r}.')
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(features),
        )

    def _compute(
        self, predictions: Sequence[Any], references: Sequence[Any], categories: Sequence[str] | None = None
    ) -> dict[str, Any]:
        if self.config_name == "counts":
            counts = [(int(i), int(u)) for i, u in zip(predictions, references, strict=True)]
        else:
            counts = list(_count_pixels(predictions, references))
        if categories is not None and len(categories) != len(counts):
            raise ValueError(f"Expected one category per sample ({len(counts)}), got {len(categories)}.")
        for index, (intersection, union) in enumerate(counts):
            if not 0 <= intersection <= union:
                raise ValueError(f"Sample {index}: expected 0 <= intersection <= union, got {intersection}, {union}.")
        ious = [intersection / union if union else 0.0 for intersection, union in counts]
        total = sum(union for _, union in counts)
        scores: dict[str, Any] = {
            "mIoU": 100 * math.fsum(ious) / len(ious),
            "oIoU": 100 * sum(intersection for intersection, _ in counts) / total if total else math.nan,
        }
        for threshold in _THRESHOLDS:
            scores[f"Pr@{threshold}"] = 100 * sum(iou >= threshold for iou in ious) / len(ious)
        scores["n"] = len(ious)
        if categories is not None:
            groups = defaultdict(list)
            for category, iou in zip(categories, ious, strict=True):
                groups[category].append(iou)
            scores["per_category"] = {
                name: 100 * math.fsum(values) / len(values) for name, values in sorted(groups.items())
            }
            scores["category_average"] = math.fsum(scores["per_category"].values()) / len(groups)
        return scores
