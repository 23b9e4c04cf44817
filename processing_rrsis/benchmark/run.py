"""The benchmark of the three networks, as `rrsis benchmark` runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from .results import OK, OUT_OF_MEMORY, CaseResult, Memory, Ratio
from .spec import BenchmarkSpec, Case
from .study_results import BenchmarkReport

if TYPE_CHECKING:
    from rich.progress import Progress

    from .timing import Timing

Made = TypeVar("Made")
REFERENCE = "timm"
PRODUCTS = 2
"""Kinds of ceilings of each dtype."""


def run_benchmark(spec: BenchmarkSpec) -> BenchmarkReport:
    """Measure what the settings ask for.

    Raises:
        ValueError: If CUDA is asked for and not there.
    """
    import torch

    from .cases import REFERENCES
    from .machine import describe_machine, measure_ceilings

    if spec.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "--device: expected a GPU for cuda (and --gpu-bar), PyTorch finds none here; use --device cpu, or a "
            "PyTorch built for CUDA on a machine with a GPU"
        )
    threads = torch.get_num_threads()
    if spec.threads is not None:
        torch.set_num_threads(spec.threads)
    try:
        machine = describe_machine(spec.device)
        dtypes = ("float32",) if all(dtype == "float32" for dtype, _ in spec.variants) else ("float32", "bfloat16")
        with _progress() as bars:
            has_products = spec.has_grid
            with _bar(bars, "machine's ceilings", PRODUCTS * len(dtypes) * has_products) as step:
                scale = spec.ceiling_scale
                ceilings = measure_ceilings(spec.device, dtypes, scale=scale, on_run=step) if has_products else []
            cases = _measure_grid(spec, bars) if spec.has_grid else []
            studies = _run_studies(spec, bars)
    finally:
        torch.set_num_threads(threads)
    reference = REFERENCES[spec.model_size][0]
    if spec.model_size == "tiny":
        reference += ", made tiny"
    return BenchmarkReport(spec=spec, reference=reference, machine=machine, ceilings=ceilings, cases=cases, **studies)


@contextmanager
def _progress() -> Iterator[Progress]:
    """Progress bars that leave nothing behind, on the error stream."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield bars


@contextmanager
def _bar(bars: Progress, description: str, total: int) -> Iterator[Callable[..., None]]:
    """A bar that moves by one at each call, whatever it is told."""
    task = bars.add_task(description, total=total, visible=total > 0)
    yield lambda *_: bars.advance(task)
    bars.remove_task(task)


def _measure_grid(spec: BenchmarkSpec, bars: Progress) -> list[CaseResult]:
    """Time all groups, then measure memory, when this process holds no model any more."""
    groups = list(spec.groups())
    runs = spec.rounds + spec.warmup
    results: list[CaseResult] = []
    with _bar(bars, "runs", sum((len(group) + 1) * runs for group in groups)) as step:
        for group in groups:
            results += measure_group(group, rounds=spec.rounds, warmup=spec.warmup, on_run=step)
    if not spec.has_memory:
        return results
    from .memory import measure_memory

    with _bar(bars, "peak memory, a process each", len(results)) as step:
        for number, result in enumerate(results):
            is_ok = result.status == OK
            results[number] = replace(
                result, memory=measure_memory(result.case) if is_ok else Memory(status=OUT_OF_MEMORY)
            )
            step()
    return results


def measure_group(
    cases: list[Case], *, rounds: int, warmup: int, on_run: Callable[[str], None] = lambda name: None
) -> list[CaseResult]:
    """Time cases of one work, image size and batch in turns with timm's Swin, and count their operations."""
    import torch

    from .cases import build_model, build_reference, count_flops, model_work, prepare_model, reference_work
    from .timing import free_memory, time_interleaved

    device = cases[0].device
    swin = _if_it_fits(lambda: reference_work(cases[0], build_reference(cases[0])), device)
    works = {} if swin is None else {REFERENCE: swin}
    models: dict[tuple[str, bool], Any] = {}
    flops: dict[str, int | None] = {}
    for case in cases:
        key = (case.model, case.dtype == "bfloat16")
        if key not in models:
            models[key] = _if_it_fits(lambda case=case: build_model(case), device)  # type: ignore[misc]
        model = models[key]
        if model is None:
            continue
        prepare_model(model, case.work)
        works[_name(case)] = model_work(case, model)
        if flops.get(case.model) is None:
            eager = model_work(replace(case, mode="eager"), model)
            flops[case.model] = _if_it_fits(lambda eager=eager: count_flops(eager), device)  # type: ignore[misc]
            model.zero_grad(set_to_none=True)
    timings = time_interleaved(works, rounds=rounds, warmup=warmup, device=device, on_run=on_run)
    results = [_result(case, timings, flops.get(case.model)) for case in cases]
    works.clear()
    models.clear()
    if any(case.mode == "compile" for case in cases):
        torch.compiler.reset()
    free_memory(device)
    return results


def _name(case: Case) -> str:
    return f"{case.model} {case.variant}"


def _if_it_fits(make: Callable[[], Made], device: str) -> Made | None:
    """What `make` returns, or `None` where memory is not enough for it."""
    from .timing import free_memory, is_out_of_memory

    try:
        return make()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    free_memory(device)
    return None


def _result(case: Case, timings: dict[str, Timing], flops: int | None) -> CaseResult:
    timing, reference = timings.get(_name(case)), timings.get(REFERENCE)
    if timing is None or timing.is_out_of_memory:
        return CaseResult(case, status=OUT_OF_MEMORY, flops=flops)
    eager = timings.get(_name(case.same_work))
    return CaseResult(
        case,
        seconds=timing.seconds,
        reference_seconds=reference.seconds if reference else [],
        first_call_seconds=timing.first_call_seconds,
        flops=flops,
        against_eager=Ratio.of(timing.seconds, eager.seconds) if eager and eager is not timing else None,
    )


def _run_studies(spec: BenchmarkSpec, bars: Progress) -> dict[str, Any]:
    """The parts of the report beside the cases."""
    from .affinity import FORMS
    from .profiling import RUNS, profile_model
    from .studies import compare_expressions, measure_affinity, measure_scaling

    runs, models = spec.rounds + spec.warmup, spec.models
    found: dict[str, Any] = {"expressions": [], "scaling": [], "profiles": [], "affinity": None}
    if spec.expressions:
        with _bar(bars, "expressions on one image", 2 * runs * len(models)) as step:
            found["expressions"] = [compare_expressions(spec, model, step) for model in models]
    if spec.scaling_sizes_px:
        with _bar(bars, "cost against pixels", len(spec.scaling_sizes_px) * runs * len(models)) as step:
            found["scaling"] = [measure_scaling(spec, model, step) for model in models]
    if spec.has_profile:
        with _bar(bars, "profile", (RUNS + 1) * len(models) * len(spec.works)) as step:
            found["profiles"] = [
                profile_model(spec, model, work_name=work, on_run=step) for model in models for work in spec.works
            ]
    if spec.affinity_batch:
        with _bar(bars, "affinity loss", len(FORMS) * runs) as step:
            found["affinity"] = measure_affinity(spec, step)
    return found
