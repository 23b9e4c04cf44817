"""FIANet: fine-grained image–text alignment (FIAM) and text-aware multi-scale enhancement (TMEM) on the LAVT base.

Lei et al., "Exploring Fine-Grained Image-Text Alignment for Referring Remote Sensing Image Segmentation", IEEE TGRS.
Where the authors' released code departs from the paper, a field of [`FIANetConfig`] chooses; its defaults follow the
code, since released weights are right only with it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .alignment_rrsis import (
    LanguageGate,
    PixelWordAttention,
    PixelWordFusion,
    PointwiseConv,
    TextFeatures,
    map_to_tokens,
    tokens_to_map,
)
from .configuration_rrsis import FIANetConfig
from .loss_rrsis import dice_loss, weighted_cross_entropy
from .modeling_lavt import LAVTForReferringSegmentation, StageState


class FIANetGroundObjectBranch(nn.Module):
    """Equations 1 and 2: attention to the ground-object words, gated."""

    def __init__(self, config: FIANetConfig, channels: int) -> None:
        super().__init__()
        self.attention = PixelWordAttention(
            channels, config.text_config.hidden_size, use_norm=config.attention_norm == "instance"
        )
        self.gate = LanguageGate(channels)

    def forward(self, pixels: Tensor, ground_object: TextFeatures) -> Tensor:
        """F_GOB (B, N, C)."""
        attended, _ = self.attention(pixels, ground_object)
        return self.gate(attended)


class FIANetSpatialPositionBranch(nn.Module):
    """Equations 3 and 4: attention to the position words, reduced to one spatial map in (0, 1)."""

    def __init__(self, config: FIANetConfig, channels: int) -> None:
        super().__init__()
        self.attention = PixelWordAttention(
            channels, config.text_config.hidden_size, use_norm=config.attention_norm == "instance"
        )
        kernel = config.position_conv_kernel
        self.conv = nn.Conv2d(2, 1, kernel_size=kernel, padding=kernel // 2, bias=False)

    def forward(self, pixels: Tensor, spatial_position: TextFeatures, size: tuple[int, int]) -> Tensor:
        """F_SPB (B, N, 1)."""
        attended, _ = self.attention(pixels, spatial_position)
        pooled = torch.stack([attended.mean(-1), attended.amax(-1)], dim=1)  # (B, 2, N): pooled over channels
        return self.conv(pooled.unflatten(-1, size)).sigmoid().flatten(2).transpose(1, 2)


class FIANetChannelModulation(nn.Module):
    """Equation 9: channel weights (B, 1, C) from the mean over pixels."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.reduce = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """Weights in (0, 1)."""
        return self.expand(self.reduce(tokens.mean(1, keepdim=True)).relu()).sigmoid()


class FIANetStageFusion(nn.Module):
    """Fine-grained image–text alignment module (FIAM) after the blocks of a stage.

    ```text
    V ─┬─ attention(ground object) ─ gate ──────────── ⊙ ─ F_OPAB ─┐
       ├─ attention(position) ─ mean, max ─ conv ─ σ ──┘           + ─ F_IO ─ ⊙ ── + ─ F_FIAM, to the next stage
       ├─ PWAM(context) ─┬─ gate ──────────────────────────────────┘          │    │
       │                 └─ LayerNorm, to the multi-scale module (released)   c    V
       └─ mean ─ W_1 ─ ReLU ─ W_2 ─ σ ───────────────────────────────────────┘
    ```

    With `stage_output="context"` the last stage's gate, OPAB and channel modulation would influence nothing: they are
    not built.
    """

    def __init__(self, config: FIANetConfig, stage: int, channels: int) -> None:
        super().__init__()
        self.stage_output = config.stage_output
        self.modulation_source = config.channel_modulation_source
        self.context = PixelWordFusion(
            channels,
            config.text_config.hidden_size,
            num_heads=config.fusion_num_heads[stage],
            dropout=config.fusion_dropout,
            use_norm=config.attention_norm == "instance",
        )
        self.norm = nn.LayerNorm(channels)
        self.gate = self.ground_object = self.spatial_position = self.modulation = None
        if config.stage_output == "context" and stage == 3:
            return
        self.gate = LanguageGate(channels)
        if config.use_ground_object_branch:
            self.ground_object = FIANetGroundObjectBranch(config, channels)
        if config.use_spatial_position_branch:
            self.spatial_position = FIANetSpatialPositionBranch(config, channels)
        if config.use_channel_modulation:
            self.modulation = FIANetChannelModulation(channels, config.channel_modulation_reduction)

    def forward(
        self, pixels: Tensor, text: tuple[TextFeatures, ...], size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Align (B, N, C) with the three readings.

        Returns:
            The next stage's input and the multi-scale module's, both (B, N, C), and the weights of the attention to
            the context words (B, heads, N, L).
        """
        context_words, object_words, position_words = text
        context, weights = self.context(pixels, context_words)  # eq. 6
        if self.gate is None:
            return pixels, self.norm(context), weights
        fused = self.gate(context)  # eq. 7
        fused = self._add_object_position(fused, pixels, object_words, position_words, size)
        if self.modulation is not None:
            source = pixels if self.modulation_source == "visual" else fused
            fused = self.modulation(source) * fused  # eq. 9
        aligned = fused + pixels  # eq. 10
        return aligned, self.norm(context if self.stage_output == "context" else aligned), weights

    def _add_object_position(
        self,
        fused: Tensor,
        pixels: Tensor,
        object_words: TextFeatures,
        position_words: TextFeatures,
        size: tuple[int, int],
    ) -> Tensor:
        """Equation 8 with the object–position alignment block of equation 5; either branch may be absent."""
        if self.spatial_position is None:
            return fused if self.ground_object is None else fused + self.ground_object(pixels, object_words)
        position = self.spatial_position(pixels, position_words, size)
        if self.ground_object is None:
            return fused * position  # without an object to place, the map places the context
        return fused + self.ground_object(pixels, object_words) * position


