"""Swin Transformer of timm as the vision encoder of the three networks.

Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021. timm builds the
modules and loads their weights; the stages are driven from here, since the expression is fused between them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import cast

import timm
import torch
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


class SwinVisionEncoder(nn.Module):
    """timm's Swin Transformer, stage by stage, for any image size.

    Windows keep their size on small maps, and maps are padded at the right and the bottom before the cyclic shift, as
    in the published detection and segmentation Swin; timm shifts first, which gives other numbers where a map is no
    multiple of the window. The padding is attended to in unshifted windows, as published.
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
        shift_mask = None
        for block in cast(list[SwinTransformerBlock], layer.blocks):
            if any(block.shift_size) and shift_mask is None:
                shift_mask = self._shift_mask(block, feature_map)
            mask = shift_mask if any(block.shift_size) else None
            if self.gradient_checkpointing and self.training:
                feature_map = self._gradient_checkpointing_func(self._block, block, feature_map, mask)
            else:
                feature_map = self._block(block, feature_map, mask)
        return feature_map

    @staticmethod
    def _shift_mask(block: SwinTransformerBlock, feature_map: Tensor) -> Tensor:
        """−100 between pixels of a shifted window that were not neighbours: (windows, 1, area, area)."""
        regions = []
        for size, window, shift in zip(feature_map.shape[1:3], block.window_size, block.shift_size, strict=True):
            padded = round_up(size, window)
            position = torch.arange(padded, device=feature_map.device)
            regions.append((position >= padded - window).long() + (position >= padded - shift).long())
        region = regions[0][:, None] * 3 + regions[1][None, :]
        windows = partition_windows(region[None, :, :, None], block.window_size).flatten(1)
        different = windows[:, None, :] != windows[:, :, None]
        return (different.to(feature_map.dtype) * -100.0).unsqueeze(1)

    @staticmethod
    def _block(block: SwinTransformerBlock, x: Tensor, mask: Tensor | None) -> Tensor:
        """One Swin block on (B, h, w, C)."""
        x = x + block.drop_path1(window_attention(block, block.norm1(x), mask))
        return x + block.drop_path2(block.mlp(block.norm2(x)))


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


def round_up(size: int, unit: int) -> int:
    """Smallest multiple of the unit that is at least the size.

    Written so that a compiler that keeps the size symbolic sees the multiple: with `size + (-size % unit)` it spends
    minutes on the sizes of the windows.
    """
    return (size + unit - 1) // unit * unit


def pad_to_multiple(x: Tensor, unit: tuple[int, int]) -> Tensor:
    """Pad (B, h, w, C) with zeros at the bottom and the right to multiples of the unit."""
    height, width = x.shape[1:3]
    return F.pad(x, (0, 0, 0, round_up(width, unit[1]) - width, 0, round_up(height, unit[0]) - height))


def partition_windows(x: Tensor, window: tuple[int, int]) -> Tensor:
    """(B, h, w, C), h and w multiples of the window, to (B · windows, area, C)."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // window[0], window[0], width // window[1], window[1], channels)
    return x.transpose(2, 3).reshape(-1, window[0] * window[1], channels)


def merge_windows(windows: Tensor, window: tuple[int, int], height: int, width: int) -> Tensor:
    """Inverse of [`partition_windows`]: (B · windows, area, C) to (B, height, width, C)."""
    channels = windows.shape[-1]
    x = windows.view(-1, height // window[0], width // window[1], window[0], window[1], channels)
    return x.transpose(2, 3).reshape(-1, height, width, channels)


def window_attention(block: SwinTransformerBlock, x: Tensor, mask: Tensor | None) -> Tensor:
    """(Shifted-)window attention of a timm Swin block on normalised (B, h, w, C)."""
    attention = block.attn
    height, width = x.shape[1:3]
    window = attention.window_size
    x = pad_to_multiple(x, window)
    padded_height, padded_width = x.shape[1:3]
    if mask is not None:
        x = torch.roll(x, shifts=(-block.shift_size[0], -block.shift_size[1]), dims=(1, 2))
    windows = partition_windows(x, window)
    query, key, value = (
        attention.qkv(windows).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    )
    area = window[0] * window[1]
    bias = attention.relative_position_bias_table[cast(Tensor, attention.relative_position_index).flatten()]
    bias = bias.view(area, area, -1).permute(2, 0, 1).to(query.dtype)
    if mask is not None:  # (windows, heads, area, area), repeated over the batch
        bias = (bias + mask.to(bias.dtype)).repeat(query.shape[0] // mask.shape[0], 1, 1, 1)
    weights = ((query * attention.scale) @ key.transpose(-1, -2) + bias).softmax(-1).to(value.dtype)
    out = (attention.attn_drop(weights) @ value).transpose(1, 2).flatten(2)
    out = attention.proj_drop(attention.proj(out))
    x = merge_windows(out, window, padded_height, padded_width)
    if mask is not None:
        x = torch.roll(x, shifts=(block.shift_size[0], block.shift_size[1]), dims=(1, 2))
    return x[:, :height, :width]


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
