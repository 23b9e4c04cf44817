"""Tables and sentences of `rrsis benchmark`."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from ..terminal import new_table
from .results import OK, OUT_OF_MEMORY, CaseResult, Memory, Ratio
from .spec import TRAIN_CHECKPOINTED, Case
from .study_results import AffinityResult, ExpressionsResult, ProfileResult, ScalingResult

GIB = 2**30
SHORT_DTYPES = {"float32": "f32", "bfloat16": "bf16", "autocast": "amp"}
SHORT_WORKS = {TRAIN_CHECKPOINTED: "train ckpt"}
MISSING = "–"
RATIOS = (
    "× Swin: time over that of timm's {reference}, float32, eager, at the same size and batch, in turns: "
    "of the medians; least: of the fastest runs; round: median of the rounds' own ratios. × f32: over the "
    "same model in float32, eager. Amp: autocast. First: the first call, with all that is compiled in it."
)
COUNTED = (
    "GFLOP: products of matrices, convolutions and fused attention, a multiplication and an addition counted as two; "
    "element by element operations, norms and softmax are not counted, and what gradient checkpointing computes again "
    "is."
)


def print_cases(rows: Sequence[CaseResult], reference: str, console: Console) -> None:
    """Print the table of cases and what its columns mean."""
    console.print(times_table(rows))
    console.print(operations_table(rows))
    console.print(RATIOS.format(reference=reference))
    console.print(COUNTED)
    for note in memory_notes(rows):
        console.print(note)


def print_scaling(result: ScalingResult, console: Console) -> None:
    """Print what each size costs, and the line through it."""
    console.print(scaling_table(result))
    console.print(scaling_line(result))


def print_profile(result: ProfileResult, console: Console) -> None:
    """Print the parts and the operators."""
    console.print(parts_table(result))
    console.print(operators_table(result))


def print_affinity(result: AffinityResult, console: Console) -> None:
    """Print the forms of the affinity loss and how they compare."""
    console.print(affinity_table(result))
    for form in result.linear_forms:
        console.print(affinity_line(result, form))


def machine_line(machine: dict[str, Any]) -> str:
    """Hardware and versions, in a sentence."""
    bfloat16 = "AVX-512" if machine["has_avx512_bf16"] else "no AVX-512"
    text = (
        f"{machine['processor']}, cores: {machine['cores']}, threads: {machine['threads']}, "
        f"{machine['cpu_capability']}, {bfloat16} instructions for bfloat16; torch {machine['torch']}, "
        f"timm {machine['timm']}, transformers {machine['transformers']}"
    )
    if "gpu" in machine:
        tf32 = "TF32" if machine["float32_convolution_in_tf32"] else "float32"
        text = (
            f"{machine['gpu']}, {machine['gpu_memory_bytes'] / GIB:.0f} GiB, CUDA {machine['cuda']}, float32 matrix "
            f"products: {machine['float32_matrix_product']}, float32 convolutions in {tf32}; {text}"
        )
    return text


def _number(value: float | None, form: str = ".2f") -> str:
    return MISSING if value is None else format(value, form)


def _significant(value: float | None) -> str:
    """With three digits, or all that stand before the point."""
    return MISSING if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _case_table(title: str, columns: Sequence[str]) -> Table:
    table = new_table(("model", "work", "how", "px, b"), columns, title=title)
    table.padding = (0, 0, 0, 0)  # 80 columns hold the longest row
    return table


def _case_cells(case: Case) -> list[str]:
    work, dtype = SHORT_WORKS.get(case.work, case.work), SHORT_DTYPES[case.dtype]
    return [case.model, work, f"{dtype} {case.mode}", f"{case.image_size_px}, {case.batch_size}"]


def times_table(rows: Sequence[CaseResult]) -> Table:
    """Time of each case against timm's Swin, for 80 columns."""
    table = _case_table("Time", ("s", "× Swin", "least", "round", "× f32"))
    for row in rows:
        if row.median_seconds is None:
            table.add_row(*_case_cells(row.case), row.status)
            continue
        eager = row.against_eager.of_medians if row.against_eager else None
        seconds = f"{row.median_seconds:.3f}"
        table.add_row(*_case_cells(row.case), seconds, *_ratio_cells(row.ratio), _number(eager))
    return table


def _ratio_cells(ratio: Ratio | None) -> list[str]:
    if ratio is None:
        return [MISSING] * 3
    return [_number(value) for value in (ratio.of_medians, ratio.of_minima, ratio.median_of_rounds)]


def operations_table(rows: Sequence[CaseResult]) -> Table:
    """Operations, peak memory and the first call of each case, for 80 columns."""
    columns = ("GFLOP", "GFLOP/s", "peak GiB", "growth", "first s")
    table = _case_table("Operations and memory", columns)
    for row in rows:
        counted = (_significant(row.flops / 1e9 if row.flops else None), _significant(row.gflops_per_second))
        first = _number(row.first_call_seconds)
        table.add_row(*_case_cells(row.case), *counted, *_memory_cells(row.memory), first)
    return table


def _memory_cells(memory: Memory | None) -> list[str]:
    if memory is not None and memory.status == OUT_OF_MEMORY:
        return [OUT_OF_MEMORY, MISSING]
    sizes = (memory.peak, memory.growth) if memory is not None else (None, None)
    return [_number(size / GIB if size is not None else None) for size in sizes]


