"""Where a shorter way to a layer's numbers may be taken: its weights used without calling it.

Whoever changes a layer - an adapter, a quantised layer, a hook, a parametrisation - relies on its being called. The
shorter ways are taken only around layers that nobody changed, and not where PyTorch differentiates more than once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.modules.batchnorm import _BatchNorm

WIDE = (torch.float32, torch.float64)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_GLOBAL_HOOKS = tuple(f"_global{name}" for name in _HOOKS)

_only_plain: ContextVar[bool] = ContextVar("only_plain", default=False)


@contextmanager
def plain_ways() -> Iterator[None]:
    """Call every layer, slower and with more memory, inside this block and in this thread; graphs are not affected.

    Second derivatives need it (gradient penalties, Hessians), forward-mode ones (`torch.autograd.forward_ad`) and
    `is_grads_batched`: the shorter backward passes are written by hand and can be differentiated once.
    PyTorch's own fused attention is such a one too; `torch.nn.attention.sdpa_kernel(SDPBackend.MATH)` avoids it. With
    gradient checkpointing the backward pass belongs into the block. DANet's affinity loss has no second derivative.
    """
    token = _only_plain.set(True)
    try:
        yield
    finally:
        _only_plain.reset(token)


def is_eager_cpu(x: Tensor) -> bool:
    """Whether the shorter ways of eager mode on a CPU suit `x`.

    Compilers and exports have ways of their own; `torch.func`'s transforms and `torch.jit.trace` need plain operators.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return not (_only_plain.get() or torch._C._are_functorch_transforms_active() or torch.jit.is_tracing())


def keeps_for_backward(x: Tensor) -> bool:
    """Whether eager mode on a CPU, in float32 or float64, would keep intermediate results of `x` for its gradient."""
    is_wide = x.dtype in WIDE and not torch.is_autocast_enabled("cpu")
    return is_wide and torch.is_grad_enabled() and is_eager_cpu(x)


def is_plain(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a layer does what its class says, so that its weights may be used without calling it.

    Never inside [`plain_ways`], and not so for subclasses and layers that stand in for it (LoRA, quantised ones), for
    layers with hooks or with a `forward` of their own, and for weights that are more than tensors.
    """
    if type(layer) is not kind or has_hooks(layer) or "forward" in layer.__dict__:
        return False
    if torch.compiler.is_compiling():  # which puts tensors of its own in the weights' places
        return True
    weights = layer._parameters.values()
    return not _only_plain.get() and all(part is None or type(part) in (Tensor, nn.Parameter) for part in weights)


def is_plain_conv3x3(layer: nn.Module) -> bool:
    """Whether a layer is a plain 3×3 convolution with a zero padding of 1 and without bias, stride or groups."""
    if not isinstance(layer, nn.Conv2d) or not is_plain(layer, nn.Conv2d):
        return False
    sizes = layer.kernel_size == (3, 3) and layer.padding == (1, 1) and layer.stride == layer.dilation == (1, 1)
    return sizes and layer.bias is None and layer.groups == 1 and layer.padding_mode == "zeros"


def has_hooks(layer: nn.Module) -> bool:
    """Whether someone asked to be called when this layer runs, or when any layer does."""
    is_watched = any(getattr(layer, name) for name in _HOOKS)
    return is_watched or any(getattr(torch_module, name) for name in _GLOBAL_HOOKS)


def treats_rows_alike(network: nn.Module) -> bool:
    """Whether rows of a batch know nothing of each other and nobody sees in which batches they come.

    Not so with layers in training mode (dropout, BatchNorm), with a BatchNorm that keeps no statistics, and with
    hooks. A layer of another class that draws or mixes rows in evaluation is not recognised.
    """
    if _only_plain.get():
        return False
    return not any(layer.training or has_hooks(layer) or _has_no_statistics(layer) for layer in network.modules())


def _has_no_statistics(layer: nn.Module) -> bool:
    return isinstance(layer, _BatchNorm) and layer.running_mean is None
