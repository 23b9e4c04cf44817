"""Modules over all four scales: their frame with its scale-aware gates, RMSIN's cross-scale interaction, and LGCE.

The cross-scale interaction (CIM; Liu et al., CVPR 2024, arXiv 2312.12470) joins all four scales without text: RMSIN's
own, and in figure 9 of FIANet's paper in the TMEM's place. The language-guided cross-scale enhancement (LGCE; Yuan et
al., TGRS 2024, arXiv 2306.08625), figure 9's other module, joins two scales with text; it is written from its abstract
and FIANet's section III-C, and the class says what was chosen.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .alignment_rrsis import (
    BatchNorm2d,
    PixelWordFusion,
    PointwiseConv,
    average_pool,
    map_to_tokens,
    tokens_to_map,
    upsample,
)
from .configuration_rrsis import FIANetConfig


class ScaleAwareGate(nn.Module):
    """RMSIN's gate between a stage and its share of the scales: local ⊙ up(h-sigmoid(act)) + up(global)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.local = nn.Conv2d(channels, channels, kernel_size=1)
        self.local_norm = BatchNorm2d(channels)
        self.shared = nn.Conv2d(channels, channels, kernel_size=1)
        self.shared_norm = BatchNorm2d(channels)
        self.activation = nn.Conv2d(channels, channels, kernel_size=1)
        self.activation_norm = BatchNorm2d(channels)

    def forward(self, stage: Tensor, share: Tensor) -> Tensor:
        """Stage (B, C, h, w) and its share (B, C, h', w') to (B, C, h, w)."""
        size = (stage.shape[-2], stage.shape[-1])
        activation = F.hardsigmoid(self.activation_norm(self.activation(share)))
        activation = upsample(activation, size, align_corners=False)
        shared = self.shared_norm(self.shared(share))
        shared = upsample(shared, size, align_corners=False)
        return self.local_norm(self.local(stage)) * activation + shared


