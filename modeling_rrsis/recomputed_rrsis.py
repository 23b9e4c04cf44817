"""Linear layers whose input is cheap to make: in training on a CPU it is not kept but made again.

The widest tensors of a transformer block are the outputs of its LayerNorms and of its GELU, each kept only for the
gradient of the linear layer behind it. All functions here give the numbers of the plain modules, bit for bit forward.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .shortcuts_rrsis import is_plain, keeps_for_backward

Gradients = tuple[Tensor | None, ...]


def linear_of_norm(norm: nn.Module, linear: nn.Module, x: Tensor) -> Tensor:
    """`linear(norm(x))` of float (..., C)."""
    is_usual = isinstance(norm, nn.LayerNorm) and isinstance(linear, nn.Linear) and norm.weight is not None
    if keeps_for_backward(x) and is_usual and is_plain(norm, nn.LayerNorm) and is_plain(linear, nn.Linear):
        return _LinearOfNorm.apply(x, norm.weight, norm.bias, norm.eps, linear.weight, linear.bias)
    return linear(norm(x))


def feed_forward(norm: nn.Module, mlp: Mlp, x: Tensor) -> Tensor:
    """`mlp(norm(x))` of float (..., C), timm's perceptron of two layers."""
    if not keeps_for_backward(x) or not _is_usual(mlp):
        return mlp(norm(x))
    return mlp.drop2(_LinearOfGelu.apply(linear_of_norm(norm, mlp.fc1, x), mlp.fc2.weight, mlp.fc2.bias))


def _is_usual(mlp: nn.Module) -> bool:
    """Whether a perceptron is timm's with an exact GELU and no dropout or norm in between, its layers plain."""
    if not isinstance(mlp, Mlp) or not is_plain(mlp, Mlp) or not is_plain(mlp.norm, nn.Identity):
        return False
    has_dropout = not is_plain(mlp.drop1, nn.Dropout) or (mlp.drop1.training and mlp.drop1.p > 0)
    is_gelu = is_plain(mlp.act, nn.GELU) and mlp.act.approximate == "none"
    return is_gelu and not has_dropout and is_plain(mlp.fc2, nn.Linear)


def linear_of_gated(linear: nn.Linear, kind: type[nn.Linear], gate: Tensor, x: Tensor) -> Tensor:
    """`linear(gelu(gate) * x)` of two float (..., C); `kind` is the class, a linear layer by any name, of `linear`."""
    if keeps_for_backward(x) and gate.shape == x.shape and is_plain(linear, kind):
        return _LinearOfGated.apply(gate, x, linear.weight, linear.bias)
    return linear(F.gelu(gate) * x)


class _LinearOfNorm(torch.autograd.Function):
    """linear(layer_norm(x)), of which x and the two statistics of each row are kept."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gain: Tensor, shift: Tensor, eps: float, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        normalised, mean, rstd = torch.native_layer_norm(x, gain.shape, gain, shift, eps)
        ctx.save_for_backward(x, mean, rstd, gain, shift, weight)
        ctx.eps = eps
        return F.linear(normalised, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        x, mean, rstd, gain, shift, weight = ctx.saved_tensors
        needs_x, needs_gain, needs_shift, _, needs_weight, needs_bias = ctx.needs_input_grad
        grad_x = grad_gain = grad_shift = grad_weight = None
        if needs_weight:
            normalised = F.layer_norm(x, gain.shape, gain, shift, ctx.eps)
            grad_weight = _rows(grad).t() @ _rows(normalised)
        if needs_x or needs_gain or needs_shift:
            wanted = [needs_x, needs_gain, needs_shift]
            grad_x, grad_gain, grad_shift = torch.ops.aten.native_layer_norm_backward(
                grad @ weight, x, gain.shape, mean, rstd, gain, shift, wanted
            )
        return grad_x, grad_gain, grad_shift, None, grad_weight, _rows(grad).sum(0) if needs_bias else None


class _LinearOfGelu(torch.autograd.Function):
    """linear(gelu(x)), of which x alone is kept: the widest tensor of a block once instead of twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(F.gelu(x), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            torch.ops.aten.gelu_backward(grad @ weight, x) if needs_x else None,
            _rows(grad).t() @ _rows(F.gelu(x)) if needs_weight else None,
            _rows(grad).sum(0) if needs_bias else None,
        )


class _LinearOfGated(torch.autograd.Function):
    """linear(gelu(gate) * x), of which gate and x are kept, two tensors instead of four."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(gate, x, weight)
        return F.linear(F.gelu(gate).mul_(x), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        gate, x, weight = ctx.saved_tensors
        needs_gate, needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        opened = F.gelu(gate)
        grad_weight = _rows(grad).t() @ _rows(opened * x) if needs_weight else None
        grad_bias = _rows(grad).sum(0) if needs_bias else None
        grad = grad @ weight
        grad_gate = torch.ops.aten.gelu_backward(grad * x, gate) if needs_gate else None
        return grad_gate, grad.mul_(opened) if needs_x else None, grad_weight, grad_bias


def _rows(x: Tensor) -> Tensor:
    """(..., C) to (rows, C)."""
    return x.flatten(0, -2)
