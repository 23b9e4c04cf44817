"""Where the time of a model goes: its parts, timed from outside in eager mode, and PyTorch's operators."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from .cases import build_model, model_work, prepare_model
from .spec import FORWARD, BenchmarkSpec
from .study_results import ProfileResult
from .timing import synchronize

RUNS = 3
TOP_OPERATORS = 15
PREFIX = "rrsis: "
REST = "upsampling and all else"
BACKWARD = "backward pass, all parts"
MODEL_METHODS = {"encode_text": "text encoder", "compute_loss": "loss"}
MULTI_SCALE = ("tmem", "cim", "lgce")


class PartTimer:
    """Times nested parts; what an inner part takes is not counted for the outer one.

    Args:
        device: `"cuda"` waits for the queue at every boundary, so that the parts' sum is no less than the whole.
        clock: Seconds.
    """

    def __init__(self, device: str = "cpu", clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: dict[str, float] = {}
        self._device = device
        self._clock = clock
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time inside for `name`."""
        self._switch()
        self._open.append(name)
        try:
            with record_function(PREFIX + name):
                yield
        finally:
            self._switch()
            self._open.pop()

    def _switch(self) -> None:
        synchronize(self._device)
        now = self._clock()
        if self._open:
            self.seconds[self._open[-1]] = self.seconds.get(self._open[-1], 0.0) + now - self._since
        self._since = now

    @contextmanager
    def watch(self, owner: Any, method: str, name: str) -> Iterator[None]:
        """Count calls of a method."""
        original = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return original(*args, **kwargs)

        setattr(owner, method, timed)
        try:
            yield
        finally:
            delattr(owner, method)  # the class's own shows again

    @contextmanager
    def watch_module(self, module: nn.Module, name: str) -> Iterator[None]:
        """Count forward passes of a module, by hooks."""
        opened: list[Any] = []

        def enter(*_: Any) -> None:
            opened.append(self.part(name))
            opened[-1].__enter__()

        def leave(*_: Any) -> None:
            opened.pop().__exit__(None, None, None)

        hooks = [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


@contextmanager
def watch_parts(model: Any, timer: PartTimer) -> Iterator[None]:
    """Time the parts of one of the three networks."""
    with ExitStack() as stack:
        stack.enter_context(timer.watch_module(model.vision.patch_embed, "patch embedding"))
        for number, stage in enumerate(model.vision.layers, start=1):
            stack.enter_context(timer.watch_module(stage, f"Swin stage {number}"))
        for method, name in MODEL_METHODS.items():
            stack.enter_context(timer.watch(model, method, name))
        for number, fusion in enumerate(model.fusion, start=1):
            stack.enter_context(timer.watch_module(fusion, f"fusion {number}"))
        named = {"decoder": "decoder", "head": "head", "predictor": "head"}
        named |= {name: f"multi-scale module ({name})" for name in MULTI_SCALE}
        for attribute, name in named.items():
            if hasattr(model, attribute):
                stack.enter_context(timer.watch_module(getattr(model, attribute), name))
        yield


def profile_model(
    spec: BenchmarkSpec, model_name: str, work_name: str, on_run: Callable[[str], None]
) -> ProfileResult:
    """Profile a model's work: parts first, operators in runs of their own, since watching them costs time."""
    case = replace(spec.case(model_name, work=work_name), mode="eager")
    model = build_model(case)
    prepare_model(model, case.work)
    work = model_work(case, model)
    work.run()
    work.reset()
    timer = PartTimer(case.device)
    with watch_parts(model, timer), timer.watch(model, "forward", REST):
        for _ in range(RUNS):
            with timer.part(BACKWARD):
                work.run()
            work.reset()
            on_run("parts")
        parts = sorted(timer.seconds.items(), key=lambda item: -item[1])
        if case.work == FORWARD:
            parts = [(name, seconds) for name, seconds in parts if name != BACKWARD]
        operators, total = _operators(work, case.device, spec.trace_file)
    on_run("operators")
    return ProfileResult(case, parts=parts, operators=operators, operator_seconds=total, runs=RUNS)


def _operators(work: Any, device: str, trace_file: str | None) -> tuple[list[tuple[str, int, float]], float]:
    """The operators that take longest by themselves, with calls and seconds, and the seconds of all; one run."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
    with profile(activities=activities) as profiler:
        work.run()
        synchronize(device)
    work.reset()
    if trace_file is not None:
        profiler.export_chrome_trace(trace_file)
    is_gpu = device == "cuda"  # an operator and its kernels hold the same time: on a GPU the kernels are listed
    attribute = "self_device_time_total" if is_gpu else "self_cpu_time_total"
    rows = [
        (event.key, event.count, getattr(event, attribute) / 1e6)
        for event in profiler.key_averages()
        if not event.key.startswith(PREFIX) and (event.device_type == DeviceType.CUDA) == is_gpu
    ]
    rows.sort(key=lambda row: -row[2])
    return rows[:TOP_OPERATORS], sum(row[2] for row in rows)
