"""What the machine is, and what it can do: the fastest matrix product and convolution of PyTorch on it."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
import transformers

from .results import Ceiling
from .timing import synchronize

RUNS = 5
LONGEST_RUN_S = 1.0
"""No larger product follows one that took so long: in bfloat16 some CPUs need minutes for the last."""
MATRIX_SIDES = {"cpu": (256, 512, 1024, 2048), "cuda": (1024, 4096, 8192)}
CONV_CHANNELS = (640, 512)
"""Into and out of the finest block of the Base decoder, whose maps have a side of 120 at 480×480 px."""
CONV_SIDES = (30, 60, 120)
CONV_BATCH = {"cpu": 1, "cuda": 16}


def measure_ceilings(
    device: str,
    dtypes: tuple[str, ...] = ("float32", "bfloat16"),
    scale: int = 1,
    on_run: Callable[[], None] = lambda: None,
) -> list[Ceiling]:
    """Measure matrix products and channels-last 3×3 convolutions of growing size; the largest that ran counts.

    Args:
        device: `"cpu"` or `"cuda"`.
        dtypes: Names of torch's dtypes.
        scale: Divides all sides and channels, for smoke tests.
        on_run: Called after each of the products.

    Returns:
        Two for each dtype.
    """
    ceilings = []
    for name in dtypes:
        dtype = getattr(torch, name)
        matrices = [_matrix(max(1, side // scale), dtype, device) for side in MATRIX_SIDES[device]]
        convolutions = [_conv(max(1, side // scale), dtype, device, scale) for side in CONV_SIDES]
        for kind, products in (("matrix product", matrices), ("3x3 convolution", convolutions)):
            ceilings.append(_largest(kind, name, products, device))
            on_run()
    return ceilings


Product = tuple[str, float, Callable[[], Callable[[], Any]]]
"""Shape in words, operations, and what makes the operands and returns the product."""


def _matrix(side: int, dtype: torch.dtype, device: str) -> Product:
    def make() -> Callable[[], Any]:
        left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        return lambda: left @ right

    return f"{side}×{side} by {side}×{side}", 2.0 * side**3, make


def _conv(side: int, dtype: torch.dtype, device: str, scale: int) -> Product:
    inputs, outputs = (channels // scale for channels in CONV_CHANNELS)
    batch = CONV_BATCH[device]

    def make() -> Callable[[], Any]:
        layout: dict[str, Any] = {"memory_format": torch.channels_last, "dtype": dtype}
        image = torch.randn(batch, inputs, side, side, device=device).to(**layout)
        kernel = torch.randn(outputs, inputs, 3, 3, device=device).to(**layout)
        return lambda: F.conv2d(image, kernel, padding=1)

    return f"{inputs}→{outputs} at {batch}×{side}×{side}", 2.0 * batch * inputs * outputs * 9 * side**2, make


@torch.no_grad()
def _largest(name: str, dtype: str, products: list[Product], device: str) -> Ceiling:
    """The speed in the largest product, by its fastest run."""
    for shape, operations, make in products:
        run = make()
        first = min(_seconds(run, device), _seconds(run, device))  # the very first one loads libraries
        fastest = min(_seconds(run, device) for _ in range(RUNS if first < LONGEST_RUN_S else 1))
        ceiling = Ceiling(name, dtype, shape, operations / fastest / 1e9)
        if first > LONGEST_RUN_S:
            break
    return ceiling


def _seconds(run: Callable[[], Any], device: str) -> float:
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - start


def describe_machine(device: str) -> dict[str, Any]:
    """Hardware, threads, versions and settings that decide the speed."""
    machine: dict[str, Any] = {
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average_at_start": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "bfloat16_instructions": bfloat16_instructions(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "transformers": transformers.__version__,
        "device": device,
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        machine |= {
            "gpu": properties.name,
            "gpu_memory_bytes": properties.total_memory,
            "cuda": torch.version.cuda,
            "float32_matrix_product": torch.get_float32_matmul_precision(),
            "float32_convolution_in_tf32": torch.backends.cudnn.allow_tf32,
        }
    return machine


def bfloat16_instructions(cpuinfo: str | None = None) -> list[str] | None:
    """Which of avx512_bf16 and amx_bf16 the CPU has; `None` where the system does not tell.

    Args:
        cpuinfo: Text of `/proc/cpuinfo`, read if absent.
    """
    if cpuinfo is None:
        cpuinfo = _read_cpuinfo()
    flags = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), None)
    return None if flags is None else [name for name in ("avx512_bf16", "amx_bf16") if name in flags.split()]


def _processor_name() -> str:
    lines = (line for line in _read_cpuinfo().splitlines() if line.startswith("model name"))
    return next((line.split(":", 1)[1].strip() for line in lines), platform.processor() or platform.machine())


def _read_cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8") if path.is_file() else ""
