"""(Shifted-)window attention on the modules of a timm Swin block, for maps of any size.

Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021. Windows keep their
size on small maps, and maps are padded at the right and the bottom before the cyclic shift, as in the published
detection and segmentation Swin; timm shifts first, which gives other numbers where a map is no multiple of the window.
The padding is attended to in unshifted windows, as published.

There are two ways to the same numbers. [`window_attention`] pads, rolls and cuts the map, which a compiler fuses and
which takes symbolic sizes. [`planned_window_attention`] gathers the tokens of all windows at once by a list of places
that is kept between calls, and never makes the padding: in all of its places a padding pixel has the same key and
value, so one stands for all, its score raised by the logarithm of how much they weigh together. In eager mode on a CPU
it is the faster one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformerBlock, WindowAttention, get_relative_position_index
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .recomputed_rrsis import linear_of_norm
from .shortcuts_rrsis import is_eager_cpu, is_plain, keeps_for_backward

SCORES = 2**20  # attention scores at a time in the backward pass, 4 MiB in float32
MASKED = -100.0  # added to the scores between pixels that were no neighbours before the shift, as published


class WindowGroup(NamedTuple):
    """Windows in which the same places are taken by pixels of the map and the same pixels may see each other.

    Attributes:
        num_windows: Number of these windows, over the batch.
        num_pixels: Pixels of the map in each of them, P, at most the window's area.
        positions: Index into the relative position biases between these pixels, int64 (P, P).
        mask: Added to the scores between them, 0 or −100, float32 (P, P); `None` where all see each other.
        padding: How often each relative position occurs between these pixels and the window's padding, float32 (P,
            rows of the table of biases), e^−100 of a time where the pixel may not see it; `None` without padding.
    """

    num_windows: int
    num_pixels: int
    positions: Tensor
    mask: Tensor | None
    padding: Tensor | None


class WindowPlan(NamedTuple):
    """Where the pixels of B maps of one size lie in their windows.

    Attributes:
        order: The pixels, b · N + n, window by window and group by group, int64 (B · N,).
        inverse: Place of each pixel in that order, int64 (B · N,).
        groups: The groups, in the order in which their windows lie.
    """

    order: Tensor
    inverse: Tensor
    groups: tuple[WindowGroup, ...]


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def plan_windows(
    batch: int, height: int, width: int, window: tuple[int, int], shift: tuple[int, int], device: torch.device
) -> WindowPlan:
    """Plan the windows of `batch` maps of height × width; kept for the next calls with these sizes."""
    num_pixels, outside = height * width, -1
    size = round_up(height, window[0]), round_up(width, window[1])
    places = torch.full(size, outside, device=device)
    places[:height, :width] = torch.arange(num_pixels, device=device).view(height, width)
    places = torch.roll(places, shifts=(-shift[0], -shift[1]), dims=(0, 1))
    windows = partition_windows(places[None, :, :, None], window)[..., 0]
    windows_regions = window_regions(size, window, shift, device)
    patterns = torch.cat([windows_regions - windows_regions[:, :1], windows == outside], dim=1)
    patterns, group_of = torch.unique(patterns, dim=0, return_inverse=True)
    positions = get_relative_position_index(*window).to(device)
    starts = torch.arange(batch, device=device).view(-1, 1, 1) * num_pixels
    orders, groups = [], []
    for number, pattern in enumerate(patterns):
        regions, is_outside = pattern.chunk(2)
        taken, free = (is_outside == 0).nonzero()[:, 0], is_outside.nonzero()[:, 0]
        if not len(taken):
            continue
        mask = different_regions(regions[None])[0].float() * MASKED
        members = windows[group_of == number]
        orders.append((members[:, taken] + starts).flatten())
        inner, outer = mask[taken][:, taken], mask[taken][:, free]
        padding = torch.zeros(len(taken), int(positions.max()) + 1, dtype=torch.float32, device=device)
        padding.scatter_add_(1, positions[taken][:, free], outer.exp())
        groups.append(
            WindowGroup(
                num_windows=batch * len(members),
                num_pixels=len(taken),
                positions=positions[taken][:, taken],
                mask=inner if inner.any() else None,
                padding=padding if len(free) else None,
            )
        )
    order = torch.cat(orders)
    return WindowPlan(order, order.argsort(), tuple(groups))


def can_be_planned(block: SwinTransformerBlock, x: Tensor) -> bool:
    """Whether [`planned_window_attention`] may stand for [`window_attention`].

    It asks `qkv` for no projection of the padding, gives the layers pixels in another order and shape, and can't drop
    padding, of which one pixel stands for all, pixel by pixel.
    """
    attention = block.attn
    is_unchanged = is_plain(block.norm1, nn.LayerNorm) and is_plain(attention.proj_drop, nn.Dropout)
    is_unchanged = is_unchanged and is_plain(attention.qkv, nn.Linear) and is_plain(attention.proj, nn.Linear)
    return is_unchanged and is_eager_cpu(x) and not dropout_rate(attention)


def dropout_rate(attention: WindowAttention) -> float:
    """Share of the attention's weights that is dropped now."""
    dropout = attention.attn_drop
    return dropout.p if isinstance(dropout, nn.Dropout) and dropout.training else 0.0


