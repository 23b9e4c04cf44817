"""`rrsis write-demo`: rendered scenes in a published layout, to try everything without a download."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..installation import install_command
from .common import _plain_errors


class DemoStyle(StrEnum):
    """A published layout, or one large georeferenced scene."""

    RRSISD = "rrsisd"
    REFSEGRS = "refsegrs"
    RISBENCH = "risbench"
    SCENE = "scene"


SCENE_SIZE_PX = 4096


def write_demo(
    directory: Annotated[Path, typer.Argument(help="New or empty folder.", show_default=False)],
    style: Annotated[
        DemoStyle, typer.Option(help="Layout of the demo; scene: one large georeferenced raster.")
    ] = DemoStyle.RRSISD,
    num_train: Annotated[int, typer.Option(min=1, help="References of train.")] = 60,
    num_validation: Annotated[int, typer.Option(min=1, help="References of val.")] = 20,
    num_test: Annotated[int, typer.Option(min=1, help="References of test.")] = 20,
    full_size: Annotated[
        bool, typer.Option("--full-size", help="As many references as published: 17,402 or 4,420.")
    ] = False,
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size", "-s", help="Side of the images in px.", show_default="scene 4096, rrsisd 800, else 512"
        ),
    ] = None,
    expressions_per_image: Annotated[
        int | None, typer.Option(min=1, help="Expressions about an image.", show_default="refsegrs 4, else 1")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the scenes.")] = 0,
    num_workers: Annotated[int, typer.Option(min=1, help="Processes that draw.")] = 1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a folder that this command wrote before.")
    ] = False,
) -> None:
    """Write scenes of SyntheticRS as a published benchmark lies on disk, to try everything without a download.

    The style scene is one raster with a CRS, the number of every object's pixels, and
    questions about every kind of place with their answers (demo.json); needs the
    extra geo: pip install "rrsis[geo]".

    A demo of rrsisd has the 20 published categories and no other: rows of
    SyntheticRS about buildings are skipped.

    Examples:
        rrsis write-demo RRSIS-D-demo --num-train 8 --image-size 160

        rrsis prepare RRSIS-D-demo

        rrsis write-demo city --style scene --image-size 4096
    """
    with _plain_errors():
        if style is DemoStyle.SCENE:
            _write_scene(directory, image_size or SCENE_SIZE_PX, seed=seed, overwrite=overwrite)
            return
        from ..data.facts import PUBLISHED_COUNTS
        from ..data.writing.demo import DemoSpec
        from ..data.writing.demo import write_demo as write

        counts = {"train": num_train, "validation": num_validation, "test": num_test}
        if full_size and style.value not in PUBLISHED_COUNTS:
            raise ValueError(
                f"--full-size: published counts are known of {sorted(PUBLISHED_COUNTS)}, not of {style.value}"
            )
        spec = DemoSpec(
            style=style.value,
            counts=dict(PUBLISHED_COUNTS[style.value]) if full_size else counts,
            image_size_px=image_size,
            seed=seed,
            expressions_per_image=expressions_per_image,
        )
        written = write(spec, directory, overwrite=overwrite, num_proc=num_workers)
    shown = ", ".join(f"{count} {split}" for split, count in written.counts.items())
    typer.echo(
        f"{directory}: {shown} references, {written.images} images in the layout of {style.value}; check it with: "
        f"rrsis prepare {directory}"
    )


def _write_scene(directory: Path, size_px: int, *, seed: int, overwrite: bool) -> None:
    """Write one large scene, and say what to do with it."""
    try:
        from ..data.writing.scene import IMAGE_FILE, SceneSpec, write_scene
    except ModuleNotFoundError as error:
        raise ImportError(f"--style scene needs {error.name}; run `{install_command('geo')}`") from error
    written = write_scene(directory, SceneSpec(size_px=size_px, seed=seed), overwrite=overwrite)
    typer.echo(
        f"{directory}: {len(written.objects)} objects, {len(written.queries)} questions about them; try it with: "
        f'rrsis scene {directory / IMAGE_FILE} "the ships in the north" --model MODEL'
    )
