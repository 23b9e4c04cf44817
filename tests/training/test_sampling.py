"""The order of the samples."""

import pytest

from processing_rrsis.training.sampling import KeyedRows, MicroBatches, SampleKey, UpdateOrder, update_seed


def micro_batches(order, processes, steps, first=1, last=6):
    """Update → set of samples, over all processes."""
    parts = [
        list(
            MicroBatches(
                order,
                first_update=first,
                last_update=last,
                process_index=index,
                num_processes=processes,
                accumulation_steps=steps,
            )
        )
        for index in range(processes)
    ]
    updates = []
    for number in range(last - first + 1):
        rows = [part[number * steps + step] for step in range(steps) for part in parts]
        updates.append([key for row in rows for key in row])
    return updates


def test_an_epoch_takes_every_sample_once_and_leaves_out_the_rest():
    order = UpdateOrder(num_samples=11, batch_size=4, seed=0)
    assert order.updates_per_epoch == 2
    epochs = [[*order.samples(first), *order.samples(first + 1)] for first in (1, 3)]
    for number, keys in enumerate(epochs):
        assert len({key.row for key in keys}) == 8
        assert {key.epoch for key in keys} == {number}
    assert [key.row for key in epochs[0]] != [key.row for key in epochs[1]]


@pytest.mark.parametrize(("processes", "steps"), [(2, 1), (1, 2), (2, 2), (4, 1)])
def test_an_update_takes_the_same_samples_on_any_number_of_processes(processes, steps):
    order = UpdateOrder(num_samples=30, batch_size=8, seed=3)
    assert micro_batches(order, processes, steps) == micro_batches(order, 1, 1)


def test_a_later_start_goes_on_where_the_first_would_have():
    order = UpdateOrder(num_samples=30, batch_size=8, seed=3)
    assert micro_batches(order, 2, 2, first=4) == micro_batches(order, 2, 2)[3:]
    assert UpdateOrder(30, 8, seed=4).samples(1) != order.samples(1)


def test_an_update_needs_its_samples():
    with pytest.raises(ValueError, match="8 samples, fewer than the 16 of one update"):
        UpdateOrder(num_samples=8, batch_size=16, seed=0)


def test_rows_know_their_epoch():
    rows = KeyedRows([{"name": "a"}, {"name": "b"}])
    assert rows[SampleKey(1, epoch=5)] == {"name": "b", "epoch": 5}
    assert rows.__getitems__([SampleKey(1, 2), SampleKey(0, 2)]) == [
        {"name": "b", "epoch": 2},
        {"name": "a", "epoch": 2},
    ]


def test_every_forward_pass_has_a_seed_of_its_own():
    numbers = [
        (seed, step, part, process) for seed in (0, 1) for step in (1, 2) for part in (0, 1) for process in (0, 1)
    ]
    seeds = {update_seed(*number) for number in numbers}
    assert len(seeds) == len(numbers)
    assert all(0 <= seed < 2**64 for seed in seeds)
