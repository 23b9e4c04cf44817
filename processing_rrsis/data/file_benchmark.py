"""What the builders of benchmarks from files share: columns, checks, shards, the cache key, and what gets reported."""

from __future__ import annotations

import hashlib
import logging
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import datasets
import numpy as np
import PIL
from datasets.exceptions import DatasetGenerationError
from numpy.typing import NDArray

from ..image_loading_rrsis import BESIDE
from .files.archives import Archive, open_archive
from .files.pictures import Picture, fit_mask, read_picture
from .files.rows import encode_png, row_features, shard_ranges

logger = logging.getLogger(__name__)

READER_VERSION = "1.0.0"
ROW_MODULES: tuple[str, ...] = (
    "file_benchmark",
    "files/archives",
    "files/geometries",
    "files/masks",
    "files/pictures",
    "files/rows",
    "files/safe_pickle",
    "own_data",
    "own_table",
    "refsegrs",
    "refsegrs_files",
    "risbench",
    "rrsisd",
    "rrsisd_files",
)
"""Modules below this folder that decide what a row holds."""
MAX_NAMES = 10
"""Most names in a message."""


class MissingFilesError(FileNotFoundError):
    """Files that the benchmark names are not in the download; the message names them."""


@dataclass
class FileBenchmarkConfig(datasets.BuilderConfig):
    """How a download is read; every field is part of the cache key.

    Attributes:
        allow_missing: Leave samples out whose files are missing, and say which, in place of an error.
    """

    version: datasets.Version | str = datasets.Version(READER_VERSION)  # noqa: RUF009 (immutable in use)
    allow_missing: bool = False


@dataclass(frozen=True)
class Sample:
    """One row before its files are read.

    Attributes:
        sample_id: Unique in its split.
        image_id: Name of the image, without folder and extension; own data of equal names keep their folders.
        expression: The sentence.
        category: Name of the target's category, ``""`` where it is not known.
        image_name: Name of the image file.
        mask_name: Name of the mask file, ``""`` where the mask is no file.
        mask: The mask where it is no file, as `FileBenchmark.read_mask` of the benchmark understands it; None if
            it is missing.
        place: Where it is listed, e.g. ``"line 3"``, for messages; ``""`` where the files' names say enough.
    """

    sample_id: str
    image_id: str
    expression: str
    category: str
    image_name: str
    mask_name: str = ""
    mask: Any = None
    place: str = ""


@dataclass
class Oddities:
    """Counts of what was repaired, or looks wrong, while rows were made, with the first few names."""

    names: dict[str, list[str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, what: str, name: str) -> None:
        """Count one more of a kind."""
        self.counts[what] = self.counts.get(what, 0) + 1
        names = self.names.setdefault(what, [])
        if len(names) < MAX_NAMES:
            names.append(name)

    def log(self, source: str) -> None:
        """Log one warning per kind."""
        for what, count in self.counts.items():
            logger.warning("%s: %d %s: %s", source, count, what, shorten_names(self.names[what], count))


def shorten_names(names: Iterable[str], total: int | None = None) -> str:
    """Join the first names, and say how many more there are."""
    listed = list(names)
    total = len(listed) if total is None else total
    rest = total - min(len(listed), MAX_NAMES)
    return ", ".join(listed[:MAX_NAMES]) + (f" and {rest} more" if rest else "")


@cache
def reader_fingerprint() -> str:
    """Return a hash of the code and the libraries that decide a row's bytes; part of the cache key."""
    here = Path(__file__).parent
    files = {here / f"{module}.py" for module in ROW_MODULES} | set(here.parent.glob("image_*_rrsis.py"))
    files |= {*here.parent.glob("expression_*rrsis.py"), here.parent / "place.py"}
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.read_bytes())
    digest.update(f"numpy {np.__version__} pillow {PIL.__version__}".encode())
    return digest.hexdigest()


