"""Checks a download of RRSIS-D, RefSegRS or RISBench before anything is built from it.

Nothing is changed and nothing unpacked; every file that the lists name is decoded once. What stops and what is
counted is written in `findings`.
"""

from __future__ import annotations

import multiprocessing
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path

from rich import get_console
from rich.progress import track

from ...expression_rrsis import CATEGORY_SETS
from ..facts import DOWNLOADS, FACTS, PUBLISHED_COUNTS
from ..files.archives import Archive, open_archive
from ..files.marker import Marker, read_marker
from ..files.rows import SPLITS
from ..load import detect_dataset
from ..refsegrs import FOREGROUND_ABOVE
from ..rrsisd import spaced_category
from ..writing.folder import PARTIAL_SUFFIX
from .findings import CHECKS, CheckReport, Finding, FindingItem
from .lists import ListedSample, Listing, list_samples
from .pictures import ImageFacts, ImageTask, MaskTask, examine

EXPECTATIONS: tuple[str, ...] = ("published", "demo", "none")
CHUNK_SIZE = 8
MAX_EMPTY_SHARE = 0.05
MIN_EMPTY_MASKS = 2
"""From both on, empty masks of a split are no oddity any more."""
Problem = tuple[str, str, str]


def check_download(
    path: str | PathLike[str],
    dataset: str | None = None,
    *,
    expected: str | None = None,
    allow_missing: bool = False,
    num_proc: int = 1,
    progress: bool = True,
) -> CheckReport:
    """Check a download.

    Args:
        path: Folder or zip as downloaded.
        dataset: ``"rrsisd"``, ``"refsegrs"`` or ``"risbench"``; found out from the files by default.
        expected: Counts to compare with: ``"published"``, ``"demo"`` (those in ``demo.json``) or ``"none"``. By
            default ``"demo"`` where there is a ``demo.json``, else ``"published"``, and ``"none"`` where none are
            known.
        allow_missing: Whether samples whose image or mask is missing may be left out.
        num_proc: Processes; the report does not depend on it.
        progress: Whether to show a bar, in a terminal only.

    Returns:
        The report. Memory grows with the lists (a few kB a sample), not with the pictures.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        ValueError: For an unknown dataset or expectation, no benchmark at `path`, or a damaged zip.
    """
    archive = open_archive(_written_whole(path))
    name = detect_dataset(archive) if dataset is None else dataset
    if name not in DOWNLOADS:
        raise ValueError(f"dataset: expected one of {list(DOWNLOADS)}, got {name!r}")
    if num_proc < 1:
        raise ValueError(f"num_proc: expected at least 1, got {num_proc}")
    marker = read_marker(archive)
    expected_from, counts = expected_counts(name, expected, marker=marker)
    categories = set(CATEGORY_SETS["rrsisd"])
    nominal = FACTS[name].side_px
    if expected_from == "demo" and marker is not None:
        categories |= set(map(spaced_category, marker.categories))
        nominal = marker.image_size_px
    listing = list_samples(archive, name, categories=categories)
    problems = [*listing.problems, *compare_counts(listing, counts), *find_stray_files(archive, listing)]
    tasks = image_tasks(listing.samples, nominal_size_px=nominal)
    digests: dict[str, bytes] = {}
    for facts in _examine_all(archive, tasks, num_proc=num_proc, progress=progress):
        problems.extend(facts.problems)
        if facts.digest is not None:
            digests[facts.name] = facts.digest
    problems += find_leaks(listing.samples, digests)
    problems += find_duplicates(listing.samples, digests)
    problems += find_many_empty_masks(listing.samples, problems)
    left_out, per_split = find_left_out(listing.samples, problems)
    problems += find_nothing_left(listing, per_split)
    return CheckReport(
        dataset=name,
        source=str(archive.source),
        expected_from=expected_from,
        counts=listing.counts,
        expected=dict(counts or {}),
        images=len(tasks),
        findings=group_problems(problems),
        left_out=left_out,
        left_out_per_split=per_split,
        allow_missing=allow_missing,
    )


