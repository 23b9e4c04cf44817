"""`rrsis prepare`: checks a download before anything is built, or writes a demo in a published layout."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from .common import _plain_errors


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


_CHECK, _DEMO = "Check a download", "Write a demo"
_CHECK_OPTIONS = ("dataset", "allow_missing", "report", "expected")
_DEMO_OPTIONS = (
    "style",
    "num_train",
    "num_validation",
    "num_test",
    "full_size",
    "image_size",
    "expressions_per_image",
    "seed",
    "damage",
    "overwrite",
)


def prepare(
    context: typer.Context,
    data_dir: Annotated[
        Path | None, typer.Argument(help="Folder or zip as downloaded; nothing is unpacked.", show_default=False)
    ] = None,
    dataset: Annotated[
        Layout | None,
        typer.Option(help="What it is; found out from the files by default.", rich_help_panel=_CHECK),
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing",
            help="Go on without the references whose image or mask is missing, and say which.",
            rich_help_panel=_CHECK,
        ),
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Also write the report as JSON, with every name.", rich_help_panel=_CHECK)
    ] = None,
    expected: Annotated[
        Expected | None,
        typer.Option(
            help="Counts to compare with. Default: demo.json where there is one, else the published ones.",
            rich_help_panel=_CHECK,
        ),
    ] = None,
    num_proc: Annotated[int, typer.Option(min=1, help="Processes that check or draw.")] = 1,
    demo: Annotated[
        Path | None,
        typer.Option(help="Write SyntheticRS into this folder, in the layout of --style.", rich_help_panel=_DEMO),
    ] = None,
    style: Annotated[Layout, typer.Option(help="Layout of the demo.", rich_help_panel=_DEMO)] = Layout.RRSISD,
    num_train: Annotated[int, typer.Option(min=1, help="References of train.", rich_help_panel=_DEMO)] = 60,
    num_validation: Annotated[int, typer.Option(min=1, help="References of val.", rich_help_panel=_DEMO)] = 20,
    num_test: Annotated[int, typer.Option(min=1, help="References of test.", rich_help_panel=_DEMO)] = 20,
    full_size: Annotated[
        bool,
        typer.Option("--full-size", help="As many references as published: 17,402 or 4,420.", rich_help_panel=_DEMO),
    ] = False,
    image_size: Annotated[
        int | None,
        typer.Option(help="Side of the images in px. Default: 800 (rrsisd), 512.", rich_help_panel=_DEMO),
    ] = None,
    expressions_per_image: Annotated[
        int | None,
        typer.Option(min=1, help="Expressions about an image. Default: 1, refsegrs 4.", rich_help_panel=_DEMO),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of pictures and damage.", rich_help_panel=_DEMO)] = 0,
    damage: Annotated[
        list[str] | None,
        typer.Option(help="Damage it; can be repeated. See above for the kinds.", rich_help_panel=_DEMO),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace a folder that --demo wrote before.", rich_help_panel=_DEMO),
    ] = False,
) -> None:
    """Check a download of RRSIS-D, RefSegRS or RISBench before anything is built; or write a demo laid out like it.

    Every file that the lists name is decoded once; nothing is changed.

    [bold]Damage stops[/], exit code 1:
    - refs(unc).p asks to run code (nothing of it is run);
    - a list is missing, damaged, or of another length than published;
    - a name leads out of the folder; a category does not exist;
    - an image or a mask is missing, truncated or unreadable;
    - two splits name the same image, two references have the same numbers;
    - 2 or more masks and over 5 % of a split are empty (values 0 and 1?);
    - no reference is left, or none of a split.

    --allow-missing goes on where images or masks are missing, and names every
    reference that is left out. All other damage still stops.

    [bold]Oddities[/] of published data are counted and kept, exit code 0:
    - masks of another size than their image (resized, nearest);
    - mask values other than 0 and 255 (above 50 is foreground); empty masks;
    - boxes that don't fit their mask (not used);
    - duplicate expressions; equal images under two names in two splits;
    - files that no list names (ignored).

    A demo of rrsisd has the 20 published categories and no other: rows of
    SyntheticRS about buildings are skipped.

    Kinds of --damage, each found by the check of its name, or all:
    missing-image, missing-mask, extra-file, truncated-image, unreadable-image,
    unreadable-mask, mask-size, empty-mask, mask-values, bad-box,
    unknown-category, duplicate-expression, leak, leak-content, wrong-count.
    What was damaged goes to standard output as JSON.

    Examples:
        rrsis prepare RRSIS-D/ --dataset rrsisd --report report.json

        rrsis prepare --demo demo --style refsegrs --damage leak
    """
    with _plain_errors():
        if (data_dir is None) == (demo is None):
            raise ValueError(
                "expected either the folder or zip to check (rrsis prepare DATA_DIR) or --demo with the folder to "
                f"write, got {'both' if demo else 'neither'}"
            )
        _refuse_other_mode(context, writes=demo is not None)
        if demo is not None:
            counts = {"train": num_train, "validation": num_validation, "test": num_test}
            spec = {
                "style": style.value,
                "counts": _published_counts(style) if full_size else counts,
                "image_size_px": image_size,
                "seed": seed,
                "expressions_per_image": expressions_per_image,
            }
            _write_demo(demo, spec, damage=damage or [], overwrite=overwrite, num_proc=num_proc)
            return
        _check_paths(data_dir, report)
        exit_code = _check(
            data_dir,
            dataset=None if dataset is None else dataset.value,
            expected=None if expected is None else expected.value,
            allow_missing=allow_missing,
            report=report,
            num_proc=num_proc,
        )
    raise typer.Exit(exit_code)


def _refuse_other_mode(context: typer.Context, *, writes: bool) -> None:
    """Refuse options that the chosen mode would ignore."""
    others = _CHECK_OPTIONS if writes else _DEMO_OPTIONS
    given = [
        f"--{name.replace('_', '-')}"
        for name in others
        if (source := context.get_parameter_source(name)) is not None and source.name == "COMMANDLINE"
    ]
    if given:
        mode, other = ("writing a demo", "checking a download") if writes else ("checking a download", "--demo")
        raise ValueError(f"{', '.join(given)}: expected options of {mode}, these belong to {other}; leave them out")


def _check_paths(data_dir: Path | None, report: Path | None) -> None:
    """Refuse, before the long check, a report that can't be written and a table of one's own data."""
    from ..data.own_table import TABLE_ENDINGS

    if report is not None and report.is_dir():
        raise ValueError(f"--report: expected a file to write, got the folder {report}; add a name: report.json")
    if report is not None and not report.absolute().parent.is_dir():
        raise ValueError(f"--report: expected an existing folder, {report.parent} does not exist; create it first")
    if data_dir is not None and data_dir.suffix.lower() in TABLE_ENDINGS and not data_dir.is_dir():
        raise ValueError(
            f"{data_dir}: expected the folder or zip of a published benchmark, got a table; own data are checked when "
            f'they are read: load_benchmark("{data_dir}")'
        )


def _published_counts(style: Layout) -> dict[str, int]:
    from ..data.facts import PUBLISHED_COUNTS

    if style.value not in PUBLISHED_COUNTS:
        raise ValueError(
            f"--full-size: published counts are known of {sorted(PUBLISHED_COUNTS)}, not of {style.value}"
        )
    return dict(PUBLISHED_COUNTS[style.value])


def _write_demo(directory: Path, spec: dict[str, Any], **options: Any) -> None:
    """Write a demo; a sentence goes to the terminal, what was damaged to standard output as JSON."""
    from ..data.writing.demo import DemoSpec, write_demo

    result = write_demo(DemoSpec(**spec), directory, **options)
    counts = ", ".join(f"{count} {split}" for split, count in result.written.counts.items())
    typer.echo(
        f"{directory}: {counts} references, {result.written.images} images in the layout of {spec['style']}; check it "
        f"with: rrsis prepare {directory}",
        err=True,
    )
    if result.damage:
        typer.echo(json.dumps([item.as_dict() for item in result.damage], indent=1))


def _check(data_dir: Path | None, report: Path | None, **options: Any) -> int:
    """Check a download, print and write the report; return the exit code."""
    from rich.console import Console

    from ..data.checks.download import check_download
    from ..reports.download import print_report, write_report

    found = check_download(data_dir or "", **options)
    if report is not None:
        write_report(found, report)
    print_report(found, Console(highlight=False), report_file=report)
    return found.exit_code