class FIANetMultiScaleLayer(nn.Module):
    """One layer of equation 12: attention to the context words (eq. 13), then a feed-forward layer; both residual."""

    def __init__(self, config: FIANetConfig, channels: int) -> None:
        super().__init__()
        hidden = int(channels * config.tmem_mlp_ratio)
        self.norm1 = nn.LayerNorm(channels)
        self.attention = PixelWordAttention(
            channels, config.text_config.hidden_size, use_norm=config.attention_norm == "instance"
        )
        self.norm2 = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, hidden)
        self.reduce = nn.Linear(hidden, channels)

    def forward(self, tokens: Tensor, context: TextFeatures) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        attended, _ = self.attention(self.norm1(tokens), context)
        tokens = tokens + attended
        return tokens + self.reduce(F.gelu(self.expand(self.norm2(tokens))))


class FIANetScaleAwareGate(nn.Module):
    """Joins a stage with its share of the multi-scale features: local ⊙ up(h-sigmoid(act)) + up(global)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.local = nn.Conv2d(channels, channels, kernel_size=1)
        self.local_norm = nn.BatchNorm2d(channels)
        self.shared = nn.Conv2d(channels, channels, kernel_size=1)
        self.shared_norm = nn.BatchNorm2d(channels)
        self.activation = nn.Conv2d(channels, channels, kernel_size=1)
        self.activation_norm = nn.BatchNorm2d(channels)

    def forward(self, stage: Tensor, enhanced: Tensor) -> Tensor:
        """Stage (B, C, h, w) and multi-scale features (B, C, h', w') to (B, C, h, w)."""
        size = stage.shape[-2:]
        activation = F.hardsigmoid(self.activation_norm(self.activation(enhanced)))
        activation = F.interpolate(activation, size=size, mode="bilinear", align_corners=False)
        shared = self.shared_norm(self.shared(enhanced))
        shared = F.interpolate(shared, size=size, mode="bilinear", align_corners=False)
        return self.local_norm(self.local(stage)) * activation + shared


class FIANetMultiScaleEnhancement(nn.Module):
    """Text-aware multi-scale enhancement module (TMEM), equations 11 to 13, with its scale-aware gates."""

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
        self.layers = nn.ModuleList([FIANetMultiScaleLayer(config, width) for _ in range(config.num_tmem_layers)])
        self.gates = nn.ModuleList([FIANetScaleAwareGate(width) for width in channels])

    def forward(self, features: list[Tensor], context: TextFeatures) -> list[Tensor]:
        """Stage maps (B, C_i, h_i, w_i) to enhanced maps of the same shapes."""
        size = features[-1].shape[-2:]
        pooled = torch.cat([F.adaptive_avg_pool2d(stage, size) for stage in features], dim=1)  # eq. 11
        tokens = map_to_tokens(pooled)
        if self.has_bottleneck:
            tokens = self.down(tokens)
        for layer in self.layers:
            tokens = layer(tokens, context)
        if self.has_bottleneck:
            tokens = self.up(map_to_tokens(self.norm(tokens_to_map(tokens, size))))
        enhanced = tokens_to_map(tokens, size).split(self.channels, dim=1)
        return [gate(stage, share) for gate, stage, share in zip(self.gates, features, enhanced, strict=True)]


class FIANetForReferringSegmentation(LAVTForReferringSegmentation):
    """FIANet: three readings of one expression, FIAM in every stage, TMEM over all of them.

    ```text
    expression ── BERT, three attention masks ── context, ground object, position (B, L, D) each
                                                   │             │             │             │
    image (B, 3, H, W) ── patches ── stage 1 ── FIAM ──── 2 ── FIAM ──── 3 ── FIAM ──── 4 ── FIAM
                                                   │ H/4         │ H/8         │ H/16        │ H/32
                                                   └───────────── TMEM(context words) ───────┘
                                                   │             │             │             │
                                         logits ── block ─────── block ─────── block ────────┘
    ```
    """

    config_class = FIANetConfig
    stage_fusion_class = FIANetStageFusion

    def build_head(self) -> None:
        """The base's kernel, and the multi-scale module."""
        super().build_head()
        config = self.config
        self.tmem = FIANetMultiScaleEnhancement(config, self.vision.channels) if config.multi_scale == "tmem" else None

    def encode_text(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        ground_object_mask: Tensor | None,
        spatial_position_mask: Tensor | None,
    ) -> tuple[TextFeatures, ...]:
        """Context, ground object and position words: one BERT pass over 3·B, each with its own attention mask.

        A missing mask means the whole expression. A row whose mask is all zero attends to everything, as released;
        the cross-attentions then zero it.
        """
        masks = [attention_mask if mask is None else mask for mask in (ground_object_mask, spatial_position_mask)]
        masks = [attention_mask, *masks]
        stacked = torch.cat(masks)
        attended = torch.where(stacked.any(-1, keepdim=True), stacked, torch.ones_like(stacked))
        words = self.text_encoder(input_ids=input_ids.repeat(3, 1), attention_mask=attended).last_hidden_state
        return tuple(TextFeatures(part, mask) for part, mask in zip(words.chunk(3), masks, strict=True))

    def predict(self, features: list[Tensor], text: tuple[TextFeatures, ...]) -> Tensor:
        """Log-odds (B, h, w) from the enhanced stages."""
        if self.tmem is not None:
            features = self.tmem(features, text[0])
        return super().predict(features, text)

    def compute_loss(
        self, logits: Tensor, labels: Tensor, stages: list[StageState], text: tuple[TextFeatures, ...]
    ) -> dict[str, Tensor]:
        """Cross-entropy and dice."""
        config = self.config
        cross_entropy = weighted_cross_entropy(logits, labels, class_weights=config.class_weights)
        dice = dice_loss(logits, labels, reduction=config.dice_reduction)
        share = 1 - config.dice_weight if config.dice_mix == "convex" else 1.0
        return {
            "loss": share * cross_entropy + config.dice_weight * dice,
            "cross_entropy": cross_entropy,
            "dice": dice,
        }
