"""Losses against torch's own, dense forms and rows worked out by hand."""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from modeling_rrsis.loss_rrsis import (
    BatchPart,
    affinity_loss,
    check_labels,
    dice_loss,
    weighted_cross_entropy,
)


def dense_affinity(features, labels, temperature):
    unit = torch.nn.functional.normalize(features, dim=-1)
    visual = (unit @ unit.transpose(1, 2) / temperature).softmax(-1)
    binary = labels.to(features.dtype)
    target = (binary.unsqueeze(2) * binary.unsqueeze(1) / temperature).softmax(-1)
    return (visual * target - target).square().sum((1, 2)).mean()


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.05])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_affinity_equals_dense_form(temperature, share):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 50, 8, dtype=torch.float64, generator=generator, requires_grad=True)
    labels = torch.rand(2, 50, generator=generator) < share
    ours = affinity_loss(features, labels, temperature=temperature, tile_rows=16)
    dense = dense_affinity(features, labels, temperature)
    torch.testing.assert_close(ours, dense, atol=1e-9, rtol=1e-9)
    ours, dense = (torch.autograd.grad(loss, features)[0] for loss in (ours, dense))
    assert (ours - dense).norm() <= 1e-9 * dense.norm()


def test_affinity_has_second_derivatives():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 5, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    labels = torch.rand(2, 5, generator=generator) < 0.4
    assert torch.autograd.gradgradcheck(lambda x: affinity_loss(x, labels, 0.5, tile_rows=2), features)


def test_a_pixel_without_features_leaves_the_affinity_finite():
    features = torch.randn(1, 9, 4, generator=torch.Generator().manual_seed(0))
    features[0, 3] = 0
    features.requires_grad_()
    loss = affinity_loss(features, torch.arange(9)[None] < 4, temperature=0.01)
    (gradient,) = torch.autograd.grad(loss, features)
    assert loss.isfinite()
    assert gradient.isfinite().all()


def test_cross_entropy_equals_torch_on_two_channels():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 6, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, 2, (2, 5, 6), generator=generator)
    labels[0, 0] = 255
    two = torch.stack([torch.zeros_like(logits), logits], dim=1)
    weight = torch.tensor([0.9, 1.1], dtype=torch.float64)
    expected = torch.nn.functional.cross_entropy(two, labels, weight=weight, ignore_index=255)
    torch.testing.assert_close(weighted_cross_entropy(logits, labels, class_weights=(0.9, 1.1)), expected)


def test_binary_cross_entropy_by_hand():
    logits = torch.tensor([[[0.0, math.log(3.0)]]])  # probabilities 1/2 and 3/4
    labels = torch.tensor([[[1, 0]]])
    loss = weighted_cross_entropy(logits, labels, class_weights=(1.0, 1.0))
    assert loss.item() == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_dice_by_hand():
    logits = torch.tensor([[[math.log(3.0), 0.0, 5.0]]])  # probabilities 3/4, 1/2, ignored
    labels = torch.tensor([[[1, 0, 255]]])
    background = 1 - 2 * 0.5 / (0.75 + 1)  # p = (1/4, 1/2), g = (0, 1)
    target = 1 - 2 * 0.75 / (1.25 + 1)  # p = (3/4, 1/2), g = (1, 0)
    assert dice_loss(logits, labels).item() == pytest.approx(background + target, abs=1e-5)
    assert dice_loss(logits, labels, reduction="mean").item() == pytest.approx((background + target) / 2, abs=1e-5)


def test_all_ignored_gives_zero():
    logits, labels = torch.randn(1, 4, 4), torch.full((1, 4, 4), 255)
    assert weighted_cross_entropy(logits, labels, class_weights=(0.9, 1.1)).item() == 0.0


def test_affinity_is_computed_in_float32_under_autocast():
    features, labels = torch.randn(2, 30, 8), torch.arange(60).reshape(2, 30) % 3 == 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = affinity_loss(features, labels)
    assert torch.equal(loss, affinity_loss(features, labels))


