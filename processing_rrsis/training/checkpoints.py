"""Checkpoints that are whole or not there: written aside, checked off in a manifest, renamed.

`O/checkpoints/step-00001200/` holds what Accelerate saves (weights, optimizer, scaler), averaged weights, `state.json`
(what `loop.py` remembers) and `manifest.json` (size and hash of every file), which is written last.
When one is written and which weights are the best is decided in `loop.py`; the folder around it is `run_folder.py`'s.

A checkpoint may come from somebody else, so nothing in it is read that could run code: safetensors, JSON, and what
`torch.load` reads with `weights_only=True`. Files of other names are refused, those of DeepSpeed and of FSDP's shards
among them: their readers unpickle. (FSDP's whole weights, `FULL_STATE_DICT`, are read as others are.)
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xxhash
from accelerate.utils import DistributedType
from safetensors.torch import load_model, save_model
from torch import nn

from modeling_rrsis.convert.reading import check_records

from ..errors import RRSISError

FOLDER = "checkpoints"
MANIFEST = "manifest.json"
STATE = "state.json"
AVERAGE = "average.safetensors"
FORMAT = 3
_NAME = re.compile(r"step-(\d{8})")
_FILES = re.compile(
    rf"{re.escape(STATE)}|{re.escape(AVERAGE)}|model(_\d+)?\.safetensors|(pytorch_model_fsdp|optimizer)(_\d+)?\.bin"
    r"|scaler\.pt"
)
MAX_TEXT_BYTES = 1 << 26
"""Most that a manifest or a state may have; a state of 10,000 losses has 0.3 MiB."""
_PARTIAL = ".partial"


class CheckpointError(RRSISError):
    """A checkpoint could not be written or read; the message says why and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    Attributes:
        folder: Where it lies.
        step: Updates that it has behind it.
    """

    folder: Path
    step: int

    def state(self) -> dict[str, Any]:
        """What the loop remembers."""
        return _read_json(self.folder / STATE)

    def num_bytes(self) -> int:
        """Size of all files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


def checkpoint_folders(output_dir: Path) -> list[Checkpoint]:
    """Checkpoints of a run by name, newest first; not looked into."""
    root = output_dir / FOLDER
    found = [(path, _NAME.fullmatch(path.name)) for path in root.iterdir()] if root.is_dir() else []
    named = [Checkpoint(path, int(match[1])) for path, match in found if match and path.is_dir()]
    return sorted(named, key=lambda checkpoint: checkpoint.step, reverse=True)


def find_damage(folder: Path) -> str | None:
    """Compare a checkpoint's files with its manifest.

    Returns:
        What is wrong, in words; `None` for a checkpoint that is as it was written.
    """
    try:
        manifest = _read_json(folder / MANIFEST)
        if manifest["format"] != FORMAT:
            return f"it has format {manifest['format']!r}, this version reads {FORMAT}"
        there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {MANIFEST}
        for name in sorted(there ^ set(manifest["files"])):
            return f"{name} is missing" if name not in there else f"{name} was not written there"
        for name, written in manifest["files"].items():
            size = (folder / name).stat().st_size
            if size != written["bytes"]:
                return f"{name} has {size:,} bytes, {written['bytes']:,} were written"
            if _digest(folder / name) != written["xxh3"]:
                return f"{name} has other content than was written"
        step = _read_json(folder / STATE)["progress"]["step"]
        return _find_code(folder) if folder.name == f"step-{step:08d}" else f"its {STATE} is of step {step}"
    except FileNotFoundError:
        return f"it has no {MANIFEST}: it was not finished"
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        return f"its {MANIFEST} or {STATE} can't be read ({error})"


