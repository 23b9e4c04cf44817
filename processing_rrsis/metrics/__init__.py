"""The metric of referring segmentation, the one evaluation loop and its text controls."""

from .controls import CONTROLS, control_expressions, evaluate_with_controls
from .evaluation import EvaluationResult, evaluate_model
from .referring_iou import ReferringIoU, compute_referring_iou, intersection_and_union

__all__ = [
    "CONTROLS",
    "EvaluationResult",
    "ReferringIoU",
    "compute_referring_iou",
    "control_expressions",
    "evaluate_model",
    "evaluate_with_controls",
    "intersection_and_union",
]