class MultiScaleFrame(nn.Module):
    """What surrounds the layers of the TMEM and of the CIM.

    ```text
    F_1 … F_4 ── average pooling to one size ── concat (B, N, ΣC_i) ─┬─ 1×1 down ── layers ── BN ── 1×1 up ─┬─ split
      │                                                              └─ without bottleneck: layers ─────────┘    │
      └─────────────────────────────────────────────────────────────────────────────── scale-aware gates ────────┘
    ```

    Subclasses append to `layers` what maps tokens (B, N, width), words, their mask and the map's size to tokens.

    Args:
        channels: Widths C_i of the stages.
        bottleneck: Factor by which the layers are narrower than the concatenated stages; with 1 nothing narrows.
        grid_size: Side of the pooled map; `None` is the last stage's size.
    """

    def __init__(self, channels: list[int], bottleneck: int, grid_size: int | None = None) -> None:
        super().__init__()
        total = sum(channels)
        self.channels = channels
        self.grid_size = grid_size
        self.width = max(1, total // bottleneck)
        self.has_bottleneck = bottleneck > 1
        if self.has_bottleneck:
            self.down = PointwiseConv(total, self.width)
            self.norm = BatchNorm2d(self.width)
            self.up = PointwiseConv(self.width, total)
        self.layers = nn.ModuleList()
        self.gates = nn.ModuleList([ScaleAwareGate(width) for width in channels])

    def forward(self, features: list[Tensor], words: Tensor, mask: Tensor) -> list[Tensor]:
        """Stage maps (B, C_i, h_i, w_i), finest first, and F_C (B, L, D), mask (B, L), to maps of the same shapes."""
        last = (features[-1].shape[-2], features[-1].shape[-1])
        size = last if self.grid_size is None else (self.grid_size, self.grid_size)
        tokens = map_to_tokens(torch.cat([average_pool(stage, size) for stage in features], dim=1))
        if self.has_bottleneck:
            tokens = self.down(tokens)
        for layer in self.layers:
            tokens = layer(tokens, words, mask, size)
        if self.has_bottleneck:
            tokens = self.up(map_to_tokens(self.norm(tokens_to_map(tokens, size))))
        shares = tokens_to_map(tokens, size).split(self.channels, dim=1)
        return [gate(stage, share) for gate, stage, share in zip(self.gates, features, shares, strict=True)]


class CrossScaleAttention(nn.Module):
    """Self-attention of the CIM over a grid and two coarser views of it, and a convolution of the values beside it.

    ```text
    x (B, C, g, g) ── BN ─┬───────────────────── g² ─┐                  ┌─ q, k, v ─ attention ─ T → g² ─┐
                          ├─ depthwise 3×3, ½, BN ───┼─ tokens (B, T, C)┤                                + ─ out
                          └─ depthwise 5×5, ⅓, BN ───┘                  └─ first g² of v ── depthwise ───┘
    ```

    T = g² + ⌈g/2⌉² + ⌈g/3⌉². Two reshapes do not transpose, as published: trained weights rely on both.

    Args:
        channels: Width C.
        grid_size: Side g of the grid.
        num_heads: Heads.
        key_channels: Width of a head's queries and keys; its values are twice as wide.
    """

    def __init__(self, channels: int, grid_size: int, num_heads: int = 8, key_channels: int = 32) -> None:
        super().__init__()
        num_tokens = sum((-(-grid_size // ratio)) ** 2 for ratio in (1, 2, 3))
        self.parts = [key_channels, key_channels, 2 * key_channels]
        values = num_heads * self.parts[2]
        self.norm = BatchNorm2d(channels)
        self.by_two = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=3, stride=2, padding=1, groups=channels),
            BatchNorm2d(channels),
        )
        self.by_three = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=5, stride=3, padding=2, groups=channels),
            BatchNorm2d(channels),
        )
        self.project = nn.Linear(channels, num_heads * sum(self.parts), bias=False)
        self.project_norm = nn.BatchNorm1d(num_heads * sum(self.parts))
        self.to_grid = nn.Linear(num_tokens, grid_size**2)
        self.local = nn.Conv2d(values, values, kernel_size=3, padding=1, groups=values)
        self.gather = nn.Linear(values, channels)
        self.output_norm = BatchNorm2d(channels)
        self.output = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, g, g) to (B, C, g, g)."""
        size = (x.shape[-2], x.shape[-1])
        x = self.norm(x)
        tokens = torch.cat([map_to_tokens(view) for view in (x, self.by_two(x), self.by_three(x))], dim=1)
        projected = self.project(tokens)
        projected = self.project_norm(projected.flatten(0, 1)).view_as(projected)
        heads = projected.unflatten(-1, (-1, sum(self.parts))).transpose(1, 2)  # (B, heads, T, 4 · key_channels)
        query, key, value = heads.split(self.parts, dim=-1)
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)  # (B, T, heads, channels)
        # (B, T, heads · channels) is read as (B, heads · channels, T) and (B, heads, g², channels) as
        # (B, heads · channels, g, g), both without a transposition.
        joined = self.to_grid(attended.flatten(1).unflatten(1, (-1, tokens.shape[1])))
        near = value[:, :, : size[0] * size[1]].flatten(1).unflatten(1, (-1, *size))
        joined = joined + self.local(F.hardswish(near)).flatten(2)
        gathered = tokens_to_map(self.gather(joined.transpose(1, 2)), size)
        return self.output(F.hardswish(self.output_norm(gathered)))


class CrossScaleFeedForward(nn.Sequential):
    """Feed-forward layer of the CIM on maps (B, C, h, w), twice as wide inside."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            BatchNorm2d(channels),
            nn.Conv2d(channels, 2 * channels, kernel_size=1),
            BatchNorm2d(2 * channels),
            nn.Conv2d(2 * channels, 2 * channels, kernel_size=3, padding=1, groups=channels),
            nn.ReLU6(),
            nn.Conv2d(2 * channels, channels, kernel_size=1),
        )


