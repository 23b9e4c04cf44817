"""The networks: tensors in, log-odds and loss out.

Importing this package registers the models, their processor and the pipeline with transformers, so that the Auto
classes find them without `trust_remote_code`.
"""

from transformers import AutoConfig, AutoModel, AutoModelForImageSegmentation

from processing_rrsis.registration import register_auto_classes

from .configuration_rrsis import DANetConfig, FIANetConfig, LAVTConfig, RMSINConfig
from .modeling_danet import DANetForReferringSegmentation
from .modeling_fianet import FIANetForReferringSegmentation
from .modeling_lavt import LAVTForReferringSegmentation, ReferringSegmentationOutput
from .modeling_rmsin import RMSINForReferringSegmentation

MODELS = {
    "lavt": LAVTForReferringSegmentation,
    "danet": DANetForReferringSegmentation,
    "fianet": FIANetForReferringSegmentation,
    "rmsin": RMSINForReferringSegmentation,
}

for _model in MODELS.values():
    AutoConfig.register(_model.config_class.model_type, _model.config_class, exist_ok=True)
    AutoModel.register(_model.config_class, _model, exist_ok=True)
    AutoModelForImageSegmentation.register(_model.config_class, _model, exist_ok=True)
    _model.config_class.register_for_auto_class()
    _model.register_for_auto_class("AutoModel")
register_auto_classes(model.config_class for model in MODELS.values())

__all__ = [
    "MODELS",
    "DANetConfig",
    "DANetForReferringSegmentation",
    "FIANetConfig",
    "FIANetForReferringSegmentation",
    "LAVTConfig",
    "LAVTForReferringSegmentation",
    "RMSINConfig",
    "RMSINForReferringSegmentation",
    "ReferringSegmentationOutput",
]
