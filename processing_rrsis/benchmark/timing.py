"""Interleaved timing: every round runs each work once, so that what else the machine does hits all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache


@dataclass(frozen=True)
class Work:
    """Something to time.

    Attributes:
        run: Does it once; what it returns is thrown away.
        reset: Undoes what a run leaves behind, such as gradients; not timed.
    """

    run: Callable[[], Any]
    reset: Callable[[], Any] = lambda: None


@dataclass
class Timing:
    """Seconds of one work.

    Attributes:
        seconds: Of each round.
        first_call_seconds: Of the first run.
        is_out_of_memory: Whether it did not fit; then there are no seconds.
    """

    seconds: list[float] = field(default_factory=list)
    first_call_seconds: float | None = None
    is_out_of_memory: bool = False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was not enough, on a GPU or a CPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    texts = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in texts)


def synchronize(device: str) -> None:
    """Wait until a GPU has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()


def time_interleaved(
    works: Mapping[str, Work],
    *,
    rounds: int,
    warmup: int = 1,
    device: str = "cpu",
    on_run: Callable[[str], None] = lambda name: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Run works in turns and time them.

    Args:
        works: By name. One that runs out of memory is left out from then on.
        rounds: Timed runs of each.
        warmup: Runs of each before them; the first of all is timed on its own.
        device: `"cpu"` or `"cuda"`, whose queue is waited for.
        on_run: Told the name after each run.
        clock: Seconds.

    Returns:
        Seconds by name.
    """
    timings = {name: Timing() for name in works}
    for number in range(warmup + rounds):
        for name, work in works.items():
            timing = timings[name]
            if timing.is_out_of_memory:
                on_run(name)
                continue
            try:
                seconds = _time_once(work, device, clock)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                timings[name] = Timing(is_out_of_memory=True)
                del error
            else:
                if timing.first_call_seconds is None:
                    timing.first_call_seconds = seconds
                if number >= warmup:
                    timing.seconds.append(seconds)
            if timings[name].is_out_of_memory:
                work.reset()
                clear_device_cache(garbage_collection=True)
            on_run(name)
    return timings


def _time_once(work: Work, device: str, clock: Callable[[], float]) -> float:
    synchronize(device)
    start = clock()
    result = work.run()
    synchronize(device)
    seconds = clock() - start
    del result
    work.reset()
    return seconds
