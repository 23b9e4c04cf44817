"""What the commands share: errors in one sentence, and files for results, checked before the work that makes them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import typer

from ..errors import error_text, is_plain


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Tell what a user can mend in words instead of a traceback, and end with exit code 1."""
    try:
        yield
    except Exception as error:
        if not is_plain(error):
            raise
        typer.secho(f"rrsis: {error_text(error)}", fg="red", err=True)
        raise typer.Exit(1) from error


def check_result_files(paths: Mapping[str, Path | None]) -> dict[str, Path | None]:
    """Expand `~` in the files that options name, and find out before anything runs what can't be written.

    Args:
        paths: The files by the options' names; `None` where an option was left out.

    Raises:
        ValueError: If a file is a folder, lies in no folder, can't be written to, or is named twice.
    """
    found = {option: None if path is None else path.expanduser() for option, path in paths.items()}
    taken: dict[Path, str] = {}
    for option, path in found.items():
        if path is None:
            continue
        folder = path.resolve().parent
        if path.is_dir() or not folder.is_dir():
            raise ValueError(f"{option}: expected a file name in an existing folder, got {path}")
        if not os.access(path if path.exists() else folder, os.W_OK):
            raise ValueError(f"{option}: expected a file that can be written, {path} can't; choose another one")
        other = taken.setdefault(path.resolve(), option)
        if other != option:
            raise ValueError(f"{option}: expected a file of its own for each result, {path} is {other}'s too")
    return found