def planned_window_attention(block: SwinTransformerBlock, x: Tensor) -> Tensor:
    """LayerNorm and (shifted-)window attention of a timm Swin block on (B, h, w, C), by the plan for this size.

    The block is one of which [`can_be_planned`] holds.
    """
    attention = block.attn
    batch, height, width, channels = x.shape
    plan = plan_windows(batch, height, width, tuple(attention.window_size), tuple(block.shift_size), x.device)
    projected = linear_of_norm(block.norm1, attention.qkv, F.embedding(plan.order, x.reshape(-1, channels)))
    parts = projected.split([group.num_windows * group.num_pixels for group in plan.groups])
    attended = [attend_in_group(attention, part, group) for part, group in zip(parts, plan.groups, strict=True)]
    merged = attended[0] if len(attended) == 1 else torch.cat(attended)
    out = attention.proj_drop(attention.proj(F.embedding(plan.inverse, merged)))
    return out.view(batch, height, width, channels)


def attend_in_group(attention: WindowAttention, projected: Tensor, group: WindowGroup) -> Tensor:
    """Attention in the windows of a group: queries, keys and values (windows · P, 3 · C) to (windows · P, C)."""
    table = attention.relative_position_bias_table.to(projected.dtype)
    bias = F.embedding(group.positions, table).permute(2, 0, 1).contiguous()
    if group.mask is not None:
        bias = bias + group.mask.to(bias.dtype)
    windows = projected.view(group.num_windows, group.num_pixels, -1)
    query, key, value = windows.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    if group.padding is not None:
        bias = torch.cat([bias, padding_bias(table, group.padding)], dim=-1)
        _, padding_key, padding_value = padding_projection(attention, projected).unbind(0)
        key = torch.cat([key, padding_key.expand(group.num_windows, -1, -1, -1)], dim=2)
        value = torch.cat([value, padding_value.expand(group.num_windows, -1, -1, -1)], dim=2)
    if keeps_for_backward(query) and bias.requires_grad:
        out = _BiasedAttention.apply(query, key, value, bias, attention.scale)
        return out.transpose(1, 2).flatten(2).flatten(0, 1)
    return attend(attention, query, key, value, bias.unsqueeze(0)).flatten(0, 1)


def padding_bias(table: Tensor, occurrences: Tensor) -> Tensor:
    """Logarithm of the summed exponentials of the biases to all padding of a window, float (heads, P, 1)."""
    highest = table.detach().amax(0)
    weight = occurrences.to(table.dtype) @ (table - highest).exp()
    return (weight.clamp(min=torch.finfo(table.dtype).tiny).log() + highest).t().unsqueeze(-1)


