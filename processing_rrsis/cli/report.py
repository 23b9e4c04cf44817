"""`rrsis report`: a finished run as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..result_files import check_untouched, write_result
from .common import HTML_ENDINGS, _plain_errors, check_result_files

REPORT_FILE = "report.html"


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run, such as runs/fianet.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="HTML file.", show_default=f"RUN/{REPORT_FILE}")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier report.")] = False,
) -> None:
    """Write a run's scores, controls, curves and pictures of its samples into one HTML file.

    The best, the worst and random samples of the test split are drawn with their
    predictions. The file holds everything; nothing is fetched when it is opened.
    `rrsis evaluate --html` writes the like of an evaluation.

    Example:
        rrsis report runs/fianet
    """
    with _plain_errors():
        run = run.expanduser()
        if not (run / "recipe.yaml").is_file():
            meant = f"; did you mean {run.parent}?" if (run.parent / "recipe.yaml").is_file() else ""
            raise ValueError(f"RUN: expected the folder of a finished run, such as runs/fianet, {run} is none{meant}")
        path = (output or run / REPORT_FILE).expanduser()
        check_result_files({"--output": path}, {"--output": HTML_ENDINGS})
        check_untouched([path], reads=[run / "best", run / "metrics.json"], overwrite=overwrite)
        from ..terminal import working

        with working(f"drawing {run}"):
            from ..training.run_report import run_report

            write_result(path, run_report(run).encode())
    typer.echo(f"Wrote {path}; open it in a browser.")
