"""What every way of running shares: a worker holds the model and works through one scene after another."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import error_text, is_plain
from ..result_files import BusyError
from ..scenes.reading.files import file_states
from ..scenes.receipts import LeftoverError
from .records import MASK_FILE, Finding, Record, receipt_digest


@dataclass(frozen=True)
class Task:
    """A scene that is to be worked through.

    Attributes:
        address: Of the raster.
        expressions: What is asked of it.
        folder: Where its results go; what other settings or a damaged run left there is replaced.
        settings: Digest of what the whole table shares.
    """

    address: str
    expressions: tuple[str, ...]
    folder: Path
    settings: str

    def failed(self, reason: str, seconds: float = 0.0) -> Record:
        """The record of a scene that could not be worked through, written where there is room to."""
        return self.kept(self.failure(reason, seconds))

    def failure(self, reason: str, seconds: float = 0.0) -> Record:
        """The record of a scene that failed."""
        source = file_states(self.address)
        return Record(self.settings, source, list(self.expressions), {}, {}, reason, seconds, "", {})

    def kept(self, record: Record) -> Record:
        """Write a record; one that can't be written is a failure, and the scene is worked through again."""
        try:
            record.write(self.folder)
        except OSError as error:
            return replace(record, findings={}, files={}, error=record.error or f"its record was not written: {error}")
        return record


class SceneWorker:
    """Opens the model once; its rasters and their handles are its own.

    Args:
        model: Model folder or Hub repository.
        runtime: Who computes.
        trust_remote_code: Whether code of a repository that is none of ours may run.
        files: Further results by the argument of `segment_scene`: `{"vector": "layers.gpkg"}`.
        options: For `segment_scene`.
        threads: Threads of the CPU; PyTorch's own choice if absent.

    Raises:
        ValueError: If the model can't be opened.
    """

    def __init__(
        self,
        model: str,
        runtime: str,
        trust_remote_code: bool,
        files: Mapping[str, str],
        options: Mapping[str, Any],
        threads: int | None = None,
    ) -> None:
        if threads is not None:
            os.environ["OMP_NUM_THREADS"] = str(threads)
            import torch

            torch.set_num_threads(threads)
        from ..runtimes.loading import open_pipeline
        from ..runtimes.spec import Runtime
        from ..scenes.reader import open_reader

        pipeline = open_pipeline(model, runtime=Runtime(runtime), trust_remote_code=trust_remote_code)
        self.processor = pipeline.processor
        self.reader = open_reader(pipeline, batch_size=options.get("batch_size"))
        self.files = files
        self.options = options

    def run(self, task: Task) -> Record:
        """Work through one scene and write its record; what goes wrong stands in it."""
        started = time.monotonic()
        try:
            return task.kept(self._segment(task, started))
        except BusyError as error:
            return task.failure(str(error))  # another process will write the scene's record
        except Exception as error:
            reason = error_text(error) if is_plain(error) else f"{type(error).__name__}: {error}"
            return task.failed(reason or type(error).__name__, round(time.monotonic() - started, 3))

    def _segment(self, task: Task, started: float) -> Record:
        from ..scenes import segment_scene

        task.folder.mkdir(parents=True, exist_ok=True)
        states = file_states(task.address)  # before they are read
        further: dict[str, Any] = {name: task.folder / file for name, file in self.files.items()}
        reasons = {text: self._reason_against(text) for text in task.expressions}
        asked = [text for text in task.expressions if not reasons[text]]
        if not asked:
            raise ValueError(next(iter(reasons.values())))
        segment = partial(
            segment_scene, task.address, asked, task.folder / MASK_FILE, model=self.reader, **further, **self.options
        )
        try:
            result = segment()
        except LeftoverError:
            result = segment(overwrite=True)
        receipt = json.loads(result.paths["receipt"].read_text(encoding="utf-8"))
        source = receipt["request"]["source"]
        findings = {
            entry.expression: Finding(len(entry.objects), None if source["crs"] is None else entry.area_m2)
            for entry in result
        }
        files = {path.name: path.stat().st_size for path in result.paths.values()}
        return Record(
            settings=task.settings,
            source=states,
            expressions=list(task.expressions),
            findings=findings,
            refused={text: reason for text, reason in reasons.items() if reason},
            error="",
            seconds=round(time.monotonic() - started, 3),
            receipt=receipt_digest(receipt),
            files=files,
        )

    def _reason_against(self, expression: str) -> str:
        """Why the model can't be asked this; empty where it can."""
        from ..scenes.frames.plan import plan_expression

        try:
            self.processor(text=list(plan_expression(expression, self.options.get("frame", "auto")).phrases))
        except ValueError as error:
            return error_text(error)
        return ""
