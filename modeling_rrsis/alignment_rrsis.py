"""Layers that align pixels with words, and the token layout that they share.

Pixels travel as tokens (B, N, C) row by row, words as [`TextFeatures`]. The pixel–word attention module (PWAM) is
LAVT's (Yang et al., CVPR 2022); FIANet's branches and multi-scale modules attend through the same block.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .recomputed_rrsis import linear_of_gated
from .shortcuts_rrsis import is_plain

MASKED = -1e4  # added to the logits of padding words; as published, and within float16
INSTANCE_NORM_EPS = 1e-5  # PyTorch's


class TextFeatures(NamedTuple):
    """Word features float (B, L, D) and the mask (B, L) of the words that may be attended to, 1 or 0."""

    words: Tensor
    mask: Tensor


def instance_norm(tokens: Tensor, eps: float = INSTANCE_NORM_EPS) -> Tensor:
    """InstanceNorm without parameters over the pixels of (B, N, C), in float32 at least; zero where N is 1."""
    wide = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
    centred = wide - wide.mean(1, keepdim=True)
    variance = centred.square().mean(1, keepdim=True)  # several times faster on a CPU than torch.var_mean over pixels
    return (centred * torch.rsqrt(variance + eps)).to(tokens.dtype)


def tokens_to_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, N, C) to (B, C, height, width), a view with channels last in memory."""
    return tokens.unflatten(1, size).permute(0, 3, 1, 2)


def map_to_tokens(feature_map: Tensor) -> Tensor:
    """(B, C, height, width) to (B, N, C)."""
    return feature_map.flatten(2).transpose(1, 2)


class PointwiseConv(nn.Linear):
    """1×1 convolution on tokens (B, N, C); a linear layer that is initialised like PyTorch's convolutions."""


