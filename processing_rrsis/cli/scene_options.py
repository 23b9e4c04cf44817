"""Options that `rrsis scene` and `rrsis scenes` share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from ..runtimes.spec import DEVICE_HELP, RUNTIME_HELP, Runtime
from .common import COMPUTES, MODEL_HELP, RESULTS

READING = "How the scene is read"


class Frame(StrEnum):
    """Where the places that a sentence tells are resolved."""

    AUTO = "auto"
    TILE = "tile"
    SCENE = "scene"
    HYBRID = "hybrid"


ModelOption = Annotated[
    str,
    typer.Option("--model", "-m", help=MODEL_HELP, rich_help_panel=COMPUTES),
]
MinArea = Annotated[
    float, typer.Option("--min-area-m2", min=0.0, help="Drop smaller pieces.", rich_help_panel=RESULTS)
]
Simplify = Annotated[
    float,
    typer.Option("--simplify-m", min=0.0, help="By how much the layer's outlines may move.", rich_help_panel=RESULTS),
]
FrameOption = Annotated[
    Frame,
    typer.Option(
        help="Where a sentence's place is resolved: in each tile, in one view of the scene, or on the objects of "
        "all of it (hybrid).",
        rich_help_panel=READING,
    ),
]
TileSize = Annotated[
    int | None,
    typer.Option("--tile-size", help="Side of a tile in px.", show_default="the model's", rich_help_panel=READING),
]
Overlap = Annotated[
    int | None,
    typer.Option(
        "--overlap",
        help="What neighbouring tiles share, in px.",
        show_default="a quarter of a tile",
        rich_help_panel=READING,
    ),
]
Resolution = Annotated[
    float | None,
    typer.Option(
        "--resolution-m",
        help="Ground resolution that the model expects.",
        show_default="the scene's own",
        rich_help_panel=READING,
    ),
]
Bands = Annotated[
    str | None, typer.Option(help="Red, green and blue, such as 4,3,2; or one.", rich_help_panel=READING)
]
StretchOption = Annotated[
    str | None,
    typer.Option(
        help="Values that become 0 and 255, such as 0,3000; or a pair for each band.", rich_help_panel=READING
    ),
]
Threshold = Annotated[
    float,
    typer.Option(min=0.0, max=1.0, help="Probability that makes a pixel foreground.", rich_help_panel=READING),
]
DeviceOption = Annotated[str, typer.Option("--device", help=DEVICE_HELP, rich_help_panel=COMPUTES)]
RuntimeOption = Annotated[Runtime, typer.Option(help=RUNTIME_HELP, rich_help_panel=COMPUTES)]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        "-b",
        min=1,
        help="Tiles × expressions at once.",
        show_default="1 on a CPU, 8 on a GPU",
        rich_help_panel=COMPUTES,
    ),
]


def scene_arguments(
    *,
    frame: Frame,
    tile_size: int | None,
    overlap: int | None,
    resolution_m: float | None,
    bands: str | None,
    stretch: str | None,
    threshold: float,
    batch_size: int | None,
    min_area_m2: float,
    simplify_m: float,
) -> dict[str, Any]:
    """The options as arguments of `segment_scene`.

    Raises:
        ValueError: If numbers are expected and something else is given.
    """
    return {
        "frame": frame.value,
        "tile_size_px": tile_size,
        "overlap_px": overlap,
        "resolution_m": resolution_m,
        "bands": None if bands is None else [int(number) for number in _numbers("--bands", bands)],
        "stretch": None if stretch is None else _numbers("--stretch", stretch),
        "threshold": threshold,
        "batch_size": batch_size,
        "min_area_m2": min_area_m2,
        "simplify_m": simplify_m,
    }


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise ValueError(f"{option}: expected numbers with commas between them, such as 4,3,2, got {text!r}") from None
