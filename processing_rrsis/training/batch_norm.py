"""BatchNorm over all processes, and BatchNorm that no longer moves."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


class ProcessBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm whose mean and variance in training are those of all processes' batches together.

    `torch.nn.SyncBatchNorm` exists for GPUs only; this is the same arithmetic on any backend of `torch.distributed`,
    for training on CPUs. All processes must have batches of the same size.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W)."""
        if not (self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(x)
        wide = x.float()
        size = wide.numel() // wide.shape[1] * dist.get_world_size()
        mean = all_reduce(wide.sum((0, 2, 3))) / size
        centred = wide - mean[:, None, None]
        variance = all_reduce(centred.square().sum((0, 2, 3))) / size
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            momentum = 0.1 if self.momentum is None else self.momentum
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
                self.running_var.lerp_((variance * (size / (size - 1))).to(self.running_var.dtype), momentum)
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
        scale = (variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        shifted = centred * scale[:, None, None]
        return (shifted if self.bias is None else shifted + self.bias[:, None, None]).to(x.dtype)


def synchronise_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """Let every BatchNorm of a model see the batches of all processes.

    Args:
        model: Changed in place; its parameters, buffers and their names stay.
        device: Where it trains: PyTorch's own `SyncBatchNorm` on GPUs, `ProcessBatchNorm2d` elsewhere.

    Returns:
        The model.
    """
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = ProcessBatchNorm2d
    return model


def freeze_batch_norm(model: nn.Module) -> None:
    """Put every BatchNorm into evaluation: running statistics are used and stay; call it after `model.train()`."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
