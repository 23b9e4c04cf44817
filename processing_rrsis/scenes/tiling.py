"""Where tiles lie, how much each says about a pixel, and in which blocks of columns a scene is gone through.

A tile never reaches over the frame: the last one is moved back, a scene smaller than a tile has a single one. Weights
are above zero everywhere and fall off over the overlap; the blend divides by their sum, so that it has no seam and no
border without a weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

BLOCK_AREA_PX = 4 * 2**20
"""Pixels of a block that are held at once: tile height × block width; wider scenes are gone through in columns."""
MIN_TILE_PX = 8


def tile_starts(length_px: int, tile_px: int, overlap_px: int) -> list[int]:
    """First pixel of each tile along one side; the last tile ends with the side."""
    if length_px <= tile_px:
        return [0]
    return [*range(0, length_px - tile_px, tile_px - overlap_px), length_px - tile_px]


def tile_weights(tile_px: int, overlap_px: int) -> NDArray[np.float32]:
    """Weights of a tile's pixels along one side: 1 inside, falling over the overlap, never 0; float32 (tile_px,)."""
    distance = np.minimum(np.arange(tile_px), np.arange(tile_px)[::-1]) + 0.5  # of a pixel's centre from the border
    return np.minimum(1.0, distance / max(overlap_px, 0.5)).astype(np.float32)


@dataclass(frozen=True)
class Block:
    """Columns that are gone through together, from the upper end of the scene to its lower one.

    Attributes:
        start_px: First column.
        stop_px: Column after the last.
        tile_starts_px: First columns of all tiles that reach into it.
    """

    start_px: int
    stop_px: int
    tile_starts_px: tuple[int, ...]


@dataclass(frozen=True)
class Tiling:
    """How a scene is cut.

    Attributes:
        width_px: Of the scene.
        height_px: Of the scene.
        tile_px: Side of a tile, in pixels of the scene.
        overlap_px: By which neighbouring tiles overlap.
    """

    width_px: int
    height_px: int
    tile_px: int
    overlap_px: int

    def __post_init__(self) -> None:
        if self.tile_px < MIN_TILE_PX:
            raise ValueError(f"tile_size_px: expected at least {MIN_TILE_PX} pixels of the scene, got {self.tile_px}")
        if not 0 <= self.overlap_px <= self.tile_px // 2:
            raise ValueError(
                f"overlap_px: expected 0 to half a tile, {self.tile_px // 2} pixels of the scene, got "
                f"{self.overlap_px}"
            )

    @cached_property
    def rows(self) -> list[int]:
        """First rows of the tiles."""
        return tile_starts(self.height_px, tile_px=self.tile_px, overlap_px=self.overlap_px)

    @cached_property
    def columns(self) -> list[int]:
        """First columns of the tiles."""
        return tile_starts(self.width_px, tile_px=self.tile_px, overlap_px=self.overlap_px)

    @property
    def tile_height_px(self) -> int:
        """Rows of a tile inside the scene."""
        return min(self.tile_px, self.height_px)

    @property
    def tile_width_px(self) -> int:
        """Columns of a tile inside the scene."""
        return min(self.tile_px, self.width_px)

    @cached_property
    def blocks(self) -> list[Block]:
        """Blocks of columns; one where the scene is narrow enough."""
        stride = self.tile_px - self.overlap_px
        width = max(BLOCK_AREA_PX // self.tile_px // stride, 2) * stride
        starts = list(range(0, self.width_px, width))
        if len(starts) > 1 and self.width_px - starts[-1] < self.tile_px:
            del starts[-1]
        return [
            Block(start, stop, tuple(x for x in self.columns if x < stop and x + self.tile_width_px > start))
            for start, stop in zip(starts, [*starts[1:], self.width_px], strict=True)
        ]

    def strip_rows(self, row: int) -> tuple[int, int]:
        """First row, and row after the last, that no tile after this row of tiles touches."""
        last = row + 1 == len(self.rows)
        return self.rows[row], self.height_px if last else self.rows[row + 1]

    @cached_property
    def weights(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weights of a tile's rows and of its columns; a pixel's weight is their product."""
        side = tile_weights(self.tile_px, self.overlap_px)
        return side[: self.tile_height_px], side[: self.tile_width_px]

    @cached_property
    def sums(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Sums of the weights over all tiles, by row and by column; a pixel's sum is their product."""
        found = []
        for length, starts, weights in zip(
            (self.height_px, self.width_px), (self.rows, self.columns), self.weights, strict=True
        ):
            total = np.zeros(length, dtype=np.float32)
            for start in starts:
                total[start : start + len(weights)] += weights
            found.append(total)
        return found[0], found[1]

    @property
    def num_windows(self) -> int:
        """Windows that are looked at; a tile that reaches into two blocks counts for both."""
        return len(self.rows) * sum(len(block.tile_starts_px) for block in self.blocks)
