"""Stop signals: a run that is asked to end saves first."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name))
"""SIGTERM is what schedulers send before they take the machine, SIGUSR1 what SLURM can send earlier, SIGINT Ctrl-C."""


class StopNow(SystemExit):
    """Raised where a signal ends the process at once; `code` is its exit code, `signal_name` the signal's name."""

    def __init__(self, code: int, signal_name: str) -> None:
        super().__init__(code)
        self.signal_name = signal_name


class StopRequest:
    """Remembers a stop signal; a second Ctrl-C ends the process at once.

    Between updates the training loop asks `signal_number`, saves and ends. Inside `immediately()`, where everything
    that is needed has just been saved, the first signal ends the process.
    """

    def __init__(self) -> None:
        self.signal_number = 0
        self._immediate = False
        self._previous: dict[int, Any] = {}

    @classmethod
    @contextmanager
    def listening(cls) -> Iterator[StopRequest]:
        """Catch the signals of `STOP_SIGNALS` inside the block, and put the earlier handlers back."""
        request = cls()
        request._previous = {number: signal.signal(number, request._receive) for number in STOP_SIGNALS}
        _listening.append(request)
        try:
            yield request
        finally:
            _listening.remove(request)
            request._put_back()

    @contextmanager
    def immediately(self) -> Iterator[None]:
        """End the process with `StopNow` when a signal comes inside the block, or came before it."""
        self._immediate = True
        try:
            if self.signal_number:
                self._end()
            yield
        finally:
            self._immediate = False

    @property
    def exit_code(self) -> int:
        """0 where a scheduler asked, 130 for Ctrl-C, as shells have it."""
        return 130 if self.signal_number == signal.SIGINT else 0

    def _put_back(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        pressed_again = self.signal_number == number == signal.SIGINT
        self.signal_number = number
        if self._immediate or pressed_again:
            self._end()

    def _end(self) -> None:
        raise StopNow(self.exit_code, signal.Signals(self.signal_number).name)


_listening: list[StopRequest] = []


def _leave_to_parent() -> None:
    """In a process forked inside `immediately()`: be ended by signals as if nobody listened.

    A pool, such as that of `datasets`, ends its workers by SIGTERM and waits for them. A worker that is about to wait
    for a lock when the signal comes would not get to run Python's handler, and the pool would wait for ever.
    """
    for request in reversed(_listening):
        if request._immediate:
            request._put_back()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def ignore_in_worker(worker_id: int) -> None:
    """Leave stop signals to the training process: a scheduler sends them to data loader workers too.

    For `worker_init_fn`; a worker ends by itself when its parent is gone.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
