"""What is kept of each scene: a small file beside its results that says what was found, or why nothing was."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..bounds_rrsis import read_json
from ..result_files import write_result
from ..scenes.reading.files import file_states

RECORD_FILE = "result.json"
MASK_FILE = "mask.tif"
RECORD_VERSION = 1


@dataclass(frozen=True)
class Finding:
    """What one expression has in a scene: number of objects and their area, None without a place on Earth."""

    objects: int
    area_m2: float | None


@dataclass(frozen=True)
class Record:
    """One scene, worked through.

    Attributes:
        settings: Digest of everything that the whole table shares.
        source: Bytes and time of change of the scene's local files by name, before they were read.
        expressions: What was asked, in the order of the mask's bands.
        findings: By expression; empty where the scene failed.
        refused: Why an expression was not asked, by expression.
        error: Why it failed, else empty.
        seconds: That it took.
        receipt: SHA-256 of the scene's receipt without its times.
        files: Bytes of each file of the results.
    """

    settings: str
    source: Mapping[str, list[int]]
    expressions: list[str]
    findings: Mapping[str, Finding]
    refused: Mapping[str, str]
    error: str
    seconds: float
    receipt: str
    files: Mapping[str, int]

    def write(self, folder: Path) -> None:
        """Write it into the scene's folder, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"version": RECORD_VERSION, **asdict(self)}, indent=1)
        write_result(folder / RECORD_FILE, content.encode())


def read_record(folder: Path) -> Record | None:
    """The record in a folder; None where there is none that can be read: the scene is worked through again."""
    try:
        values = read_json(folder / RECORD_FILE)
        if values.pop("version") != RECORD_VERSION:
            return None
        values["findings"] = {text: Finding(**found) for text, found in values["findings"].items()}
        record = Record(**values)
        return record if _is_sound(record) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _is_sound(record: Record) -> bool:
    """Whether a record has the types and ranges that a run writes."""
    texts = (record.settings, record.error, record.receipt)
    numbers = (record.seconds, *(finding.area_m2 for finding in record.findings.values()))
    counts = [finding.objects for finding in record.findings.values()]
    return (
        all(isinstance(text, str) for text in (*texts, *record.expressions, *record.refused.values()))
        and all(type(number) in (int, float) and 0 <= number < math.inf for number in numbers if number is not None)
        and all(type(count) is int and count >= 0 for count in (*counts, *record.files.values()))
        and all(list(map(type, state)) == [int, int] for state in record.source.values())
        and all(text.strip() for text in record.refused.values())
        and all(name == Path(name).name for name in record.files)
        and bool(record.error or MASK_FILE in record.files)
    )


def is_current(record: Record, folder: Path, settings: str, address: str, expressions: tuple[str, ...]) -> bool:
    """Whether a record still says what a run would find: same settings, same scene, files as they were."""
    if record.settings != settings or record.source != file_states(address):
        return False
    if record.expressions != list(expressions):
        return False
    if record.error:
        return True
    if set(expressions) != {*record.findings, *record.refused} or set(record.findings) & set(record.refused):
        return False
    sizes = {name: _size(folder / name) for name in record.files}
    return sizes == dict(record.files)


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def receipt_digest(receipt: Mapping[str, Any]) -> str:
    """SHA-256 of a scene's receipt without how long it took: two runs that found the same have the same."""
    values = {name: value for name, value in receipt.items() if name != "seconds"}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
