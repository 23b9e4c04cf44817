"""The command line `rrsis`. Heavy libraries are imported inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import os

import typer

from .ablate import AblateCommand, ablate
from .ablations import ablations
from .benchmark import benchmark
from .convert import convert
from .data_throughput import data_throughput
from .demo import demo
from .evaluate import evaluate
from .export import export
from .parse import parse
from .parse_report import parse_report
from .prepare import prepare
from .publish import publish
from .recipes import recipes
from .segment import segment

app = typer.Typer(
    name="rrsis",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Referring segmentation of aerial images: an image and an expression in, a mask out.",
)

app.command(cls=AblateCommand)(ablate)
app.command()(ablations)
app.command()(benchmark)
app.command()(convert)
app.command(name="data-throughput")(data_throughput)
app.command()(demo)
app.command()(evaluate)
app.command()(export)
app.command(name="parse-report")(parse_report)
app.command()(prepare)
app.command()(recipes)
app.add_typer(publish)
app.command()(segment)
app.command()(parse)


HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""PyTorch's switch for huge memory pages, read when it makes its first tensor: large maps cost fewer page faults."""
INFERENCE_COMMANDS = frozenset({"segment", "evaluate", "demo"})


@app.callback()
def main(context: typer.Context) -> None:
    """Referring segmentation of aerial images: an image and an expression in, a mask out."""
    if context.invoked_subcommand in INFERENCE_COMMANDS:
        os.environ.setdefault(HUGE_PAGES, "1")


if __name__ == "__main__":
    app()
