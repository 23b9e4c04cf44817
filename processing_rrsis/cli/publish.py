"""`rrsis publish`: models, data sets, the metric and the demo to the Hub."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import _plain_errors
from .help import HelpfulCommand, HelpfulGroup

if TYPE_CHECKING:
    from ..hub.push import Publication

publish = typer.Typer(
    name="publish",
    no_args_is_help=True,
    cls=HelpfulGroup,
    rich_markup_mode=None,
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


_WHAT, _HUB = "What is published", "How to publish"
Repo = Annotated[str, typer.Argument(metavar="REPO", help="user/name on the Hub; created where it does not exist.")]


def _push_options(
    private: Annotated[
        bool,
        typer.Option("--private", help="Create it private; an existing public one is refused.", rich_help_panel=_HUB),
    ] = False,
    revision: Annotated[
        str | None,
        typer.Option(help="Branch to publish to, made if needed.", show_default="main", rich_help_panel=_HUB),
    ] = None,
    create_pr: Annotated[
        bool,
        typer.Option("--create-pr", help="Open a pull request; the branch stays as it is.", rich_help_panel=_HUB),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check, list every file, show the card; nothing is sent.", rich_help_panel=_HUB
        ),
    ] = False,
    token: Annotated[
        str | None,
        typer.Option(
            help="Token that may write. Better: `hf auth login` or HF_TOKEN, which no list of processes shows.",
            show_default=False,
            rich_help_panel=_HUB,
        ),
    ] = None,
) -> Any:
    from ..hub.push import PushOptions

    return PushOptions(private, revision, create_pr, dry_run, token)


def _publishes(command: Callable[..., Any]) -> Callable[..., None]:
    """A command that has the options of every push, gets them as one, and whose publication is reported."""
    shared = inspect.signature(_push_options, eval_str=True).parameters
    own = {name: each for name, each in inspect.signature(command, eval_str=True).parameters.items() if name != "push"}

    @functools.wraps(command)
    def run(**values: Any) -> None:
        with _plain_errors():
            from ..terminal import working

            push = _push_options(**{name: values.pop(name) for name in shared})
            with working("checking"):
                done = command(push=push, **values)
            _report(done)

    parameters = {**own, **shared}
    run.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    run.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
    return run


@publish.command(cls=HelpfulCommand)
@_publishes
def model(
    folder: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Model folder, such as a run's best/.", show_default=False)
    ],
    repo: Repo,
    push: Any,
    max_shard_size: Annotated[
        str, typer.Option(help="Larger weights are cut into files of this size.", rich_help_panel=_WHAT)
    ] = "5GB",
    i_have_the_right_to: Annotated[
        bool,
        typer.Option(
            "--i-have-the-right-to",
            help="Show the contact sheet of RRSIS-D or own data too; publish weights that rrsis convert converted.",
            rich_help_panel=_WHAT,
        ),
    ] = False,
) -> Any:
    """Publish a model: weights, configuration, processor, code, card, scores, contact sheet.

    The folder is checked first: is it complete, does it hold a path of this machine or a token. The card's examples
    get the repository's name. All goes up in one commit: until it is made, what was published stays as it was.

    Examples:
        rrsis publish model runs/fianet/best you/rrsis-fianet --dry-run

        rrsis publish model runs/fianet/best you/rrsis-fianet --private
    """
    from ..hub.publish_model import publish_model

    return publish_model(
        folder,
        repo,
        push,
        max_shard_size=max_shard_size,
        may_show_images=i_have_the_right_to,
        may_publish_weights=i_have_the_right_to,
    )


@publish.command(cls=HelpfulCommand)
@_publishes
def dataset(
    repo: Repo,
    push: Any,
    dataset: Annotated[DatasetName, typer.Option("--dataset", "-d", help="What it is.", show_default=False)],
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder or zip as downloaded; own data: its .csv or .jsonl; synthetic: none."),
    ] = None,
    preset: Annotated[Wording, typer.Option(help="Wording of synthetic data.")] = Wording.RRSISD,
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
    num_workers: Annotated[int, typer.Option(min=1, help="Processes that build.")] = 1,
) -> Any:
    """Publish a data set as Parquet that load_dataset("you/name") reads, also streaming, without any script.

    Images go up byte for byte, masks as 8-bit PNG that the Hub's viewer shows. A dry run builds the files too.

    RRSIS-D has no licence and derives from DIOR, which is for non-commercial use: it needs --i-have-the-right-to.

    Examples:
        rrsis publish dataset you/refsegrs --dataset refsegrs --private
            --data-dir RefSegRS.zip

        rrsis publish dataset you/roofs --dataset own --data-dir roofs.csv
            --license cc-by-4.0
    """
    from ..hub.publish_dataset import publish_dataset

    options: dict[str, Any] = {"config_name": preset.value} if dataset is DatasetName.SYNTHETIC else {}
    if dataset is not DatasetName.SYNTHETIC and allow_missing:
        options["allow_missing"] = True
    return publish_dataset(
        dataset.value,
        repo,
        push,
        data_dir=data_dir,
        i_have_the_right_to=i_have_the_right_to,
        license_id=license_id,
        max_file_size=max_file_size,
        num_proc=num_workers if num_workers > 1 else None,
        **options,
    )


@publish.command(cls=HelpfulCommand)
@_publishes
def metric(repo: Repo, push: Any) -> Any:
    """Publish the metric as a Space: evaluate.load("you/name") reads it, visitors try it on two masks.

    Example:
        rrsis publish metric you/rrsis_iou
    """
    from ..hub.publish_space import publish_metric

    return publish_metric(repo, push)


@publish.command(cls=HelpfulCommand)
@_publishes
def space(
    model_id: Annotated[str, typer.Argument(metavar="MODEL", help="The published model: user/name on the Hub.")],
    repo: Repo,
    push: Any,
    title: Annotated[str | None, typer.Option(help="Title of the page.", show_default="the model's name")] = None,
    preset: Annotated[Wording, typer.Option(help="Wording of the examples.")] = Wording.RRSISD,
) -> Any:
    """Publish the demo of a model as a Space: the page that `rrsis demo` shows, with rendered examples.

    Example:
        rrsis publish space you/rrsis-fianet you/rrsis-fianet-demo
    """
    from ..hub.publish_space import publish_space

    return publish_space(model_id, repo, push, title=title, preset=preset.value)


def _report(done: Publication) -> None:
    """Every file with its size, what stays behind, and where it is."""
    from rich.console import Console
    from rich.filesize import decimal

    from ..terminal import new_table

    console = Console(highlight=False, soft_wrap=True, markup=False)
    table = new_table(("",), ("",))
    for path, size in done.files:
        table.add_row(path, decimal(size))
    console.print(table)
    for line in done.left_out:
        console.print(f"left out: {line}")
    for path in done.removed:
        console.print(f"removed: {path}")
    total = f"{len(done.files)} files, {decimal(sum(size for _, size in done.files))}"
    if not done.url:
        console.print(done.card, markup=False)
        console.print(f"Dry run: {total} would go to the {done.repo_kind} {done.repo_id}; nothing was sent.")
        return
    if done.is_unchanged:
        console.print(f"Unchanged: {done.url} holds these {total} already; nothing was committed.")
    else:
        console.print(f"Published {total}: {done.url}")
    console.print(f"This state for good: revision={done.commit}")
