"""What `rrsis benchmark` found in its cases, and the numbers that follow. Nothing heavy is imported here."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .spec import Case

OK, OUT_OF_MEMORY = "ok", "out of memory"


@dataclass(frozen=True)
class Ratio:
    """How two interleaved series compare, numerator over denominator.

    Attributes:
        of_medians: Median over median.
        of_minima: Least over least: the two undisturbed runs.
        median_of_rounds: Median of the ratios of each round, whose runs saw the machine in the same state.
    """

    of_medians: float
    of_minima: float
    median_of_rounds: float

    @classmethod
    def of(cls, numerator: Sequence[float], denominator: Sequence[float]) -> Ratio | None:
        """Compare seconds by round; `None` where one of the two did not run."""
        if not numerator or not denominator:
            return None
        return cls(
            statistics.median(numerator) / statistics.median(denominator),
            min(numerator) / min(denominator),
            statistics.median(one / other for one, other in zip(numerator, denominator, strict=True)),
        )


@dataclass(frozen=True)
class Memory:
    """Peak memory of a process that did one thing only, in bytes.

    Attributes:
        status: `OK` or `OUT_OF_MEMORY`.
        peak: Largest during the work: on a CPU of the whole process (resident), on a GPU of PyTorch's tensors.
        before: Just before the work, with the model built.
        source: Where the numbers come from.
    """

    status: str = OK
    peak: int | None = None
    before: int | None = None
    source: str = ""

    @property
    def growth(self) -> int | None:
        """What the work added."""
        return None if self.peak is None or self.before is None else self.peak - self.before

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "growth": self.growth}


@dataclass(frozen=True)
class CaseResult:
    """What one case took.

    Attributes:
        case: What was measured.
        status: `OK` or `OUT_OF_MEMORY`.
        seconds: Of each round.
        reference_seconds: Of timm's Swin, float32 and eager, in the same rounds.
        first_call_seconds: Of the first run, with all that is prepared or compiled in it.
        flops: Counted in an eager run.
        memory: Peak memory; `None` if it was not measured.
        against_eager: This case's seconds over those of the same model in float32 and eager, where that was asked for.
    """

    case: Case
    status: str = OK
    seconds: list[float] = field(default_factory=list)
    reference_seconds: list[float] = field(default_factory=list)
    first_call_seconds: float | None = None
    flops: int | None = None
    memory: Memory | None = None
    against_eager: Ratio | None = None

    @property
    def median_seconds(self) -> float | None:
        """Median over the rounds."""
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def ratio(self) -> Ratio | None:
        """Against timm's Swin."""
        return Ratio.of(self.seconds, self.reference_seconds)

    @property
    def images_per_second(self) -> float | None:
        """At the median."""
        return self.case.batch_size / self.median_seconds if self.median_seconds else None

    @property
    def gflops_per_second(self) -> float | None:
        """Counted operations per second at the median."""
        return self.flops / self.median_seconds / 1e9 if self.flops and self.median_seconds else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values with everything that follows from them."""
        ratios = {"ratio_to_swin": self.ratio, "ratio_to_float32_eager": self.against_eager}
        return {
            **asdict(self.case),
            "status": self.status,
            "seconds": self.seconds,
            "median_seconds": self.median_seconds,
            "reference_seconds": self.reference_seconds,
            **{name: asdict(ratio) if ratio else None for name, ratio in ratios.items()},
            "first_call_seconds": self.first_call_seconds,
            "images_per_second": self.images_per_second,
            "flops": self.flops,
            "gflops_per_second": self.gflops_per_second,
            "memory_bytes": self.memory.to_dict() if self.memory else None,
        }
