"""Window attention by plan against the padded, rolled and cut map, which timm's own attention confirms."""

import pytest
import timm
import torch
from torch.autograd import gradcheck

from modeling_rrsis.windows_rrsis import (
    _BiasedAttention,
    plan_windows,
    planned_window_attention,
    shift_mask,
    window_attention,
)

SIZES = [(8, 8), (5, 7), (3, 9), (4, 4), (13, 6)]


def make_block(shifted):
    torch.manual_seed(0)
    swin = timm.create_model(
        "swin_tiny_patch4_window7_224",
        num_classes=0,
        img_size=64,
        embed_dim=8,
        depths=[2, 2, 2, 2],
        num_heads=[2, 2, 2, 2],
        window_size=4,
        always_partition=True,
        strict_img_size=False,
    )
    block = swin.layers[0].blocks[int(shifted)].double()
    for parameter in (*block.norm1.parameters(), *block.attn.parameters()):
        torch.nn.init.normal_(parameter)
    return block.eval()


def padded(block, x):
    return window_attention(block, x, shift_mask(block, x) if any(block.shift_size) else None)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_both_ways_give_the_same(shifted, size):
    block = make_block(shifted)
    x = torch.randn(2, *size, 8, dtype=torch.float64, requires_grad=True)
    results = [attention(block, x) for attention in (padded, planned_window_attention)]
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-9)
    weight = torch.randn_like(results[0])
    inputs = [x, *block.norm1.parameters(), *block.attn.parameters()]
    gradients = [torch.autograd.grad((result * weight).sum(), inputs) for result in results]
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
    with torch.inference_mode():
        torch.testing.assert_close(planned_window_attention(block, x), results[0], rtol=1e-9, atol=1e-9)


def test_without_padding_and_shift_it_is_timms():
    block = make_block(shifted=False)
    x = torch.randn(1, 4, 4, 8, dtype=torch.float64)
    expected = block.attn(block.norm1(x).view(1, 16, 8)).view(1, 4, 4, 8)
    torch.testing.assert_close(planned_window_attention(block, x), expected)


def test_a_plan_places_every_pixel_once():
    plan = plan_windows(2, 5, 7, (4, 4), (2, 2), torch.device("cpu"))
    assert plan.order.sort().values.tolist() == list(range(2 * 5 * 7))
    assert plan.order[plan.inverse].tolist() == list(range(2 * 5 * 7))
    assert sum(group.num_windows * group.num_pixels for group in plan.groups) == 2 * 5 * 7
    whole = plan_windows(1, 8, 8, (4, 4), (0, 0), torch.device("cpu"))
    assert len(whole.groups) == 1
    assert whole.groups[0].mask is None
    assert whole.groups[0].padding is None


def test_gradients_of_the_attention_with_a_bias(monkeypatch):
    monkeypatch.setattr("modeling_rrsis.windows_rrsis.SCORES", 2 * 2 * 3 * 4)  # two windows at a time
    torch.manual_seed(0)
    query, key, value, bias = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((3, 2, 3, 5), (3, 2, 4, 5), (3, 2, 4, 5), (2, 3, 4))
    )
    assert gradcheck(lambda *inputs: _BiasedAttention.apply(*inputs, 0.4), (query, key, value, bias))
