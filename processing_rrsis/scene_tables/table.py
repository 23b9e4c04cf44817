"""The table that is worked through: CSV, Parquet, or a STAC item collection; its rows by scene, its shards."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from ..bounds_rrsis import MAX_JSON_VALUES, MAX_LINES, MAX_TEXT_BYTES, decode_text, parse_json, read_file, read_text
from ..scenes.reading.files import public_name
from ..scenes.reading.stac import ITEM_ENDINGS, asset_href

COLUMNS = ("id", "scene", "expression")
MAX_TABLE_BYTES = 1 << 28
"""Of all cells together, unpacked."""
_TEXTS = (pa.string(), pa.binary(), pa.large_string(), pa.large_binary())
NAMED_AT_MOST = 3
"""Wrong rows that an error names."""


@dataclass(frozen=True)
class SceneGroup:
    """The rows of one scene, which is read once for all of them.

    Attributes:
        scene: As the table has it.
        address: What is opened; a relative path is one from the table's folder.
        expressions: Without repetition, in the table's order.
    """

    scene: str
    address: str
    expressions: tuple[str, ...]

    @property
    def key(self) -> str:
        """Name of the scene's folder: its own name, and a digest that tells two of the same name apart."""
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(public_name(self.scene)).stem).strip("-")[:40]
        return f"{name or 'scene'}-{scene_digest(self.scene)[:12]}"


def scene_digest(scene: str) -> str:
    """SHA-256 of a scene's address, in hexadecimal: folders and shards follow from it."""
    return hashlib.sha256(scene.encode()).hexdigest()


def read_scene_table(path: Path, expressions: Sequence[str] = (), asset: str | None = None) -> pa.Table:
    """Read a table of scenes and expressions.

    Args:
        path: `.csv` or `.parquet` with the columns `id`, `scene`, `expression` and any others; or a STAC item
            collection, `.json` or `.geojson`.
        expressions: What is asked of every item of a collection; a table has its own.
        asset: Name of the items' asset; their only visual one, or only raster, if absent.

    Returns:
        `id`, `scene` and `expression` as text, and what else the table holds.

    Raises:
        ValueError: If a column is missing, a cell empty or an id there twice, or if the file is of another kind.
        OSError: If it can't be read.
    """
    ending = path.suffix.lower()
    if ending in ITEM_ENDINGS:
        return _checked(_items(path, expressions, asset), path)
    if expressions or asset:
        raise ValueError(f"{path}: expected a STAC item collection with --expression and --asset, a table has its own")
    if ending not in (".csv", ".parquet"):
        raise ValueError(f"{path}: expected a .csv, a .parquet or a STAC item collection (.json, .geojson)")
    try:
        read = read_file(path, MAX_TEXT_BYTES)
        content = pa.py_buffer(read)
        if ending == ".parquet":
            return _checked(_read_parquet(content, path), path)
        decode_text(read, source=str(path))
        if read.count(b'"') % 2:
            raise ValueError(f"{path}: expected every quoted cell to end, a quotation mark is missing or one too many")
        names = csv.open_csv(pa.BufferReader(content)).schema.names
        as_text = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
        lines = csv.ParseOptions(newlines_in_values=True)
        return _checked(csv.read_csv(pa.BufferReader(content), parse_options=lines, convert_options=as_text), path)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"{path}: expected a table of scenes, got: {error}") from error


def _read_parquet(content: pa.Buffer, path: Path) -> pa.Table:
    """Read it, its texts as numbers of a dictionary: what a repeated text unpacks to is known before it is."""
    plain = parquet.ParquetFile(pa.BufferReader(content))
    columns = [plain.schema.column(number) for number in range(len(plain.schema))]
    texts = [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]
    file = parquet.ParquetFile(pa.BufferReader(content), read_dictionary=texts)
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    chunks = [(group.column(number), column) for group in groups for number, column in enumerate(columns)]
    sizes = [max(chunk.total_uncompressed_size, chunk.num_values * (column.length or 0)) for chunk, column in chunks]
    if (
        file.metadata.num_rows > MAX_LINES
        or sum(chunk.num_values for chunk, _ in chunks) > MAX_JSON_VALUES
        or sum(sizes) > MAX_TABLE_BYTES
    ):
        raise _too_large(path)
    table = file.read()
    parts = [part for column in table.columns for chunk in column.chunks for part in _packed(chunk)]
    lengths = (pc.sum(pc.binary_length(part.dictionary).take(part.indices)).as_py() for part in parts)
    if sum(length or 0 for length in lengths) > MAX_TABLE_BYTES:
        raise _too_large(path)
    return table.cast(plain.schema_arrow)


def _packed(part: pa.Array) -> Iterator[pa.Array]:
    """The texts in a part of a column, which may be lists or structures of them."""
    if pa.types.is_dictionary(part.type):
        yield from [part] if part.dictionary.type in _TEXTS else []
    elif pa.types.is_struct(part.type):
        for child in part.flatten():
            yield from _packed(child)
    elif pa.types.is_nested(part.type):
        yield from _packed(part.flatten())