def memory_notes(rows: Sequence[CaseResult]) -> list[str]:
    """What the memory columns hold, and what went wrong in measuring them."""
    memories = [row.memory for row in rows if row.memory]
    sources = sorted({memory.source for memory in memories if memory.source})
    notes = (
        [
            f"Peak: of a process that does this alone ({', '.join(sources)}); growth: over the moment before, with "
            "the model built."
        ]
        if sources
        else []
    )
    return notes + sorted({memory.status for memory in memories if memory.status not in (OK, OUT_OF_MEMORY)})


def expressions_line(result: ExpressionsResult) -> str:
    """Several expressions on one image, in a sentence."""
    ratio = Ratio.of(result.joint_seconds, result.single_seconds)
    limit = (
        "0"
        if result.threshold == 0
        else f"{result.threshold:.3g} (random weights: in the widest gap of their middle half)"
    )
    differing = (
        "the same masks"
        if result.differing_pixels == 0
        else (f"masks that differ in {result.differing_pixels} of {result.pixels} pixels")
    )
    found = ", ".join(_ratio_cells(ratio))
    case = result.case
    return (
        f"{case.model}, {case.variant}, {case.image_size_px} px: {result.expressions} expressions in one call "
        f"take {found} (medians, least, round) of as many single calls, with {differing}, logits cut at {limit} "
        f"(largest difference {result.largest_logit_difference:.1e})."
    )


def scaling_table(result: ScalingResult) -> Table:
    """Cost of each size, for 80 columns."""
    case, fit = result.case, result.fit
    columns = ("megapixels", "s", "s/megapixel", "from the line")
    table = new_table(("px",), columns, title=f"{case.model}, {case.variant}: cost against pixels on {case.device}")
    for i, size in enumerate(result.sizes_px):
        deviation = f"{fit.deviations[i]:+.1%}" if fit else MISSING
        rate = result.seconds_per_megapixel[i]
        table.add_row(str(size), f"{size**2 / 1e6:.3f}", f"{result.medians[i]:.3f}", f"{rate:.3f}", deviation)
    for size in result.out_of_memory_px:
        table.add_row(str(size), f"{size**2 / 1e6:.3f}", OUT_OF_MEMORY)
    return table


def scaling_line(result: ScalingResult) -> str:
    """How linear the cost is, in a sentence."""
    fit, rates = result.fit, result.seconds_per_megapixel
    if fit is None:
        return "Too few sizes ran for a line."
    return (
        f"Line {fit.intercept:.3f} s + {1e6 * fit.slope:.3f} s/megapixel (relative least squares): largest deviation "
        f"{fit.largest_deviation:.1%}. Without a line: {min(rates):.3f} to {max(rates):.3f} s/megapixel, a spread of "
        f"{max(rates) / min(rates) - 1:.1%}."
    )


def parts_table(result: ProfileResult) -> Table:
    """Where the time goes by part of the model, for 80 columns."""
    case = result.case
    title = f"{case.model}, {case.work}, {case.dtype}, {case.image_size_px} px: parts of the forward pass"
    table = new_table(("part",), ("ms", "of all"), title=title)
    for name, seconds in result.parts:
        table.add_row(name, f"{1000 * seconds:.1f}", f"{seconds / result.operator_seconds:.1%}")
    return table


def operators_table(result: ProfileResult) -> Table:
    """Where the time goes by operator, without what it calls, for 80 columns."""
    table = new_table(("operator",), ("calls", "ms", "share"), title="Operators")
    table.columns[0].no_wrap, table.columns[0].max_width, table.columns[0].overflow = True, 50, "ellipsis"
    for name, calls, seconds in result.operators:
        table.add_row(name, str(calls), f"{1000 * seconds:.1f}", f"{seconds / result.operator_seconds:.1%}")
    return table


def affinity_table(result: AffinityResult) -> Table:
    """The affinity loss in its forms, for 80 columns."""
    batch, pixels, channels = result.shape
    title = f"Affinity loss, forward and backward: batch {batch}, N = {pixels}, {channels} channels, {result.device}"
    table = new_table(("form",), ("s", "least–most", "peak GiB", "growth GiB"), title=title)
    for form, seconds in result.seconds.items():
        cells = _memory_cells(result.memory[form])
        if not seconds:
            table.add_row(form, OUT_OF_MEMORY, MISSING, *cells)
            continue
        table.add_row(form, f"{statistics.median(seconds):.4f}", f"{min(seconds):.4f}–{max(seconds):.4f}", *cells)
    return table


def affinity_line(result: AffinityResult, form: str) -> str:
    """How a form compares with the dense one, in a sentence."""
    speedup, share = result.speedup(form), result.memory_share(form)
    fast = f"{speedup.of_medians:.1f} times as fast as the dense form" if speedup else "not comparable in time"
    lean = f"{share:.1%} of its memory growth" if share is not None else "memory not compared"
    if form not in result.differences:
        return f"{form.capitalize()}: {fast}, {lean}."
    value, gradient = result.differences[form]
    return (
        f"{form.capitalize()}: {fast}, {lean}; relative difference of value {value:.1e}, of gradient {gradient:.1e}."
    )
