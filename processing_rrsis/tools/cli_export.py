"""`rrsis export`: a model as an ONNX or .pt2 file, checked, timed and scored."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from ..cli.common import check_result_files
from .runtime_spec import DEFAULT_ROUNDS, MIN_IMAGE_SIZE_PX, RuntimeFormat, RuntimeSpec, ScoredData, choose_format

_FILE, _CHECK = "File", "Check"
ENDINGS = frozenset(f".{name}" for name in RuntimeFormat)
"""Of exports, which may lie beside the model and be replaced."""


def export(
    model: Annotated[str, typer.Argument(help="Model folder (a run's best/) or Hub repository.")],
    output: Annotated[Path, typer.Argument(help="File to write: model.onnx or model.pt2.")],
    file_format: Annotated[
        str | None,
        typer.Option("--format", help="onnx or pt2, where the ending of OUTPUT is neither.", rich_help_panel=_FILE),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="onnx: 8-bit linear layers, float32 else.", rich_help_panel=_FILE),
    ] = False,
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size",
            "-s",
            min=MIN_IMAGE_SIZE_PX,
            help="Side of the square images in px; the processor's size by default.",
            rich_help_panel=_FILE,
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            "-d",
            help="Also score both on a split of: synthetic, a .csv or .jsonl file, the folder or zip of a download.",
            rich_help_panel=_CHECK,
            show_default=False,
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Split to score.", rich_help_panel=_CHECK)] = "test",
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="Score only the first ones.", rich_help_panel=_CHECK, show_default=False),
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="Timed runs of each, in turns.", rich_help_panel=_CHECK)
    ] = DEFAULT_ROUNDS,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of both.", rich_help_panel=_CHECK, show_default=False)
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Seed of inputs that are compared.", rich_help_panel=_CHECK)
    ] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write every number as JSON.", show_default=False)
    ] = None,
    trust_remote_code: Annotated[bool, typer.Option(help="Run code of a Hub repository that is not ours.")] = False,
) -> None:
    r"""Write a model as a file for another runtime, and check it.

    - .onnx: for onnxruntime and others, weights included; needs
      pip install "rrsis\[export]".
    - .pt2: a torch.export program, for torch alone.

    The file takes images of one size, in any number, with expressions as long as
    the model reads them. Its inputs are named as the model's: pixel_values, input_ids,
    attention_mask, and for FIANet ground_object_mask, spatial_position_mask.
    Its output is logits.

    Before the file gets its name it is run beside the model, on other batches
    and lengths than it was made with. A float32 file whose logits differ is an
    error, and nothing is left of it. With --int8 they do differ: --data says
    what that costs in mIoU and oIoU.

    Examples:
        rrsis export runs/fianet/best fianet.onnx

        rrsis export runs/fianet/best fianet-int8.onnx --int8 --data synthetic
    """
    from ..cli.common import _plain_errors

    output = output.expanduser()
    with _plain_errors():
        if data is None and (samples is not None or split != "test"):
            raise ValueError("--split, --samples: expected with --data, which says what to score")
        spec = RuntimeSpec(
            model=model,
            output=output,
            format=choose_format(output, file_format),
            int8=int8,
            image_size_px=None if image_size is None else (image_size, image_size),
            data=None if data is None else ScoredData(data, split=split, num_samples=samples),
            rounds=rounds,
            seed=seed,
            trust_remote_code=trust_remote_code,
        )
        spec.check()
        json_file = check_result_files({"OUTPUT": output, "--json": json_file})["--json"]
        _check_not_read(model, data, [output, json_file])
        _run(spec, threads=threads, json_file=json_file)


def _run(spec: RuntimeSpec, *, threads: int | None, json_file: Path | None) -> None:
    """Export, show and write what was measured."""
    import signal
    import sys

    import torch
    from rich.console import Console

    from .runtime_export import export_runtime
    from .runtime_result import print_result

    console = Console(highlight=False)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    # A half-written file is taken away then, too; Windows has no hang-up.
    stops = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    handlers = [signal.signal(stop, lambda number, frame: sys.exit(128 + number)) for stop in stops]
    try:
        with console.status("") as status:
            result = export_runtime(spec, on_step=lambda text: status.update(f"{spec.output}: {text}"))
    finally:
        torch.set_num_threads(before)
        for stop, handler in zip(stops, handlers, strict=True):
            signal.signal(stop, handler)
    try:  # one is there if the other fails
        if json_file is not None:
            json_file.write_text(json.dumps(result.to_dict(), indent=1) + "\n", encoding="utf-8")
    finally:
        print_result(result, console)


def _check_not_read(model: str, data: str | None, paths: Iterable[Path | None]) -> None:
    """Raise a ValueError where a result would replace a file that the export reads."""
    read = [path for path in Path(model).expanduser().glob("*") if path.suffix.lower() not in ENDINGS]
    read += [] if data is None else [Path(data).expanduser()]
    taken = {path.resolve() for path in read}
    for path in paths:
        if path is not None and path.resolve() in taken:
            raise ValueError(f"{path}: expected another name, the export reads this file")
