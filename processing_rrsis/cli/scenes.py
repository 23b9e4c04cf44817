"""`rrsis scenes`: a table of scenes and expressions in, layers and a manifest that accounts for every row out."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..installation import install_command
from ..runtimes.spec import Runtime
from . import scene_options as shared
from .common import RESULTS, TrustRemoteCode, _plain_errors, stopped_in_order

if TYPE_CHECKING:
    import pyarrow as pa

    from ..scene_tables.run import Workers


class Layers(StrEnum):
    """Format of the layers."""

    GPKG = "gpkg"
    GEOJSON = "geojson"
    PARQUET = "parquet"


class Engine(StrEnum):
    """Who hands the scenes out."""

    PROCESSES = "processes"
    RAY = "ray"


TABLE, WORKERS = "Which rows", "Workers"
TableArgument = Annotated[
    Path,
    typer.Argument(help="CSV or Parquet with id, scene, expression; or a STAC item collection, .json or .geojson."),
]
OutOption = Annotated[
    Path, typer.Option("--out", "--output-dir", "-o", help="Folder of manifest and layers.", rich_help_panel=RESULTS)
]
Expressions = Annotated[
    list[str] | None,
    typer.Option(
        "--expression", "-e", help="Asked of every item of a collection; repeat for more.", rich_help_panel=TABLE
    ),
]
Asset = Annotated[
    str | None,
    typer.Option(help="Asset of a collection's items.", show_default="the visual one", rich_help_panel=TABLE),
]


def scenes(
    table: TableArgument,
    out: OutOption,
    model: shared.ModelOption,
    vector: Annotated[
        Layers | None, typer.Option(help="Also write the objects of each scene.", rich_help_panel=RESULTS)
    ] = None,
    probability: Annotated[
        bool, typer.Option("--probability", help="Also write probabilities.", rich_help_panel=RESULTS)
    ] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Also draw a picture of each scene.", rich_help_panel=RESULTS)
    ] = False,
    min_area_m2: shared.MinArea = 0.0,
    simplify_m: shared.Simplify = 0.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what other settings made.", rich_help_panel=RESULTS)
    ] = False,
    expression: Expressions = None,
    asset: Asset = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Only the scenes of this shard, 1/N to N/N; always the same.", rich_help_panel=TABLE
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Work again on scenes that failed.", rich_help_panel=TABLE)
    ] = False,
    engine: Annotated[
        Engine, typer.Option(help="processes of this machine, or ray.", rich_help_panel=WORKERS)
    ] = Engine.PROCESSES,
    workers: Annotated[
        int | None,
        typer.Option(
            "--num-workers",
            min=1,
            help="Processes or actors.",
            show_default="one for each GPU, else 1",
            rich_help_panel=WORKERS,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--cpu-threads",
            min=1,
            help="Threads of a worker.",
            show_default="cores ÷ workers",
            rich_help_panel=WORKERS,
        ),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(help="Cluster, such as auto.", show_default="one is started here", rich_help_panel=WORKERS),
    ] = None,
    gpus_per_worker: Annotated[
        float, typer.Option(min=0.0, help="ray: GPUs of a worker, 0.5 for two to share one.", rich_help_panel=WORKERS)
    ] = 0.0,
    frame: shared.FrameOption = shared.Frame.AUTO,
    tile_size: shared.TileSize = None,
    overlap: shared.Overlap = None,
    resolution_m: shared.Resolution = None,
    bands: shared.Bands = None,
    stretch: shared.StretchOption = None,
    threshold: shared.Threshold = 0.5,
    runtime: shared.RuntimeOption = Runtime.AUTO,
    batch_size: shared.BatchSize = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Segment many scenes: every row of a table of scenes and expressions ends in a manifest.

    OUTPUT_DIR/manifest.parquet has the table's rows with status (found, absent, failed, skipped),
    objects, area, seconds, error, and the mask's file and band. Rows with the same scene are
    read once. A run that was killed goes on when the same command is given again; what is
    finished is not computed again. The exit status is 1 if a row failed.

    On a cluster without coordination (SLURM arrays, Kubernetes' indexed jobs) give each job
    --shard I/N and join the manifests with rrsis scenes-merge. With --engine ray the actors
    of a cluster take the scenes. Frames are explained in rrsis scene --help.
    Needs the extra geo: pip install "rrsis[geo]"; for Ray "rrsis[geo,ray]".

    Examples:
        rrsis scenes scenes.csv -o layers -m runs/fianet/best --vector gpkg

        rrsis scenes items.json -e "the storage tanks" -o layers -m MODEL

        rrsis scenes scenes.csv -o layers -m runs/fianet/best --shard 3/64
    """
    with _plain_errors(), stopped_in_order():
        options = shared.scene_arguments(
            frame=frame,
            tile_size=tile_size,
            overlap=overlap,
            resolution_m=resolution_m,
            bands=bands,
            stretch=stretch,
            threshold=threshold,
            batch_size=batch_size,
            min_area_m2=min_area_m2,
            simplify_m=simplify_m,
        )
        rows = read_table(table, expression, asset)
        from ..scene_tables.run import any_failed, segment_scenes

        named = {
            "vector": vector and f"layers.{vector}",
            "probability": "probability.tif" if probability else None,
            "preview": "preview.png" if preview else None,
        }
        result = segment_scenes(
            rows,
            table.expanduser().resolve().parent,
            out.expanduser(),
            model=model,
            workers=_workers(engine, workers, threads, ray_address, gpus_per_worker),
            runtime=runtime.value,
            trust_remote_code=trust_remote_code,
            files={name: file for name, file in named.items() if file},
            options=options,
            shard=None if shard is None else _shard(shard),
            retry_failed=retry_failed,
            overwrite=overwrite,
            progress=True,
        )
        say_counts(result.manifest, result.path)
        typer.echo(f"scenes: {result.computed} computed, {result.kept} finished before")
    if any_failed(result):
        raise typer.Exit(1)