class CrossScaleLayer(nn.Module):
    """A block of the CIM: attention, a feed-forward layer within each scale, attention, one over all; all residual.

    Args:
        widths: Shares of the stages in the width.
        grid_size: Side g of the grid.
    """

    def __init__(self, widths: list[int], grid_size: int) -> None:
        super().__init__()
        self.widths = widths
        self.attention1 = CrossScaleAttention(sum(widths), grid_size)
        self.within = nn.ModuleList([CrossScaleFeedForward(width) for width in widths])
        self.attention2 = CrossScaleAttention(sum(widths), grid_size)
        self.across = CrossScaleFeedForward(sum(widths))

    def forward(self, tokens: Tensor, words: Tensor, mask: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, g², C) to (B, g², C); the words are not read."""
        x = tokens_to_map(tokens, size)
        x = x + self.attention1(x)
        shares = x.split(self.widths, dim=1)
        within = [share + layer(share) for share, layer in zip(shares, self.within, strict=True)]
        x = x + torch.cat(within, dim=1)  # a residual inside and one outside, as published
        x = x + self.attention2(x)
        return map_to_tokens(x + self.across(x))


class CrossScaleInteraction(MultiScaleFrame):
    """RMSIN's cross-scale interaction module (CIM) on a grid of fixed side, to which any map is pooled.

    Args:
        channels: Widths C_i of the stages.
        num_layers: Blocks.
        grid_size: Side g of the grid.
        bottleneck: As of [`MultiScaleFrame`]; it must divide the widths.

    Raises:
        ValueError: If it doesn't.
    """

    def __init__(self, channels: list[int], num_layers: int, grid_size: int, bottleneck: int = 4) -> None:
        super().__init__(channels, bottleneck=bottleneck, grid_size=grid_size)
        widths = [width // bottleneck for width in channels]
        if any(width % bottleneck for width in channels):
            raise ValueError(
                f"The cross-scale interaction narrows each stage by {bottleneck}, which must divide the stages' "
                f"widths, got {channels}; choose another `embed_dim`."
            )
        self.layers.extend([CrossScaleLayer(widths, grid_size) for _ in range(num_layers)])


class LanguageGuidedPair(nn.Module):
    """A stage enhanced with one other scale, as much of it as the words ask for at each pixel and channel.

    ```text
    other (B, C', h', w') ── 1×1 ── bilinear to h × w ─┬───────────────────────────────────── ⊙ ── + ── share
    stage (B, C, h, w) ─┬── concat ── 1×1, GELU ───────┤                                      │    │
                        │                └── PWAM(joint pixels, words) ── 1×1 ── sigmoid ─────┘    │
                        └──────────────────────────────────────────────────────────────────────────┘
    ```

    Args:
        config: The model's configuration.
        channels: Width C of the stage.
        other_channels: Width C' of the other scale.
    """

    def __init__(self, config: FIANetConfig, channels: int, other_channels: int) -> None:
        super().__init__()
        self.other = PointwiseConv(other_channels, channels)
        self.joint = PointwiseConv(2 * channels, channels)
        self.guidance = PixelWordFusion(config, channels)
        self.amount = PointwiseConv(channels, channels)

    def forward(self, stage: Tensor, other: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """Stage (B, C, h, w), the other scale (B, C', h', w') and words (B, L, D), mask (B, L), to (B, C, h, w)."""
        height, width = stage.shape[-2:]
        other = tokens_to_map(self.other(map_to_tokens(other)), (other.shape[-2], other.shape[-1]))
        other = map_to_tokens(upsample(other, (height, width), align_corners=False))
        pixels = map_to_tokens(stage)
        joint = F.gelu(self.joint(torch.cat([pixels, other], dim=-1)))
        guided, _ = self.guidance(joint, words, mask)
        return tokens_to_map(pixels + self.amount(guided).sigmoid() * other, (height, width))


class LanguageGuidedEnhancement(nn.Module):
    """Language-guided cross-scale enhancement (LGCE): two scales at a time, shallow and deep, assisted by the text.

    LGCE "utilizes linguistic features to adaptively enhance multi-scale visual features by integrating both deep and
    shallow features" (its abstract), on LAVT; its code is not public. Chosen here: each of the first three stages is
    enhanced with the next deeper one, and the last, which has none, with the one before it; LAVT's own pixel–word
    attention module (PWAM) is the linguistic guidance, a sigmoid after it the adaptive amount. The scale-aware gates
    are not LGCE's: figure 9 exchanges the TMEM and keeps what surrounds it.

    Args:
        config: The model's configuration.
        channels: Widths C_i of the stages.
    """

    def __init__(self, config: FIANetConfig, channels: list[int]) -> None:
        super().__init__()
        last = len(channels) - 1
        self.partners = [stage + 1 if stage < last else stage - 1 for stage in range(len(channels))]
        widths = [(width, channels[partner]) for width, partner in zip(channels, self.partners, strict=True)]
        self.pairs = nn.ModuleList([LanguageGuidedPair(config, width, other) for width, other in widths])
        self.gates = nn.ModuleList([ScaleAwareGate(width) for width in channels])

    def forward(self, features: list[Tensor], words: Tensor, mask: Tensor) -> list[Tensor]:
        """Stage maps (B, C_i, h_i, w_i), finest first, with words (B, L, D), mask (B, L), to maps as they came."""
        shares = [
            pair(stage, features[partner], words, mask)
            for pair, stage, partner in zip(self.pairs, features, self.partners, strict=True)
        ]
        return [gate(stage, share) for gate, stage, share in zip(self.gates, features, shares, strict=True)]
