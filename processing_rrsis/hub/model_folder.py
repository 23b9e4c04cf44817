"""Write a folder that `AutoModel`, `AutoProcessor` and `pipeline` load anywhere, without our packages installed."""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers.dynamic_module_utils import get_relative_import_files

from ..pipeline_rrsis import TASK, ReferringSegmentationPipeline

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
        _write_folder(folder, model, processor, state_dict)
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


def _write_folder(folder: Path, model: Any, processor: Any, state_dict: Mapping[str, Any] | None) -> None:
    """Weights and configurations by transformers, then code and the entries that point to it."""
    options = {} if state_dict is None else {"state_dict": state_dict}
    model.save_pretrained(folder, **options)
    copy_remote_code((type(model), ReferringSegmentationPipeline), folder)
    write_processor(folder, processor)
    write_config(
        folder,
        type(model.config),
        auto_map=dict.fromkeys(("AutoModel", "AutoModelForImageSegmentation"), _reference(type(model))),
    )
    config = _read_json(folder / CONFIG_FILE)
    # "pt" names Auto classes of transformers: pipeline() looks them up there.
    config["custom_pipelines"] = {
        TASK: {"impl": _reference(ReferringSegmentationPipeline), "pt": ["AutoModel"], "type": "multimodal"}
    }
    _write_json(folder / CONFIG_FILE, config)


def write_config(folder: Path, config_class: type, auto_map: Mapping[str, str] | None = None) -> None:
    """Give a saved config.json its code, and drop from it what tells of this machine.

    Args:
        folder: where it was saved.
        config_class: its class.
        auto_map: further classes that are found by it.
    """
    copy_remote_code((config_class,), folder)
    config = _without_local_keys(_read_json(folder / CONFIG_FILE))
    _write_json(
        folder / CONFIG_FILE, {**config, "auto_map": {"AutoConfig": _reference(config_class), **(auto_map or {})}}
    )


def write_processor(folder: Path, processor: Any) -> None:
    """Save a processor with its code, without what tells of this machine."""
    processor.save_pretrained(folder)
    classes = (type(processor), type(processor.image_processor))
    copy_remote_code(classes, folder)
    processor_class, image_processor_class = (_reference(cls) for cls in classes)
    settings = _without_local_keys(_read_json(folder / PROCESSOR_FILE))
    settings["auto_map"] = {"AutoProcessor": processor_class, "AutoImageProcessor": image_processor_class}
    settings["image_processor"]["auto_map"] = {"AutoImageProcessor": image_processor_class}
    _write_json(folder / PROCESSOR_FILE, settings)

    tokenizer = _without_local_keys(_read_json(folder / TOKENIZER_FILE))
    tokenizer.pop("auto_map", None)  # left behind by ProcessorMixin.save_pretrained; the tokenizer is a plain one
    _write_json(folder / TOKENIZER_FILE, tokenizer)


def copy_remote_code(classes: Iterable[type], folder: Path) -> list[str]:
    """Copy the files that define the classes, and their neighbours they import, flat into the folder.

    Args:
        classes: classes defined in root files of the two packages.
        folder: where to.

    Returns:
        The sorted file names.
    """
    names = set()
    for cls in classes:
        own_file = sys.modules[cls.__module__].__file__
        if own_file is None:
            raise ValueError(f"{cls.__name__}: expected a class defined in a file, {cls.__module__} has none")
        for source in (own_file, *get_relative_import_files(own_file)):
            shutil.copyfile(source, folder / Path(source).name)
            names.add(Path(source).name)
    return sorted(names)


def _reference(cls: type) -> str:
    """Return "file.Class", the form of auto_map: exactly one dot."""
    return f"{cls.__module__.rsplit('.', 1)[-1]}.{cls.__name__}"


def _without_local_keys(value: Any) -> Any:
    """Drop, at any depth, the keys that say where on this machine something came from."""
    if isinstance(value, dict):
        return {key: _without_local_keys(item) for key, item in value.items() if key not in _LOCAL_KEYS}
    return [_without_local_keys(item) for item in value] if isinstance(value, list) else value


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
