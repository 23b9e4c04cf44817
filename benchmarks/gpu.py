"""Run the tests that need a GPU, then measure the networks on it and print the table of docs/design/performance.md.

    python benchmarks/gpu.py --json gpu.json            # tests and all measurements, about eight minutes on an H200
    python benchmarks/gpu.py --no-tests --models fianet

Times are medians in milliseconds by CUDA events, in turns with timm's Swin-B in float32; memory is PyTorch's peak of
allocated tensors. Expressions have 20 tokens; weights are random. A training step is forward pass, backward pass and
fused AdamW.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from modeling_rrsis import MODELS
from modeling_rrsis.loss_rrsis import affinity_loss

NUM_TOKENS = 20
AFFINITY_CHANNELS = 256


def make_batch(batch: int, size_px: int) -> dict[str, Tensor]:
    """Seeded images, expressions, their masks and labels with a target of a ninth of the image."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, 2000, (batch, NUM_TOKENS), generator=generator)
    masks = torch.zeros(2, batch, NUM_TOKENS, dtype=torch.long)
    masks[0, :, 2:4], masks[1, :, 5:9] = 1, 1
    labels = torch.zeros(batch, size_px, size_px, dtype=torch.long)
    labels[:, size_px // 3 : 2 * size_px // 3, size_px // 3 : 2 * size_px // 3] = 1
    inputs = {
        "pixel_values": torch.randn(batch, 3, size_px, size_px, generator=generator),
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "ground_object_mask": masks[0],
        "spatial_position_mask": masks[1],
        "labels": labels,
    }
    return {name: value.cuda() for name, value in inputs.items()}


def time_in_turns(works: dict[str, Callable[[], Any]], rounds: int, warmup: int) -> dict[str, float]:
    """Median milliseconds of each."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(warmup + rounds):
        for name, work in works.items():
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            work()
            end.record()
            torch.cuda.synchronize()
            if number >= warmup:
                times[name].append(begin.elapsed_time(end))
    return {name: statistics.median(values) for name, values in times.items()}


def peak_mib(work: Callable[[], Any]) -> float:
    """Growth of PyTorch's allocated memory over a run, in MiB."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def measure_model(name: str, *, batch: int, size_px: int, precision: str, mode: str, rounds: int) -> dict[str, Any]:
    """Forward pass and training step of a Base network beside timm's Swin-B in float32."""
    torch.manual_seed(0)
    torch.compiler.reset()
    model = MODELS[name](MODELS[name].config_class()).cuda()
    swin = timm.create_model("swin_base_patch4_window12_384", num_classes=0, img_size=size_px).cuda().eval()
    inputs = make_batch(batch, size_px)
    images = {key: value for key, value in inputs.items() if key != "labels"}
    network = torch.compile(model) if mode == "compile" else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-9, fused=True)

    def autocast() -> torch.autocast:
        return torch.autocast("cuda", dtype=torch.bfloat16, enabled=precision == "bfloat16")

    def forward() -> None:
        model.eval()
        with torch.no_grad(), autocast():
            network(**images)

    def step() -> None:
        model.train()
        with autocast():
            loss = network(**inputs).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    @torch.no_grad()
    def reference() -> None:
        swin.forward_features(inputs["pixel_values"])

    begun = time.perf_counter()
    forward()
    step()
    first_s = time.perf_counter() - begun
    times = time_in_turns({"forward": forward, "step": step, "swin": reference}, rounds=rounds, warmup=2)
    peak = peak_mib(step)
    model.gradient_checkpointing_enable()
    checkpointed = peak_mib(step) if mode == "eager" else None
    return {
        "model": name,
        "batch": batch,
        "size_px": size_px,
        "precision": precision,
        "mode": mode,
        "forward_ms": times["forward"],
        "forward_of_swin": times["forward"] / times["swin"],
        "step_ms": times["step"],
        "step_images_per_s": 1e3 * batch / times["step"],
        "step_peak_mib": peak,
        "step_peak_checkpointed_mib": checkpointed,
        "first_calls_s": first_s,
    }


def dense_affinity_loss(features: Tensor, labels: Tensor) -> Tensor:
    """Equations 1 to 3 as they are written, with N×N matrices."""
    unit = torch.nn.functional.normalize(features, dim=-1)
    affinity = (unit @ unit.mT).softmax(-1)
    binary = labels.to(features.dtype)
    target = (binary.unsqueeze(2) * binary.unsqueeze(1)).softmax(-1)
    return (affinity * target - target).square().sum((1, 2)).mean()


def measure_affinity(batch: int, num_pixels: int, rounds: int) -> dict[str, Any]:
    """DANet's affinity loss, forward and backward, beside its dense form."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(batch, num_pixels, AFFINITY_CHANNELS, generator=generator).cuda().requires_grad_()
    labels = (torch.rand(batch, num_pixels, generator=generator) < 0.1).cuda()
    works = {
        "ours": lambda: affinity_loss(features, labels).backward(),
        "dense": lambda: dense_affinity_loss(features, labels).backward(),
    }
    times = time_in_turns(works, rounds=rounds, warmup=2)
    peaks = {name: peak_mib(work) for name, work in works.items()}
    return {
        "batch": batch,
        "num_pixels": num_pixels,
        "ours_ms": times["ours"],
        "dense_ms": times["dense"],
        "ours_mib": peaks["ours"],
        "dense_mib": peaks["dense"],
    }


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    """A table in Markdown."""
    texts = [[f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows]
    lines = [list(rows[0]), ["---"] * len(rows[0]), *texts]
    sys.stdout.write(f"\n{title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Tests, then measurements; the exit status is that of the tests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="fianet,lavt,danet,rmsin", help="Networks, separated by commas.")
    parser.add_argument("--batch", type=int, default=16, help="Images of a batch.")
    parser.add_argument("--size-px", type=int, default=480, help="Side of the images in pixels.")
    parser.add_argument("--rounds", type=int, default=10, help="Timed runs of each case.")
    parser.add_argument("--no-tests", action="store_true", help="Only measure.")
    parser.add_argument("--json", type=Path, help="Also write every number as JSON.")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.stderr.write("expected a CUDA device, torch finds none; nothing was run\n")
        return 1
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu", "-n", "0"]
    status = 0 if options.no_tests else subprocess.run(command, cwd=Path(__file__).parents[1], check=False).returncode
    found: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "tests": status}
    sys.stdout.write(f"{found['device']}, torch {found['torch']}\n")
    variants = [("float32", "eager"), ("bfloat16", "eager"), ("bfloat16", "compile")]
    names = options.models.split(",")
    cases = [(name, 1, *variants[0]) for name in names]
    cases += [(name, options.batch, *variant) for variant in variants for name in names]
    pairs = [(options.batch, 3600), (1, 16384)]
    found["affinity"] = [measure_affinity(*pair, rounds=options.rounds) for pair in pairs]
    print_table("Affinity loss, forward and backward", found["affinity"])
    found["networks"] = []
    for name, batch, precision, mode in cases:
        case = {"batch": batch, "size_px": options.size_px, "precision": precision, "mode": mode}
        found["networks"].append(measure_model(name, **case, rounds=options.rounds))
        print_table(f"{name}, batch {batch}, {precision}, {mode}", found["networks"][-1:])
    print_table("Networks", found["networks"])
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
