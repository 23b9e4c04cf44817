"""Pixel–word attention on the words' side against its published order, pixel by pixel."""

import pytest
import torch

from modeling_rrsis.alignment_rrsis import MASKED, PixelWordAttention, TextFeatures, instance_norm


def in_published_order(attention, pixels, text):
    """Queries normalised, words mixed for every pixel, then projected and normalised."""
    mask = text.mask.double().unsqueeze(-1)
    heads = (attention.num_heads, -1)
    query, key, value = (
        tokens.unflatten(-1, heads).transpose(1, 2)
        for tokens in (
            attention.project_query(pixels),
            attention.key(text.words) * mask,
            attention.value(text.words) * mask,
        )
    )
    scores = query @ key.transpose(-1, -2) * attention.scale + MASKED * (1 - mask[:, None, :, 0].unsqueeze(1))
    weights = scores.softmax(-1)
    out = attention.output((weights @ value).transpose(1, 2).flatten(2))
    return (instance_norm(out) if attention.use_norm else out), weights


@pytest.mark.parametrize("use_norm", [True, False])
@pytest.mark.parametrize("num_heads", [1, 2, 4])
def test_values_and_gradients(num_heads, use_norm):
    torch.manual_seed(0)
    attention = PixelWordAttention(8, 6, num_heads=num_heads, use_norm=use_norm).double()
    pixels = (torch.randn(3, 11, 8).double() + 5).requires_grad_()  # a mean that the norm must take away
    words = torch.randn(3, 5, 6).double().requires_grad_()
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
    text = TextFeatures(words, mask)
    results = [function(pixels, text) for function in (attention, lambda *a: in_published_order(attention, *a))]
    torch.testing.assert_close(results[0], results[1], rtol=1e-8, atol=1e-8)
    weight = torch.randn_like(results[0][0])
    inputs = [pixels, words, *attention.parameters()]
    found, expected = (torch.autograd.grad((out * weight).sum(), inputs) for out, _ in results)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_a_single_word_is_silenced_by_the_norm():
    torch.manual_seed(0)
    attention = PixelWordAttention(8, 6).double()
    text = TextFeatures(torch.randn(1, 5, 6).double(), torch.tensor([[0, 0, 1, 0, 0]]))
    out, weights = attention(torch.randn(1, 11, 8).double(), text)
    assert out.abs().max() < 1e-9
    assert weights[0, 0, :, 2].tolist() == [1.0] * 11


@pytest.mark.parametrize("num_heads", [1, 2])
def test_an_output_layer_put_in_is_called(num_heads):
    """As adapters and quantisation do: the layer is replaced and its weight is another one's."""
    torch.manual_seed(0)
    attention = PixelWordAttention(8, 6, num_heads=num_heads, use_norm=False).double()
    text = TextFeatures(torch.randn(1, 5, 6).double(), torch.ones(1, 5))
    pixels = torch.randn(1, 11, 8).double()
    plain = attention(pixels, text)[0]
    attention.output = torch.nn.Sequential(attention.output, torch.nn.Linear(8, 8).double())
    expected = attention.output[1](plain)
    torch.testing.assert_close(attention(pixels, text)[0], expected)
