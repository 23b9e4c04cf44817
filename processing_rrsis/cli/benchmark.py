"""`rrsis benchmark`: how fast and how lean the networks are on this machine, beside timm's Swin."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..benchmark.spec import (
    AFFINITY_PIXELS,
    DTYPES,
    FORWARD,
    MODEL_NAMES,
    MODEL_SIZES,
    MODES,
    SCALING_SIZES_PX,
    TRAIN,
    TRAIN_CHECKPOINTED,
    BenchmarkSpec,
    one_of,
)
from ..result_files import check_untouched
from .common import RESULTS, JsonFile, _plain_errors, check_result_files, write_json
from .help import HelpfulCommand, HelpfulGroup

if TYPE_CHECKING:
    from rich.console import Console

_WHAT, _HOW = "What is measured", "How it is measured"
benchmark = typer.Typer(name="benchmark", cls=HelpfulGroup, rich_markup_mode=None)

ALL_MODELS = ",".join(MODEL_NAMES)
ALL_SIZES = ",".join(map(str, SCALING_SIZES_PX))
Models = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help=f"{', '.join(MODEL_NAMES)}, separated by commas; or a model's folder.",
        rich_help_panel=_WHAT,
    ),
]
ModelSize = Annotated[
    str,
    typer.Option(
        help="base: as published (Swin-B, BERT-base), random weights; tiny: for smoke tests.", rich_help_panel=_WHAT
    ),
]
Sizes = Annotated[str, typer.Option("--image-size", "-s", help="Sides of the images in px.", rich_help_panel=_WHAT)]
Dtype = Annotated[str, typer.Option(help=f"{', '.join(DTYPES)} (float32 weights).", rich_help_panel=_WHAT)]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.", rich_help_panel=_HOW)]
Rounds = Annotated[int, typer.Option(min=1, help="Timed runs of each case, in turns.", rich_help_panel=_HOW)]
Warmup = Annotated[int, typer.Option(min=0, help="Runs before the clock starts.", rich_help_panel=_HOW)]
Threads = Annotated[
    int | None,
    typer.Option("--cpu-threads", min=1, help="Threads of the CPU.", rich_help_panel=_HOW, show_default=False),
]
HasMemory = Annotated[bool, typer.Option(help="Peak memory, each case in a process of its own.", rich_help_panel=_HOW)]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of weights and inputs.", rich_help_panel=_WHAT)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace earlier results.", rich_help_panel=RESULTS)]


@benchmark.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    model: Models = ALL_MODELS,
    model_size: ModelSize = MODEL_SIZES[0],
    image_size: Sizes = "480",
    batch_size: Annotated[
        str, typer.Option("--batch-size", "-b", help="Images of a batch.", rich_help_panel=_WHAT)
    ] = "1",
    dtype: Dtype = "float32",
    mode: Annotated[str, typer.Option(help=f"{', '.join(MODES)}.", rich_help_panel=_WHAT)] = "eager",
    work: Annotated[
        str, typer.Option(help="forward, train (forward and backward, no optimizer).", rich_help_panel=_WHAT)
    ] = FORWARD,
    gradient_checkpointing: Annotated[
        bool,
        typer.Option(
            "--gradient-checkpointing", help="Also a training step with gradient checkpointing.", rich_help_panel=_WHAT
        ),
    ] = False,
    device: Device = "auto",
    rounds: Rounds = 5,
    warmup: Warmup = 1,
    threads: Threads = None,
    memory: HasMemory = True,
    seed: Seed = 0,
    json_file: JsonFile = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure the networks on this machine: time, memory, operations, beside timm's Swin-B.

    Every model is crossed with every image size, batch, dtype, mode and work.
    The cases of one size, batch and work run in turns with timm's
    swin_base_patch4_window12_384 (forward_features at the same size, float32,
    eager), so that "× Swin" can be compared between machines. Expressions have
    20 tokens.

    Peak memory comes from a process that does nothing else: resident memory on
    a CPU, PyTorch's tensors on a GPU. What does not fit is a row "out of memory".

    Examples:
        rrsis benchmark --model-size tiny -s 64

        rrsis benchmark -m fianet,lavt --work forward,train --json cpu.json

        rrsis benchmark -m fianet --work train --gradient-checkpointing --rounds 3

        rrsis benchmark profile -m fianet

        rrsis benchmark expressions -m fianet
    """
    if context.invoked_subcommand is not None:
        return
    with _plain_errors():
        json_file = _results({"--json": json_file}, model, overwrite)["--json"]
        spec = BenchmarkSpec(
            **_models(model, model_size),
            image_sizes_px=_numbers("--image-size", image_size),
            batch_sizes=_numbers("--batch-size", batch_size),
            variants=tuple(product(_names(dtype), _names(mode))),
            works=_works(work, gradient_checkpointing),
            device=_device(device),
            rounds=rounds,
            warmup=warmup,
            threads=threads,
            seed=seed,
            has_memory=memory,
        )
        from ..benchmark.cases import REFERENCES
        from ..benchmark.report import print_cases
        from ..benchmark.run import measure_cases, prepared_machine

        with prepared_machine(spec) as bars:
            rows = measure_cases(spec, bars)
        print_cases(rows, REFERENCES[spec.model_size][0], _report(spec, "cases", rows, json_file))


