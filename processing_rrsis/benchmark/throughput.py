"""How fast training batches are read from a downloaded benchmark: this package's way, and a plain data set beside it.

Both ways read the same samples in the same shuffled order and are checked to give the same numbers before anything is
timed. The passes of the ways alternate, so that whatever else the machine does hits all of them.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from ..data import BENCHMARKS, build_synthetic_tokenizer, load_benchmark
from ..data.file_benchmark import FileBenchmark
from ..data.inputs.collate import ReferringCollator
from ..image_processing_rrsis import RRSISImageProcessor
from ..processor_rrsis import RRSISProcessor
from .plain_dataset import PlainDataset, plain_samples
from .throughput_report import OURS, PLAIN, Agreement, Throughput, ThroughputReport, ThroughputSpec, TrainingWait

MAX_LENGTH = 22
"""Tokens of an expression, the published limit of RRSIS-D."""
CHECKED_BATCHES = 2
PREFETCHED_BATCHES = 2
"""Batches that a worker of a `DataLoader` prepares ahead, torch's default."""
_TOKENIZER_THREADS = "TOKENIZERS_PARALLELISM"
TINY_CONFIG: dict[str, Any] = {
    "backbone": "swin_tiny_patch4_window7_224",
    "backbone_kwargs": {"embed_dim": 32, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8], "window_size": 5},
    "text_config": {
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "max_position_embeddings": 64,
    },
    "decoder_hidden_size": 64,
}
"""A LAVT that takes the batches of both ways and computes little: a step of any network in the papers takes longer,
so its data would be waited for less."""


@dataclass(frozen=True)
class ReadingWay:
    """One way to read batches.

    Attributes:
        name: `OURS` or `PLAIN`.
        dataset: Map-style data set.
        collate: Makes a batch of its samples.
        decode: Only decodes the images and masks of the given samples.
    """

    name: str
    dataset: Any
    collate: Callable[[list[Any]], dict[str, Any]]
    decode: Callable[[list[int]], Any]

    def batch(self, indices: list[int]) -> dict[str, Any]:
        """Read one batch in this process."""
        return next(iter(self.loader([indices])))

    def loader(self, batches: Sequence[list[int]], num_workers: int = 0) -> DataLoader:
        """Return what reads these batches."""
        return DataLoader(self.dataset, batch_sampler=batches, collate_fn=self.collate, num_workers=num_workers)


