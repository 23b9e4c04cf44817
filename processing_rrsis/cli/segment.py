"""`rrsis segment`: what expressions refer to in one image, as files."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..result_files import check_untouched
from ..runtimes.spec import RUNTIME_HELP, Runtime
from .common import _plain_errors, check_result_files
from .segment_files import FLOAT_ENDINGS, save_outlines, save_picture, save_raster

if TYPE_CHECKING:
    from PIL import Image

MASK_ENDINGS = (".png", ".tif", ".tiff", ".bmp")
"""Formats that keep 0 and 255 as they are."""
MOST_PIXELS = 8.0
"""Side of the square of image pixels, per pixel of the model, from which an image must be forced in."""
ENDINGS = {
    "--output": MASK_ENDINGS,
    "--overlay": (*MASK_ENDINGS, ".jpg", ".jpeg", ".webp"),
    "--polygons": (".geojson", ".json"),
    "--probability": (*FLOAT_ENDINGS, ".png"),
}
CATEGORY_QUESTION = "{} in the image"


def segment(
    image: Annotated[str, typer.Argument(help="Image file or http(s) URL: JPEG, PNG, TIFF; any size, gray, 16-bit.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Model folder (a run's best/) or Hub repository.")],
    expressions: Annotated[
        list[str] | None,
        typer.Argument(metavar="EXPRESSION...", help="What to segment, in English, in quotes; one or more."),
    ] = None,
    categories: Annotated[
        str | None,
        typer.Option(
            help='Whole categories, a mask each: vehicle,building asks for "vehicle in the image" and so on.'
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where the mask goes (PNG or TIFF, 0 and 255).")
    ] = Path("mask.png"),
    overlay: Annotated[Path | None, typer.Option(help="Also write the image with the mask painted in.")] = None,
    polygons: Annotated[
        Path | None,
        typer.Option(help="Also write the outlines as GeoJSON: of a GeoTIFF in degrees, else in pixels, y down."),
    ] = None,
    probability: Annotated[
        Path | None,
        typer.Option(help="Also write the probability: TIFF as float32, PNG as 0 to 255."),
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Probability that makes a pixel foreground.")
    ] = 0.5,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results of an earlier run.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help=f"Squeeze in an image more than {MOST_PIXELS:g} times the model's input.")
    ] = False,
    runtime: Annotated[Runtime, typer.Option(help=RUNTIME_HELP)] = Runtime.AUTO,
    trust_remote_code: Annotated[bool, typer.Option(help="Run code of a Hub repository that is not ours.")] = False,
) -> None:
    """Segment what an expression refers to in one image.

    Several expressions give a mask each (mask-1.png, mask-2.png, ...), and one overlay
    and one polygon file of all. A line says how much of the image a mask covers and how
    sure the model is: its mean probability inside the mask.

    Examples:
        rrsis segment harbor.jpg "the ship on the left" -m runs/fianet/best
            -o mask.png --overlay overlay.png

        rrsis segment town.jpg --categories vehicle,building -m remotesam
    """
    import numpy as np

    from ..runtimes.loading import open_pipeline

    with _plain_errors():
        expressions = [*(expressions or []), *category_questions(categories)]
        if not expressions:
            raise ValueError("expected an EXPRESSION or --categories, got neither")
        for expression in expressions:
            check_expression(expression)
        files = {"--output": output, "--overlay": overlay, "--polygons": polygons, "--probability": probability}
        mask, overlay, polygons, probability = check_result_files(files, ENDINGS).values()
        if polygons is not None:
            from processing_rrsis.mask_output_rrsis import check_polygons_available

            check_polygons_available()
        shared = [path for path in (overlay, polygons) if path is not None]
        own = [path for path in (mask, probability) if path is not None]
        count = len(expressions)
        names = [[numbered(path, number=number, count=count) for path in own] for number in range(1, count + 1)]
        results_of_all = [*itertools.chain.from_iterable(names), *shared]
        check_untouched(results_of_all, reads=[image, model], overwrite=overwrite)
        from processing_rrsis.image_loading_rrsis import load_image, to_rgb8

        from ..place import find_place

        picture = to_rgb8(load_image(image))
        place = find_place(Path(image).expanduser(), (picture.height, picture.width))
        pipe = open_pipeline(model, runtime=runtime, trust_remote_code=trust_remote_code)
        _check_scale(image, picture, pipe.processor.image_processor.size, force=force)
        results = pipe(picture, text=expressions, threshold=threshold, output="probability")
        for result, files_of_one in zip(results, names, strict=True):
            save_raster(np.asarray(result["mask"]), files_of_one[0], place)
            if probability is not None:
                save_raster(result["probability"], files_of_one[1], place)
            result["files"] = [*files_of_one, *shared]
        if overlay is not None:
            from ..reports.overlay import paint_overlay

            save_picture(paint_overlay(picture, [result["mask"] for result in results]), overlay)
        if polygons is not None:
            save_outlines(results, polygons, place)
    for result in results:
        typer.echo(_summary(result))
    if place is not None and output.suffix.lower() not in FLOAT_ENDINGS:
        typer.echo(f"{output.suffix} files hold no place on Earth; write the mask as .tif to keep {place.crs}.")


def _check_scale(image: str, picture: Image.Image, size: Any, *, force: bool) -> None:
    """Say how much of an image one pixel of the model covers, and refuse what it can't see."""
    across, down = picture.width / size["width"], picture.height / size["height"]
    if max(across, down) <= 2:
        return
    covers = (
        f"one pixel of the model ({size['width']} x {size['height']}) covers {across:.1f} x {down:.1f} of {image} "
        f"({picture.width} x {picture.height})"
    )
    if max(across, down) > MOST_PIXELS and not force:
        raise ValueError(f"{covers}, more than {MOST_PIXELS:g}; ask with `rrsis scene`, in tiles, or pass --force")
    typer.echo(f"{covers}; `rrsis scene` asks in tiles.", err=True)


def category_questions(categories: str | None) -> list[str]:
    """The question for each name in "vehicle,building", as RemoteSAM was trained to be asked."""
    return [CATEGORY_QUESTION.format(name.strip()) for name in (categories or "").split(",") if name.strip()]


def check_expression(expression: str) -> None:
    """Raise a ValueError for an expression without words, or with control characters."""
    from processing_rrsis.expression_rrsis import check_text

    check_text(expression, source="expression")
    if not expression.strip():
        raise ValueError('expression: expected words such as "the ship on the left", got an empty text')


def numbered(path: Path, *, number: int, count: int) -> Path:
    """Return "mask-2.png" for "mask.png" and number 2; the path as it is where there is but one file."""
    return path if count == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def _area(mask: Image.Image) -> int:
    return mask.histogram()[255]


def _summary(result: dict[str, Any]) -> str:
    mask, files = result["mask"], ", ".join(map(str, result["files"]))
    label = " ".join(result["label"].split())  # a line for each, whatever white space it holds
    area, total = _area(mask), mask.width * mask.height
    if area == 0:
        hint = "try a lower --threshold"
        return f'"{label}": nothing found in {mask.width} x {mask.height} px ({hint}) -> {files}'
    return f'"{label}": {area} of {total} px ({100 * area / total:.2f} %), confidence {result["score"]:.2f} -> {files}'
