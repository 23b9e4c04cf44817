"""What DANet's two alignments do at a real training point.

`python benchmarks/danet_readings.py MODEL…`

The paper leaves the scale of the affinity loss and of the agents' reliability open; this measures both on any trained
DANet, so that `affinity_temperature`, `affinity_threshold` and `num_agents` can be chosen by figures:

- per stage, the norm of the affinity loss's gradient with respect to the stage's features, λ_af included, as a share
  of the norm of the binary cross-entropy's, for several temperatures;
- the share of pixels that the threshold α selects, and how much of them the target covers;
- how much of the agents the target covers, against how much of all pixels it does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from torch import Tensor

from modeling_rrsis import DANetForReferringSegmentation
from modeling_rrsis.alignment_rrsis import TextFeatures, map_to_tokens, tokens_to_map
from modeling_rrsis.loss_rrsis import affinity_loss, weighted_cross_entropy
from modeling_rrsis.modeling_lavt import StageState
from processing_rrsis.reports.tables import ResultTable


@dataclass(frozen=True)
class StageReading:
    """One stage of one model, averaged over the batches.

    Args:
        stage: 1 to 4.
        num_pixels: N of the stage.
        selected: Share of the pixels above α, 0 to 1.
        selected_on_target: Share of the selected pixels' area that the target covers, 0 to 1.
        on_target: Share of the whole area that the target covers, 0 to 1: what a random choice gives.
        gradient_bce: Norm of the binary cross-entropy's gradient with respect to the stage's features.
        gradient_share: Temperature → λ_af times the norm of the affinity loss's gradient, divided by `gradient_bce`.
    """

    stage: int
    num_pixels: int
    selected: float
    selected_on_target: float
    on_target: float
    gradient_bce: float
    gradient_share: dict[float, float]


@dataclass(frozen=True)
class AgentReading:
    """The agents of one model, averaged over the batches.

    Args:
        num_agents: K, at most the number of pixels.
        num_pixels: Pixels of the last stage.
        agents_on_target: Share of the agents' area that the target covers, 0 to 1.
        on_target: Share of the whole area that the target covers, 0 to 1: what a random choice gives.
        reliability_agents: Mean reliability of the agents, equation 6.
        reliability_all: Mean reliability of all pixels.
        hits: Share of the images where the target touches at least one agent, 0 to 1.
    """

    num_agents: int
    num_pixels: int
    agents_on_target: float
    on_target: float
    reliability_agents: float
    reliability_all: float
    hits: float


def target_coverage(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Share of every pixel of a stage that the target covers, 0 to 1: labels (B, H, W) to float (B, N)."""
    return F.interpolate((labels == 1).float().unsqueeze(1), size=size, mode="area").flatten(1)


def read_stages(
    model: DANetForReferringSegmentation, inputs: dict[str, Tensor], temperatures: Sequence[float]
) -> tuple[list[StageReading], AgentReading | None]:
    """Measure one batch in training mode.

    Args:
        model: A DANet.
        inputs: `pixel_values`, `input_ids`, `attention_mask` and `labels`, as the processor makes them.
        temperatures: Values of `affinity_temperature` to try.

    Returns:
        A reading per stage of `affinity_stages`, and the agents' unless the predictor has none.
    """
    model.train()
    labels = inputs["labels"]
    text = model.encode_text(inputs["input_ids"], inputs["attention_mask"])
    stages = model.encode_image(inputs["pixel_values"], text)
    features = [tokens_to_map(stage.output, stage.size) for stage in stages]
    logits = model.predict(features, text).unsqueeze(1)
    logits = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=True).squeeze(1)
    wanted = model.config.affinity_stages
    outputs = [stages[number - 1].output for number in wanted]
    loss = weighted_cross_entropy(logits, labels, class_weights=(1.0, 1.0))
    gradients = torch.autograd.grad(loss, outputs, retain_graph=True)
    readings = [
        _read_stage(model, stages, text, number, gradient, labels, temperatures)
        for number, gradient in zip(wanted, gradients, strict=True)
    ]
    agents = _read_agents(model, features[-1], text, labels) if model.config.predictor == "agent" else None
    return readings, agents


def _read_stage(
    model: DANetForReferringSegmentation,
    stages: list[StageState],
    text: TextFeatures,
    number: int,
    gradient: Tensor,
    labels: Tensor,
    temperatures: Sequence[float],
) -> StageReading:
    stage = stages[number - 1]
    selected = model.affinity_labels(stages, text, number)
    target = target_coverage(labels, stage.size)
    norm = gradient.norm().item()
    shares = {}
    for temperature in temperatures:
        features = stage.output.detach().requires_grad_()
        (pull,) = torch.autograd.grad(affinity_loss(features, selected, temperature=temperature), features)
        shares[temperature] = model.config.affinity_weight * pull.norm().item() / norm
    return StageReading(
        stage=number,
        num_pixels=target.shape[1],
        selected=selected.float().mean().item(),
        selected_on_target=((selected * target).sum() / selected.sum().clamp(min=1)).item(),
        on_target=target.mean().item(),
        gradient_bce=norm,
        gradient_share=shares,
    )


