"""What `rrsis evaluate` is asked for, and what keeps it from the published scores. Imports nothing heavy at first."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

INTERVAL_SEED = 0


class Resolution(StrEnum):
    """Sizes at which `--resolution` scores."""

    PUBLISHED = "480"
    NATIVE = "native"
    BOTH = "both"


@dataclass(frozen=True)
class EvaluationTask:
    """What is asked for, checked as far as that needs no model."""

    model: str
    dataset: str
    split: str
    data_dir: Path | None
    max_samples: int | None
    image_size: int | None
    data_seed: int
    allow_missing: bool
    resolution: Resolution
    threshold: float
    controls: bool
    seed: int
    confidence: float
    resamples: int
    exact: bool
    batch_size: int
    num_workers: int

    @property
    def resolutions(self) -> tuple[str, ...]:
        """The sizes to report, as the report names them."""
        names = {Resolution.PUBLISHED: ("input",), Resolution.NATIVE: ("native",)}
        return names.get(self.resolution, ("input", "native"))

    @property
    def interval_options(self) -> dict[str, Any]:
        """Options of the intervals."""
        return {"confidence": self.confidence, "num_resamples": self.resamples, "seed": INTERVAL_SEED}


@dataclass(frozen=True)
class Comparability:
    """What keeps a score from standing beside the published ones.

    Attributes:
        published_samples: References of the published split; `None` where nothing is published.
        is_demo: Whether the files are a demo written by `rrsis write-demo`.
        left_out: `sample_id`s that `--allow-missing` left out.
    """

    published_samples: int | None
    is_demo: bool
    left_out: tuple[str, ...]

    def reasons(self, scored: int) -> list[str]:
        """Sentences that say what is not like the published evaluation; none where it is."""
        found = ["the pictures are a demo's, not the benchmark's"] if self.is_demo else []
        if self.left_out:
            names = ", ".join(self.left_out[:5]) + (", …" if len(self.left_out) > 5 else "")
            found.append(f"--allow-missing left out {len(self.left_out):,} references ({names})")
        if self.published_samples not in (None, scored):
            found.append(f"{scored:,} of {self.published_samples:,} published references are scored")
        return found


def find_comparability(task: EvaluationTask) -> Comparability:
    """Compare what is scored with what the papers scored; looks at names alone, on every run, cached or not."""
    from ..data.facts import PUBLISHED_COUNTS
    from ..data.file_benchmark import FileBenchmark
    from ..data.files.marker import MARKER_FILE
    from ..data.load import BENCHMARKS

    published = PUBLISHED_COUNTS.get(task.dataset, {}).get(task.split)
    builder_class = BENCHMARKS.get(task.dataset)
    if task.data_dir is None or builder_class is None or not issubclass(builder_class, FileBenchmark):
        return Comparability(published, is_demo=False, left_out=())
    builder = builder_class(data_dir=str(task.data_dir), **({"allow_missing": True} if task.allow_missing else {}))
    is_demo = any(name.rsplit("/", 1)[-1] == MARKER_FILE for name in builder.archive.names())
    left_out: list[str] = []
    if task.allow_missing:
        samples = {task.split: builder.read_samples().get(task.split, [])}
        kept = {sample.sample_id for sample in builder.without_missing(samples)[task.split]}
        left_out = [sample.sample_id for sample in samples[task.split] if sample.sample_id not in kept]
    return Comparability(published, is_demo=is_demo, left_out=tuple(left_out))
