"""Tokens among the bytes of what would be sent: weights, pictures, and the files in a table."""

from __future__ import annotations

import contextlib
import mmap
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .push import RepoFile

TOKEN_FORMS = (
    r"hf_[A-Za-z0-9]{16,}|api_org_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}"
    r"|gl(?:pat|rt|dt|cbt|ptt|soat|ft|imt)-[\w-]{16,}|(?:AKIA|ASIA)[0-9A-Z]{16}|xox[abeprs]-[\w-]{10,}|xapp-[\w-]{16,}"
    r"|AIza[\w-]{35}|ya29\.[\w-]{20,}|npm_\w{30,}|pypi-[\w-]{16,}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\."
    r"|-----BEGIN [A-Z ]*PRIVATE KEY|PuTTY-User-Key-File|AGE-SECRET-KEY-1|SG\.[\w-]{16,}\.[\w-]{16,}"
    r"|hooks\.slack\.com/services/[\w/]{16,}|discord(?:app)?\.com/api/webhooks/\d+/[\w-]{16,}"
    r"|dop_v1_[0-9a-f]{32}|shp(?:at|ss|ca|pa)_[0-9a-f]{32}|dapi[0-9a-f]{32}|hvs\.[\w-]{24,}|whsec_[\w+/]{20,}"
    r"|nvapi-[\w-]{30,}|lin_api_\w{30,}"
)
"""Forms of tokens and keys that services give out, each with a beginning of its own."""
MAX_UNPACKED_BYTES = 1 << 22
_TOKEN_BYTES = re.compile(rf"{TOKEN_FORMS}|(?:sk|rk)[-_][A-Za-z0-9][\w-]{{30,}}".encode())
_TOP_BITS, _LETTER_BITS = np.uint64(0x8080808080808080), np.uint64(0x6060606060606060)
_IS_LETTER = np.zeros(256, dtype=bool)
_IS_LETTER[list(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_./ ")] = True
_BLOCK_BYTES, _AROUND_BYTES = 1 << 18, 1 << 9


def bytes_hold_a_token(file: RepoFile, token: str | None) -> bool:
    """Whether a token stands among the bytes of a large file, which is mapped and not read into memory."""
    if file.path.endswith(".parquet"):
        arrays = parquet_columns(file, ("binary", "large_binary"))
        return any(_holds(value, token) for array in arrays for value in array.to_pylist() if value)
    if isinstance(file.source, bytes):
        return _holds(file.source, token)
    with file.source.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _holds(data, token)


def _holds(data: Any, token: str | None) -> bool:
    return any(_has_token(part, token) for part in (data, *_png_parts(data)))


def _has_token(data: Any, token: str | None) -> bool:
    """Whether bytes hold a token: a run of letters, of which only the surroundings are searched.

    A token of 16 letters or more fills at least one whole aligned word of eight bytes; among weights and compressed
    pixels such words are rare. One with a zero behind each letter, as in UTF-16, fills two.
    """
    if token and data.find(token.encode()) >= 0:
        return True
    for start in range(0, len(data), _BLOCK_BYTES):
        block = data[start : start + _BLOCK_BYTES + _AROUND_BYTES]  # the next block's beginning: tokens on the seam
        words = np.frombuffer(block, np.uint64, len(block) // 8)
        places = np.flatnonzero((words & _TOP_BITS) == 0)
        places = places[(words[places] & _LETTER_BITS) != 0]
        letters = words[places].view(np.uint8).reshape(-1, 8)
        is_letter, is_zero = _IS_LETTER[letters], letters == 0
        is_text = is_letter.all(axis=1)
        for first in (0, 1):  # two bytes a letter
            is_text |= (is_letter[:, first::2] & is_zero[:, 1 - first :: 2]).all(axis=1)
        places = places[is_text]
        for first, last in _runs(places):
            around = block[max(0, first * 8 - _AROUND_BYTES) : last * 8 + _AROUND_BYTES]
            if _TOKEN_BYTES.search(around) or _TOKEN_BYTES.search(around.replace(b"\0", b"")):
                return True
    return False


def _runs(places: np.ndarray) -> Iterator[tuple[int, int]]:
    """First and last of the words that lie so close that their surroundings touch."""
    if len(places):
        for run in np.split(places, np.flatnonzero(np.diff(places) > _AROUND_BYTES // 8) + 1):
            yield int(run[0]), int(run[-1])


def parquet_columns(file: RepoFile, kinds: Sequence[str]) -> Iterator[Any]:
    """The columns of a table whose types have one of these names, within lists and structures too; by batches."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(file.source) as table:
        for batch in table.iter_batches(batch_size=256):
            waiting = list(batch.columns)
            while waiting:
                array = waiting.pop()
                if hasattr(array, "dictionary_decode"):
                    array = array.dictionary_decode()
                if hasattr(array, "flatten") and array.type.num_fields:  # of structures or lists
                    parts = array.flatten()
                    waiting += parts if isinstance(parts, list) else [parts]
                elif str(array.type) in kinds:
                    yield array


def _png_parts(data: Any) -> Iterator[bytes]:
    """What a PNG holds compressed beside its pixels."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return
    place = 8
    while place + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[place : place + 8])
        if kind in (b"zTXt", b"iTXt", b"iCCP"):
            content = data[place + 8 : place + 8 + size]
            for match in re.finditer(rb"\0", content):
                with contextlib.suppress(zlib.error):
                    start = match.end() + (kind != b"iTXt")
                    yield zlib.decompressobj().decompress(content[start:], MAX_UNPACKED_BYTES)
        place += size + 12
