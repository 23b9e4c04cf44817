"""Benchmarks by name: what a folder holds, all of one, or one split of it to score."""

from __future__ import annotations

import difflib
import hashlib
import logging
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import datasets

from . import refsegrs_files, rrsisd_files
from .files.archives import Archive
from .own_data import OwnData
from .own_table import NEEDED_COLUMNS, SPLIT_ALIASES, TABLE_ENDINGS
from .refsegrs import RefSegRS
from .risbench import RISBench
from .rrsisd import RRSISD
from .synthetic.builder import SyntheticRS
from .synthetic.splits import SPLITS

logger = logging.getLogger(__name__)

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
        near = difflib.get_close_matches(name, BENCHMARKS, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"dataset: expected {', '.join(BENCHMARKS)}, or a .csv or .jsonl file, got {name!r}{meant}")
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


def load_split(
    name: str,
    split: str,
    *,
    input_size_px: int,
    data_dir: str | PathLike[str] | None = None,
    num_samples: int | None = None,
    image_size_px: int | None = None,
    seed: int = 0,
    num_proc: int = 1,
    allow_missing: bool = False,
) -> Any:
    """The split to score, cut to its first rows.

    Args:
        name: As in `load_benchmark`.
        split: Name of the split.
        input_size_px: Side of the model's input; the embedded benchmark is rendered at this size by default.
        data_dir: As in `load_benchmark`.
        num_samples: Most rows; all by default.
        image_size_px: Side of the embedded benchmark's images.
        seed: Its seed.
        num_proc: Processes that build.
        allow_missing: Leave out samples whose files are missing.

    Returns:
        A `datasets.Dataset`.

    Raises:
        ValueError: If the dataset, the split or a column that is needed does not exist.
    """
    options: dict[str, Any] = {"allow_missing": True} if allow_missing else {}
    if name == "synthetic":
        options = {"image_size_px": image_size_px or input_size_px, "seed": seed, **_sizes_of(split, num_samples)}
        if allow_missing:
            raise ValueError("--allow-missing: expected with a download, the dataset synthetic has no files to miss")
    elif image_size_px is not None or seed:
        raise ValueError(f"--image-size, --data-seed: expected with --dataset synthetic alone, got {name!r}")
    folder = None if data_dir is None else str(data_dir)
    data: Any = load_benchmark(name, data_dir=folder, num_proc=num_proc, **options)
    if name != "synthetic":  # which has a validation split, only it isn't built here
        data = with_validation(data, logger.warning)
    split = SPLIT_ALIASES.get(split.lower(), split)
    if split not in data:
        raise ValueError(f"--split: expected one of {', '.join(data)}, got {split!r}")
    rows: Any = data[split]
    missing = [column for column in NEEDED_COLUMNS if column not in rows.column_names]
    if missing:
        raise ValueError(
            f"--dataset: expected rows with image, mask and expression, {name} ({split}) lacks {missing}, it has "
            f"{rows.column_names}"
        )
    return rows if num_samples is None else rows.select(range(min(num_samples, len(rows))))


def with_validation(data: Any, say: Callable[[str], None]) -> Any:
    """Set images of train apart for validation where there is no such split.

    A fifth of the images, at least one, the same ones for equal images: those whose names have the lowest hashes.

    Args:
        data: A `datasets.DatasetDict`.
        say: Is told how many.

    Returns:
        `data`, or a `datasets.DatasetDict` whose train and validation share no image.
    """
    if "validation" in data or "train" not in data:
        return data
    rows = data["train"]
    images = sorted(set(rows["image_id"]), key=lambda name: hashlib.sha256(name.encode()).digest())
    if len(images) < 2:
        return data
    chosen = set(images[: max(1, len(images) // 5)])
    parts: dict[str, list[int]] = {"train": [], "validation": []}
    for index, name in enumerate(rows["image_id"]):
        parts["validation" if name in chosen else "train"].append(index)
    say(
        f"The data has no split validation: {len(chosen)} of train's {len(images)} images ({len(parts['validation'])} "
        f"of {len(rows)} rows) are set apart for it. A column split decides otherwise."
    )
    return datasets.DatasetDict({**data, **{split: rows.select(indices) for split, indices in parts.items()}})


def _sizes_of(split: str, num_samples: int | None) -> dict[str, int]:
    """Sizes of SyntheticRS's splits: only the one that is scored, and only as much of it as is asked for."""
    split = SPLIT_ALIASES.get(split.lower(), split)
    if split not in SPLITS:
        raise ValueError(f"--split: expected one of {', '.join(SPLITS)}, got {split!r}")
    sizes = {f"{other}_samples": 0 for other in SPLITS if other != split}
    return sizes if num_samples is None else {**sizes, f"{split}_samples": num_samples}


def detect_dataset(archive: Archive) -> str:
    """Tell from its files which benchmark an archive holds.

    Raises:
        ValueError: If it is none.
    """
    if archive.exists(rrsisd_files.REFERENCES_FILE) or archive.exists(rrsisd_files.INSTANCES_FILE):
        return "rrsisd"
    if any(archive.exists(name) for name in refsegrs_files.SPLIT_FILES.values()):
        folder = f"{refsegrs_files.RISBENCH_LAYOUT.image_folder}/"
        return "risbench" if any(name.startswith(folder) for name in archive.names()) else "refsegrs"
    inner = [name for name in archive.names() if name.lower().endswith(".zip")]
    if inner:
        raise ValueError(
            f"{archive.source}: expected {rrsisd_files.REFERENCES_FILE} (RRSIS-D) or output_phrase_train.txt "
            f"(RefSegRS, RISBench) in it, got {inner[0]!r}, a zip inside; unpack the outer one and give the inner"
        )
    raise ValueError(
        f"{archive.source}: expected {rrsisd_files.REFERENCES_FILE} (RRSIS-D) or output_phrase_train.txt (RefSegRS, "
        "RISBench) in it, found neither; point to the folder or zip as downloaded, or name it with --dataset to see "
        "what is missing"
    )
