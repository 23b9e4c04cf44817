"""A run's folder: what a new run finds there, and what must be the same for a run that goes on."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from datasets import Dataset

from .arguments import TrainingArguments
from .checkpoints import FOLDER, Checkpoint, CheckpointError, resolve_resume
from .recipe import Recipe
from .watching import LOGS, METRICS, TIMING

RECIPE_FILE = "recipe.yaml"
LOCK = ".lock"
SAME_OPTIONS = ("seed", "data_seed", "freeze_batch_norm", "ema_decay", "max_samples")
RUN_FILES = (
    METRICS,
    TIMING,
    RECIPE_FILE,
    FOLDER,
    "metrics.json",
    "timing.json",
    "divergence.json",
    "contact_sheet.png",
    "curves.png",
    "panels",
    LOGS,
    "best",
    "last",
)
"""What a run writes into its folder."""


def describe_settings(args: TrainingArguments, recipe: Recipe, train: Dataset, num_updates: int) -> dict[str, Any]:
    """What must be the same for a run that goes on; plain values."""
    digest = hashlib.sha256()
    for name in ("sample_id", "expression"):
        for value in train[name]:
            digest.update(str(value).encode() + b"\0")
    values = {key: value for key, value in recipe.to_dict().items() if key not in ("source", "sources", "name")}
    values |= {key: getattr(args, key) for key in SAME_OPTIONS}
    values["starting_weights"] = starting_weights(args, recipe)
    values |= {"num_updates": num_updates, "train_samples": len(train), "train_sha256": digest.hexdigest()[:16]}
    return json.loads(json.dumps(values))


def starting_weights(args: TrainingArguments, recipe: Recipe) -> str:
    """Where a run starts, in words."""
    if args.init_from is not None:
        return args.init_from
    vision, text = args.vision_weights or recipe.vision, args.text_weights or recipe.text
    return "random" if args.from_scratch or vision is None else f"{vision}, {text}"


def find_checkpoint(
    args: TrainingArguments, accelerator: Accelerator, say: Callable[[str], None]
) -> Checkpoint | None:
    """The checkpoint to go on from: found by the main process, known to all."""
    found: list[Any] = [None]
    if accelerator.is_main_process:
        try:
            found = [resolve_resume(args.resume, args.run_dir, say)]
        except CheckpointError as error:
            found = [error]
    broadcast_object_list(found)
    if isinstance(found[0], CheckpointError):
        raise found[0]
    return found[0]


def check_same_settings(before: dict[str, Any], now: dict[str, Any], checkpoint: Checkpoint) -> None:
    """Raise a `CheckpointError` that names what differs between a checkpoint's run and this one."""
    different = [
        f"{key} was {before.get(key)!r}, is {now.get(key)!r}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]
    if different:
        raise CheckpointError(
            f"{checkpoint.folder} belongs to a run with other settings: {'; '.join(different)}. Give the options it "
            "was started with, another --output_dir, or --init_from for a new run on its weights."
        )


def lock_folder(output_dir: Path) -> IO[str] | None:
    """Keep other training processes out of a folder for as long as this one lives.

    Returns:
        The open lock file, to be kept; `None` where the file system has no locks.

    Raises:
        ValueError: If another process trains there.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    file = (output_dir / LOCK).open("w", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise ValueError(
            f"Another process is training in {output_dir}. Wait for it, or choose another --output_dir."
        ) from error
    except OSError:
        file.close()
        return None
    return file


def keep_aside(output_dir: Path, say: Callable[[str], None]) -> None:
    """Move what an earlier run left in the folder to `previous/N`, so that nothing is lost or mixed up."""
    left = [name for name in RUN_FILES if (output_dir / name).exists()]
    if not left:
        return
    numbers = [int(path.name) for path in (output_dir / "previous").glob("[0-9]*") if path.name.isdigit()]
    target = output_dir / "previous" / str(max(numbers, default=0) + 1)
    target.mkdir(parents=True)
    for name in left:
        (output_dir / name).rename(target / name)
    say(f"Moved the earlier run in {output_dir} to {target}.")
