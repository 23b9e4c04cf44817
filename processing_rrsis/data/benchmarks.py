"""One call that reads a benchmark by its name."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import datasets

from .own_data import OwnData
from .own_table import TABLE_ENDINGS
from .refsegrs import RefSegRS
from .risbench import RISBench
from .rrsisd import RRSISD
from .synthetic import SyntheticRS

BENCHMARKS: dict[str, type[datasets.GeneratorBasedBuilder]] = {
    "synthetic": SyntheticRS,
    "refsegrs": RefSegRS,
    "rrsisd": RRSISD,
    "risbench": RISBench,
    "own": OwnData,
}


def load_benchmark(
    name: str,
    data_dir: str | PathLike[str] | None = None,
    split: str | None = None,
    *,
    config_name: str | None = None,
    num_proc: int | None = None,
    streaming: bool = False,
    **kwargs: Any,
) -> datasets.Dataset | datasets.DatasetDict | datasets.IterableDataset | datasets.IterableDatasetDict:
    """Build or read a benchmark, or one's own data.

    Args:
        name: ``"synthetic"``, ``"refsegrs"``, ``"rrsisd"``, ``"risbench"``, ``"own"``, or the path of a .csv or .jsonl
            file of one's own data.
        data_dir: Folder or .zip as downloaded; with ``"own"`` the .csv or .jsonl file. The embedded benchmark and a
            path as `name` have none.
        split: Split to return; all of them by default.
        config_name: Configuration of the builder, its default one by default.
        num_proc: Processes that build; the result does not depend on it.
        streaming: Whether rows are made while they are read, with nothing stored.
        **kwargs: Handed to the builder, e.g. ``allow_missing``, ``cache_dir``; for ``"synthetic"`` ``image_size_px``,
            ``seed``.

    Returns:
        The split, or all splits by name; columns ``image``, ``mask``, ``expression``, ``category``, ``image_id``,
        ``sample_id`` and, for ``"synthetic"``, ``kind``.

    Raises:
        FileNotFoundError: If the download, or a file that it names, is missing.
        ValueError: For an unknown benchmark or split, a `data_dir` where none is read, or files that can't be read.

    Example:
        >>> load_benchmark("rrsisd", data_dir="RRSIS-D", split="test")  # doctest: +SKIP
        >>> load_benchmark("my_roofs.csv", streaming=True)  # doctest: +SKIP
    """
    if Path(name).suffix.lower() in TABLE_ENDINGS:
        if data_dir is not None:
            raise ValueError(f"expected either the table {name!r} or a data_dir, got data_dir={data_dir!r} too")
        name, data_dir = "own", name
    if name not in BENCHMARKS:
        raise ValueError(f"expected a benchmark of {list(BENCHMARKS)} or a .csv or .jsonl file, got {name!r}")
    if name != "synthetic":
        kwargs["data_dir"] = data_dir
    elif data_dir is not None:
        raise ValueError(
            f"the benchmark 'synthetic' is generated and reads no files, got data_dir={data_dir!r}; leave data_dir out"
        )
    builder = BENCHMARKS[name](config_name=config_name, **kwargs)
    if streaming:
        return builder.as_streaming_dataset(split=split)
    builder.download_and_prepare(num_proc=num_proc)
    return builder.as_dataset(split=split)
