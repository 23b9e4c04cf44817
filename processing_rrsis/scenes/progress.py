"""The bar of a pass over a scene: windows, pixels a second, time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from .blending import OnWindows
from .tiling import Tiling


class _SpeedColumn(TextColumn):
    """Pixels of the scene a second."""

    def __init__(self) -> None:
        super().__init__("{task.speed}")

    def render(self, task: Task) -> Text:
        """The speed in millions."""
        return Text("" if not task.speed else f"{task.speed / 1e6:.2f} Mpx/s")


@contextmanager
def shown_progress(tiling: Tiling, *, on: bool) -> Iterator[OnWindows]:
    """Show a bar on standard error, and yield what is to be called with the number of windows that were finished."""
    if not on:
        yield lambda windows: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        _SpeedColumn(),
        TimeRemainingColumn(),
    )
    pixels = tiling.width_px * tiling.height_px / tiling.num_windows
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("scene", total=tiling.width_px * tiling.height_px)
        yield lambda windows: bar.advance(task, windows * pixels)