def _written_whole(path: str | PathLike[str]) -> Path:
    """Return a path unless a write of ours into it was interrupted.

    Raises:
        FileNotFoundError: If it was.
    """
    target = Path(path).expanduser()
    partial = target.with_name(target.name + PARTIAL_SUFFIX)
    if not target.exists() and partial.exists():
        raise FileNotFoundError(
            f"{target}: a write into it was interrupted or is still running ({partial} is there); write it again with "
            "--overwrite"
        )
    return target


def expected_counts(
    dataset: str, expected: str | None, *, marker: Marker | None
) -> tuple[str, Mapping[str, int] | None]:
    """Return where the expected counts come from, and the counts.

    Raises:
        ValueError: For an unknown source, or one that has no counts.
    """
    if expected is None:
        expected = "demo" if marker is not None else "published" if dataset in PUBLISHED_COUNTS else "none"
    if expected not in EXPECTATIONS:
        raise ValueError(f"expected: expected one of {list(EXPECTATIONS)}, got {expected!r}")
    if expected == "none":
        return expected, None
    if expected == "published":
        if dataset not in PUBLISHED_COUNTS:
            raise ValueError(
                f"expected: there are published counts of {sorted(PUBLISHED_COUNTS)} only, not of {dataset!r}"
            )
        return expected, PUBLISHED_COUNTS[dataset]
    if marker is None:
        raise ValueError("expected: 'demo' needs the demo.json that `rrsis write-demo` writes, there is none")
    if marker.layout != dataset:
        raise ValueError(f"dataset: demo.json says that this folder is {marker.layout!r}, got {dataset!r}")
    return expected, marker.counts


def compare_counts(listing: Listing, counts: Mapping[str, int] | None) -> list[Problem]:
    """Compare the number of references of each split with what is expected."""
    if counts is None:
        found = ", ".join(f"{split} {listing.counts[split]}" for split in SPLITS)
        return [("no-counts", found, "")]
    if not listing.complete and not any(listing.counts.values()):
        return []  # no list could be read, which is reported already
    return [
        ("wrong-count", split, f"{listing.counts[split]} references, expected {counts[split]}")
        for split in SPLITS
        if listing.counts[split] != counts[split]
    ]


def find_stray_files(archive: Archive, listing: Listing) -> list[Problem]:
    """Find files that no list names; without complete lists nothing can be said about images, masks and boxes."""
    folders = tuple(f"{folder}/" for folder in listing.folders)
    problems: list[Problem] = []
    for name in archive.names():
        if name in listing.known_files:
            continue
        if not name.startswith(folders):
            problems.append(("other-file", name, ""))
        elif listing.complete:
            problems.append(("extra-file", name, ""))
    return problems


def image_tasks(samples: Iterable[ListedSample], nominal_size_px: int | None = None) -> list[ImageTask]:
    """Gather the masks of each image, so that every file is read once."""
    masks: dict[str, dict[str, MaskTask]] = defaultdict(dict)
    for sample in samples:
        image_masks = masks[sample.image]
        if sample.mask is not None:
            image_masks[sample.mask.label] = sample.mask
    return [
        ImageTask(name=name, masks=tuple(image_masks.values()), nominal_size_px=nominal_size_px)
        for name, image_masks in masks.items()
    ]


_archive: Archive | None = None
"""In a worker process: the download that it looks into."""


def _use_archive(archive: Archive) -> None:
    global _archive
    _archive = archive


def _examine_in_worker(task: ImageTask) -> ImageFacts:
    if _archive is None:
        raise RuntimeError("expected a worker process that was given an archive")
    return examine(_archive, task)


def _examine_all(
    archive: Archive, tasks: Sequence[ImageTask], *, num_proc: int, progress: bool
) -> Iterator[ImageFacts]:
    """Look into all images, in order, with a bar."""
    hidden = not (progress and get_console().is_terminal)

    def shown(results: Iterable[ImageFacts]) -> Iterable[ImageFacts]:
        return track(results, description="checking images", total=len(tasks), transient=True, disable=hidden)

    if num_proc == 1 or not tasks:
        yield from shown(examine(archive, task) for task in tasks)
        return
    with multiprocessing.Pool(num_proc, initializer=_use_archive, initargs=(archive,)) as pool:
        yield from shown(pool.imap(_examine_in_worker, tasks, chunksize=CHUNK_SIZE))


