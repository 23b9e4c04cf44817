"""Fills `hub_cards/model_card.md` from what is known of a run; what was not measured is said to be "not measured"."""

from __future__ import annotations

import importlib.resources
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Template
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ..data.facts import FACTS
from ..reports.tables import NOT_MEASURED, SCORES, Results, group_table, overall_table, result_dict, score_text

TASK, TASK_NAME = "image-segmentation", "Referring image segmentation"
METRIC_TYPES: dict[str, str] = {"mIoU": "mean_iou", "oIoU": "overall_iou"}
LICENCE_WORDS = {"": "as the data's", "unknown": "unknown: see the starting weights and the data"}


@dataclass(frozen=True)
class ArchitectureFacts:
    """What a card says about a network.

    Args:
        name: Its name.
        paper: Its paper.
        limits: What was measured against it, one sentence each.
    """

    name: str
    paper: str
    limits: tuple[str, ...] = ()


ARCHITECTURES: dict[str, ArchitectureFacts] = {
    "lavt": ArchitectureFacts("LAVT", "LAVT (CVPR 2022), the base of DANet and FIANet"),
    "danet": ArchitectureFacts(
        "DANet",
        "DANet (ACM MM 2024)",
        limits=(
            "The affinity loss of equation 3 fades with the number of pixels: as the paper has it (weight 0.5, "
            "temperature 1), its gradient was 1 to 46 % of the cross-entropy's at 80 px and 0.01 to 0.3 % at 480 px, "
            "in a small network trained from random weights. The pixels that it aligns were the target no more often "
            "than others.",
        ),
    ),
    "fianet": ArchitectureFacts("FIANet", "FIANet (IEEE TGRS 2025)"),
    "rmsin": ArchitectureFacts("RMSIN", "RMSIN (CVPR 2024)"),
}


@dataclass(frozen=True)
class ModelCardFacts:
    """What is known of a trained model; `None` reads "not measured" or "not recorded".

    Args:
        architecture: `"lavt"`, `"danet"`, `"fianet"` or `"rmsin"`.
        dataset: A name of `FACTS`.
        repo_id: Name or folder that the example loads.
        parameters: Number of parameters.
        image_size_px: Side that images are resized to.
        max_length: Token limit of an expression.
        train_samples: Samples that it was trained on, or a text about them.
        starting_weights: Where the weights started, in words.
        base_models: Hub names of pretrained models that the weights started from.
        selection: How the published weights were chosen, with the split.
        seed: Seed of the run.
        licence: Licence of the weights as the Hub spells it; that which follows from the data if absent.
        hardware: What it ran on.
        software: Library to version.
        recipe: The numbers of the run.
        results: Split to results by control (`evaluate_with_controls`, or the results' `to_dict()`).
        ceilings: mIoU in percent of perfect-mask readers on the test split, by what they understand.
        limits: Further limits, one sentence each.
    """

    architecture: str
    dataset: str
    repo_id: str
    parameters: int | None = None
    image_size_px: int | None = None
    max_length: int | None = None
    train_samples: int | str | None = None
    starting_weights: str | None = None
    base_models: Sequence[str] = ()
    selection: str | None = None
    seed: int | None = None
    licence: str | None = None
    hardware: str | None = None
    software: Mapping[str, str] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Results] = field(default_factory=dict)
    ceilings: Mapping[str, float] = field(default_factory=dict)
    limits: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, known in (("architecture", ARCHITECTURES), ("dataset", FACTS)):
            if getattr(self, name) not in known:
                raise ValueError(f"Expected `{name}` to be one of {', '.join(known)}, got {getattr(self, name)!r}.")


def render_model_card(facts: ModelCardFacts) -> str:
    """The model card as Markdown with its metadata.

    Args:
        facts: What is known of the run.

    Returns:
        Text of the model's `README.md`.
    """
    architecture, benchmark = ARCHITECTURES[facts.architecture], FACTS[facts.dataset]
    template = Template(importlib.resources.files("hub_cards").joinpath("model_card.md").read_text(encoding="utf-8"))
    name = f"{architecture.name} on {benchmark.name}"
    size = None if facts.image_size_px is None else f"{facts.image_size_px}×{facts.image_size_px} px"
    software = ", ".join(f"{library} {version}" for library, version in facts.software.items())
    return template.substitute(
        metadata=_metadata(facts, name).to_yaml(),
        model_name=name,
        summary=f"{architecture.name} for referring remote sensing image segmentation, trained on {benchmark.name}.",
        paper=architecture.paper,
        image_size=size or "the size in `processor_config.json`",
        max_length=_known(facts.max_length, "the processor's limit of"),
        repo_id=facts.repo_id,
        example=benchmark.model_card.example,
        training_data=benchmark.model_card.description,
        data_licence=benchmark.model_card.licence,
        weights_licence=LICENCE_WORDS.get(facts.licence or "", f"{facts.licence}, as the trainer says"),
        train_samples=_known(facts.train_samples, "not recorded"),
        starting_weights=_known(facts.starting_weights, "not recorded"),
        parameters=_known(facts.parameters, "not recorded"),
        selection=_known(facts.selection, "not recorded"),
        seed="not recorded" if facts.seed is None else f"{facts.seed}; one run, its spread over seeds {NOT_MEASURED}",
        hardware=_known(facts.hardware, "not recorded"),
        software=software or "not recorded",
        recipe=json.dumps(dict(facts.recipe), indent=2, default=str) if facts.recipe else '"not recorded"',
        results=_results_section(facts),
        limits=_limits_section(facts),
    )


