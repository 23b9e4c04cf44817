"""The one evaluation loop: a model, a dataset and a collator in, exact counts and scores out.

What is gathered from the processes are integers per sample, keyed by the sample's index in the dataset; scores are
computed from them afterwards, in the order of the dataset. So no sample is counted twice or dropped. The batches are
cut from the dataset before they are dealt out to the processes: a batch holds the same samples on one process as on
eight, and the scores are equal to the last digit.

Another batch size is another matter: a network's sums are then taken in another order, its log-odds move by 1e-6 to
1e-3 and a pixel that lies on the threshold can change sides. `tie_margin` closes that gap: a sample with a pixel that
close to the threshold is run again alone, unpadded and on one thread, and that run decides. A sample without such a
pixel has the same mask in every batch, as long as batching moves its log-odds by less than the margin; the largest
movement that was seen is in the result. With an infinite margin every sample is run alone and nothing is assumed.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich import get_console
from rich.progress import Progress
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..image_labels_rrsis import to_label_map
from ..terminal import new_progress
from .evaluation_result import COUNT_NAMES, EvaluationResult, score_counts

IGNORED_LABEL = 255
TIE_MARGIN = 1e-3
"""A margin in log-odds that covers what batching moves in float32; small maps under InstanceNorm move most."""
_NOT_FOR_THE_MODEL = ("labels", "index", "native_labels")


def evaluate_model(
    model: Callable[..., Any],
    dataset: Any,
    collator: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]],
    *,
    accelerator: Any = None,
    device: torch.device | str | None = None,
    batch_size: int = 16,
    threshold: float = 0.5,
    expressions: Sequence[str] | None = None,
    tie_margin: float | None = None,
    num_workers: int = 0,
    progress: Progress | bool = True,
    description: str = "Evaluating",
) -> EvaluationResult:
    """Scores a model on a split, at its input size and at the masks' own size.

    The model is switched to evaluation and back; no global random number is drawn.

    Args:
        model: Called with the collator's tensors; returns `.logits`, foreground log-odds of shape (B, H, W).
        dataset: Rows with `image`, `mask`, `expression`, optionally `category` and `kind`; with a length.
        collator: Turns rows into `pixel_values`, `input_ids`, …, `labels` int (B, H, W) (255 is ignored) and `index`.
        accelerator: `accelerate.Accelerator` whose processes share the work, the model prepared by it; `None` for one
            process.
        device: Where the model is, without an accelerator; `None` asks the model's parameters.
        batch_size: Samples per process and step.
        threshold: Probability above which a pixel is predicted; a tie is background.
        expressions: Texts to use instead of the dataset's own, one per row (see `control_expressions`).
        tie_margin: Log-odds around the threshold within which a sample is run alone, so that neither batch size nor
            number of processes changes a count (see above): `TIE_MARGIN`, or `math.inf` to run every sample alone;
            `None` runs each batch once. For float32 weights that every process holds whole (no FSDP).
        num_workers: Processes that load data.
        progress: `True` for a bar of its own on the main process, `False` for none, or the `Progress` to show it in.
        description: Label of the bar.

    Returns:
        The scores, the same on every process.

    Raises:
        ValueError: If the dataset is empty, an argument is out of range or the model's log-odds do not fit the labels.
    """
    _check_arguments(
        dataset, batch_size=batch_size, threshold=threshold, expressions=expressions, tie_margin=tie_margin
    )
    started = time.perf_counter()
    rank, num_processes = (accelerator.process_index, accelerator.num_processes) if accelerator is not None else (0, 1)
    device = torch.device(accelerator.device if accelerator is not None else device or _device_of(model))
    loader = DataLoader(
        _Rows(dataset, expressions=expressions, key="expression"),
        batch_sampler=_deal_batches(len(dataset), batch_size=batch_size, rank=rank, num_processes=num_processes),
        collate_fn=_WithNativeLabels(_accepting(collator, expressions)),
        num_workers=num_workers,
        generator=torch.Generator(),  # the loader draws its seed from it instead of from the global generator
    )
    alone = None
    if tie_margin is not None:  # without the wrapper: processes may run different numbers of samples alone
        alone = accelerator.unwrap_model(model) if accelerator is not None else model
    counts = []
    with _evaluation_mode(model), _bar(progress, description, total=len(loader), main=rank == 0) as advance:
        for batch in loader:
            counts.append(
                _count_batch(model, batch, device=device, threshold=threshold, alone=alone, margin=tie_margin or 0.0)
            )
            advance()
    table = torch.cat(counts)
    if accelerator is not None:
        table = _gather(table.to(device), accelerator)
    return score_counts(
        _in_dataset_order(table.cpu().numpy(), len(dataset)),
        kinds=_column(dataset, "kind"),
        categories=_column(dataset, "category"),
        threshold=threshold,
        seconds=time.perf_counter() - started,
        image_ids=_column(dataset, "image_id"),
        tie_margin=tie_margin,
    )


class _Rows(Dataset):
    """The dataset's rows with their index and, where given, another expression."""

    def __init__(self, dataset: Any, expressions: Sequence[str] | None, key: str) -> None:
        self.dataset, self.expressions, self.key = dataset, expressions, key

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = {**self.dataset[index], "index": index}
        if self.expressions is not None:
            row[self.key] = self.expressions[index]
        return row


