"""The manifest: the table's rows, each with what became of it; shards' manifests joined and checked."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
from pyarrow import parquet

from ..errors import RRSISError
from ..scenes.reading.files import public_name
from .records import MASK_FILE, Record
from .table import COLUMNS, SceneGroup

MANIFEST_FILE = "manifest.parquet"
MAX_SHARDS = 1_000_000
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
    return _with_results(table, pa.Table.from_pylist(rows, schema=RESULTS))


def _with_results(table: pa.Table, results: pa.Table) -> pa.Table:
    """A table, its addresses without what signs them, with the columns of `RESULTS`; both in one order."""
    table = without_signatures(table)
    for name in RESULTS.names:
        table = table.append_column(RESULTS.field(name), results[name])
    return table


def _result(group: SceneGroup, record: Record | None, expression: str) -> dict[str, object]:
    if record is None:
        return {"status": SKIPPED}
    if record.error or expression in record.refused:
        return {"status": FAILED, "error": record.error or record.refused[expression], "seconds": record.seconds}
    asked = [text for text in group.expressions if text not in record.refused]
    finding = record.findings[expression]
    return {
        "status": FOUND if finding.objects else ABSENT,
        "objects": finding.objects,
        "area_m2": finding.area_m2,
        "seconds": record.seconds,
        "mask": f"{group.key}/{MASK_FILE}",
        "band": asked.index(expression) + 1,
        "receipt": record.receipt,
    }


def without_signatures(table: pa.Table) -> pa.Table:
    """A table whose scenes' addresses have no user and no query: what signs them is never written down."""
    place = table.column_names.index("scene")
    return table.set_column(place, "scene", pa.array(map(public_name, table["scene"].to_pylist()), pa.string()))


def refuse_other_table(folder: Path, table: pa.Table) -> None:
    """See that the manifests that are there are of this table, which may have grown since.

    Raises:
        RRSISError: If one has rows that the table has not, or another scene or expression under their id.
    """
    known = _asked(table)
    for path in sorted(folder.glob("manifest*.parquet")):
        try:
            held = _asked(_texts(parquet.read_table(path, columns=list(COLUMNS), page_checksum_verification=True)))
        except (pa.ArrowException, OSError, KeyError):
            continue  # damaged: it is made again
        strange = [name for name, asked in held.items() if known.get(name) != asked]
        if strange:
            raise RRSISError(
                f"{path}: expected the manifest of this table, it has rows that the table has not: {_list(strange)}; "
                "choose another folder, or --overwrite to replace it (what is finished stays)"
            )


def _texts(table: pa.Table) -> pa.Table:
    """The columns that every table has, as text."""
    return table.select(COLUMNS).cast(pa.schema([(name, pa.string()) for name in COLUMNS]))


def _asked(table: pa.Table) -> dict[str, tuple[str, str]]:
    """Scene and expression by id."""
    rows = without_signatures(table).select(COLUMNS).to_pylist()
    return {row["id"]: (row["scene"], row["expression"]) for row in rows}


def write_manifest(manifest: pa.Table, path: Path) -> None:
    """Write a manifest, whole or not at all."""
    aside = path.with_name(f"{path.name}.{uuid4().hex}.writing")
    parquet.write_table(manifest, aside, write_page_checksum=True)
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
    if counts and counts[-1] > MAX_SHARDS:
        raise RRSISError(
            f"{folder}: expected at most {MAX_SHARDS:,} shards, a manifest is of {counts[-1]:,}; remove it"
        )
    if len(counts) != 1:
        raise RRSISError(f"{folder}: expected manifests of one split into shards, got splits into {counts or 'none'}")
    missing = sorted(set(range(1, counts[0] + 1)) - {index for index, _ in numbers.values()})
    if missing:
        raise RRSISError(
            f"{folder}: expected {counts[0]} manifests, those of {_list(missing)} are missing; run --shard "
            f"{missing[0]}/{counts[0]}"
        )
    shards = [_read_shard(path) for path in sorted(numbers)]
    if len({(shard.schema.metadata or {}).get(SETTINGS.encode()) for shard in shards}) > 1:
        raise RRSISError(f"{folder}: expected shards of the same settings, got others; run them all with the same")
    joined = pa.concat_tables(shards)
    counted = Counter(joined["id"].to_pylist())
    ids = table["id"].to_pylist()
    double = [name for name, count in counted.items() if count > 1]
    gaps = [name for name in ids if name not in counted]
    strange = sorted(set(counted) - set(ids))
    for rows, what in ((double, "more than once"), (gaps, "in no shard"), (strange, "in no row of the table")):
        if rows:
            raise RRSISError(f"{folder}: expected every row of the table once, {_list(rows)} is {what}")
    asked = _asked(table)
    other = [name for name, found in _asked(joined).items() if asked[name] != found]
    if other:
        raise RRSISError(
            f"{folder}: expected the table's scenes and expressions, {_list(other)} has others; run again"
        )
    places = {name: place for place, name in enumerate(joined["id"].to_pylist())}
    manifest = _with_results(table, joined.take(pa.array([places[name] for name in ids], pa.int64())))
    write_manifest(manifest.replace_schema_metadata(shards[0].schema.metadata), folder / MANIFEST_FILE)
    return manifest


def _read_shard(path: Path) -> pa.Table:
    """Read a shard's manifest, and see that it says what a run says."""
    try:
        table = parquet.read_table(path, page_checksum_verification=True)
        wanted = pa.schema([*((name, pa.string()) for name in COLUMNS), *RESULTS])
        kept = table.select(wanted.names).cast(wanted)
        wrong = [row["id"] for row in kept.to_pylist() if not _is_result(row)]
        if wrong:
            raise ValueError(f"no result of a run for {_list(wrong)}")
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise RRSISError(f"{path}: expected a shard's manifest, got {error}; run the shard again") from error
    return kept.replace_schema_metadata(table.schema.metadata)


def _is_result(row: Mapping[str, Any]) -> bool:
    """Whether a row has a status, and what belongs to it."""
    if any(row[name] is None for name in COLUMNS):
        return False
    if row["status"] in (FAILED, SKIPPED):
        return (row["status"] == FAILED) == bool(row["error"]) and row["mask"] is None
    objects, band, mask, area = row["objects"], row["band"], row["mask"] or "", row["area_m2"]
    return (
        row["status"] == (FOUND if objects else ABSENT)
        and objects is not None
        and objects >= 0
        and (band or 0) >= 1
        and re.fullmatch(rf"[\w-]+/{re.escape(MASK_FILE)}", mask) is not None
        and (area is None or 0 <= area < math.inf)
    )


def _list(found: list) -> str:
    return ", ".join(map(str, found[:3])) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
