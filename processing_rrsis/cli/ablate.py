"""`rrsis ablate`: train presets under one budget, with several seeds, and compare."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .common import _plain_errors

DEFAULT_SEEDS = 3


def ablate(
    presets: Annotated[
        list[str],
        typer.Argument(
            metavar="PRESET...",
            help="lavt, danet, fianet, rmsin, a name of `rrsis ablations`, or a table such as danet-table5 for "
            "all its rows. The others are compared with the first.",
            show_default=False,
        ),
    ],
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Runs of each, with the seeds 0, 1, 2 and so on.",
            show_default="3; with --report-only all that are there",
        ),
    ] = None,
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "-o", help="Folder; the runs are PRESET/seed-N in it.")
    ] = Path("runs/ablate"),
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset", "-d", help="synthetic, refsegrs, rrsisd, risbench, own or a table.", show_default="synthetic"
        ),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder or zip of a downloaded benchmark.", show_default=False)
    ] = None,
    train: Annotated[
        str,
        typer.Option(
            help="Options of training in quotes, the same for every run: '--max_steps 500 --batch_size 16'. "
            "`rrsis train --help` lists them.",
            show_default=False,
        ),
    ] = "",
    launch: Annotated[
        str, typer.Option(help="What starts each run, in quotes; on several GPUs with its configuration.")
    ] = "accelerate launch",
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Train nothing: report the finished runs of the folder.")
    ] = False,
) -> None:
    """Train presets with several seeds under one budget; print mean ± spread beside the papers' rows.

    Every run has the same options and seeds. Weights are selected on the
    validation split alone.

    Stopped with Ctrl-C or by a scheduler, or after an error, the same command
    goes on: finished runs are left as they are, the others go on from their
    last checkpoint. One call per folder at a time.

    Leaves ablate.md and ablate.json in the folder, and of each run its own
    folder and PRESET/seed-N.log.

    Examples:
        rrsis ablate lavt danet fianet rmsin

        rrsis ablate danet-table5 --seeds 5 -o runs/table5
            --train "--max_steps 500"

        rrsis ablate fianet fianet-fig9-cim -d refsegrs --data-dir RefSegRS
            --launch "accelerate launch --config_file four_gpus.yaml"

        rrsis ablate lavt danet fianet rmsin --report-only
    """
    with _plain_errors():
        options = shlex.split(train)
        if report_only:
            if options:
                raise ValueError(f"--report-only: trains nothing, so leave out --train {train!r}")
            code = _report(presets, output_dir, seeds)
        else:
            plan = {"seeds": seeds or DEFAULT_SEEDS, "output_dir": output_dir, "dataset": dataset}
            code = _train(presets, {**plan, "data_dir": data_dir, "options": options}, launch=launch)
    if code:
        raise typer.Exit(code)


def _report(presets: list[str], output_dir: Path, seeds: int | None) -> int:
    """Print and write the report of a folder; the exit code."""
    from rich.console import Console

    from ..ablation.report import write_report
    from ..ablation.scores import expand_presets, read_runs

    if not output_dir.is_dir():
        raise ValueError(f"--output-dir: expected the folder of the runs, there is none at {output_dir}")
    write_report(read_runs(output_dir, expand_presets(presets), seeds), output_dir, Console(highlight=False))
    return 0


def _train(presets: list[str], plan: dict[str, Any], *, launch: str) -> int:
    """Plan, train, report; the exit code."""
    from rich.console import Console
    from rich.markup import escape

    from ..ablation.plan import budget_warning, plan_runs
    from ..ablation.runs import RunQueue, launch_words
    from ..ablation.scores import expand_presets

    console = Console(highlight=False)
    names = expand_presets(presets)
    runs = plan_runs(names, **plan)
    count = f"{len(runs)} run{'s' * (len(runs) > 1)}"
    console.print(escape(f"{count} in {plan['output_dir']}: {runs[0].budget}."))
    warning = budget_warning(runs)
    if warning:
        console.print(f"[bold yellow]warning:[/] {escape(warning)}")
    queue = RunQueue(runs, launch_words(launch), console)
    queue.train()
    if queue.stopped is not None:
        command = shlex.join(["rrsis", *sys.argv[1:]])
        console.print(f"[bold yellow]stopped:[/] go on with the same command: {escape(command)}", soft_wrap=True)
        return queue.stopped
    _report(names, plan["output_dir"], plan["seeds"])
    if queue.failed:
        listed = "; ".join(run.name for run in queue.failed)
        console.print(f"[bold red]failed:[/] {escape(listed)}. The same command tries them again.")
    return 1 if queue.failed else 0
