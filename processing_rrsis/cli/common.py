"""What the commands share: errors in one sentence, and files for results, checked before the work that makes them."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import error_text, is_plain
from ..result_files import write_result

MODEL_HELP = "Model folder (a run's best/) or Hub repository."
HTML_ENDINGS = (".html", ".htm")
SCREEN = "-"
"""A file's name by which JSON is printed."""
RESULTS, COMPUTES = "Results", "Who computes"
"""Groups of options that several commands have."""
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", help="Also write every number as JSON.", show_default=False, rich_help_panel=RESULTS),
]
ListedJson = Annotated[
    Path | None,
    typer.Option("--json", help="Write it as JSON; - prints that.", show_default=False, rich_help_panel=RESULTS),
]
TRUST_HELP = "Run code of a Hub repository that is not ours."
TrustRemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help=TRUST_HELP, rich_help_panel=COMPUTES)]


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


@contextmanager
def stopped_in_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the process as an error does: what is half done is taken away, what is done is told.

    The exit status is 128 + the signal's number, as shells have it.
    """
    stops = [
        getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
    ]  # Windows has no hang-up
    handlers = [signal.signal(stop, lambda number, frame: sys.exit(128 + number)) for stop in stops]
    try:
        yield
    finally:
        for stop, handler in zip(stops, handlers, strict=True):
            signal.signal(stop, handler)


def check_result_files(
    paths: Mapping[str, Path | None], endings: Mapping[str, Collection[str]] | None = None
) -> dict[str, Path | None]:
    """Expand `~` in the files that options name, and find out before anything runs what can't be written.

    Args:
        paths: The files by the options' names; `None` where an option was left out.
        endings: Endings that a file's name may have, in lower case, by option; any where an option is left out.

    Raises:
        ValueError: If a file is a folder, lies in no folder, can't be written to, is named twice, or ends otherwise.
    """
    found = {option: None if path is None else path.expanduser() for option, path in paths.items()}
    taken: dict[Path, str] = {}
    for option, path in found.items():
        if path is None:
            continue
        if path.is_dir():
            raise ValueError(f"{option}: expected a file name in an existing folder, got the folder {path}")
        check_place(option, path)
        allowed = (endings or {}).get(option)
        if allowed and path.suffix.lower() not in allowed:
            raise ValueError(f"{option}: expected a file name that ends with {', '.join(allowed)}, got {path}")
        other = taken.setdefault(path.resolve(), option)
        if other != option:
            raise ValueError(f"{option}: expected a file of its own for each result, {path} is {other}'s too")
    return found


def write_json(value: Any, path: Path) -> None:
    """Write plain values as JSON: a file at once, or to the screen."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    if str(path) == SCREEN:
        typer.echo(text, nl=False)
    else:
        write_result(path, text.encode(errors="backslashreplace"))  # bytes of a name that is no UTF-8 are escaped


def check_place(option: str, path: Path) -> None:
    """Find out whether a file or a folder can be written under its name.

    Raises:
        ValueError: If it lies in no folder or can't be written to.
    """
    folder = path.resolve().parent
    if not folder.is_dir():
        raise ValueError(f"{option}: expected a name in an existing folder, {folder} is none; create it first")
    place = path if path.exists() and not path.is_dir() else folder
    if not os.access(place, os.W_OK):
        raise ValueError(f"{option}: expected a folder or file that can be written to, {place} can't; choose another")
