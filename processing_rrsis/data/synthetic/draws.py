"""Seeded random draws of SyntheticRS: one independent stream per scene and purpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")

_BUFFER_SIZE = 256


def generator_of(*key: int) -> np.random.Generator:
    """Return the generator of a key such as (seed, preset, split, scene, purpose).

    Streams of different keys are independent, so a scene does not depend on which others were drawn before it.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy=key)))


class Draws:
    """Scalar draws from one generator, buffered since single numpy draws are slow."""

    def __init__(self, *key: int) -> None:
        self._generator = generator_of(*key)
        self._buffer: list[float] = []

    def unit(self) -> float:
        """Return a number in [0, 1)."""
        if not self._buffer:
            self._buffer = self._generator.random(_BUFFER_SIZE).tolist()
        return self._buffer.pop()

    def uniform(self, low: float, high: float) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * self.unit()

    def integer(self, stop: int) -> int:
        """Return an integer in [0, stop)."""
        return int(self.unit() * stop)

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self.unit() < probability

    def pick(self, items: Sequence[Item]) -> Item:
        """Return one of the items."""
        return items[self.integer(len(items))]

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """Return the items in random order."""
        shuffled = list(items)
        for last in range(len(shuffled) - 1, 0, -1):
            other = self.integer(last + 1)
            shuffled[last], shuffled[other] = shuffled[other], shuffled[last]
        return shuffled