@torch.no_grad()
def _read_agents(
    model: DANetForReferringSegmentation, feature_map: Tensor, text: TextFeatures, labels: Tensor
) -> AgentReading:
    predictor = model.predictor
    pixels = map_to_tokens(predictor.bottleneck_norm(predictor.bottleneck(feature_map)).relu())
    reliability = predictor.reliability(predictor.key(pixels), text.words[0], text.mask[0])
    top = reliability.topk(min(predictor.num_agents, reliability.shape[1]), dim=1)
    height, width = feature_map.shape[-2:]
    target = target_coverage(labels, (height, width))
    on_target = target.gather(1, top.indices)
    return AgentReading(
        num_agents=top.indices.shape[1],
        num_pixels=target.shape[1],
        agents_on_target=on_target.mean().item(),
        on_target=target.mean().item(),
        reliability_agents=top.values.mean().item(),
        reliability_all=reliability.mean().item(),
        hits=(on_target > 0).any(1).float().mean().item(),
    )


def average(readings: Sequence[Any]) -> Any:
    """Mean of readings of the same stage or of the agents, field by field."""
    first = asdict(readings[0])
    rows = [asdict(reading) for reading in readings]

    def mean(key: str) -> Any:
        if isinstance(first[key], dict):
            return {name: sum(row[key][name] for row in rows) / len(rows) for name in first[key]}
        value = sum(row[key] for row in rows) / len(rows)
        return round(value) if isinstance(first[key], int) else value

    return type(readings[0])(**{key: mean(key) for key in first})


def _batches(model_dir: str, size_px: int, num_samples: int, batch_size: int) -> Iterator[dict[str, Tensor]]:
    """Samples of SyntheticRS's training split, rendered and resized to `size_px`."""
    from processing_rrsis.data import load_benchmark
    from processing_rrsis.data.inputs.collate import ReferringCollator
    from processing_rrsis.processor_rrsis import RRSISProcessor

    processor = RRSISProcessor.from_pretrained(model_dir)
    processor.image_processor.size = {"height": size_px, "width": size_px}
    data = load_benchmark("synthetic", split="train", image_size_px=size_px, streaming=True)
    collate = ReferringCollator(processor)
    for rows in data.take(num_samples).batch(batch_size):
        columns = ("image", "mask", "expression", "sample_id")
        yield dict(
            collate([dict(zip(columns, row, strict=True)) for row in zip(*map(rows.get, columns), strict=True)])
        )


def main(
    models: Annotated[list[str], typer.Argument(help="Folders of DANets, such as a run's last/.")],
    image_size: Annotated[int, typer.Option(help="Side in pixels that the scenes are rendered at.")] = 80,
    num_samples: Annotated[int, typer.Option(help="Training samples to measure on.")] = 256,
    batch_size: Annotated[int, typer.Option(help="Samples per batch; gradients are taken per batch.")] = 32,
    temperatures: Annotated[str, typer.Option(help="Temperatures to try, separated by commas.")] = "1,0.3,0.1,0.05",
    output: Annotated[Path | None, typer.Option(help="Also write the readings as JSON.")] = None,
) -> None:
    """Gradient shares of the affinity loss, selected pixels and agents of trained DANets, on SyntheticRS."""
    tried = [float(value) for value in temperatures.split(",")]
    everything = {}
    for folder in models:
        torch.manual_seed(0)
        model = DANetForReferringSegmentation.from_pretrained(folder)
        measured = [
            read_stages(model, batch, tried)
            for batch in _batches(folder, image_size, num_samples=num_samples, batch_size=batch_size)
        ]
        stages = [average(list(column)) for column in zip(*(stages for stages, _ in measured), strict=True)]
        agents = average([agent for _, agent in measured]) if measured[0][1] is not None else None
        everything[folder] = {"stages": [asdict(stage) for stage in stages], "agents": agents and asdict(agents)}
        console = Console()
        console.print(_stage_table(folder, stages, tried).to_rich())
        if agents is not None:
            console.print(_agent_text(agents))
    if output is not None:
        output.write_text(json.dumps(everything, indent=2), encoding="utf-8")


def _agent_text(agents: AgentReading) -> str:
    return (
        f"{agents.num_agents} agents of {agents.num_pixels} pixels: the target covers "
        f"{agents.agents_on_target:.2%} of them and {agents.on_target:.2%} of all pixels, and touches one in "
        f"{agents.hits:.1%} of the images; reliability {agents.reliability_agents:.3g}, of all pixels "
        f"{agents.reliability_all:.3g}\n"
    )


def _stage_table(folder: str, stages: Sequence[StageReading], temperatures: Sequence[float]) -> ResultTable:
    headings = ("stage", "pixels", "above α", "on target", "all pixels", *(f"τ {t:g}" for t in temperatures))
    rows = tuple(
        (
            str(stage.stage),
            f"{stage.num_pixels:,}",
            f"{stage.selected:.1%}",
            f"{stage.selected_on_target:.1%}",
            f"{stage.on_target:.1%}",
            *(f"{stage.gradient_share[t]:.2g}" for t in temperatures),
        )
        for stage in stages
    )
    return ResultTable(f"{folder}: λ·‖∂affinity‖ / ‖∂BCE‖ per stage", headings, rows)


if __name__ == "__main__":
    typer.run(main)
