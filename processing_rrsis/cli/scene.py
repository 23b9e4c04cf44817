"""`rrsis scene`: from a georeferenced raster and sentences to a mask and a map layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..installation import install_command
from ..result_files import check_untouched
from ..runtimes.spec import AUTO_DEVICE, Runtime
from . import scene_options as shared
from .common import RESULTS, TrustRemoteCode, _plain_errors, check_result_files
from .segment import check_expression

if TYPE_CHECKING:
    from ..scenes.result import ExpressionResult, SceneResult


def scene(
    source: Annotated[
        str,
        typer.Argument(help="Raster: GeoTIFF, COG, VRT, JPEG 2000, https://, s3://; or a STAC item, item.json#asset."),
    ],
    expressions: Annotated[
        list[str], typer.Argument(metavar="EXPRESSION...", help="What to segment, in English, in quotes; one or more.")
    ],
    model: shared.ModelOption,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Mask, a cloud-optimised GeoTIFF: 0, 1, nodata 255.", rich_help_panel=RESULTS
        ),
    ] = Path("mask.tif"),
    vector: Annotated[
        Path | None,
        typer.Option(help="Also write the objects: .gpkg, .geojson or .parquet.", rich_help_panel=RESULTS),
    ] = None,
    probability: Annotated[
        Path | None, typer.Option(help="Also write the probability, float32 GeoTIFF.", rich_help_panel=RESULTS)
    ] = None,
    preview: Annotated[
        Path | None,
        typer.Option(
            help="Also draw a picture with masks, legend, scale bar and north arrow.", rich_help_panel=RESULTS
        ),
    ] = None,
    min_area_m2: shared.MinArea = 0.0,
    simplify_m: shared.Simplify = 0.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files of other settings.", rich_help_panel=RESULTS)
    ] = False,
    frame: shared.FrameOption = shared.Frame.AUTO,
    tile_size: shared.TileSize = None,
    overlap: shared.Overlap = None,
    resolution_m: shared.Resolution = None,
    bands: shared.Bands = None,
    stretch: shared.StretchOption = None,
    threshold: shared.Threshold = 0.5,
    device: shared.DeviceOption = AUTO_DEVICE,
    runtime: shared.RuntimeOption = Runtime.AUTO,
    batch_size: shared.BatchSize = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Segment what expressions refer to in a raster of any size, as a layer on its ground.

    Memory does not grow with the scene. A run that is killed goes on where it was when
    the same command is given again.

    Where a sentence tells a place in the scene ("in the north-east", "on the upper left",
    "the largest") or a relation ("north of the harbour", "next to", "between"), the model
    is asked for target and anchors alone, tile by tile, and the place is resolved on the
    objects of the whole scene: --frame hybrid, which auto chooses for such sentences.
    tile asks with the whole sentence in every tile, scene about one view of it all.
    Upper and left are the image's, compass words the ground's.

    Several expressions give a band of the mask and a layer each.
    Needs the extra geo: pip install "rrsis[geo]".

    Example:
        rrsis scene city.tif "the tanks north of the harbour" -m runs/fianet/best
            -o tanks.tif --vector tanks.gpkg
    """
    with _plain_errors():
        for expression in expressions:
            check_expression(expression)
        files = check_result_files(
            {"--output": output, "--vector": vector, "--probability": probability, "--preview": preview},
            dict.fromkeys(("--output", "--probability"), (".tif", ".tiff")),
        )
        arguments = shared.scene_arguments(
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
        check_untouched(files.values(), reads=[model], overwrite=True)  # earlier results: by their receipt
        segment_scene = _scene_function()
        from ..runtimes.loading import open_pipeline
        from ..terminal import working

        with working(f"loading {model}"):
            pipe = open_pipeline(model, runtime=runtime, trust_remote_code=trust_remote_code, device=device)
        result = segment_scene(
            source,
            expressions,
            files["--output"],
            model=pipe,
            vector=files["--vector"],
            probability=files["--probability"],
            preview=files["--preview"],
            **arguments,
            overwrite=overwrite,
            progress=True,
        )
    _say(result)


def _scene_function():  # noqa: ANN202 - a function of a package that may be missing
    """`segment_scene`, or an error that names what is not installed."""
    try:
        from ..scenes.segment import segment_scene
    except ModuleNotFoundError as error:
        raise ImportError(f"rrsis scene needs {error.name}; run `{install_command('geo')}`") from error
    return segment_scene


def _say(result: SceneResult) -> None:
    """A line for each expression, then the files."""
    for entry in result:
        typer.echo(_summary(entry))
        typer.echo(f"  {entry.frame}: {entry.reason}")
    for warning in result.warnings:
        typer.secho(f"rrsis: {warning}", fg="yellow", err=True)
    typer.echo(f"{', '.join(map(str, result.paths.values()))} ({result.seconds:.1f} s)")


def _summary(entry: ExpressionResult) -> str:
    expression = " ".join(entry.expression.split())  # a line for each, whatever white space it holds
    if not entry.found:
        return f'"{expression}": nothing found'
    count = len(entry.objects)
    digits = 0 if (entry.area_m2 or 0) >= 10 else 2
    area = "" if entry.area_m2 is None else f", {entry.area_m2:,.{digits}f} m²"
    score = sum(item.score for item in entry.objects) / count
    return f'"{expression}": {count} object{"s" if count > 1 else ""}{area}, confidence {score:.2f}'
