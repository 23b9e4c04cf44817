"""Tables and progress bars, the same wherever one is shown."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.status import Status
from rich.table import Table
from rich.text import Text


def new_table(
    left: Sequence[str], right: Sequence[str] = (), *, title: str | None = None, caption: str | None = None
) -> Table:
    """An empty table, narrow enough for 80 columns where its texts are.

    Args:
        left: Headings of columns of text, which are folded where they are too long.
        right: Headings of the columns of numbers after them, which are never cut.
        title: What the numbers are.
        caption: A line below.
    """
    table = Table(
        title=None if title is None else Text(title),
        caption=caption,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_header=any((*left, *right)),
    )
    for heading in left:
        table.add_column(Text(heading), overflow="fold")
    for heading in right:
        table.add_column(Text(heading), justify="right", no_wrap=True)
    return table


def new_progress(console: Console | None = None, *, transient: bool = True, disable: bool = False) -> Progress:
    """Bars with what is done, how much of it, and the time that is left.

    Args:
        console: Where to; rich's own if absent.
        transient: Whether nothing stays behind.
        disable: Whether nothing is shown.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=transient, disable=disable)


def working(text: str) -> Status:
    """A sign in a terminal that something goes on whose end is not known; a context manager."""
    return Console(stderr=True).status(Text(text))
