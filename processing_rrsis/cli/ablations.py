"""`rrsis ablations`: the presets of the papers' ablation tables."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from ..result_files import check_untouched
from ..training.recipes.presets import ABLATIONS, PAPERS, PUBLISHED_ON, Ablation
from .common import RESULTS, SCREEN, ListedJson, _plain_errors, check_result_files, write_json

if TYPE_CHECKING:
    from rich.table import Table

DATASET_NAMES = {"refsegrs": "RefSegRS", "rrsisd": "RRSIS-D"}


class Paper(StrEnum):
    """The papers that `--paper` takes."""

    DANET = "danet"
    FIANET = "fianet"
    RMSIN = "rmsin"


def ablations(
    paper: Annotated[Paper | None, typer.Option(help="Only those of one paper.")] = None,
    json_file: ListedJson = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier file.", rich_help_panel=RESULTS)
    ] = False,
) -> None:
    """List the ablations of the papers: name, configuration fields, published percentages.

    Train one with: rrsis train --ablation danet-table3-agents

    Example:
        rrsis ablations --paper fianet
    """
    chosen = [ablation for ablation in ABLATIONS.values() if paper is None or ablation.paper == paper]
    with _plain_errors():
        json_file = check_result_files({"--json": json_file})["--json"]
        check_untouched([json_file], reads=[], overwrite=overwrite)
        if json_file is not None:
            write_json([ablation.to_dict() for ablation in chosen], json_file)
            if str(json_file) == SCREEN:
                return
    from rich.console import Console

    console = Console(highlight=False)
    for name in PAPERS:
        rows = [ablation for ablation in chosen if ablation.paper == name]
        if rows:
            console.print(ablation_table(rows))


def ablation_table(ablations: list[Ablation]) -> Table:
    """The ablations of one paper as a table for 80 columns, a section for each table or figure of the paper."""
    from ..terminal import new_table

    paper = ablations[0].paper
    table = new_table(
        ("name", "configuration fields", "published"),
        title=f"Ablations of {PAPERS[paper]}",
        caption=f"Published: percent, {PUBLISHED_ON[paper]}; – where only a plot shows it.",
    )
    section = ""
    for ablation in ablations:
        if ablation.table != section:
            section = ablation.table
            table.add_section()
            table.add_row(f"[bold]{section}[/]")
        fields = "\n".join(f"{field}={value!r}" for field, value in ablation.fields.items())
        table.add_row(f"{ablation.name}\n[dim]{ablation.row}[/]", escape(fields), published_text(ablation))
    return table


def published_text(ablation: Ablation) -> str:
    """A line for every published number; – without any."""
    if ablation.published is None:
        return "–"
    several = len(ablation.published) > 1
    return "\n".join(
        f"{DATASET_NAMES[data] if several else metric:<8} {score:>5.2f}"
        for data, scores in ablation.published.items()
        for metric, score in scores.items()
    )
