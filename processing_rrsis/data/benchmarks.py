"""One call that reads a benchmark by its name."""

from __future__ import annotations

from typing import Any

import datasets

from .synthetic import SyntheticRS

BENCHMARKS: dict[str, type[datasets.GeneratorBasedBuilder]] = {"synthetic": SyntheticRS}


def load_benchmark(
    name: str,
    data_dir: str | None = None,
    split: str | None = None,
    *,
    config_name: str | None = None,
    num_proc: int | None = None,
    streaming: bool = False,
    **kwargs: Any,
) -> datasets.Dataset | datasets.DatasetDict | datasets.IterableDataset | datasets.IterableDatasetDict:
    """Build or read a benchmark.

    Args:
        name: Name of the benchmark: ``"synthetic"``.
        data_dir: Folder of the downloaded files; the embedded benchmark has none.
        split: Split to return; all of them by default.
        config_name: Configuration of the builder, its default one by default.
        num_proc: Processes that build; the result does not depend on it.
        streaming: Whether rows are made while they are read, with nothing stored.
        **kwargs: Handed to the builder, e.g. ``image_size_px``, ``seed``, ``cache_dir``.

    Returns:
        The split, or all splits by name; columns ``image``, ``mask``, ``expression``, ``category``, ``image_id``,
        ``sample_id`` and, for ``"synthetic"``, ``kind``.

    Raises:
        ValueError: For an unknown benchmark or split, or for a `data_dir` where none is read.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"expected a benchmark of {sorted(BENCHMARKS)}, got {name!r}")
    if name == "synthetic" and data_dir is not None:
        raise ValueError(
            f"the benchmark 'synthetic' is generated and reads no files, got data_dir={data_dir!r}; leave data_dir out"
        )
    builder = BENCHMARKS[name](config_name=config_name, **kwargs)
    if streaming:
        return builder.as_streaming_dataset(split=split)
    builder.download_and_prepare(num_proc=num_proc)
    return builder.as_dataset(split=split)
