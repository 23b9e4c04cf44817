"""Swin Transformer of timm as the vision encoder of the networks.

Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021. timm builds the
modules and loads their weights; the stages are called from here, since the expression is fused between them.
"""

from __future__ import annotations

import os
from typing import Any, cast

import timm
import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock, checkpoint_filter_fn
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_rrsis import LAVTConfig

MASKED = -100.0  # added to the scores between pixels that were no neighbours before the shift, as published


class SwinBlock(GradientCheckpointingLayer):
    """timm's Swin block for maps of any size.

    Windows keep their size on small maps, and maps are padded at the right and the bottom before the cyclic shift, as
    in the published detection and segmentation Swin; timm shifts first, which gives other numbers where a map is no
    multiple of the window. The padding is attended to in unshifted windows, as published.

    Args:
        block: timm's block, whose layers this one takes over.
    """

    def __init__(self, block: SwinTransformerBlock) -> None:
        super().__init__()
        self.window = cast(tuple[int, int], block.window_size)
        self.shift = cast(tuple[int, int], block.shift_size)
        self.norm1, self.attn, self.drop_path1 = block.norm1, block.attn, block.drop_path1
        self.norm2, self.mlp, self.drop_path2 = block.norm2, block.mlp, block.drop_path2
        self.attn.fused_attn = True  # type: ignore[misc]  # PyTorch's attention; timm leaves it off until an environment variable is set

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) to (B, h, w, C)."""
        x = x + self.drop_path1(self.attend(self.norm1(x)))
        return x + self.drop_path2(self.mlp(self.norm2(x)))

    def attend(self, x: Tensor) -> Tensor:
        """(Shifted-)window attention: pad, shift, cut into windows, attend in each, and all of it back."""
        height, width = x.shape[1:3]
        padded = round_up(height, self.window[0]), round_up(width, self.window[1])
        x = F.pad(x, (0, 0, 0, padded[1] - width, 0, padded[0] - height))
        mask = None
        if any(self.shift):
            x = torch.roll(x, shifts=(-self.shift[0], -self.shift[1]), dims=(1, 2))
            mask = shift_mask(padded, self.window, self.shift, like=x)
        windows = self.attn(partition_windows(x, self.window), mask=mask)
        x = merge_windows(windows, self.window, padded)
        if any(self.shift):
            x = torch.roll(x, shifts=self.shift, dims=(1, 2))
        return x[:, :height, :width]


class SwinVisionEncoder(nn.Module):
    """timm's Swin Transformer, stage by stage, for any image size."""

    def __init__(self, config: LAVTConfig) -> None:
        super().__init__()
        swin = build_swin(config)
        self.patch_embed = cast(PatchEmbed, swin.patch_embed)
        self.layers = swin.layers
        for stage in self.layers:
            stage.blocks = nn.Sequential(*(SwinBlock(block) for block in cast(Any, stage).blocks))
        self.channels = [info["num_chs"] for info in swin.feature_info]
        self.patch_size = self.patch_embed.patch_size

    def embed(self, pixel_values: Tensor) -> Tensor:
        """Patches (B, h, w, C) of an image (B, 3, H, W), padded with zeros to a multiple of the patch."""
        height, width = pixel_values.shape[-2:]
        padded_height, padded_width = round_up(height, self.patch_size[0]), round_up(width, self.patch_size[1])
        return self.patch_embed(F.pad(pixel_values, (0, padded_width - width, 0, padded_height - height)))


def build_swin(config: LAVTConfig, pretrained: bool = False) -> SwinTransformer:
    """Timm's Swin for a configuration; with `pretrained`, with timm's weights for that name.

    Raises:
        ValueError: If `backbone` is no Swin of timm.
    """
    if not config.backbone.startswith("swin_") or not timm.is_model(config.backbone.split(".")[0]):
        raise ValueError(
            f"`backbone` must name a Swin Transformer of timm, got {config.backbone!r}; `timm.list_models('swin_*')` "
            "lists them."
        )
    kwargs = {"img_size": config.image_size, **(config.backbone_kwargs or {})}
    swin = timm.create_model(
        config.backbone, pretrained=pretrained, num_classes=0, strict_img_size=False, always_partition=True, **kwargs
    )
    return cast(SwinTransformer, swin)


def _timm_layout(state: dict[str, Tensor], swin: SwinTransformer) -> dict[str, Tensor]:
    """Timm's own filter; up to 1.0.26 at least it takes a file without a classifier for one of the first layout."""
    if "layers.0.downsample.reduction.weight" not in state:  # patches are merged at the end of a stage there
        state = {"head.fc.weight": torch.empty(0), **state}
    return cast(dict[str, Tensor], checkpoint_filter_fn(state, swin))


def load_swin_state(config: LAVTConfig, vision: str) -> dict[str, Tensor]:
    """State dictionary for [`SwinVisionEncoder`] from timm's Hub weights or from a file in timm's layout.

    Raises:
        ValueError: If `backbone` or `vision` names no Swin, or the file lacks weights of it.
        OSError: If the weights can't be had.
    """
    if os.path.exists(vision):
        swin = build_swin(config)
        missing = timm.models.load_checkpoint(swin, vision, strict=False, filter_fn=_timm_layout).missing_keys
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


def round_up(size: int, unit: int) -> int:
    """Smallest multiple of the unit that is at least the size.

    Written so that a compiler that keeps the size symbolic sees the multiple: with `size + (-size % unit)` it spends
    minutes on the sizes of the windows.
    """
    return (size + unit - 1) // unit * unit


def partition_windows(x: Tensor, window: tuple[int, int]) -> Tensor:
    """(B, h, w, C), h and w multiples of the window, to (B · windows, area, C)."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // window[0], window[0], width // window[1], window[1], channels)
    return x.transpose(2, 3).reshape(-1, window[0] * window[1], channels)


def merge_windows(windows: Tensor, window: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Inverse of [`partition_windows`]: (B · windows, area, C) to (B, height, width, C)."""
    height, width = size
    x = windows.view(-1, height // window[0], width // window[1], window[0], window[1], windows.shape[-1])
    return x.transpose(2, 3).reshape(-1, height, width, windows.shape[-1])


def shift_mask(size: tuple[int, int], window: tuple[int, int], shift: tuple[int, int], like: Tensor) -> Tensor:
    """−100 between pixels of a shifted window that were not neighbours, else 0: (windows, area, area) as `like`."""
    labels = []
    for length, unit, step in zip(size, window, shift, strict=True):
        position = torch.arange(length, device=like.device)
        labels.append((position >= length - unit).long() + (position >= length - step).long())
    region = labels[0][:, None] * 3 + labels[1][None, :]  # which of the nine regions that the shift brings together
    region = partition_windows(region[None, :, :, None], window).squeeze(-1)
    return (region[:, None, :] != region[:, :, None]).to(like.dtype) * MASKED