class PixelWordAttention(nn.Module):
    """Cross-attention with pixels as queries and words as keys and values.

    An expression has about 20 words and a stage up to 14,400 pixels, so what can be done on the words' side is done
    there: the InstanceNorm of the queries scales the keys, and the output projection and its InstanceNorm are applied
    to the values. The numbers are those of the published order up to rounding; the pixels are multiplied by one
    C×C matrix instead of two and never normalised themselves.

    Args:
        channels: Width C of the pixels, the keys and the values.
        text_channels: Width D of the words.
        num_heads: Heads; the scale is 1/√C whatever their number, as published.
        use_norm: InstanceNorm on the queries and on the output, as released.
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

    def forward(self, pixels: Tensor, text: TextFeatures) -> tuple[Tensor, Tensor]:
        """Attend from pixels (B, N, C) to the words of `text`; returns (B, N, C) and the weights (B, heads, N, L)."""
        mask = text.mask.to(pixels.dtype).unsqueeze(-1)
        # Projections have biases, so padding is zeroed after them; a fully masked row then gives zeros.
        key, value = self.key(text.words) * mask, self.value(text.words) * mask
        if self.use_norm:
            query, spread = self._centred_query(pixels)
            key = (key * spread).to(query.dtype)
        else:
            query = self.query(pixels)
        heads = (self.num_heads, -1)
        query, key = (tokens.unflatten(-1, heads).transpose(1, 2) for tokens in (query, key * self.scale))
        scores = query @ key.transpose(-1, -2) + MASKED * (1 - mask[:, None, :, 0].unsqueeze(1))
        weights = scores.softmax(-1).to(value.dtype)
        if not is_plain(self.output, PointwiseConv):  # an adapter or a hook may want pixels
            attended = self.output((weights @ value.unflatten(-1, heads).transpose(1, 2)).transpose(1, 2).flatten(2))
            return instance_norm(attended) if self.use_norm else attended, weights
        # What a word gives to a pixel that attends to it alone, by head (B, heads, L, C); a pixel's weights sum to 1.
        given = self.output(self._heads_apart(value))
        if self.num_heads > 1:  # the heads' parts are added up, each with the bias in it
            given = given - self.output.bias.to(given.dtype) * (1 - 1 / self.num_heads)
        if self.use_norm:
            return _mix_normalised(weights, given).to(given.dtype), weights
        return _flat_heads(weights) @ given.flatten(1, 2), weights

    def _heads_apart(self, value: Tensor) -> Tensor:
        """Values (B, L, C) to (B, heads, L, C), zero outside each head's channels."""
        if self.num_heads == 1:
            return value.unsqueeze(1)
        heads = torch.eye(self.num_heads, dtype=value.dtype, device=value.device)
        own = heads.repeat_interleave(value.shape[-1] // self.num_heads, dim=1)
        return value.unsqueeze(1) * own.unsqueeze(1)

    def _centred_query(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Queries minus their mean over the pixels (B, N, C), and one over their deviation, float32 (B, 1, C)."""
        query = self.query(pixels)
        mean = query.mean(1, keepdim=True)
        query = query.sub_(mean) if is_plain(self.query, PointwiseConv) else query - mean
        variance = query.to(torch.promote_types(query.dtype, torch.float32)).square().mean(1, keepdim=True)
        return query, torch.rsqrt(variance + INSTANCE_NORM_EPS)


def _flat_heads(weights: Tensor) -> Tensor:
    """Attention weights (B, heads, N, L) to (B, N, heads · L)."""
    return weights.transpose(1, 2).flatten(2)


def _mix_normalised(weights: Tensor, given: Tensor) -> Tensor:
    """InstanceNorm over the pixels of weights (B, heads, N, L) times what the words give (B, heads, L, C): (B, N, C).

    The variance of a channel follows from the covariance of the weights, a matrix of words by words. Weights and words
    are both centred first: each pixel's weights sum to 1, so what all words have in common reaches every pixel alike.
    """
    dtype = torch.promote_types(weights.dtype, torch.float32)
    with torch.autocast(weights.device.type, enabled=False):
        weights, given = weights.to(dtype), given.to(dtype)
        average = weights.mean(2, keepdim=True)
        centred = _flat_heads(weights - average)
        given = (given - average @ given).flatten(1, 2)
        covariance = centred.transpose(1, 2) @ centred / centred.shape[1]
        variance = (given * (covariance @ given)).sum(1, keepdim=True).clamp(min=0)
        return centred @ (given * torch.rsqrt(variance + INSTANCE_NORM_EPS))


class PixelWordFusion(nn.Module):
    """LAVT's pixel–word attention module (PWAM): GELU(1×1(GELU(1×1(V)) ⊙ attention(V, words)))."""

    def __init__(
        self, channels: int, text_channels: int, num_heads: int = 1, dropout: float = 0.0, use_norm: bool = True
    ) -> None:
        super().__init__()
        self.attention = PixelWordAttention(channels, text_channels, num_heads=num_heads, use_norm=use_norm)
        self.visual = PointwiseConv(channels, channels)
        self.output = PointwiseConv(channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, pixels: Tensor, text: TextFeatures) -> tuple[Tensor, Tensor]:
        """Fuse pixels (B, N, C) with the words; returns (B, N, C) and the attention's weights (B, heads, N, L)."""
        visual = self.visual(pixels)
        attended, weights = self.attention(pixels, text)
        if not is_plain(self.dropout, nn.Dropout) or (self.dropout.training and self.dropout.p > 0):
            fused = self.output(self.dropout(F.gelu(visual)) * attended)
        else:
            fused = linear_of_gated(self.output, PointwiseConv, visual, attended)
        return self.dropout(F.gelu(fused)), weights


class LanguageGate(nn.Module):
    """Linear–ReLU–Linear–Tanh without biases; returns gate ⊙ input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(channels, channels, bias=False)
        self.expand = nn.Linear(channels, channels, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Gate (B, N, C)."""
        return self.expand(self.reduce(tokens).relu()).tanh() * tokens
