"""What the machine is that was measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import timm
import torch
import transformers


def describe_machine(device: str) -> dict[str, Any]:
    """Hardware, threads, versions and settings that decide the speed."""
    machine: dict[str, Any] = {
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average_at_start": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "has_avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        "has_amx": torch.cpu._is_amx_tile_supported(),
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


def _processor_name() -> str:
    path = Path("/proc/cpuinfo")  # platform.processor() is empty on most Linux systems
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
