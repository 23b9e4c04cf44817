"""The pass over the windows: a reader is asked, its answers are blended, and finished rows leave as strips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from ..errors import RRSISError
from .reader import Reader
from .reading.source import SceneSource, without_query
from .receipts import LeftoverError, Scratch, Strip
from .tiling import Block, Tiling

NOT_VALID = 255
"""In masks and scores."""
SCORE_STEPS = 254
ANSWERS_AT_ONCE = 8
"""Windows × phrases that a reader is handed together, or one window; it makes its own batches of them."""

OnWindows = Callable[[int], None]


@dataclass(frozen=True)
class Pass:
    """What one pass over a scene needs.

    Attributes:
        source: The raster.
        tiling: How it is cut.
        reader: Who is asked.
        phrases: What is asked for in every window.
        threshold: Probability above which a pixel is the target.
        keep_probability: Whether probabilities are kept too.
        scratch: Where finished strips go.
        on_windows: Called with the number of windows that were finished.
    """

    source: SceneSource
    tiling: Tiling
    reader: Reader
    phrases: Sequence[str]
    threshold: float
    keep_probability: bool
    scratch: Scratch
    on_windows: OnWindows


def run_tiles(work: Pass) -> None:
    """Ask in every tile and blend; strips that are there already are left alone.

    Raises:
        RRSISError: If a window can't be read, with its place; finished strips stay.
    """
    for number, block in enumerate(work.tiling.blocks):
        for row in range(len(work.tiling.rows)):
            if not work.scratch.has(number, row):
                _tile_strip(work, number, block, row)
            work.on_windows(len(block.tile_starts_px))


def _tile_strip(work: Pass, number: int, block: Block, row: int) -> None:
    """Blend one row of tiles in a block of columns, save the rows that are finished and what is left of the others."""
    tiling = work.tiling
    top, bottom = tiling.strip_rows(row)
    sums = np.zeros((len(work.phrases), tiling.tile_height_px, block.stop_px - block.start_px), dtype=np.float32)
    before = work.scratch.carry(number, row - 1)
    if before is None and row > 0:
        raise LeftoverError(
            f"{work.scratch.folder}: expected what strip {row - 1} left for the next, it is gone; --overwrite begins "
            "again"
        )
    if before is not None:
        sums[:, : before.shape[1]] = before
    left = block.tile_starts_px[0]
    right = block.tile_starts_px[-1] + tiling.tile_width_px
    window = Window(left, top, right - left, tiling.tile_height_px)
    with told_where(work.source, window):
        picture, valid = work.source.read(window)
    asked = [x for x in block.tile_starts_px if valid[:, x - left : x - left + tiling.tile_width_px].any()]
    together = max(1, ANSWERS_AT_ONCE // len(work.phrases))
    for first in range(0, len(asked), together):
        starts = asked[first : first + together]
        with told_where(work.source, Window(starts[0], top, tiling.tile_width_px, tiling.tile_height_px)):
            _add_tiles(work, block, starts, picture[:, starts[0] - left :], sums)
    count = bottom - top
    inside = slice(block.start_px - left, block.stop_px - left)
    weights = tiling.sums[0][top:bottom, None] * tiling.sums[1][None, block.start_px : block.stop_px]
    finished = sums[:, :count]
    finished /= weights
    strip = finished_strip(work, finished, valid[:count, inside])
    work.scratch.save(number, row, strip, carry=sums[:, count:] if row + 1 < len(tiling.rows) else None)


def _add_tiles(
    work: Pass, block: Block, starts: Sequence[int], picture: NDArray[np.uint8], sums: NDArray[np.float32]
) -> None:
    """Ask about some tiles of a row, and add what they say, weighted, to the sums of the block.

    Args:
        work: The pass.
        block: Its columns.
        starts: First columns of the tiles.
        picture: uint8 (rows, columns, 3), from the first tile's first column on.
        sums: float32 (P, rows, columns) of the block; changed.
    """
    tiling = work.tiling
    height, width = tiling.tile_height_px, tiling.tile_width_px
    windows = np.stack([picture[:, x - starts[0] : x - starts[0] + width] for x in starts])
    missing = ((0, 0), (0, tiling.tile_px - height), (0, tiling.tile_px - width), (0, 0))
    if height < tiling.tile_px or width < tiling.tile_px:
        windows = np.pad(windows, missing, mode="symmetric")
    answers = _answers(work, windows)[..., :height, :width]
    rows, columns = tiling.weights
    for x, answer in zip(starts, answers, strict=True):
        low, high = max(x, block.start_px), min(x + width, block.stop_px)
        part = slice(low - x, high - x)
        weights = rows[:, None] * columns[None, part]
        sums[..., low - block.start_px : high - block.start_px] += answer[..., part] * weights


def _answers(work: Pass, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the model says, float32 (B, P, H, W).

    Raises:
        RRSISError: If it is of another shape, or no probabilities.
    """
    answers = np.asarray(work.reader(windows, work.phrases), dtype=np.float32)
    expected = (len(windows), len(work.phrases), *windows.shape[1:3])
    if answers.shape != expected:
        raise RRSISError(f"the model: expected probabilities {expected}, got an array {answers.shape}")
    if not (answers.min() >= 0.0 and answers.max() <= 1.0):  # not so for NaN
        raise RRSISError("the model: expected probabilities from 0 to 1, got others, or none (NaN); check its weights")
    return answers


