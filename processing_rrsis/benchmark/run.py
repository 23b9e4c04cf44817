"""The table of cases of `rrsis benchmark`: time, operations and peak memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache
from rich.console import Console
from rich.progress import Progress

from ..terminal import new_progress
from .cases import build_model, build_reference, count_flops, model_work, prepare_model, reference_work
from .memory import measure_memory
from .results import OK, OUT_OF_MEMORY, CaseResult, Memory, Ratio
from .spec import BenchmarkSpec, Case
from .timing import Timing, is_out_of_memory, time_interleaved

Made = TypeVar("Made")
REFERENCE = "timm"


@contextmanager
def prepared_machine(spec: BenchmarkSpec) -> Iterator[Progress]:
    """The threads that were asked for, and bars that leave nothing behind, on the error stream.

    Raises:
        ValueError: If CUDA is asked for and not there.
    """
    if spec.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "--device: expected a GPU for cuda, PyTorch finds none here; use --device cpu, or a PyTorch built for "
            "CUDA on a machine with a GPU"
        )
    threads = torch.get_num_threads()
    torch.set_num_threads(spec.threads or threads)
    try:
        with new_progress(Console(stderr=True)) as bars:
            yield bars
    finally:
        torch.set_num_threads(threads)


@contextmanager
def one_bar(bars: Progress, description: str, total: int) -> Iterator[Callable[..., None]]:
    """A bar that moves by one at each call, whatever it is told."""
    task = bars.add_task(description, total=total)
    yield lambda *_: bars.advance(task)
    bars.remove_task(task)


def measure_cases(spec: BenchmarkSpec, bars: Progress) -> list[CaseResult]:
    """Time all groups, then measure memory, when this process holds no model any more."""
    groups = list(spec.groups())
    runs = spec.rounds + spec.warmup
    results: list[CaseResult] = []
    with one_bar(bars, "runs", sum((len(group) + 1) * runs for group in groups)) as step:
        for group in groups:
            results += measure_group(group, rounds=spec.rounds, warmup=spec.warmup, on_run=step)
    if not spec.has_memory:
        return results
    with one_bar(bars, "peak memory, a process each", len(results)) as step:
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
    device = cases[0].device
    swin = _if_it_fits(lambda: reference_work(cases[0], build_reference(cases[0])))
    works = {} if swin is None else {REFERENCE: swin}
    models: dict[tuple[str, bool], Any] = {}
    flops: dict[str, int | None] = {}
    for case in cases:
        key = (case.model, case.dtype == "bfloat16")
        if key not in models:
            models[key] = _if_it_fits(lambda case=case: build_model(case))  # type: ignore[misc]
        model = models[key]
        if model is None:
            continue
        prepare_model(model, case.work)
        works[_name(case)] = model_work(case, model)
        if flops.get(case.model) is None:
            eager = model_work(replace(case, mode="eager"), model)
            flops[case.model] = _if_it_fits(lambda eager=eager: count_flops(eager))  # type: ignore[misc]
            model.zero_grad(set_to_none=True)
    timings = time_interleaved(works, rounds=rounds, warmup=warmup, device=device, on_run=on_run)
    results = [_result(case, timings, flops.get(case.model)) for case in cases]
    works.clear()
    models.clear()
    if any(case.mode == "compile" for case in cases):
        torch.compiler.reset()
    clear_device_cache(garbage_collection=True)
    return results


def _name(case: Case) -> str:
    return f"{case.model} {case.variant}"


def _if_it_fits(make: Callable[[], Made]) -> Made | None:
    """What `make` returns, or `None` where memory is not enough for it."""
    try:
        return make()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    clear_device_cache(garbage_collection=True)
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
