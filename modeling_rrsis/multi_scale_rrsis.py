"""The scale-aware gate of the multi-scale modules, and what figure 9 of FIANet's paper puts in the TMEM's place.

Figure 9 exchanges the TMEM for RMSIN's cross-scale interaction (CIM; Liu et al., CVPR 2024, arXiv 2312.12470), all
four scales without text, and the language-guided cross-scale enhancement (LGCE; Yuan et al., TGRS 2024, arXiv
2306.08625), two scales with text, while "the other designs remain the same": the gates, and for the CIM the frame.
Both are written from descriptions (the papers' abstracts, FIANet's section III-C and figure 4), not from code or the
full papers; the classes say what was chosen.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .alignment_rrsis import PixelWordFusion, PointwiseConv, average_pool, map_to_tokens, tokens_to_map, upsample
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
        size = (stage.shape[-2], stage.shape[-1])
        activation = F.hardsigmoid(self.activation_norm(self.activation(share)))
        activation = upsample(activation, size, align_corners=False)
        shared = self.shared_norm(self.shared(share))
        shared = upsample(shared, size, align_corners=False)
        return self.local_norm(self.local(stage)) * activation + shared


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
        self.key = PointwiseConv(channels, channels, bias=False)  # a bias would shift all scores of a row alike
        self.value = PointwiseConv(channels, channels)
        self.local = nn.Conv2d(channels, channels, local_kernel, padding=local_kernel // 2, groups=channels)
        self.output = PointwiseConv(channels, channels)

    def pool(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """Tokens (B, N, C) of all receptive fields one after the other, (B, Σ_r ⌈h/r⌉·⌈w/r⌉, C)."""
        feature_map = tokens_to_map(tokens, size)
        sizes = [(-(-size[0] // ratio), -(-size[1] // ratio)) for ratio in self.pool_ratios]
        return torch.cat([map_to_tokens(average_pool(feature_map, pooled)) for pooled in sizes], dim=1)

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """Attend among the pixels of a map of `size`, (B, N, C) to (B, N, C)."""
        value = self.value(tokens)
        query, keys, values = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in (self.query(tokens), self.pool(self.key(tokens), size), self.pool(value, size))
        )
        attended = F.scaled_dot_product_attention(query, keys, values).transpose(1, 2).flatten(2)
        return self.output(attended + map_to_tokens(self.local(tokens_to_map(value, size))))


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
