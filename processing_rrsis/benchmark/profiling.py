"""Where the time of a model goes, by PyTorch's profiler: parts of the forward pass, and operators."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from .cases import build_model, model_work, prepare_model
from .spec import BenchmarkSpec
from .study_results import ProfileResult
from .timing import synchronize

TOP_OPERATORS = 15
PREFIX = "rrsis: "


def profile_model(
    spec: BenchmarkSpec, model_name: str, work_name: str, trace_file: Path | None = None
) -> ProfileResult:
    """Profile one run of a model's work in eager mode, after one that prepares it.

    Args:
        spec: Size, batch, dtype and device.
        model_name: The model.
        work_name: One of `spec.WORKS`.
        trace_file: Where a trace for chrome://tracing goes.
    """
    case = replace(spec.case(model_name, work=work_name), mode="eager")
    model = build_model(case)
    prepare_model(model, case.work)
    work = model_work(case, model)
    with called_modules(model) as parts:
        work.run()
    work.reset()
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if case.device == "cuda" else [])
    with record_parts(parts), profile(activities=activities) as profiler:
        work.run()
        synchronize(case.device)
    work.reset()
    if trace_file is not None:
        aside = trace_file.with_name(f".writing-{trace_file.name}")  # ends as the file does: .gz packs it
        profiler.export_chrome_trace(str(aside))
        os.replace(aside, trace_file.resolve())
    return _read_profile(case, profiler.key_averages())


def _read_profile(case: Any, events: Any) -> ProfileResult:
    """Parts with all that they call; operators without what they call, on a GPU its kernels, which hold the time."""
    is_gpu = case.device == "cuda"
    kind = "device" if is_gpu else "cpu"
    parts = [
        (event.key.removeprefix(PREFIX), getattr(event, f"{kind}_time_total") / 1e6)
        for event in events
        if event.key.startswith(PREFIX) and event.device_type == DeviceType.CPU
    ]
    operators = [
        (event.key, event.count, getattr(event, f"self_{kind}_time_total") / 1e6)
        for event in events
        if not event.key.startswith(PREFIX) and (event.device_type == DeviceType.CUDA) == is_gpu
    ]
    operators.sort(key=lambda row: -row[2])
    seconds = sum(row[2] for row in operators)
    return ProfileResult(case, parts=parts, operators=operators[:TOP_OPERATORS], operator_seconds=seconds)


@contextmanager
def called_modules(model: nn.Module) -> Iterator[dict[str, nn.Module]]:
    """Find, in a run inside, the modules that the model itself calls; those that they call are a part of them."""
    parts: dict[str, nn.Module] = {}
    names = {module: name for name, module in model.named_modules() if module is not model}
    depth = 0

    def enter(module: nn.Module, *_: Any) -> None:
        nonlocal depth
        if depth == 0:
            parts[names[module]] = module
        depth += 1

    def leave(*_: Any) -> None:
        nonlocal depth
        depth -= 1

    with _hooks(names, before=enter, after=leave):
        yield parts


@contextmanager
def record_parts(parts: dict[str, nn.Module]) -> Iterator[None]:
    """Name the forward passes of modules for PyTorch's profiler."""
    names = {module: name for name, module in parts.items()}
    opened: list[record_function] = []

    def enter(module: nn.Module, *_: Any) -> None:
        opened.append(record_function(PREFIX + names[module]))
        opened[-1].__enter__()

    def leave(*_: Any) -> None:
        opened.pop().__exit__(None, None, None)

    with _hooks(names, before=enter, after=leave):
        yield


@contextmanager
def _hooks(modules: Any, *, before: Callable[..., None], after: Callable[..., None]) -> Iterator[None]:
    """Hooks around the forward passes of modules, taken off at the end."""
    hooks = [module.register_forward_pre_hook(before) for module in modules]
    hooks += [module.register_forward_hook(after) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
