"""(Shifted-)window attention on the modules of a timm Swin block, for maps of any size.

Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021. Windows keep their
size on small maps, and maps are padded at the right and the bottom before the cyclic shift, as in the published
detection and segmentation Swin; timm shifts first, which gives other numbers where a map is no multiple of the window.
The padding is attended to in unshifted windows, as published.

There are two ways to the same numbers. [`window_attention`] pads, rolls and cuts the map, which a compiler fuses and
which takes symbolic sizes. [`planned_window_attention`] gathers the tokens of all windows at once by a list of places
that is kept between calls; padding is projected once instead of at each of its places, and windows of one mask lie
together, so that a mask is never repeated. In eager mode on a CPU it is the faster one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformerBlock, WindowAttention
from torch import Tensor

MASKED = -100.0  # added to the scores between pixels that were no neighbours before the shift, as published


class WindowPlan(NamedTuple):
    """Where the tokens of B maps of one size lie in their windows.

    Attributes:
        order: Number of the token at each place of the windows, int64 (B · windows · area,); the tokens of a map
            count from b · (N + 1), and its last one is padding where `is_padded`, else from b · N.
        inverse: Place of each token in the windows, int64 (B · N,).
        groups: Number of windows and their mask, bool (area, area), true where pixels may not see each other, or
            `None`; the windows lie in the order of the groups.
        is_padded: Whether some windows reach over the map.
    """

    order: Tensor
    inverse: Tensor
    groups: tuple[tuple[int, Tensor | None], ...]
    is_padded: bool


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def plan_windows(
    batch: int, height: int, width: int, window: tuple[int, int], shift: tuple[int, int], device: torch.device
) -> WindowPlan:
    """Plan the windows of `batch` maps of height × width; kept for the next calls with these sizes."""
    num_tokens = height * width
    padded_height, padded_width = round_up(height, window[0]), round_up(width, window[1])
    is_padded = (padded_height, padded_width) != (height, width)
    places = torch.full((padded_height, padded_width), num_tokens, device=device)
    places[:height, :width] = torch.arange(num_tokens, device=device).view(height, width)
    places = torch.roll(places, shifts=(-shift[0], -shift[1]), dims=(0, 1))
    windows = partition_windows(places[None, :, :, None], window)[..., 0]
    regions = window_regions((padded_height, padded_width), window, shift, device)
    patterns, group_of = torch.unique(regions - regions[:, :1], dim=0, return_inverse=True)
    orders, groups = [], []
    starts = torch.arange(batch, device=device).view(-1, 1, 1) * (num_tokens + is_padded)
    for group, pattern in enumerate(patterns):
        members = windows[group_of == group]
        mask = different_regions(pattern[None])[0]
        orders.append((members + starts).flatten())
        groups.append((batch * len(members), mask if mask.any() else None))
    order = torch.cat(orders)
    is_token = order % (num_tokens + 1) != num_tokens if is_padded else torch.ones_like(order, dtype=torch.bool)
    inverse = torch.empty(batch * num_tokens, dtype=torch.long, device=device)
    tokens = order[is_token]
    inverse[tokens - (tokens // (num_tokens + 1) if is_padded else 0)] = is_token.nonzero()[:, 0]
    return WindowPlan(order, inverse, tuple(groups), is_padded)


def planned_window_attention(block: SwinTransformerBlock, x: Tensor) -> Tensor:
    """(Shifted-)window attention of a timm Swin block on normalised (B, h, w, C), by the plan for this size."""
    attention = block.attn
    batch, height, width, _ = x.shape
    plan = plan_windows(batch, height, width, tuple(attention.window_size), tuple(block.shift_size), x.device)
    tokens = x.flatten(1, 2)
    if plan.is_padded:
        tokens = F.pad(tokens, (0, 0, 0, 1))  # padding is zero, so one token of zeros stands for all of it
        projected = F.embedding(plan.order, attention.qkv(tokens).flatten(0, 1))
    else:
        projected = attention.qkv(F.embedding(plan.order, tokens.flatten(0, 1)))
    area = attention.window_area
    bias = relative_position_bias(attention, projected.dtype)
    parts = projected.view(-1, area, projected.shape[-1]).split([count for count, _ in plan.groups])
    attended = [
        attend(attention, part, bias if mask is None else bias + mask.to(bias.dtype) * MASKED)
        for part, (_, mask) in zip(parts, plan.groups, strict=True)
    ]
    merged = attended[0] if len(attended) == 1 else torch.cat(attended)
    out = attention.proj_drop(attention.proj(F.embedding(plan.inverse, merged.flatten(0, 1))))
    return out.view(batch, height, width, -1)


def window_attention(block: SwinTransformerBlock, x: Tensor, mask: Tensor | None) -> Tensor:
    """(Shifted-)window attention of a timm Swin block on normalised (B, h, w, C); `mask` as of [`shift_mask`]."""
    attention = block.attn
    height, width = x.shape[1:3]
    window = attention.window_size
    x = pad_to_multiple(x, window)
    padded_height, padded_width = x.shape[1:3]
    if mask is not None:
        x = torch.roll(x, shifts=(-block.shift_size[0], -block.shift_size[1]), dims=(1, 2))
    windows = attention.qkv(partition_windows(x, window))
    bias = relative_position_bias(attention, windows.dtype)
    if mask is not None:  # (windows, heads, area, area), repeated over the batch
        bias = (bias + mask.to(bias.dtype)).repeat(windows.shape[0] // mask.shape[0], 1, 1, 1)
    out = attention.proj_drop(attention.proj(attend(attention, windows, bias)))
    x = merge_windows(out, window, padded_height, padded_width)
    if mask is not None:
        x = torch.roll(x, shifts=(block.shift_size[0], block.shift_size[1]), dims=(1, 2))
    return x[:, :height, :width]


def attend(attention: WindowAttention, windows: Tensor, bias: Tensor) -> Tensor:
    """Attention inside windows.

    Args:
        attention: timm's module, whose number of heads, scale and dropout count.
        windows: Queries, keys and values, float (windows, area, 3 · C).
        bias: Added to the scores, float, (windows or 1, heads, area, area).

    Returns:
        float (windows, area, C).
    """
    query, key, value = windows.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    dropout = attention.attn_drop.p if attention.training else 0.0
    out = F.scaled_dot_product_attention(query, key, value, bias, dropout_p=dropout, scale=attention.scale)
    return out.transpose(1, 2).flatten(2)


def relative_position_bias(attention: WindowAttention, dtype: torch.dtype) -> Tensor:
    """The learned bias between the pixels of a window, (1, heads, area, area)."""
    index = cast(Tensor, attention.relative_position_index).flatten()
    area = attention.window_area
    return attention.relative_position_bias_table[index].view(1, area, area, -1).permute(0, 3, 1, 2).to(dtype)


def shift_mask(block: SwinTransformerBlock, feature_map: Tensor) -> Tensor:
    """−100 between pixels of a shifted window that were not neighbours: (windows, 1, area, area)."""
    height, width = feature_map.shape[1:3]
    window = block.window_size
    size = round_up(height, window[0]), round_up(width, window[1])
    regions = window_regions(size, window, block.shift_size, feature_map.device)
    return (different_regions(regions).to(feature_map.dtype) * MASKED).unsqueeze(1)


def window_regions(
    size: tuple[int, int], window: tuple[int, int], shift: tuple[int, int], device: torch.device
) -> Tensor:
    """Which of the nine regions that a cyclic shift brings together a pixel is from, int (windows, area)."""
    labels = []
    for length, unit, step in zip(size, window, shift, strict=True):
        position = torch.arange(length, device=device)
        labels.append((position >= length - unit).long() + (position >= length - step).long())
    region = labels[0][:, None] * 3 + labels[1][None, :]
    return partition_windows(region[None, :, :, None], window).flatten(1)


def different_regions(regions: Tensor) -> Tensor:
    """Pairs of pixels of one window that are from different regions, bool (windows, area, area)."""
    return regions[:, None, :] != regions[:, :, None]


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