class _WithNativeLabels:
    """Adds to a batch the label maps at the masks' own size, `None` where that is the input size."""

    def __init__(self, collator: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]]) -> None:
        self.collator = collator

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        batch = self.collator(rows)
        missing = {"labels", "index"} - batch.keys()
        if missing:
            raise ValueError(f"Expected the collator to return {sorted(missing)}, got only {sorted(batch)}.")
        size = tuple(batch["labels"].shape[-2:])
        native = [to_label_map(row["mask"]) for row in rows]
        batch["native_labels"] = [None if label.shape == size else torch.from_numpy(label.copy()) for label in native]
        return batch


def _deal_batches(num_samples: int, batch_size: int, rank: int, num_processes: int) -> list[list[int]]:
    """This process's batches of indices; every process gets the same number, repeated ones fall out at the end."""
    batches = [list(range(start, min(start + batch_size, num_samples))) for start in range(0, num_samples, batch_size)]
    per_process = math.ceil(len(batches) / num_processes)
    return [batches[(step * num_processes + rank) % len(batches)] for step in range(per_process)]


@torch.no_grad()  # not inference_mode: what a network caches here must stay usable in training
def _count_batch(
    model: Callable[..., Any],
    batch: dict[str, Any],
    *,
    device: torch.device,
    threshold: float,
    alone: Callable[..., Any] | None = None,
    margin: float = 0.0,
) -> Tensor:
    """Runs one batch and counts; int64 (B, len(COUNT_NAMES)) on the CPU. `alone` runs the samples near a tie."""
    inputs = {
        name: value.to(device, non_blocking=True)
        for name, value in batch.items()
        if isinstance(value, Tensor) and name not in _NOT_FOR_THE_MODEL
    }
    labels = batch["labels"].to(device)
    if alone is not None and math.isinf(margin):
        logits = torch.stack([_log_odds_alone(alone, inputs, number) for number in range(len(labels))])
    else:
        logits = model(**inputs).logits.float()
    _check_logits(logits, labels, batch["index"])
    tie = math.log(threshold / (1 - threshold))
    rows = []
    for number, (index, label, native) in enumerate(zip(batch["index"], labels, batch["native_labels"], strict=True)):
        logit, repeated, difference = logits[number], 0, 0.0
        resized = _resized(logit, native)
        if (
            alone is not None
            and margin < math.inf
            and any(((size - tie).abs() < margin).any() for size in (logit, resized))
        ):
            logit = _log_odds_alone(alone, inputs, number)
            resized, repeated = _resized(logit, native), 1
            difference = float((logit - logits[number]).abs().max())
        counts = _count_pixels(logit > tie, label)
        native_counts = counts if native is None else _count_pixels(resized > tie, native.to(device))
        fixed = [native is not None, *label.shape, repeated, round(difference * 1e9)]
        fixed_counts = torch.tensor(fixed, dtype=torch.int64, device=device)
        rows.append(torch.cat([index.to(device)[None], counts, native_counts[:2], fixed_counts]))
    return torch.stack(rows).cpu()


def _resized(logit: Tensor, native: Tensor | None) -> Tensor:
    """The log-odds (H, W) at the mask's own size."""
    if native is None:
        return logit
    return F.interpolate(logit[None, None], size=tuple(native.shape), mode="bilinear", align_corners=False)[0, 0]


def _log_odds_alone(model: Callable[..., Any], inputs: Mapping[str, Tensor], number: int) -> Tensor:
    """Log-odds (H, W) of one sample of a batch, run alone, without its padding and on one thread."""
    own = {name: value[number : number + 1] for name, value in inputs.items()}
    attention = own.get("attention_mask")
    if attention is not None:
        real = attention[0].bool()
        own = {
            name: value[:, real] if value.shape[:2] == attention.shape and value.ndim == 2 else value
            for name, value in own.items()
        }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return model(**own).logits.float()[0]
    finally:
        torch.set_num_threads(threads)


