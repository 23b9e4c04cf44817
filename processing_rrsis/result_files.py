"""Results that replace neither what is read nor, unasked, what is there; and files that are never half there."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO


def check_untouched(results: Iterable[Path | None], reads: Iterable[str | Path | None], *, overwrite: bool) -> None:
    """Find out whether results would replace what is read, or what an earlier run wrote.

    Args:
        results: Files and folders to be written; `None` where there is none. An empty folder may be written to.
        reads: Files and folders that are read; links count as what they lead to. Names that are no files, such as of
            repositories, do no harm.
        overwrite: Whether earlier results may be replaced; what is read never is.

    Raises:
        ValueError: If there is such a file or folder.
    """
    read = [Path(name).expanduser() for name in reads if name is not None]
    read = [path.resolve() for path in read if path.exists()]
    for path in results:
        if path is None or not path.exists():
            continue
        target = path.resolve()
        for source in read:
            if target.samefile(source) or target.is_relative_to(source) or source.is_relative_to(target):
                raise ValueError(f"{path}: expected a name of its own for a result, {source} is read; choose another")
        if not overwrite and not (path.is_dir() and not any(path.iterdir())):
            raise ValueError(f"{path}: expected nothing of this name, it is there; choose another or pass --overwrite")


def write_result(path: Path, content: bytes) -> None:
    """Write a file at once: aside, down to the disk, then renamed, so that it is never half there.

    A link stays a link.
    """
    target = path.resolve()
    aside = target.with_name(f".{target.name}.writing")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, target)
    except OSError as error:
        error.filename = error.filename or str(path)  # of a full disk it tells none
        raise
    finally:
        aside.unlink(missing_ok=True)


class BusyError(ValueError):
    """Another process is at work on the same result."""


def take_lock(path: Path, busy: str) -> IO[str] | None:
    """Keep other processes out for as long as this one lives or the file is open.

    Args:
        path: File that is locked; it is made where it is not there.
        busy: What to say where another process has it.

    Returns:
        The open file, to be kept; `None` where the file system has no locks.

    Raises:
        BusyError: If another process has it.
        ValueError: If the place is taken by what is no file.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise ValueError(f"{path}: expected a file of rrsis' own or none, got something else; remove it")
    file = path.open("a", encoding="utf-8")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock, which data loader workers would inherit
    except (BlockingIOError, PermissionError) as error:
        file.close()
        raise BusyError(busy) from error
    except OSError:
        file.close()
        return None
    return file