MEMORY_SCRIPT = """
import pathlib, resource, sys, torch
from modeling_rrsis.loss_rrsis import affinity_loss
from tests.modeling.test_losses import dense_affinity
form = {"linear": affinity_loss, "dense": dense_affinity}[sys.argv[1]]
generator = torch.Generator().manual_seed(0)
features = torch.randn(1, int(sys.argv[2]), 256, generator=generator, requires_grad=True)
labels = torch.rand(1, features.shape[1], generator=generator) < 0.1
form(features[:, :64], labels[:, :64], 1.0).backward()  # what the first call loads is not the loss's
def peak():  # a child of a large process inherits that one's ru_maxrss; Linux tells its own beside it
    status = pathlib.Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    own = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    return own[0] if own else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
form(features, labels, 1.0).backward()
print(peak() - before)
"""


def peak_kib(form, num_pixels):
    """Growth of a fresh process's peak memory over forward and backward pass."""
    command = [sys.executable, "-c", MEMORY_SCRIPT, form, str(num_pixels)]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)}  # glibc else keeps what is freed
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
def test_affinity_needs_a_tenth_of_the_dense_forms_memory():
    """The second stage of a 1,024² image."""
    linear, dense = peak_kib("linear", 16384), peak_kib("dense", 16384)
    assert dense > 4 * 16384**2 / 1024, "the dense form holds at least one N×N matrix"
    assert linear <= 0.1 * dense, f"{linear / 1024:.0f} MiB against {dense / 1024:.0f} MiB"


@pytest.mark.parametrize(
    ("values", "odd"),
    [([0, 1, 2], "[2]"), ([0, 7, 255, 3], "[3, 7]"), ([-1, 1], "[-1]"), ([0.0, 0.5, 1.0], "[0.5]")],
)
def test_other_label_values_are_named(values, odd):
    with pytest.raises(ValueError, match=re.escape(f"got also {odd}")):
        check_labels(torch.tensor([[values]]), (1, 1, len(values)))


@pytest.mark.parametrize(
    ("values", "is_warned_of"),
    [([0, 0], False), ([0, 1], False), ([0, 1, 255], False), ([0, 255], True), ([255, 255], True)],
)
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_ignored_pixels_without_a_target_are_warned_of(values, is_warned_of, dtype, monkeypatch):
    messages = []
    monkeypatch.setattr("modeling_rrsis.loss_rrsis.logger.warning_once", messages.append)
    check_labels(torch.tensor([[values]], dtype=dtype), (1, 1, len(values)))
    assert ["pass `labels == 255`" in message for message in messages] == [True] * is_warned_of


def labelled_batch():
    """Log-odds and labels of four images with targets of unlike sizes and ignored pixels."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 6, 5, generator=generator, dtype=torch.float64)
    labels = torch.zeros(4, 6, 5, dtype=torch.int64)
    labels[0, :1], labels[1, :5], labels[2, 0, 0] = 1, 1, 1
    labels[1, 5] = 255
    return logits, labels


@pytest.mark.parametrize(
    "loss",
    [
        lambda logits, labels, **part: weighted_cross_entropy(logits, labels, (0.9, 1.1), **part),
        dice_loss,
        lambda logits, labels, **part: dice_loss(logits, labels, "mean", **part),
    ],
    ids=["weighted", "dice", "mean dice"],
)
@pytest.mark.parametrize("num_parts", [2, 4])
def test_the_mean_over_parts_is_the_loss_of_the_batch(loss, num_parts):
    logits, labels = labelled_batch()
    counts = torch.tensor([(labels == value).sum() for value in (0, 1)], dtype=torch.float64)
    part = BatchPart(num_parts=num_parts, pixel_counts=counts)
    parts = [loss(*one, part=part) for one in zip(logits.chunk(num_parts), labels.chunk(num_parts), strict=True)]
    torch.testing.assert_close(torch.stack(parts).mean(), loss(logits, labels))


def test_parts_that_do_not_know_each_other_give_another_loss():
    """What the two arguments are for: the mean of plain losses weighs a part's few pixels more."""
    logits, labels = labelled_batch()
    parts = [weighted_cross_entropy(*one, (0.9, 1.1)) for one in zip(logits.chunk(2), labels.chunk(2), strict=True)]
    difference = torch.stack(parts).mean() - weighted_cross_entropy(logits, labels, (0.9, 1.1))
    assert abs(float(difference)) > 1e-5  # rounding is 1e-15
