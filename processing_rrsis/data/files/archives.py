"""A downloaded benchmark as a set of named files: a folder or a zip, with or without an outer folder around it.

Nothing is unpacked. Names are relative POSIX paths below the benchmark's own root; a name that would leave it is
refused, wherever the name came from (a zip entry, a line of a text file, a field of a pickle).
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

from ...bounds_rrsis import read_file

LAYOUT_MARKERS: tuple[str, ...] = (
    "rrsisd/refs(unc).p",
    "rrsisd/instances.json",
    "output_phrase_train.txt",
    "output_phrase_val.txt",
    "output_phrase_test.txt",
)
"""Files that lie at a fixed place of a published layout; where one is found decides which folder is the root."""
LAYOUT_FOLDERS = frozenset({"images", "masks", "rrsisd", "img_rgb", "mask"})
MAX_MEMBER_BYTES = 1 << 29
"""Largest file that is read whole; the largest published one, RRSIS-D's annotations, is far below 512 MiB."""
MAX_FILES = 1_000_000
_LITTER = re.compile(r"(^|/)(__MACOSX/|\._|\.DS_Store$|Thumbs\.db$|desktop\.ini$)")


class ArchiveError(ValueError):
    """The archive, or a name asked of it, is not acceptable; the message names the file."""


class Archive(ABC):
    """Named files below the root of a benchmark; picklable, and usable from several processes and threads.

    Attributes:
        source: The folder or zip that was opened.
        root: Folder inside `source` that names are relative to, ``""`` or ending in a slash.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self.root = ""
        self._stamps: dict[str, str] | None = None

    def names(self) -> list[str]:
        """Return the names of all files below the root, sorted; files that operating systems leave are left out."""
        return sorted(self._all_stamps())

    def exists(self, name: str) -> bool:
        """Tell whether there is a file of this name.

        Raises:
            ArchiveError: If the name would leave the archive.
        """
        return self._has(self.root + checked_name(name, self.source))

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            FileNotFoundError: If there is no such file.
            ArchiveError: If the name would leave the archive, or the file is damaged, encrypted or too large.
        """
        return self._read(self.root + checked_name(name, self.source))

    def location(self, name: str) -> str:
        """Return a name as people find it, for messages."""
        return f"{self.source}/{self.root}{name}"

    def fingerprint(self, prefixes: Iterable[str] = ("",)) -> str:
        """Return a hash of names, sizes and times of change (a zip: checksums), which changes when a file is edited.

        Args:
            prefixes: Only files whose names begin with one of these.

        Returns:
            16 hexadecimal digits.
        """
        wanted = tuple(prefixes)
        stamps = self._all_stamps(refresh=True)
        digest = hashlib.sha256()
        for name in sorted(name for name in stamps if name.startswith(wanted)):
            digest.update(f"{name}\0{stamps[name]}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]

    def _all_stamps(self, refresh: bool = False) -> dict[str, str]:
        if self._stamps is None or refresh:
            start = len(self.root)
            stamps = ((name[start:], stamp) for name, stamp in self._walk() if name.startswith(self.root))
            self._stamps = {name: stamp for name, stamp in stamps if not _LITTER.search(name)}
        return self._stamps

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_stamps": None}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.source)!r}, root={self.root!r})"

    @abstractmethod
    def _walk(self) -> Iterator[tuple[str, str]]:
        """Yield the name below `source`, and what changes with the content, of every file."""

    @abstractmethod
    def _has(self, path: str) -> bool:
        """Tell whether a path below `source` is a file."""

    @abstractmethod
    def _read(self, path: str) -> bytes:
        """Return the content of a path below `source`."""


class FolderArchive(Archive):
    """A folder; symbolic links in it are followed, each folder once."""

    def _walk(self) -> Iterator[tuple[str, str]]:
        seen: set[tuple[int, int]] = set()
        pending = [(self.source, "")]
        while pending:
            folder, prefix = pending.pop()
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir():
                        pending.append((folder / entry.name, f"{prefix}{entry.name}/"))
                    elif entry.is_file():
                        status = entry.stat()
                        yield prefix + entry.name, f"{status.st_size} {status.st_mtime_ns}"

    def _has(self, path: str) -> bool:
        return (self.source / path).is_file()

    def _read(self, path: str) -> bytes:
        file = self.source / path
        if not file.is_file():
            raise FileNotFoundError(f"{file}: expected a file of the benchmark, found none")
        if file.stat().st_size > MAX_MEMBER_BYTES:
            raise _too_large(str(file), file.stat().st_size)
        return read_file(file)


class ZipArchive(Archive):
    """A zip as downloaded, read in place; every process opens it for itself."""

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        self._reader: zipfile.ZipFile | None = None
        self._reader_process = -1
        self._paths: dict[str, zipfile.ZipInfo] = {}

    def _open(self) -> dict[str, zipfile.ZipInfo]:
        """Open the zip unless this process has; a handle from before a fork would share its position."""
        if self._reader is None or self._reader_process != os.getpid():
            try:
                self._reader = zipfile.ZipFile(self.source)
            except Exception as error:  # on a damaged file zipfile raises several kinds
                raise ArchiveError(
                    f"{self.source}: expected a complete zip file, got {error}; the download may be cut short, "
                    "fetch it again"
                ) from error
            self._reader_process = os.getpid()
            names = [info.filename.replace("\\", "/") for info in self._reader.infolist()]
            if len(set(names)) != len(names) or len(names) > MAX_FILES:
                found = next((name for name, count in Counter(names).items() if count > 1), f"{len(names):,} files")
                raise ArchiveError(
                    f"{self.source}: expected at most {MAX_FILES:,} files, each of its own name, got {found!r}; this "
                    "is no archive as published"
                )
            infos = zip(names, self._reader.infolist(), strict=True)
            self._paths = {checked_name(name, self.source): info for name, info in infos if not name.endswith("/")}
        return self._paths

    def _walk(self) -> Iterator[tuple[str, str]]:
        for path, info in self._open().items():
            yield path, f"{info.file_size} {info.CRC:08x}"

    def _has(self, path: str) -> bool:
        return path in self._open()

    def _read(self, path: str) -> bytes:
        info = self._open().get(path)
        if info is None or self._reader is None:
            raise FileNotFoundError(f"{self.source}/{path}: expected a file of the benchmark, the zip holds none")
        if info.file_size > MAX_MEMBER_BYTES:
            raise _too_large(f"{self.source}/{path}", info.file_size)
        try:
            return self._reader.read(info)
        except Exception as error:  # zipfile lets the errors of every kind of compression through
            raise ArchiveError(
                f"{self.source}/{path}: expected a readable file, got {error}; fetch the zip again or unpack it "
                "and give the folder"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_reader": None, "_reader_process": -1, "_paths": {}}


def checked_name(name: str, source: str | PathLike[str]) -> str:
    """Return a name unchanged if it is a relative POSIX path that stays where it is.

    Args:
        name: The name, e.g. ``"images/00001.jpg"``.
        source: Where the name came from, for the message.

    Raises:
        ArchiveError: For an absolute path, one with ``..``, a backslash or a NUL, or an empty one.
    """
    parts = name.split("/")
    if not name or name.startswith("/") or "\\" in name or "\0" in name or not {".", "..", ""}.isdisjoint(parts):
        raise ArchiveError(
            f"{source}: expected relative file names with forward slashes that stay inside, got {name!r}; "
            "this is no archive as published, don't unpack it"
        )
    if os.name == "nt" and ":" in name:
        raise ArchiveError(f"{source}: a colon in a file name would name a drive on Windows, got {name!r}")
    return name


def open_archive(path: str | PathLike[str]) -> Archive:
    """Open a downloaded benchmark.

    Where the published files lie in an outer folder ("RefSegRS/images/…"), that folder becomes the root.

    Args:
        path: A folder, or a .zip as downloaded.

    Returns:
        The archive; it is read when asked.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        ArchiveError: If it is neither folder nor zip, is damaged, or holds several benchmarks.
    """
    source = Path(path).expanduser().absolute()
    if not source.exists():
        raise FileNotFoundError(f"{source}: expected the folder or the .zip of a downloaded benchmark, found nothing")
    if not source.is_dir() and not source.is_file():
        raise ArchiveError(f"{source}: expected a folder or a .zip file, got a pipe or a device")
    if not source.is_dir() and not zipfile.is_zipfile(source):
        hint = "the download may be cut short" if source.suffix.lower() == ".zip" else "unpack it and give the folder"
        raise ArchiveError(f"{source}: expected a folder or a .zip file, got something else; {hint}")
    archive: Archive = FolderArchive(source) if source.is_dir() else ZipArchive(source)
    if not any(archive.exists(marker) for marker in LAYOUT_MARKERS):
        archive.root = _find_root(archive.names(), source)
        archive._stamps = None
    return archive


def _find_root(names: list[str], source: Path) -> str:
    """Return the folder of a published layout; without one, the folders that everything lies in."""
    roots = Counter(name[: -len(marker)] for marker in LAYOUT_MARKERS for name in names if name.endswith(f"/{marker}"))
    if len(roots) > 1:
        raise ArchiveError(f"{source}: expected one benchmark, got several, in {sorted(roots)}; give one of them")
    if roots:
        return next(iter(roots))
    root: list[str] = []
    folders = [PurePosixPath(name).parent.parts for name in names]
    while folders:
        firsts = {parts[len(root)] if len(parts) > len(root) else None for parts in folders}
        (first,) = firsts if len(firsts) == 1 else (None,)
        if first is None or first in LAYOUT_FOLDERS:
            break
        root.append(first)
    return "".join(f"{part}/" for part in root)


def _too_large(name: str, size: int) -> ArchiveError:
    return ArchiveError(
        f"{name}: expected a file of at most {MAX_MEMBER_BYTES >> 20} MiB, got {size >> 20} MiB; no published file "
        "is that large"
    )
