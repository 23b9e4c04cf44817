"""The table of one's own data: a CSV or JSONL file with a line per expression."""

from __future__ import annotations

import csv
import io
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from ..bounds_rrsis import parse_json, read_text, shown
from ..expression_rrsis import check_text
from .files.geometries import is_geometry

TABLE_ENDINGS: tuple[str, ...] = (".csv", ".jsonl", ".ndjson")
NEEDED_COLUMNS: tuple[str, ...] = ("image", "mask", "expression")
SPLIT_ALIASES: dict[str, str] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
OPTIONAL_COLUMNS: tuple[str, ...] = ("category", "split")
MAX_PATH_CHARACTERS = 4096
MAX_CELL_CHARACTERS = 1 << 26
"""Longest CSV cell; the csv module's own limit of 128 KiB is too short for polygons and run lengths."""


@dataclass(frozen=True)
class TableRow:
    """One line of the table.

    Attributes:
        line_number: Where it stands, from 1.
        image: Path of the image as written.
        mask: Path of a mask file as written, or run lengths or GeoJSON (a dictionary; WKT stands under ``"wkt"``), or
            a polygon or several (a list).
        expression: The sentence.
        category: ``""`` where the table has none.
        split: ``"train"``, ``"validation"`` or ``"test"``; ``"train"`` where the table has no such column.
    """

    line_number: int
    image: str
    mask: str | dict[str, Any] | list[Any]
    expression: str
    category: str
    split: str


def read_table(path: str | PathLike[str]) -> list[TableRow]:
    """Read a table.

    CSV: a header with the columns ``image, mask, expression`` and optionally ``category`` and ``split``, in any
    order; others are ignored. JSONL: one object per line with these keys. Paths lead to files, not to URLs. A mask is
    a path, or run lengths or polygons (in a CSV cell: as JSON). Splits may be called val, valid or dev. Blank lines
    are skipped.

    Args:
        path: File ending in .csv, .jsonl or .ndjson, UTF-8.

    Returns:
        The rows in the file's order.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: For another ending, missing or repeated columns, or a line that can't be read; the message names
            file and line.
    """
    file = Path(path).expanduser()
    if file.suffix.lower() not in TABLE_ENDINGS:
        raise ValueError(f"{file}: expected a file ending in {', '.join(TABLE_ENDINGS)}, got {file.suffix!r}")
    if not file.is_file():
        raise FileNotFoundError(f"{file}: expected a table of own data, found no file")
    text = read_text(file)
    lines = _csv_lines(text, file) if file.suffix.lower() == ".csv" else _json_lines(text, file)
    rows = [_row_of(entry, source=f"{file}, line {number}", line_number=number) for number, entry in lines]
    if not rows:
        raise ValueError(f"{file}: expected at least one line of data, got none")
    return rows


def _csv_lines(text: str, file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the lines of a CSV as dictionaries; a multi-line cell counts where it ends."""
    limit = csv.field_size_limit(MAX_CELL_CHARACTERS)
    try:
        reader = csv.reader(io.StringIO(text, newline=""))
        header: list[str] | None = None
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [cell.strip().lower() for cell in cells]
                _check_columns(header, file)
            elif len(cells) != len(header):
                raise ValueError(
                    f"{file}, line {reader.line_num}: expected {len(header)} cells {header}, got {len(cells)}; put "
                    'cells that hold commas in quotes, and double the quotes inside ("")'
                )
            else:
                yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise ValueError(f"{file}, line {reader.line_num}: expected CSV, got {error}") from error
    finally:
        csv.field_size_limit(limit)


def _check_columns(header: list[str], file: Path) -> None:
    missing = [name for name in NEEDED_COLUMNS if name not in header]
    if missing:
        hint = " separated by commas" if len(header) == 1 else ""
        raise ValueError(f"{file}: expected the columns {list(NEEDED_COLUMNS)}{hint}, {missing} missing in {header}")
    repeated = [name for name in (*NEEDED_COLUMNS, *OPTIONAL_COLUMNS) if header.count(name) > 1]
    if repeated:
        raise ValueError(
            f"{file}: expected each column once, got {repeated} several times in {header}; rename or remove"
        )


def _json_lines(text: str, file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        entry = parse_json(line, source=f"{file}, line {number}", expected="a JSON object")
        if not isinstance(entry, dict):
            raise ValueError(f"{file}, line {number}: expected a JSON object, got {reprlib.repr(entry)}")
        yield number, entry


def _row_of(entry: Mapping[str, Any], source: str, line_number: int) -> TableRow:
    """Check the fields of a line."""
    for name in ("image", "expression"):
        if not isinstance(entry.get(name), str) or not entry[name].strip():
            raise ValueError(f"{source}: expected text in {name!r}, got {reprlib.repr(entry.get(name))}")
    check_text(entry["expression"], source=f"{source}, 'expression'")
    category = entry.get("category")
    if category is not None and not isinstance(category, str):
        raise ValueError(f"{source}: expected text in 'category', got {reprlib.repr(category)}")
    check_text(category or "", source=f"{source}, 'category'")
    split = entry.get("split", "train")
    if not isinstance(split, str) or split.strip().lower() not in SPLIT_ALIASES:
        raise ValueError(f"{source}: expected 'split' of train, validation or test, got {reprlib.repr(split)}")
    return TableRow(
        line_number=line_number,
        image=_path_of(entry["image"], source),
        mask=_mask_of(entry.get("mask"), source),
        expression=entry["expression"].strip(),
        category=(category or "").strip(),
        split=SPLIT_ALIASES[split.strip().lower()],
    )


def _mask_of(value: Any, source: str) -> str | dict[str, Any] | list[Any]:
    """Tell a path from run lengths and polygons; these may be text of JSON."""
    if isinstance(value, str) and value.strip()[:1] in ("{", "["):
        value = parse_json(value, source=source, expected="a path or JSON in 'mask'")
    if isinstance(value, str) and is_geometry(value):
        return {"wkt": value}
    if isinstance(value, str) and value.strip():
        return _path_of(value, source)
    if isinstance(value, dict | list) and value:
        return value
    raise ValueError(
        f"{source}: expected 'mask' as a path, run lengths {{'size': [height, width], 'counts': …}} or a polygon "
        f"[[x, y], …], got {reprlib.repr(value)}"
    )


def _path_of(text: str, source: str) -> str:
    """Check that text can be the path of a file."""
    path = text.strip()
    if path.lower().startswith(("http://", "https://")):
        raise ValueError(
            f"{source}: expected the path of a file, got the URL {shown(path)!r}; download it and name the file"
        )
    if len(path) > MAX_PATH_CHARACTERS:
        raise ValueError(f"{source}: expected the path of a file, got {len(path):,} characters, {reprlib.repr(path)}")
    if "\0" in path:
        raise ValueError(f"{source}: expected the path of a file, got {reprlib.repr(path)}, which holds a null")
    try:
        Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"{source}: expected the path of a file, got {reprlib.repr(path)}: there is no such user; put './' before "
            "a name that begins with '~'"
        ) from error
    return path
