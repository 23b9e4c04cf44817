"""What can be seen of a run while it goes on: progress, JSON lines, trackers.

`metrics.jsonl` holds what the run computes and is the same, byte for byte, whether the run was killed and went on or
not; `timing.jsonl` holds what depends on the machine.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import is_tensorboard_available, is_wandb_available
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from ..terminal import new_progress, working

METRICS, TIMING, LOGS = "metrics.jsonl", "timing.jsonl", "logs"
WARNING = "warning:"
TRACKERS = {
    "tensorboard": (is_tensorboard_available, "tensorboard"),
    "wandb": (is_wandb_available, "wandb"),
}


def check_trackers(report_to: str) -> list[str]:
    """Names of the trackers that `--report_to` asks for.

    Accelerate leaves out a tracker that is not installed without a word; here it is an error.

    Args:
        report_to: `"none"`, or names of `TRACKERS` joined with commas.

    Raises:
        ValueError: For an unknown tracker or one that is not installed; the message says how to install it.
    """
    names = [] if report_to in ("", "none") else [name.strip() for name in report_to.split(",")]
    for name in names:
        if name not in TRACKERS:
            raise ValueError(f"--report_to: expected none or names of {', '.join(TRACKERS)}, got {name!r}.")
        available, package = TRACKERS[name]
        if not available():
            raise ValueError(
                f"--report_to {name}: the package is not installed. `pip install {package}`, or leave the option out: "
                f"{METRICS} is always written."
            )
    return names


class Watch:
    """Writes lines, feeds trackers and shows the progress bar; only the main process does.

    Args:
        accelerator: Whose trackers are fed.
        output_dir: Folder of the run.
        console: Where the bar is shown.
    """

    def __init__(self, accelerator: Accelerator, output_dir: Path, console: Console) -> None:
        self.accelerator, self.output_dir, self.console = accelerator, output_dir, console

    def log(self, step: int, values: Mapping[str, Any], timing: Mapping[str, float] | None = None) -> None:
        """Append a line to `metrics.jsonl`, one to `timing.jsonl` where there is timing, and feed the trackers."""
        if self.accelerator.is_main_process:
            append_line(self.output_dir / METRICS, {"step": step, **values})
            if timing:
                append_line(self.output_dir / TIMING, {"step": step, **timing})
        prefix = f"{values['split']}/" if "split" in values else "train/"
        numbers = {**values, **(timing or {})}
        self.accelerator.log(
            {prefix + key: value for key, value in numbers.items() if isinstance(value, int | float)}, step=step
        )

    def log_image(self, name: str, path: Path, step: int) -> None:
        """Hand a picture to the trackers that take pictures."""
        if not self.accelerator.is_main_process:
            return
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))[None]
        for tracker in self.accelerator.trackers:
            options = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({name: pixels}, step=step, **options)

    def progress(self) -> Progress:
        """The bar of the run, on the main process."""
        return new_progress(self.console, transient=False, disable=not self.accelerator.is_main_process)

    def working(self, text: str) -> AbstractContextManager[Any]:
        """A sign that something goes on whose end is not known, on the main process."""
        return working(text) if self.accelerator.is_main_process else nullcontext()

    def say(self, text: str) -> None:
        """Print on the main process; "warning:" in front is coloured, nothing else in a text acts as markup."""
        shown = Text(text)
        if text.startswith(WARNING):
            shown.stylize("bold yellow", 0, len(WARNING))
        if self.accelerator.is_main_process:
            self.console.print(shown)


def start_trackers(
    accelerator: Accelerator, settings: Mapping[str, Any], options: Mapping[str, Mapping[str, Any]]
) -> None:
    """Start the trackers of `--report_to`.

    Raises:
        ValueError: If one can't be started, for want of a key for example.
    """
    try:
        accelerator.init_trackers("rrsis", config=flat_settings(settings), init_kwargs=dict(options))
    except Exception as error:  # each tracker has errors of its own
        raise ValueError(f"--report_to: the tracker could not be started: {error}") from error


def append_line(path: Path, values: Mapping[str, Any]) -> None:
    """Append one JSON object as a line, in one write."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def cut_lines(path: Path, last_step: int, last_evaluation: int) -> None:
    """Leave out what a run will write again: lines after a step, evaluations after another, and half a line."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            values = json.loads(line)
            last = last_evaluation if "split" in values else last_step
            if line.endswith("\n") and values["step"] <= last:
                kept.append(line)
        except (ValueError, LookupError, TypeError, RecursionError):  # the line that a killed run was writing
            continue
    aside = path.with_name(path.name + ".new")
    aside.write_text("".join(kept), encoding="utf-8")
    os.replace(aside, path)


def peak_memory_gib(device: torch.device) -> float:
    """Most memory in use so far, in GiB: the device's on a GPU, else that of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)  # bytes on macOS, KiB on Linux


def flat_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as trackers take them: numbers, words, and the rest as JSON."""
    return {
        key: value if isinstance(value, bool | int | float | str) else json.dumps(value)
        for key, value in settings.items()
    }
