"""Controls: does the model read the expression, or does the picture alone give the score?

Each control replaces the expressions of a split and leaves images and masks alone. A model that ignores the text
scores the same with all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .evaluation import EvaluationResult, evaluate_model

CONTROLS: tuple[str, ...] = ("expression", "shuffled", "category", "blank")
"""The expression itself; another sample's expression; the word of the target's category; no text."""


def control_expressions(dataset: Any, control: str, seed: int = 0) -> list[str]:
    """The texts of one control, in the order of the dataset.

    Args:
        dataset: Split with the columns `expression` and, as needed, `category` and `image_id`.
        control: One of `CONTROLS`. `"shuffled"` permutes the split's expressions such that no sample keeps its own
            text and, as far as possible, none gets a text that also belongs to its image. `"category"` is the word of
            the target's category behind "The": every benchmark's expressions start with an article, and a bare noun
            would test that habit instead of what the category alone is worth.
        seed: Seed of the permutation.

    Returns:
        One text per sample; `""` for `"blank"`.

    Raises:
        ValueError: If the control is unknown, a column is missing, or more than half of the samples share one text, so
            that they cannot be shuffled.
    """
    if control not in CONTROLS:
        raise ValueError(f"Expected a control of {', '.join(CONTROLS)}, got {control!r}.")
    if not len(dataset):
        raise ValueError("Expected a dataset with at least one sample, got an empty one.")
    if control == "blank":
        return [""] * len(dataset)
    if control == "category":
        return [f"The {category}" for category in _column(dataset, "category")]
    expressions = _column(dataset, "expression")
    if control == "expression":
        return expressions
    images = (
        _column(dataset, "image_id") if "image_id" in dataset.column_names else list(map(str, range(len(dataset))))
    )
    order = _derange(expressions, images, rng=np.random.default_rng(seed))
    return [expressions[source] for source in order]


def evaluate_with_controls(
    model: Callable[..., Any],
    dataset: Any,
    collator: Any,
    *,
    controls: Sequence[str] = CONTROLS,
    seed: int = 0,
    description: str = "Evaluating",
    **options: Any,
) -> dict[str, EvaluationResult]:
    """Evaluates with the expressions and with each control.

    Args:
        model: See `evaluate_model`.
        dataset: Split with the columns `expression`, `category` and `image_id`.
        collator: See `evaluate_model`; blank texts are allowed where the control needs them.
        controls: Which of `CONTROLS`, in this order.
        seed: Seed of the shuffling.
        description: Label of the progress bar; the control's name is added.
        options: Further arguments of `evaluate_model`.

    Returns:
        One result per control, by its name.
    """
    results = {}
    for control in controls:
        texts = None if control == "expression" else control_expressions(dataset, control, seed=seed)
        results[control] = evaluate_model(
            model, dataset, collator, expressions=texts, description=f"{description}: {control}", **options
        )
    return results


def _derange(texts: list[str], images: list[str], rng: np.random.Generator) -> list[int]:
    """A permutation that gives every sample another text, and another image's text where that is possible."""
    most_common, count = Counter(texts).most_common(1)[0]
    if 2 * count > len(texts):
        raise ValueError(
            f"Expected no expression on more than half of the samples, got {most_common!r} on {count} of "
            f"{len(texts)}: they cannot all get another text. Shuffle a larger or more varied split."
        )
    texts_of_image: dict[str, set[str]] = {}
    for text, image in zip(texts, images, strict=True):
        texts_of_image.setdefault(image, set()).add(text)
    order = rng.permutation(len(texts)).tolist()

    def same_text(sample: int, source: int) -> bool:
        return texts[sample] == texts[source]

    def text_of_same_image(sample: int, source: int) -> bool:
        return texts[source] in texts_of_image[images[sample]]

    for clash in (text_of_same_image, same_text):
        _repair(order, clash, rng=rng)
    if any(same_text(sample, source) for sample, source in enumerate(order)):
        return _rotate_groups(texts, rng=rng)
    return order


def _repair(order: list[int], clash: Callable[[int, int], bool], rng: np.random.Generator) -> None:
    """Swaps sources, in place, until no sample clashes or no single swap helps."""
    for sample in range(len(order)):
        if not clash(sample, order[sample]):
            continue
        for other in rng.permutation(len(order)).tolist():
            if not clash(sample, order[other]) and not clash(other, order[sample]):
                order[sample], order[other] = order[other], order[sample]
                break


def _rotate_groups(texts: list[str], rng: np.random.Generator) -> list[int]:
    """Samples sorted by text and rotated by the largest group: never the own text if no group exceeds a half."""
    counts = Counter(texts)
    names = sorted(counts)
    rank = {name: position for position, name in enumerate(names[i] for i in rng.permutation(len(names)))}
    by_text = sorted(range(len(texts)), key=lambda sample: rank[texts[sample]])
    shift = max(counts.values())
    order = [0] * len(texts)
    for position, sample in enumerate(by_text):
        order[sample] = by_text[(position + shift) % len(texts)]
    return order


def _column(dataset: Any, name: str) -> list[str]:
    if name not in dataset.column_names:
        raise ValueError(f"Expected the dataset to have the column {name!r}, got {sorted(dataset.column_names)}.")
    return list(dataset[name])


def possible_controls(split: Any) -> tuple[str, ...]:
    """The controls that a split has the columns and the variety for."""
    possible = []
    for control in CONTROLS:
        if control == "category" and not ("category" in split.column_names and all(split["category"])):
            continue
        try:
            control_expressions(split, control)
        except ValueError:  # one text on more than half of the samples: nothing to shuffle
            continue
        possible.append(control)
    return tuple(possible)


def evaluate_splits(
    model: Callable[..., Any], data: Mapping[str, Any], collator: Any, *, batch_size: int, accelerator: Any, seed: int
) -> dict[str, dict[str, Any]]:
    """Evaluate every test split of a benchmark, `test` with the three controls; without any the validation split.

    Args:
        model: The selected weights, prepared by the accelerator.
        data: Splits by name; those whose name starts with `test` are evaluated, or `validation` where there is none.
        collator: Rows to model inputs.
        batch_size: Samples per process and step.
        accelerator: Accelerator whose processes share the work.
        seed: Seed of the shuffled control.

    Returns:
        Split → control → `EvaluationResult`.
    """
    options = {"accelerator": accelerator, "batch_size": batch_size}
    results: dict[str, dict[str, Any]] = {}
    for split in [name for name in data if name.startswith("test")] or ["validation"]:
        if split in ("test", "validation"):
            controls = possible_controls(data[split])
            results[split] = evaluate_with_controls(
                model, data[split], collator, controls=controls, seed=seed, **options
            )
        else:
            results[split] = {"expression": evaluate_model(model, data[split], collator, **options)}
    return results
