"""Row sums of DANet's affinity matrix and their gradient, in memory that grows linearly with the number of pixels.

`affinity_row_sums` is a PyTorch operator: compiled graphs hold it whole, and what runs is chosen when it runs. The
tiled form is plain PyTorch and the reference; on NVIDIA GPUs Triton kernels do the same without writing a tile down.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.utils import logging

logger = logging.get_logger(__name__)

AUTO, TILED, TRITON = "auto", "tiled", "triton"
NUM_SUMS = 4
CPU_TILE_NUMBERS, GPU_TILE_NUMBERS = 2**22, 2**23
"""Numbers of a tile, 16 and 32 MiB in float32. Smaller ones make threads, or a GPU, wait for each other more often."""
MIN_TILE_ROWS, MIN_TILES = 64, 4
"""With k tiles, (k + 1) / 2k of the symmetric matrix is computed; products of fewer rows than 64 are slow."""
TRITON_CAPABILITY = (8, 0)
"""First NVIDIA generation whose matrix units take float32 in parts of tf32."""


class TritonKernels(NamedTuple):
    """What `affinity_triton_rrsis` offers.

    Attributes:
        row_sums: As [`tiled_row_sums`], without `tile_rows`.
        gradient: As [`tiled_gradient`], without `tile_rows`.
    """

    row_sums: Callable[..., Tensor]
    gradient: Callable[..., Tensor]


# A process may hold this file twice, as installed and as remote code: each has operators of its own.
NAMESPACE = re.sub(r"\W", "_", __name__)


@torch.library.custom_op(
    f"{NAMESPACE}::affinity_row_sums",
    mutates_args=(),
    schema="(Tensor unit, Tensor foreground, float temperature, SymInt? tile_rows, str form) -> Tensor",
)
def affinity_row_sums(
    unit: Tensor, foreground: Tensor, temperature: float, tile_rows: int | None, form: str
) -> Tensor:
    """Four sums over j for each row i, with e_ij = exp((cos_ij − 1) / temperature): Σ e, Σ e·f_j, Σ e², Σ e²·f_j.

    Args:
        unit: Rows of length 1, float (B, N, C).
        foreground: f, 0 or 1 in the dtype of `unit`, (B, N). No gradient flows through it.
        temperature: Divisor of the cosines.
        tile_rows: Rows at a time in the tiled form; by default as many as suit the device.
        form: `"tiled"`, `"triton"`, or `"auto"` for Triton's kernels where they run.

    Returns:
        float (B, N, 4).
    """
    kernels = triton_kernels(unit, form)
    if kernels is not None:
        return kernels.row_sums(unit, foreground, temperature)
    return tiled_row_sums(unit, foreground, temperature, tile_rows)


@torch.library.custom_op(
    f"{NAMESPACE}::affinity_gradient",
    mutates_args=(),
    schema="(Tensor sums_gradient, Tensor unit, Tensor foreground, float temperature, SymInt? tile_rows, str form) "
    "-> Tensor",
)
def affinity_gradient(
    sums_gradient: Tensor, unit: Tensor, foreground: Tensor, temperature: float, tile_rows: int | None, form: str
) -> Tensor:
    """Gradient by `unit`, float (B, N, C), from the gradient by the row sums, float (B, N, 4)."""
    kernels = triton_kernels(unit, form)
    if kernels is not None:
        return kernels.gradient(sums_gradient, unit, foreground, temperature)
    return tiled_gradient(sums_gradient, unit, foreground, temperature, tile_rows)


@affinity_row_sums.register_fake
def _empty_row_sums(unit: Tensor, *_: object) -> Tensor:
    return unit.new_empty(*unit.shape[:2], NUM_SUMS)


@affinity_gradient.register_fake
def _empty_gradient(sums_gradient: Tensor, unit: Tensor, *_: object) -> Tensor:
    return torch.empty_like(unit, memory_format=torch.contiguous_format)


def _keep_inputs(ctx: Any, inputs: tuple, output: Tensor) -> None:
    unit, foreground, *ctx.settings = inputs
    ctx.save_for_backward(unit, foreground)


def _backward(ctx: Any, sums_gradient: Tensor) -> tuple[Tensor | None, ...]:
    return affinity_gradient(sums_gradient, *ctx.saved_tensors, *ctx.settings), None, None, None, None


affinity_row_sums.register_autograd(_backward, setup_context=_keep_inputs)


def triton_kernels(unit: Tensor, form: str) -> TritonKernels | None:
    """The Triton kernels, or `None` where the tiled form is to run.

    Raises:
        ValueError: If `form` is unknown, or is `"triton"` where the kernels do not run.
    """
    if form == TILED:
        return None
    if form not in (AUTO, TRITON):
        raise ValueError(f"`form` must be 'auto', 'tiled' or 'triton', got {form!r}")
    kernels = compiled_kernels(unit.device) if unit.is_cuda and unit.dtype == torch.float32 else None
    if form == TRITON and kernels is None:
        raise ValueError(
            "form='triton' needs float32 on an NVIDIA GPU from Ampere on, triton and a C compiler; "
            f"got {unit.dtype} on {unit.device}. Take form='auto'."
        )
    return kernels


@cache
def compiled_kernels(device: torch.device) -> TritonKernels | None:
    """The Triton kernels of a CUDA device, or `None` where they do not run.

    They are tried once, since triton may be there and the compiler that it needs not.
    """
    if torch.version.hip is not None or torch.cuda.get_device_capability(device) < TRITON_CAPABILITY:
        return None
    try:
        from .affinity_triton_rrsis import gradient, row_sums
    except ImportError:
        return None
    unit, foreground = torch.zeros(1, 2, 256, device=device), torch.zeros(1, 2, device=device)
    try:
        gradient(row_sums(unit, foreground, 1.0), unit, foreground, 1.0)
    except Exception as error:
        logger.warning(f"The affinity loss's Triton kernels do not run here, its PyTorch form does instead: {error}")
        return None
    return TritonKernels(row_sums, gradient)


def tiled_row_sums(unit: Tensor, foreground: Tensor, temperature: float, tile_rows: int | None = None) -> Tensor:
    """Return what [`affinity_row_sums`] does, tile by tile."""
    sums = unit.new_zeros(NUM_SUMS, *unit.shape[:2])
    with torch.autocast(unit.device.type, enabled=False):  # sums that cancel need more than bfloat16's 8 bits
        for images, start, stop in _tiles(unit, tile_rows):
            exponential = _exponential(unit[images], start, stop, temperature)
            _add_sums(sums[:2, images], exponential, foreground[images], start, stop)
            _add_sums(sums[2:, images], exponential.square_(), foreground[images], start, stop)
    return torch.stack(sums.unbind(), dim=-1)


def _add_sums(sums: Tensor, tile: Tensor, foreground: Tensor, start: int, stop: int) -> None:
    """Add a tile to the sums (2, B, N) of its rows and, right of the diagonal's block, of its columns."""
    total, inside = sums
    foreground = foreground.unsqueeze(-1)
    right = tile[..., stop - start :]
    total[:, start:stop] += tile.sum(-1)
    total[:, stop:] += right.sum(1)
    inside[:, start:stop] += (tile @ foreground[:, start:]).squeeze(-1)
    inside[:, stop:] += (foreground[:, start:stop].mT @ right).squeeze(1)


