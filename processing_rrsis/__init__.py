"""Everything around the networks: images, expressions, datasets, metrics, tools. Names are imported when used."""

from importlib import import_module
from typing import Any

_HOMES = {
    "CATEGORY_SETS": ".expression_rrsis",
    "ExpressionParser": ".expression_rrsis",
    "ParsedExpression": ".expression_rrsis",
    "RRSISImageProcessor": ".image_processing_rrsis",
    "RRSISImageProcessorTorchvision": ".image_processing_rrsis",
    "RRSISProcessor": ".processor_rrsis",
    "ReferringSegmentationPipeline": ".pipeline_rrsis",
    "OwnData": ".data",
    "RISBench": ".data",
    "RRSISD": ".data",
    "RefSegRS": ".data",
    "ReferringCollator": ".data.inputs.collate",
    "SyntheticRS": ".data",
    "TrainerMetrics": ".metrics",
    "load_benchmark": ".data",
    "compute_referring_iou": ".metrics.referring_iou",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name from its home module on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {__all__}")
    value = getattr(import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
