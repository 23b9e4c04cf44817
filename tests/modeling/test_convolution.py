"""The decoder's convolutions against PyTorch's: values and gradients."""

import pytest
import torch
import torch.nn.functional as F

from modeling_rrsis.convolution_rrsis import BAND, conv3x3, conv_of_upsampled, interpolation_bands
from modeling_rrsis.modeling_lavt import ConvBlock
from modeling_rrsis.swin_rrsis import feed_forward

from .tiny import tiny_model


def agree(ours, theirs, inputs):
    """Equal values and gradients in float64."""
    results = [function(*inputs) for function in (ours, theirs)]
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-9)
    weight = torch.randn_like(results[0])
    gradients = [torch.autograd.grad((result * weight).sum(), inputs) for result in results]
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


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

    fast = run()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    plain = run()
    torch.testing.assert_close(fast, plain, rtol=1e-8, atol=1e-8)


def test_feed_forward_is_timms():
    mlp = tiny_model("lavt").vision.layers[0].blocks[0].mlp.double()
    parameters = list(mlp.parameters())
    x = random(2, 3, 3, 8)
    agree(lambda x, *_: feed_forward(mlp, x), lambda x, *_: mlp(x), [x, *parameters])
