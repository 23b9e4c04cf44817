"""Tell transformers' Auto classes and pipelines which processor classes go with our configurations."""

from collections.abc import Iterable
from typing import Any

from transformers import AutoImageProcessor, AutoModel, AutoProcessor
from transformers.models.auto.image_processing_auto import DEFAULT_TO_PIL_BACKEND_IMAGE_PROCESSORS
from transformers.pipelines import PIPELINE_REGISTRY

from .image_processing_rrsis import RRSISImageProcessor, RRSISImageProcessorTorchvision
from .pipeline_rrsis import TASK, ReferringSegmentationPipeline
from .processor_rrsis import RRSISProcessor


def register_auto_classes(config_classes: Iterable[type]) -> None:
    """Register processor, image processor and pipeline; calling it again changes nothing.

    Without it `RRSISProcessor.from_pretrained` of the installed package would ask for `trust_remote_code`, because
    transformers loads the parts of a processor through the Auto classes. It also marks both classes so that their
    `save_pretrained` carries the code along.

    Args:
        config_classes: the configuration classes, e.g. `(LAVTConfig, DANetConfig, FIANetConfig)`.
    """
    backends: dict[str, Any] = {"torchvision": RRSISImageProcessorTorchvision, "pil": RRSISImageProcessor}
    # Else torchvision would be the default; the published numbers are PIL's.
    if RRSISImageProcessor.__name__ not in DEFAULT_TO_PIL_BACKEND_IMAGE_PROCESSORS:
        DEFAULT_TO_PIL_BACKEND_IMAGE_PROCESSORS.append(RRSISImageProcessor.__name__)
    for config_class in config_classes:
        AutoImageProcessor.register(config_class, image_processor_classes=backends, exist_ok=True)
        AutoProcessor.register(config_class, RRSISProcessor, exist_ok=True)
    for image_processor in backends.values():
        image_processor.register_for_auto_class("AutoImageProcessor")
    RRSISProcessor.register_for_auto_class("AutoProcessor")
    if TASK not in PIPELINE_REGISTRY.get_supported_tasks():
        PIPELINE_REGISTRY.register_pipeline(
            TASK, pipeline_class=ReferringSegmentationPipeline, pt_model=AutoModel, type="multimodal"
        )
