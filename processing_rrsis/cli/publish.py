"""`rrsis publish`: models, data sets, the metric and the demo to the Hub."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import _plain_errors

if TYPE_CHECKING:
    from ..hub.push import Publication

publish = typer.Typer(
    name="publish",
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Put a model, a data set, the metric or the demo on the Hugging Face Hub.",
)


class DatasetName(StrEnum):
    """What can be published."""

    RRSISD = "rrsisd"
    REFSEGRS = "refsegrs"
    SYNTHETIC = "synthetic"
    OWN = "own"


class Wording(StrEnum):
    """Configurations of SyntheticRS."""

    RRSISD = "rrsisd"
    REFSEGRS = "refsegrs"


_HUB = "How to publish"
Repo = Annotated[str, typer.Argument(metavar="REPO", help="user/name on the Hub; created where it does not exist.")]
Private = Annotated[
    bool, typer.Option("--private", help="Create it private; an existing public one is refused.", rich_help_panel=_HUB)
]
Revision = Annotated[
    str | None, typer.Option(help="Branch to publish to, made if needed. Default: main.", rich_help_panel=_HUB)
]
CreatePr = Annotated[
    bool, typer.Option("--create-pr", help="Open a pull request; the branch stays as it is.", rich_help_panel=_HUB)
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check and list every file; the Hub is not asked.", rich_help_panel=_HUB)
]
Token = Annotated[
    str | None,
    typer.Option(
        help="Token that may write. Better: `hf auth login` or HF_TOKEN, which no list of processes shows.",
        show_default=False,
        rich_help_panel=_HUB,
    ),
]


@publish.command()
def model(
    folder: Annotated[Path, typer.Argument(help="Model folder, such as a run's best/.", show_default=False)],
    repo: Repo,
    private: Private = False,
    revision: Revision = None,
    create_pr: CreatePr = False,
    dry_run: DryRun = False,
    token: Token = None,
    max_shard_size: Annotated[str, typer.Option(help="Larger weights are cut into files of this size.")] = "5GB",
    i_have_the_right_to: Annotated[
        bool,
        typer.Option(
            "--i-have-the-right-to",
            help="Show the contact sheet of RRSIS-D or own data too; publish weights that rrsis convert converted.",
        ),
    ] = False,
) -> None:
    """Publish a model: weights, configuration, processor, code, card, scores, contact sheet.

    The folder is checked first: is it complete, does it hold a path of this machine or a token. The card's examples
    get the repository's name. All goes up in one commit: until it is made, what was published stays as it was.

    Examples:
        rrsis publish model runs/fianet/best you/rrsis-fianet --dry-run

        rrsis publish model runs/fianet/best you/rrsis-fianet --private
    """
    with _plain_errors():
        from ..hub.publish_model import publish_model

        _report(
            publish_model(
                folder,
                repo,
                private=private,
                revision=revision,
                create_pr=create_pr,
                dry_run=dry_run,
                token=token,
                max_shard_size=max_shard_size,
                may_show_images=i_have_the_right_to,
                may_publish_weights=i_have_the_right_to,
            )
        )


@publish.command()
def dataset(
    repo: Repo,
    dataset: Annotated[DatasetName, typer.Option(help="What it is.", show_default=False)],
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder or zip as downloaded; own data: its .csv or .jsonl; synthetic: none."),
    ] = None,
    config: Annotated[Wording, typer.Option(help="Wording of synthetic data.")] = Wording.RRSISD,
    i_have_the_right_to: Annotated[
        bool, typer.Option("--i-have-the-right-to", help="RRSIS-D is refused without it.")
    ] = False,
    license_id: Annotated[
        str | None, typer.Option("--license", help="Licence of own data, as the Hub spells it: cc-by-4.0, mit, ….")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out samples whose files are missing, and say which.")
    ] = False,
    max_file_size: Annotated[str, typer.Option(help="About the most bytes of a Parquet file.")] = "500MB",
    num_proc: Annotated[int, typer.Option(min=1, help="Processes that build.")] = 1,
    private: Private = False,
    revision: Revision = None,
    create_pr: CreatePr = False,
    dry_run: DryRun = False,
    token: Token = None,
) -> None:
    """Publish a data set as Parquet that load_dataset("you/name") reads, also streaming, without any script.

    Images go up byte for byte, masks as 8-bit PNG that the Hub's viewer shows. A dry run builds the files too.

    RRSIS-D has no licence and derives from DIOR, which is for non-commercial use: it needs --i-have-the-right-to.

    Examples:
        rrsis publish dataset you/refsegrs --dataset refsegrs --data-dir RefSegRS.zip --private

        rrsis publish dataset you/roofs --dataset own --data-dir roofs.csv --license cc-by-4.0
    """
    with _plain_errors():
        from ..hub.publish_dataset import publish_dataset

        options: dict[str, Any] = {"config_name": config.value} if dataset is DatasetName.SYNTHETIC else {}
        if dataset is not DatasetName.SYNTHETIC and allow_missing:
            options["allow_missing"] = True
        _report(
            publish_dataset(
                dataset.value,
                repo,
                data_dir=data_dir,
                i_have_the_right_to=i_have_the_right_to,
                license_id=license_id,
                private=private,
                revision=revision,
                create_pr=create_pr,
                dry_run=dry_run,
                token=token,
                max_file_size=max_file_size,
                num_proc=num_proc if num_proc > 1 else None,
                **options,
            )
        )


@publish.command()
def metric(
    repo: Repo,
    private: Private = False,
    revision: Revision = None,
    create_pr: CreatePr = False,
    dry_run: DryRun = False,
    token: Token = None,
) -> None:
    """Publish the metric as a Space: evaluate.load("you/name") reads it, visitors try it on two masks.

    Example:
        rrsis publish metric you/rrsis_iou
    """
    with _plain_errors():
        from ..hub.publish_space import publish_metric

        options = {"private": private, "revision": revision, "create_pr": create_pr, "dry_run": dry_run}
        _report(publish_metric(repo, token=token, **options))  # type: ignore[arg-type]


@publish.command()
def space(
    model_id: Annotated[str, typer.Argument(metavar="MODEL", help="The published model: user/name on the Hub.")],
    repo: Repo,
    title: Annotated[str | None, typer.Option(help="Title of the page. Default: the model's name.")] = None,
    preset: Annotated[Wording, typer.Option(help="Wording of the examples.")] = Wording.RRSISD,
    private: Private = False,
    revision: Revision = None,
    create_pr: CreatePr = False,
    dry_run: DryRun = False,
    token: Token = None,
) -> None:
    """Publish the demo of a model as a Space: the page that `rrsis demo` shows, with rendered examples.

    Example:
        rrsis publish space you/rrsis-fianet you/rrsis-fianet-demo
    """
    with _plain_errors():
        from ..hub.publish_space import publish_space

        options = {"private": private, "revision": revision, "create_pr": create_pr, "dry_run": dry_run}
        _report(publish_space(model_id, repo, title=title, preset=preset.value, token=token, **options))  # type: ignore[arg-type]


def _report(done: Publication) -> None:
    """Every file with its size, what stays behind, and where it is."""
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    for path, size in done.files:
        table.add_row(path, decimal(size))
    console.print(table)
    for line in done.left_out:
        console.print(f"left out: {line}", markup=False)
    for path in done.removed:
        console.print(f"removed: {path}", markup=False)
    total = f"{len(done.files)} files, {decimal(sum(size for _, size in done.files))}"
    if not done.url:
        console.print(f"Dry run: {total} would go to the {done.repo_kind} {done.repo_id}; nothing was sent.")
        return
    if done.is_unchanged:
        console.print(f"Unchanged: {done.url} holds these {total} already; nothing was committed.")
    else:
        console.print(f"Published {total}: {done.url}")
    console.print(f"This state for good: revision={done.commit}")
