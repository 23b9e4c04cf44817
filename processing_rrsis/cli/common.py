"""What the commands share: errors in one sentence, and files for results, checked before the work that makes them."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import error_text, is_plain

MODEL_HELP = "Model folder (a run's best/) or Hub repository."
HTML_ENDINGS = (".html", ".htm")
SCREEN = "-"
"""A file's name by which JSON is printed."""
JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write every number as JSON.", show_default=False)]
ListedJson = Annotated[
    Path | None, typer.Option("--json", help="Write it as JSON; - prints that.", show_default=False)
]
TRUST_HELP = "Run code of a Hub repository that is not ours."
TrustRemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help=TRUST_HELP)]


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


def check_untouched(results: Iterable[Path | None], reads: Iterable[str | Path | None], *, overwrite: bool) -> None:
    """Find out whether results would replace what a command reads, or what another one wrote.

    Args:
        results: Files to be written; `None` where there is none.
        reads: Files and folders that are read; links count as what they lead to. Names that are no files, such as of
            repositories, do no harm.
        overwrite: Whether earlier results may be replaced; what is read never is.

    Raises:
        ValueError: If there is such a file.
    """
    read = [Path(name).expanduser() for name in reads if name is not None]
    for path in results:
        if path is None or not path.exists():
            continue
        for source in read:
            inside = source.is_dir() and path.resolve().is_relative_to(source.resolve())
            if inside or (source.is_file() and path.samefile(source)):
                raise ValueError(f"{path}: expected a name of its own for a result, this file is read; choose another")
        if not overwrite:
            raise ValueError(f"{path}: expected a new file, there is one already; choose a name or pass --overwrite")


def write_result(path: Path, content: bytes) -> None:
    """Write a file at once: aside first, then renamed, so that it is never half there. A link stays a link."""
    target = path.resolve()
    aside = target.with_name(f".{target.name}.part")
    try:
        aside.write_bytes(content)
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)


def write_json(value: Any, path: Path) -> None:
    """Write plain values as JSON: a file at once, or to the screen."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    if str(path) == SCREEN:
        typer.echo(text, nl=False)
    else:
        write_result(path, text.encode())


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
