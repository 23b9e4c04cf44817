"""`rrsis export`: a model as a folder for OpenVINO or onnxruntime, checked, timed and scored."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..result_files import check_untouched
from ..runtimes.folder import MANIFEST_FILE
from ..runtimes.spec import DEFAULT_ROUNDS, MIN_IMAGE_SIZE_PX, ExportOptions, RuntimeFormat
from .common import (
    MODEL_HELP,
    RESULTS,
    JsonFile,
    TrustRemoteCode,
    _plain_errors,
    check_place,
    check_result_files,
    stopped_in_order,
    write_json,
)

_GRAPH, _CHECK = "Graph", "Check"
CALIBRATION_SPLIT = "train"
CALIBRATION_SAMPLES = 128


def export(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    output: Annotated[Path, typer.Argument(help="Folder to write.")],
    graph_format: Annotated[
        RuntimeFormat,
        typer.Option("--format", "-f", help="Library that runs it; on a CPU take openvino.", rich_help_panel=_GRAPH),
    ] = RuntimeFormat.OPENVINO,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="8-bit layers, calibrated on training samples.", rich_help_panel=_GRAPH),
    ] = False,
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size",
            "-s",
            min=MIN_IMAGE_SIZE_PX,
            help="Side of the square images in px.",
            rich_help_panel=_GRAPH,
            show_default="the model's",
        ),
    ] = None,
    calibration_samples: Annotated[
        int, typer.Option(min=1, help="int8: training samples that are looked at.", rich_help_panel=_GRAPH)
    ] = CALIBRATION_SAMPLES,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            "--data",
            "-d",
            help="Score both on a split of: synthetic, refsegrs, rrsisd, risbench, or a .csv or .jsonl file.",
            rich_help_panel=_CHECK,
            show_default=False,
        ),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder or zip of the download.", rich_help_panel=_CHECK, show_default=False)
    ] = None,
    split: Annotated[str, typer.Option(help="Split to score.", rich_help_panel=_CHECK)] = "test",
    max_samples: Annotated[
        int | None,
        typer.Option(min=1, help="Score only the first ones.", rich_help_panel=_CHECK, show_default=False),
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="Timed runs of each, in turns.", rich_help_panel=_CHECK)
    ] = DEFAULT_ROUNDS,
    cpu_threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of both.", rich_help_panel=_CHECK, show_default=False)
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Seed of inputs that are compared.", rich_help_panel=_CHECK)
    ] = 0,
    json_file: JsonFile = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export, and its JSON.", rich_help_panel=RESULTS)
    ] = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Write a model as a folder for another runtime, and check it.

    The libraries that run it:
      - openvino: the fastest on a CPU; needs pip install "rrsis[openvino]".
      - onnx: for onnxruntime and whatever else reads ONNX; needs
        pip install "rrsis[onnx]".

    The folder holds graph, configuration and processor. rrsis segment, evaluate and
    demo take it as --model, in the place of the model that it was made from. It takes images
    of one size, in any number, with expressions as long as the model reads them.

    Before the folder gets its name the graph is run beside the model, on other batches
    and lengths than it was made with. A float32 graph whose logits differ is an
    error, and nothing is left of it. With --int8 they do differ: --dataset says
    what that costs in mIoU and oIoU.

    Examples:
        rrsis export runs/fianet/best fianet-openvino

        rrsis export runs/fianet/best fianet-int8 --int8 --dataset synthetic
    """
    output = output.expanduser()
    with _plain_errors():
        if dataset is None and int8:
            raise ValueError("--int8: expected --dataset, whose training samples say in which range the numbers lie")
        if dataset is None and (max_samples is not None or split != "test"):
            raise ValueError("--split, --max-samples: expected with --dataset, which says what to score")
        options = ExportOptions(
            format=graph_format,
            int8=int8,
            image_size_px=None if image_size is None else (image_size, image_size),
            rounds=rounds,
            seed=seed,
        )
        options.check()
        json_file = check_result_files({"--json": json_file})["--json"]
        check_output(output)
        from ..data.own_data import table_files

        read = [model, dataset, data_dir, *table_files(dataset, data_dir)]
        check_untouched([output, json_file], reads=read, overwrite=overwrite)

        def run(on_step: Callable[[str], None]) -> Any:
            from ..hub.loading import load_pipeline
            from ..runtimes.export import NamedRows, export_runtime

            on_step("loading the model")
            pipe = load_pipeline(model, trust_remote_code=trust_remote_code)
            sides = pipe.processor.image_processor.size
            size = image_size or min(sides["height"], sides["width"])
            scored = calibration = None
            if dataset is not None:
                from ..data.load import load_split

                load = functools.partial(load_split, dataset, input_size_px=size, data_dir=data_dir)
                scored = NamedRows(f"{dataset}, {split}", load(split, num_samples=max_samples))
                if int8:
                    # Scenes are drawn as many as are needed; a download is in the order of its categories.
                    drawn = calibration_samples if dataset == "synthetic" else None
                    calibration = NamedRows(
                        f"{dataset}, {CALIBRATION_SPLIT}", load(CALIBRATION_SPLIT, num_samples=drawn)
                    )
            return export_runtime(
                pipe,
                output,
                options,
                scored=scored,
                calibration=calibration,
                calibration_samples=calibration_samples,
                on_step=on_step,
            )

        _run(run, output, threads=cpu_threads, json_file=json_file)


def check_output(output: Path) -> None:
    """Find out before the model is loaded that the folder can't be written.

    Raises:
        ValueError: If it is a file, holds other things, or lies where nothing can be written.
    """
    from ..hub.model_folder import check_replaceable

    check_replaceable(output.resolve(), marker=MANIFEST_FILE)
    check_place("OUTPUT", output)


def _run(
    run: Callable[[Callable[[str], None]], Any], output: Path, *, threads: int | None, json_file: Path | None
) -> None:
    """Export, show and write what was measured."""
    import sys

    import torch
    from rich.console import Console

    from ..runtimes.result import print_result

    console = Console(highlight=False, file=sys.stdout, markup=False)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        with stopped_in_order(), console.status("") as status:
            result = run(lambda text: status.update(f"{output}: {text}"))
    finally:
        torch.set_num_threads(before)
    try:  # one is there if the other fails
        if json_file is not None:
            write_json(result.to_dict(), json_file)
    finally:
        print_result(result, console)
