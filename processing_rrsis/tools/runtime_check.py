"""An export beside the network it comes from: the same log-odds, how fast, how good."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ..benchmark.timing import Work, time_interleaved
from ..data.inputs.collate import ReferringCollator
from ..data.load import load_split
from ..metrics import evaluate_model
from .runtime_result import SCORES, Agreement
from .runtime_spec import ScoredData
from .runtime_trace import OUTPUT

COMPARED_ROWS = 16  # of the data; seeded noise looks like no image
Caller = Callable[..., Any]


class ProgramNetwork:
    """A .pt2 file in PyTorch, called as the network itself."""

    def __init__(self, path: Path) -> None:
        program = torch.export.load(path)
        self.names = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
        self.module = program.module()

    @torch.no_grad()
    def __call__(self, **inputs: Tensor) -> SimpleNamespace:
        """Log-odds as `.logits`, float32 (B, H, W); tensors that the file does not read are ignored."""
        return SimpleNamespace(logits=self.module(**{name: inputs[name] for name in self.names})[OUTPUT])


@torch.no_grad()
def compare(network: Caller, exported: Caller, batches: Iterable[Mapping[str, Tensor]], inputs: str) -> Agreement:
    """Run both on the same batches.

    Args:
        network: The network.
        exported: The export; both return `.logits` (B, H, W).
        batches: Tensors for both.
        inputs: What the batches are.

    Raises:
        RuntimeError: If the export gives another shape, or numbers that are none.
    """
    images, pixels, differing = 0, 0, 0
    lows, highs, differences = [], [], []
    for batch in batches:
        expected, found = network(**batch).logits, exported(**batch).logits
        if found.shape != expected.shape or not found.isfinite().all():
            kind = "finite logits" if found.shape == expected.shape else f"logits of shape {tuple(expected.shape)}"
            raise RuntimeError(
                f"expected {kind} from the exported file, got {tuple(found.shape)} with "
                f"{int((~found.isfinite()).sum())} that are none; nothing was written"
            )
        images, pixels = images + len(expected), pixels + expected.numel()
        differing += int(((expected > 0) != (found > 0)).sum())
        lows.append(float(expected.min()))
        highs.append(float(expected.max()))
        differences.append(float((expected - found).abs().max()))
    return Agreement(inputs, images, min(lows), max(highs), max(differences), differing / pixels)


def check_agreement(agreement: Agreement) -> None:
    """Raise a `RuntimeError` where a float32 export is another function than the network."""
    if agreement.largest_difference > agreement.tolerance:
        raise RuntimeError(
            f"the exported file is not the network: its logits differ by up to {agreement.largest_difference:.2g}, at "
            f"most {agreement.tolerance:.2g} was expected of logits from {agreement.lowest:.3g} to "
            f"{agreement.highest:.3g} ({agreement.inputs}); nothing was written. Another version of torch or "
            "onnxruntime may do better; please report it"
        )


def time_both(
    network: Caller, exported: Caller, inputs: Mapping[str, Tensor], rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds of the runs of both, in turns, after a run of each that is not counted."""
    works = {
        "network": Work(torch.no_grad()(lambda: network(**inputs))),
        "exported": Work(lambda: exported(**inputs)),
    }
    timings = time_interleaved(works, rounds=rounds)
    return timings["network"].seconds, timings["exported"].seconds


def load_rows(data: ScoredData, model: str, input_size_px: int) -> Any:
    """The rows to score, as `rrsis evaluate` loads them.

    Raises:
        ValueError: If there is no such data set, split or column.
        FileNotFoundError: If a file is missing.
    """
    from ..data import BENCHMARKS
    from ..data.files.archives import open_archive
    from ..data.load import detect_dataset

    name, folder = data.name, Path(data.name).expanduser()
    is_download = name not in BENCHMARKS and (folder.is_dir() or folder.suffix.lower() == ".zip")
    dataset = detect_dataset(open_archive(folder)) if is_download else name
    try:
        return load_split(
            dataset,
            data.split,
            input_size_px=input_size_px,
            data_dir=folder if is_download else None,
            num_samples=data.num_samples,
        )
    except ValueError as error:
        text = str(error).removeprefix("--dataset: ").replace("data_dir", "its folder or zip as --data")
        raise ValueError(f"--data: {text}") from error


def row_batches(rows: Any, collator: ReferringCollator) -> list[dict[str, Tensor]]:
    """The first rows, one a batch, as tensors for a network."""
    batches = (collator([rows[index]]) for index in range(min(COMPARED_ROWS, len(rows))))
    return [{name: value for name, value in batch.items() if name != "labels"} for batch in batches]


def score(network: Caller, rows: Any, collator: ReferringCollator, description: str) -> dict[str, float]:
    """The project's metric at the input size; one image at a time, since 8-bit layers take their range from a batch.

    Returns:
        `mIoU` and `oIoU` in percent, and `n`.
    """
    result = evaluate_model(network, rows, collator, batch_size=1, description=description)
    return {name: float(result.overall[name]) for name in (*SCORES, "n")}
