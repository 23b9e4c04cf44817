"""Multi-scale modules between the four stages and the decoder, and what FIANet's own (TMEM) shares with them.

Figure 9 of FIANet's paper puts two modules of other papers in the place of its TMEM while "the other designs remain
the same": RMSIN's cross-scale interaction module (CIM; Liu et al., CVPR 2024, arXiv 2312.12470) and the
language-guided cross-scale enhancement (LGCE; Yuan et al., TGRS 2024, arXiv 2306.08625). FIANet's section III-C and
figure 4 tell them apart: all four scales without text, and two scales with text. "The same" is read here as: every
module hands each stage a share, and the stages take it in through the same scale-aware gates; the CIM keeps the
TMEM's frame of pooling, bottleneck and layers too.

Both are written from descriptions, not from code: from the papers' abstracts and from what FIANet's paper says of
them; the full papers were not read. Where those leave something open, the class says what was chosen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .alignment_rrsis import PixelWordFusion, PointwiseConv, TextFeatures, map_to_tokens, tokens_to_map
from .configuration_rrsis import FIANetConfig


class ScaleAwareGate(nn.Module):
    """RMSIN's gate between a stage and its share of the scales: local ⊙ up(h-sigmoid(act)) + up(global)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.local = nn.Conv2d(channels, channels, kernel_size=1)
        self.local_norm = nn.BatchNorm2d(channels)
        self.shared = nn.Conv2d(channels, channels, kernel_size=1)
        self.shared_norm = nn.BatchNorm2d(channels)
        self.activation = nn.Conv2d(channels, channels, kernel_size=1)
        self.activation_norm = nn.BatchNorm2d(channels)

    def forward(self, stage: Tensor, share: Tensor) -> Tensor:
        """Stage (B, C, h, w) and its share (B, C, h', w') to (B, C, h, w)."""
        size = stage.shape[-2:]
        activation = F.hardsigmoid(self.activation_norm(self.activation(share)))
        activation = F.interpolate(activation, size=size, mode="bilinear", align_corners=False)
        shared = self.shared_norm(self.shared(share))
        shared = F.interpolate(shared, size=size, mode="bilinear", align_corners=False)
        return self.local_norm(self.local(stage)) * activation + shared


class MultiScaleModule(nn.Module, ABC):
    """What the modules have in common: a share of the scales for every stage, taken in through scale-aware gates.

    Subclasses set `gates` and implement [`shares`].
    """

    gates: nn.ModuleList

    @abstractmethod
    def shares(self, features: list[Tensor], context: TextFeatures) -> list[Tensor]:
        """Each stage's share (B, C_i, h', w') of the maps (B, C_i, h_i, w_i) of all, in any height and width."""

    def forward(self, features: list[Tensor], context: TextFeatures) -> list[Tensor]:
        """Stage maps (B, C_i, h_i, w_i), finest first, and the words of the expression to maps of the same shapes."""
        shares = self.shares(features, context)
        return [gate(stage, share) for gate, stage, share in zip(self.gates, features, shares, strict=True)]


class MultiScaleLayer(nn.Module, ABC):
    """Transformer layer, LayerNorm first: attention and a feed-forward layer with GELU, both residual.

    Args:
        channels: Width of the tokens.
        mlp_ratio: Width of the feed-forward layer, as a multiple.
        attention: The module that a subclass calls in [`attend`].
    """

    def __init__(self, channels: int, mlp_ratio: float, attention: nn.Module) -> None:
        super().__init__()
        hidden = int(channels * mlp_ratio)
        self.norm1 = nn.LayerNorm(channels)
        self.attention = attention
        self.norm2 = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, hidden)
        self.reduce = nn.Linear(hidden, channels)

    @abstractmethod
    def attend(self, tokens: Tensor, context: TextFeatures, size: tuple[int, int]) -> Tensor:
        """Attention from tokens (B, N, C), a map of `size` (height, width)."""

    def forward(self, tokens: Tensor, context: TextFeatures, size: tuple[int, int]) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        tokens = tokens + self.attend(self.norm1(tokens), context, size)
        return tokens + self.reduce(F.gelu(self.expand(self.norm2(tokens))))


