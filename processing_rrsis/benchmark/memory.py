"""Peak memory of one case, measured in a process of its own so that no other case hides it.

`python -m processing_rrsis.benchmark.memory JSON` does the work and prints a line of JSON.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .results import OUT_OF_MEMORY, Memory
from .spec import Case

RUNS = 2
"""Of the work: what stays from the first is there in the second, as in training."""
MARK = "rrsis-memory "
STATUS = Path("/proc/self/status")
CLEAR_PEAK = Path("/proc/self/clear_refs")


def measure_memory(case: Case) -> Memory:
    """Peak memory of a case."""
    return _in_own_process({"case": asdict(case)}, case.threads)


def measure_affinity_memory(
    form: str, *, batch: int, pixels: int, device: str, threads: int | None = None, seed: int = 0
) -> Memory:
    """Peak memory of the affinity loss, forward and backward, in one of `affinity.FORMS`."""
    settings = {"form": form, "batch": batch, "pixels": pixels, "device": device, "seed": seed}
    return _in_own_process({"affinity": settings}, threads)


def _in_own_process(task: dict[str, Any], threads: int | None) -> Memory:
    import torch

    number = str(threads or torch.get_num_threads())
    finished = subprocess.run(
        [sys.executable, "-m", "processing_rrsis.benchmark.memory", json.dumps(task)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": number, "MKL_NUM_THREADS": number},
    )
    if finished.returncode == -signal.SIGKILL:
        return Memory(status=OUT_OF_MEMORY, source="the system ended the process")
    lines = [line for line in finished.stdout.splitlines() if line.startswith(MARK)]
    if finished.returncode or not lines:
        last = (finished.stderr.strip().splitlines() or ["no message"])[-1]
        return Memory(status=f"not measured, its process ended with code {finished.returncode}: {last}")
    return Memory(**json.loads(lines[0].removeprefix(MARK)))


def run_task(task: dict[str, Any]) -> Memory:
    """Do in this process what the task says and measure it."""
    import torch

    from .timing import is_out_of_memory

    try:
        if "affinity" in task:
            return _affinity_task(**task["affinity"])
        case = Case(**task["case"])
        if case.threads:
            torch.set_num_threads(case.threads)
        return _case_task(case)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return Memory(status=OUT_OF_MEMORY)


def _case_task(case: Case) -> Memory:
    from .cases import build_model, model_work, prepare_model

    model = build_model(case)
    prepare_model(model, case.work)
    work = model_work(case, model)
    _load_libraries(case.device)
    before = _current(case.device)
    if case.mode == "compile":  # what the compiler itself takes is not the work's
        work.run()
        work.reset()
    return _measure(work.run, work.reset, device=case.device, before=before)


def _affinity_task(form: str, batch: int, pixels: int, device: str, seed: int) -> Memory:
    from .affinity import affinity_inputs, affinity_work

    _load_libraries(device)
    small = affinity_work(form, *affinity_inputs(1, 64, device, seed))
    small.run()
    inputs = affinity_inputs(batch, pixels, device, seed)
    work = affinity_work(form, *inputs)
    return _measure(work.run, work.reset, device=device, before=_current(device))


def _measure(run: Callable[[], Any], reset: Callable[[], Any], *, device: str, before: int | None) -> Memory:
    """Peak over some runs, from a clean start."""
    has_fresh_peak = _reset_peak(device)
    for _ in range(RUNS):
        result = run()
        del result
        reset()
    peak, source = _peak(device)
    if not has_fresh_peak:
        source += ", of the process from its start"
    return Memory(peak=peak, before=before, source=source)


def _load_libraries(device: str) -> None:
    """Let the libraries of products and convolutions take what they need before the count starts."""
    import torch

    x = torch.randn(1, 8, 16, 16, device=device, requires_grad=True)
    torch.nn.functional.conv2d(x, torch.randn(8, 8, 3, 3, device=device)).flatten(2).matmul(
        torch.randn(196, 8, device=device)
    ).sum().backward()


def _reset_peak(device: str) -> bool:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return True
    try:
        CLEAR_PEAK.write_text("5", encoding="ascii")  # Linux: the peak becomes the present size
    except OSError:
        return False
    return True


def _current(device: str) -> int | None:
    """Bytes in use now; `None` where the system does not tell."""
    if device == "cuda":
        import torch

        return torch.cuda.memory_allocated()
    return _status("VmRSS")


def _peak(device: str) -> tuple[int | None, str]:
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(), "torch.cuda.max_memory_allocated"
    peak = _status("VmHWM")
    if peak is not None:
        return peak, "VmHWM"
    try:
        import resource
    except ImportError:
        return None, "not measured"
    # Not on Linux, where a process inherits this number from the one that started it.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "ru_maxrss"


def _status(name: str) -> int | None:
    """A size in `/proc/self/status`, in bytes."""
    if not STATUS.is_file():
        return None
    found = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(encoding="ascii", errors="replace"), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


if __name__ == "__main__":
    sys.stdout.write(MARK + json.dumps(asdict(run_task(json.loads(sys.argv[1])))) + "\n")
