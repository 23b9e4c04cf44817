"""Train the runs of an ablation one after the other, each in a process of its own.

A run that was stopped, by a signal, an error or the machine, goes on from its last checkpoint when it is called again;
a finished one is left alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rich.console import Console
from rich.markup import escape

from ..terminal import new_progress
from ..training.stopping import StopNow, StopRequest
from ..training.watching import METRICS
from .plan import PlannedRun
from .scores import METRICS_FILE, read_metrics

MODULE = "processing_rrsis.training"
POLL_SECONDS = 1.0
ERROR_LINES = 12


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
        stopped: Exit code where a stop signal ended it all; `None` where every run had its turn.
    """

    runs: Sequence[PlannedRun]
    launch: Sequence[str]
    console: Console
    failed: list[PlannedRun] = field(default_factory=list)
    stopped: int | None = None

    def train(self) -> None:
        """Train what is not finished; a run that fails does not keep the others from their turn."""
        finished = [run for run in self.runs if run.is_finished]
        if finished:
            self.console.print(f"Finished already: {len(finished)} of {len(self.runs)} runs.")
        try:
            with StopRequest.listening() as request:
                for number, run in enumerate(self.runs, start=1):
                    if run not in finished and not request.signal_number:
                        self._train_run(f"[{number}/{len(self.runs)}] {run.name}", run, request)
                if request.signal_number:
                    self.stopped = request.exit_code
        except StopNow as stopped:  # Ctrl-C, twice
            self.stopped = int(stopped.code or 0)

    def _train_run(self, label: str, run: PlannedRun, request: StopRequest) -> None:
        """Train one run, and say how it ended."""
        goes_on = any((run.folder / "checkpoints").glob("step-*"))
        self.console.print(escape(f"{label}: {'going on' if goes_on else 'training'}"))
        run.folder.parent.mkdir(parents=True, exist_ok=True)
        with run.log.open("a+b") as log, new_progress(self.console, disable=not self.console.is_terminal) as bar:
            begin = log.tell()
            task = bar.add_task(label, total=run.recipe.max_steps)
            command = [*self.launch, "-m", MODULE, *run.options]
            code = run_process(
                command, log.fileno(), request, lambda: bar.update(task, completed=last_step(run.folder))
            )
            log.seek(begin)
            output = log.read().decode("utf-8", errors="replace")
        if run.is_finished and code == 0:
            test = read_metrics(run.folder / METRICS_FILE)["results"].get("test", {})
            score = f"test mIoU {test['expression']['overall']['mIoU']:.1f}" if test else "finished"
            self.console.print(escape(f"{label}: {score}"))
        elif not request.signal_number:
            self.failed.append(run)
            end = f"{label}, exit code {code}. The end of {run.log}:\n{end_of_log(output)}"
            self.console.print(f"[bold red]failed:[/] {escape(end)}", soft_wrap=True)


def run_process(command: Sequence[str], log: int, request: StopRequest, show: Callable[[], None]) -> int:
    """Run a command to its end.

    A stop signal is handed on, as SIGTERM, to all its processes; training then saves and ends, and this waits for it.

    Args:
        command: Program and arguments.
        log: Descriptor of the file for what it prints.
        request: Whether a stop signal came.
        show: Called about once a second.

    Returns:
        Exit code; negative for a signal.

    Raises:
        StopNow: If Ctrl-C came twice; the processes have been killed.
    """
    # A session of its own: the terminal's Ctrl-C would end the launcher at once, before training has saved.
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        while True:
            try:
                return process.wait(timeout=POLL_SECONDS)
            except subprocess.TimeoutExpired:
                show()
            if request.signal_number:
                trained = psutil.Process(process.pid).children(recursive=True)
                os.killpg(process.pid, signal.SIGTERM)
                psutil.wait_procs(trained)  # a launcher ends before what it launched
                return process.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def end_of_log(output: str) -> str:
    """Why a run failed: the error that training told in words, else the last lines.

    Args:
        output: All that the run printed.
    """
    _, told, reason = output.rpartition("error: ")
    lines = (told + reason.partition("\nTraceback")[0] if told else output).splitlines()
    return "\n".join(f"  {line}" for line in lines[-ERROR_LINES:]) or "  (nothing was printed)"


def last_step(folder: Path) -> int:
    """Updates that a run has logged so far."""
    try:
        lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()
        return int(json.loads(lines[-1])["step"])
    except (OSError, ValueError, KeyError, IndexError):  # not there yet, or a line being written
        return 0
