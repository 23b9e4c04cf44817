"""`rrsis benchmark`: how fast and how lean the networks are on this machine, beside timm's Swin."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from ..benchmark.spec import (
    DTYPES,
    FORWARD,
    GPU_BAR_BATCH,
    MODEL_NAMES,
    MODEL_SIZES,
    MODES,
    SCALING_SIZES_PX,
    TRAIN,
    TRAIN_CHECKPOINTED,
    BenchmarkSpec,
    one_of,
)
from .common import _plain_errors, check_result_files

QUICK: dict[str, Any] = {
    "model_size": "tiny",
    "image_sizes_px": (64,),
    "rounds": 2,
    "affinity_pixels": 64,
    "ceiling_scale": 8,
}
OPTION_OF = {"model_size": "--model-size", "image_sizes_px": "--image-size", "rounds": "--rounds"}
QUICK_SCALING_PX = (64, 96, 128)
GPU_BAR: dict[str, Any] = {
    "models": ("fianet",),
    "image_sizes_px": (480,),
    "batch_sizes": (GPU_BAR_BATCH,),
    "works": (TRAIN,),
    "variants": (("float32", "eager"), ("bfloat16", "compile"), ("autocast", "compile")),
    "device": "cuda",
    "has_grid": True,
    "affinity_batch": GPU_BAR_BATCH,
}
FIXED_BY = {
    "--gpu-bar": {
        *("--model", "--model-size", "--model-folder", "--image-size", "--batch-size", "--dtype", "--mode"),
        *("--device", "--work", "--gradient-checkpointing", "--affinity-batch", "--quick", "--grid"),
    },
    "--model-folder": {"--model", "--model-size"},
}
GRID_OPTIONS = FIXED_BY["--gpu-bar"] - {"--device", "--affinity-batch", "--quick", "--grid"}
"""Options that decide what others say."""


def benchmark(
    context: typer.Context,
    model: Annotated[str, typer.Option("--model", "-m", help=f"{', '.join(MODEL_NAMES)}, separated by commas.")] = (
        ",".join(MODEL_NAMES)
    ),
    model_size: Annotated[
        str, typer.Option(help="base: as published (Swin-B, BERT-base), random weights; tiny: for smoke tests.")
    ] = MODEL_SIZES[0],
    model_folder: Annotated[
        str | None, typer.Option(help="Measure the model in this folder or Hub repository.", show_default=False)
    ] = None,
    image_size: Annotated[str, typer.Option("--image-size", "-s", help="Sides of the images in px.")] = "480",
    batch_size: Annotated[str, typer.Option("--batch-size", "-b", help="Images of a batch.")] = "1",
    dtype: Annotated[str, typer.Option(help=f"{', '.join(DTYPES)} (float32 weights).")] = "float32",
    mode: Annotated[str, typer.Option(help=f"{', '.join(MODES)}.")] = "eager",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    work: Annotated[str, typer.Option(help="forward, train (forward and backward, no optimizer).")] = FORWARD,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Also a training step with gradient checkpointing.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Timed runs of each case, in turns.")] = 5,
    warmup: Annotated[int, typer.Option(min=0, help="Runs before the clock starts.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the CPU.", show_default=False)] = None,
    memory: Annotated[bool, typer.Option(help="Peak memory, each case in a process of its own.")] = True,
    expressions: Annotated[
        int, typer.Option(min=0, help="So many expressions on one image against single calls; 8 is the bar.")
    ] = 0,
    scaling: Annotated[
        bool,
        typer.Option("--scaling", help=f"Cost against pixels, {SCALING_SIZES_PX[0]} to {SCALING_SIZES_PX[-1]} px."),
    ] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Where the time goes: parts, operators.")] = False,
    trace: Annotated[
        Path | None,
        typer.Option(
            help="Write the profile as a trace for chrome://tracing; one model, one work.", show_default=False
        ),
    ] = None,
    affinity_loss: Annotated[
        bool, typer.Option("--affinity-loss", help="DANet's affinity loss against its dense form, N = 3,600.")
    ] = False,
    affinity_batch: Annotated[
        int | None, typer.Option(min=1, help="Its batch; 16 on a GPU, 1 on a CPU.", show_default=False)
    ] = None,
    grid: Annotated[
        bool | None,
        typer.Option(help="The table of cases; by default where no study is asked for.", show_default=False),
    ] = None,
    gpu_bar: Annotated[
        bool,
        typer.Option("--gpu-bar", help="FIANet's training step and the affinity loss on a GPU, batch 16, 480 px."),
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Smoke test: tiny models, 64 px, two rounds.")] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of weights and inputs.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write every number as JSON.", show_default=False)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw cost against size and batch (.png).", show_default=False)
    ] = None,
) -> None:
    """Measure the networks on this machine: time, memory, operations, beside timm's Swin-B.

    Every model is crossed with every image size, batch, dtype, mode and work.
    The cases of one size, batch and work run in turns with timm's
    swin_base_patch4_window12_384 (forward_features at the same size, float32,
    eager), so that "× Swin" can be compared between machines. Expressions have
    20 tokens.

    Peak memory comes from a process that does nothing else: resident memory on
    a CPU, PyTorch's tensors on a GPU. What does not fit is a row "out of memory".

    Studies (--expressions, --scaling, --profile, --trace, --affinity-loss) stand
    in the place of the table of cases; --grid keeps it.

    Examples:
        rrsis benchmark --quick

        rrsis benchmark -m fianet,lavt --work forward,train --json cpu.json

        rrsis benchmark -m fianet --dtype float32,bfloat16 -s 320,480 --plot a.png

        rrsis benchmark -m fianet --work train --gradient-checkpointing --rounds 3

        rrsis benchmark -m fianet --expressions 8 --scaling --profile

        rrsis benchmark --gpu-bar --json gpu.json
    """
    with _plain_errors():
        given = _given(context)
        json_file, plot, trace = check_result_files({"--json": json_file, "--plot": plot, "--trace": trace}).values()
        if plot is not None and plot.suffix.lower() != ".png":
            raise ValueError(f"--plot: expected a file name that ends with .png, got {plot}")
        for option, fixed in FIXED_BY.items():
            if option in given and (both := sorted(given & fixed)):
                raise ValueError(f"{option}: sets {', '.join(both)} itself; leave one of them out")
        options: dict[str, Any] = {
            "models": _names(model),
            "model_size": model_size,
            "image_sizes_px": _numbers("--image-size", image_size),
            "batch_sizes": _numbers("--batch-size", batch_size),
            "variants": tuple(product(_names(dtype), _names(mode))),
            "works": _works(work, gradient_checkpointing),
            "device": device,
            "rounds": rounds,
            "warmup": warmup,
            "threads": threads,
            "seed": seed,
            "has_memory": memory,
            "expressions": expressions,
            "scaling_sizes_px": SCALING_SIZES_PX if scaling else (),
            "has_profile": profile or trace is not None,
            "trace_file": None if trace is None else str(trace),
        }
        if model_folder is not None:
            options |= _folder_options(model_folder)
        if quick:
            options |= {name: value for name, value in QUICK.items() if OPTION_OF.get(name) not in given}
            options["scaling_sizes_px"] = QUICK_SCALING_PX if scaling else ()
        wants_affinity = affinity_loss or affinity_batch is not None
        has_study = expressions or scaling or options["has_profile"] or wants_affinity
        options["has_grid"] = not has_study if grid is None else grid
        if scaling and not options["has_grid"] and "--image-size" in given:
            raise ValueError("--scaling: has image sizes of its own; leave --image-size out, or add --grid")
        if grid is False and not has_study and not gpu_bar:
            raise ValueError("--no-grid: leaves nothing to measure; add a study such as --profile")
        is_alone = wants_affinity and not (options["has_grid"] or expressions or scaling or options["has_profile"])
        if is_alone and (unread := sorted(given & GRID_OPTIONS)):
            raise ValueError(f"--affinity-loss: does not read {', '.join(unread)}; leave it out, or add --grid")
        if gpu_bar:
            options |= GPU_BAR
        options["device"] = _device(options["device"])
        if wants_affinity and not gpu_bar:
            options["affinity_batch"] = affinity_batch or (GPU_BAR_BATCH if options["device"] == "cuda" else 1)
        spec = BenchmarkSpec(**options)
        if plot is not None and not (spec.has_grid or spec.scaling_sizes_px):
            raise ValueError("--plot: expected the table of cases or --scaling to draw; add --grid")
        if trace is not None and len(spec.models) * len(spec.works) > 1:
            raise ValueError("--trace: expected one model and one work, such as --model fianet --work forward")
        _run(spec, json_file=json_file, plot=plot)


def _run(spec: BenchmarkSpec, *, json_file: Path | None, plot: Path | None) -> None:
    """Measure, write the numbers, and show them."""
    from ..benchmark.report import print_report
    from ..benchmark.run import run_benchmark

    report = run_benchmark(spec)
    try:  # one is there if the other fails
        if json_file is not None:
            json_file.write_text(json.dumps(report.to_dict(), indent=1) + "\n", encoding="utf-8")
    finally:
        print_report(report)
    if plot is not None:
        from ..benchmark.plot import plot_benchmark

        plot_benchmark(report, plot)


def _given(context: typer.Context) -> set[str]:
    """The options on the command line, by their long names."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    names = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    return {f"--{name.replace('_', '-')}" for name in names}


def _names(text: str) -> tuple[str, ...]:
    """Read "lavt,fianet"."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _numbers(option: str, text: str) -> tuple[int, ...]:
    """Read "320,480"."""
    parts = _names(text)
    if not parts or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"{option}: expected numbers separated by commas such as 1,2, got {text!r}")
    return tuple(dict.fromkeys(map(int, parts)))


def _works(text: str, gradient_checkpointing: bool) -> tuple[str, ...]:
    """Read "forward,train"; gradient checkpointing adds a work of its own."""
    works = _names(text)
    one_of("--work", works, (FORWARD, TRAIN))
    return (*works, TRAIN_CHECKPOINTED) if gradient_checkpointing else works


def _device(name: str) -> str:
    """The device that "auto" means here."""
    one_of("--device", (name,), ("auto", "cpu", "cuda"))
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _folder_options(folder: str) -> dict[str, Any]:
    """Settings for the model of a folder; a ValueError where it is none."""
    from ..hub.loading import _check_model_folder

    _check_model_folder(folder, option="--model-folder")
    return {"model_folder": folder, "models": (Path(folder).expanduser().resolve().name,)}
