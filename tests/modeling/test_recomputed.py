"""Linear layers whose input is made again in the backward pass, against the plain modules."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from modeling_rrsis.recomputed_rrsis import feed_forward, linear_of_gated, linear_of_norm

from .gradients import agree, random
from .tiny import tiny_model


@pytest.fixture
def block():
    """A Swin block whose every parameter matters."""
    torch.manual_seed(0)
    block = tiny_model("lavt").vision.layers[0].blocks[0].double().train()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    return block


def test_feed_forward_is_timms(block):
    inputs = [random(2, 3, 3, 8), *block.norm2.parameters(), *block.mlp.parameters()]
    agree(lambda x, *_: feed_forward(block.norm2, block.mlp, x), lambda x, *_: block.mlp(block.norm2(x)), inputs)


@pytest.mark.parametrize("bias", [True, False])
def test_linear_of_norm(bias):
    torch.manual_seed(0)
    norm, linear = nn.LayerNorm(8, eps=1e-3).double(), nn.Linear(8, 5, bias=bias).double()
    nn.init.normal_(norm.weight)
    inputs = [random(4, 8), *norm.parameters(), *linear.parameters()]
    agree(lambda x, *_: linear_of_norm(norm, linear, x), lambda x, *_: linear(norm(x)), inputs)


@pytest.mark.parametrize("frozen", [None, 0, 1, 2, 3])
def test_linear_of_gated(frozen):
    torch.manual_seed(0)
    linear = nn.Linear(8, 5).double()
    tensors = [random(2, 4, 8), random(2, 4, 8), *linear.parameters()]
    if frozen is not None:
        tensors[frozen].requires_grad_(False)
    gate, x = tensors[:2]
    results = [linear_of_gated(linear, nn.Linear, gate, x), linear(F.gelu(gate) * x)]
    free = [tensor for tensor in tensors if tensor.requires_grad]
    ours, plain = (torch.autograd.grad(result.square().sum(), free) for result in results)
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("frozen", range(7))
def test_what_is_frozen_gets_no_gradient(block, frozen):
    tensors = [random(2, 3, 3, 8), *block.norm2.parameters(), *block.mlp.parameters()]
    tensors[frozen].requires_grad_(False)
    free = [tensor for tensor in tensors if tensor.requires_grad]
    results = [feed_forward(block.norm2, block.mlp, tensors[0]), block.mlp(block.norm2(tensors[0]))]
    ours, plain = (torch.autograd.grad(result.square().sum(), free) for result in results)
    torch.testing.assert_close(ours, plain)


def test_less_is_kept(block):
    """Of a perceptron that widens 8 channels to 32: its input and what the GELU reads, no output of norm and GELU."""
    kept = {}

    def keep(tensor):
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    x = random(2, 3, 3, 8)
    pixels = x.numel() // 8
    weights = sum(parameter.numel() for parameter in (*block.norm2.parameters(), *block.mlp.parameters()))
    sizes = []
    for run in (lambda: feed_forward(block.norm2, block.mlp, x), lambda: block.mlp(block.norm2(x))):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = run()
        sizes.append(sum(kept.values()))
        del out
    assert sizes[0] <= pixels * (8 + 32 + 2) + weights
    assert sizes[1] >= pixels * (8 + 8 + 32 + 32)


def test_layers_put_in_are_called(block):
    """As adapters and quantisation do: the layer is replaced and its weight is another one's."""

    class Scaled(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return 2 * self.layer(x)

    x = random(2, 3, 3, 8)
    for name in ("fc1", "fc2"):
        plain = getattr(block.mlp, name)
        setattr(block.mlp, name, Scaled(plain))
        torch.testing.assert_close(feed_forward(block.norm2, block.mlp, x), block.mlp(block.norm2(x)))
        setattr(block.mlp, name, plain)
