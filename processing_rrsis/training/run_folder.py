"""A run's folder: what a new run finds there, and what must be the same for a run that goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from datasets import Dataset

from .arguments import TrainingArguments
from .checkpoints import FOLDER, Checkpoint, CheckpointError, resolve_resume
from .recipe import Recipe
from .watching import LOGS, METRICS, TIMING

RECIPE_FILE = "recipe.yaml"
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
    values |= {"num_updates": num_updates, "train_samples": len(train), "train_sha256": digest.hexdigest()[:16]}
    return json.loads(json.dumps(values))


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
