"""`evaluate` module of the metric of referring segmentation.

Self-contained on purpose: it is loaded by path or from a Space, without this project. What it repeats is in
`processing_rrsis.metrics.referring_iou` and `processing_rrsis.metrics.confidence`; tests hold them equal.
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
    categories: optional list with the category name of every sample; None or blank where it is not known.
    confidence_level: optional, such as 0.95: adds confidence_intervals, by percentile bootstrap.
    image_ids: optional list with the image of every sample: whole images are drawn. Needed where samples share images,
        else the intervals are too narrow.
    resamples: number of bootstrap resamples, at least 100.
    seed: seed of the bootstrap.

Returns:
    mIoU, oIoU, Pr@0.5 ... Pr@0.9 in percent, n; with categories also per_category and category_average; with a
    confidence_level also confidence_intervals: name -> [lower, upper] in percent.

Examples:
    >>> metric = evaluate.load("processing_rrsis/metrics/rrsis_iou")
    >>> metric.compute(predictions=[[[1, 1], [0, 0]]], references=[[[1, 0], [0, 0]]])["mIoU"]
    50.0
"""

_CITATION = ""

_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
_SCORE_NAMES = ("mIoU", "oIoU", *(f"Pr@{threshold}" for threshold in _THRESHOLDS))


def _check_mask(mask: Any, name: str) -> None:
    """Refuse what the cast to 8 bit would change without a word, such as probabilities."""
    array = np.asarray(mask)
    if array.ndim != 2:
        raise ValueError(
            f"Expected {name} as one mask of shape (H, W), got shape {array.shape}. "
            "Hand over a list of masks, also for a single one, and drop channel axes."
        )
    if array.size == 0:
        raise ValueError(f"Expected {name} with at least one pixel, got shape {array.shape}.")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"Expected {name} as bool or numbers, got dtype {array.dtype}.")
    if not ((array == 0) | (array == 1)).all():
        values = np.unique(array)
        shown = ", ".join(str(value) for value in values[:5]) + (", ..." if values.size > 5 else "")
        raise ValueError(
            f"Expected {name} to be binary (masks of 0 and 1), got the values {shown}. Threshold probabilities or "
            "log-odds first, and hand over `mask > 127` for 8-bit masks."
        )


def _count_pixels(predictions: Sequence[Any], references: Sequence[Any]) -> Iterator[tuple[int, int]]:
    for index, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
        predicted, wanted = np.asarray(prediction), np.asarray(reference)
        if predicted.ndim != 2 or predicted.shape != wanted.shape:
            raise ValueError(
                f"Sample {index}: expected two masks of one shape (H, W), got {predicted.shape} and {wanted.shape}."
            )
        yield int(((predicted == 1) & (wanted == 1)).sum()), int(((predicted == 1) | (wanted == 1)).sum())


def _intervals(
    counts: Sequence[tuple[int, int]], image_ids: Sequence[str] | None, level: float, resamples: int, seed: int
) -> dict[str, list[float]]:
    """Percentile bootstrap over the samples, or over the images; the order of the samples changes nothing."""
    names = [""] * len(counts) if image_ids is None else [str(name) for name in image_ids]
    ordered = sorted((name, *count) for name, count in zip(names, counts, strict=True))
    inside, whole = np.array([count for _, *count in ordered]).T
    iou = np.divide(inside, whole, out=np.zeros(len(whole)), where=whole > 0)
    table = np.column_stack([np.ones(len(iou)), iou, inside, whole, *(iou >= x for x in _THRESHOLDS)])
    if image_ids is not None:
        table = np.add.reduceat(table, np.unique([name for name, *_ in ordered], return_index=True)[1])
    generator, units = np.random.default_rng(seed), len(table)
    draws = (generator.integers(0, units, units) for _ in range(resamples))
    totals = np.array([np.bincount(drawn, minlength=units) @ table for drawn in draws])
    n, union = totals[:, 0], totals[:, 3]
    overall = np.divide(totals[:, 2], union, out=np.full(resamples, np.nan), where=union > 0)
    bounds = {}
    for name, values in zip(_SCORE_NAMES, (totals[:, 1] / n, overall, *(totals[:, 4:] / n[:, None]).T), strict=True):
        defined = values[~np.isnan(values)]  # resamples without any pixel have no oIoU
        tails = [50 * (1 - level), 50 * (1 + level)]
        bounds[name] = (100 * np.percentile(defined, tails)).tolist() if len(defined) else [math.nan, math.nan]
    return bounds


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

    def add(self, *, prediction: Any = None, reference: Any = None, **kwargs: Any) -> None:
        """Add one sample, as in `evaluate`; values that are not binary raise a ValueError."""
        self._check([prediction], [reference])
        super().add(prediction=prediction, reference=reference, **kwargs)

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """Add samples, as in `evaluate`; values that are not binary raise a ValueError."""
        self._check(predictions, references)
        super().add_batch(predictions=predictions, references=references, **kwargs)

    def compute(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> dict[str, Any] | None:
        """Score what was added and what is handed over, as in `evaluate`; no sample at all raises a ValueError."""
        if self.writer is None and not any(len(given) for given in (predictions, references) if given is not None):
            raise ValueError("Expected at least one sample to score, got none.")
        return super().compute(predictions=predictions, references=references, **kwargs)

    def _check(self, predictions: Any, references: Any) -> None:
        """Check samples before `evaluate` casts them to the column's type."""
        if predictions is None or references is None:
            raise ValueError("Expected predictions and references, got only one or none of them.")
        if len(predictions) != len(references):
            raise ValueError(
                f"Expected as many predictions as references, got {len(predictions)} and {len(references)}."
            )
        if self.config_name != "counts":
            for index, pair in enumerate(zip(predictions, references, strict=True)):
                for mask, name in zip(pair, ("the prediction", "the reference"), strict=True):
                    try:
                        _check_mask(mask, name)
                    except ValueError as error:
                        raise ValueError(f"Sample {index}: {error}") from error

    def _compute(
        self,
        predictions: Sequence[Any],
        references: Sequence[Any],
        categories: Sequence[str | None] | None = None,
        confidence_level: float | None = None,
        image_ids: Sequence[str] | None = None,
        resamples: int = 1000,
        seed: int = 0,
    ) -> dict[str, Any]:
        if self.config_name == "counts":
            counts = [(int(i), int(u)) for i, u in zip(predictions, references, strict=True)]
        else:
            counts = list(_count_pixels(predictions, references))
        if not counts:
            raise ValueError("Expected at least one sample to score, got none.")
        for name, values in (("category", categories), ("image id", image_ids)):
            if values is not None and len(values) != len(counts):
                raise ValueError(f"Expected one {name} per sample ({len(counts)}), got {len(values)}.")
        if confidence_level is not None and not (0 < confidence_level < 1 and resamples >= 100):
            raise ValueError(
                f"Expected a confidence_level between 0 and 1 and at least 100 resamples, got {confidence_level} and "
                f"{resamples}."
            )
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
        groups = defaultdict(list)
        for category, iou in zip([] if categories is None else categories, ious, strict=False):
            if category and not category.isspace():
                groups[category].append(iou)
        if groups:
            scores["per_category"] = {
                name: 100 * math.fsum(values) / len(values) for name, values in sorted(groups.items())
            }
            scores["category_average"] = math.fsum(scores["per_category"].values()) / len(groups)
        if confidence_level is not None:
            scores["confidence_intervals"] = _intervals(counts, image_ids, confidence_level, resamples, seed)
        return scores
