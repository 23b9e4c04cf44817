"""`rrsis segment`: what expressions refer to in images, as files."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import error_text, printable
from ..result_files import check_untouched
from ..runtimes.spec import AUTO_DEVICE, DEVICE_HELP, RUNTIME_HELP, Runtime
from .common import COMPUTES, MODEL_HELP, RESULTS, TrustRemoteCode, _plain_errors, check_result_files
from .segment_files import FLOAT_ENDINGS, save_outlines, save_picture, save_raster
from .segment_inputs import ImageResults, plan_results, tell_apart

if TYPE_CHECKING:
    from PIL import Image
    from rich.console import Console

    from ..place import Place

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
_MASKS = "What is segmented"
CATEGORY_QUESTION = "{} in the image"


def segment(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE... EXPRESSION...",
            help="Images: files (JPEG, PNG, TIFF; any size, gray, 16-bit), folders, http(s) addresses. "
            "Then what to segment, in English, each in quotes.",
            show_default=False,
        ),
    ],
    model: Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP, rich_help_panel=COMPUTES)],
    categories: Annotated[
        list[str] | None,
        typer.Option(
            help='Whole categories, a mask each: vehicle,building asks for "vehicle in the image" and so on.',
            rich_help_panel=_MASKS,
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Where the mask goes (PNG or TIFF, 0 and 255).", rich_help_panel=RESULTS),
    ] = Path("mask.png"),
    overlay: Annotated[
        Path | None, typer.Option(help="Also write the image with the mask painted in.", rich_help_panel=RESULTS)
    ] = None,
    polygons: Annotated[
        Path | None,
        typer.Option(
            help="Also write the outlines as GeoJSON: of a GeoTIFF in degrees, else in pixels, y down.",
            rich_help_panel=RESULTS,
        ),
    ] = None,
    probability: Annotated[
        Path | None,
        typer.Option(help="Also write the probability: TIFF as float32, PNG as 0 to 255.", rich_help_panel=RESULTS),
    ] = None,
    threshold: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Probability that makes a pixel foreground.", rich_help_panel=_MASKS),
    ] = 0.5,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results of an earlier run.", rich_help_panel=RESULTS)
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help=f"Squeeze in an image more than {MOST_PIXELS:g} times the model's input.",
            rich_help_panel=_MASKS,
        ),
    ] = False,
    device: Annotated[str, typer.Option(help=DEVICE_HELP, rich_help_panel=COMPUTES)] = AUTO_DEVICE,
    runtime: Annotated[Runtime, typer.Option(help=RUNTIME_HELP, rich_help_panel=COMPUTES)] = Runtime.AUTO,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Segment what expressions refer to in images.

    Several expressions give a mask each (mask-1.png, mask-2.png, ...), and one overlay
    and one polygon file of all. Several images have their names in the results:
    mask-harbor.png, mask-harbor-1.png. A line says how much of the image a mask covers
    and how sure the model is: its mean probability inside the mask.

    Examples:
        rrsis segment harbor.jpg "the ship on the left" -m runs/fianet/best
            -o mask.png --overlay overlay.png

        rrsis segment north.png south.png "the ship" "the harbor" -m MODEL

        rrsis segment town.jpg --categories vehicle,building -m remotesam
    """
    from rich.console import Console

    from ..runtimes.loading import open_pipeline
    from ..terminal import working

    console = Console(highlight=False, soft_wrap=True)
    with _plain_errors():
        images, expressions = tell_apart(words)
        expressions += category_questions(categories)
        if not expressions:
            raise ValueError("expected an EXPRESSION or --categories, got neither")
        for expression in expressions:
            check_expression(expression)
        files = {"--output": output, "--overlay": overlay, "--polygons": polygons, "--probability": probability}
        files = check_result_files(files, ENDINGS)
        if polygons is not None:
            from processing_rrsis.mask_output_rrsis import check_polygons_available

            check_polygons_available()
        plan = plan_results(
            images,
            len(expressions),
            mask=files["--output"] or output,
            probability=files["--probability"],
            overlay=files["--overlay"],
            polygons=files["--polygons"],
        )
        check_untouched(itertools.chain.from_iterable(plan), reads=[*images, model], overwrite=overwrite)
        with working(f"loading {model}"):
            pipe = open_pipeline(model, runtime=runtime, trust_remote_code=trust_remote_code, device=device)
        ask = functools.partial(_segment_image, pipe, expressions=expressions, threshold=threshold, force=force)
        failed = _segment_images(plan, ask, console)
    if failed:
        raise typer.Exit(1)


def _segment_images(plan: list[ImageResults], ask: Callable[[ImageResults], list[str]], console: Console) -> bool:
    """Segment one image after the other behind a bar, and say what was found.

    Returns:
        Whether an image could not be used; the others were segmented all the same.
    """
    from ..terminal import new_progress

    failed = False
    with new_progress(console, disable=not console.is_terminal) as bar:
        task = bar.add_task("segmenting", total=len(plan))
        for results in plan:
            bar.update(task, description=printable(str(results.image)))
            try:
                lines = ask(results)
            except UnusableImageError as error:
                typer.secho(f"rrsis: {error_text(error)}", fg="red", err=True)
                failed = True
            else:
                prefix = f"{results.image}: " if len(plan) > 1 else ""
                for line in lines:
                    console.print(printable(f"{prefix}{line}"), markup=False)
            bar.advance(task)
    return failed