@benchmark.command(cls=HelpfulCommand)
def profile(
    model: Models = ALL_MODELS,
    model_size: ModelSize = MODEL_SIZES[0],
    image_size: Annotated[int, typer.Option("--image-size", "-s", help="Side of the image in px.")] = 480,
    dtype: Dtype = "float32",
    work: Annotated[
        str, typer.Option(help="forward, train (forward and backward, no optimizer).", rich_help_panel=_WHAT)
    ] = FORWARD,
    device: Device = "auto",
    threads: Threads = None,
    trace: Annotated[
        Path | None, typer.Option(help="Write a trace for chrome://tracing; one model.", show_default=False)
    ] = None,
    seed: Seed = 0,
    json_file: JsonFile = None,
    overwrite: Overwrite = False,
) -> None:
    """Show where the time goes: parts of the forward pass, and operators, by PyTorch's profiler.

    Examples:
        rrsis benchmark profile -m fianet --work train --trace trace.json
    """
    with _plain_errors():
        json_file, trace = _results({"--json": json_file, "--trace": trace}, model, overwrite).values()
        works, sizes = _works(work, False), (image_size,)
        spec = BenchmarkSpec(
            **_models(model, model_size),
            image_sizes_px=sizes,
            variants=tuple((name, MODES[0]) for name in _names(dtype)[:1]),
            works=works,
            device=_device(device),
            threads=threads,
            seed=seed,
        )
        if trace is not None and len(spec.models) * len(works) > 1:
            raise ValueError("--trace: expected one model and one work, such as --model fianet --work forward")
        from ..benchmark.profiling import profile_model
        from ..benchmark.report import print_profile
        from ..benchmark.run import one_bar, prepared_machine

        rows = []
        with prepared_machine(spec) as bars, one_bar(bars, "profile", len(spec.models) * len(works)) as step:
            for name, each in product(spec.models, works):
                rows.append(profile_model(spec, name, each, trace))
                step()
        console = _report(spec, "profiles", rows, json_file)
        for row in rows:
            print_profile(row, console)


@benchmark.command(cls=HelpfulCommand)
def scaling(
    model: Models = ALL_MODELS,
    model_size: ModelSize = MODEL_SIZES[0],
    image_size: Sizes = ALL_SIZES,
    dtype: Dtype = "float32",
    device: Device = "auto",
    rounds: Rounds = 5,
    warmup: Warmup = 1,
    threads: Threads = None,
    seed: Seed = 0,
    json_file: JsonFile = None,
    overwrite: Overwrite = False,
) -> None:
    """Fit the cost of a forward pass against the pixels of the image.

    Examples:
        rrsis benchmark scaling -m fianet -s 256,480,768
    """
    with _plain_errors():
        json_file = _results({"--json": json_file}, model, overwrite)["--json"]
        spec = BenchmarkSpec(
            **_models(model, model_size),
            image_sizes_px=_numbers("--image-size", image_size),
            variants=tuple((name, MODES[0]) for name in _names(dtype)[:1]),
            device=_device(device),
            rounds=rounds,
            warmup=warmup,
            threads=threads,
            seed=seed,
        )
        from ..benchmark.report import print_scaling
        from ..benchmark.run import one_bar, prepared_machine
        from ..benchmark.studies import measure_scaling

        runs = (rounds + warmup) * len(spec.image_sizes_px) * len(spec.models)
        with prepared_machine(spec) as bars, one_bar(bars, "cost against pixels", runs) as step:
            rows = [measure_scaling(spec, name, step) for name in spec.models]
        console = _report(spec, "scaling", rows, json_file)
        for row in rows:
            print_scaling(row, console)


