"""Losses of the networks, as pure functions on log-odds.

All take `logits` float (B, H, W), the log-odds of the target, and `labels` int (B, H, W) with 0 background, 1 target
and 255 ignored. A published two-channel head [background, target] is the same function of target − background.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers.utils import logging

logger = logging.get_logger(__name__)

IGNORE_INDEX = 255
DICE_SMOOTH = 1e-6
TILE_NUMBERS, NUM_TILES = 2**22, 3
"""Numbers of the affinity matrix in a tile, 16 MiB in float32, so that a CPU's cache holds it; and the tiles that the
backward pass makes again at a time, so that a GPU does not wait for the next ones."""


class BatchPart(NamedTuple):
    """What a loss must know where it sees one of several equal parts of a batch.

    With it the mean over the parts, taken by gradient accumulation or by the processes, is the whole batch's loss.

    Attributes:
        num_parts: Number of parts, processes × accumulation steps.
        pixel_counts: Background and target pixels of the whole batch, float (2,); `None` where there is one part.
    """

    num_parts: int = 1
    pixel_counts: Tensor | None = None


WHOLE_BATCH = BatchPart()


def check_labels(labels: Tensor, shape: tuple[int, ...]) -> None:
    """Raise a `ValueError` unless labels have a shape (B, H, W) and every one is 0, 1 or 255.

    Labels in which 255 occurs and 1 does not are right where the object is absent and pixels are ignored, and wrong
    where 255 was meant as the target, as in most mask files: they are warned of, once.
    """
    if labels.shape != shape:
        raise ValueError(
            f"`labels` must have the shape (batch, height, width) of `pixel_values`, here {shape}, got "
            f"{tuple(labels.shape)}. Resize the masks with the image processor (`segmentation_maps=`)."
        )
    is_target, is_ignored = labels == 1, labels == IGNORE_INDEX
    odd = labels[~((labels == 0) | is_target | is_ignored)]
    if odd.numel() > 0:
        raise ValueError(
            f"`labels` must be 0 (background), 1 (target) or 255 (ignored), got also {odd.unique()[:5].tolist()}. "
            "The image processor makes them from masks of any of the usual forms (`segmentation_maps=`)."
        )
    if is_ignored.any() and not is_target.any():
        logger.warning_once(
            "`labels` hold 255, which is ignored, and no 1, the target. If 255 is the target in these masks, the "
            "model learns nothing of it: pass `labels == 255`, or the masks to the image processor "
            "(`segmentation_maps=`)."
        )


def weighted_cross_entropy(
    logits: Tensor, labels: Tensor, class_weights: Sequence[float], part: BatchPart = WHOLE_BATCH
) -> Tensor:
    """Two-class cross-entropy with class weights, averaged by the sum of weights.

    Equal to `torch.nn.functional.cross_entropy` on the two-channel logits [0, logits].

    Args:
        logits: Log-odds, float (B, H, W).
        labels: int (B, H, W) in {0, 1, 255}.
        class_weights: Weights of background and target.
        part: Which part of a batch this is; the weights are then summed over the whole batch.

    Returns:
        Scalar; 0 where every pixel is ignored.
    """
    valid = labels != IGNORE_INDEX
    target = (labels == 1).to(logits.dtype)
    background, foreground = class_weights
    weight = (background + (foreground - background) * target) * valid
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    total = weight.sum()
    if part.pixel_counts is not None:
        counts = part.pixel_counts.to(dtype=loss.dtype, device=loss.device)
        total = (background * counts[0] + foreground * counts[1]) / part.num_parts
    return (loss * weight).sum() / total.clamp(min=torch.finfo(logits.dtype).tiny)


def dice_loss(logits: Tensor, labels: Tensor, reduction: str = "sum", part: BatchPart = WHOLE_BATCH) -> Tensor:
    """Dice loss of both classes, 1 − (2·Σ p·g + s) / (Σ p + Σ g + s) with s = 1e-6.

    Args:
        logits: Log-odds, float (B, H, W).
        labels: int (B, H, W) in {0, 1, 255}; ignored pixels count in no sum.
        reduction: `"sum"` over batch and both classes (as released, grows with the batch) or `"mean"`.
        part: Which part of a batch this is; the mean of the parts' sums is the sum over the whole batch.

    Returns:
        Scalar.
    """
    valid = (labels != IGNORE_INDEX).to(logits.dtype).flatten(1)
    target = (labels == 1).to(logits.dtype).flatten(1)
    probability = logits.flatten(1).sigmoid()
    probability = torch.stack([(1 - probability) * valid, probability * valid], dim=1)
    target = torch.stack([(1 - target) * valid, target * valid], dim=1)
    overlap = (probability * target).sum(-1)
    total = probability.sum(-1) + target.sum(-1)
    loss = 1 - (2 * overlap + DICE_SMOOTH) / (total + DICE_SMOOTH)
    return loss.sum() * part.num_parts if reduction == "sum" else loss.mean()


def cross_entropy_and_dice(
    logits: Tensor,
    labels: Tensor,
    class_weights: Sequence[float],
    dice_weight: float,
    mix: str = "convex",
    reduction: str = "sum",
    part: BatchPart = WHOLE_BATCH,
) -> dict[str, Tensor]:
    """`"loss"` and its two parts: (1 − w)·CE + w·dice, or with `mix="sum"` CE + w·dice; w is `dice_weight`."""
    cross_entropy = weighted_cross_entropy(logits, labels, class_weights=class_weights, part=part)
    dice = dice_loss(logits, labels, reduction=reduction, part=part)
    share = 1 - dice_weight if mix == "convex" else 1.0
    return {"loss": share * cross_entropy + dice_weight * dice, "cross_entropy": cross_entropy, "dice": dice}


def affinity_loss(features: Tensor, labels: Tensor, temperature: float = 1.0, tile_rows: int | None = None) -> Tensor:
    """Affinity alignment ‖A_F ⊙ S − S‖²_F of DANet, equations 1 to 3, averaged over the batch.

    A_F is the row-softmax of the cosine similarities of the features, S the row-softmax of â âᵀ. S has two values in
    a foreground row and one in a background row, so a few sums per row suffice and no N×N matrix is stored: rows are
    taken in tiles that the backward pass makes again, and memory grows linearly with N.

    Args:
        features: float (B, N, C), the pixels of one stage.
        labels: bool or 0/1 (B, N), the hard text-to-visual activation â. No gradient flows through it.
        temperature: Divisor of the arguments of both softmaxes; 1.0 is the paper.
        tile_rows: Rows of A_F in a tile; by default as many as make `TILE_NUMBERS` over the batch.

    Returns:
        Scalar in the features' precision (at least float32).
    """
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    foreground = labels.detach().to(features.dtype)
    unit = F.normalize(features, dim=-1)
    if tile_rows is None:
        tile_rows = max(1, TILE_NUMBERS // (features.shape[0] * features.shape[1]))
    part = partial(checkpoint, _affinity_sums, use_reentrant=False, preserve_rng_state=False)
    sums = [part(rows, unit, foreground, temperature, tile_rows) for rows in unit.split(tile_rows * NUM_TILES, dim=1)]
    return _affinity_cost(torch.cat(sums, dim=1), foreground, temperature).sum(1).mean()


def _affinity_sums(rows: Tensor, unit: Tensor, foreground: Tensor, temperature: float, tile_rows: int) -> Tensor:
    """Sums over the rows of A that belong to some of the pixels (B, rows, C): Σ_fg A, Σ_fg A², Σ A², (B, rows, 3)."""
    foreground, sums = foreground[:, None], []
    with torch.autocast(unit.device.type, enabled=False):  # sums that cancel need more than bfloat16's 8 bits
        for tile in (rows / temperature).split(tile_rows, dim=1):
            affinity = (tile @ unit.mT).softmax(-1)  # eq. 1
            squares = affinity.square()
            inside = (affinity * foreground).sum(-1), (squares * foreground).sum(-1)
            sums.append(torch.stack([*inside, squares.sum(-1)], dim=-1))
    return torch.cat(sums, dim=1)


def _affinity_cost(sums: Tensor, foreground: Tensor, temperature: float) -> Tensor:
    """Cost of each row of equation 3 from its sums (B, N, 3): (B, N)."""
    inside, squares_inside, squares = sums.unbind(-1)
    squares_outside = squares - squares_inside
    num_pixels = foreground.shape[1]
    num_foreground = foreground.sum(1, keepdim=True)
    num_background = num_pixels - num_foreground
    off = foreground.new_full((), -1 / temperature).exp()  # S of a foreground row is s1 inside and s0 outside
    s1 = 1 / (num_foreground + num_background * off)
    s0 = s1 * off
    foreground_cost = s1.square() * (num_foreground - 2 * inside + squares_inside)
    foreground_cost = foreground_cost + s0.square() * (num_background - 2 * (1 - inside) + squares_outside)
    background_cost = (num_pixels - 2 + squares) / num_pixels**2
    return torch.where(foreground > 0, foreground_cost, background_cost)
