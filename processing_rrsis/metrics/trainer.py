"""The metric for transformers' `Trainer`: mIoU, oIoU and Pr@X at the size of the model's input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .referring_iou import ReferringIoU

if TYPE_CHECKING:
    from transformers import EvalPrediction

IGNORED_LABEL = 255


class TrainerMetrics:
    """`compute_metrics` of `Trainer`: counts pixels batch by batch and keeps a few integers.

    With `TrainingArguments(batch_eval_metrics=True)` a batch's logits are dropped once they are counted. Without it
    `Trainer` hands over all logits of the data set at once, which gives the same scores and needs memory for them. The
    scores do not depend on the batch size or the number of processes, since counts are whole numbers and `Trainer`
    drops the samples that it repeats to fill the last batch.

    A pixel is predicted where its probability is above one half; pixels with the label 255 are left out. Masks are
    those of the processor's size: published numbers, which count at the images' own size, come from `evaluate_model`.

    Example:
        >>> import torch
        >>> from transformers import EvalPrediction
        >>> from processing_rrsis.metrics import TrainerMetrics

        >>> logits = torch.tensor([[[2.0, -1.0], [0.5, -3.0]]])  # log-odds (B, H, W)
        >>> labels = torch.tensor([[[1, 0], [0, 255]]])
        >>> scores = TrainerMetrics()(EvalPrediction(logits, labels))
        >>> scores["mIoU"], scores["Pr@0.5"], scores["n"]
        (50.0, 100.0, 1)
    """

    def __init__(self) -> None:
        self._metric = ReferringIoU()

    def __call__(self, prediction: EvalPrediction, compute_result: bool = True) -> dict[str, float]:
        """Count a batch and, after the last one, give the scores and start afresh.

        Args:
            prediction: `predictions`, log-odds (B, H, W), alone or first of a tuple; `label_ids` (B, H, W).
            compute_result: whether this is the last batch of the data set.

        Returns:
            `mIoU`, `oIoU`, `Pr@0.5` … `Pr@0.9` in percent and `n`; an empty dictionary before the last batch.

        Raises:
            ValueError: If log-odds and labels differ in shape.
        """
        logits = prediction.predictions
        log_odds = torch.as_tensor(logits[0] if isinstance(logits, tuple | list) else logits)
        labels = torch.as_tensor(prediction.label_ids)
        if log_odds.shape != labels.shape or log_odds.ndim != 3:
            raise ValueError(
                "Expected log-odds and labels of one shape (B, H, W), got "
                f"{tuple(log_odds.shape)} and {tuple(labels.shape)}."
            )
        predicted, wanted = (log_odds > 0) & (labels != IGNORED_LABEL), labels == 1
        intersections = (predicted & wanted).sum(dim=(1, 2)).tolist()
        unions = (predicted | wanted).sum(dim=(1, 2)).tolist()
        for intersection, union in zip(intersections, unions, strict=True):
            self._metric.update(intersection, union)
        if not compute_result:
            return {}
        metric, self._metric = self._metric, ReferringIoU()
        return metric.compute()
