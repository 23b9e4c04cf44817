"""The decoder's convolutions against PyTorch's: values and gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from modeling_rrsis.convolution_rrsis import BAND, conv3x3, conv3x3_of_norm, conv_of_upsampled, interpolation_bands
from modeling_rrsis.modeling_lavt import ConvBlock

from .gradients import agree, random


@pytest.mark.parametrize(
    ("small", "large"), [((3, 4), (6, 8)), ((5, 2), (9, 4)), ((1, 3), (2, 5)), ((20, 37), (39, 74)), ((4, 4), (4, 4))]
)
def test_convolution_of_an_upsampled_map(small, large):
    torch.manual_seed(0)

    def plainly(x, weight):
        upsampled = F.interpolate(x, size=large, mode="bilinear", align_corners=True)
        return F.conv2d(upsampled, weight, padding=1)

    agree(lambda x, w: conv_of_upsampled(x, w, size=large), plainly, [random(2, 3, *small), random(4, 3, 3, 3)])


def test_interpolation_is_in_bands():
    bands = interpolation_bands(100, 200, torch.float64, torch.device("cpu"))
    assert len(bands) == -(-200 // BAND)
    assert all(band.stop - band.start < BAND for band in bands)
    assert sum(band.taps.shape[1] for band in bands) == 200


@pytest.mark.parametrize("size", [(7, 5), (1, 1), (2, 9)])
def test_plain_convolution(size):
    torch.manual_seed(0)
    inputs = [random(2, 3, *size), random(4, 3, 3, 3)]
    agree(conv3x3, lambda x, weight: F.conv2d(x, weight, padding=1), inputs)


def test_a_step_of_the_decoder_is_what_half_precision_and_compilers_run(monkeypatch):
    torch.manual_seed(0)
    block = ConvBlock(6, 4, 5).double()
    inputs = [random(2, 6, 4, 5), random(2, 4, 8, 9)]
    parameters = list(block.parameters())

    def run():
        block.zero_grad()
        out = block(*inputs)
        return out.detach(), torch.autograd.grad(out.square().sum(), [*inputs, *parameters])

    for training in (True, False):
        block.train(training)
        fast = run()
        with monkeypatch.context() as patch:
            patch.setattr(torch.compiler, "is_compiling", lambda: True)
            plain = run()
        torch.testing.assert_close(fast, plain, rtol=1e-8, atol=1e-8)


def test_convolution_of_a_normalised_map_moves_the_running_statistics_once():
    torch.manual_seed(0)
    norms = [nn.BatchNorm2d(3).double() for _ in range(2)]
    inputs = [random(2, 3, 5, 4), random(4, 3, 3, 3)]

    def plainly(x, weight):
        return F.conv2d(norms[1](x).relu(), weight, padding=1)

    agree(lambda x, weight: conv3x3_of_norm(norms[0], x, weight), plainly, inputs)
    assert norms[0].num_batches_tracked == 1
    torch.testing.assert_close(dict(norms[0].named_buffers()), dict(norms[1].named_buffers()))


@pytest.mark.parametrize("frozen", ["x", "gain", "kernels"])
def test_what_is_frozen_gets_no_gradient(frozen):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3).double()
    tensors = {"x": random(2, 3, 5, 4), "gain": norm.weight, "shift": norm.bias, "kernels": random(4, 3, 3, 3)}
    tensors[frozen].requires_grad_(False)
    free = [tensor for tensor in tensors.values() if tensor.requires_grad]
    x, kernels = tensors["x"], tensors["kernels"]
    ours = torch.autograd.grad(conv3x3_of_norm(norm, x, kernels).square().sum(), free)
    plain = torch.autograd.grad(F.conv2d(norm(x).relu(), kernels, padding=1).square().sum(), free)
    torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("name", ["conv1", "conv2"])
def test_a_step_of_the_decoder_obeys_hooks_and_layers_put_in(name):
    """Hooks of users run and a layer of another kind is called, whatever the shorter way would do."""
    torch.manual_seed(0)
    block = ConvBlock(6, 4, 5).eval()
    inputs = torch.randn(2, 6, 4, 5), torch.randn(2, 4, 8, 9)
    plain = block(*inputs)
    seen = []
    handle = getattr(block, name).register_forward_hook(lambda layer, given, out: seen.append(out.shape))
    torch.testing.assert_close(block(*inputs), plain)
    assert seen == [(2, 5, 8, 9)]
    handle.remove()

    class Doubled(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    getattr(block, name).__class__ = Doubled
    assert not torch.allclose(block(*inputs), plain)
