"""3×3 convolutions of the decoder on a CPU: the numbers of PyTorch's, up to rounding, for less work.

[`conv_of_upsampled`] convolves an upsampled map with most of the work done before the upsampling. Convolution and
bilinear upsampling are linear, and a 1×1 convolution commutes with the latter. So each of the nine taps is applied at
the lower resolution, a quarter of the pixels, and the upsampling puts the taps where they belong: a matrix along each
axis, which holds the interpolation and the shift of the tap.

[`conv3x3`] is the plain convolution with another backward pass: the gradient of the kernels is one matrix product a
tap, where oneDNN's own takes several times as long without AVX-512. [`conv3x3_of_norm`] also makes its input, a
BatchNorm and a ReLU, again in the backward pass instead of keeping it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input

TAPS = 3
BAND = 32  # pixels of the larger map at a time: interpolation matrices are banded, and the work then grows linearly


class Band(NamedTuple):
    """Rows of an interpolation matrix with the columns that are not zero in all of them.

    Attributes:
        start, stop: Pixels of the smaller map, start ≤ pixel < stop.
        taps: For each tap −1, 0, 1 the matrix from these pixels to the band's pixels of the larger map, float
            (3, pixels of the band, stop − start).
    """

    start: int
    stop: int
    taps: Tensor


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def interpolation_bands(length: int, upsampled: int, dtype: torch.dtype, device: torch.device) -> tuple[Band, ...]:
    """Bilinear interpolation (align_corners=True) along one axis, shifted by each tap, zero outside."""
    unit = torch.eye(length, dtype=dtype, device=device)[None]
    matrix = F.interpolate(unit, size=upsampled, mode="linear", align_corners=True)[0].t()
    padded = F.pad(matrix, (0, 0, 1, 1))
    taps = torch.stack([padded[tap : tap + upsampled] for tap in range(TAPS)])
    bands = []
    for rows in taps.split(BAND, dim=1):
        used = rows.ne(0).any(0).any(0).nonzero()[:, 0]
        start, stop = int(used[0]), int(used[-1]) + 1
        bands.append(Band(start, stop, rows[:, :, start:stop].contiguous()))
    return tuple(bands)


def conv_of_upsampled(x: Tensor, weight: Tensor, size: tuple[int, int]) -> Tensor:
    """Upsample bilinearly (align_corners=True), then convolve with 3×3 kernels, zero padding of 1.

    Args:
        x: Maps, float (B, C, h, w).
        weight: Kernels, float (C', C, 3, 3).
        size: Height and width after the upsampling.

    Returns:
        float (B, C', height, width), channels last in memory.
    """
    lines = _ConvOfUpsampled.apply(x, weight, size)
    return lines.unflatten(-1, (size[1], -1)).permute(0, 3, 1, 2)


class _ConvOfUpsampled(torch.autograd.Function):
    """Lines (B, height, width · C') of the map: products with the taps at the lower resolution, stretched both ways.

    The taps of a row of the kernel are multiplied with at once; the three rows are taken one after another, so that no
    more than a third of the products is there at a time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, size: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.size = size
        batch, channels, height, width = x.shape
        tokens = x.permute(0, 2, 3, 1).reshape(-1, channels)
        columns = interpolation_bands(width, size[1], x.dtype, x.device)
        rows = interpolation_bands(height, size[0], x.dtype, x.device)
        parts: list[Tensor] = []  # one for each band of rows
        for tap in range(TAPS):
            products = F.linear(tokens, _kernel_row(weight, tap)).view(batch * height, width, -1)
            stretched = torch.cat([_stretch(products, band) for band in columns], dim=1)
            stretched = stretched.view(batch, height, -1)
            for number, band in enumerate(rows):
                lines, matrix = stretched[:, band.start : band.stop], band.taps[tap].expand(batch, -1, -1)
                if tap == 0:
                    parts.append(matrix @ lines)
                else:
                    parts[number].baddbmm_(matrix, lines)
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        batch, channels, height, width = x.shape
        out_channels = weight.shape[0]
        tokens = x.permute(0, 2, 3, 1).reshape(-1, channels)
        columns = interpolation_bands(width, ctx.size[1], x.dtype, x.device)
        rows = interpolation_bands(height, ctx.size[0], x.dtype, x.device)
        grad_lines = grad.split(BAND, dim=1)
        grad_tokens = torch.zeros_like(tokens) if ctx.needs_input_grad[0] else None
        grad_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        for tap in range(TAPS):
            stretched = x.new_zeros(batch, height, ctx.size[1] * out_channels)
            for lines, band in zip(grad_lines, rows, strict=True):
                matrix = band.taps[tap].t().expand(batch, -1, -1)
                stretched[:, band.start : band.stop].baddbmm_(matrix, lines)
            products = x.new_zeros(batch * height, width, TAPS * out_channels)
            pieces = stretched.view(batch * height, ctx.size[1], out_channels).split(BAND, dim=1)
            for pixels, band in zip(pieces, columns, strict=True):
                squeezed = _flat_taps(band).t() @ pixels
                products[:, band.start : band.stop] += squeezed.view(len(products), -1, TAPS * out_channels)
            products = products.flatten(0, 1)
            if grad_tokens is not None:
                grad_tokens.addmm_(products, _kernel_row(weight, tap))
            if grad_weight is not None:
                grad_weight[:, :, tap] = (products.t() @ tokens).view(TAPS, out_channels, channels).permute(1, 2, 0)
        grad_x = None if grad_tokens is None else grad_tokens.view(batch, height, width, channels).permute(0, 3, 1, 2)
        return grad_x, grad_weight, None


def _kernel_row(weight: Tensor, tap: int) -> Tensor:
    """The taps of a row of kernels (C', C, 3, 3), one below the other: (3 · C', C)."""
    return weight[:, :, tap].permute(2, 0, 1).flatten(0, 1)


def _flat_taps(band: Band) -> Tensor:
    """The band's matrices beside each other, (pixels of the band, (stop − start) · 3), as products lie in memory."""
    return band.taps.permute(1, 2, 0).flatten(1)


def _stretch(products: Tensor, band: Band) -> Tensor:
    """Products (lines, w, 3 · C') of the kernel's columns to a band of the wider lines (lines, pixels, C')."""
    pixels = products[:, band.start : band.stop].unflatten(-1, (TAPS, -1)).flatten(1, 2)
    return _flat_taps(band) @ pixels


def conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """3×3 convolution without bias, zero padding of 1: maps float (B, C, h, w), kernels (C', C, 3, 3)."""
    return _Conv3x3.apply(x, weight)


class _Conv3x3(torch.autograd.Function):
    """PyTorch's convolution; the gradient of the kernels by matrix products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight = ctx.needs_input_grad
        grad_x = conv2d_input(list(x.shape), weight, grad, padding=1) if needs_x else None
        return grad_x, _kernel_gradient(x, grad) if needs_weight else None


def conv3x3_of_norm(norm: nn.BatchNorm2d, x: Tensor, weight: Tensor) -> Tensor:
    """`conv3x3(norm(x).relu(), weight)` for a BatchNorm in training that has a momentum."""
    return _Conv3x3OfNorm.apply(x, norm.weight, norm.bias, weight, norm)


class _Conv3x3OfNorm(torch.autograd.Function):
    """BatchNorm, ReLU and a 3×3 convolution, of which the BatchNorm's input and statistics are kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, shift: Tensor, weight: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        running = norm.running_mean, norm.running_var
        momentum = cast(float, norm.momentum)
        normalised, mean, rstd = torch.native_batch_norm(x, gain, shift, *running, True, momentum, norm.eps)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        ctx.save_for_backward(x, gain, shift, weight, mean, rstd)
        ctx.eps = norm.eps
        return F.conv2d(normalised.relu_(), weight, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, shift, weight, mean, rstd = ctx.saved_tensors
        needs_x, needs_gain, needs_shift, needs_weight, _ = ctx.needs_input_grad
        activated = torch.native_batch_norm(x, gain, shift, None, None, True, 0.0, ctx.eps)[0].relu_()
        grad_weight = _kernel_gradient(activated, grad) if needs_weight else None
        wanted = [needs_x, needs_gain, needs_shift]
        if not any(wanted):
            return None, None, None, grad_weight, None
        grad = conv2d_input(list(x.shape), weight, grad, padding=1)
        grad = torch.ops.aten.threshold_backward(grad, activated, 0)
        grads = torch.ops.aten.native_batch_norm_backward(grad, x, gain, None, None, mean, rstd, True, ctx.eps, wanted)
        return (*grads, grad_weight, None)


def _kernel_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """Gradient of the kernels (C', C, 3, 3) from the input (B, C, h, w) and the output's gradient (B, C', h, w).

    Both are padded, a band of lines at a time, so that a tap is an offset between the rows of two matrices.
    """
    pixels, gradients = (part.permute(0, 2, 3, 1) for part in (x, grad))
    height, line = pixels.shape[1], pixels.shape[2] + 2
    taps = x.new_zeros(TAPS, TAPS, grad.shape[1], x.shape[1])
    for start in range(0, height, BAND):
        stop = min(start + BAND, height)
        first, last = max(start - 1, 0), min(stop + 1, height)
        around = (0, 0, 1, 1, first - start + 1, stop + 1 - last)
        band = F.pad(pixels[:, first:last], around).flatten(0, 2)
        inner = F.pad(gradients[:, start:stop], (0, 0, 1, 1, 1, 1)).flatten(0, 2)
        margin = line + 1  # the farthest offset; the pixels left out at both ends are padding
        inner = inner[margin : len(inner) - margin].t()
        for row in range(TAPS):
            for column in range(TAPS):
                offset = row * line + column
                taps[row, column].addmm_(inner, band[offset : offset + inner.shape[1]])
    return taps.permute(2, 3, 0, 1)
