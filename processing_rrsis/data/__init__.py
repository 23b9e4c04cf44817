"""Benchmarks as `datasets` builders, and what turns their rows into batches."""

from .benchmarks import BENCHMARKS, load_benchmark
from .synthetic import SyntheticRS, SyntheticRSConfig
from .synthetic_tokenizer import build_synthetic_tokenizer

__all__ = ["BENCHMARKS", "SyntheticRS", "SyntheticRSConfig", "build_synthetic_tokenizer", "load_benchmark"]
