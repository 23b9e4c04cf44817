"""Swin Transformer of timm as the vision encoder of the three networks.

Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021. timm builds the
modules and loads their weights; the stages are driven from here, since the expression is fused between them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import cast

import timm
import torch.nn.functional as F
from timm.layers import PatchEmbed
from timm.models.swin_transformer import (
    SwinTransformer,
    SwinTransformerBlock,
    SwinTransformerStage,
    checkpoint_filter_fn,
)
from torch import Tensor, nn

from .configuration_rrsis import LAVTConfig
from .recomputed_rrsis import feed_forward
from .windows_rrsis import (
    can_be_planned,
    pad_to_multiple,
    planned_window_attention,
    round_up,
    shift_mask,
    window_attention,
)


class SwinVisionEncoder(nn.Module):
    """timm's Swin Transformer, stage by stage, for any image size.

    The blocks' attention is that of the published detection and segmentation Swin, see `windows_rrsis`.
    """

    _gradient_checkpointing_func: Callable[..., Tensor]  # transformers sets it

    def __init__(self, config: LAVTConfig) -> None:
        super().__init__()
        swin = build_swin(config)
        self.patch_embed = cast(PatchEmbed, swin.patch_embed)
        self.layers = swin.layers
        self.channels = [info["num_chs"] for info in swin.feature_info]
        self.patch_size = self.patch_embed.patch_size
        self.gradient_checkpointing = False

    def embed(self, pixel_values: Tensor) -> Tensor:
        """Patches (B, h, w, C) of an image (B, 3, H, W), padded with zeros to a multiple of the patch."""
        height, width = pixel_values.shape[-2:]
        padded_height, padded_width = round_up(height, self.patch_size[0]), round_up(width, self.patch_size[1])
        return self.patch_embed(F.pad(pixel_values, (0, padded_width - width, 0, padded_height - height)))

    def forward_stage(self, stage: int, feature_map: Tensor) -> Tensor:
        """Patch merging (from the second stage on) and the blocks of a stage, (B, h, w, C) to (B, h', w', C')."""
        layer = cast(SwinTransformerStage, self.layers[stage])
        if stage > 0:
            feature_map = layer.downsample(pad_to_multiple(feature_map, (2, 2)))
        mask = None
        for block in cast(list[SwinTransformerBlock], layer.blocks):
            attend: Callable[[Tensor], Tensor]
            if can_be_planned(block, feature_map):
                attend = partial(planned_window_attention, block)
            else:
                if any(block.shift_size) and mask is None:
                    mask = shift_mask(block, feature_map)
                attend = partial(window_attention, block, mask=mask if any(block.shift_size) else None)
            if self.gradient_checkpointing and self.training:
                feature_map = self._gradient_checkpointing_func(self._block, block, feature_map, attend)
            else:
                feature_map = self._block(block, feature_map, attend)
        return feature_map

    @staticmethod
    def _block(block: SwinTransformerBlock, x: Tensor, attend: Callable[[Tensor], Tensor]) -> Tensor:
        """One Swin block on (B, h, w, C)."""
        x = x + block.drop_path1(attend(x))
        return x + block.drop_path2(feed_forward(block.norm2, block.mlp, x))


def build_swin(config: LAVTConfig, pretrained: bool = False) -> SwinTransformer:
    """Timm's Swin for a configuration; with `pretrained`, with timm's weights for that name."""
    if not config.backbone.startswith("swin_") or not timm.is_model(config.backbone.split(".")[0]):
        raise ValueError(
            f"`backbone` must name a Swin Transformer of timm, got {config.backbone!r}; `timm.list_models('swin_*')` "
            "lists them."
        )
    kwargs = {"img_size": config.image_size, **config.backbone_kwargs}
    swin = timm.create_model(
        config.backbone, pretrained=pretrained, num_classes=0, strict_img_size=False, always_partition=True, **kwargs
    )
    return cast(SwinTransformer, swin)


def load_swin_state(config: LAVTConfig, vision: str) -> dict[str, Tensor]:
    """State dictionary for [`SwinVisionEncoder`] from timm's Hub weights or from a file in timm's layout."""
    if os.path.exists(vision):
        swin = build_swin(config)
        missing = timm.models.load_checkpoint(swin, vision, strict=False, filter_fn=checkpoint_filter_fn).missing_keys
        missing = [key for key in missing if key.startswith(("patch_embed.", "layers."))]
        if missing:
            raise ValueError(
                f"{vision} lacks {len(missing)} of the weights of {config.backbone} in timm's layout, first "
                f"{missing[:3]}. `python -m modeling_rrsis.convert --arch swin` makes one from the published file"
            )
    else:
        named = type(config)(**{**config.to_dict(), "backbone": vision})
        swin = build_swin(named, pretrained=True)
    state = swin.state_dict()
    return {key: value for key, value in state.items() if key.startswith(("patch_embed.", "layers."))}
