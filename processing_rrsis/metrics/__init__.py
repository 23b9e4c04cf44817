"""The metric of referring segmentation, the one evaluation loop and its text controls."""

from .confidence import BootstrapIntervals, bootstrap_intervals
from .controls import CONTROLS, control_expressions, evaluate_with_controls
from .evaluation import TIE_MARGIN, EvaluationResult, evaluate_model
from .referring_iou import ReferringIoU, compute_referring_iou, intersection_and_union
from .trainer import TrainerMetrics

__all__ = [
    "CONTROLS",
    "TIE_MARGIN",
    "BootstrapIntervals",
    "EvaluationResult",
    "ReferringIoU",
    "TrainerMetrics",
    "bootstrap_intervals",
    "compute_referring_iou",
    "control_expressions",
    "evaluate_model",
    "evaluate_with_controls",
    "intersection_and_union",
]