def tiled_gradient(
    sums_gradient: Tensor, unit: Tensor, foreground: Tensor, temperature: float, tile_rows: int | None = None
) -> Tensor:
    """Return what [`affinity_gradient`] does, tile by tile.

    With g the gradient by the sums, it is Σ_j (W_ij + W_ji) u_j, where
    W_ij = (e_ij (g0_i + g1_i f_j) + 2 e_ij² (g2_i + g3_i f_j)) / temperature.
    """
    gradient = torch.zeros_like(unit, memory_format=torch.contiguous_format)
    row_slope, column_slope = _outer_factors(sums_gradient[..., 0], sums_gradient[..., 1], foreground)
    row_curve, column_curve = _outer_factors(2 * sums_gradient[..., 2], 2 * sums_gradient[..., 3], foreground)
    with torch.autocast(unit.device.type, enabled=False):
        for images, start, stop in _tiles(unit, tile_rows):
            exponential = _exponential(unit[images], start, stop, temperature)
            weight = (row_curve[images, start:stop] @ column_curve[images, start:].mT).mul_(exponential)
            weight.baddbmm_(row_slope[images, start:stop], column_slope[images, start:].mT).mul_(exponential)
            gradient[images, start:stop].baddbmm_(weight, unit[images, start:])
            gradient[images, stop:].baddbmm_(weight[..., stop - start :].mT, unit[images, start:stop])
    return gradient.div_(temperature)


def _outer_factors(total: Tensor, inside: Tensor, foreground: Tensor) -> tuple[Tensor, Tensor]:
    """a_i + a_j + b_i f_j + b_j f_i, of (B, N) each, as a product of four numbers of i with four of j: (B, N, 4)."""
    one = torch.ones_like(total)
    left, right = [total, one, inside, foreground], [one, total, foreground, inside]
    return torch.stack(left, dim=-1), torch.stack(right, dim=-1)


def _tiles(unit: Tensor, tile_rows: int | None) -> Iterator[tuple[slice, int, int]]:
    """Images and rows of the tiles. A tile has the columns from its first row on: the matrix is symmetric."""
    batch, pixels = unit.shape[:2]
    numbers = CPU_TILE_NUMBERS if unit.device.type == "cpu" else GPU_TILE_NUMBERS
    rows = tile_rows or max(MIN_TILE_ROWS, min(numbers // pixels, pixels // MIN_TILES))
    images = max(1, numbers // (rows * pixels))
    for first in range(0, batch, images):
        for start in range(0, pixels, rows):
            yield slice(first, first + images), start, min(start + rows, pixels)


def _exponential(unit: Tensor, start: int, stop: int, temperature: float) -> Tensor:
    """e_ij of the rows [start, stop) and the columns from `start` on, (B, stop − start, N − start).

    The cosine is at most 1, so the shift is a safe softmax without a search for the maximum.
    """
    rows = unit[:, start:stop] / temperature
    return (rows @ unit[:, start:].mT).sub_(1 / temperature).exp_()
