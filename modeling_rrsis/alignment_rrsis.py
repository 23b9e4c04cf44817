"""Layers that align pixels with words, and the token layout that they share.

Pixels travel as tokens (B, N, C) row by row, words as [`TextFeatures`]. The pixel–word attention module (PWAM) is
LAVT's (Yang et al., CVPR 2022); FIANet's branches and multi-scale modules attend through the same block.

Where a batch holds one image and many expressions, or the reverse, its tensors keep the size 1 and broadcast: what
precedes the first fusion is then computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_rrsis import LAVTConfig

MASKED = -1e4  # added to the logits of padding words; as published, and within float16


class TextFeatures(NamedTuple):
    """R readings of B expressions: LAVT and DANet have one, FIANet three.

    Attributes:
        words: Word features, float (R, B, L, D).
        mask: 1 for words that may be attended to, 0 for others, (R, B, L).
    """

    words: Tensor
    mask: Tensor


class BatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over (B, C, h, w); in training a single value per channel is an error that says what to do."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same.

        Raises:
            ValueError: In training, if there is one value per channel, which has no deviation.
        """
        if self.training and x.numel() == x.shape[1]:
            raise ValueError(
                "training: expected a batch of 2 or larger images, BatchNorm got a single pixel of a single image "
                f"{tuple(x.shape)}; or put the norms into evaluation, where running statistics are used"
            )
        return super().forward(x)


def instance_norm(tokens: Tensor, eps: float = 1e-5) -> Tensor:
    """InstanceNorm without parameters over the pixels of (B, N, C), in float32 at least; zero where N is 1."""
    wide = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
    centred = wide - wide.mean(1, keepdim=True)
    variance = centred.square().mean(1, keepdim=True)
    return (centred * torch.rsqrt(variance + eps)).to(tokens.dtype)


def tokens_to_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, N, C) to (B, C, height, width), a view with channels last in memory."""
    return tokens.unflatten(1, size).permute(0, 3, 1, 2)


def map_to_tokens(feature_map: Tensor) -> Tensor:
    """(B, C, height, width) to (B, N, C)."""
    return feature_map.flatten(2).transpose(1, 2)


def upsample(feature_map: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """PyTorch's bilinear interpolation of (B, C, h, w) to `size`; see [`resize_by_products`]."""
    resize = partial(F.interpolate, mode="linear", align_corners=align_corners)
    return resize_by_products(feature_map, size, resize=resize)


def average_pool(feature_map: Tensor, size: tuple[int, int]) -> Tensor:
    """PyTorch's adaptive average pooling of (B, C, h, w) to `size`; see [`resize_by_products`]."""
    # PyTorch's own in one dimension makes a constant of the size in exported graphs, that in two does not.
    return resize_by_products(
        feature_map, size, resize=lambda unit, new: F.adaptive_avg_pool2d(unit, (unit.shape[-2], new))
    )


def resize_by_products(feature_map: Tensor, size: tuple[int, int], resize: Callable[..., Tensor]) -> Tensor:
    """Resize both axes of (B, C, h, w) by a product with a matrix each, what `resize` makes of the unit matrix.

    On a GPU the gradients of PyTorch's own resizing are added up in no fixed order, so that no run ends with the same
    bytes twice, and its deterministic form takes thirty times as long. Products have an order and cost the same.
    The result lies in memory with channels last.
    """
    dtype = torch.promote_types(feature_map.dtype, torch.float32)
    rows, columns = (
        resize(torch.eye(length, dtype=dtype, device=feature_map.device)[None], new)[0]
        for length, new in zip(feature_map.shape[-2:], size, strict=True)
    )
    with torch.autocast(feature_map.device.type, enabled=False):
        lines = rows.mT @ feature_map.to(dtype).permute(0, 2, 3, 1).flatten(2)  # (B, new h, w · C)
        pixels = columns.mT @ lines.unflatten(-1, (-1, feature_map.shape[1]))  # (B, new h, new w, C)
    return pixels.to(feature_map.dtype).permute(0, 3, 1, 2)


class PointwiseConv(nn.Linear):
    """1×1 convolution on tokens (B, N, C); a linear layer that is initialised like PyTorch's convolutions."""


class PixelWordAttention(nn.Module):
    """Cross-attention with pixels as queries and words as keys and values.

    Args:
        channels: Width C of the pixels, the keys and the values.
        text_channels: Width D of the words.
        num_heads: Heads; the scale is 1/√C whatever their number, as published.
        use_norm: InstanceNorm on the queries and on the output, as released.

    Raises:
        ValueError: If the heads don't divide the width.
    """

    def __init__(self, channels: int, text_channels: int, num_heads: int = 1, use_norm: bool = True) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(
                f"`fusion_num_heads` must divide the width of its stage, got {num_heads} heads for {channels} channels"
            )
        self.num_heads = num_heads
        self.scale = channels**-0.5
        self.use_norm = use_norm
        self.query = PointwiseConv(channels, channels)
        self.key = PointwiseConv(text_channels, channels)
        self.value = PointwiseConv(text_channels, channels)
        self.output = PointwiseConv(channels, channels)

    def project_query(self, pixels: Tensor) -> Tensor:
        """Queries (B, N, C) of pixels (B, N, C)."""
        query = self.query(pixels)
        return instance_norm(query) if self.use_norm else query

    def forward(self, pixels: Tensor, words: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Attend from pixels (B, N, C) to words (B, L, D) where their mask (B, L) is 1.

        Returns:
            float (B, N, C), and the weights in [0, 1], float (B, heads, N, L).
        """
        mask = mask.to(pixels.dtype)
        # Projections have biases, so padding is zeroed after them; a fully masked row then gives zeros.
        key = self.key(words) * mask.unsqueeze(-1)
        value = self.value(words) * mask.unsqueeze(-1)
        query, key, value = (
            tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for tokens in (self.project_query(pixels), key, value)
        )
        scores = (query * self.scale) @ key.transpose(-1, -2) + MASKED * (1 - mask[:, None, None])
        weights = scores.softmax(-1).to(value.dtype)
        attended = self.output((weights @ value).transpose(1, 2).flatten(2))
        return (instance_norm(attended) if self.use_norm else attended), weights


class PixelWordFusion(nn.Module):
    """LAVT's pixel–word attention module (PWAM): GELU(1×1(GELU(1×1(V)) ⊙ attention(V, words)))."""

    def __init__(self, config: LAVTConfig, channels: int, num_heads: int = 1) -> None:
        super().__init__()
        self.attention = PixelWordAttention(channels, config.get_text_config().hidden_size, num_heads=num_heads)
        self.visual = PointwiseConv(channels, channels)
        self.output = PointwiseConv(channels, channels)
        self.dropout = nn.Dropout(config.fusion_dropout)

    def forward(self, pixels: Tensor, words: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse pixels (B, N, C) with the words; shapes as of [`PixelWordAttention`]."""
        visual = self.dropout(F.gelu(self.visual(pixels)))
        attended, weights = self.attention(pixels, words, mask)
        return self.dropout(F.gelu(self.output(visual * attended))), weights


class LanguageGate(nn.Module):
    """Linear–ReLU–Linear–Tanh without biases; returns gate ⊙ input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(channels, channels, bias=False)
        self.expand = nn.Linear(channels, channels, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Gate (B, N, C)."""
        return self.expand(self.reduce(tokens).relu()).tanh() * tokens
