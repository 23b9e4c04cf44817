"""The command line `rrsis`. Heavy libraries are imported inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .cli_ablate import AblateCommand, ablate
from .cli_ablations import ablations
from .cli_benchmark import benchmark
from .cli_data_throughput import data_throughput
from .cli_demo import demo
from .cli_evaluate import evaluate
from .cli_export import export
from .cli_parse_report import parse_report
from .cli_prepare import prepare
from .cli_publish import publish
from .cli_recipes import recipes
from .cli_segment import check_expression, segment

if TYPE_CHECKING:
    from rich.text import Text

    from processing_rrsis.expression_rrsis import ParsedExpression

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
app.command(name="data-throughput")(data_throughput)
app.command()(demo)
app.command()(evaluate)
app.command()(export)
app.command(name="parse-report")(parse_report)
app.command()(prepare)
app.command()(recipes)
app.add_typer(publish)
app.command()(segment)


HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""PyTorch's switch for huge memory pages, read when it makes its first tensor: large maps cost fewer page faults."""
INFERENCE_COMMANDS = frozenset({"segment", "evaluate", "demo"})


@app.callback()
def main(context: typer.Context) -> None:
    """Referring segmentation of aerial images: an image and an expression in, a mask out."""
    if context.invoked_subcommand in INFERENCE_COMMANDS:
        os.environ.setdefault(HUGE_PAGES, "1")


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Show what went wrong in one sentence instead of a traceback, and end with exit code 1."""
    try:
        yield
    except (ValueError, TypeError, OSError, KeyError, ImportError, RuntimeError) as error:
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        typer.secho(f"rrsis: {message}", fg="red", err=True)
        raise typer.Exit(1) from error


def load_pipeline(model: str, trust_remote_code: bool = False) -> Any:
    """Build the pipeline for a model folder or Hub repository, with the installed classes.

    Args:
        model: a folder written by training or `save_hub_folder`, or `user/name` on the Hub.
        trust_remote_code: allow code from the repository where the model is none of ours.

    Raises:
        ValueError: no such folder, or a folder without configuration, processor or the complete weights.
    """
    _check_model_folder(model)
    if Path(model).expanduser().exists():
        model = str(Path(model).expanduser())
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoProcessor
    from transformers.utils import logging

    import modeling_rrsis  # noqa: F401 - registers the networks
    from processing_rrsis.pipeline_rrsis import ReferringSegmentationPipeline

    logging.disable_progress_bar()
    options = {"trust_remote_code": trust_remote_code}
    try:
        network, report = AutoModel.from_pretrained(model, output_loading_info=True, **options)
    except SafetensorError as error:
        raise ValueError(f"--model: expected readable weights in {model}, got damaged ones ({error})") from error
    # transformers fills gaps with random numbers and only warns; a mask from such a model would mean nothing.
    gaps = sorted(map(str, (*report["missing_keys"], *report["mismatched_keys"])))
    if gaps:
        raise ValueError(
            f"--model: expected complete weights in {model}, {len(gaps)} tensors are missing or of another size, such "
            f"as {gaps[0]}; save the model again or check that config.json belongs to these weights"
        )
    processor = AutoProcessor.from_pretrained(model, **options)
    return ReferringSegmentationPipeline(model=network.eval(), processor=processor)


def _check_model_folder(model: str) -> None:
    """Say what a folder lacks; a name that is no folder must at least look like a Hub repository."""
    folder = Path(model).expanduser()
    if not folder.exists():
        parts = model.split("/")
        if len(parts) != 2 or not all(parts) or model.startswith((".", "~", "/")):
            raise ValueError(
                f"--model: expected a model folder or a Hub repository such as user/name, {model!r} is neither; "
                "train one with `accelerate launch train_accelerate.py`, it leaves OUTPUT/best"
            )
        return
    if not (folder / "config.json").is_file():
        children = sorted(path.parent.name for path in folder.glob("*/config.json")) if folder.is_dir() else []
        hint = f"; did you mean {folder / children[0]}?" if children else "; train or download a model first"
        raise ValueError(f"--model: expected a model folder, {model} has no config.json{hint}")
    if (folder / "runtime.json").is_file():
        raise ValueError(
            f"--model: expected a model that torch computes, {model} holds a graph that `rrsis export` wrote from "
            "one; give the folder that it was exported from"
        )
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_model*.bin")):
        raise ValueError(
            f"--model: expected weights (model.safetensors) beside config.json in {model}, found none; the copy is "
            "incomplete, fetch it again or point to the run's best/ or last/ folder"
        )
    if not (folder / "processor_config.json").is_file():
        raise ValueError(
            f"--model: expected processor_config.json in {model}, found none; save the processor there too: "
            "processor.save_pretrained(folder)"
        )


@app.command()
def parse(
    expression: Annotated[str, typer.Argument(help="An expression, in quotes.")],
    categories: Annotated[
        str, typer.Option(help='rrsisd, refsegrs, synthetic, or your own names: "pier, golf course, silo".')
    ] = "rrsisd",
    alignment: Annotated[
        str, typer.Option(help="wordpiece (as trained here) or word (as in released weights).")
    ] = "wordpiece",
) -> None:
    """Show what is read in an expression: object words and position words.

    Example:
        rrsis parse "the ship on the left of the red vehicle" --categories rrsisd
    """
    with _plain_errors():
        check_expression(expression)
        from processing_rrsis.expression_rrsis import CATEGORY_SETS, ExpressionParser

        names = categories if categories in CATEGORY_SETS else [name.strip() for name in categories.split(",")]
        if isinstance(names, list) and len(names) == 1 and not _occurs_in(names[0], expression):
            raise ValueError(
                f"--categories: expected one of {sorted(CATEGORY_SETS)} or names separated by commas, got "
                f"{categories!r}, which the expression does not contain"
            )
        parsed = ExpressionParser(names, alignment).parse(expression)
    _print_parse(parsed)


def _occurs_in(name: str, expression: str) -> bool:
    """Whether a single own category name occurs in the expression (else it is probably a misspelt set name)."""
    return bool(name) and name.lower() in expression.lower()


def _print_parse(parsed: ParsedExpression) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print(_marked(parsed))
    fallback = (
        "none, the model reads no object" if parsed.alignment == "word" else "none, the whole expression is used"
    )
    objects = ", ".join(parsed.words_of("ground_object")) or fallback
    positions = ", ".join(parsed.words_of("spatial_position")) or "none, the whole expression is used"
    console.print(f"[bold green]object[/]    {objects}")
    console.print(f"[bold cyan]position[/]  {positions}")


def _marked(parsed: ParsedExpression) -> Text:
    """The expression with its object words in green and its position words in cyan."""
    from rich.text import Text

    text = Text(parsed.text)
    for start, end in parsed.spatial_position:
        text.stylize("cyan underline", start, end)
    for start, end in parsed.ground_object:
        text.stylize("bold green", start, end)
    return text


if __name__ == "__main__":
    app()