class UnusableImageError(ValueError):
    """An image that can't be read, or is too large to be asked as a whole."""


def _segment_image(
    pipe: Any, results: ImageResults, *, expressions: list[str], threshold: float, force: bool
) -> list[str]:
    """Ask about one image and write its files; a line for each expression."""
    import numpy as np

    try:
        picture = pipe.open_image(results.image)
        _check_scale(results.image, picture, pipe.processor.image_processor.size, force=force)
    except (ValueError, OSError) as error:
        raise UnusableImageError(str(error)) from error
    place, lines = _place_of(results, (picture.height, picture.width))
    items = pipe(picture, text=expressions, threshold=threshold, output="probability")
    for number, item in enumerate(items):
        save_raster(np.asarray(item["mask"]), results.masks[number], place)
        own = [results.masks[number], *results.probabilities[number : number + 1]]
        if results.probabilities:
            save_raster(item["probability"], results.probabilities[number], place)
        item["files"] = [*own, *results.shared()]
    if results.overlay is not None:
        from ..reports.overlay import add_legend, paint_overlay

        painted = paint_overlay(picture, [item["mask"] for item in items])
        named = [item["label"] if item["found"] else f"{item['label']} (nothing found)" for item in items]
        save_picture(add_legend(painted, named) if len(named) > 1 else painted, results.overlay)
    if results.polygons is not None:
        lines += save_outlines(items, results.polygons, place)
    return [*map(_summary, items), *lines]


def _place_of(results: ImageResults, size: tuple[int, int]) -> tuple[Place | None, list[str]]:
    """Where an image of (height, width) lies on Earth, and what its results lose of that, in words."""
    from ..place import NoPlaceError, find_place

    endings = {file.suffix.lower() for file in (*results.masks, *results.probabilities)}
    bare = sorted(endings.difference(FLOAT_ENDINGS))
    path = results.image if "://" in results.image else Path(results.image).expanduser()
    try:
        place = find_place(path, size)
    except NoPlaceError as error:
        could_hold_it = results.polygons is not None or not endings.isdisjoint(FLOAT_ENDINGS)
        return None, [f"no place on Earth is kept: {error}"] if could_hold_it else []
    if place is None or not bare:
        return place, []
    return place, [f"{' and '.join(bare)} files hold no place on Earth; write .tif to keep {place.name}."]


def _check_scale(image: str, picture: Image.Image, size: Any, *, force: bool) -> None:
    """Say how much of an image one pixel of the model covers, and refuse what it can't see."""
    from ..image_batch_rrsis import SAID, many_pixels

    covers = many_pixels(picture.height, picture.width, size)
    if covers is None:
        return
    if max(picture.height / size["height"], picture.width / size["width"]) > MOST_PIXELS and not force:
        raise ValueError(
            f"{image}: {covers}, more than {MOST_PIXELS:g}; ask with `rrsis scene`, in tiles, or pass --force"
        )
    SAID.add((size["height"], size["width"]))  # here, of every image
    typer.echo(f"{image}: {covers}; `rrsis scene` asks in tiles.", err=True)


def category_questions(categories: Sequence[str] | None) -> list[str]:
    """The question for each name in "vehicle,building", as RemoteSAM was trained to be asked.

    Raises:
        ValueError: If a name is missing, as behind a comma that a blank cut off, or is a question itself.
    """
    names = [name.strip() for part in categories or () for name in part.split(",")]
    ending = CATEGORY_QUESTION.format("").strip()
    if not all(names) or any(";" in name or name.endswith(ending) for name in names):
        raise ValueError(
            '--categories: expected names with commas between them, in quotes if blanks are: "storage tank,ship"; '
            f"got {', '.join(map(repr, categories or ()))}"
        )
    return [CATEGORY_QUESTION.format(name) for name in dict.fromkeys(names)]


def check_expression(expression: str) -> None:
    """Refuse an expression without words, with control characters, or of an article alone.

    With the last a sentence begins that was given without quotes.

    Raises:
        ValueError: It is one of these.
    """
    if expression.strip().lower() in ("a", "an", "the"):
        raise ValueError(f"expected an expression, got '{expression.strip()}' alone; put the whole sentence in quotes")
    from processing_rrsis.expression_rrsis import check_text

    check_text(expression, source="expression")
    if not expression.strip():
        raise ValueError('expression: expected words such as "the ship on the left", got an empty text')


def _area(mask: Image.Image) -> int:
    return mask.histogram()[255]


def _summary(result: dict[str, Any]) -> str:
    mask, files = result["mask"], ", ".join(map(str, result["files"]))
    label = " ".join(result["label"].split())  # a line for each, whatever white space it holds
    area, total = _area(mask), mask.width * mask.height
    if area == 0:
        highest = f"the highest probability is {result['probability'].max():.2f}"
        if result["presence"] is not None:
            highest += f", but that such an object is there at all has {result['presence']:.2f}"
        return f'"{label}": nothing found in {mask.width} x {mask.height} px, {highest} -> {files}'
    return f'"{label}": {area} of {total} px ({100 * area / total:.2f} %), confidence {result["score"]:.2f} -> {files}'