def _too_large(path: Path) -> ValueError:
    return ValueError(
        f"{path}: expected at most {MAX_LINES:,} rows, {MAX_JSON_VALUES:,} cells and {MAX_TABLE_BYTES >> 20} MiB when "
        "unpacked, got more; cut it into parts"
    )


def _items(path: Path, expressions: Sequence[str], asset: str | None) -> pa.Table:
    """One row for each item and expression."""
    values = parse_json(read_text(path), source=str(path), expected="a STAC item collection")
    items = values.get("features") if isinstance(values, dict) else None
    if not isinstance(items, list) or not all(map(_is_item, items)):
        raise ValueError(f"{path}: expected a STAC item collection: a FeatureCollection of items with id and assets")
    links = values["links"] if isinstance(values.get("links"), list) else []
    if any(isinstance(link, dict) and link.get("rel") == "next" for link in links):
        raise ValueError(
            f"{path}: expected a whole STAC item collection, this is a page of one, with a link to the next; save all "
            "of it, such as with pystac-client's item_collection()"
        )
    if not expressions:
        raise ValueError(f'{path}: expected --expression "..." with what is asked of the items of a collection')
    hrefs = [asset_href(item, asset or "", f"{path}, {item.get('id')}") for item in items]
    rows = [
        {"id": f"{item['id']}/{number}", "scene": href, "expression": text}
        for item, href in zip(items, hrefs, strict=True)
        for number, text in enumerate(expressions, start=1)
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in COLUMNS]))


def _is_item(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("id"), str) and item["id"].isprintable() and "assets" in item


def _checked(table: pa.Table, path: Path) -> pa.Table:
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise ValueError(
            f"{path}: expected the columns {', '.join(COLUMNS)}, {', '.join(missing)} is missing; it has "
            f"{', '.join(table.column_names)}"
        )
    names = Counter(table.column_names)
    twice = [name for name in names if names[name] > 1]
    if twice:
        raise ValueError(f"{path}: expected every column once, {', '.join(twice)} is there more than once")
    for place, name in enumerate(table.column_names):
        if name in COLUMNS:
            table = table.set_column(place, name, pc.cast(table[name], pa.string()))
    for name in COLUMNS:
        cells = table[name].to_pylist()
        empty = [number for number, cell in enumerate(cells, start=1) if cell is None or not cell.strip()]
        if empty:
            raise ValueError(f"{path}: expected text in every cell of {name}, row {_some(empty)} has none")
    for name in COLUMNS:
        torn = [number for number, cell in enumerate(table[name].to_pylist(), start=1) if len(cell.splitlines()) > 1]
        if torn:
            raise ValueError(f"{path}: expected one line in every cell of {name}, row {_some(torn)} has more")
    for number, scene in enumerate(table["scene"].to_pylist(), start=1):
        try:
            public_name(scene)
        except ValueError as error:
            raise ValueError(f"{path}: expected a path or an address in scene, row {number}: {error}") from error
    twice = [name for name, count in Counter(table["id"].to_pylist()).items() if count > 1]
    if twice:
        raise ValueError(f"{path}: expected every id once, {_some(twice)} is there more than once")
    return table


def _some(found: Sequence[Any]) -> str:
    """The first few of many."""
    rest = len(found) - NAMED_AT_MOST
    return ", ".join(map(str, found[:NAMED_AT_MOST])) + (f" and {rest} more" if rest > 0 else "")


def shard_of(table: pa.Table, index: int, count: int) -> pa.Table:
    """The rows of shard `index` of `count`, from 1: all rows of a scene are in one, whatever else the table holds."""
    of_scene = {scene: int(scene_digest(scene)[:8], 16) % count + 1 for scene in set(table["scene"].to_pylist())}
    return table.filter(pa.array([of_scene[scene] == index for scene in table["scene"].to_pylist()], pa.bool_()))


def groups_of(table: pa.Table, folder: Path) -> list[SceneGroup]:
    """The scenes of a table in its order, each with its expressions.

    Args:
        table: As [`read_scene_table`] returns it.
        folder: Of the table's file: relative paths begin there.
    """
    found: dict[str, list[str]] = {}
    for scene, expression in zip(table["scene"].to_pylist(), table["expression"].to_pylist(), strict=True):
        found.setdefault(scene, []).append(expression)
    return [SceneGroup(scene, _address(scene, folder), tuple(dict.fromkeys(texts))) for scene, texts in found.items()]


def _address(scene: str, folder: Path) -> str:
    if "://" in scene or scene.startswith("/vsi") or re.match(r"[A-Za-z]\w+:", scene):  # the last is a GDAL subdataset
        return scene
    return str(folder / os.path.expanduser(scene))  # as it is where there is no such user
