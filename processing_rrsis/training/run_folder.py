"""A run's folder: what a new run finds there, and what must be the same for a run that goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from datasets import DatasetDict

from ..data.files.content_hash import content_hash
from ..result_files import take_lock, write_result
from .arguments import TrainingArguments, recipe_of_model
from .checkpoints import FOLDER, Checkpoint, CheckpointError, resolve_resume
from .recipes.shipped import Recipe
from .watching import LOGS, METRICS, TIMING

RECIPE_FILE = "recipe.yaml"
LOCK = ".lock"
OPTIONS_FILE = "options.json"
SPLIT_FILE = "split.json"
HASHED_SPLITS = ("train", "validation")
END_FILES = ("metrics.json", "timing.json", "divergence.json")
"""Written at the end of a run; `metrics.json`, the last, says that it has finished."""
SAME_OPTIONS = ("seed", "data_seed", "gradient_accumulation_steps", "freeze_batch_norm", "ema_decay", "max_samples")
RUN_FILES = (
    *(METRICS, TIMING, RECIPE_FILE, OPTIONS_FILE, SPLIT_FILE, FOLDER, LOGS, *END_FILES),
    *("contact_sheet.png", "curves.png", "samples.json", "report.html", "panels", "best", "last"),
)
"""What a run writes into its folder."""


def describe_settings(
    args: TrainingArguments, recipe: Recipe, data: DatasetDict, num_updates: int, accelerator: Accelerator
) -> dict[str, Any]:
    """What must be the same for a run that goes on; plain values, the same on every process."""
    values = {key: value for key, value in recipe.to_dict().items() if key not in ("source", "sources", "name")}
    values |= {key: getattr(args, key) for key in SAME_OPTIONS}
    values["starting_weights"], _ = starting_weights(args, recipe)
    values |= {
        "precision": accelerator.mixed_precision,
        "num_updates": num_updates,
        "train_samples": len(data["train"]),
    }
    hashes = [content_hash(data[split])[:16] if accelerator.is_main_process else "" for split in HASHED_SPLITS]
    broadcast_object_list(hashes)
    values |= {f"{split}_sha256": value for split, value in zip(HASHED_SPLITS, hashes, strict=True)}
    return json.loads(json.dumps(values))


def write_options(args: TrainingArguments, output_dir: Path) -> None:
    """Save the options that a run was started with, those that a recipe has no field for included."""
    text = json.dumps(vars(args), indent=2)
    (output_dir / OPTIONS_FILE).write_text(text + "\n", encoding="utf-8")


def write_split(data: DatasetDict, output_dir: Path) -> None:
    """Save which images are for training and which for validation: own data may leave that to chance."""
    images = {split: sorted(set(data[split]["image_id"])) for split in HASHED_SPLITS}
    write_result(output_dir / SPLIT_FILE, (json.dumps(images, indent=2) + "\n").encode())


def starting_weights(args: TrainingArguments, recipe: Recipe) -> tuple[str, list[str]]:
    """Where a run starts: in words that hold no path of this machine, and as names on the Hub where it has some."""
    if args.init_from is not None:
        before = recipe_of_model(args.init_from)
        if before is not None:
            return f"those of a {before.model} that was trained on {before.dataset}", []
        return _named([args.init_from])
    vision, text = args.vision_weights or recipe.vision, args.text_weights or recipe.text
    return ("random", []) if args.from_scratch or not (vision and text) else _named([vision, text])


def _named(weights: list[str]) -> tuple[str, list[str]]:
    """Pretrained weights in words, and those of the Hub by name; of a file on this machine only the last part."""
    on_hub = [name for name in weights if not Path(name).expanduser().exists()]
    words = [name if name in on_hub else f"{Path(name).name} (a file of the trainer's)" for name in weights]
    return ", ".join(words), [name if "/" in name or "." not in name else f"timm/{name}" for name in on_hub]


def find_checkpoint(
    resume: str, output_dir: Path, accelerator: Accelerator, say: Callable[[str], None]
) -> Checkpoint | None:
    """The checkpoint to go on from, see `resolve_resume`: found by the main process, known to all."""
    found: list[Any] = [None]
    if accelerator.is_main_process:
        try:
            found = [resolve_resume(resume, output_dir, say)]
        except CheckpointError as error:
            found = [error]
    broadcast_object_list(found)
    if isinstance(found[0], CheckpointError):
        raise found[0]
    return found[0]


def check_same_settings(before: Any, now: dict[str, Any], checkpoint: Checkpoint) -> None:
    """Raise a `CheckpointError` that names what differs between a checkpoint's run and this one."""
    before = before if isinstance(before, dict) else {}
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
    if output_dir.exists() and not output_dir.is_dir():
        raise ValueError(f"--output_dir: expected a folder, {output_dir} is a file.")
    output_dir.mkdir(parents=True, exist_ok=True)
    busy = f"Another process is training in {output_dir}. Wait for it, or choose another --output_dir."
    return take_lock(output_dir / LOCK, busy)


def keep_aside(output_dir: Path, say: Callable[[str], None]) -> None:
    """Move what an earlier run left in the folder to `previous/N`, so that nothing is lost or mixed up."""
    left = [name for name in RUN_FILES if (output_dir / name).exists()]
    if not left:
        return
    if not any((output_dir / name).exists() for name in (RECIPE_FILE, METRICS)):
        raise ValueError(
            f"--output_dir: {output_dir} holds {', '.join(left)}, and no {RECIPE_FILE} or {METRICS} says that this is "
            "an earlier run's. Choose another folder."
        )
    numbers = [int(path.name) for path in (output_dir / "previous").glob("[0-9]*") if path.name.isdecimal()]
    target = output_dir / "previous" / str(max(numbers, default=0) + 1)
    target.mkdir(parents=True)
    for name in left:
        (output_dir / name).rename(target / name)
    say(f"Moved the earlier run in {output_dir} to {target}.")
