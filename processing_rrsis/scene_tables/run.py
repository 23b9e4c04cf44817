"""`segment_scenes`: a table of scenes and expressions in, a manifest that accounts for every row out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash
from rich.console import Console
from transformers.utils import CONFIG_NAME
from transformers.utils.hub import cached_file, extract_commit_hash

from ..bounds_rrsis import read_json
from ..errors import RRSISError
from ..result_files import take_lock, write_result
from ..terminal import new_progress
from .manifest import FAILED, MANIFEST_FILE, SETTINGS, make_manifest, refuse_other_table, shard_file, write_manifest
from .processes import run_in_processes
from .ray_cluster import run_in_ray
from .records import Record, is_current, read_record
from .table import SceneGroup, groups_of, shard_of
from .worker import Task

SETTINGS_FILE = "settings.json"
ENGINES = ("processes", "ray")


@dataclass(frozen=True)
class Workers:
    """Who works.

    Attributes:
        engine: `"processes"` of this machine, or actors of `"ray"`.
        count: Number of workers.
        devices: Numbers of the CUDA devices that processes take in turns.
        threads: Of the CPU, for each worker; PyTorch's own choice if absent.
        address: Of a Ray cluster; one is started here if absent.
        gpus_per_worker: Ray: share of a GPU that each takes.
    """

    engine: str = "processes"
    count: int = 1
    devices: tuple[str, ...] = ()
    threads: int | None = None
    address: str | None = None
    gpus_per_worker: float = 0.0

    def run(self, tasks: list[Task], arguments: Mapping[str, Any]) -> Iterator[tuple[Task, Record]]:
        """Work through scenes; see [`run_in_processes`] and [`run_in_ray`]."""
        arguments = {**arguments, "threads": self.threads}
        if self.engine == "ray":
            return run_in_ray(tasks, arguments, self.count, self.address, self.gpus_per_worker)
        return run_in_processes(tasks, arguments, self.count, self.devices)


@dataclass(frozen=True)
class TableResult:
    """What became of a table.

    Attributes:
        manifest: Its rows with their results.
        path: Where they are written.
        computed: Scenes that this run worked through.
        kept: Scenes that an earlier run had finished.
    """

    manifest: pa.Table
    path: Path
    computed: int
    kept: int

    @property
    def counts(self) -> dict[str, int]:
        """Rows by status."""
        statuses = self.manifest["status"].to_pylist()
        return {status: statuses.count(status) for status in dict.fromkeys(statuses)}


@dataclass
class _Plan:
    """What is to be done: scenes that are finished, and tasks for the others."""

    records: dict[str, Record] = field(default_factory=dict)
    tasks: dict[Path, tuple[str, Task]] = field(default_factory=dict)


def segment_scenes(
    table: pa.Table,
    folder: Path,
    out: Path,
    *,
    model: str,
    workers: Workers = Workers(),
    runtime: str = "auto",
    trust_remote_code: bool = False,
    files: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    shard: tuple[int, int] | None = None,
    retry_failed: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> TableResult:
    """Segment every row of a table of scenes.

    A scene is read once for all of its rows; its results lie in `OUT/NAME-DIGEST/`. Scenes that an earlier run
    finished, or failed at, are not worked through again.

    Args:
        table: As `table.read_scene_table` returns it.
        folder: Where relative paths of its scenes begin.
        out: Folder of the results; machines that share a table share it.
        model: Model folder or Hub repository.
        workers: Who works.
        runtime: Who computes: `"torch"`, `"openvino"`, `"onnx"` or `"auto"`.
        trust_remote_code: Whether code of a repository that is none of ours may run.
        files: Further files by the argument of `segment_scene`, such as `{"vector": "layers.gpkg"}`.
        options: For `segment_scene`.
        shard: Work through shard `i` of `n` alone, from 1.
        retry_failed: Work through scenes again that failed.
        overwrite: Replace what other settings made; what these made is kept.
        progress: Show a bar.

    Returns:
        Manifest, written as `OUT/manifest.parquet` or, of a shard, `OUT/manifest-I-of-N.parquet`.

    Raises:
        RRSISError: If the folder holds results of other settings or of another table, or a worker can't start.
        BusyError: If another process works on this table in this folder.
        OSError: If something can't be written.
    """
    files, options = dict(files or {}), dict(options or {})
    rows = table if shard is None else shard_of(table, *shard)
    groups = {group.scene: group for group in groups_of(rows, folder)}
    make_manifest(rows.slice(0, 0), groups, {})  # an error about columns comes before the work
    path = out / (MANIFEST_FILE if shard is None else shard_file(*shard))
    if not overwrite:
        refuse_other_table(out, table)
    asked = {"model": model_digest(model), "runtime": runtime, "files": files, **options}
    out.mkdir(parents=True, exist_ok=True)
    busy = f"{path}: another process is at work on it; wait for it, or choose another folder"
    arguments = {
        "model": model, "runtime": runtime, "trust_remote_code": trust_remote_code, "files": files, "options": options
    }  # fmt: skip
    with take_lock(path.with_suffix(".lock"), busy) or nullcontext():
        settings = _hold_settings(out, asked, overwrite=overwrite)
        plan = _plan(groups, out, settings, retry_failed=retry_failed)
        kept = len(plan.records)
        try:
            _work(plan, workers, arguments, progress=progress)
        finally:
            manifest = make_manifest(rows, groups, plan.records).replace_schema_metadata({SETTINGS: settings})
            write_manifest(manifest, path)
    return TableResult(manifest, path, len(plan.records) - kept, kept)


def _work(plan: _Plan, workers: Workers, arguments: Mapping[str, Any], *, progress: bool) -> None:
    """Have all tasks done; records are added as they come."""
    if not plan.tasks:
        return
    with new_progress(Console(stderr=True), disable=not progress) as bar:
        shown = bar.add_task("scenes", total=len(plan.records) + len(plan.tasks), completed=len(plan.records))
        with closing(workers.run([task for _, task in plan.tasks.values()], arguments)) as done:  # type: ignore[type-var]
            for task, record in done:
                plan.records[plan.tasks[task.folder][0]] = record
                bar.advance(shown)


def _plan(groups: Mapping[str, SceneGroup], out: Path, settings: str, *, retry_failed: bool) -> _Plan:
    plan = _Plan()
    for scene, group in groups.items():
        place = out / group.key
        held = read_record(place)
        wanted = held is not None and not (retry_failed and (held.error or held.refused))
        if held is not None and wanted and is_current(held, place, settings, group.address, group.expressions):
            plan.records[scene] = held
            continue
        plan.tasks[place] = scene, Task(group.address, group.expressions, place, settings)
    return plan


def _hold_settings(out: Path, settings: dict[str, Any], *, overwrite: bool) -> str:
    """Write down what a folder's results were made with, or find that it is the same as before.

    Settings under which no scene came to a result bind nothing.

    Returns:
        Its digest.
    """
    settings = json.loads(json.dumps({"rrsis": version("rrsis"), **settings}))
    path = out / SETTINGS_FILE
    text = json.dumps(settings, indent=1, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    held = _held_settings(path)
    if held != settings and not overwrite and _has_others(out, digest):
        changed = sorted(name for name in {*held, *settings} if held.get(name) != settings.get(name))
        raise RRSISError(
            f"{out}: expected the settings that its results were made with, {', '.join(changed)} changed; choose "
            "another folder, or --overwrite to replace them"
        )
    if held != settings:
        write_result(path, text.encode())
    return digest


def _held_settings(path: Path) -> dict[str, Any]:
    """What a settings file holds; nothing if it is damaged or not there."""
    try:
        held = read_json(path)
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


def _has_others(out: Path, settings: str) -> bool:
    """Whether a scene came to a result with other settings."""
    records = map(read_record, out.iterdir())
    return any(not record.error and record.settings != settings for record in records if record is not None)


def model_digest(model: str) -> str:
    """What a model is: a digest of all files of a folder; of a repository on the Hub its name and revision."""
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return f"{model}@{extract_commit_hash(cached_file(model, CONFIG_NAME), None)}"
    digest = xxhash.xxh3_128()
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def any_failed(result: TableResult) -> bool:
    """Whether a row failed."""
    return result.counts.get(FAILED, 0) > 0