class JointScales(MultiScaleModule):
    """All four stages pooled to the last one's size, concatenated, put through layers, and split again.

    ```text
    F_1 … F_4 ── average pooling to h_4 × w_4 ── concat (B, N, ΣC_i) ─┬─ 1×1 down ── layers ── BN ── 1×1 up ─┬─ split
                                                                      └─ without bottleneck: layers ─────────┘
    ```

    Args:
        config: The model's configuration; `num_tmem_layers` and `tmem_bottleneck` are its numbers.
        channels: Widths C_i of the stages.
    """

    def __init__(self, config: FIANetConfig, channels: list[int]) -> None:
        super().__init__()
        total = sum(channels)
        width = max(1, total // config.tmem_bottleneck)
        self.channels = channels
        self.has_bottleneck = config.tmem_bottleneck > 1
        if self.has_bottleneck:
            self.down = PointwiseConv(total, width)
            self.norm = nn.BatchNorm2d(width)
            self.up = PointwiseConv(width, total)
        self.layers = nn.ModuleList([self.build_layer(config, width) for _ in range(config.num_tmem_layers)])
        self.gates = nn.ModuleList([ScaleAwareGate(width) for width in channels])

    @abstractmethod
    def build_layer(self, config: FIANetConfig, channels: int) -> MultiScaleLayer:
        """One layer on tokens (B, N, channels)."""

    def shares(self, features: list[Tensor], context: TextFeatures) -> list[Tensor]:
        """Shares (B, C_i, h_4, w_4)."""
        height, width = features[-1].shape[-2:]
        pooled = torch.cat([F.adaptive_avg_pool2d(stage, (height, width)) for stage in features], dim=1)
        tokens = map_to_tokens(pooled)
        if self.has_bottleneck:
            tokens = self.down(tokens)
        for layer in self.layers:
            tokens = layer(tokens, context, (height, width))
        if self.has_bottleneck:
            tokens = self.up(map_to_tokens(self.norm(tokens_to_map(tokens, (height, width)))))
        return list(tokens_to_map(tokens, (height, width)).split(self.channels, dim=1))


class CrossScaleAttention(nn.Module):
    """Self-attention of RMSIN's CIM: keys and values of several receptive fields, and a local compensation.

    ```text
    x (B, N, C) ─┬─ W_q ────────────────────────── Q (B, N, C) ──────────────┐
                 ├─ W_k ── average pooling by r_1, r_2, … ── K (B, ΣN_r, C) ─┼─ softmax(QKᵀ/√d) V ─ + ── W_o
                 └─ W_v ─┬─ average pooling by r_1, r_2, … ── V (B, ΣN_r, C)─┘                      │
                         └─ depthwise convolution on the map ── local relations (B, N, C) ──────────┘
    ```

    Chosen here: the pooling (average, after the projections, with which it commutes; a map of ⌈h/r⌉×⌈w/r⌉, so that any
    size works, where the published module needs 15×15), its factors, the number of heads, and the 3×3 kernel.

    Args:
        channels: Width C of the tokens.
        num_heads: Heads; they must divide the width.
        pool_ratios: Factors r by which keys and values are pooled; 1 is the map itself.
        local_kernel: Side of the depthwise convolution's kernel, odd.

    Raises:
        ValueError: If the heads don't divide the width.
    """

    def __init__(self, channels: int, num_heads: int, pool_ratios: list[int], local_kernel: int) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(
                f"`cim_num_heads` must divide the width of the multi-scale module, got {num_heads} heads for "
                f"{channels} channels (all stages' widths, divided by `tmem_bottleneck`)."
            )
        self.num_heads = num_heads
        self.pool_ratios = pool_ratios
        self.query = PointwiseConv(channels, channels)
        self.key = PointwiseConv(
            channels, channels, bias=False
        )  # a bias would shift a row's scores alike: dead weight
        self.value = PointwiseConv(channels, channels)
        self.local = nn.Conv2d(channels, channels, local_kernel, padding=local_kernel // 2, groups=channels)
        self.output = PointwiseConv(channels, channels)

    def pool(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """Tokens (B, N, C) of all receptive fields one after the other, (B, Σ_r ⌈h/r⌉·⌈w/r⌉, C)."""
        feature_map = tokens_to_map(tokens, size)
        return torch.cat(
            [
                tokens
                if ratio == 1
                else map_to_tokens(F.adaptive_avg_pool2d(feature_map, (-(-size[0] // ratio), -(-size[1] // ratio))))
                for ratio in self.pool_ratios
            ],
            dim=1,
        )

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """Attend among the pixels of a map of `size`, (B, N, C) to (B, N, C)."""
        value = self.value(tokens)
        query, keys, values = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in (self.query(tokens), self.pool(self.key(tokens), size), self.pool(value, size))
        )
        attended = F.scaled_dot_product_attention(query, keys, values).transpose(1, 2).flatten(2)
        return self.output(attended + map_to_tokens(self.local(tokens_to_map(value, size))))


class CrossScaleLayer(MultiScaleLayer):
    """One layer of the CIM. Chosen here: the feed-forward layer is the TMEM's (`tmem_mlp_ratio`)."""

    def __init__(self, config: FIANetConfig, channels: int) -> None:
        attention = CrossScaleAttention(
            channels,
            num_heads=config.cim_num_heads,
            pool_ratios=config.cim_pool_ratios,
            local_kernel=config.cim_local_kernel,
        )
        super().__init__(channels, mlp_ratio=config.tmem_mlp_ratio, attention=attention)

    def attend(self, tokens: Tensor, context: TextFeatures, size: tuple[int, int]) -> Tensor:
        """Among the pixels; the words are not read."""
        return self.attention(tokens, size)


class CrossScaleInteraction(JointScales):
    """Cross-scale interaction module (CIM) of RMSIN: all four scales, no text, any size.

    In RMSIN the features of the stages are brought to one size and concatenated, interact by attention over several
    receptive fields, and go back to their stages through scale-aware gates. Chosen here: the frame is the TMEM's, with
    its number of layers, its bottleneck and the width of its feed-forward layers, so that figure 9 compares what
    attends to what and nothing else.
    """

    def build_layer(self, config: FIANetConfig, channels: int) -> CrossScaleLayer:
        """A layer without text."""
        return CrossScaleLayer(config, channels)


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
        self.guidance = PixelWordFusion(
            channels,
            config.text_config.hidden_size,
            dropout=config.fusion_dropout,
            use_norm=config.attention_norm == "instance",
        )
        self.amount = PointwiseConv(channels, channels)

    def forward(self, stage: Tensor, other: Tensor, context: TextFeatures) -> Tensor:
        """Stage (B, C, h, w) and the other scale (B, C', h', w') to the enhanced stage (B, C, h, w)."""
        height, width = stage.shape[-2:]
        other = tokens_to_map(self.other(map_to_tokens(other)), (other.shape[-2], other.shape[-1]))
        other = map_to_tokens(F.interpolate(other, size=(height, width), mode="bilinear", align_corners=False))
        pixels = map_to_tokens(stage)
        joint = F.gelu(self.joint(torch.cat([pixels, other], dim=-1)))
        guided, _ = self.guidance(joint, context)
        return tokens_to_map(pixels + self.amount(guided).sigmoid() * other, (height, width))


class LanguageGuidedEnhancement(MultiScaleModule):
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
        self.pairs = nn.ModuleList(
            [
                LanguageGuidedPair(config, channels=width, other_channels=channels[partner])
                for width, partner in zip(channels, self.partners, strict=True)
            ]
        )
        self.gates = nn.ModuleList([ScaleAwareGate(width) for width in channels])

    def shares(self, features: list[Tensor], context: TextFeatures) -> list[Tensor]:
        """Enhanced stages (B, C_i, h_i, w_i)."""
        return [
            pair(stage, features[partner], context)
            for pair, stage, partner in zip(self.pairs, features, self.partners, strict=True)
        ]
