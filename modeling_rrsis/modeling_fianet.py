"""FIANet: fine-grained image–text alignment (FIAM) and text-aware multi-scale enhancement (TMEM) on the LAVT base.

Lei et al., "Exploring Fine-Grained Image-Text Alignment for Referring Remote Sensing Image Segmentation", IEEE TGRS.
Where the authors' released code departs from the paper, a field of [`FIANetConfig`] chooses; its defaults follow the
code, since released weights are right only with it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .alignment_rrsis import (
    LanguageGate,
    PixelWordAttention,
    PixelWordFusion,
    TextFeatures,
)
from .configuration_rrsis import FIANetConfig
from .loss_rrsis import BatchPart, cross_entropy_and_dice
from .modeling_lavt import LAVTForReferringSegmentation, StageState
from .multi_scale_rrsis import CrossScaleInteraction, LanguageGuidedEnhancement, MultiScaleFrame


class FIANetGroundObjectBranch(nn.Module):
    """Equations 1 and 2: attention to the ground-object words, gated."""

    def __init__(self, config: FIANetConfig, channels: int) -> None:
        super().__init__()
        self.attention = PixelWordAttention(
            channels, config.get_text_config().hidden_size, use_norm=config.attention_norm == "instance"
        )
        self.gate = LanguageGate(channels)

    def forward(self, pixels: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """F_GOB (B, N, C) from pixels (B, N, C) and the words F_G (B, L, D) with their mask (B, L)."""
        attended, _ = self.attention(pixels, words, mask)  # eq. 1
        return self.gate(attended)  # eq. 2


class FIANetSpatialPositionBranch(nn.Module):
    """Equations 3 and 4: attention to the position words, reduced to one spatial map in (0, 1)."""

    def __init__(self, config: FIANetConfig, channels: int) -> None:
        super().__init__()
        self.attention = PixelWordAttention(
            channels, config.get_text_config().hidden_size, use_norm=config.attention_norm == "instance"
        )
        kernel = config.position_conv_kernel
        self.conv = nn.Conv2d(2, 1, kernel_size=kernel, padding=kernel // 2, bias=False)

    def forward(self, pixels: Tensor, words: Tensor, mask: Tensor, size: tuple[int, int]) -> Tensor:
        """F_SPB (B, N, 1) from pixels (B, N, C) of a map of `size` and the words F_S (B, L, D), mask (B, L)."""
        attended, _ = self.attention(pixels, words, mask)  # eq. 3
        pooled = torch.stack([attended.mean(-1), attended.amax(-1)], dim=1)  # (B, 2, N): pooled over channels
        return self.conv(pooled.unflatten(-1, size)).sigmoid().flatten(2).transpose(1, 2)  # eq. 4


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


class FIANetStageFusion(GradientCheckpointingLayer):
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
        self.context = PixelWordFusion(config, channels, num_heads=config.fusion_num_heads[stage])
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
        self, pixels: Tensor, words: Tensor, mask: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Align pixels (B, N, C) of a map of `size` with F_C, F_G, F_S: words (3, B, L, D), their mask (3, B, L).

        Returns:
            The next stage's input and the multi-scale module's, both (B, N, C), and the weights of the attention to
            the context words (B, heads, N, L).
        """
        context, weights = self.context(pixels, words[0], mask[0])  # eq. 6
        if self.gate is None:
            return pixels, self.norm(context), weights
        fused = self.gate(context)  # eq. 7
        fused = self.add_object_position(fused, pixels, words, mask, size)
        if self.modulation is not None:
            source = pixels if self.modulation_source == "visual" else fused
            fused = self.modulation(source) * fused  # eq. 9
        aligned = fused + pixels  # eq. 10
        return aligned, self.norm(context if self.stage_output == "context" else aligned), weights

    def add_object_position(
        self, fused: Tensor, pixels: Tensor, words: Tensor, mask: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Equation 8 with the object–position alignment block of equation 5; either branch may be absent."""
        if self.spatial_position is None:
            return fused if self.ground_object is None else fused + self.ground_object(pixels, words[1], mask[1])
        position = self.spatial_position(pixels, words[2], mask[2], size)
        if self.ground_object is None:
            return fused * position  # without an object to place, the map places the context
        return fused + self.ground_object(pixels, words[1], mask[1]) * position  # eq. 5 and 8


class FIANetMultiScaleLayer(nn.Module):
    """One layer of equation 12: attention to the context words (eq. 13), then a feed-forward layer; both residual.

    Args:
        config: The model's configuration.
        channels: Width of the tokens.
    """

    def __init__(self, config: FIANetConfig, channels: int) -> None:
        super().__init__()
        hidden = int(channels * config.tmem_mlp_ratio)
        self.norm1 = nn.LayerNorm(channels)
        self.attention = PixelWordAttention(
            channels, config.get_text_config().hidden_size, use_norm=config.attention_norm == "instance"
        )
        self.norm2 = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, hidden)
        self.reduce = nn.Linear(hidden, channels)

    def forward(self, tokens: Tensor, words: Tensor, mask: Tensor, size: tuple[int, int]) -> Tensor:
        """Tokens (B, N, C), a map of `size`, and words (B, L, D) with their mask (B, L) to (B, N, C)."""
        tokens = tokens + self.attention(self.norm1(tokens), words, mask)[0]  # eq. 13
        return tokens + self.reduce(F.gelu(self.expand(self.norm2(tokens))))


class FIANetMultiScaleEnhancement(MultiScaleFrame):
    """Text-aware multi-scale enhancement module (TMEM): equation 11 in its frame, layers of equation 12.

    Args:
        config: The model's configuration; `num_tmem_layers` and `tmem_bottleneck` are its numbers.
        channels: Widths C_i of the stages.
    """

    def __init__(self, config: FIANetConfig, channels: list[int]) -> None:
        super().__init__(channels, bottleneck=config.tmem_bottleneck)
        self.layers.extend([FIANetMultiScaleLayer(config, self.width) for _ in range(config.num_tmem_layers)])


class FIANetCrossScaleInteraction(CrossScaleInteraction):
    """Figure 9's cross-scale interaction module (CIM) of RMSIN: all four scales, no text, in the TMEM's frame.

    Chosen here: the TMEM's number of layers and bottleneck, so that figure 9 compares what attends to what.

    Args:
        config: The model's configuration.
        channels: Widths C_i of the stages.
    """

    def __init__(self, config: FIANetConfig, channels: list[int]) -> None:
        super().__init__(
            channels,
            num_layers=config.num_tmem_layers,
            grid_size=config.grid_size,  # type: ignore[arg-type]  # the configuration has made it a number
            bottleneck=config.tmem_bottleneck,
        )


MULTI_SCALE_MODULES: dict[str, type[nn.Module]] = {
    "tmem": FIANetMultiScaleEnhancement,
    "cim": FIANetCrossScaleInteraction,
    "lgce": LanguageGuidedEnhancement,
}


class FIANetForReferringSegmentation(LAVTForReferringSegmentation):
    """FIANet: three readings of one expression, FIAM in every stage, TMEM over all of them.

    ```text
    expression (B, L) ── BERT, three attention masks ── F_C, F_G, F_S (B, L, D): context, ground object, position
                                                   │             │             │             │
    image (B, 3, H, W) ── patches ── stage 1 ── FIAM ──── 2 ── FIAM ──── 3 ── FIAM ──── 4 ── FIAM      eq. 1–10
                                                   │ H/4         │ H/8         │ H/16        │ H/32
                                                   └───────────── TMEM(F_C) ─────────────────┘         eq. 11–13
                                                   │             │             │             │
                       logits (B, H, W) ◄─ × 4 ─ block ─────── block ─────── block ────────┘
    ```

    Where the paper and the authors' released code differ, a field chooses; [`FIANetConfig.paper`] sets all of them:

    | equation | paper | released, the default | field |
    |---|---|---|---|
    | 1, 3, 13 | plain cross-attention | InstanceNorm on query and output; silences a single word | `attention_norm` |
    | 6 | LAVT's PWAM, whose norms it keeps | the same | |
    | 4 | 1×1 convolution | 3×3 | `position_conv_kernel` |
    | 9 | mean of F_IO | mean of V | `channel_modulation_source` |
    | 10 | F_FIAM to the TMEM | LayerNorm of F_IC, and F_FIAM to the next stage only | `stage_output` |
    | 12 | on 15·embed_dim channels | on a quarter of them, with BatchNorm after the layers | `tmem_bottleneck` |
    | III-D | CE + w·dice | (1 − w)·CE + w·dice, weighted CE, dice summed over the batch | `dice_mix`, … |

    In both: eq. 3 attends to F_S (the paper's prose says F_G, its formula F_S); eq. 12's "self-attention" has words as
    keys and values (eq. 13); BERT reads the whole expression three times under three masks; one logit, the log-odds,
    stands for the published two. Released parts that influence nothing are not built: the last stage's gate,
    object–position block and channel modulation, an unused linear layer of every stage, and BERT's pooler.

    `multi_scale` puts one of figure 9's other modules in the place of the TMEM, or none.

    Example:
        >>> import torch
        >>> from modeling_rrsis import FIANetConfig, FIANetForReferringSegmentation
        >>> small = {"backbone": "swin_tiny_patch4_window7_224", "text_config": {"num_hidden_layers": 1}}
        >>> model = FIANetForReferringSegmentation(FIANetConfig(**small)).eval()  # FIANetConfig() is the published
        >>> pixel_values, input_ids = torch.randn(2, 3, 96, 128), torch.tensor([[2, 8, 3], [2, 9, 3]])
        >>> words = torch.tensor([[0, 1, 0], [0, 1, 0]])  # the second token names the object
        >>> outputs = model(pixel_values, input_ids, ground_object_mask=words, spatial_position_mask=0 * words)
        >>> outputs.logits.shape
        torch.Size([2, 96, 128])
    """

    config: FIANetConfig
    config_class = FIANetConfig
    stage_fusion_class = FIANetStageFusion
    _no_split_modules = [  # noqa: RUF012
        *("SwinBlock", "FIANetStageFusion", "ConvBlock"),
        *(module.__name__ for module in MULTI_SCALE_MODULES.values()),
    ]

    def build_head(self) -> None:
        """The base's kernel, and the multi-scale module under its own name: `tmem`, `cim` or `lgce`."""
        super().build_head()
        name = self.config.multi_scale
        if name != "none":
            self.add_module(name, MULTI_SCALE_MODULES[name](self.config, self.vision.channels))

    def encode_text(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        ground_object_mask: Tensor | None = None,
        spatial_position_mask: Tensor | None = None,
    ) -> TextFeatures:
        """Context, ground object and position words: one BERT pass over 3·B, each with its own attention mask.

        A missing mask means the whole expression. A row whose mask is all zero attends to everything, as released;
        the cross-attentions then zero it.
        """
        masks = [attention_mask if mask is None else mask for mask in (ground_object_mask, spatial_position_mask)]
        stacked = torch.cat([attention_mask, *masks])
        attended = torch.where(stacked.any(-1, keepdim=True), stacked, torch.ones_like(stacked))
        words = self.text_encoder(input_ids=input_ids.repeat(3, 1), attention_mask=attended).last_hidden_state
        return TextFeatures(words.unflatten(0, (3, -1)), stacked.unflatten(0, (3, -1)))

    def predict(self, features: list[Tensor], text: TextFeatures) -> Tensor:
        """Log-odds (B, h, w) from the enhanced stages."""
        if self.config.multi_scale != "none":
            features = self.get_submodule(self.config.multi_scale)(features, text.words[0], text.mask[0])
        return super().predict(features, text)

    def compute_loss(
        self, logits: Tensor, labels: Tensor, stages: list[StageState], text: TextFeatures, part: BatchPart
    ) -> dict[str, Tensor]:
        """Cross-entropy and dice."""
        config = self.config
        return cross_entropy_and_dice(
            logits,
            labels,
            class_weights=config.class_weights,
            dice_weight=config.dice_weight,
            mix=config.dice_mix,
            reduction=config.dice_reduction,
            part=part,
        )
