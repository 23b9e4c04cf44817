"""Workers as processes of this machine, one for each device: nothing to install, nothing to start."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, cast

from ..errors import RRSISError, error_text, is_plain
from .records import Record
from .worker import SceneWorker, Task

READY = "ready"


class _Process:
    """A worker in a process of its own, and what it is at."""

    def __init__(self, number: int, arguments: Mapping[str, Any], device: str | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.number = number
        self.task: Task | None = None
        self.is_alive = True
        self.connection, far_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(far_end, dict(arguments), device), daemon=True)
        self.process.start()
        far_end.close()

    def give(self, task: Task) -> None:
        """Hand over a scene; that the process has ended by then shows itself in its answer."""
        self.task = task
        with suppress(BrokenPipeError):
            self.connection.send(task)

    def answer(self) -> Record | str:
        """What it says: READY, why it can't start, or a scene's record; where it ended, what that means."""
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.is_alive = False
            self.process.join()
            code = self.process.exitcode or 0
            ended = f"signal {-code}" if code < 0 else f"exit code {code}"
            if self.task is None:
                return f"expected a worker to start, its process ended ({ended}); see above"
            return self.task.failed(f"the process that worked on it ended ({ended})")

    def stop(self) -> None:
        """End it, whatever it is at."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def _serve(connection: Connection, arguments: dict[str, Any], device: str | None) -> None:
    """A worker's process: tasks in, records out; it ends with the process that began it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the one that began us ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    try:
        worker = SceneWorker(**arguments)
    except Exception as error:
        if not is_plain(error):
            raise
        connection.send(error_text(error))
        return
    connection.send(READY)
    while True:
        try:
            connection.send(worker.run(connection.recv()))
        except EOFError:
            return


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def run_in_processes(
    tasks: Sequence[Task], arguments: Mapping[str, Any], workers: int, devices: Sequence[str] = ()
) -> Iterator[tuple[Task, Record]]:
    """Work through scenes on some processes; as each is done it comes out.

    A process that dies takes the scene it was at with it, as failed, and another one takes its place.

    Args:
        tasks: The scenes.
        arguments: Of [`SceneWorker`].
        workers: Number of processes.
        devices: Numbers of CUDA devices, which the processes take in turns; none on a CPU.

    Raises:
        RRSISError: If a worker can't start.
    """
    waiting = deque(tasks)
    running: dict[Connection, _Process] = {}

    def start(number: int) -> None:
        worker = _Process(number, arguments, devices[number % len(devices)] if devices else None)
        running[worker.connection] = worker

    try:
        for number in range(min(workers, len(tasks))):
            start(number)
        while running:
            for connection in wait(list(running)):
                worker = running[cast(Connection, connection)]
                answer = worker.answer()
                if isinstance(answer, str) and answer != READY:
                    raise RRSISError(answer)
                if isinstance(answer, Record) and worker.task is not None:
                    yield worker.task, answer
                if waiting and worker.is_alive:
                    worker.give(waiting.popleft())
                    continue
                del running[worker.connection]
                worker.stop()
                if waiting:
                    start(worker.number)
    finally:
        for worker in running.values():
            worker.stop()