def _find_code(folder: Path) -> str | None:
    """What is in a checkpoint that could run code or fill the memory when it is read; `None` for nothing."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST):
        name = path.relative_to(folder).as_posix()
        if not _FILES.fullmatch(name):
            return f"{name} is no file of a checkpoint that is read without running what is in it"
        if path.suffix in (".bin", ".pt"):
            try:
                check_records(path)
            except Exception as error:  # on a damaged file zipfile and pickle raise nearly every kind there is
                return f"{name} is not what torch saves of plain values and tensors ({error})"
    return None


def newest_whole(output_dir: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint without damage; what is skipped is said.

    Args:
        output_dir: Folder of the run.
        say: Called with a sentence for each damaged checkpoint.

    Returns:
        `None` where the run has no checkpoints at all.

    Raises:
        CheckpointError: If there are checkpoints and all are damaged.
    """
    candidates = checkpoint_folders(output_dir)
    for checkpoint in candidates:
        damage = find_damage(checkpoint.folder)
        if damage is None:
            return checkpoint
        say(f"warning: skipping the checkpoint {checkpoint.folder}: {damage}.")
    if candidates:
        raise CheckpointError(
            f"All {len(candidates)} checkpoints in {output_dir / FOLDER} are damaged, see above. Restore one from a "
            "backup, or start again with --resume none (what is there is kept aside)."
        )
    return None


def resolve_resume(resume: str, output_dir: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """The checkpoint that `--resume` asks for.

    Args:
        resume: `"none"`, `"latest"` or the folder of a checkpoint.
        output_dir: Folder of the run.
        say: See `newest_whole`.

    Returns:
        `None` for a run from the beginning.

    Raises:
        CheckpointError: If the named checkpoint does not exist or is damaged, or all are.
    """
    if resume == "none":
        return None
    if resume == "latest":
        return newest_whole(output_dir, say)
    folder = Path(resume)
    match = _NAME.fullmatch(folder.name)
    if not folder.is_dir() or match is None:
        known = ", ".join(str(checkpoint.folder) for checkpoint in checkpoint_folders(output_dir)) or "none"
        raise CheckpointError(
            f"--resume: expected none, latest or the folder of a checkpoint (step-00001200), got {resume!r}. "
            f"{output_dir / FOLDER} has: {known}."
        )
    if folder.resolve().parent != (output_dir / FOLDER).resolve():
        raise CheckpointError(
            f"--resume: {folder} is of another run than {output_dir}. Copy that whole run's folder to go on in a new "
            "place, or start a new run on its weights with --init_from."
        )
    damage = find_damage(folder)
    if damage is not None:
        raise CheckpointError(f"--resume: {folder} is damaged: {damage}. Use another, or --resume latest.")
    return Checkpoint(folder, int(match[1]))


def save_checkpoint(
    accelerator: Any,
    output_dir: Path,
    state: Mapping[str, Any],
    *,
    step: int,
    keep: int,
    average: nn.Module | None = None,
) -> Checkpoint:
    """Save the run's state; every process calls it and returns when the checkpoint is whole.

    Args:
        accelerator: Whose prepared model and optimizer are saved.
        output_dir: Folder of the run, on a disk that all processes share.
        state: What the loop remembers, plain values.
        step: Updates behind it.
        keep: Number of checkpoints that stay; older ones go after the new one is whole.
        average: Averaged weights, the same on every process.

    Returns:
        The checkpoint.

    Raises:
        CheckpointError: If it can't be written, for want of space for example; earlier ones are untouched.
    """
    target = Checkpoint(output_dir / FOLDER / f"step-{step:08d}", step)
    aside = target.folder.with_name(target.folder.name + _PARTIAL)
    main = accelerator.is_main_process
    try:
        if main:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            _check_space(output_dir)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(aside))
        accelerator.wait_for_everyone()
        if main:
            for random_states in aside.glob("random_states_*.pkl"):  # nothing random outlives a forward pass
                random_states.unlink()
            if average is not None:
                save_model(average, str(aside / AVERAGE))
            (aside / STATE).write_text(json.dumps(state), encoding="utf-8")
            _write_manifest(aside)
            _replace(aside, target.folder)
    except Exception as error:  # the writers of torch and safetensors raise their own kinds for a full disk
        shutil.rmtree(aside, ignore_errors=True)
        kept = next(iter(checkpoint_folders(output_dir)), None)
        raise CheckpointError(
            f"The checkpoint of step {step} could not be written to {output_dir / FOLDER}: {error} "
            f"({shutil.disk_usage(output_dir).free / 2**20:,.0f} MiB are free there). "
            + (f"The last one, {kept.folder}, is whole. " if kept else "There is no earlier one. ")
            + "Make room or lower --keep_checkpoints, then go on with --resume latest."
        ) from error
    if main:
        for old in checkpoint_folders(output_dir)[max(1, keep) :]:
            shutil.rmtree(old.folder, ignore_errors=True)
    accelerator.wait_for_everyone()
    return target


