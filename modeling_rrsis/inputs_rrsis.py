"""What the networks accept: errors that say what was expected, what came and where to get it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

MIN_IMAGE_SIZE = 32


def check_given_once(name: str, value: Any, features_name: str, features: Any) -> None:
    """Raise a `ValueError` unless exactly one of an input and its features is given."""
    if (value is None) == (features is None):
        raise ValueError(
            f"expected either `{name}` or `{features_name}`, got {'neither' if value is None else 'both'}. The "
            "processor makes the former: `processor(images=, text=)`."
        )


def check_images(pixel_values: Tensor) -> None:
    """Raise a `ValueError` unless images are (B, 3, H, W) with H, W ≥ 32."""
    if pixel_values.ndim != 4 or pixel_values.shape[1] != 3 or min(pixel_values.shape[-2:]) < MIN_IMAGE_SIZE:
        raise ValueError(
            f"`pixel_values` must be (batch, 3, height, width) with height and width of at least {MIN_IMAGE_SIZE}, "
            f"got {tuple(pixel_values.shape)}. The processor makes it from an image: `processor(images=, text=)`."
        )


def check_pairs(num_images: int, num_expressions: int) -> None:
    """Raise a `ValueError` unless there are as many images as expressions, or a single one of either."""
    if num_images != num_expressions and 1 not in (num_images, num_expressions):
        raise ValueError(
            "expected one expression per image, several expressions on one image or one expression for several "
            f"images, got `pixel_values` of {num_images} images and `input_ids` of {num_expressions} expressions."
        )


def check_text(input_ids: Tensor, masks: tuple[Tensor | None, ...], limit: int) -> None:
    """Raise a `ValueError` unless masks have the shape of the indices and the expression fits the text encoder."""
    if input_ids.ndim != 2:
        raise ValueError(f"`input_ids` must be (batch, length), got {tuple(input_ids.shape)}.")
    if input_ids.shape[1] > limit:
        raise ValueError(
            f"`input_ids` may hold at most {limit} tokens, the text encoder's positions, got {input_ids.shape[1]}. "
            "The processor's `max_length` cuts longer expressions."
        )
    for mask in masks:
        if mask is not None and mask.shape != input_ids.shape:
            raise ValueError(
                f"Masks of the text must have the shape of `input_ids`, here {tuple(input_ids.shape)}, got "
                f"{tuple(mask.shape)}. The processor makes all of them together."
            )


def select_states(states: list[Tensor], wanted: bool | Sequence[int]) -> tuple[Tensor | None, ...] | None:
    """All states or none of them; with indices (negative from the end), `None` in place of each other state."""
    if isinstance(wanted, bool):
        return tuple(states) if wanted else None
    outside = [index for index in wanted if not -len(states) <= index < len(states)]
    if outside:
        raise ValueError(
            f"`output_hidden_states` must be a bool or indices of {len(states)} stages, from {-len(states)} to "
            f"{len(states) - 1}, got {outside}."
        )
    chosen = {index % len(states) for index in wanted}
    return tuple(state if index in chosen else None for index, state in enumerate(states))
