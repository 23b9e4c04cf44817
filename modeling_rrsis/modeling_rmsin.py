"""RMSIN on the LAVT base: interaction within and across scales, and a decoder whose kernels turn with the image.

Liu et al., "Rotated Multi-Scale Interaction Network for Referring Remote Sensing Image Segmentation", CVPR 2024.
RemoteSAM (2025) is this network, trained on 270,000 triplets of 896 px. Released weights are right only with what the
published code computes, which is what this file follows.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .alignment_rrsis import BatchNorm2d, LanguageGate, TextFeatures
from .configuration_rrsis import RMSINConfig
from .loss_rrsis import BatchPart, cross_entropy_and_dice
from .modeling_lavt import LAVTForReferringSegmentation, LAVTStageFusion, StageState
from .multi_scale_rrsis import CrossScaleInteraction


class RMSINBranches(nn.Module):
    """Three branches on one channel, summed: BN(1×1), BN(3×3(BN(1×1))) and BN."""

    def __init__(self) -> None:
        super().__init__()
        self.point = nn.Sequential(nn.Conv2d(1, 1, kernel_size=1, bias=False), BatchNorm2d(1))
        self.square = nn.Sequential(
            nn.Conv2d(1, 1, kernel_size=1, bias=False),
            BatchNorm2d(1),
            nn.Conv2d(1, 1, kernel_size=3, padding=1, bias=False),
            BatchNorm2d(1),
        )
        self.identity = BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, h, w) to (B, 1, h, w)."""
        return self.point(x) + self.square(x) + self.identity(x)


class RMSINIntraScale(nn.Module):
    """Intra-scale interaction (IIM): where in its map a stage has what matters, from the mean of its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = RMSINBranches()
        self.second = RMSINBranches()

    def forward(self, pixels: Tensor, size: tuple[int, int]) -> Tensor:
        """Pixels (B, N, C) of a map of `size` to weights in (0, 1), (B, N, 1)."""
        mean = pixels.mean(-1).unflatten(-1, size).unsqueeze(1)
        return self.second(self.first(mean).relu()).sigmoid().flatten(2).transpose(1, 2)


class RMSINVisualGate(GradientCheckpointingLayer, LanguageGate):
    """The base's gate, on R = s ⊙ V in the place of the words' part."""


class RMSINStageFusion(nn.Module):
    """LAVT's fusion, and the intra-scale branch beside it: V + gate(F) ⊙ F + gate(R) ⊙ R goes to the next stage.

    The last stage hands LAVT's F on and nothing else, so that its branch is not built. The fusion is made again under
    gradient checkpointing, the branch's maps are not: a BatchNorm that is made again counts its batch twice.
    """

    def __init__(self, config: RMSINConfig, stage: int, channels: int) -> None:
        super().__init__()
        self.language = LAVTStageFusion(config, stage=stage, channels=channels)
        self.intra_scale = self.visual_gate = None
        if config.use_intra_scale and stage < 3:
            self.intra_scale = RMSINIntraScale()
            self.visual_gate = RMSINVisualGate(channels)

    def forward(
        self, pixels: Tensor, words: Tensor, mask: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As [`LAVTStageFusion.forward`]."""
        fused, output, weights = self.language(pixels, words, mask, size)
        if self.intra_scale is not None and self.visual_gate is not None:
            fused = fused + self.visual_gate(self.intra_scale(pixels, size) * pixels)
        return fused, output, weights


class RMSINRotatedConv(GradientCheckpointingLayer, nn.Conv2d):
    """3×3 convolution whose kernel is turned by an angle θ of the image's own and scaled by a strength λ (ARC).

    Pu et al., "Adaptive Rotated Convolution for Rotated Object Detection", ICCV 2023, with one kernel. No bias.

    Args:
        channels: Width C of input and output.
        max_rotation: Largest |θ| in degrees.
        dropout: Before the layers that choose λ and θ.
    """

    def __init__(self, channels: int, max_rotation: float, dropout: float) -> None:
        super().__init__(channels, channels, kernel_size=3, padding=1, bias=False)
        self.max_angle = math.radians(max_rotation)
        self.routing = nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=channels, bias=False)
        self.routing_norm = nn.LayerNorm(channels)
        self.routing_dropout = nn.Dropout(dropout)
        self.strength = nn.Linear(channels, 1)
        self.angle = nn.Linear(channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, h, w)."""
        kernel = self.turn(*self.choose(x))
        # Products instead of a convolution with a group for each image, so that a graph takes any number of images.
        height, width = x.shape[-2:]
        padded = F.pad(x, (1, 1, 1, 1))
        columns = torch.cat([padded[..., column : column + width] for column in range(3)], dim=1)  # (B, 3C, h + 2, w)
        rows = [kernel[:, row] @ columns[:, :, row : row + height].flatten(2) for row in range(3)]
        return (rows[0] + rows[1] + rows[2]).unflatten(-1, (height, width))

    def choose(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Strength in (0, 1) and angle in radians, both (B,), of maps (B, C, h, w)."""
        features = self.routing_norm(self.routing(x).permute(0, 2, 3, 1)).relu().mean((1, 2))
        strength = self.strength(self.routing_dropout(features)).sigmoid()
        angle = F.softsign(self.angle(self.routing_dropout(features))) * self.max_angle
        return strength.squeeze(-1), angle.squeeze(-1)

    def turn(self, strength: Tensor, angle: Tensor) -> Tensor:
        """The kernels λ·K' (B, 3, C', 3·C), rows apart, of strengths and angles (B,)."""
        mixed = strength[:, None, None] * turned_taps(angle)  # (B, 9, 9)
        taps = self.weight.flatten(2).permute(2, 0, 1)  # (9, C', C), tap = 3 · row + column
        kernel = (mixed.to(taps.dtype) @ taps.flatten(1)).unflatten(-1, taps.shape[1:]).unflatten(1, (3, 3))
        return kernel.transpose(2, 3).flatten(3)


