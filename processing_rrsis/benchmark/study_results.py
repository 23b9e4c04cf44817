"""What the studies of `rrsis benchmark` found, beside its cases."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .results import Memory, Ratio
from .spec import Case


@dataclass(frozen=True)
class ExpressionsResult:
    """Several expressions on one image against as many single calls.

    Attributes:
        case: The single call.
        expressions: How many.
        joint_seconds: Of one call with all expressions, by round.
        single_seconds: Of all single calls together, by round.
        differing_pixels: Pixels whose mask differs, over all expressions.
        pixels: Pixels of all masks.
        largest_logit_difference: Over all pixels.
        threshold: Logit above which a pixel is in the mask: 0, and for random weights, whose masks at 0 would be empty
            or full, the widest gap among the middle half of the logits.
    """

    case: Case
    expressions: int
    joint_seconds: list[float]
    single_seconds: list[float]
    differing_pixels: int
    pixels: int
    largest_logit_difference: float
    threshold: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values with the ratio."""
        ratio = Ratio.of(self.joint_seconds, self.single_seconds)
        same = self.differing_pixels == 0
        return {**asdict(self), "has_same_masks": same, "ratio": asdict(ratio) if ratio else None}


@dataclass(frozen=True)
class LineFit:
    """The line time = `intercept` + `slope` · pixels through measured points.

    Attributes:
        intercept: Seconds.
        slope: Seconds per pixel.
        deviations: measured / line − 1 of each point.
    """

    intercept: float
    slope: float
    deviations: list[float]

    @property
    def largest_deviation(self) -> float:
        """Of the absolute values."""
        return max(map(abs, self.deviations))


def fit_line(pixels: Sequence[float], seconds: Sequence[float]) -> LineFit:
    """Fit a line by least squares of line / measured − 1, so that small images count as much as large ones."""
    x, y = np.asarray(pixels, dtype=float), np.asarray(seconds, dtype=float)
    slope, intercept = np.polyfit(x, y, deg=1, w=1 / y)
    return LineFit(float(intercept), float(slope), (y / (intercept + slope * x) - 1).tolist())


@dataclass(frozen=True)
class ScalingResult:
    """Cost against pixels.

    Attributes:
        case: The case at the first size.
        sizes_px: Sides of the square images that ran.
        seconds: By size, of each round.
        out_of_memory_px: Sizes that did not fit.
    """

    case: Case
    sizes_px: list[int]
    seconds: list[list[float]]
    out_of_memory_px: list[int]

    @property
    def medians(self) -> list[float]:
        """Seconds by size."""
        return [statistics.median(values) for values in self.seconds]

    @property
    def fit(self) -> LineFit | None:
        """Through the medians; `None` for fewer than three sizes."""
        return fit_line([size**2 for size in self.sizes_px], self.medians) if len(self.sizes_px) > 2 else None

    @property
    def seconds_per_megapixel(self) -> list[float]:
        """Of one image, by size; its spread is the raw figure beside the line's deviation."""
        return [
            1e6 * median / size**2 / self.case.batch_size
            for median, size in zip(self.medians, self.sizes_px, strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values with the fit."""
        fit, rates = self.fit, self.seconds_per_megapixel
        return {
            **asdict(self),
            "median_seconds": self.medians,
            "seconds_per_megapixel": rates,
            "spread_of_seconds_per_megapixel": max(rates) / min(rates) - 1 if rates else None,
            "fit": {**asdict(fit), "largest_deviation": fit.largest_deviation} if fit else None,
        }


@dataclass(frozen=True)
class AffinityResult:
    """The affinity loss, forward and backward, against the form that stores the N×N matrices.

    Attributes:
        shape: B, N and C.
        device: `"cpu"` or `"cuda"`.
        seconds: By form, `"tiled"` and `"dense"`, of each round; empty where it did not fit.
        memory: By form.
        differences: By form, from the dense one: |value − dense| / |dense|, and the largest difference of the
            gradients over the dense one's largest entry. Forms that did not fit are left out, all if it was the dense.
    """

    shape: tuple[int, int, int]
    device: str
    seconds: dict[str, list[float]]
    memory: dict[str, Memory]
    differences: dict[str, tuple[float, float]]

    @property
    def linear_forms(self) -> list[str]:
        """The forms that store no N×N matrix."""
        return [form for form in self.seconds if form != "dense"]

    def speedup(self, form: str) -> Ratio | None:
        """Time of the dense form over that of another."""
        return Ratio.of(self.seconds["dense"], self.seconds[form])

    def memory_share(self, form: str) -> float | None:
        """What a form adds to the memory over what the dense one adds."""
        growth, dense = (self.memory[name].growth for name in (form, "dense"))
        return growth / dense if growth is not None and dense else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values with the comparisons, by form."""
        speedups = {form: self.speedup(form) for form in self.linear_forms}
        return {
            **asdict(self),
            "memory": {form: memory.to_dict() for form, memory in self.memory.items()},
            "speedup": {form: asdict(ratio) if ratio else None for form, ratio in speedups.items()},
            "memory_share": {form: self.memory_share(form) for form in self.linear_forms},
        }


@dataclass(frozen=True)
class ProfileResult:
    """Where the time of a case goes.

    Attributes:
        case: The case, in eager mode.
        parts: Forward passes of the modules that the model calls, with all that they call: name, seconds.
        operators: The operators that took longest by themselves: name, calls, seconds.
        operator_seconds: Of all operators.
    """

    case: Case
    parts: list[tuple[str, float]]
    operators: list[tuple[str, int, float]]
    operator_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