def scenes_merge(table: TableArgument, out: OutOption, expression: Expressions = None, asset: Asset = None) -> None:
    """Join the manifests of all shards of a table into OUTPUT_DIR/manifest.parquet, and find gaps and doubles.

    The exit status is 1 if a shard or a row is missing, a row is there twice, failed or was skipped.

    Example:
        rrsis scenes-merge scenes.csv -o layers
    """
    with _plain_errors():
        rows = read_table(table, expression, asset)
        from ..scene_tables.manifest import FAILED, MANIFEST_FILE, SKIPPED, merge_manifests

        manifest = merge_manifests(rows, out.expanduser())
        say_counts(manifest, out / MANIFEST_FILE)
    if {FAILED, SKIPPED} & set(manifest["status"].to_pylist()):
        raise typer.Exit(1)


def read_table(table: Path, expressions: list[str] | None, asset: str | None) -> pa.Table:
    """The rows, or an error that names what is not installed."""
    try:
        from ..scene_tables.table import read_scene_table
    except ModuleNotFoundError as error:
        raise ImportError(f"rrsis scenes needs {error.name}; run `{install_command('geo')}`") from error
    return read_scene_table(table.expanduser(), expressions or (), asset)


def _workers(
    engine: Engine, count: int | None, threads: int | None, address: str | None, gpus_per_worker: float
) -> Workers:
    """Who works; by default one process for each GPU, or one with all of the CPU."""
    import os

    import torch

    from ..scene_tables.run import Workers

    count_of_gpus = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")  # a scheduler's choice: numbers or names
    gpus = tuple(visible if len(visible) == count_of_gpus else map(str, range(count_of_gpus)))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = count or max(1, len(gpus))
    return Workers(
        engine=engine.value,
        count=workers,
        devices=gpus if engine is Engine.PROCESSES else (),
        threads=threads or max(1, cores // workers),
        address=address,
        gpus_per_worker=gpus_per_worker,
    )


def _shard(text: str) -> tuple[int, int]:
    from ..scene_tables.manifest import MAX_SHARDS

    numbers = re.fullmatch(r"(\d{1,7})/(\d{1,7})", text, re.ASCII)
    if numbers is None or not 1 <= int(numbers[1]) <= int(numbers[2]) <= MAX_SHARDS:
        raise ValueError(f"--shard: expected I/N with I from 1 to N, N at most {MAX_SHARDS:,}, got {text[:80]!r}")
    return int(numbers[1]), int(numbers[2])


def say_counts(manifest: pa.Table, path: Path) -> None:
    """Rows by status, the first failures, and where the manifest is."""
    from collections import Counter

    statuses = Counter(manifest["status"].to_pylist())
    typer.echo(f"rows: {manifest.num_rows} (" + ", ".join(f"{n} {status}" for status, n in statuses.items()) + ")")
    reasons = Counter(reason for reason in manifest["error"].to_pylist() if reason)
    for reason, count in reasons.most_common(3):
        typer.secho(f"  {count} failed: {reason}", fg="red", err=True)
    typer.echo(f"manifest: {path}")
