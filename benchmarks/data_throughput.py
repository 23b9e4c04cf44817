"""Time how fast training batches of a downloaded benchmark are read, beside a plain PyTorch data set.

    python benchmarks/data_throughput.py rrsisd DOWNLOAD --workers 0,2,4

Run at the root of a checkout: the plain data set is the one that the tests read with. Both ways read the same samples
in the same shuffled order, the passes of the two alternate, and the batches at the start, where workers are starting,
are not timed. docs/design/performance.md holds its figures.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from processing_rrsis.data import BENCHMARKS, build_synthetic_tokenizer, load_benchmark
from processing_rrsis.data.inputs.collate import ReferringCollator
from processing_rrsis.image_processing_rrsis import RRSISImageProcessor
from processing_rrsis.processor_rrsis import RRSISProcessor
from processing_rrsis.terminal import new_table
from tests.data.plain_dataset import PlainDataset, plain_samples

MAX_LENGTH = 22  # tokens of an expression, the published limit of RRSIS-D
WARMUP_BATCHES = 4


def main() -> None:
    """Read the arguments, time both ways, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dataset", choices=["rrsisd", "refsegrs", "risbench"])
    parser.add_argument("data_dir", help="folder of the download, unpacked")
    parser.add_argument("--workers", default="0,2", help="numbers of worker processes, separated by commas")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--batches", type=int, default=24, help="timed batches of a pass")
    parser.add_argument("--repeat", type=int, default=3, help="passes of each way")
    parser.add_argument("--image-size", type=int, default=480, help="side in px")
    args = parser.parse_args()

    torch.set_num_threads(1)  # a worker has one thread, too
    ways = make_ways(args.dataset, args.data_dir, args.image_size)
    order = np.random.default_rng(0).permutation(len(ways["plain"][0]))
    batches = np.resize(order, (WARMUP_BATCHES + args.batches, args.batch_size)).tolist()
    speeds: dict[tuple[int, str], list[float]] = {}
    for number in range(args.repeat):
        for workers in map(int, args.workers.split(",")):
            for name in sorted(ways, reverse=number % 2 == 1):
                dataset, collate = ways[name]
                loader = DataLoader(dataset, batch_sampler=batches, collate_fn=collate, num_workers=workers)
                speeds.setdefault((workers, name), []).append(time_pass(loader, args.batch_size))
    table = new_table(("way",), ("workers", "samples/s", "least–most"), title=f"{args.dataset}, {args.image_size} px")
    for (workers, name), values in sorted(speeds.items()):
        spread = f"{min(values):.1f}–{max(values):.1f}"
        table.add_row(name, str(workers), f"{statistics.median(values):.1f}", spread)
    Console().print(table)


def make_ways(dataset: str, data_dir: str, image_size_px: int) -> dict[str, tuple[Any, Any]]:
    """This package's training split and the plain one, each with what makes a batch of its samples."""
    rows = load_benchmark(dataset, data_dir=data_dir)["train"]
    tokenizer = build_synthetic_tokenizer()
    image_processor = RRSISImageProcessor(size={"height": image_size_px, "width": image_size_px})
    collate = ReferringCollator(RRSISProcessor(image_processor, tokenizer, max_length=MAX_LENGTH))
    samples = plain_samples(BENCHMARKS[dataset](data_dir=data_dir), rows["sample_id"])
    plain = PlainDataset(samples, tokenizer, image_size_px=image_size_px, max_length=MAX_LENGTH)
    return {"rrsis": (rows, collate), "plain": (plain, None)}


def time_pass(loader: DataLoader, batch_size: int) -> float:
    """Samples a second over the batches after the warm-up."""
    start, timed = 0.0, -WARMUP_BATCHES
    for _ in loader:
        timed += 1
        if timed == 0:
            start = time.perf_counter()
    return timed * batch_size / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
