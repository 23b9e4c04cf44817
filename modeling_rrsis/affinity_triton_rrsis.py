"""The row sums of DANet's affinity loss and their gradient as Triton kernels, for NVIDIA GPUs in float32.

No number of the N×N matrix leaves the chip: a program takes a block of rows, walks over all columns and keeps the sums
or the gradient of its rows in registers. The cosine is symmetric, so a row's gradient is a sum over columns alone, and
programs share no output. For the sake of equal bits in every run, block sizes are fixed.

Products are taken in three parts of tf32. Against float64 the gradient then has the error of float32, and with plain
tf32 a thousand times that (5e-3 at a temperature of 0.1; `tests/modeling/test_affinity.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

try:  # remote code may name a package that is not installed inside `try` alone
    import triton
    import triton.language as tl
except ImportError as error:
    raise ImportError("The affinity loss's kernels need triton, which PyTorch for CUDA installs on Linux.") from error


class Launch(NamedTuple):
    """Block sizes and how a program runs.

    Attributes:
        rows: Rows of a program.
        columns: Columns at a time.
        depth: Channels of a cosine at a time.
        num_warps: Warps of a program.
        num_stages: Blocks of channels on their way from memory at a time.
        width: Channels of the gradient in a program; of no use to the sums.
    """

    rows: int
    columns: int
    depth: int
    num_warps: int
    num_stages: int
    width: int = 0


ROW_SUMS = Launch(rows=128, columns=64, depth=32, num_warps=8, num_stages=3)
GRADIENT = Launch(rows=64, columns=32, depth=32, num_warps=8, num_stages=3, width=128)
HOPPER = 9
HOPPER_ROW_SUMS = Launch(rows=128, columns=128, depth=32, num_warps=8, num_stages=2)
HOPPER_GRADIENT = Launch(rows=128, columns=32, depth=32, num_warps=8, num_stages=3, width=128)
"""Each keeps its numbers in registers and takes at most 99 KiB of shared memory, which all have from Ampere on."""


def row_sums(unit: Tensor, foreground: Tensor, temperature: float) -> Tensor:
    """Σ_j e_ij, Σ_j e_ij f_j, Σ_j e_ij² and Σ_j e_ij² f_j with e_ij = exp((cos_ij − 1) / temperature).

    Args:
        unit: Rows of length 1, float32 (B, N, C).
        foreground: f, 0 or 1, float32 (B, N).
        temperature: Divisor of the cosines.

    Returns:
        float32 (B, N, 4).
    """
    batch, pixels, channels = unit.shape
    unit, foreground = unit.contiguous(), foreground.contiguous()
    sums = unit.new_empty(batch, pixels, 4)
    launch = HOPPER_ROW_SUMS if _is_hopper(unit) else ROW_SUMS
    with torch.cuda.device_of(unit):
        row_sums_kernel[(triton.cdiv(pixels, launch.rows), batch)](
            unit,
            foreground,
            sums,
            pixels,
            channels,
            1 / temperature,
            has_whole_blocks=channels % launch.depth == 0,
            block_rows=launch.rows,
            block_columns=launch.columns,
            block_depth=launch.depth,
            num_warps=launch.num_warps,
            num_stages=launch.num_stages,
        )
    return sums


def gradient(sums_gradient: Tensor, unit: Tensor, foreground: Tensor, temperature: float) -> Tensor:
    """Gradient by `unit`, float32 (B, N, C), from that by the row sums, float32 (B, N, 4); the rest as `row_sums`."""
    batch, pixels, channels = unit.shape
    unit, foreground, sums_gradient = unit.contiguous(), foreground.contiguous(), sums_gradient.contiguous()
    result = torch.empty_like(unit)
    launch = HOPPER_GRADIENT if _is_hopper(unit) else GRADIENT
    with torch.cuda.device_of(unit):
        gradient_kernel[(triton.cdiv(pixels, launch.rows), batch, triton.cdiv(channels, launch.width))](
            unit,
            foreground,
            sums_gradient,
            result,
            pixels,
            channels,
            1 / temperature,
            has_whole_blocks=channels % launch.width == 0,
            block_rows=launch.rows,
            block_columns=launch.columns,
            block_depth=launch.depth,
            block_width=launch.width,
            num_warps=launch.num_warps,
            num_stages=launch.num_stages,
        )
    return result


def _is_hopper(unit: Tensor) -> bool:
    return unit.is_cuda and torch.cuda.get_device_capability(unit.device)[0] == HOPPER


@triton.jit(do_not_specialize=["num_pixels"])
def row_sums_kernel(
    unit: tl.tensor,
    foreground: tl.tensor,
    sums: tl.tensor,
    num_pixels: tl.tensor,
    num_channels: tl.tensor,
    inverse_temperature: tl.tensor,
    has_whole_blocks: tl.constexpr,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
    block_depth: tl.constexpr,
) -> None:
    """The sums of a block of rows of an image; `has_whole_blocks` says that no block reaches past the channels."""
    image = tl.program_id(1).to(tl.int64)
    unit += image * num_pixels * num_channels
    foreground += image * num_pixels
    sums += image * num_pixels * 4
    rows = tl.program_id(0) * block_rows + tl.arange(0, block_rows)
    total = tl.zeros((block_rows,), dtype=tl.float32)
    inside = tl.zeros((block_rows,), dtype=tl.float32)
    square_total = tl.zeros((block_rows,), dtype=tl.float32)
    square_inside = tl.zeros((block_rows,), dtype=tl.float32)
    for start in range(0, num_pixels, block_columns):
        columns = start + tl.arange(0, block_columns)
        exponential = exponential_block(
            unit,
            rows,
            columns,
            num_pixels,
            num_channels,
            inverse_temperature,
            has_whole_blocks,
            block_rows,
            block_columns,
            block_depth,
        )
        column_inside = tl.load(foreground + columns, mask=columns < num_pixels, other=0.0)[None, :]
        square = exponential * exponential
        total += tl.sum(exponential, axis=1)
        inside += tl.sum(exponential * column_inside, axis=1)
        square_total += tl.sum(square, axis=1)
        square_inside += tl.sum(square * column_inside, axis=1)
    is_row = rows < num_pixels
    tl.store(sums + rows * 4, total, mask=is_row)
    tl.store(sums + rows * 4 + 1, inside, mask=is_row)
    tl.store(sums + rows * 4 + 2, square_total, mask=is_row)
    tl.store(sums + rows * 4 + 3, square_inside, mask=is_row)


@triton.jit(do_not_specialize=["num_pixels"])
def gradient_kernel(
    unit: tl.tensor,
    foreground: tl.tensor,
    sums_gradient: tl.tensor,
    gradient: tl.tensor,
    num_pixels: tl.tensor,
    num_channels: tl.tensor,
    inverse_temperature: tl.tensor,
    has_whole_blocks: tl.constexpr,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
    block_depth: tl.constexpr,
    block_width: tl.constexpr,
) -> None:
    """The gradient of a block of rows in a block of channels: Σ_j e_ij (slope_ij + 2 e_ij curve_ij) u_j."""
    image = tl.program_id(1).to(tl.int64)
    unit += image * num_pixels * num_channels
    foreground += image * num_pixels
    sums_gradient += image * num_pixels * 4
    gradient += image * num_pixels * num_channels
    rows = tl.program_id(0) * block_rows + tl.arange(0, block_rows)
    row = tl.minimum(rows, num_pixels - 1)
    row_inside = tl.load(foreground + row)[:, None]
    row_slope = tl.load(sums_gradient + row * 4)[:, None]
    row_slope_inside = tl.load(sums_gradient + row * 4 + 1)[:, None]
    row_curve = tl.load(sums_gradient + row * 4 + 2)[:, None]
    row_curve_inside = tl.load(sums_gradient + row * 4 + 3)[:, None]
    channels = tl.program_id(2) * block_width + tl.arange(0, block_width)
    is_channel = (channels < num_channels)[None, :]
    result = tl.zeros((block_rows, block_width), dtype=tl.float32)
    for start in range(0, num_pixels, block_columns):
        columns = start + tl.arange(0, block_columns)
        exponential = exponential_block(
            unit,
            rows,
            columns,
            num_pixels,
            num_channels,
            inverse_temperature,
            has_whole_blocks,
            block_rows,
            block_columns,
            block_depth,
        )
        column = tl.minimum(columns, num_pixels - 1)
        column_inside = tl.load(foreground + column)[None, :]
        slope = row_slope + tl.load(sums_gradient + column * 4)[None, :]
        slope += row_slope_inside * column_inside + row_inside * tl.load(sums_gradient + column * 4 + 1)[None, :]
        curve = row_curve + tl.load(sums_gradient + column * 4 + 2)[None, :]
        curve += row_curve_inside * column_inside + row_inside * tl.load(sums_gradient + column * 4 + 3)[None, :]
        weight = exponential * (slope + 2 * exponential * curve)
        pointers = unit + column[:, None] * num_channels + channels[None, :]
        features = tl.load(pointers) if has_whole_blocks else tl.load(pointers, mask=is_channel, other=0.0)
        result = tl.dot(weight, features, result, input_precision="tf32x3")
    pointers = gradient + rows[:, None] * num_channels + channels[None, :]
    tl.store(pointers, result * inverse_temperature, mask=(rows < num_pixels)[:, None] & is_channel)


@triton.jit
def exponential_block(
    unit: tl.tensor,
    rows: tl.tensor,
    columns: tl.tensor,
    num_pixels: tl.tensor,
    num_channels: tl.tensor,
    inverse_temperature: tl.tensor,
    has_whole_blocks: tl.constexpr,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
    block_depth: tl.constexpr,
) -> tl.tensor:
    """e_ij of some rows and columns, 0 in columns past the last; rows and columns past it repeat it."""
    row_pointers = unit + tl.minimum(rows, num_pixels - 1)[:, None] * num_channels
    column_pointers = unit + tl.minimum(columns, num_pixels - 1)[None, :] * num_channels
    cosine = tl.zeros((block_rows, block_columns), dtype=tl.float32)
    for start in range(0, num_channels, block_depth):
        channels = start + tl.arange(0, block_depth)
        if has_whole_blocks:
            left = tl.load(row_pointers + channels[None, :])
            right = tl.load(column_pointers + channels[:, None])
        else:
            is_channel = channels < num_channels
            left = tl.load(row_pointers + channels[None, :], mask=is_channel[None, :], other=0.0)
            right = tl.load(column_pointers + channels[:, None], mask=is_channel[:, None], other=0.0)
        cosine = tl.dot(left, right, cosine, input_precision="tf32x3")
    exponential = tl.exp((cosine - 1) * inverse_temperature)
    return tl.where((columns < num_pixels)[None, :], exponential, 0.0)
