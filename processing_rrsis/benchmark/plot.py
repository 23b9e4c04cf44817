"""Picture of `rrsis benchmark`: cost against image size, against batch and, where measured, against pixels."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .results import CaseResult
from .spec import FORWARD, TRAIN, TRAIN_CHECKPOINTED
from .study_results import BenchmarkReport, ScalingResult

COLOURS = {"lavt": "tab:blue", "danet": "tab:orange", "fianet": "tab:green", "rmsin": "tab:red"}
OTHER_COLOUR, REFERENCE_COLOUR = "tab:red", "tab:gray"
LINES = {FORWARD: "-", TRAIN: "--", TRAIN_CHECKPOINTED: ":"}
MARKERS = "osD^vP"
FILLS = {FORWARD: "full", TRAIN: "none", TRAIN_CHECKPOINTED: "left"}
REFERENCE_MARKERS = {FORWARD: "x", TRAIN: "+"}
PANEL_INCHES = 4.8


def plot_benchmark(report: BenchmarkReport, path: str | Path) -> Path:
    """Draw cost against image size and batch, and the fitted lines of cost against pixels.

    Args:
        report: What was measured.
        path: PNG to write.

    Returns:
        The path.

    Raises:
        ValueError: If nothing was measured that has a cost to draw.
    """
    rows = [row for row in report.cases if row.median_seconds]
    if not rows and not report.scaling:
        raise ValueError("--plot: expected cases or --scaling that ran, nothing was measured that can be drawn")
    panels = 2 * bool(rows) + bool(report.scaling)
    figure = Figure(figsize=(PANEL_INCHES * panels, 4.8), dpi=120, layout="constrained")
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    if rows:
        batch = min(row.case.batch_size for row in rows)
        sized = [row for row in rows if row.case.batch_size == batch]
        _draw_cases(axes[0], sized, against="image_size_px")
        axes[0].set(title=f"batch {batch}", xlabel="side of the image (px)", ylabel="seconds per image")
        size = min(row.case.image_size_px for row in rows)
        _draw_cases(axes[1], [row for row in rows if row.case.image_size_px == size], against="batch_size")
        axes[1].set(title=f"{size} px", xlabel="batch", ylabel="seconds per image")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), fontsize=7)
    if report.scaling:
        _draw_scaling(axes[-1], report.scaling)
    for panel in axes:
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    processor = report.machine.get("gpu") or f"{report.machine['processor']}, {report.machine['threads']} threads"
    figure.suptitle(f"{processor}, torch {report.machine['torch']}", fontsize=9)
    FigureCanvasAgg(figure).print_png(str(path))
    return Path(path)


def _draw_cases(axes: Axes, rows: Sequence[CaseResult], against: str) -> None:
    """A line for each model, work, dtype and mode, and one for timm's Swin of each work."""
    variants = list(dict.fromkeys(row.case.variant for row in rows))
    lines: dict[tuple[str, str, str], list[CaseResult]] = {}
    for row in rows:
        lines.setdefault((row.case.model, row.case.work, row.case.variant), []).append(row)
    for (model, work, variant), members in lines.items():
        points = sorted(
            (getattr(row.case, against), row.median_seconds / row.case.batch_size)
            for row in members
            if row.median_seconds
        )
        axes.plot(
            *zip(*points, strict=True),
            color=COLOURS.get(model, OTHER_COLOUR),
            linestyle=LINES[work],
            marker=MARKERS[variants.index(variant) % len(MARKERS)],
            markersize=6,
            fillstyle=FILLS[work],
            label=f"{model}, {work}, {variant}",
        )
    axes.set_xticks(sorted({getattr(row.case, against) for row in rows}))
    reference_works = {row.case.work: TRAIN if row.case.work == TRAIN_CHECKPOINTED else row.case.work for row in rows}
    for work in dict.fromkeys(reference_works.values()):
        swin: dict[int, list[float]] = {}
        for row in rows:
            if reference_works[row.case.work] == work and row.reference_seconds:
                middle = statistics.median(row.reference_seconds)
                swin.setdefault(getattr(row.case, against), []).append(middle / row.case.batch_size)
        if swin:
            points = [(place, min(values)) for place, values in sorted(swin.items())]
            style: dict[str, Any] = {
                "color": REFERENCE_COLOUR,
                "linestyle": LINES[work],
                "marker": REFERENCE_MARKERS[work],
            }
            axes.plot(*zip(*points, strict=True), **style, label=f"timm's Swin, {work}, float32 eager")


def _draw_scaling(axes: Axes, results: Sequence[ScalingResult]) -> None:
    """Measured points and the line through them."""
    for result in results:
        if not result.sizes_px:
            continue
        colour = COLOURS.get(result.case.model, OTHER_COLOUR)
        megapixels = [size**2 / 1e6 for size in result.sizes_px]
        axes.plot(megapixels, result.medians, "o", color=colour, label=f"{result.case.model}, {result.case.variant}")
        if result.fit:
            line = [result.fit.intercept + 1e6 * result.fit.slope * place for place in megapixels]
            axes.plot(
                megapixels,
                line,
                "-",
                color=colour,
                linewidth=1,
                label=f"line, within {result.fit.largest_deviation:.1%}",
            )
    axes.set(title="cost against pixels", xlabel="megapixels", ylabel="seconds per run")
    axes.legend(fontsize=7)
