"""The order of the samples, as a function of the seed and the number of the update and of nothing else.

No state has to be saved for it: a run that goes on at update 1,234 asks for update 1,235. The samples of an update are
the same for any number of processes and accumulation steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Dataset, Sampler


class SampleKey(NamedTuple):
    """Row of the training split in an epoch; augmentation draws anew in every epoch."""

    row: int
    epoch: int


class UpdateOrder:
    """Which samples each update takes: every epoch a new permutation, the rest that fills no batch left out.

    Args:
        num_samples: Length of the training split.
        batch_size: Samples per update, over all processes and accumulation steps.
        seed: Seed of the permutations.

    Raises:
        ValueError: If one update needs more samples than there are.
    """

    def __init__(self, num_samples: int, batch_size: int, seed: int) -> None:
        if not 1 <= batch_size <= num_samples:
            raise ValueError(
                f"The training split has {num_samples} samples, fewer than the {batch_size} of one update. Raise "
                "--max_samples or lower --batch_size."
            )
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self.updates_per_epoch = num_samples // batch_size

    def samples(self, update: int) -> list[SampleKey]:
        """The samples of an update, counted from 1."""
        epoch, position = divmod(update - 1, self.updates_per_epoch)
        start = position * self.batch_size
        chosen = _permutation(self.num_samples, seed=self.seed, epoch=epoch)[start : start + self.batch_size]
        return [SampleKey(int(index), epoch) for index in chosen]


@lru_cache(maxsize=2)
def _permutation(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(num_samples)


class MicroBatches(Sampler[list[SampleKey]]):
    """The micro-batches of one process, from one update to the last.

    Micro-batch k of process p holds the samples [(k·P + p)·m, (k·P + p + 1)·m) of its update, for P processes and
    m samples each.

    Args:
        order: Which samples an update takes.
        first_update: First update, counted from 1.
        last_update: Last one.
        process_index: p.
        num_processes: P.
        accumulation_steps: Micro-batches per update and process.
    """

    def __init__(
        self,
        order: UpdateOrder,
        *,
        first_update: int,
        last_update: int,
        process_index: int,
        num_processes: int,
        accumulation_steps: int,
    ) -> None:
        self.order = order
        self.updates = range(first_update, last_update + 1)
        self.process_index, self.num_processes = process_index, num_processes
        self.accumulation_steps = accumulation_steps
        self.micro_batch_size = order.batch_size // (num_processes * accumulation_steps)

    def __len__(self) -> int:
        return len(self.updates) * self.accumulation_steps

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for update in self.updates:
            samples = self.order.samples(update)
            for step in range(self.accumulation_steps):
                start = (step * self.num_processes + self.process_index) * self.micro_batch_size
                yield samples[start : start + self.micro_batch_size]


class KeyedRows(Dataset):
    """Rows of a split by `SampleKey`, each with its `epoch`.

    Args:
        split: A `datasets.Dataset`, or any sequence of rows.
    """

    def __init__(self, split: Any) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        return {**self.split[key.row], "epoch": key.epoch}

    def __getitems__(self, keys: Sequence[SampleKey]) -> list[dict[str, Any]]:
        """All rows of a batch in one call; PyTorch's loader asks for them so."""
        if not hasattr(self.split, "__getitems__"):
            return [self[key] for key in keys]
        rows = self.split.__getitems__([key.row for key in keys])
        return [{**row, "epoch": key.epoch} for row, key in zip(rows, keys, strict=True)]


def update_seed(seed: int, update: int, micro_batch: int, process_index: int) -> int:
    """Seed of dropout and drop path in one forward pass, so that no random state outlives it; 64 bits."""
    return int(np.random.SeedSequence((seed, update, micro_batch, process_index)).generate_state(1, np.uint64)[0])
