"""`rrsis prepare`: checks a download before anything is built."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..result_files import check_untouched
from .common import RESULTS, JsonFile, _plain_errors, check_result_files, write_json


class Layout(StrEnum):
    """Published layouts."""

    RRSISD = "rrsisd"
    REFSEGRS = "refsegrs"
    RISBENCH = "risbench"


class Expected(StrEnum):
    """Where the expected counts come from."""

    PUBLISHED = "published"
    DEMO = "demo"
    NONE = "none"


def prepare(
    data_dir: Annotated[
        Path, typer.Argument(help="Folder or zip as downloaded; nothing is unpacked.", show_default=False)
    ],
    dataset: Annotated[
        Layout | None, typer.Option("--dataset", "-d", help="What it is.", show_default="found out from the files")
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing", help="Go on without the references whose image or mask is missing, and say which."
        ),
    ] = False,
    json_file: JsonFile = None,
    expected: Annotated[
        Expected | None,
        typer.Option(help="Counts to compare with.", show_default="demo where there is a demo.json, else published"),
    ] = None,
    num_workers: Annotated[int, typer.Option(min=1, help="Processes that check.")] = 1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier report.", rich_help_panel=RESULTS)
    ] = False,
) -> None:
    """Check a download of RRSIS-D, RefSegRS or RISBench before anything is built.

    Every file that the lists name is decoded once; nothing is changed.

    Damage stops, exit code 1:
      - refs(unc).p asks to run code (nothing of it is run);
      - a list is missing, damaged, or of another length than published;
      - a name leads out of the folder; a category does not exist;
      - an image or a mask is missing, truncated or unreadable;
      - two splits name the same image, two references have the same numbers;
      - 2 or more masks and over 5 % of a split are empty (values 0 and 1?);
      - no reference is left, or none of a split.

    --allow-missing goes on where images or masks are missing, and names every
    reference that is left out. All other damage still stops.

    Oddities of published data are counted and kept, exit code 0:
      - masks of another size than their image (resized, nearest);
      - mask values other than 0 and 255 (above 50 is foreground); empty masks;
      - boxes that don't fit their mask (not used);
      - duplicate expressions; equal images under two names in two splits;
      - files that no list names (ignored).

    Examples:
        rrsis prepare RRSIS-D --dataset rrsisd --json report.json
    """
    with _plain_errors():
        json_file = check_result_files({"--json": json_file})["--json"]
        check_untouched([json_file], reads=[data_dir], overwrite=overwrite)
        _refuse_table(data_dir)

        from rich.console import Console

        from ..data.checks.download import check_download
        from ..reports.download import print_report

        found = check_download(
            data_dir,
            dataset=None if dataset is None else dataset.value,
            expected=None if expected is None else expected.value,
            allow_missing=allow_missing,
            num_proc=num_workers,
        )
        if json_file is not None:
            write_json(found.as_dict(), json_file)
        print_report(found, Console(highlight=False, markup=False), report_file=json_file)
    raise typer.Exit(found.exit_code)


def _refuse_table(data_dir: Path) -> None:
    """Refuse a table of one's own data."""
    from ..data.own_table import TABLE_ENDINGS

    if data_dir.suffix.lower() in TABLE_ENDINGS and not data_dir.is_dir():
        raise ValueError(
            f"{data_dir}: expected the folder or zip of a published benchmark, got a table; own data are checked when "
            f'they are read: load_benchmark("{data_dir}")'
        )
