"""The manifest: the table's rows, each with what became of it; shards' manifests joined and checked."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
from pyarrow import parquet

from ..errors import RRSISError
from ..scenes.reading.source import public_name
from .records import Record
from .table import COLUMNS, SceneGroup
from .worker import MASK_FILE

MANIFEST_FILE = "manifest.parquet"
SETTINGS = "rrsis_settings"
"""Name of the manifest's metadata in which the digest of the settings stands."""
FOUND, ABSENT, FAILED, SKIPPED = STATUSES = ("found", "absent", "failed", "skipped")
RESULTS = pa.schema(
    [
        ("status", pa.string()),
        ("objects", pa.int64()),
        ("area_m2", pa.float64()),
        ("seconds", pa.float64()),
        ("error", pa.string()),
        ("mask", pa.string()),
        ("band", pa.int64()),
        ("receipt", pa.string()),
    ]
)
"""What a manifest adds to the table: status; objects and their area; seconds of the scene; why it failed; the mask, a
path from the manifest's folder, and its band, from 1; SHA-256 of the scene's receipt without its times."""


def shard_file(index: int, count: int) -> str:
    """Name of the manifest of a shard."""
    return f"manifest-{index}-of-{count}.parquet"


def make_manifest(table: pa.Table, groups: Mapping[str, SceneGroup], records: Mapping[str, Record]) -> pa.Table:
    """Give every row of a table its result.

    Args:
        table: The rows.
        groups: Their scenes, by the scene as the table has it.
        records: What became of the scenes; of those that are missing nothing is known yet: skipped.

    Raises:
        RRSISError: If the table has a column that the manifest needs.
    """
    taken = sorted(set(RESULTS.names) & set(table.column_names))
    if taken:
        raise RRSISError(
            f"expected a table without the manifest's own columns, it has {', '.join(taken)}; name them otherwise"
        )
    rows = [
        _result(groups[scene], records.get(scene), expression)
        for scene, expression in zip(table["scene"].to_pylist(), table["expression"].to_pylist(), strict=True)
    ]
    results = pa.Table.from_pylist(rows, schema=RESULTS)
    table = without_signatures(table)
    for name in RESULTS.names:
        table = table.append_column(RESULTS.field(name), results[name])
    return table


def _result(group: SceneGroup, record: Record | None, expression: str) -> dict[str, object]:
    if record is None:
        return {"status": SKIPPED}
    if record.error:
        return {"status": FAILED, "error": record.error, "seconds": record.seconds}
    finding = record.findings[expression]
    return {
        "status": FOUND if finding.objects else ABSENT,
        "objects": finding.objects,
        "area_m2": finding.area_m2,
        "seconds": record.seconds,
        "mask": f"{group.key}/{MASK_FILE}",
        "band": group.expressions.index(expression) + 1,
        "receipt": record.receipt,
    }


def without_signatures(table: pa.Table) -> pa.Table:
    """A table whose scenes' addresses have no user and no query: what signs them is never written down."""
    place = table.column_names.index("scene")
    return table.set_column(place, "scene", pa.array(map(public_name, table["scene"].to_pylist()), pa.string()))


def refuse_other_table(path: Path, table: pa.Table) -> None:
    """See that a manifest that is there is of this table, which may have grown since.

    Raises:
        RRSISError: If it has rows that the table has not.
    """
    held = parquet.read_table(path, columns=["id"])["id"].to_pylist() if path.is_file() else []
    known = set(table["id"].to_pylist())
    strange = [name for name in held if name not in known]
    if strange:
        raise RRSISError(
            f"{path}: expected the manifest of this table, it has rows that the table has not: {_list(strange)}; "
            "choose another folder, or --overwrite to replace it"
        )


def write_manifest(manifest: pa.Table, path: Path) -> None:
    """Write a manifest, whole or not at all."""
    aside = path.with_name(f"{path.name}.{uuid4().hex}.writing")
    parquet.write_table(manifest, aside)
    os.replace(aside, path)


def merge_manifests(table: pa.Table, folder: Path) -> pa.Table:
    """Join the manifests of all shards of a table, in its order, and write the whole one.

    Args:
        table: The rows that were handed out.
        folder: Where the shards' manifests lie.

    Raises:
        RRSISError: If there are none, if one is missing or of another split, or if rows are missing or double.
    """
    numbers = {}
    for path in folder.glob("manifest-*-of-*.parquet"):
        found = re.fullmatch(r"manifest-(\d+)-of-(\d+)\.parquet", path.name)
        if found:
            numbers[path] = int(found[1]), int(found[2])
    counts = sorted({count for _, count in numbers.values()})
    if len(counts) != 1:
        raise RRSISError(f"{folder}: expected manifests of one split into shards, got splits into {counts or 'none'}")
    missing = sorted(set(range(1, counts[0] + 1)) - {index for index, _ in numbers.values()})
    if missing:
        raise RRSISError(
            f"{folder}: expected {counts[0]} manifests, those of {_list(missing)} are missing; run --shard "
            f"{missing[0]}/{counts[0]}"
        )
    shards = [parquet.read_table(path) for path in sorted(numbers)]
    if len({(shard.schema.metadata or {}).get(SETTINGS.encode()) for shard in shards}) > 1:
        raise RRSISError(f"{folder}: expected shards of the same settings, got others; run them all with the same")
    joined = pa.concat_tables(shards, promote_options="default")
    counted = Counter(joined["id"].to_pylist())
    ids = table["id"].to_pylist()
    double = [name for name, count in counted.items() if count > 1]
    gaps = [name for name in ids if name not in counted]
    strange = sorted(set(counted) - set(ids))
    for rows, what in ((double, "more than once"), (gaps, "in no shard"), (strange, "in no row of the table")):
        if rows:
            raise RRSISError(f"{folder}: expected every row of the table once, {_list(rows)} is {what}")
    asked = {
        row["id"]: (row["scene"], row["expression"]) for row in without_signatures(table).select(COLUMNS).to_pylist()
    }
    other = [
        row["id"]
        for row in joined.select(COLUMNS).to_pylist()
        if asked[row["id"]] != (row["scene"], row["expression"])
    ]
    if other:
        raise RRSISError(
            f"{folder}: expected the table's scenes and expressions, {_list(other)} has others; run again"
        )
    places = {name: place for place, name in enumerate(joined["id"].to_pylist())}
    manifest = joined.take(pa.array([places[name] for name in ids], pa.int64()))
    write_manifest(manifest, folder / MANIFEST_FILE)
    return manifest


def _list(found: list) -> str:
    return ", ".join(map(str, found[:3])) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