def measure_throughput(spec: ThroughputSpec) -> ThroughputReport:
    """Build the benchmark where it is not yet, compare the two ways, time them.

    Raises:
        FileNotFoundError: If there is no download.
        ValueError: If the download is a zip, or the two ways don't give the same batches.
    """
    with _quiet(), _one_thread():
        ours, plain = make_ways(spec)
        batches = draw_batches(len(plain.dataset), spec)
        agreement = compare_batches(ours, plain, batches[:CHECKED_BATCHES])
        decode_share = {way.name: measure_decode_share(way, batches[: spec.batches]) for way in (ours, plain)}
        passes: dict[tuple[str, int], list[tuple[float, float | None]]] = {}
        for number in range(spec.repeat):
            for num_workers in spec.workers:
                for way in (ours, plain) if number % 2 == 0 else (plain, ours):
                    result = time_pass(way, batches, num_workers=num_workers, spec=spec)
                    passes.setdefault((way.name, num_workers), []).append(result)
    with _quiet():
        training = [time_training(way, batches, spec) for way in (ours, plain)] if spec.training_steps else []
    throughput = [
        Throughput(way, num_workers, [speed for speed, _ in results], [cpu for _, cpu in results])
        for (way, num_workers), results in sorted(passes.items(), key=lambda item: (item[0][1], item[0][0] == PLAIN))
    ]
    return ThroughputReport(
        spec=spec,
        samples=len(plain.dataset),
        agreement=agreement,
        decode_share=decode_share,
        throughput=throughput,
        training=training,
        versions={"torch": torch.__version__, "numpy": np.__version__, "pillow": PIL.__version__},
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings of cut expressions: the embedded tokenizer spells words that it doesn't know in letters."""
    logger = logging.getLogger("processing_rrsis.processor_rrsis")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let the main process read with one thread, as workers do."""
    threads, tokenizer_threads = torch.get_num_threads(), os.environ.get(_TOKENIZER_THREADS)
    torch.set_num_threads(1)
    os.environ[_TOKENIZER_THREADS] = "false"
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        os.environ.pop(_TOKENIZER_THREADS)
        if tokenizer_threads is not None:
            os.environ[_TOKENIZER_THREADS] = tokenizer_threads


def make_ways(spec: ThroughputSpec) -> tuple[ReadingWay, ReadingWay]:
    """Return this package's way and the plain one, over the same samples with the same tokenizer."""
    options: dict[str, Any] = {"data_dir": spec.data_dir, "cache_dir": spec.cache_dir}
    rows: Any = load_benchmark(spec.dataset, split=spec.split, **options)
    builder = BENCHMARKS[spec.dataset](**options)
    if not isinstance(builder, FileBenchmark):
        raise TypeError(f"expected a benchmark from files, got {type(builder).__name__}")
    tokenizer = build_synthetic_tokenizer()
    size = {"height": spec.image_size_px, "width": spec.image_size_px}
    processor = RRSISProcessor(RRSISImageProcessor(size=size), tokenizer, max_length=MAX_LENGTH)
    plain = PlainDataset(
        plain_samples(builder, rows["sample_id"]),
        tokenizer,
        image_size_px=spec.image_size_px,
        max_length=MAX_LENGTH,
    )
    return (
        ReadingWay(OURS, rows, collate=ReferringCollator(processor), decode=rows.__getitems__),
        ReadingWay(PLAIN, plain, collate=default_collate, decode=lambda indices: [plain.decode(i) for i in indices]),
    )


def draw_batches(num_samples: int, spec: ThroughputSpec) -> list[list[int]]:
    """Draw the batches of a pass, the same for both ways: shuffled epochs, one after the other."""
    tail = PREFETCHED_BATCHES * max(spec.workers)
    number = max(spec.warmup_batches + spec.batches + tail, CHECKED_BATCHES, spec.training_steps + 1)
    generator = np.random.default_rng(spec.seed)
    epochs = -(-number * spec.batch_size // num_samples)
    order = np.concatenate([generator.permutation(num_samples) for _ in range(epochs)])
    return order[: number * spec.batch_size].reshape(number, spec.batch_size).tolist()


def compare_batches(ours: ReadingWay, plain: ReadingWay, batches: Sequence[list[int]]) -> Agreement:
    """Compare what both ways read.

    Raises:
        ValueError: If pixels differ by more than 1/255, or labels or tokens at all; timing them would not be fair.
    """
    spread = torch.tensor(ours.collate.processor.image_processor.image_std)[:, None, None]  # type: ignore[attr-defined]
    largest, differing = 0.0, 0
    for indices in batches:
        one, two = ours.batch(indices), plain.batch(indices)
        largest = max(largest, float(((one["pixel_values"] - two["pixel_values"]) * spread).abs().max()))
        differing += int((one["labels"] != two["labels"]).sum())
        length = one["input_ids"].shape[1]
        for name in ("input_ids", "attention_mask"):
            if not torch.equal(one[name], two[name][:, :length]) or two["attention_mask"][:, length:].any():
                raise ValueError(f"the two ways read other {name} for the samples {indices}; timing is not fair")
    if largest > 1 / 255 or differing:
        raise ValueError(
            f"the two ways read other images or masks: pixels differ by up to {largest:.4f} of 1, {differing} labels "
            "differ; timing is not fair"
        )
    return Agreement(len(batches), largest_pixel_difference=largest, differing_labels=differing)


def measure_decode_share(way: ReadingWay, batches: Sequence[list[int]]) -> float:
    """Share of decoding images and masks in the processor time of reading."""
    seconds = []
    for read in (way.decode, way.batch):
        read(batches[0])
        start = time.process_time()
        for indices in batches:
            read(indices)
        seconds.append(time.process_time() - start)
    return min(1.0, seconds[0] / seconds[1])


def time_pass(
    way: ReadingWay, batches: Sequence[list[int]], *, num_workers: int, spec: ThroughputSpec
) -> tuple[float, float | None]:
    """Read all batches once and time the middle ones, so that workers are neither starting nor running dry.

    Returns:
        Samples per second, and ms of processor time per sample.
    """
    tail = PREFETCHED_BATCHES * num_workers
    batches = batches[: spec.warmup_batches + spec.batches + tail]
    usage = os.times()
    marks = [time.perf_counter()]
    for _ in way.loader(batches, num_workers):
        marks.append(time.perf_counter())
    seconds = marks[spec.warmup_batches + spec.batches] - marks[spec.warmup_batches]
    cpu = _cpu_seconds(usage, of_children=num_workers > 0)
    samples = len(batches) * spec.batch_size
    return spec.batches * spec.batch_size / seconds, 1000 * cpu / samples if cpu else None


def _cpu_seconds(before: os.times_result, *, of_children: bool) -> float:
    """Processor time since `before`: of this process, or of those that have ended since."""
    now = os.times()
    if of_children:
        return now.children_user + now.children_system - before.children_user - before.children_system
    return now.user + now.system - before.user - before.system


def time_training(way: ReadingWay, batches: Sequence[list[int]], spec: ThroughputSpec) -> TrainingWait:
    """Train a tiny LAVT on the batches of one worker; the first step is not timed."""
    from modeling_rrsis import LAVTConfig, LAVTForReferringSegmentation

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(spec.seed)
    text = {**TINY_CONFIG["text_config"], "vocab_size": len(build_synthetic_tokenizer())}
    config = LAVTConfig(**{**TINY_CONFIG, "text_config": text, "image_size": spec.image_size_px})
    model: Any = LAVTForReferringSegmentation(config)
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step(batch: dict[str, Tensor]) -> None:
        loss: Tensor = model(**{name: value.to(device) for name, value in batch.items()}).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # waits for the device

    batches = batches[: spec.training_steps + 1]
    usage = os.times()
    seconds, waiting = time_steps(way.loader(batches, num_workers=1), step)
    cpu = _cpu_seconds(usage, of_children=True)
    return TrainingWait(
        way=way.name,
        device=str(device),
        threads=torch.get_num_threads(),
        steps=spec.training_steps,
        seconds_per_step=seconds,
        waiting_share=waiting,
        cpu_ms_per_sample=1000 * cpu / (len(batches) * spec.batch_size) if cpu else None,
    )


def time_steps(batches: Iterable[Any], step: Callable[[Any], None]) -> tuple[float, float]:
    """Take a step on each batch; the first one is not timed.

    Returns:
        Median of the seconds from the end of a step to the end of the next, and the share of all of that time that
        was spent waiting for batches.
    """
    waits, ends = [], []
    start = time.perf_counter()
    for batch in batches:
        waits.append(time.perf_counter() - start)
        step(batch)
        start = time.perf_counter()
        ends.append(start)
    return float(np.median(np.diff(ends))), sum(waits[1:]) / (ends[-1] - ends[0])
