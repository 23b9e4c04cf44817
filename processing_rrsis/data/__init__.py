"""Benchmarks as `datasets` builders, the check of a download, and writers of the published layouts."""

from .checks.download import check_download
from .checks.findings import CheckReport
from .load import BENCHMARKS, load_benchmark
from .own_data import OwnData
from .refsegrs import RefSegRS
from .risbench import RISBench
from .rrsisd import RRSISD
from .synthetic import SyntheticRS, SyntheticRSConfig
from .synthetic.tokenizer import build_synthetic_tokenizer
from .writing.demo import DemoSpec, write_demo
from .writing.writers import write_refsegrs, write_rrsisd

__all__ = [
    "BENCHMARKS",
    "RRSISD",
    "CheckReport",
    "DemoSpec",
    "OwnData",
    "RISBench",
    "RefSegRS",
    "SyntheticRS",
    "SyntheticRSConfig",
    "build_synthetic_tokenizer",
    "check_download",
    "load_benchmark",
    "write_demo",
    "write_refsegrs",
    "write_rrsisd",
]
