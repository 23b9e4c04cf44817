"""Comparisons of values and gradients in float64."""

import torch


def random(*shape):
    """A normal tensor that takes a gradient."""
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def agree(ours, theirs, inputs):
    """Equal values and gradients of two functions of the inputs."""
    results = [function(*inputs) for function in (ours, theirs)]
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-9)
    weight = torch.randn_like(results[0])
    gradients = [torch.autograd.grad((result * weight).sum(), inputs) for result in results]
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
