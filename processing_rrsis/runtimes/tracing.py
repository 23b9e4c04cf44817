"""The graph behind `rrsis export`: one network in evaluation, for one image size, any batch and length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from modeling_rrsis import FIANetForReferringSegmentation

IMAGE_INPUT = "pixel_values"
TEXT_INPUTS: tuple[str, ...] = ("input_ids", "attention_mask", "ground_object_mask", "spatial_position_mask")
OUTPUT = "logits"
FIRST_TOKEN = 5
"""Token indices below belong to padding and the like."""
SHORTEST_TEXT = 2
"""Tokens: [CLS] and [SEP] of a blank expression."""
TRACED_BATCH, TRACED_LENGTH = 3, 7
"""A size of 1 would become a constant of the graph."""


class LogitsNetwork(nn.Module):
    """A network with tensors in and `{"logits": …}` out, so that a reader of its graph needs none of our classes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        ground_object_mask: Tensor | None = None,
        spatial_position_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Log-odds float (B, H, W); arguments as of the network, as many images as expressions."""
        output = self.network(
            pixel_values=pixel_values,
            input_ids=input_ids,
            attention_mask=attention_mask,
            ground_object_mask=ground_object_mask,
            spatial_position_mask=spatial_position_mask,
        )
        return {OUTPUT: output.logits}


@dataclass(frozen=True)
class InputShape:
    """Sizes of one call: images, tokens of the longest expression, height and width in px."""

    batch: int
    length: int
    size_px: tuple[int, int]


def input_names(network: nn.Module) -> tuple[str, ...]:
    """Names of the tensors that a network reads: the masks of words only by FIANet."""
    return (IMAGE_INPUT, *(TEXT_INPUTS if isinstance(network, FIANetForReferringSegmentation) else TEXT_INPUTS[:2]))


def sample_inputs(network: Any, names: Sequence[str], shape: InputShape, seed: int = 0) -> dict[str, Tensor]:
    """Seeded noise for images and expressions; the last row is padded and its object words are none.

    Args:
        network: Its vocabulary is drawn from.
        names: Tensors to make.
        shape: Their sizes.
        seed: Of the numbers.

    Returns:
        `pixel_values` float32 (B, 3, H, W), indices and masks int64 (B, L).
    """
    generator = torch.Generator().manual_seed(seed)
    rows, length = shape.batch, shape.length
    attended = torch.ones(rows, length, dtype=torch.long)
    if rows > 1:
        attended[-1, max(SHORTEST_TEXT, length - 2) :] = 0
    tokens = torch.randint(FIRST_TOKEN, network.config.text_config.vocab_size, (rows, length), generator=generator)
    places = torch.arange(length).expand(rows, length)
    starts = torch.randint(1, max(2, length - 2), (rows, 1), generator=generator)
    inputs = {
        IMAGE_INPUT: torch.randn(rows, 3, *shape.size_px, generator=generator),
        "input_ids": tokens * attended,
        "attention_mask": attended,
        "ground_object_mask": ((places >= starts) & (places < starts + 2)).long() * attended,
        "spatial_position_mask": (places >= starts + 1).long() * attended,
    }
    if rows > 1:
        inputs["ground_object_mask"][-1] = 0
    return {name: inputs[name] for name in names}


def trace(network: Any, names: Sequence[str], size_px: tuple[int, int]) -> torch.export.ExportedProgram:
    """Export a network of float32 weights as a graph for images of one size, in any number and text length.

    Height and width are fixed: windows, padding and upsampling depend on them. No parameter may want a gradient
    while the graph is made, or attention is laid out in memory as it is in training, and the graph can't be lowered.

    Args:
        network: One of the three networks, in evaluation.
        names: Tensors that it reads, see [`input_names`].
        size_px: Height and width of the images.

    Returns:
        Program with keyword arguments of these names and the output `{"logits": float32 (B, H, W)}`.
    """
    batch = torch.export.Dim("batch", min=1)
    length = torch.export.Dim("length", min=SHORTEST_TEXT, max=network.config.text_config.max_position_embeddings)
    inputs = sample_inputs(network, names, InputShape(TRACED_BATCH, TRACED_LENGTH, size_px))
    shapes = free_sizes(names, batch, length)
    module = LogitsNetwork(network).eval()
    wanted = [parameter for parameter in module.parameters() if parameter.requires_grad]
    try:
        module.requires_grad_(False)
        with torch.no_grad():
            return torch.export.export(module, args=(), kwargs=inputs, dynamic_shapes=shapes, strict=False)
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


def free_sizes(names: Sequence[str], batch: Any, length: Any) -> dict[str, dict[int, Any]]:
    """Which axes of the inputs are of any size: for each name the axis and what stands for its size."""
    return {name: {0: batch} if name == IMAGE_INPUT else {0: batch, 1: length} for name in names}