def _count_pixels(predicted: Tensor, label: Tensor) -> Tensor:
    """Intersection, union, predicted, reference and scored pixels of one sample, int64 (5,)."""
    scored = label != IGNORED_LABEL
    predicted, wanted = predicted & scored, label == 1
    areas = (predicted & wanted, predicted | wanted, predicted, wanted, scored)
    return torch.stack([area.sum() for area in areas])


def _gather(table: Tensor, accelerator: Any) -> Tensor:
    """Collects the counts of all processes; shorter tables are filled up with rows of index -1."""
    padded = accelerator.pad_across_processes(table, dim=0, pad_index=-1)
    gathered = accelerator.gather(padded)
    return gathered[gathered[:, 0] >= 0]


def _in_dataset_order(table: np.ndarray, num_samples: int) -> dict[str, np.ndarray]:
    """One row per sample, sorted by index, as named columns."""
    indices, first = np.unique(table[:, 0], return_index=True)
    if not np.array_equal(indices, np.arange(num_samples)):
        raise RuntimeError(f"Expected counts of {num_samples} samples, got {len(indices)}: a process stopped early.")
    return dict(zip(COUNT_NAMES, table[first].T, strict=True))


def _check_arguments(
    dataset: Any, *, batch_size: int, threshold: float, expressions: Sequence[str] | None, tie_margin: float | None
) -> None:
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise ValueError(
            f"Expected a dataset with a length and rows by index, got {type(dataset).__name__}. "
            "Load the split without streaming to evaluate on it."
        )
    if not len(dataset):
        raise ValueError("Expected a dataset with at least one sample, got an empty one.")
    if batch_size < 1:
        raise ValueError(f"Expected a batch size of at least 1, got {batch_size}.")
    if not 0 < threshold < 1:
        raise ValueError(f"Expected a threshold between 0 and 1 (a probability), got {threshold}.")
    if tie_margin is not None and not tie_margin > 0:
        raise ValueError(f"Expected a tie margin above 0 (log-odds) or None, got {tie_margin}.")
    if expressions is not None and len(expressions) != len(dataset):
        raise ValueError(f"Expected one expression per sample ({len(dataset)}), got {len(expressions)}.")


def _check_logits(logits: Tensor, labels: Tensor, indices: Tensor) -> None:
    if logits.shape != labels.shape:
        raise ValueError(
            f"Expected log-odds of the labels' shape {tuple(labels.shape)}, got {tuple(logits.shape)}. "
            "The model must return `.logits` of shape (B, H, W) at the size of its input."
        )
    finite = torch.isfinite(logits).flatten(start_dim=1).all(dim=1).cpu()
    if not finite.all():
        raise ValueError(
            f"Expected finite log-odds, got NaN or infinity for the samples {indices[~finite].tolist()}. "
            "The model has diverged or its weights are damaged."
        )


def _accepting(collator: Any, expressions: Sequence[str] | None) -> Any:
    """The collator, allowed to take blank texts where there are some."""
    if expressions is None:
        return collator
    if getattr(collator, "allow_empty_text", True) or all(text.strip() for text in expressions):
        return collator
    accepting = copy.copy(collator)
    accepting.allow_empty_text = True
    return accepting


def _column(dataset: Any, name: str) -> list[str | None] | None:
    """One text column, without decoding images; `None` where it is blank, and for all where no row has it."""
    if hasattr(dataset, "column_names"):
        values = list(dataset[name]) if name in dataset.column_names else []
    else:
        values = [dataset[index].get(name) for index in range(len(dataset))]
    names = [None if not value or value.isspace() else value for value in values]
    return names if any(names) else None


def _device_of(model: Any) -> torch.device:
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device


@contextmanager
def _evaluation_mode(model: Any) -> Iterator[None]:
    """Switches every submodule to evaluation and afterwards back to what it was."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    was_training = [module.training for module in modules]
    if modules:
        model.eval()
    try:
        yield
    finally:
        for module, training in zip(modules, was_training, strict=True):
            module.training = training


@contextmanager
def _bar(progress: Progress | bool, description: str, *, total: int, main: bool) -> Iterator[Callable[[], None]]:
    """Yields the function that advances the bar by one step."""
    if not progress or not main:
        yield lambda: None
        return
    shown = progress if isinstance(progress, Progress) else new_progress(disable=not get_console().is_terminal)
    task = shown.add_task(description, total=total)
    if isinstance(progress, Progress):
        try:
            yield lambda: shown.advance(task)
        finally:
            shown.remove_task(task)
    else:
        with shown:
            yield lambda: shown.advance(task)
