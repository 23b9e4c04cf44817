"""Write a folder that `AutoModel`, `AutoProcessor` and `pipeline` load anywhere, without our packages installed."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CONFIG_FILE = "config.json"
PROCESSOR_FILE = "processor_config.json"
TOKENIZER_FILE = "tokenizer_config.json"
# Where something was loaded from is of no use to others and tells them about our disk.
_LOCAL_KEYS = frozenset(
    ("_name_or_path", "name_or_path", "is_local", "local_files_only", "vocab_file", "tokenizer_file")
)


def save_hub_folder(
    model: Any,
    processor: Any,
    output_dir: str | os.PathLike[str],
    *,
    model_card: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    state_dict: Mapping[str, Any] | None = None,
) -> Path:
    """Save model, processor and remote code as one flat, Hub-shaped folder.

    Everything is written to a sibling folder first and renamed at the end: a crash leaves the old folder or the new
    one, never half of one. (Between the two renames the old one is called `.NAME.old`; the next call puts it back.)

    Args:
        model: a `PreTrainedModel` of ours, unwrapped from DDP, FSDP and compile.
        processor: an `RRSISProcessor`.
        output_dir: the folder; where it exists it is replaced, if it is empty or such a folder itself.
        model_card: text of `README.md`, front matter included.
        metrics: content of `metrics.json`.
        state_dict: weights to save instead of the model's (averaged or gathered ones).

    Returns:
        The folder.

    Raises:
        ValueError: `output_dir` holds something else, which would be lost.
        OSError: the disk is full or not writable; nothing was replaced.
    """
    with replaced_folder(output_dir, marker=CONFIG_FILE) as folder:
        model.save_pretrained(folder, **({} if state_dict is None else {"state_dict": state_dict}))
        processor.save_pretrained(folder)
        drop_local_keys(folder)
        if model_card is not None:
            (folder / "README.md").write_text(model_card, encoding="utf-8")
        if metrics is not None:
            _write_json(folder / "metrics.json", metrics)
    return Path(output_dir).expanduser().resolve()


@contextmanager
def replaced_folder(output_dir: str | os.PathLike[str], marker: str) -> Iterator[Path]:
    """A new sibling folder to write into, which takes the place of `output_dir` where nothing was raised.

    Args:
        output_dir: the folder; it need not exist.
        marker: a file that tells a folder which may be replaced from one that holds other things.

    Raises:
        ValueError: `output_dir` is a file or holds something else, which would be lost.
        OSError: the disk is not writable.
    """
    target = Path(output_dir).expanduser().resolve()
    aside, backup = target.with_name(f".{target.name}.tmp-{os.getpid()}"), target.with_name(f".{target.name}.old")
    recover_folder(target)
    check_replaceable(target, marker)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        _swap(aside, target, backup)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def recover_folder(target: Path) -> None:
    """Undo what a crash between the two renames of `save_hub_folder` left, or finish what one after them left."""
    backup = target.with_name(f".{target.name}.old")
    if backup.exists():
        if target.exists():
            shutil.rmtree(backup, ignore_errors=True)
        else:
            backup.rename(target)


def check_replaceable(target: Path, marker: str) -> None:
    """Only an empty folder or one with this file in it may be replaced."""
    if not target.exists():
        return
    if not target.is_dir():
        raise ValueError(f"output_dir: expected a folder, {target} is a file; choose another name")
    if any(target.iterdir()) and not (target / marker).is_file():
        kind = "a model folder" if marker == CONFIG_FILE else "such a folder"
        raise ValueError(
            f"output_dir: expected a new, an empty or {kind}, {target} holds other things, which would be "
            f"deleted (no {marker} in it); choose another name"
        )


def _swap(aside: Path, target: Path, backup: Path) -> None:
    if target.exists():
        target.rename(backup)
    aside.rename(target)
    shutil.rmtree(backup, ignore_errors=True)


def drop_local_keys(folder: Path) -> None:
    """Drop from saved configurations what tells of this machine.

    Args:
        folder: where `save_pretrained` of a configuration or model, and of a processor, has written; their code and
            the entries that point to it are there, since `modeling_rrsis` has registered their classes.
    """
    for name in (CONFIG_FILE, PROCESSOR_FILE, TOKENIZER_FILE):
        settings = _without_local_keys(json.loads((folder / name).read_text(encoding="utf-8")))
        if name == TOKENIZER_FILE:
            settings.pop("auto_map", None)  # left there by ProcessorMixin; the tokenizer is a plain one
        _write_json(folder / name, settings)


def _without_local_keys(value: Any) -> Any:
    """Drop, at any depth, the keys that say where on this machine something came from."""
    if isinstance(value, dict):
        return {key: _without_local_keys(item) for key, item in value.items() if key not in _LOCAL_KEYS}
    return [_without_local_keys(item) for item in value] if isinstance(value, list) else value


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