def find_leaks(samples: Iterable[ListedSample], digests: Mapping[str, bytes]) -> list[Problem]:
    """Find images in two splits, by name and by the bytes of the files.

    Of files with the same bytes, the ones of the first split in the order train, validation, test are the originals.
    """
    splits: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        if sample.split not in splits[sample.image]:
            splits[sample.image].append(sample.split)
    problems: list[Problem] = [
        ("leak", image, " and ".join(sorted(found, key=SPLITS.index)))
        for image, found in splits.items()
        if len(found) > 1
    ]
    same: dict[bytes, list[str]] = defaultdict(list)
    for image, found in sorted(splits.items(), key=lambda item: (SPLITS.index(item[1][0]), item[0])):
        if image in digests and len(found) == 1:
            same[digests[image]].append(image)
    for images in same.values():
        origin = images[0]
        problems.extend(
            ("leak-content", image, f"{splits[image][0]}; same bytes as {origin} of {splits[origin][0]}")
            for image in images[1:]
            if splits[image][0] != splits[origin][0]
        )
    return problems


def find_duplicates(samples: Iterable[ListedSample], digests: Mapping[str, bytes]) -> list[Problem]:
    """Find expressions that occur again about the same image; letter case and runs of blanks do not count."""
    seen: dict[tuple[bytes | str, str], ListedSample] = {}
    problems: list[Problem] = []
    for sample in samples:
        key = (digests.get(sample.image, sample.image), " ".join(sample.expression.lower().split()))
        first = seen.setdefault(key, sample)
        if first is not sample:
            detail = f'"{sample.expression}" of {sample.split}; first as {first.label} of {first.split}'
            problems.append(("duplicate-expression", sample.image, detail))
    return problems


def find_many_empty_masks(samples: Iterable[ListedSample], problems: Iterable[Problem]) -> list[Problem]:
    """Find splits in which at least `MIN_EMPTY_MASKS` masks, and more than `MAX_EMPTY_SHARE` of them, are empty."""
    found: dict[str, set[str]] = defaultdict(set)
    for check, name, _ in problems:
        found[check].add(name)
    masks: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        if sample.mask is not None:
            masks[sample.split].add(sample.mask.label)
    many: list[Problem] = []
    for split, labels in masks.items():
        empty = labels & found["empty-mask"]
        if len(empty) < MIN_EMPTY_MASKS or len(empty) <= MAX_EMPTY_SHARE * len(labels):
            continue
        detail = f"{len(empty)} of {len(labels)} masks"
        if empty & found["mask-values"]:
            detail += f"; values 0/1? Foreground is a value above {FOREGROUND_ABOVE}: re-encode them as 0 and 255"
        many.append(("many-empty-masks", split, detail))
    return many


def find_nothing_left(listing: Listing, left_out_per_split: Mapping[str, int]) -> list[Problem]:
    """Find splits, or a whole download, of which no reference could be built."""
    if listing.complete and not any(listing.counts.values()):
        return [("nothing-left", "all splits", "the lists name no reference")]
    return [
        ("nothing-left", split, f"all {count} left out")
        for split, count in listing.counts.items()
        if count and left_out_per_split.get(split, 0) == count
    ]


def find_left_out(
    samples: Iterable[ListedSample], problems: Iterable[Problem]
) -> tuple[tuple[FindingItem, ...], dict[str, int]]:
    """Return the samples whose image or mask is missing, with the reason, and their number per split."""
    reasons = {name: check for check, name, _ in problems if CHECKS[check].leaves_out}
    left_out: list[FindingItem] = []
    per_split = dict.fromkeys(SPLITS, 0)
    for sample in samples:
        reason = reasons.get(sample.image) or reasons.get(sample.label)
        if reason is not None:
            name = sample.label if sample.label.startswith(sample.image) else f"{sample.image}: {sample.expression}"
            left_out.append(FindingItem(name=name, detail=reason))
            per_split[sample.split] += 1
    return tuple(sorted(left_out)), per_split


def group_problems(problems: Iterable[Problem]) -> tuple[Finding, ...]:
    """Gather problems into one finding per check, in the order of `CHECKS`."""
    items: dict[str, set[FindingItem]] = defaultdict(set)
    for check, name, detail in problems:
        items[check].add(FindingItem(name=name, detail=detail))
    return tuple(Finding(check=check, items=tuple(sorted(items[check]))) for check in CHECKS if items[check])
