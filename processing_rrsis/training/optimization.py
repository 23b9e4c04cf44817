"""Parameter groups and learning-rate schedule of the published training runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

FOLDED_HEAD = ("head.weight", "head.bias")


def parameter_groups(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float,
    text_learning_rate: float | None = None,
    trained_text_layers: int | None = 10,
    follow_two_channel_head: bool = True,
) -> list[dict[str, Any]]:
    """AdamW groups as published.

    No decay for LayerNorms and position biases of vision, fusion and multi-scale module; decay for everything else,
    BatchNorms and biases included. Of BERT only the first layers are trained; the rest is frozen here, so that no
    parameter is left without a gradient. The published head has two channels with opposite gradients, so the pair
    moves twice as fast as our single kernel: the head's group has twice the learning rate and half the decay.

    Args:
        model: One of the models.
        learning_rate: Learning rate.
        weight_decay: Decoupled weight decay.
        text_learning_rate: Learning rate of the text encoder, `learning_rate` if absent.
        trained_text_layers: Number of BERT layers that are trained (10 of 12 as published, embeddings frozen);
            `None` trains the whole text encoder.
        follow_two_channel_head: Give the head the published pair's trajectory.

    Returns:
        Groups for `torch.optim.AdamW`, each with a `name`.
    """
    freeze_text(model, trained_text_layers)
    batch_norms = {
        id(p) for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase) for p in m.parameters()
    }
    groups: dict[str, list[nn.Parameter]] = {"decay": [], "no_decay": [], "text": [], "head": []}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.startswith("text_encoder."):
            groups["text"].append(parameter)
        elif follow_two_channel_head and name in FOLDED_HEAD:
            groups["head"].append(parameter)
        elif name.startswith("decoder."):  # decays whole, as published
            groups["decay"].append(parameter)
        elif "relative_position_bias_table" in name or ("norm" in name and id(parameter) not in batch_norms):
            groups["no_decay"].append(parameter)
        else:
            groups["decay"].append(parameter)
    settings = {
        "decay": {"lr": learning_rate, "weight_decay": weight_decay},
        "no_decay": {"lr": learning_rate, "weight_decay": 0.0},
        "text": {"lr": text_learning_rate or learning_rate, "weight_decay": weight_decay},
        "head": {"lr": 2 * learning_rate, "weight_decay": weight_decay / 2},
    }
    return [{"name": name, "params": params, **settings[name]} for name, params in groups.items() if params]


def freeze_text(model: nn.Module, trained_layers: int | None) -> None:
    """Freeze BERT's embeddings and the layers from `trained_layers` on; `None` freezes nothing."""
    if trained_layers is None:
        return
    encoder = model.get_submodule("text_encoder")
    encoder.requires_grad_(False)
    for layer in list(encoder.get_submodule("encoder.layer").children())[:trained_layers]:
        layer.requires_grad_(True)


def poly_schedule(
    optimizer: torch.optim.Optimizer, num_steps: int, warmup_steps: int = 0, power: float = 0.9
) -> torch.optim.lr_scheduler.LambdaLR:
    """(1 − t/T)^power per update, as published, after an optional linear warm-up."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
        return max(0.0, 1 - progress) ** power

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def move_schedule(schedule: torch.optim.lr_scheduler.LambdaLR, num_steps: int) -> None:
    """Set a schedule, and its optimizer's learning rates, to where it stands after a number of updates."""
    schedule.load_state_dict({**schedule.state_dict(), "last_epoch": num_steps - 1, "_step_count": num_steps + 2})
    schedule.step()
