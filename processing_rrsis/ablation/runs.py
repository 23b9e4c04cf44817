"""Train the runs of an ablation one after the other, each in a process of its own.

A run that was stopped, by a signal, an error or the machine, goes on from its last checkpoint when it is called again;
a finished one is left alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ..training.stopping import StopNow, StopRequest
from ..training.watching import METRICS
from .plan import PlannedRun
from .scores import METRICS_FILE, read_metrics

MODULE = "processing_rrsis.training"
POLL_SECONDS = 1.0
LINGER_SECONDS = 60.0  # that something a run left behind may keep its output open after its end
ERROR_LINES = 12
LAUNCHER_ERRORS = ("CalledProcessError", "ChildFailedError")  # say only that the training failed, at length


def launch_words(launch: str) -> list[str]:
    """The words of `--launch`; `accelerate launch` becomes that of this Python.

    Raises:
        ValueError: If there is no such program.
    """
    words = shlex.split(launch)
    if words[:2] == ["accelerate", "launch"]:
        return [sys.executable, "-m", "accelerate.commands.launch", *words[2:]]
    if not words or shutil.which(words[0]) is None:
        raise ValueError(
            f"--launch: expected the command that starts training, such as 'accelerate launch --num_processes 4', got "
            f"{launch!r}, which begins with no program of this machine"
        )
    return words


@dataclass
class RunQueue:
    """The runs of an ablation and how they ended.

    Args:
        runs: All of them, in order.
        launch: Words that start a Python module, such as `accelerate launch`.
        console: Where progress is shown.
        failed: Runs that ended without a result.
        seconds: How long the finished runs took.
        stopped: Exit code where a stop signal ended it all; `None` where every run had its turn.
    """

    runs: Sequence[PlannedRun]
    launch: Sequence[str]
    console: Console
    failed: list[PlannedRun] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    stopped: int | None = None

    def train(self) -> None:
        """Train what is not finished; a run that fails does not keep the others from their turn."""
        finished = [run for run in self.runs if run.is_finished]
        self.seconds += [seconds for run in finished if (seconds := recorded_seconds(run.folder)) is not None]
        if finished:
            self.console.print(f"Finished already: {len(finished)} of {len(self.runs)} runs.")
        try:
            with StopRequest.listening() as request:
                for number, run in enumerate(self.runs, start=1):
                    if run not in finished and not request.signal_number:
                        self._train_run(number, run, request)
                if request.signal_number:
                    self.stopped = request.exit_code
        except StopNow as stopped:  # Ctrl-C, twice
            self.stopped = int(stopped.code or 0)

    def _train_run(self, number: int, run: PlannedRun, request: StopRequest) -> None:
        """Train one run, and say how it ended."""
        label = f"[{number}/{len(self.runs)}] {run.name}"
        goes_on = any((run.folder / "checkpoints").glob("step-*"))
        self.console.print(escape(f"{label}: {'going on' if goes_on else 'training'}, {self.time_left(number)}"))
        start = time.monotonic()
        run.folder.parent.mkdir(parents=True, exist_ok=True)
        begin = run.log.stat().st_size if run.log.exists() else 0
        with self._progress() as bar:
            task = bar.add_task(escape(label), total=run.recipe.max_steps)

            def show() -> None:
                left = self.time_left(number, elapsed=time.monotonic() - start)
                bar.update(task, completed=last_step(run.folder), description=escape(f"{label}, {left}"))

            code = run_process([*self.launch, "-m", MODULE, *run.options], run.log, request, show)
        if run.is_finished and code == 0:
            self.seconds.append(max(time.monotonic() - start, recorded_seconds(run.folder) or 0.0))
            miou = read_metrics(run.folder / METRICS_FILE)["results"].get("test", {})
            score = f"test mIoU {miou['expression']['overall']['mIoU']:.1f}, " if miou else ""
            self.console.print(escape(f"{label}: {score}{duration_text(self.seconds[-1])}"))
        elif not request.signal_number:
            self.failed.append(run)
            self.console.print(
                f"[bold red]failed:[/] {escape(label)}, exit code {code}. The end of {escape(str(run.log))}:"
            )
            with run.log.open("rb") as log:
                log.seek(begin)
                lines = error_lines(log.read().decode("utf-8", errors="replace"))
            self.console.print(escape("\n".join(f"  {line}" for line in lines)), soft_wrap=True)

    def _progress(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn())
        return Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)

    def time_left(self, number: int, elapsed: float = 0.0) -> str:
        """Time that is left, from the runs that are finished.

        Args:
            number: The run under way, from 1.
            elapsed: Its seconds so far.
        """
        if not self.seconds:
            return "time left known after the first run"
        each = statistics.fmean(self.seconds)
        later = sum(not run.is_finished for run in self.runs[number:])
        return f"about {duration_text(max(each - elapsed, 0.0) + each * later)} left"


def run_process(command: Sequence[str], log: Path, request: StopRequest, show: Callable[[], None]) -> int:
    """Run a command to its end, its output appended to a file.

    A stop signal is handed on, as SIGTERM, to all its processes; training then saves and ends, and this waits for it.

    Args:
        command: Program and arguments.
        log: File for what it prints.
        request: Whether a stop signal came.
        show: Called about once a second.

    Returns:
        Exit code; negative for a signal.

    Raises:
        StopNow: If Ctrl-C came twice; the processes have been killed.
    """
    with log.open("ab") as file:
        # A session of its own: the terminal's Ctrl-C would end the launcher at once, before training has saved.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            for output in read_output(process, request):
                file.write(output)
                file.flush()
                show()
            return process.wait()
        except BaseException:
            signal_group(process, signal.SIGKILL)
            process.wait()
            raise


def read_output(process: subprocess.Popen[bytes], request: StopRequest) -> Iterator[bytes]:
    """What a process and its children print, empty about every second, until the last of them has ended."""
    handed_on, ended = False, None
    pipe = process.stdout
    if pipe is None:
        raise ValueError("process: expected one whose output is a pipe")
    with pipe, selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            if request.signal_number and not handed_on:
                signal_group(process, signal.SIGTERM)
                handed_on = True
            if selector.select(timeout=POLL_SECONDS):
                output = os.read(pipe.fileno(), 65536)
                if not output:
                    return
                yield output
                continue
            if process.poll() is not None and not handed_on:
                ended = ended or time.monotonic()
                if time.monotonic() - ended > LINGER_SECONDS:
                    return
            yield b""


def signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a process that leads a group, and to the group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def error_lines(output: str) -> list[str]:
    """The last lines of a failed run that say why: without the launcher's own report of the failure.

    Args:
        output: All that the run printed.
    """
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    if any(name in line for name in LAUNCHER_ERRORS for line in lines):
        # The launcher's traceback comes last.
        traces = [number for number, line in enumerate(lines) if line.startswith("Traceback")]
        lines = lines[: traces[-1]] if traces and traces[-1] > 0 else lines
    told = [number for number, line in enumerate(lines) if line.startswith("error:")]
    lines = lines[told[-1] :][:ERROR_LINES] if told else lines[-ERROR_LINES:]
    return lines or ["(nothing was printed)"]


def last_step(folder: Path) -> int:
    """Updates that a run has logged so far."""
    try:
        lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()
        return int(json.loads(lines[-1])["step"])
    except (OSError, ValueError, KeyError, IndexError):  # not there yet, or a line being written
        return 0


def recorded_seconds(folder: Path) -> float | None:
    """Seconds that a finished run took over all its starts; `None` where it has not left them."""
    try:
        seconds = json.loads((folder / "timing.json").read_text(encoding="utf-8"))["seconds"]
        return float(sum(seconds.values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def duration_text(seconds: float) -> str:
    """`"45 s"`, `"12 min"` or `"2 h 05 min"`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
