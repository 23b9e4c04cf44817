"""Pixel–word attention: by hand, and what its norm does to a single word."""

import pytest
import torch

from modeling_rrsis.alignment_rrsis import PixelWordAttention, average_pool, upsample


@torch.no_grad()
@pytest.mark.parametrize("num_heads", [1, 2])
def test_attention_by_hand(num_heads):
    """Identity projections: every pixel gathers the words by the softmax of its scores, over √C whatever the heads."""
    attention = PixelWordAttention(4, 4, num_heads=num_heads, use_norm=False).double()
    for layer in (attention.query, attention.key, attention.value, attention.output):
        layer.weight.copy_(torch.eye(4))
        layer.bias.zero_()
    pixels, words = torch.randn(2, 3, 4).double(), torch.randn(2, 5, 4).double()
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 0, 0]])
    out, weights = attention(pixels, words, mask)
    for head in range(num_heads):
        own = slice(head * 4 // num_heads, (head + 1) * 4 // num_heads)
        scores = (pixels[..., own] @ words[..., own].mT / 2).masked_fill(mask[:, None] == 0, -torch.inf)
        torch.testing.assert_close(weights[:, head], scores.softmax(-1))
        torch.testing.assert_close(out[..., own], scores.softmax(-1) @ words[..., own])


def test_padding_gets_no_gradient_and_a_masked_row_gives_the_outputs_bias():
    torch.manual_seed(0)
    attention = PixelWordAttention(8, 6, use_norm=False).double()
    words = torch.randn(2, 5, 6).double().requires_grad_()
    mask = torch.tensor([[1, 0, 1, 0, 1], [0, 0, 0, 0, 0]])
    out, _ = attention(torch.randn(2, 11, 8).double(), words, mask)
    (gradient,) = torch.autograd.grad((out * torch.randn_like(out)).sum(), words)
    assert torch.equal(gradient.abs().sum(-1) > 0, mask.bool())
    torch.testing.assert_close(out[1], attention.output.bias.expand(11, -1))


def test_a_single_word_is_silenced_by_the_norm():
    torch.manual_seed(0)
    attention = PixelWordAttention(8, 6).double()
    out, weights = attention(torch.randn(1, 11, 8).double(), torch.randn(1, 5, 6).double(), torch.eye(5)[2:3])
    assert out.abs().max() < 1e-9
    assert weights[0, 0, :, 2].tolist() == [1.0] * 11


@pytest.mark.parametrize(("size", "pooled"), [((20, 20), (3, 3)), ((30, 17), (8, 5)), ((8, 8), (4, 2))])
def test_pooling_is_pytorchs(size, pooled):
    maps = torch.randn(2, 4, *size, dtype=torch.float64)
    torch.testing.assert_close(average_pool(maps, pooled), torch.nn.functional.adaptive_avg_pool2d(maps, pooled))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("size", "new"), [((3, 5), (7, 10)), ((15, 15), (30, 30)), ((1, 1), (2, 3))])
def test_upsampling_is_pytorchs(size, new, align_corners):
    maps = torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.interpolate(maps, size=new, mode="bilinear", align_corners=align_corners)
    found = upsample(maps, new, align_corners=align_corners)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(found)
    gradients = [torch.autograd.grad((out * weight).sum(), maps)[0] for out in (found, expected)]
    torch.testing.assert_close(*gradients)
    assert upsample(maps.bfloat16(), new, align_corners=align_corners).dtype is torch.bfloat16
