"""Run by `torchrun`: BatchNorm of a batch that lies on two processes against the same batch on one."""

import sys

import torch
import torch.distributed as dist
from torch import nn

from processing_rrsis.training.batch_norm import synchronise_batch_norm


def outcome(norm, batch, weights):
    """Output, gradients and running statistics of (B, C, H, W)."""
    batch = batch.clone().requires_grad_()
    output = norm(batch)
    (output * weights).sum().backward()
    return output.detach(), batch.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var


dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()
generator = torch.Generator().manual_seed(0)
whole = torch.randn(4 * size, 3, 5, 6, generator=generator, dtype=torch.float32) * 3 + 7
weights = torch.randn(whole.shape, generator=generator)
torch.manual_seed(1)
reference = nn.BatchNorm2d(3)
nn.init.uniform_(reference.weight)
divided = nn.Sequential(nn.BatchNorm2d(3))
divided.load_state_dict({f"0.{name}": value for name, value in reference.state_dict().items()})
(divided,) = synchronise_batch_norm(divided, torch.device("cpu"))
part = slice(4 * rank, 4 * rank + 4)
expected = outcome(reference, whole, weights)
found = list(outcome(divided, whole[part], weights[part]))
for number in (2, 3):  # gradients of the parameters: each process has its samples' share
    dist.all_reduce(found[number])
for number, (one, other) in enumerate(zip(found, expected, strict=True)):
    other = other[part] if number < 2 else other
    torch.testing.assert_close(one, other, atol=3e-5, rtol=1e-5)
divided.eval()
torch.testing.assert_close(divided(whole[part]), reference.eval()(whole[part]), atol=1e-5, rtol=1e-5)
dist.destroy_process_group()
sys.stdout.write("equal\n")
