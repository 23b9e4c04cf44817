"""DANet's affinity loss in its forms against the dense one, which stores the N×N matrices: what is saved."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from modeling_rrsis.loss_rrsis import affinity_loss

from .spec import AFFINITY_CHANNELS
from .timing import Work

TILED, DENSE = "tiled", "dense"
TARGET_SHARE = 0.1
"""Share of pixels with the label 1."""


def dense_affinity_loss(features: Tensor, labels: Tensor, temperature: float = 1.0) -> Tensor:
    """Equations 1 to 3 of DANet as they are written: ‖A ⊙ S − S‖²_F, averaged over the batch.

    Args:
        features: float (B, N, C).
        labels: 0/1 (B, N), the hard activation â.
        temperature: Divisor of the arguments of both softmaxes.

    Returns:
        Scalar.
    """
    unit = F.normalize(features, dim=-1)
    affinity = (unit @ unit.transpose(1, 2) / temperature).softmax(-1)  # eq. 1
    target = labels.to(features.dtype)
    wanted = (target.unsqueeze(2) * target.unsqueeze(1) / temperature).softmax(-1)  # eq. 2
    return (affinity * wanted - wanted).square().sum((1, 2)).mean()  # eq. 3


FORMS: dict[str, Callable[..., Tensor]] = {TILED: affinity_loss, DENSE: dense_affinity_loss}


def affinity_inputs(batch: int, pixels: int, device: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Seeded features float32 (B, N, 256) that take a gradient, and labels bool (B, N)."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, pixels, AFFINITY_CHANNELS, generator=generator).to(device).requires_grad_()
    labels = torch.rand(batch, pixels, generator=generator) < TARGET_SHARE
    return features, labels.to(device)


def affinity_work(form: str, features: Tensor, labels: Tensor) -> Work:
    """Forward and backward pass of one of `FORMS`."""
    loss = FORMS[form]

    def reset() -> None:
        features.grad = None

    return Work(lambda: loss(features, labels).backward(), reset)


def value_and_gradient(form: str, features: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """The loss and its gradient, float (B, N, C)."""
    value = FORMS[form](features, labels)
    (gradient,) = torch.autograd.grad(value, features)
    return value.item(), gradient