def run_whole(work: Pass) -> None:
    """Ask once about a view of the whole scene, and enlarge the answer strip by strip.

    Raises:
        RRSISError: If the scene can't be read.
    """
    source, tiling = work.source, work.tiling
    whole = Window(0, 0, source.width_px, source.height_px)
    shape = tiling.tile_height_px, tiling.tile_width_px
    with told_where(source, whole):
        picture, _ = source.read(whole, shape=shape)
        view = _answers(work, picture[None])[0]
    for number, block in enumerate(tiling.blocks):
        for row in range(len(tiling.rows)):
            top, bottom = tiling.strip_rows(row)
            if not work.scratch.has(number, row):
                window = Window(block.start_px, top, block.stop_px - block.start_px, bottom - top)
                with told_where(source, window):
                    valid = source.read_valid(window)
                part = enlarged(view, (source.height_px, source.width_px), window)
                work.scratch.save(number, row, finished_strip(work, part, valid), carry=None)
            work.on_windows(len(block.tile_starts_px))


def enlarged(view: NDArray[np.float32], size: tuple[int, int], window: Window) -> NDArray[np.float32]:
    """A window of a view enlarged bilinearly, pixel borders aligned, to a whole scene's height and width."""
    part = view
    for axis, (length, first, count) in enumerate(
        ((size[0], window.row_off, window.height), (size[1], window.col_off, window.width)), start=1
    ):
        known = part.shape[axis]
        at = np.clip((np.arange(first, first + count) + 0.5) * known / length - 0.5, 0, known - 1)
        low = at.astype(np.int64)
        share = (at - low).astype(np.float32).reshape([-1 if number == axis else 1 for number in range(3)])
        lower, upper = np.take(part, low, axis=axis), np.take(part, np.minimum(low + 1, known - 1), axis=axis)
        part = lower + (upper - lower) * share
    return part


def finished_strip(work: Pass, probability: NDArray[np.float32], valid: NDArray[np.bool_]) -> Strip:
    """Threshold blended probabilities, float32 (P, H, W); what is not valid, bool (H, W), is marked everywhere."""
    missing = ~valid
    mask = (probability > work.threshold).astype(np.uint8)
    mask[:, missing] = NOT_VALID
    steps = np.clip(probability, 0.0, 1.0)
    steps *= SCORE_STEPS
    score = np.rint(steps, out=steps).astype(np.uint8)
    score[:, missing] = NOT_VALID
    kept = np.where(valid, probability, np.float32(np.nan)).astype(np.float32) if work.keep_probability else None
    return Strip(mask, score, kept)


@contextmanager
def told_where(source: SceneSource, window: Window) -> Iterator[None]:
    """Name the window in an error: a failed read in words, anything else as a note on its traceback."""
    try:
        yield
    except OSError as error:
        raise RRSISError(
            f"{source.name}: expected to read {source.place_of(window)}, got: "
            f"{without_query(error.__cause__ or error)}; nothing that is finished is "
            "lost, the same command goes on from there"
        ) from error
    except Exception as error:
        error.add_note(f"in {source.name}, {source.place_of(window)}")
        raise
