"""The numbers of a training run, each with its source, and the range that each must be in."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

MODEL_NAMES = ("lavt", "danet", "fianet", "rmsin")
PRECISIONS = ("auto", "no", "bf16", "fp16")
LEAST_BETWEEN_EVALUATIONS = 50  # updates, where a recipe says "once per epoch"
Rule = tuple[str, Callable[[Any], bool]]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a training run needs besides its data and seed.

    Args:
        name: Name of the recipe.
        model: `"lavt"`, `"danet"`, `"fianet"` or `"rmsin"`.
        dataset: Name of the benchmark, or `"own"`.
        source: Where the numbers come from, in one line.
        config: Fields of the model's configuration that differ from its defaults.
        image_size_px: Side in pixels that images are resized to.
        max_length: Token limit of an expression, [CLS] and [SEP] included.
        batch_size: Samples per update, over all processes and accumulation steps.
        max_epochs: Passes over the training split; exactly one of this and `max_steps` is set.
        max_steps: Updates.
        warmup_steps: Updates of linear warm-up.
        learning_rate: AdamW's learning rate.
        text_learning_rate: That of the text encoder.
        weight_decay: Decoupled weight decay.
        trained_text_layers: BERT layers that are trained, the first ones; `None` for the whole text encoder.
        schedule_power: Exponent of the poly schedule.
        max_grad_norm: Norm that gradients are clipped to, `None` for no clipping.
        eval_every: Updates between two evaluations on the validation split, `None` for once per epoch.
        vision: timm's name of the pretrained Swin that the network starts from, `None` for random weights.
        text: Name on the Hub of the pretrained BERT, `None` for random weights; set where `vision` is.
        augmentation: `"none"`, or names joined with "+" (`processing_rrsis.data.inputs.augmentation`).
        mixed_precision: `"no"`, `"bf16"`, `"fp16"`, or `"auto"`: bf16 where the hardware computes in it.
        ablation: Name of the preset whose fields `config` holds, `None` for the whole network.
        sources: Where each number comes from, by field; fields of the configuration as `"config.NAME"`.

    Raises:
        ValueError: If a field is outside its range; the message names it.
    """

    name: str
    model: str
    dataset: str
    source: str
    config: dict[str, Any] = field(default_factory=dict)
    image_size_px: int
    max_length: int
    batch_size: int
    max_epochs: int | None = None
    max_steps: int | None = None
    warmup_steps: int
    learning_rate: float
    text_learning_rate: float
    weight_decay: float
    trained_text_layers: int | None
    schedule_power: float
    max_grad_norm: float | None
    eval_every: int | None
    vision: str | None
    text: str | None
    augmentation: str
    mixed_precision: str
    ablation: str | None = None
    sources: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check every field."""
        for name, (expected, is_right) in CHECKS.items():
            value = getattr(self, name)
            if not is_right(value):
                raise ValueError(f"{name}: expected {expected}, got {value!r}")
        if (self.max_epochs is None) == (self.max_steps is None):
            raise ValueError(
                "max_epochs, max_steps: expected exactly one of them, got "
                f"max_epochs={self.max_epochs!r} and max_steps={self.max_steps!r}; leave one out"
            )
        if (self.vision is None) != (self.text is None):
            raise ValueError(
                f"vision, text: expected pretrained weights for both or for neither, got vision={self.vision!r} and "
                f"text={self.text!r}"
            )
        object.__setattr__(self, "config", _plain(self.config))

    def updates(self, train_samples: int) -> int:
        """Updates of the whole run.

        Args:
            train_samples: Samples of the training split. An epoch leaves out what does not fill a batch.

        Raises:
            ValueError: If the split does not fill a single batch.
        """
        return self.max_steps or (self.max_epochs or 1) * self._updates_per_epoch(train_samples)

    def evaluation_interval(self, train_samples: int) -> int:
        """Updates between two evaluations on the validation split; epochs of few updates share one.

        Raises:
            ValueError: If the training split does not fill a single batch.
        """
        return self.eval_every or max(self._updates_per_epoch(train_samples), LEAST_BETWEEN_EVALUATIONS)

    def _updates_per_epoch(self, train_samples: int) -> int:
        if train_samples < self.batch_size:
            raise ValueError(
                f"batch_size: expected at most the {train_samples} samples of the training split, got "
                f"{self.batch_size}; lower it, or train on more samples"
            )
        return train_samples // self.batch_size

    def changed(self, source: str, /, **fields: Any) -> Recipe:
        """A copy with other values, each with its new source.

        Args:
            source: Where the new values come from, such as `"--learning_rate"`.
            **fields: New values by name. `config` holds single fields of the configuration and leaves the others;
                a new `max_epochs` or `max_steps` takes the place of the other.

        Raises:
            ValueError: If a field is unknown or outside its range.
        """
        unknown = sorted(set(fields) - set(CHECKS))
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: no such field of a recipe; it has {', '.join(CHECKS)}")
        sources = self.sources | {name: source for name in fields if name in SOURCED}
        if "config" in fields:
            sources |= {f"config.{name}": source for name in fields["config"]}
            fields["config"] = {**self.config, **fields["config"]}
        for name, other in (("max_epochs", "max_steps"), ("max_steps", "max_epochs")):
            if fields.get(name) is not None and fields.get(other) is None:
                fields[other] = None
                sources.pop(other, None)
        return dataclasses.replace(self, sources=sources, **fields)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, for the run's record."""
        return asdict(self)