def load_checkpoint(accelerator: Any, checkpoint: Checkpoint, average: nn.Module | None = None) -> None:
    """Load what `save_checkpoint` saved, on every process.

    Raises:
        CheckpointError: If its files do not fit this run.
    """
    optimizers = [] if accelerator.distributed_type == DistributedType.FSDP else accelerator._optimizers
    settings = [_optimizer_settings(optimizer) for optimizer in optimizers]
    try:
        accelerator.load_state(str(checkpoint.folder))
        if average is not None:
            load_model(average, str(checkpoint.folder / AVERAGE))
        if settings != [_optimizer_settings(optimizer) for optimizer in optimizers]:
            raise ValueError("its optimizer has other settings than this run's")
        _check_moments(optimizers)
    except Exception as error:  # whatever the values of a file that others made lead to
        raise CheckpointError(
            f"--resume: {checkpoint.folder} can't be loaded: {' '.join(str(error).split())}. Use another, or start "
            "again with --resume none."
        ) from error


def _optimizer_settings(optimizer: Any) -> list[dict[str, Any]]:
    """What each group of parameters is trained with, but for the learning rate, which the schedule sets."""
    return [
        {name: value for name, value in group.items() if name not in ("params", "lr")}
        for group in optimizer.param_groups
    ]


def _check_moments(optimizers: Iterable[Any]) -> None:
    """Raise a `ValueError` for an optimizer's tensors that belong to other parameters: its step would fail later."""
    for optimizer in optimizers:
        for parameter, values in optimizer.state.items():
            for name, value in values.items():
                shape = () if name == "step" else parameter.shape
                if not isinstance(value, torch.Tensor) or value.shape != shape or not value.isfinite().all():
                    raise ValueError(f"its optimizer has no {name} of the shape {tuple(shape)} with finite numbers")


def remove_partial(output_dir: Path) -> list[str]:
    """Delete what a killed run was writing: unfinished checkpoints and model folders; their names."""
    root = output_dir / FOLDER
    partial = list(root.glob(f"*{_PARTIAL}")) if root.is_dir() else []
    partial += output_dir.glob(".*.tmp-*")
    for path in partial:
        shutil.rmtree(path, ignore_errors=True)
    return sorted(path.name for path in partial)


def _check_space(output_dir: Path) -> None:
    """A new checkpoint is about as large as the one before: say so before gigabytes are written in vain."""
    before = checkpoint_folders(output_dir)
    needed = before[0].num_bytes() if before else 0
    free = shutil.disk_usage(output_dir).free
    if free < needed:
        raise OSError(f"No space left: the last one has {needed / 2**20:,.0f} MiB.")


def _write_manifest(folder: Path) -> None:
    """Size and hash of every file, flushed to the disk before the folder gets its name."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "xxh3": _digest(path)}
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump({"format": FORMAT, "files": files}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(folder)


def _replace(aside: Path, target: Path) -> None:
    """Give the folder its name; a damaged one of that name, which was skipped, goes."""
    if target.exists():
        shutil.rmtree(target)
    aside.rename(target)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_json(path: Path) -> Any:
    """The content of a small JSON file; a pipe, which would be waited for, is none."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path.name} is no file")
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise ValueError(f"{path.name} has more than {MAX_TEXT_BYTES >> 20} MiB")
    return json.loads(path.read_text(encoding="utf-8"))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()
