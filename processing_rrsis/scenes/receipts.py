"""What lets a killed run go on: strips as small files of their own, and a receipt of what they belong to.

Every file is written under another name, flushed to the disk and renamed: one that has its name is complete. Beside
the strips lies what the next one needs of the one before, so that no window is looked at twice but those of the strip
that was under way.
"""

from __future__ import annotations

import io
import json
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bounds_rrsis import read_file, read_json
from ..errors import RRSISError
from ..result_files import take_lock, write_result

RECEIPT_FILE = "receipt.json"
RECEIPT_VERSION = 1
LOCK_FILE = ".lock"
COMPRESSION_LEVEL = 1
MAX_STRIP_BYTES = 1 << 30
"""Of a strip unpacked, for each expression; one of four phrases takes a tenth of it."""
MISSING = 255
"""In a strip's mask: not valid."""


class LeftoverError(RRSISError):
    """What an earlier run left is damaged or of other settings; `overwrite` begins again."""


@dataclass(frozen=True)
class Strip:
    """Finished rows of a block of columns, for every phrase.

    Attributes:
        mask: uint8 (P, rows, columns): 1 target, 0 background, 255 not valid.
        score: uint8 (P, rows, columns): probability × 254, 255 not valid.
        probability: float32 (P, rows, columns), NaN where not valid; None unless asked for.
    """

    mask: NDArray[np.uint8]
    score: NDArray[np.uint8]
    probability: NDArray[np.float32] | None = None


class Scratch:
    """The folder of an unfinished run.

    Args:
        folder: `OUTPUT.part`.
        request: What was asked for; see [`differences`].
        overwrite: Whether to drop what an earlier run left.

    Raises:
        RRSISError: If an earlier run left strips that belong to something else, or the folder is none of a run's.
        ValueError: If another process is at work in it.
    """

    def __init__(self, folder: Path, request: Mapping[str, Any], overwrite: bool = False) -> None:
        self.folder = folder
        self._most_bytes = MAX_STRIP_BYTES * len(request["expressions"])
        begun = (folder / RECEIPT_FILE).exists()
        if not begun and folder.exists() and not all(map(_is_left_over, folder.iterdir())):
            raise RRSISError(f"{folder}: expected strips of an unfinished run, it holds other files; move it away")
        folder.mkdir(exist_ok=True)
        busy = (
            f"{folder}: expected no other process at work on this scene's result; wait for it, or choose another name"
        )
        self._lock = take_lock(folder / LOCK_FILE, busy)
        for path in folder.iterdir():
            if path.suffix == ".writing" or (overwrite and path.name != LOCK_FILE):
                path.unlink()
        held = read_receipt(folder / RECEIPT_FILE)
        if held is None:
            write_receipt(folder / RECEIPT_FILE, {"version": RECEIPT_VERSION, "request": dict(request)})
            return
        changed = differences(held["request"], request)
        if changed:
            raise LeftoverError(
                f"{folder}: expected the settings of the run that was begun, {'; '.join(changed)}; give the same ones "
                "to go on, or --overwrite to begin again"
            )

    def has(self, block: int, row: int) -> bool:
        """Whether a strip is finished."""
        return self._path("strip", block, row).exists()

    def save(self, block: int, row: int, strip: Strip, carry: NDArray[np.float32] | None) -> None:
        """Write a finished strip and what the next one needs of it; drop what this one needed."""
        if carry is not None:
            _write_arrays(self._path("carry", block, row), [carry])
        arrays = [strip.mask, strip.score] + ([] if strip.probability is None else [strip.probability])
        _write_arrays(self._path("strip", block, row), arrays)
        self._path("carry", block, row - 1).unlink(missing_ok=True)

    def load(self, block: int, row: int, size: tuple[int, int]) -> Strip:
        """Read a finished strip of some rows and columns.

        Raises:
            LeftoverError: If it is none.
        """
        path = self._path("strip", block, row)
        mask, *others = _read_arrays(path, self._most_bytes)
        shapes = {(len(array), *array.shape[1:]) for array in (mask, *others)}
        types = [array.dtype.name for array in (mask, *others)]
        if (
            shapes != {(len(mask), *size)}
            or types not in (["uint8"] * 2, ["uint8", "uint8", "float32"])
            or not ((mask <= 1) | (mask == MISSING)).all()
        ):
            raise _damaged(path, f"arrays {types} of {sorted(shapes)}")
        return Strip(mask, *others)

    def carry(self, block: int, row: int) -> NDArray[np.float32] | None:
        """Read what a strip left for the next one; None where it left nothing."""
        path = self._path("carry", block, row)
        if not path.exists():
            return None
        carry = _read_arrays(path, self._most_bytes)[0]
        if carry.dtype != np.float32 or not np.isfinite(carry).all():
            raise _damaged(path, "numbers that are none")
        return carry

    def remove(self) -> None:
        """Drop the folder: its files have become results."""
        shutil.rmtree(self.folder)

    def _path(self, kind: str, block: int, row: int) -> Path:
        return self.folder / f"{kind}-{block:04d}-{row:06d}.bin"


def _is_left_over(path: Path) -> bool:
    """Whether a run that ended before its receipt was written may have left a file."""
    return path.suffix == ".writing" or path.name == LOCK_FILE


def differences(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Say in words which entries of two requests differ; large ones by name alone."""
    found = []
    for name in sorted({*held, *wanted}):
        first, second = held.get(name), json.loads(json.dumps(wanted.get(name)))
        if first != second:
            short = max(len(str(first)), len(str(second))) <= 60
            found.append(f"{name} was {first} and is {second}" if short else f"{name} differs")
    return found


def read_receipt(path: Path) -> dict[str, Any] | None:
    """Read a receipt; None where there is none.

    Raises:
        RRSISError: If another version wrote it, or it is damaged.
    """
    if not path.exists():
        return None
    try:
        values = read_json(path)
        if values["version"] == RECEIPT_VERSION and isinstance(values["request"], dict):
            return values
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise LeftoverError(
        f"{path}: expected a receipt of version {RECEIPT_VERSION}, as this version of rrsis writes it, got something "
        "else; begin again with --overwrite"
    )


def write_receipt(path: Path, values: Mapping[str, Any]) -> None:
    """Write a receipt as JSON, whole or not at all."""
    write_result(path, (json.dumps(values, indent=1) + "\n").encode())


def _write_arrays(path: Path, arrays: list[NDArray[Any]]) -> None:
    buffer = io.BytesIO()
    for array in arrays:
        np.save(buffer, array, allow_pickle=False)
    write_result(path, zlib.compress(buffer.getbuffer(), COMPRESSION_LEVEL))


def _read_arrays(path: Path, most_bytes: int) -> list[NDArray[Any]]:
    arrays = []
    try:
        unpack = zlib.decompressobj()
        buffer = io.BytesIO(unpack.decompress(read_file(path, most_bytes), most_bytes))
        if not unpack.eof:
            raise ValueError(f"less than a whole strip, or more than {most_bytes >> 20} MiB")
        while buffer.tell() < buffer.getbuffer().nbytes:
            arrays.append(np.load(buffer, allow_pickle=False))
    except (zlib.error, ValueError, EOFError, OSError, OverflowError, MemoryError) as error:
        raise _damaged(path, str(error) or type(error).__name__) from error
    if not arrays or not all(array.ndim for array in arrays):
        raise _damaged(path, "nothing in it")
    return arrays


def _damaged(path: Path, found: str) -> LeftoverError:
    return LeftoverError(f"{path}: expected a strip as a run writes it, got {found}; begin again with --overwrite")
