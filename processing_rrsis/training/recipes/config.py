"""The configuration of a recipe's network, checked against the fields that the network has."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import BertConfig

from modeling_rrsis import MODELS
from modeling_rrsis.configuration_rrsis import LAVTConfig

from ...errors import error_text
from .recipe import Recipe

LIBRARY_FIELDS = ("attn_implementation",)  # of transformers, that a recipe may set


def model_config(recipe: Recipe, **text_fields: Any) -> LAVTConfig:
    """The configuration of a recipe's network.

    The backbone follows from the name of the pretrained Swin, the image size from `image_size_px`.

    Args:
        recipe: The recipe.
        **text_fields: Fields of the text encoder in place of the recipe's, such as `vocab_size`.

    Raises:
        ValueError: If the configuration has no such field, or refuses its value.
    """
    config_class = MODELS[recipe.model].config_class
    known = {*_own_fields(config_class), *LIBRARY_FIELDS} - {"image_size"}
    _check_fields(recipe.config, known, place="config")
    _check_fields(recipe.config.get("text_config", {}), set(BertConfig().to_dict()), place="config.text_config")
    fields: dict[str, Any] = {**recipe.config, "image_size": recipe.image_size_px}
    if recipe.vision is not None:
        fields.setdefault("backbone", recipe.vision.split(".")[0])
    if "text_config" in fields or text_fields:
        fields["text_config"] = {**fields.get("text_config", {}), **text_fields}
    try:
        return config_class(**fields)
    except (StrictDataclassError, ValueError, TypeError) as error:
        raise ValueError(f"config: {error_text(error)}") from error


def _own_fields(config_class: type) -> set[str]:
    """Arguments of a configuration class and of its parents up to `LAVTConfig`."""
    classes = [one for one in config_class.__mro__ if issubclass(one, LAVTConfig)]
    return {name for one in classes for name in inspect.signature(one).parameters} - {"kwargs"}


def _check_fields(fields: dict[str, Any], known: set[str], place: str) -> None:
    """Transformers keeps any name that it does not know, so that a misspelt field would do nothing."""
    for name in fields:
        if name == "image_size":
            raise ValueError(f"{place}.image_size: expected as image_size_px of the recipe, leave it out here")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"Near it: {', '.join(near)}." if near else f"There is: {', '.join(sorted(known))}."
            raise ValueError(f"{place}.{name}: expected a field of the model's configuration. {hint}")