class FileBenchmark(datasets.GeneratorBasedBuilder):
    """A benchmark read from a folder or zip as downloaded; the base of `RefSegRS`, `RRSISD`, `RISBench`, `OwnData`.

    Columns: ``image`` (the file's own bytes), ``mask`` (PNG, 8-bit, 0 and 255, of the image's size), ``expression``,
    ``category``, ``image_id``, ``sample_id``. All bytes are embedded, so that Parquet holds everything.

    A sub-class says what it consists of (`read_samples`) and how a mask is read (`read_mask`).
    """

    BUILDER_CONFIG_CLASS = FileBenchmarkConfig
    NAME: ClassVar[str] = ""
    LICENSE: ClassVar[str] = ""
    DOWNLOAD: ClassVar[str] = ""
    MISSING: ClassVar[str] = "are missing in"
    """What a message says of missing files, before the name of the source."""
    FILES: ClassVar[tuple[str, ...]] = ("",)
    """Beginnings of the names that decide the rows; an edit of any such file is noticed."""

    def __init__(self, data_dir: str | PathLike[str] | None = None, **kwargs: Any) -> None:
        """Set up the builder; the names of the files are read, nothing else.

        Args:
            data_dir: Folder or .zip of the download.
            **kwargs: ``cache_dir``, ``allow_missing`` and what else `datasets.DatasetBuilder` takes.

        Raises:
            FileNotFoundError: If there is nothing at `data_dir`.
            ValueError: If no `data_dir` is given, or it is no folder and no zip.
        """
        if data_dir is None or not str(data_dir):
            raise ValueError(f"{self.NAME}: expected data_dir, the folder or .zip of the download; {self.DOWNLOAD}")
        self.archive = self.open(data_dir)
        state = f"{reader_fingerprint()} {self.archive.fingerprint(self.FILES)}"
        kwargs.setdefault("hash", hashlib.sha256(state.encode()).hexdigest()[:16])
        kwargs.setdefault("dataset_name", self.NAME.lower().replace("-", "_"))
        super().__init__(data_dir=str(self.archive.source), **kwargs)

    def open(self, data_dir: str | PathLike[str]) -> Archive:
        """Open the files."""
        return open_archive(data_dir)

    @abstractmethod
    def read_samples(self) -> Mapping[str, list[Sample]]:
        """Return the samples of every split, in the files' order."""

    @abstractmethod
    def read_mask(self, sample: Sample, picture: Picture, oddities: Oddities) -> NDArray[np.uint8]:
        """Return a sample's mask as stored, uint8 (H, W) of 0 and 255."""

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(description=self.__doc__ or "", features=row_features(), license=self.LICENSE)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        generators = []
        for split, samples in self.without_missing(self.read_samples()).items():
            shards = [samples[start:stop] for start, stop in shard_ranges(len(samples))]
            if shards:
                kwargs = {"split": split, "shards": shards}
                generators.append(datasets.SplitGenerator(name=split, gen_kwargs=kwargs))
        if not generators:
            raise ValueError(
                f"{self.NAME}: expected samples in {self.archive.source}, found none whose files are there"
            )
        return generators

    def without_missing(self, splits: Mapping[str, list[Sample]]) -> dict[str, list[Sample]]:
        """Leave out samples with missing files, or refuse; both name the files."""
        there = set(self.archive.names())
        kept: dict[str, list[Sample]] = {}
        missing: dict[str, str] = {}
        for split, samples in splits.items():
            kept[split] = []
            for sample in samples:
                lacks = [name for name in (sample.image_name, sample.mask_name) if name and name not in there]
                if not sample.mask_name and sample.mask is None:
                    lacks.append(f"the mask of {sample.sample_id}")
                for name in lacks:
                    missing.setdefault(name, f"{name} ({sample.place})" if sample.place else name)
                if not lacks:
                    kept[split].append(sample)
        if missing:
            total = sum(map(len, splits.values()))
            left_out = total - sum(map(len, kept.values()))
            text = (
                f"{self.NAME}: {len(missing)} files of {left_out} of {total} samples {self.MISSING} "
                f"{self.archive.source}: {shorten_names(missing.values())}"
            )
            if not self.config.allow_missing:
                raise MissingFilesError(
                    f"{text}. Fetch them, or leave these samples out with allow_missing=True "
                    "(command line: --allow-missing)"
                )
            logger.warning("%s; these samples are left out", text)
        return kept

    def _generate_examples(self, split: str, shards: list[list[Sample]]) -> Iterator[tuple[str, dict[str, Any]]]:
        oddities = Oddities()
        for shard in shards:
            for sample in shard:
                yield sample.sample_id, self.make_row(sample, oddities)
        oddities.log(f"{self.NAME}, {split}")

    def make_row(self, sample: Sample, oddities: Oddities) -> dict[str, Any]:
        """Read the files of a sample and return its row; repairs are counted in `oddities`."""
        name = self.archive.location(sample.image_name)
        endings = [ending for ending in BESIDE if self.archive.exists(sample.image_name + ending)]
        beside = {ending: self.archive.read(sample.image_name + ending) for ending in endings}
        picture = read_picture(self.archive.read(sample.image_name), name=name, beside=beside)
        mask, resized = fit_mask(self.read_mask(sample, picture, oddities), picture)
        if not mask.any():
            oddities.add("masks are empty (all background)", sample.sample_id)
        if resized:
            oddities.add("masks had another size than their image and were resized (nearest)", sample.sample_id)
        return {
            "image": {"path": None, "bytes": picture.data},
            "mask": {"path": None, "bytes": encode_png(mask)},
            "expression": sample.expression,
            "category": sample.category,
            "image_id": sample.image_id,
            "sample_id": sample.sample_id,
        }

    def _prepare_split_single(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """As in `datasets`, but an error about a file is not hidden behind "an error occurred"."""
        try:
            yield from super()._prepare_split_single(*args, **kwargs)
        except DatasetGenerationError as error:
            if isinstance(error.__cause__, ValueError | OSError):
                raise error.__cause__ from None
            raise
