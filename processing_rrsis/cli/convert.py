"""`rrsis convert`: published checkpoints to model folders."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..result_files import check_untouched
from .common import _plain_errors, check_place


class Arch(StrEnum):
    """Networks whose checkpoints are known; RemoteSAM is an RMSIN."""

    LAVT = "lavt"
    FIANET = "fianet"
    RMSIN = "rmsin"


class TrainedOn(StrEnum):
    """Benchmarks whose categories and token limit a processor can have."""

    RRSISD = "rrsisd"
    REFSEGRS = "refsegrs"


def convert(
    checkpoint: Annotated[
        str,
        typer.Argument(help="The file, or hf://owner/name[/file] on the Hub, through its cache.", show_default=False),
    ],
    output: Annotated[Path, typer.Argument(help="Model folder to write.", show_default=False)],
    arch: Annotated[Arch | None, typer.Option(help="Network.", show_default="found from the keys")] = None,
    tokenizer: Annotated[
        str, typer.Option(help="BERT's tokenizer: a folder, a vocab.txt or a name on the Hub.")
    ] = "bert-base-uncased",
    benchmark: Annotated[
        TrainedOn | None,
        typer.Option(
            help="Data the weights were trained on: categories and token limit.",
            show_default="refsegrs for a FIANet with one TMEM layer, else rrsisd",
        ),
    ] = None,
    text_heads: Annotated[
        int | None, typer.Option(min=1, help="Heads of BERT; in no tensor.", show_default="one for each 64 channels")
    ] = None,
    fusion_heads: Annotated[
        str | None,
        typer.Option(help="Heads of the four stages' pixel-word attention; in no tensor.", show_default="1,1,1,1"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model folder.")] = False,
) -> None:
    """Convert a published checkpoint of LAVT, FIANet, RMSIN or RemoteSAM to a model folder.

    Every size is read from the tensors and every key accounted for; a file that is damaged, foreign or holds more than
    tensors and plain values is refused, and nothing in it is run. The folder is one that the pipeline, every command,
    the demo and exports take. Its card says whose weights these are: publishing them is your decision.

    Examples:
        rrsis convert hf://1e12Leon/RemoteSAM remotesam

        rrsis convert fianet_rrsisd.pth fianet-rrsisd --tokenizer vocab.txt
    """
    with _plain_errors():
        output = output.expanduser()
        heads = None if fusion_heads is None else [int(part) for part in fusion_heads.split(",") if part.isdecimal()]
        if heads is not None and (len(heads) != 4 or 0 in heads):
            raise ValueError(f"--fusion-heads: expected four numbers such as 1,1,1,1, got {fusion_heads!r}")
        from ..hub.model_folder import CONFIG_FILE, check_replaceable

        check_place("OUTPUT", output)
        check_replaceable(output.resolve(), marker=CONFIG_FILE)
        check_untouched([output], reads=[checkpoint, tokenizer], overwrite=overwrite)
        from transformers.utils import logging

        from modeling_rrsis.convert.report import describe

        from ..hub.converted import convert_to_folder
        from ..terminal import working

        logging.disable_progress_bar()
        with working(f"converting {checkpoint}"):
            known, conversion = convert_to_folder(
                checkpoint,
                output,
                arch=arch,
                tokenizer=tokenizer,
                benchmark=benchmark,
                text_heads=text_heads,
                fusion_heads=heads,
            )
        typer.echo(describe(conversion))
        typer.echo(f"{known.name}, trained by {known.authors}. Licence: {known.licence}.")
        typer.echo(f'Wrote {output}. Try: rrsis segment IMAGE "{known.example}" --model {output}')
