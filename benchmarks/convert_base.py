"""Time and memory of `rrsis convert` on a checkpoint of RemoteSAM's size, made here from random numbers.

    python benchmarks/convert_base.py WORK_FOLDER      # writes 1 GB of weights there, and as much again converted

The keys and shapes are RMSIN's with Swin-B and a grid of 28×28: those of the small variant in the tests, widened.
Linux and macOS: memory is the largest resident set of the command's process.
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.modeling.parity import published_keys

TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "vehicle", "in", "the", "image")
PIPELINE_CODE = """
import sys
from transformers import pipeline
pipe = pipeline("referring-image-segmentation", model=sys.argv[1], trust_remote_code=True)
print(type(pipe.model).__module__.split(".")[0], pipe.model.num_parameters())
"""


def base_shape(key: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape with Swin-B of a tensor of the variant with Swin-T: a third wider, windows of 12 in place of 7."""
    if key.startswith("text_encoder.") or ".attention.proj." in key:
        return shape
    if key.endswith("relative_position_bias_table"):
        return (23**2, shape[1] * 4 // 3)
    if key.endswith("relative_position_index"):
        return (144, 144)
    text_axis = 1 if re.search(r"f_(key|value)\.0\.weight", key) else None
    return tuple(
        size * 4 // 3 if size >= 24 and size % 3 == 0 and axis != text_axis else size
        for axis, size in enumerate(shape)
    )


def base_keys() -> dict[str, tuple[int, ...]]:
    """RemoteSAM's keys and shapes; the third stage has 18 blocks where the small variant has 6."""
    keys = {}
    for key, shape in published_keys("remotesam_tiny").items():
        block = re.match(r"(backbone\.layers\.2\.blocks\.)([01])(\..*)", key)
        numbers = range(int(block[2]), 18, 2) if block else [None]
        if re.match(r"backbone\.layers\.2\.blocks\.[2-5]\.", key):
            continue
        for number in numbers:
            keys[key if block is None else f"{block[1]}{number}{block[3]}"] = base_shape(key, shape)
    return keys


def make_checkpoint(path: Path) -> None:
    """Write small random numbers under RemoteSAM's keys."""
    torch.manual_seed(0)
    state = {}
    for key, shape in base_keys().items():
        if key.endswith(("relative_position_index", "num_batches_tracked")):
            state[key] = torch.zeros(shape, dtype=torch.long)
        else:
            state[key] = torch.randn(shape) * 0.02 + (1.0 if key.endswith("running_var") else 0.0)
    torch.save({"model": state, "epoch": 0}, path)


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds and peak GiB of a command."""
    began = time.perf_counter()
    subprocess.run(command, check=True)
    unit = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 2**30


def main() -> None:
    """Make the checkpoint, convert it and load the result as a stranger does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder with 2.2 GB of room")
    work = parser.parse_args().work
    work.mkdir(parents=True, exist_ok=True)
    checkpoint, vocabulary, folder = work / "remotesam_random.pth", work / "vocab.txt", work / "converted"
    if not checkpoint.is_file():
        make_checkpoint(checkpoint)
    vocabulary.write_text("\n".join(TOKENS))
    rrsis = [sys.executable, "-m", "processing_rrsis.cli.app"]
    command = [*rrsis, "convert", str(checkpoint), str(folder), "--tokenizer", str(vocabulary)]
    seconds, gib = timed(command)
    sys.stdout.write(f"{checkpoint.stat().st_size / 1e9:.2f} GB: {seconds:.0f} s, {gib:.2f} GiB at most\n")
    seconds, gib = timed([sys.executable, "-c", PIPELINE_CODE, str(folder)])
    sys.stdout.write(f"loaded as remote code through the pipeline: {seconds:.0f} s, {gib:.2f} GiB at most\n")


if __name__ == "__main__":
    main()
