"""Pictures of a run: the contact sheet (see `sheet.py`) and the training curves."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..bounds_rrsis import parse_json, read_text
from .sheet import SheetSample, contact_sheet, predict_samples, select_for_sheet

__all__ = ["SheetSample", "contact_sheet", "predict_samples", "read_metrics", "select_for_sheet", "training_curves"]


def read_metrics(metrics_jsonl: str | Path) -> list[dict[str, Any]]:
    """Reads a run's `metrics.jsonl`; a last line that was cut off by a kill is left out.

    Args:
        metrics_jsonl: File with one JSON object per line.

    Returns:
        The records in the order of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line other than the last is damaged; the line's number is named.
    """
    path = Path(metrics_jsonl)
    if not path.is_file():
        raise FileNotFoundError(f"Expected the metrics file of a run at {path}; it is not there.")
    lines = read_text(path).splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = parse_json(line, source=f"{path}, line {number}")
            if not isinstance(record, dict):
                raise ValueError("no object")
            records.append(record)
        except ValueError as error:
            if number < len(lines):
                raise ValueError(f"Expected one JSON object per line in {path}, line {number} is damaged.") from error
    return records


def training_curves(metrics_jsonl: str | Path, path: str | Path) -> Path:
    """Draws loss, scores and learning rate over the steps, as a PNG of 1,400 px width.

    Every record needs `step`. `loss` and `learning_rate` make the first and the last panel; every number whose name
    ends with `mIoU` is a curve of the second one, with what stands before it (`shuffled/mIoU`) as its label; records
    of another `split` than "validation" are left out.

    Args:
        metrics_jsonl: The run's metrics file.
        path: File to write.

    Returns:
        The path.

    Raises:
        FileNotFoundError: If there is no metrics file.
        ValueError: If it is damaged or holds nothing to draw.
    """
    records = [record for record in read_metrics(metrics_jsonl) if "step" in record]
    losses = _series(records, "loss")
    rates = _series(records, "learning_rate")
    score_names = sorted({name for record in records for name in record if name.endswith("mIoU")}, key=_score_order)
    validated = [record for record in records if record.get("split", "validation") == "validation"]
    scores = {name: _series(validated, name) for name in score_names}
    if not losses and not any(scores.values()):
        raise ValueError(f"Expected records with `step` and `loss` or `mIoU` in {metrics_jsonl}, got none.")
    figure = Figure(figsize=(14, 4), dpi=100, layout="constrained")
    loss_axes, score_axes, rate_axes = figure.subplots(1, 3)
    _draw_loss(loss_axes, losses)
    for name, points in scores.items():
        if points:
            score_axes.plot(*zip(*points, strict=True), marker=".", label=_score_label(name))
    if any(scores.values()):
        score_axes.legend()
    score_axes.set(title="mIoU (%)", xlabel="step", ylim=(0, 100))
    if rates:
        rate_axes.plot(*zip(*rates, strict=True), color="tab:gray", marker=".")
    rate_axes.set(title="learning rate", xlabel="step")
    for axes in (loss_axes, score_axes, rate_axes):
        axes.grid(alpha=0.3)
    FigureCanvasAgg(figure).print_png(str(path))
    return Path(path)


def _draw_loss(axes: Axes, points: list[tuple[float, float]]) -> None:
    """Every logged loss, thin, and its running mean over a twentieth of the run."""
    axes.set(title="training loss", xlabel="step")
    if not points:
        return
    steps, values = zip(*points, strict=True)
    window = max(1, len(values) // 20)
    smooth = [sum(values[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(values))]
    axes.plot(steps, values, color="tab:blue", alpha=0.3, linewidth=0.8, marker=".")
    axes.plot(steps, smooth, color="tab:blue")
    axes.set_ylim(bottom=0)


def _series(records: list[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    values = [(record["step"], record[name]) for record in records if isinstance(record.get(name), int | float)]
    return [(step, value) for step, value in values if isinstance(step, int | float) and math.isfinite(step)]


def _score_order(name: str) -> tuple[bool, str]:
    return _score_label(name) != "expression", name


def _score_label(name: str) -> str:
    return name.removesuffix("mIoU").strip("/_ ") or "expression"
