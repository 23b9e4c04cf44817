"""Command line: published checkpoint in, model folder out; `rrsis convert` is the same for whole folders."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import save_file
from transformers.utils import logging

from .conversion import Conversion, convert_checkpoint, convert_swin
from .report import describe

WEIGHTS_FILE = "model.safetensors"
DESCRIPTION = """\
Convert a published checkpoint to a folder that `AutoModel.from_pretrained` loads.

Every size is read from the tensors (widths, depths, heads, window, TMEM layers), the two-channel head becomes one
channel of log-odds (target - background), and every key is accounted for: tensors that influence nothing are named and
dropped, anything else unexpected or missing is an error. The file is read without running anything in it; one that
holds more than tensors, plain values and an argparse.Namespace is refused.
"""
EPILOG = """\
examples:
  python -m modeling_rrsis.convert --arch fianet fianet_rrsisd.pth fianet-rrsisd --tokenizer bert-base-uncased
  python -m modeling_rrsis.convert --arch lavt lavt_one.pth lavt-rrsisd --tokenizer vocab.txt
  python -m modeling_rrsis.convert --arch swin swin_base_patch4_window12_384_22k.pth swin-base

The third writes swin-base/model.safetensors for `Model.from_backbones(vision="swin-base/model.safetensors")`.
"""


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m modeling_rrsis.convert",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT.pth", type=Path, help="file written by torch.save")
    parser.add_argument("output_dir", metavar="OUT_DIR", type=Path, help="folder to write; must be new or empty")
    parser.add_argument(
        "--arch",
        choices=("lavt", "fianet", "rmsin", "swin"),
        help="lavt: with BERT inside (text_encoder.*) or beside (bert_model); fianet: any number of TMEM layers; "
        "rmsin: RemoteSAM, too; swin: Microsoft's plain Swin file, ImageNet weights to start a training from "
        "(default: found from the keys; swin must be said)",
    )
    parser.add_argument(
        "--tokenizer",
        metavar="DIR|VOCAB.txt|NAME",
        help="also write the processor, with this BERT tokenizer (a folder, a vocabulary file or a name on the Hub) "
        'and alignment="word", which the released weights need; then `pipeline` loads the folder, too',
    )
    parser.add_argument(
        "--benchmark",
        choices=("rrsisd", "refsegrs"),
        help="data the weights were trained on: the processor's categories and token limit "
        "(default: refsegrs for a FIANet with one TMEM layer, otherwise rrsisd)",
    )
    parser.add_argument(
        "--text-heads",
        type=_count,
        metavar="N",
        help="heads of BERT; in no tensor (default: one for each 64 channels)",
    )
    parser.add_argument(
        "--fusion-heads",
        type=_count,
        nargs=4,
        metavar="N",
        help="heads of the pixel-word attention of the four stages; in no tensor (default: 1 1 1 1)",
    )
    return parser


def _count(text: str) -> int:
    """An option's number of heads."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    """Convert; returns the exit status, 1 after an error that is told in words."""
    options = build_parser().parse_args(arguments)
    logging.disable_progress_bar()
    try:
        _check_output(options.output_dir)
        if options.arch == "swin":
            conversion = convert_swin(options.checkpoint)
            written = write_swin(conversion, options.output_dir)
        else:
            conversion, written = write_model(options)
    except (ValueError, OSError, ImportError, StrictDataclassError) as error:
        sys.stderr.write(f"convert: {error}\n")
        return 1
    sys.stdout.write(f"{describe(conversion)}\n{written}\n")
    return 0


def _check_output(folder: Path) -> None:
    """Find out before the long work that the result has nowhere to go."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ValueError(f"OUT_DIR: expected a new or an empty folder, {folder} is not; choose another name.")


def write_model(options: argparse.Namespace) -> tuple[Conversion, str]:
    """Convert a network; with a tokenizer the processor, the pipeline and a card are written, too.

    Returns:
        What was done, and a line that says what was written and how to use it.
    """
    folder, given = options.output_dir, {"text_heads": options.text_heads, "fusion_heads": options.fusion_heads}
    if options.tokenizer is None:
        model, conversion = convert_checkpoint(options.checkpoint, options.arch, **given)
        _write_aside(folder, lambda aside: model.save_pretrained(aside))
        return conversion, f"wrote {folder} without a processor (add one with --tokenizer bert-base-uncased)"
    # The one place where this package reaches for the other: a processor belongs into a complete folder.
    from processing_rrsis.hub.converted import convert_to_folder

    _, conversion = convert_to_folder(
        str(options.checkpoint),
        folder,
        arch=options.arch,
        tokenizer=options.tokenizer,
        benchmark=options.benchmark,
        **given,
    )
    return conversion, f"wrote {folder} with processor, pipeline and card"


def write_swin(conversion: Conversion, folder: Path) -> str:
    """Write the weights in timm's layout; returns a line that says how to use them."""
    _write_aside(folder, lambda aside: save_file(conversion.state, aside / WEIGHTS_FILE, metadata={"format": "pt"}))
    sizes = conversion.sizes
    return (
        f"wrote {folder / WEIGHTS_FILE}; use it with config = Config(backbone={sizes['backbone']!r}, "
        f"backbone_kwargs={sizes['backbone_kwargs']!r}) and "
        f"Model.from_backbones(config, vision={str(folder / WEIGHTS_FILE)!r})"
    )


def _write_aside(folder: Path, write: Any) -> None:
    """Write into a sibling folder and rename it at the end, so that half a folder never stands under the name."""
    aside = folder.resolve().with_name(f".{folder.resolve().name}.tmp-{os.getpid()}")
    aside.mkdir(parents=True)
    try:
        write(aside)
        if folder.is_dir():
            folder.rmdir()
        aside.rename(folder.resolve())
    finally:
        shutil.rmtree(aside, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
