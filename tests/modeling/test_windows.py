"""The Swin block: timm's numbers where a map fits its windows, and by hand where it does not."""

import copy

import pytest
import timm
import torch

from modeling_rrsis.swin_rrsis import SwinBlock, merge_windows, partition_windows, round_up, shift_mask


def make_block(shifted):
    torch.manual_seed(0)
    swin = timm.create_model(
        "swin_tiny_patch4_window7_224",
        num_classes=0,
        img_size=32,
        embed_dim=8,
        depths=[2, 2, 2, 2],
        num_heads=[2, 2, 2, 2],
        window_size=4,
        always_partition=True,
        strict_img_size=False,
    )
    block = swin.layers[0].blocks[int(shifted)].double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    return block.eval()


@pytest.mark.parametrize("shifted", [False, True])
def test_maps_that_fit_the_windows_get_timms_numbers_and_gradients(shifted):
    theirs = make_block(shifted)
    ours = SwinBlock(copy.deepcopy(theirs))
    x = torch.randn(2, 8, 8, 8, dtype=torch.float64, requires_grad=True)
    expected, found = theirs(x), ours(x)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(found)
    gradients = [torch.autograd.grad((out * weight).sum(), x, retain_graph=True)[0] for out in (found, expected)]
    torch.testing.assert_close(*gradients)
    assert ours.state_dict().keys() == theirs.state_dict().keys()


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("size", [(5, 7), (3, 9), (13, 6)])
def test_other_maps_are_padded_and_then_shifted(shifted, size):
    """What timm's block gives the map that is padded by hand, since its padding then comes first, too."""
    block = make_block(shifted)
    ours = SwinBlock(copy.deepcopy(block))
    torch.nn.init.zeros_(block.norm1.bias)  # so that the norm leaves zeros in the padding
    torch.nn.init.zeros_(ours.norm1.bias)
    x = torch.randn(2, *size, 8, dtype=torch.float64)
    padded = [round_up(length, 4) for length in size]
    whole = torch.nn.functional.pad(x, (0, 0, 0, padded[1] - size[1], 0, padded[0] - size[0]))
    block.dynamic_mask = True
    torch.testing.assert_close(ours(x), block(whole)[:, : size[0], : size[1]])


def test_windows_are_cut_and_merged():
    x = torch.arange(2 * 4 * 6 * 3.0).view(2, 4, 6, 3)
    windows = partition_windows(x, (2, 3))
    assert windows.shape == (8, 6, 3)
    assert torch.equal(windows[1], x[0, :2, 3:].reshape(6, 3))
    assert torch.equal(merge_windows(windows, (2, 3), (4, 6)), x)


def test_only_pixels_that_were_neighbours_see_each_other():
    """A line of two windows of two pixels, shifted by one: the last window joins both ends of the line."""
    mask = shift_mask((1, 4), (1, 2), (0, 1), like=torch.zeros(1))
    assert mask.tolist() == [[[0, 0], [0, 0]], [[0, -100], [-100, 0]]]


@pytest.mark.parametrize(("size", "unit", "expected"), [(1, 4, 4), (4, 4, 4), (5, 4, 8), (13, 7, 14), (12, 12, 12)])
def test_sizes_are_rounded_up(size, unit, expected):
    assert round_up(size, unit) == expected