def padding_projection(attention: WindowAttention, projected: Tensor) -> Tensor:
    """Query, key and value of a pixel of zeros, (3, heads, 1, C / heads)."""
    bias = attention.qkv.bias
    row = projected.new_zeros(projected.shape[-1]) if bias is None else bias.to(projected.dtype)
    return row.view(3, attention.num_heads, 1, -1)


def window_attention(block: SwinTransformerBlock, x: Tensor, mask: Tensor | None) -> Tensor:
    """LayerNorm and (shifted-)window attention of a timm Swin block on (B, h, w, C); `mask` as of [`shift_mask`]."""
    attention = block.attn
    height, width = x.shape[1:3]
    window = attention.window_size
    x = pad_to_multiple(block.norm1(x), window)
    padded_height, padded_width = x.shape[1:3]
    if mask is not None:
        x = torch.roll(x, shifts=(-block.shift_size[0], -block.shift_size[1]), dims=(1, 2))
    windows = attention.qkv(partition_windows(x, window))
    query, key, value = windows.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    index, area = cast(Tensor, attention.relative_position_index).flatten(), attention.window_area
    bias = attention.relative_position_bias_table[index].view(1, area, area, -1).permute(0, 3, 1, 2).to(query.dtype)
    if mask is not None:  # (windows, heads, area, area), repeated over the batch
        bias = (bias + mask.to(bias.dtype)).repeat(windows.shape[0] // mask.shape[0], 1, 1, 1)
    out = attention.proj_drop(attention.proj(attend(attention, query, key, value, bias)))
    x = merge_windows(out, window, padded_height, padded_width)
    if mask is not None:
        x = torch.roll(x, shifts=(block.shift_size[0], block.shift_size[1]), dims=(1, 2))
    return x[:, :height, :width]


def attend(attention: WindowAttention, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Attention inside windows.

    Args:
        attention: timm's module, whose scale and dropout count.
        query: float (windows, heads, M, C / heads).
        key: float (windows, heads, M', C / heads).
        value: float, as `key`.
        bias: Added to the scores, float (windows or 1, heads, M, M').

    Returns:
        float (windows, M, C).
    """
    dropout = dropout_rate(attention)
    out = F.scaled_dot_product_attention(query, key, value, bias, dropout_p=dropout, scale=attention.scale)
    return out.transpose(1, 2).flatten(2)


class _BiasedAttention(torch.autograd.Function):
    """Attention with one learned bias for all windows, for training on a CPU.

    PyTorch's fused kernel for CPUs gives no gradient of the bias; with one it falls back to keeping the weights of all
    windows. Here the backward pass makes them again, a few windows at a time, so that they stay in the cache.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(query, key, value, bias)
        ctx.scale = scale
        return F.scaled_dot_product_attention(query, key, value, bias.unsqueeze(0), scale=scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bias = ctx.saved_tensors
        grads = [torch.empty_like(part, memory_format=torch.contiguous_format) for part in (query, key, value)]
        grad_bias = torch.zeros_like(bias)
        step = max(1, SCORES // bias.numel())
        parts = (part.split(step) for part in (query, key, value, grad, *grads))
        for queries, keys, values, gradient, grad_query, grad_key, grad_value in zip(*parts, strict=True):
            scores = torch.matmul(queries * ctx.scale, keys.transpose(-1, -2)).add_(bias)
            weights = scores.softmax(-1)
            torch.matmul(weights.transpose(-1, -2), gradient, out=grad_value)
            grad_scores = torch.matmul(gradient, values.transpose(-1, -2)).mul_(weights)
            grad_scores.sub_(weights.mul_(grad_scores.sum(-1, keepdim=True)))
            grad_bias += grad_scores.sum(0)
            torch.matmul(grad_scores, keys, out=grad_query).mul_(ctx.scale)
            torch.matmul(grad_scores.transpose(-1, -2), queries, out=grad_key).mul_(ctx.scale)
        return (*grads, grad_bias, None)


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
