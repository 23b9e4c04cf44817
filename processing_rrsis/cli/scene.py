"""`rrsis scene`: from a georeferenced raster and sentences to a mask and a map layer."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..installation import install_command
from ..runtimes.spec import AUTO_DEVICE, DEVICE_HELP, RUNTIME_HELP, Runtime
from .common import MODEL_HELP, _plain_errors, check_result_files
from .segment import check_expression

if TYPE_CHECKING:
    from ..scenes.result import ExpressionResult, SceneResult


class Frame(StrEnum):
    """Where the places that a sentence tells are resolved."""

    AUTO = "auto"
    TILE = "tile"
    SCENE = "scene"
    HYBRID = "hybrid"


_OUTPUT, _READING, _MODEL = "Results", "How the scene is read", "Who computes"


def scene(
    source: Annotated[
        str,
        typer.Argument(help="Raster: GeoTIFF, COG, VRT, JPEG 2000, https://, s3://; or a STAC item, item.json#asset."),
    ],
    expressions: Annotated[
        list[str], typer.Argument(metavar="EXPRESSION...", help="What to segment, in English, in quotes; one or more.")
    ],
    model: Annotated[
        str,
        typer.Option("--model", "-m", help=MODEL_HELP, rich_help_panel=_MODEL),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Mask, a cloud-optimised GeoTIFF: 0, 1, nodata 255.", rich_help_panel=_OUTPUT
        ),
    ] = Path("mask.tif"),
    vector: Annotated[
        Path | None,
        typer.Option(help="Also write the objects: .gpkg, .geojson or .parquet.", rich_help_panel=_OUTPUT),
    ] = None,
    probability: Annotated[
        Path | None, typer.Option(help="Also write the probability, float32 GeoTIFF.", rich_help_panel=_OUTPUT)
    ] = None,
    preview: Annotated[
        Path | None,
        typer.Option(
            help="Also draw a picture with masks, legend, scale bar and north arrow.", rich_help_panel=_OUTPUT
        ),
    ] = None,
    min_area_m2: Annotated[
        float, typer.Option("--min-area-m2", min=0.0, help="Drop smaller pieces.", rich_help_panel=_OUTPUT)
    ] = 0.0,
    simplify_m: Annotated[
        float,
        typer.Option(
            "--simplify-m", min=0.0, help="By how much the layer's outlines may move.", rich_help_panel=_OUTPUT
        ),
    ] = 0.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files of other settings.", rich_help_panel=_OUTPUT)
    ] = False,
    frame: Annotated[
        Frame,
        typer.Option(help="Where places are resolved, see above.", rich_help_panel=_READING),
    ] = Frame.AUTO,
    tile_size: Annotated[
        int | None,
        typer.Option("--tile-size", help="Side of a tile in px. Default: the model's.", rich_help_panel=_READING),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option("--overlap", help="Of neighbouring tiles in px. Default: a quarter.", rich_help_panel=_READING),
    ] = None,
    resolution_m: Annotated[
        float | None,
        typer.Option(
            "--resolution-m",
            help="Ground resolution that the model expects. Default: the scene's own.",
            rich_help_panel=_READING,
        ),
    ] = None,
    bands: Annotated[
        str | None, typer.Option(help="Red, green and blue, such as 4,3,2; or one.", rich_help_panel=_READING)
    ] = None,
    stretch: Annotated[
        str | None,
        typer.Option(
            help="Values that become 0 and 255, such as 0,3000; or a pair for each band.", rich_help_panel=_READING
        ),
    ] = None,
    threshold: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Probability that makes a pixel foreground.", rich_help_panel=_READING),
    ] = 0.5,
    device: Annotated[str, typer.Option(help=DEVICE_HELP, rich_help_panel=_MODEL)] = AUTO_DEVICE,
    runtime: Annotated[Runtime, typer.Option(help=RUNTIME_HELP, rich_help_panel=_MODEL)] = Runtime.AUTO,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            "-b",
            min=1,
            help="Tiles × expressions at once. Default: 1 on a CPU, 8 on a GPU.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code", help="Run code of a Hub repository that is not ours.", rich_help_panel=_MODEL
        ),
    ] = False,
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
            {"--output": output, "--vector": vector, "--probability": probability, "--preview": preview}
        )
        band_numbers = None if bands is None else [int(number) for number in _numbers("--bands", bands)]
        stretch_pair = None if stretch is None else _numbers("--stretch", stretch)
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
            frame=frame.value,
            tile_size_px=tile_size,
            resolution_m=resolution_m,
            bands=band_numbers,
            stretch=stretch_pair,
            threshold=threshold,
            vector=files["--vector"],
            probability=files["--probability"],
            preview=files["--preview"],
            batch_size=batch_size,
            overlap_px=overlap,
            min_area_m2=min_area_m2,
            simplify_m=simplify_m,
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


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise ValueError(f"{option}: expected numbers with commas between them, such as 4,3,2, got {text!r}") from None


def _say(result: SceneResult) -> None:
    """A line for each expression, then the files."""
    for entry in result:
        typer.echo(_summary(entry))
        typer.echo(f"  {entry.frame}: {entry.reason}")
    for warning in result.warnings:
        typer.secho(f"rrsis: {warning}", fg="yellow", err=True)
    typer.echo(f"{', '.join(map(str, result.paths.values()))} ({result.seconds:.1f} s)")


def _summary(entry: ExpressionResult) -> str:
    if not entry.found:
        return f'"{entry.expression}": nothing found'
    count = len(entry.objects)
    area = "" if entry.area_m2 is None else f", {entry.area_m2:,.0f} m²"
    score = sum(item.score for item in entry.objects) / count
    return f'"{entry.expression}": {count} object{"s" if count > 1 else ""}{area}, confidence {score:.2f}'