def turned_taps(angle: Tensor) -> Tensor:
    """How much of each tap t of a 3×3 kernel lies under each tap s after a turn: bilinear, (B, 9, 9).

    Tap s looks at its own place turned by θ, (u·cos θ − v·sin θ, u·sin θ + v·cos θ) for column u and row v in
    {−1, 0, 1}, or the nearest place within the kernel.

    Args:
        angle: θ in radians, float (B,).
    """
    axis = torch.arange(-1, 2, device=angle.device, dtype=angle.dtype)
    row, column = axis.repeat_interleave(3), axis.repeat(3)
    cosine, sine = angle.cos()[:, None], angle.sin()[:, None]
    places = column * cosine - row * sine, column * sine + row * cosine  # (B, 9): columns and rows
    near = [
        (1 - (place.clamp(-1, 1)[:, :, None] - taps).abs()).relu()
        for place, taps in zip(places, (column, row), strict=True)
    ]
    return near[0] * near[1]


class RMSINForReferringSegmentation(LAVTForReferringSegmentation):
    """RMSIN: LAVT with interaction within (IIM) and across scales (CIM) and adaptive rotated convolutions (ARC).

    ```text
    expression (B, L) ── BERT ── words (B, L, D) ──┬─────────────┬─────────────┬─────────────┐
                                                   │             │             │             │
    image (B, 3, H, W) ── patches ── stage 1 ── fusion, IIM ── 2 ── fusion, IIM ── 3 ── fusion, IIM ── 4 ── fusion
                                                   │ H/4         │ H/8         │ H/16        │ H/32
                                                   └──────────────── CIM on a g×g grid ──────┘
                                                   │             │             │             │
                       logits (B, H, W) ◄─ × 4 ─ block ─────── block ─────── block ────────┘
                                                  └──── ARC ─────┴──── ARC ────┘
    ```

    `use_intra_scale`, `use_cross_scale` and `use_rotated_convolution` leave one of them out each; without all three it
    is LAVT with RMSIN's loss.

    Deviations from the published code, none of which changes a number at the trained size:

    | published | here |
    |---|---|
    | squares of the trained size | any H, W ≥ 32: the CIM's grid has the trained size, maps are pooled to it |
    | two logits; BERT's pooler; the last stage's gates and branch, which feed nothing | as in LAVT |
    | turned kernels by a table for θ ≥ 0 and one for θ < 0 | bilinear sampling at the turned places, which both are |

    Example:
        >>> import torch
        >>> from modeling_rrsis import RMSINConfig, RMSINForReferringSegmentation
        >>> small = {"backbone": "swin_tiny_patch4_window7_224", "text_config": {"num_hidden_layers": 1}}
        >>> model = RMSINForReferringSegmentation(RMSINConfig(**small)).eval()  # RMSINConfig() is the published size
        >>> pixel_values, input_ids = torch.randn(2, 3, 96, 128), torch.tensor([[2, 8, 3], [2, 9, 3]])
        >>> model(pixel_values, input_ids).logits.shape
        torch.Size([2, 96, 128])
    """

    config: RMSINConfig
    config_class = RMSINConfig
    stage_fusion_class = RMSINStageFusion
    _no_split_modules = ["SwinBlock", "RMSINStageFusion", "ConvBlock", "CrossScaleInteraction"]  # noqa: RUF012

    def build_head(self) -> None:
        """The base's kernel, the cross-scale interaction, and rotated convolutions in the decoder."""
        super().build_head()
        config = self.config
        if config.use_cross_scale:
            self.cim = CrossScaleInteraction(
                self.vision.channels,
                num_layers=config.num_cim_layers,
                grid_size=config.grid_size,  # type: ignore[arg-type]  # the configuration has made it a number
            )
        if config.use_rotated_convolution:
            for block in self.decoder.blocks:
                block.conv2 = RMSINRotatedConv(
                    self.hidden_size, max_rotation=config.max_rotation, dropout=config.routing_dropout
                )

    def predict(self, features: list[Tensor], text: TextFeatures) -> Tensor:
        """Log-odds (B, h, w) from the stages, after their interaction."""
        if self.config.use_cross_scale:
            features = self.cim(features, text.words[0], text.mask[0])
        return super().predict(features, text)

    def compute_loss(
        self, logits: Tensor, labels: Tensor, stages: list[StageState], text: TextFeatures, part: BatchPart
    ) -> dict[str, Tensor]:
        """Cross-entropy and dice, as released."""
        config = self.config
        return cross_entropy_and_dice(
            logits,
            labels,
            class_weights=config.class_weights,
            dice_weight=config.dice_weight,
            reduction=config.dice_reduction,
            part=part,
        )