def _plain(value: Any) -> Any:
    """A copy as it comes out of a file: dictionaries and lists, so that a recipe equals what it is saved as."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _rule(kind: type, low: int = 0, *, above: bool = False, optional: bool = False) -> Rule:
    """What is expected, and its check: a text that is not blank, or a finite number of at least, or above, `low`."""
    number = f"{'an integer' if kind is int else 'a number'} {'above' if above else 'of at least'} {low}"

    def is_right(value: Any) -> bool:
        if value is None or kind is str:
            return optional if value is None else isinstance(value, str) and bool(value.strip())
        is_number = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
        return is_number and math.isfinite(value) and (value > low if above else value >= low)

    return ("a text" if kind is str else number) + (", or null" if optional else ""), is_right


def _one_of(*names: str) -> Rule:
    return f"one of {', '.join(names)}", lambda value: value in names


def _named_values(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


CHECKS: dict[str, Rule] = {
    "name": _rule(str),
    "model": _one_of(*MODEL_NAMES),
    "dataset": _rule(str),
    "source": _rule(str),
    "vision": _rule(str, optional=True),
    "text": _rule(str, optional=True),
    "image_size_px": _rule(int, 32),
    "max_length": _rule(int, 3),
    "augmentation": _rule(str),
    "batch_size": _rule(int, 1),
    "max_epochs": _rule(int, 1, optional=True),
    "max_steps": _rule(int, 1, optional=True),
    "eval_every": _rule(int, 1, optional=True),
    "learning_rate": _rule(float, above=True),
    "text_learning_rate": _rule(float, above=True),
    "weight_decay": _rule(float),
    "trained_text_layers": _rule(int, optional=True),
    "warmup_steps": _rule(int),
    "schedule_power": _rule(float),
    "max_grad_norm": _rule(float, above=True, optional=True),
    "mixed_precision": _one_of(*PRECISIONS),
    "ablation": _rule(str, optional=True),
    "config": ("fields of the model's configuration by name", _named_values),
}
"""Field → what is expected, and the check; in the order in which a recipe is written and shown."""

UNSOURCED = ("name", "model", "dataset", "source", "ablation", "config")
SOURCED = tuple(name for name in CHECKS if name not in UNSOURCED)
"""Fields that hold a number or a choice, each of which has a source."""
