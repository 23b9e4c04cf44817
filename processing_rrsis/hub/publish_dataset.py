"""Publish a data set as Parquet that `load_dataset(repository)` reads without any script."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ..data.facts import FACTS
from .checks import CARD, check_card, refuse
from .dataset_card import DATASETS, render_dataset_card
from .push import AS_USUAL, Publication, PushOptions, RepoFile, check_repo_id, push
from .secret_search import find_secrets

MAX_FILE_SIZE = "500MB"
_NO_ROOM, _FULL_DISK_BYTES = (errno.ENOSPC, errno.EDQUOT), 2**24
NEEDS_RIGHT = "rrsisd"
_OURS = re.compile(r"data/\w+-\d{5}-of-\d{5}\.parquet")
_BUILT = re.compile(r".+?-(?P<split>[a-z_]+?)(?P<part>-\d{5}-of-\d{5})?\.parquet")


def publish_dataset(
    dataset: str,
    repo_id: str,
    options: PushOptions = AS_USUAL,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    i_have_the_right_to: bool = False,
    license_id: str | None = None,
    max_file_size: int | str = MAX_FILE_SIZE,
    num_proc: int | None = None,
    **builder_options: Any,
) -> Publication:
    """Publish a benchmark, or one's own data, with the images in its Parquet files and the masks as 8-bit PNG.

    Args:
        dataset: `"rrsisd"`, `"refsegrs"`, `"synthetic"` or `"own"`.
        repo_id: `user/name`; created where it does not exist.
        options: How to publish.
        data_dir: Folder or zip of the download; the table of own data; none for `"synthetic"`.
        i_have_the_right_to: RRSIS-D is refused without it.
        license_id: Licence of own data, as the Hub spells it.
        max_file_size: About the most bytes of a Parquet file.
        num_proc: Processes that build.
        **builder_options: Handed to `load_benchmark`'s builder: `config_name`, `allow_missing`, `seed`, …

    Returns:
        What was published, or would be.

    Raises:
        ValueError: An unknown data set, RRSIS-D without the right, or files that can't be read.
        FileNotFoundError: The download, or a file that it names, is missing.
        OSError: The disk has no room for the Parquet files.
        PublishError: The Hub is not reached or refuses; nothing is published by halves.
    """
    check_repo_id(repo_id)
    _check_right(dataset, i_have_the_right_to, license_id)
    with tempfile.TemporaryDirectory(prefix="rrsis-publish-") as folder:
        builder = _make_builder(dataset, data_dir, cache_dir=Path(folder) / "cache", **builder_options)
        files = build_parquet(builder, Path(folder) / "parquet", max_file_size, num_proc)
        notes = _notes(dataset, data_dir, bool(builder_options.get("allow_missing")))
        made_with: dict[str, Any] = {}
        if dataset == "synthetic":  # other data has no settings that others need
            config = builder.config
            made_with = {"Wording": config.name, "Side in px": config.image_size_px, "Seed": config.seed}
        card = render_dataset_card(
            dataset,
            repo_id,
            {str(name): int(info.num_examples) for name, info in builder.info.splits.items()},
            tuple(builder.info.features),
            license_id=license_id,
            settings=made_with,
            notes=notes,
        )
        files.append(RepoFile(CARD, card.encode()))
        refuse(repo_id, [*check_card(card, fields=("license", "configs")), *find_secrets(files, options.used_token)])
        message = f"Publish {FACTS[dataset].title} with rrsis"
        return push(files, repo_id, "dataset", options, message=message, ours=_OURS)


def build_parquet(builder: Any, folder: Path, max_file_size: int | str, num_proc: int | None) -> list[RepoFile]:
    """Write a builder's rows as Parquet with all bytes in it; return the files under their names in a repository.

    Raises:
        OSError: The disk has no room for them.
    """
    sizes = {"max_shard_size": max_file_size, "num_proc": num_proc}
    try:
        builder.download_and_prepare(str(folder), file_format="parquet", **sizes)
    except Exception as error:
        cause: BaseException | None = error
        # the writer that ran out of room is closed after it, and what that raises may hide the first error
        while cause is not None and getattr(cause, "errno", None) not in _NO_ROOM:
            cause = cause.__context__
        if cause is not None or shutil.disk_usage(folder.parent).free < _FULL_DISK_BYTES:
            raise OSError(
                f"{folder.parent}: no room left for the Parquet files, which are as large as the images; set TMPDIR "
                "to a folder on a larger disk"
            ) from error
        raise
    return name_parquet_files(folder)


def _notes(dataset: str, data_dir: str | os.PathLike[str] | None, allow_missing: bool) -> list[str]:
    """What the card must say of these files beside what is known of the data set."""
    from ..data.files.archives import open_archive
    from ..data.files.marker import read_marker

    notes = []
    if dataset in ("rrsisd", "refsegrs") and data_dir is not None and read_marker(open_archive(data_dir)) is not None:
        notes.append(
            "**This is not the benchmark: it is a stand-in of rendered scenes (SyntheticRS, Apache-2.0) in its "
            "layout, written by `rrsis write-demo` to try programs on.** What is said below of content, source "
            "and licence is that of the benchmark."
        )
    if allow_missing:
        notes.append(
            "Published with `--allow-missing`: samples whose image or mask was missing in the download are not here."
        )
    return notes


def _check_right(dataset: str, i_have_the_right_to: bool, license_id: str | None) -> None:
    """Refuse before anything is read."""
    if dataset not in DATASETS:
        raise ValueError(f"dataset: expected one of {list(DATASETS)}, got {dataset!r}")
    if dataset == NEEDS_RIGHT and not i_have_the_right_to:
        raise ValueError(
            "RRSIS-D: not published. No licence is stated for it and it derives from DIOR, which is for "
            "non-commercial use, so nobody may pass it on without asking. If you asked, add --i-have-the-right-to; "
            "else publish a link to https://github.com/Lsan2401/RMSIN"
        )
    if license_id is not None and dataset != "own":
        raise ValueError(f"--license: {FACTS[dataset].title} brings its own licence; only own data has none")


def _make_builder(dataset: str, data_dir: str | os.PathLike[str] | None, **options: Any) -> Any:
    """The builder of a data set that has files, or of the rendered one that has none."""
    from ..data import BENCHMARKS

    if dataset != "synthetic":
        return BENCHMARKS[dataset](data_dir=data_dir, **options)
    if data_dir is not None:
        raise ValueError(f"--data-dir: SyntheticRS is rendered and reads no files, got {data_dir}; leave it out")
    return BENCHMARKS[dataset](**options)


def name_parquet_files(folder: Path) -> list[RepoFile]:
    """The builder's files under the names that a repository's metadata lists: `data/train-00000-of-00001.parquet`."""
    files = []
    for path in sorted(folder.glob("*.parquet")):
        match = _BUILT.fullmatch(path.name)
        if match is None:
            raise ValueError(f"{path.name}: expected a name such as refsegrs-train.parquet from the builder")
        files.append(RepoFile(f"data/{match['split']}{match['part'] or '-00000-of-00001'}.parquet", path))
    return files
