"""What RMSIN adds to LAVT: kernels that turn, a branch within each stage, and that each can be left out."""

import math

import pytest
import torch

from modeling_rrsis import LAVTForReferringSegmentation, RMSINForReferringSegmentation
from modeling_rrsis.modeling_rmsin import RMSINIntraScale, RMSINRotatedConv, turned_taps

from .tiny import tiny_inputs, tiny_labels, tiny_model

ADDED = ("use_intra_scale", "use_cross_scale", "use_rotated_convolution")


def published_taps(angle):
    """The two tables of the published code: x = cos θ, y = sin θ, a = x − y, b = x·y, c = x + y."""
    x, y = math.cos(angle), math.sin(angle)
    a, b, c = x - y, x * y, x + y
    if angle >= 0:
        rows = [
            {0: a, 1: 1 - a},
            {1: x - b, 2: b, 4: 1 - c + b, 5: y - b},
            {2: a, 5: 1 - a},
            {0: b, 1: y - b, 3: x - b, 4: 1 - c + b},
            {4: 1},
            {4: 1 - c + b, 5: x - b, 7: y - b, 8: b},
            {3: 1 - a, 6: a},
            {3: y - b, 4: 1 - c + b, 6: b, 7: x - b},
            {7: 1 - a, 8: a},
        ]
    else:
        rows = [
            {0: c, 3: 1 - c},
            {0: -b, 1: x + b, 3: b - y, 4: 1 - a - b},
            {1: 1 - c, 2: c},
            {3: x + b, 4: 1 - a - b, 6: -b, 7: b - y},
            {4: 1},
            {1: b - y, 2: -b, 4: 1 - a - b, 5: x + b},
            {6: c, 7: 1 - c},
            {4: 1 - a - b, 5: b - y, 7: x + b, 8: -b},
            {5: 1 - c, 8: c},
        ]
    matrix = torch.zeros(9, 9, dtype=torch.float64)
    for tap, row in enumerate(rows):
        for column, value in row.items():
            matrix[tap, column] = value
    return matrix


def test_turned_kernels_are_the_published_tables():
    angles = torch.deg2rad(torch.tensor([-40.0, -23.0, -1.0, 0.0, 0.5, 17.0, 40.0], dtype=torch.float64))
    expected = torch.stack([published_taps(angle) for angle in angles.tolist()])
    torch.testing.assert_close(turned_taps(angles), expected, atol=1e-12, rtol=0)


def test_the_angles_gradient_is_the_tables_too():
    angles = torch.deg2rad(torch.tensor([-23.0, 17.0], dtype=torch.float64)).requires_grad_()
    weights = torch.randn(2, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad((turned_taps(angles) * weights).sum(), angles)
    step = 1e-6
    for row, angle in enumerate(angles.tolist()):
        change = (published_taps(angle + step) - published_taps(angle - step)) / (2 * step)
        assert gradient[row].item() == pytest.approx((change * weights[row]).sum().item(), rel=1e-6)


@torch.no_grad()
def test_every_image_has_a_kernel_of_its_own():
    """Against PyTorch's convolution, image by image, with kernels made from the published tables."""
    torch.manual_seed(0)
    conv = RMSINRotatedConv(5, max_rotation=40.0, dropout=0.2).double().eval()
    conv.angle.weight.copy_(torch.tensor([[9.0, -9.0, 9.0, -9.0, 0.0]]))
    x = torch.randn(6, 5, 7, 9, dtype=torch.float64) + 9 * torch.randn(6, 5, 1, 1, dtype=torch.float64)
    strength, angle = conv.choose(x)
    assert (angle.min() < 0, angle.max() > 0) == (True, True)
    assert angle.abs().max() < math.radians(40)
    for i in range(len(x)):
        taps = torch.einsum("st,oit->ois", published_taps(angle[i].item()), conv.weight.flatten(2))
        expected = torch.nn.functional.conv2d(x[i : i + 1], strength[i] * taps.unflatten(-1, (3, 3)), padding=1)
        torch.testing.assert_close(conv(x)[i : i + 1], expected)


@torch.no_grad()
def test_intra_scale_branch_by_hand():
    """Fresh BatchNorms in evaluation are the identity but for ε; the point branches double, the rest is off."""
    branch = RMSINIntraScale().eval()
    for step in (branch.first, branch.second):
        step.point[0].weight.fill_(2.0)
        step.square[0].weight.zero_()
    pixels = torch.tensor([[[1.0, 3.0], [-4.0, 0.0]]])  # means 2 and −2; step: 2·m + m; ReLU; step; sigmoid
    expected = torch.tensor([[[18.0], [0.0]]]).sigmoid()
    torch.testing.assert_close(branch(pixels, (1, 2)), expected, atol=1e-5, rtol=1e-4)


def test_without_all_it_adds_it_is_lavt():
    plain = tiny_model("rmsin", **dict.fromkeys(ADDED, False)).eval()
    lavt = tiny_model("lavt").eval()
    theirs = {key.replace(".language", ""): value for key, value in plain.state_dict().items()}
    lavt.load_state_dict(theirs, strict=True)
    with torch.no_grad():
        assert torch.equal(lavt(**tiny_inputs()).logits, plain(**tiny_inputs()).logits)
    assert isinstance(lavt, LAVTForReferringSegmentation)


@pytest.mark.parametrize("field", ADDED)
def test_each_addition_has_weights_of_its_own(field):
    whole, without = tiny_model("rmsin").state_dict(), tiny_model("rmsin", **{field: False}).state_dict()
    left_out = set(whole) - set(without)
    assert set(without) <= set(whole)
    part = {"use_intra_scale": "fusion.", "use_cross_scale": "cim.", "use_rotated_convolution": "decoder."}[field]
    assert left_out
    assert all(key.startswith(part) for key in left_out)


def test_loss_is_nine_tenths_of_cross_entropy_and_a_tenth_of_dice():
    model = tiny_model("rmsin").eval()
    with torch.no_grad():
        output = model(**tiny_inputs(), labels=tiny_labels())
    parts = output.loss_dict
    torch.testing.assert_close(output.loss, 0.9 * parts["cross_entropy"] + 0.1 * parts["dice"])


@torch.no_grad()
def test_many_expressions_on_one_image_equal_one_by_one():
    model = tiny_model("rmsin").eval()
    inputs = tiny_inputs(batch_size=3)
    one = {**inputs, "pixel_values": inputs["pixel_values"][:1]}
    repeated = {**inputs, "pixel_values": inputs["pixel_values"][:1].expand(3, -1, -1, -1)}
    torch.testing.assert_close(model(**one).logits, model(**repeated).logits, atol=1e-5, rtol=0)


def test_auto_classes_know_it(tmp_path):
    tiny_model("rmsin").save_pretrained(tmp_path)
    assert (tmp_path / "modeling_rmsin.py").is_file()
    assert (tmp_path / "multi_scale_rrsis.py").is_file()
    assert type(RMSINForReferringSegmentation.from_pretrained(tmp_path)) is RMSINForReferringSegmentation