@benchmark.command(cls=HelpfulCommand)
def expressions(
    model: Models = ALL_MODELS,
    model_size: ModelSize = MODEL_SIZES[0],
    number: Annotated[int, typer.Option("--expressions", "-n", help="Expressions on one image.")] = 8,
    image_size: Annotated[int, typer.Option("--image-size", "-s", help="Side of the image in px.")] = 480,
    device: Device = "auto",
    rounds: Rounds = 5,
    warmup: Warmup = 1,
    threads: Threads = None,
    seed: Seed = 0,
    json_file: JsonFile = None,
    overwrite: Overwrite = False,
) -> None:
    """Time several expressions on one image in one call against as many single calls.

    Examples:
        rrsis benchmark expressions -m fianet -n 8
    """
    with _plain_errors():
        json_file = _results({"--json": json_file}, model, overwrite)["--json"]
        spec = BenchmarkSpec(
            **_models(model, model_size),
            image_sizes_px=(image_size,),
            device=_device(device),
            rounds=rounds,
            warmup=warmup,
            threads=threads,
            seed=seed,
        )
        from ..benchmark.report import expressions_line
        from ..benchmark.run import one_bar, prepared_machine
        from ..benchmark.studies import compare_expressions

        runs = 2 * (rounds + warmup) * len(spec.models)
        with prepared_machine(spec) as bars, one_bar(bars, "expressions on one image", runs) as step:
            rows = [compare_expressions(spec, name, number, step) for name in spec.models]
        console = _report(spec, "expressions", rows, json_file)
        for row in rows:
            console.print(expressions_line(row))


@benchmark.command(cls=HelpfulCommand)
def affinity(
    batch_size: Annotated[
        int, typer.Option("--batch-size", "-b", min=1, help="Images of a batch.", rich_help_panel=_WHAT)
    ] = 1,
    pixels: Annotated[
        int, typer.Option("--pixels", "-n", min=2, help="N, pixels of a stage; 3,600: stage 2 of Swin-B at 480 px.")
    ] = AFFINITY_PIXELS,
    device: Device = "auto",
    rounds: Rounds = 5,
    warmup: Warmup = 1,
    threads: Threads = None,
    memory: HasMemory = True,
    seed: Seed = 0,
    json_file: JsonFile = None,
    overwrite: Overwrite = False,
) -> None:
    """Time DANet's affinity loss against its dense form, which stores the N×N matrices.

    Examples:
        rrsis benchmark affinity --pixels 16384
    """
    with _plain_errors():
        json_file = _results({"--json": json_file}, None, overwrite)["--json"]
        spec = BenchmarkSpec(
            batch_sizes=(batch_size,),
            device=_device(device),
            rounds=rounds,
            warmup=warmup,
            threads=threads,
            seed=seed,
            has_memory=memory,
        )
        from ..benchmark.affinity import FORMS
        from ..benchmark.report import print_affinity
        from ..benchmark.run import one_bar, prepared_machine
        from ..benchmark.studies import measure_affinity

        with prepared_machine(spec) as bars, one_bar(bars, "affinity loss", len(FORMS) * (rounds + warmup)) as step:
            result = measure_affinity(spec, pixels, step)
        print_affinity(result, _report(spec, "affinity_loss", [result], json_file))


def _results(files: dict[str, Path | None], model: str | None, overwrite: bool) -> dict[str, Path | None]:
    """The files to write by the options' names, once it is known that they replace nothing."""
    found = check_result_files(files)
    check_untouched(found.values(), reads=[model], overwrite=overwrite)
    return found


def _report(spec: BenchmarkSpec, name: str, rows: list[Any], json_file: Path | None) -> Console:
    """Write the numbers, then say what machine they come from; the console shows what follows."""
    from dataclasses import asdict

    from rich.console import Console

    from ..benchmark.machine import describe_machine
    from ..benchmark.report import machine_line

    machine = describe_machine(spec.device)
    if json_file is not None:
        report = {"settings": asdict(spec), "machine": machine, name: [row.to_dict() for row in rows]}
        write_json(report, json_file)
    console = Console(highlight=False, markup=False)
    console.print(machine_line(machine))
    return console


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


def _models(models: str, model_size: str) -> dict[str, Any]:
    """Settings for random weights of named models, or for the model of a folder; a ValueError where it is none."""
    if "/" not in models and not Path(models).expanduser().is_dir():
        return {"models": _names(models), "model_size": model_size}
    from ..hub.loading import _check_model_folder

    _check_model_folder(models)
    return {"model_folder": models, "models": (Path(models).expanduser().resolve().name,)}
