"""Writes samples in the layouts that the benchmarks are published in: one code path reads real and own data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich import get_console
from rich.progress import track

from ..refsegrs_files import PHRASE_LAYOUTS
from .folder import Row, WrittenBenchmark, fresh_directory, labelled_rows, write_marker
from .phrases import PhraseWriter
from .rrsisd import FILE_CATEGORIES, RRSISDWriter

LAYOUTS: tuple[str, ...] = ("rrsisd", *PHRASE_LAYOUTS)
RowsBySplit = Mapping[str, Iterable[Row]]


def write_rrsisd(
    rows_by_split: RowsBySplit,
    directory: str | Path,
    *,
    categories: Sequence[str] = FILE_CATEGORIES,
    overwrite: bool = False,
    progress: bool = True,
    total: int | None = None,
) -> WrittenBenchmark:
    """Write samples as RRSIS-D is published.

    ``images/rrsisd/JPEGImages/%05d.jpg``, ``images/rrsisd/ann_split/%05d.xml`` (Pascal VOC, as DIOR's),
    ``rrsisd/refs(unc).p`` (pickle of plain types, protocol 2) and ``rrsisd/instances.json`` (``categories_id``, boxes
    [x first, y first, x last, y last], one compressed run-length code per mask). References, annotations and
    sentences are numbered from 1; images are numbered from 1 in the order they come.

    Args:
        rows_by_split: Rows of ``train``, ``validation``, ``test``, as the builders yield them: ``image``, ``mask``,
            ``expression``, ``category``, ``image_id``. Rows of the same ``image_id`` share an image file. They are
            taken one by one; what is kept is the two lists.
        directory: New or empty folder; see `fresh_directory`.
        categories: Names in the files' spelling that get the first category numbers.
        overwrite: Whether to replace a folder that a writer wrote before.
        progress: Whether to show a bar, in a terminal only.
        total: Number of rows, for the bar.

    Returns:
        Counts and categories; the same stand in ``demo.json`` in the folder.

    Raises:
        FileExistsError: See `fresh_directory`.
        ValueError: For an unknown split, a mask of another size than its image or an expression that is not one line.
    """
    with fresh_directory(directory, overwrite=overwrite) as folder:
        written = write_files(
            "rrsisd", rows_by_split, folder=folder, categories=categories, progress=progress, total=total
        )
        write_marker(folder, written)
    return WrittenBenchmark(**{**vars(written), "directory": Path(directory)})


def write_refsegrs(
    rows_by_split: RowsBySplit,
    directory: str | Path,
    *,
    layout: str = "refsegrs",
    overwrite: bool = False,
    progress: bool = True,
    total: int | None = None,
) -> WrittenBenchmark:
    """Write samples as RefSegRS or RISBench is published.

    RefSegRS: ``images/<id>.tif``, ``masks/<id>.tif`` and ``output_phrase_{train,val,test}.txt`` with the lines
    ``<id> <expression>``. RISBench: ``img_rgb/``, ``mask/`` and the whole file name in the lines; that its files are
    PNG is our assumption. Ids count from 1 over all splits; every sample has an image file of its own.

    Args:
        rows_by_split: See `write_rrsisd`; the categories are not stored.
        directory: New or empty folder; see `fresh_directory`.
        layout: ``"refsegrs"`` or ``"risbench"``.
        overwrite: Whether to replace a folder that a writer wrote before.
        progress: Whether to show a bar, in a terminal only.
        total: Number of rows, for the bar.

    Returns:
        The counts; the same stand in ``demo.json`` in the folder.

    Raises:
        FileExistsError: See `fresh_directory`.
        ValueError: For an unknown layout or split, or an expression that is not one line.
    """
    if layout not in PHRASE_LAYOUTS:
        raise ValueError(f"layout: expected one of {sorted(PHRASE_LAYOUTS)}, got {layout!r}")
    with fresh_directory(directory, overwrite=overwrite) as folder:
        written = write_files(layout, rows_by_split, folder=folder, progress=progress, total=total)
        write_marker(folder, written)
    return WrittenBenchmark(**{**vars(written), "directory": Path(directory)})


def write_files(
    layout: str,
    rows_by_split: RowsBySplit,
    *,
    folder: Path,
    categories: Sequence[str] = FILE_CATEGORIES,
    progress: bool = True,
    total: int | None = None,
) -> WrittenBenchmark:
    """Write samples into an empty folder, without marker; the arguments are those of `write_rrsisd`."""
    writer = RRSISDWriter(folder, categories=categories) if layout == "rrsisd" else PhraseWriter(folder, name=layout)
    rows = labelled_rows(rows_by_split)
    hidden = not (progress and get_console().is_terminal)
    for split, row in track(rows, description=f"writing {layout}", total=total, transient=True, disable=hidden):
        writer.add(split, row=row)
    return writer.finish()