def _metadata(facts: ModelCardFacts, name: str) -> ModelCardData:
    """The card's YAML; its model-index holds what was measured with the expressions themselves."""
    benchmark, data = FACTS[facts.dataset].name, FACTS[facts.dataset].model_card
    eval_results = [
        EvalResult(
            task_type=TASK,
            task_name=TASK_NAME,
            dataset_type=data.dataset_type,
            dataset_name=benchmark,
            dataset_split=split,
            metric_type=METRIC_TYPES.get(score, score.lower().replace("pr@", "precision_at_")),
            metric_name=score,
            metric_value=round(value, 2),
        )
        for split, results in facts.results.items()
        if "expression" in results and not _is_all_absent(result_dict(results["expression"]))
        for score, value in result_dict(results["expression"])["overall"].items()
        if score in SCORES and value is not None and not math.isnan(value)
    ]
    licence = facts.licence or data.model_licence
    return ModelCardData(
        language="en",
        license=licence,
        library_name="transformers",
        pipeline_tag=TASK,
        tags=["referring-image-segmentation", "remote-sensing", "rrsis", facts.architecture],
        datasets=[data.dataset_type] if data.on_hub else None,
        base_model=list(facts.base_models) or None,
        model_name=name if eval_results else None,
        eval_results=eval_results or None,
        license_name=(data.licence_name or "own-terms") if licence == "other" else None,
    )


def _results_section(facts: ModelCardFacts) -> str:
    """One part per split: the table of the texts, the table of the kinds, native size and absent objects."""
    expected = FACTS[facts.dataset].model_card.splits
    splits = (*expected, *(split for split in facts.results if split not in expected))
    return "\n\n".join(_split_section(facts, split) for split in splits)


def _split_section(facts: ModelCardFacts, split: str) -> str:
    heading = f"### Split `{split}`"
    results = facts.results.get(split)
    if not results:
        return f"{heading}\n{NOT_MEASURED.capitalize()}."
    first = result_dict(next(iter(results.values())))
    settings = f"Scored at {first['resolution']}, threshold {first['threshold']}, n = {first['overall']['n']:,}."
    parts = [f"{heading}\n{settings}"]
    ceilings = facts.ceilings if split == "test" else None
    if _is_all_absent(first):
        parts.append("The named object is not in these images, so every IoU is 0 by definition.")
    else:
        parts.append(overall_table(results, title=split, ceilings=ceilings).to_markdown())
    kinds = group_table(results, "by_kind", title=split)
    categories = group_table(results, "by_category", title=split)
    if first.get("absent"):
        parts.append(_absent_sentence(first["absent"]))
    else:
        parts += [f"mIoU by group:\n\n{table.to_markdown()}" for table in (kinds, categories) if table.rows]
    if first.get("native"):
        native = first["native"]
        scores = f"mIoU {score_text(native['mIoU'])}, oIoU {score_text(native['oIoU'])}"
        parts.append(f"At each mask's own size, with the expressions: {scores}.")
    return "\n\n".join(parts)


def _is_all_absent(result: Mapping[str, Any]) -> bool:
    """Whether the named object is in none of the images: IoU is 0 there whatever a model does."""
    return (result.get("absent") or {}).get("n") == result["overall"]["n"]


def _absent_sentence(absent: Mapping[str, float]) -> str:
    return (
        f"Of {int(absent['n']):,} expressions that name an absent object, {absent['empty_prediction']:.1f} % got an "
        f"empty mask; on average {absent['predicted_area']:.1f} % of the image was marked."
    )


def _limits_section(facts: ModelCardFacts) -> str:
    specific = (*FACTS[facts.dataset].model_card.limits, *ARCHITECTURES[facts.architecture].limits)
    general = (
        "An expression is read in the frame of the image: “upper left” means the upper left of what is handed over.",
        "A mask is no proof that the named object is there: training is on expressions that have an answer.",
        "Only English, only RGB; oblique photographs and other sensors are untried.",
    )
    return "\n".join(f"- {limit}" for limit in (*specific, *facts.limits, *general))


def _known(value: float | str | None, otherwise: str) -> str:
    if value is None:
        return otherwise
    return f"{value:,}" if isinstance(value, int) else str(value)
