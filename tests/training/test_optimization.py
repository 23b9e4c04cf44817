"""The learning rate of a run that goes on."""

import warnings

import pytest
import torch

from processing_rrsis.training.optimization import move_schedule, poly_schedule


def make(num_steps=10):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    return optimizer, poly_schedule(optimizer, num_steps, warmup_steps=2)


@pytest.mark.parametrize("updates", [0, 1, 2, 7, 10])
def test_it_follows_from_the_number_of_updates(updates):
    optimizer, schedule = make()
    moved_optimizer, moved = make()
    for _ in range(updates):
        optimizer.step()
        schedule.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        move_schedule(moved, updates)
    for _ in range(2):
        assert moved_optimizer.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
        assert (moved.get_last_lr(), moved.last_epoch) == (schedule.get_last_lr(), schedule.last_epoch)
        for one, other in ((optimizer, schedule), (moved_optimizer, moved)):
            one.step()
            other.step()
