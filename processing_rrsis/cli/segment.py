"""`rrsis segment`: what expressions refer to in one image, as files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..runtimes.spec import RUNTIME_HELP, Runtime
from .common import _plain_errors, check_result_files

if TYPE_CHECKING:
    from PIL import Image

MASK_ENDINGS = (".png", ".tif", ".tiff", ".bmp")
"""Formats that keep 0 and 255 as they are."""
FLOAT_ENDINGS = (".tif", ".tiff")
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
        typer.Option(help="Also write the outlines as GeoJSON, in pixels from the upper left corner, y downwards."),
    ] = None,
    probability: Annotated[
        Path | None,
        typer.Option(help="Also write the probability: TIFF as float32, PNG as 0 to 255."),
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Probability that makes a pixel foreground.")
    ] = 0.5,
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
        from processing_rrsis.image_loading_rrsis import load_image, to_rgb8

        picture = to_rgb8(load_image(image))
        pipe = open_pipeline(model, runtime=runtime, trust_remote_code=trust_remote_code)
        results = pipe(picture, text=expressions, threshold=threshold, output="probability")
        for number, result in enumerate(results, start=1):
            names = [numbered(path, number=number, count=len(results)) for path in own]
            result["mask"].save(names[0])
            if probability is not None:
                _save_probability(result["probability"], names[1])
            result["files"] = [*names, *shared]
        if overlay is not None:
            from ..reports.overlay import paint_overlay

            paint_overlay(picture, [result["mask"] for result in results]).save(overlay)
        if polygons is not None:
            polygons.write_text(json.dumps(feature_collection(results)) + "\n", encoding="utf-8")
    for result in results:
        typer.echo(_summary(result))


def category_questions(categories: str | None) -> list[str]:
    """The question for each name in "vehicle,building", as RemoteSAM was trained to be asked."""
    return [CATEGORY_QUESTION.format(name.strip()) for name in (categories or "").split(",") if name.strip()]


def check_expression(expression: str) -> None:
    """Raise a ValueError for an expression without words."""
    if not expression.strip():
        raise ValueError('expression: expected words such as "the ship on the left", got an empty text')


def numbered(path: Path, *, number: int, count: int) -> Path:
    """Return "mask-2.png" for "mask.png" and number 2; the path as it is where there is but one file."""
    return path if count == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def _save_probability(values: Any, path: Path) -> None:
    """Write a probability map (H, W), float32 in [0, 1]."""
    import numpy as np
    from PIL import Image

    if path.suffix.lower() not in FLOAT_ENDINGS:
        values = np.round(values * 255).astype(np.uint8)
    Image.fromarray(values).save(path)


def feature_collection(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the masks' outlines as GeoJSON, a feature per expression.

    Args:
        results: items of the pipeline: `label`, `score`, `mask`.

    Returns:
        Features with the properties `expression`, `score` and `area_px`. The coordinates are pixels, see
        `mask_to_polygons`, not degrees as GeoJSON's standard has it: an image has none.
    """
    import numpy as np

    from processing_rrsis.mask_output_rrsis import mask_to_polygons

    features = [
        {
            "type": "Feature",
            "properties": {
                "expression": result["label"],
                "score": round(result["score"], 4),
                "area_px": _area(result["mask"]),
            },
            "geometry": mask_to_polygons(np.asarray(result["mask"])),
        }
        for result in results
    ]
    return {"type": "FeatureCollection", "features": features}


def _area(mask: Image.Image) -> int:
    return mask.histogram()[255]


def _summary(result: dict[str, Any]) -> str:
    mask, files = result["mask"], ", ".join(map(str, result["files"]))
    area, total = _area(mask), mask.width * mask.height
    if area == 0:
        hint = "try a lower --threshold"
        return f'"{result["label"]}": nothing found in {mask.width} x {mask.height} px ({hint}) -> {files}'
    return (
        f'"{result["label"]}": {area} of {total} px ({100 * area / total:.2f} %), '
        f"confidence {result['score']:.2f} -> {files}"
    )
