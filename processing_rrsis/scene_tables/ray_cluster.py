"""Workers as actors of a Ray cluster, or of one that is started here: paths and records travel, pixels never."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import RRSISError
from ..installation import install_command
from .records import Record
from .worker import SceneWorker, Task

OBJECT_STORE_BYTES = 128 * 2**20
"""Of a cluster that is started here; by default Ray reserves a third of the memory."""
START_S = 600
"""For all actors to find their place on the cluster and open the model."""


def run_in_ray(
    tasks: Sequence[Task],
    arguments: Mapping[str, Any],
    workers: int,
    address: str | None = None,
    gpus_per_worker: float = 0.0,
) -> Iterator[tuple[Task, Record]]:
    """Work through scenes on actors; as each is done it comes out.

    An actor that dies takes the scene it was at with it, as failed; another one takes its place.

    Args:
        tasks: The scenes; all machines of the cluster see their rasters and folders under the same paths.
        arguments: Of [`SceneWorker`].
        workers: Number of actors.
        address: Of a cluster; one is started here, and ended afterwards, if absent.
        gpus_per_worker: Share of a GPU that each actor takes.

    Raises:
        ImportError: If Ray is not installed.
        RRSISError: If a worker can't start.
    """
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray
        from ray.exceptions import RayError
    except ModuleNotFoundError as error:
        raise ImportError(f"--engine ray needs {error.name}; run `{install_command('ray')}`") from error
    local = {"num_cpus": workers, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    ray.init(address=address or "local", **quiet, **({} if address else local))
    model = Path(arguments["model"]).expanduser()
    if model.is_dir():  # an actor's current folder is another one
        arguments = {**arguments, "model": str(model.absolute())}
    try:
        actor = ray.remote(num_cpus=1, num_gpus=gpus_per_worker)(SceneWorker)
        actors = [actor.remote(**arguments) for _ in range(min(workers, len(tasks)))]
        try:
            ray.get([one.__ray_ready__.remote() for one in actors], timeout=START_S)
        except RayError as error:
            raise RRSISError(f"expected workers to start, got: {error.__cause__ or error}") from error
        waiting = iter(tasks)
        running = {}

        def give(one: Any) -> None:
            task = next(waiting, None)
            if task is not None:
                running[one.run.remote(replace(task, folder=task.folder.absolute()))] = one, task

        for one in actors:
            give(one)
        while running:
            for done in ray.wait(list(running))[0]:
                one, task = running.pop(done)
                try:
                    record = ray.get(done)
                except RayError as error:
                    record = task.failed(f"the actor that worked on it ended ({_first_line(error)})")
                    one = actor.remote(**arguments)  # one that restarts by itself fails what it is given meanwhile
                yield task, record
                give(one)
    finally:
        ray.shutdown()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
