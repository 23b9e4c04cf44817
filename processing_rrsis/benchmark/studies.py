"""The studies of `rrsis benchmark`: expressions that share an image, cost against pixels, the affinity loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache
from torch import Tensor

from .affinity import DENSE, FORMS, affinity_inputs, affinity_work, value_and_gradient
from .cases import build_model, make_inputs, model_work, prepare_model
from .memory import measure_affinity_memory
from .results import Memory
from .spec import AFFINITY_CHANNELS, FORWARD, BenchmarkSpec, Case
from .study_results import AffinityResult, ExpressionsResult, ScalingResult
from .timing import Timing, Work, is_out_of_memory, time_interleaved

OnRun = Callable[[str], None]


def compare_expressions(spec: BenchmarkSpec, model_name: str, expressions: int, on_run: OnRun) -> ExpressionsResult:
    """Time one call with several expressions on one image against as many single calls, and compare the masks.

    Raises:
        ValueError: If there are fewer than two expressions.
    """
    if expressions < 2:
        raise ValueError(f"--expressions: expected 2 or more, one is a single call itself; got {expressions}")
    case = spec.case(model_name, work=FORWARD, batch_size=1, mode="eager")
    model = build_model(case)
    prepare_model(model, FORWARD)
    inputs = make_inputs(case, model, expressions=expressions)
    rows = [
        {name: value if name == "pixel_values" else value[i : i + 1] for name, value in inputs.items()}
        for i in range(expressions)
    ]
    joint_logits, single_logits = _logits(case, model, [inputs]), _logits(case, model, rows)
    works = {"joint": _calls(case, model, [inputs]), "single": _calls(case, model, rows)}
    timings = time_interleaved(works, rounds=spec.rounds, warmup=spec.warmup, device=case.device, on_run=on_run)
    threshold = 0.0 if spec.model_folder else widest_gap(single_logits)
    return ExpressionsResult(
        case=case,
        expressions=expressions,
        joint_seconds=timings["joint"].seconds,
        single_seconds=timings["single"].seconds,
        differing_pixels=int(((joint_logits > threshold) != (single_logits > threshold)).sum()),
        pixels=joint_logits.numel(),
        largest_logit_difference=float((joint_logits - single_logits).abs().max()),
        threshold=threshold,
    )


def widest_gap(logits: Tensor) -> float:
    """Where to cut logits that know no 0: the middle of the widest gap among their middle half.

    With random weights all are on one side of 0, and a cut at the median would leave pixels on it to rounding.
    """
    ordered = logits.flatten().sort().values
    quarter = len(ordered) // 4
    middle = ordered[quarter : len(ordered) - quarter]
    place = int(middle.diff().argmax())
    return float(middle[place : place + 2].mean())


def _calls(case: Case, model: Any, calls: list[dict[str, Tensor]]) -> Work:
    """The calls one after the other."""
    works = [model_work(case, model, inputs=inputs) for inputs in calls]

    def run() -> None:
        for work in works:
            work.run()

    return Work(run)


def _logits(case: Case, model: Any, calls: list[dict[str, Tensor]]) -> Tensor:
    """Log-odds of all expressions, float32 (E, H, W)."""
    return torch.cat([model_work(case, model, inputs=inputs).run().logits.float() for inputs in calls])


def measure_scaling(spec: BenchmarkSpec, model_name: str, on_run: OnRun) -> ScalingResult:
    """Time a forward pass at each image size, the sizes in turns."""
    if len(spec.image_sizes_px) < 3:
        raise ValueError("--image-size: expected at least three sizes, a line goes through any two points")
    case = spec.case(model_name, work=FORWARD, mode="eager")
    model = build_model(case)
    prepare_model(model, FORWARD)
    works = {str(size): model_work(replace(case, image_size_px=size), model) for size in spec.image_sizes_px}
    timings = time_interleaved(works, rounds=spec.rounds, warmup=spec.warmup, device=case.device, on_run=on_run)
    ran = {int(size): timing.seconds for size, timing in timings.items() if not timing.is_out_of_memory}
    return ScalingResult(
        case=case,
        sizes_px=list(ran),
        seconds=list(ran.values()),
        out_of_memory_px=[size for size in spec.image_sizes_px if size not in ran],
    )


def measure_affinity(spec: BenchmarkSpec, pixels: int, on_run: OnRun) -> AffinityResult:
    """Time the forms of the affinity loss over N pixels in turns, compare their numbers and measure their memory."""
    batch, device = spec.batch_sizes[0], spec.device
    features, labels = affinity_inputs(batch, pixels, device, spec.seed)
    forms = list(FORMS)
    works = {form: affinity_work(form, features, labels) for form in forms}
    timings = time_interleaved(works, rounds=spec.rounds, warmup=spec.warmup, device=device, on_run=on_run)
    differences = _affinity_differences(timings, features, labels)
    del features, labels, works
    clear_device_cache(garbage_collection=True)
    memory = {form: Memory(status="not measured") for form in forms}
    if spec.has_memory:
        settings: dict[str, Any] = {"batch": batch, "pixels": pixels, "device": device}
        memory = {
            form: measure_affinity_memory(form, **settings, threads=spec.threads, seed=spec.seed) for form in forms
        }
    return AffinityResult(
        shape=(batch, pixels, AFFINITY_CHANNELS),
        device=device,
        seconds={form: timing.seconds for form, timing in timings.items()},
        memory=memory,
        differences=differences,
    )


def _affinity_differences(
    timings: dict[str, Timing], features: Tensor, labels: Tensor
) -> dict[str, tuple[float, float]]:
    """Relative differences of value and gradient from the dense form's, of the forms that fit if it does."""
    differences: dict[str, tuple[float, float]] = {}
    fitting = [form for form, timing in timings.items() if not timing.is_out_of_memory]
    if DENSE not in fitting:
        return differences
    try:
        dense_value, dense_gradient = value_and_gradient(DENSE, features, labels)
        for form in fitting:
            if form != DENSE:
                value, gradient = value_and_gradient(form, features, labels)
                largest = float((gradient - dense_gradient).abs().max() / dense_gradient.abs().max())
                differences[form] = abs(value - dense_value) / abs(dense_value), largest
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    return differences
