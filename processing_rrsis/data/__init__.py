"""Benchmarks as `datasets` builders, and what turns their rows into batches."""

from .benchmarks import BENCHMARKS, load_benchmark
from .own_data import OwnData, load_own_data
from .refsegrs import RefSegRS
from .risbench import RISBench
from .rrsisd import RRSISD
from .synthetic import SyntheticRS, SyntheticRSConfig
from .synthetic_tokenizer import build_synthetic_tokenizer

__all__ = [
    "BENCHMARKS",
    "RRSISD",
    "OwnData",
    "RISBench",
    "RefSegRS",
    "SyntheticRS",
    "SyntheticRSConfig",
    "build_synthetic_tokenizer",
    "load_benchmark",
    "load_own_data",
]
