"""The command line `rrsis`. Heavy libraries are imported inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from ..installation import package_version
from .ablate import ablate
from .ablations import ablations
from .benchmark import benchmark
from .calibrate import calibrate
from .convert import convert
from .demo import demo
from .evaluate import evaluate
from .export import export
from .help import SETTINGS, HelpfulCommand, HelpfulGroup
from .parse import parse
from .parse_report import parse_report
from .prepare import prepare
from .publish import publish
from .recipes import recipes
from .report import report
from .scene import scene
from .scenes import scenes, scenes_merge
from .segment import segment
from .train import train
from .write_demo import write_demo

app = typer.Typer(
    name="rrsis",
    cls=HelpfulGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=SETTINGS,
    help="Referring segmentation of aerial images: an image and an expression in, a mask out.",
)

# In the order in which a newcomer needs them.
USE, TRAIN, DATA, SHARE = "Use a model", "Train and compare", "Data", "Move and measure"
app.command(cls=HelpfulCommand, rich_help_panel=USE)(segment)
app.command(cls=HelpfulCommand, rich_help_panel=USE)(scene)
app.command(cls=HelpfulCommand, rich_help_panel=USE)(scenes)
app.command(cls=HelpfulCommand, rich_help_panel=USE, name="scenes-merge")(scenes_merge)
app.command(cls=HelpfulCommand, rich_help_panel=USE)(demo)
app.command(cls=HelpfulCommand, rich_help_panel=USE)(evaluate)
app.command(cls=HelpfulCommand, rich_help_panel=USE)(calibrate)
app.command(
    cls=HelpfulCommand,
    rich_help_panel=TRAIN,
    add_help_option=False,  # training's parser has one
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(train)
app.command(cls=HelpfulCommand, rich_help_panel=TRAIN)(report)
app.command(cls=HelpfulCommand, rich_help_panel=TRAIN)(recipes)
app.command(cls=HelpfulCommand, rich_help_panel=TRAIN)(ablate)
app.command(cls=HelpfulCommand, rich_help_panel=TRAIN)(ablations)
app.command(cls=HelpfulCommand, rich_help_panel=DATA)(prepare)
app.command(cls=HelpfulCommand, rich_help_panel=DATA, name="write-demo")(write_demo)
app.command(cls=HelpfulCommand, rich_help_panel=DATA)(parse)
app.command(cls=HelpfulCommand, rich_help_panel=DATA, name="parse-report")(parse_report)
app.command(cls=HelpfulCommand, rich_help_panel=SHARE)(convert)
app.command(cls=HelpfulCommand, rich_help_panel=SHARE)(export)
app.add_typer(publish, rich_help_panel=SHARE)
app.add_typer(benchmark, rich_help_panel=SHARE)


HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""PyTorch's switch for huge memory pages, read when it makes its first tensor: large maps cost fewer page faults."""
NO_BARS = "HF_DATASETS_DISABLE_PROGRESS_BARS"
"""`datasets`' switch for its own bars, read when it is imported."""
SHORT_SPIN = ("GOMP_SPINCOUNT", "1000")
"""How often a waiting thread of OpenMP looks before it gives its core away: libgomp's own number for more threads than
cores. Its other one, milliseconds, makes training on cores that somebody else uses, too, ten times slower; on free
ones it is a fifth faster."""
BUSY = 0.75
"""Load a core in the last minute from which on cores count as somebody else's, too."""
INFERENCE_COMMANDS = frozenset({"segment", "scene", "evaluate", "demo"})


def show_version(is_asked: bool) -> None:
    """Print the version and end."""
    if is_asked:
        typer.echo(f"rrsis {package_version()}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    show: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Referring segmentation of aerial images: an image and an expression in, a mask out."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what a terminal can't show is replaced
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > BUSY * (os.cpu_count() or 1):
        os.environ.setdefault(*SHORT_SPIN)
    if not sys.stderr.isatty():  # in a log every step of a bar is a line
        os.environ.setdefault(NO_BARS, "1")
    if context.invoked_subcommand in INFERENCE_COMMANDS:
        os.environ.setdefault(HUGE_PAGES, "1")


if __name__ == "__main__":
    app()
