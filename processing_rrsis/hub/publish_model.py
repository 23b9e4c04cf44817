"""Publish a model: a run's `best/`, checked, with a card that names the repository, in one commit."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from datasets.utils.py_utils import convert_file_size_to_int

from ..bounds_rrsis import parse_json, shown
from .checks import CARD, CONFIG, WEIGHTS, check_model_folder, needed_code, refuse
from .converted import CONVERTED
from .push import AS_USUAL, Publication, PushOptions, RepoFile, check_repo_id, push
from .secret_search import find_secrets

MAX_SHARD_SIZE = "5GB"
SHEET = "contact_sheet.png"
# Pictures of these benchmarks may be shown; those of the others need a right that we can't know of.
PICTURE_CREDITS: dict[str, str] = {
    "synthetic": "Scenes rendered by this project.",
    "refsegrs": "Images of RefSegRS, CC-BY-4.0.",
}
_GOES_UP = re.compile(
    r"README\.md|LICENSE(\.md|\.txt)?|metrics\.json|[\w.-]*config\.json|tokenizer\.json|special_tokens_map\.json"
    r"|vocab\.txt|added_tokens\.json|model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json|\w+\.py"
    r"|requirements\.txt"
)
# What an earlier version of the project may have put there and this one no longer has.
_OURS = re.compile(
    r"model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json|modeling_\w+\.py|\w+_rrsis\.py"
    r"|contact_sheet\.png"
)
_EXAMPLE = re.compile(r"(?<=model=\")[^\"]+(?=\")")


def publish_model(
    folder: str | os.PathLike[str],
    repo_id: str,
    options: PushOptions = AS_USUAL,
    *,
    max_shard_size: int | str = MAX_SHARD_SIZE,
    may_show_images: bool = False,
    may_publish_weights: bool = False,
) -> Publication:
    """Publish a model folder, so that it loads with `transformers`, `timm` and `trust_remote_code=True` alone.

    Args:
        folder: A folder as `save_hub_folder` writes it, such as a run's `best/`.
        repo_id: `user/name`; created where it does not exist. The card's examples get this name.
        options: How to publish.
        max_shard_size: Larger weights are cut into files of at most this size, e.g. `"5GB"`.
        may_show_images: Show the run's contact sheet also where the benchmark's images may not be passed on freely.
        may_publish_weights: Publish also weights that others trained and `rrsis convert` converted.

    Returns:
        What was published, or would be.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: The folder is incomplete, or tells what it should not; the message names files and lines.
        PublishError: The Hub is not reached or refuses; nothing is published by halves.
    """
    source = Path(folder).expanduser()
    check_repo_id(repo_id)
    if not source.is_dir():
        raise FileNotFoundError(f"model: expected a folder such as runs/fianet/best, there is none at {source}")
    if not (source / CONFIG).is_file() and (source / "best" / CONFIG).is_file():
        raise ValueError(f"model: expected a model's folder, {source} is a run's; did you mean {source / 'best'}?")
    origin = _values(source / CONFIG).get(CONVERTED) or _values(source / "metrics.json").get(CONVERTED)
    if origin and not isinstance(origin, dict):
        raise ValueError(f"{source}: expected {CONVERTED} to say whose weights these are, got {str(origin)[:80]}")
    if origin and not may_publish_weights:
        weights, place, licence = (
            " ".join(shown(origin.get(key)).split()) for key in ("weights", "source", "licence")
        )
        raise ValueError(
            f"{source}: holds weights that others trained ({weights}, from {place}), or what was trained from them; "
            f"licence: {licence}. Publishing them is your decision: --i-have-the-right-to"
        )
    refuse(source, _outward_links(source))
    files, left_out = gather_files(source, repo_id, may_show_images)
    refuse(source, [*check_model_folder(source), *find_secrets(files, options.used_token)])
    with ExitStack() as stack:
        if _too_large(source, max_shard_size):
            parts = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rrsis-publish-")))
            files = [file for file in files if file.path != WEIGHTS] + split_weights(source, parts, max_shard_size)
        message = "Publish the model with rrsis"
        return push(files, repo_id, "model", options, message=message, ours=_OURS, left_out=left_out)


def _outward_links(folder: Path) -> list[str]:
    """Links that would send what lies elsewhere on this machine."""
    return [
        f"{path.name}: a link that leads out of the folder; put the file itself there, if it is to go up"
        for path in sorted(folder.iterdir())
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve())
    ]


def gather_files(folder: Path, repo_id: str, may_show_images: bool = False) -> tuple[list[RepoFile], list[str]]:
    """The files of a model folder that go up, and why others stay behind.

    Args:
        folder: The model folder.
        repo_id: Name for the card's examples.
        may_show_images: See `publish_model`.

    Returns:
        Files, with the card completed and the contact sheet beside it; and one line per file or folder that stays.
    """
    files, left_out = [], []
    code = needed_code(folder)
    for path in sorted(folder.iterdir()):
        if path.suffix == ".py" and path.name not in code:
            left_out.append(f"{path.name}: no code that auto_map reaches")
        elif path.is_file() and _GOES_UP.fullmatch(path.name):
            files.append(RepoFile(path.name, path))
        elif path.name not in ("__pycache__", SHEET):
            left_out.append(f"{path.name}{'/' if path.is_dir() else ''}: no part of a model")
    sheet, reason = _find_sheet(folder, may_show_images)
    if sheet is not None:
        files.append(RepoFile(SHEET, sheet))
    if reason is not None:
        left_out.append(reason)
    if (folder / CARD).is_file():
        text = complete_card(_read_card(folder / CARD), repo_id, _caption(folder) if sheet else None)
        files = [file for file in files if file.path != CARD] + [RepoFile(CARD, text.encode())]
    return files, left_out


def _read_card(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 text, got other bytes ({error}); save the card as UTF-8") from error


def _values(path: Path) -> dict[str, Any]:
    """What a file beside the weights says of them."""
    try:
        content: Any = parse_json(path.read_bytes(), source=path.name)
    except (OSError, ValueError):  # not there, or no JSON: the check of the folder says so
        return {}
    return content if isinstance(content, dict) else {}


def _dataset_of(folder: Path) -> str | None:
    """Benchmark that the model was trained on."""
    recipe = _values(folder / "metrics.json").get("recipe")
    return recipe.get("dataset") if isinstance(recipe, dict) else None


def _find_sheet(folder: Path, may_show_images: bool) -> tuple[Path | None, str | None]:
    """The contact sheet of these weights, or why it is not shown: only the sheet of `best/` is drawn from them."""
    places = [folder / SHEET, *([folder.resolve().parent / SHEET] if folder.resolve().name == "best" else [])]
    sheet = next((path for path in places if path.is_file() and not path.is_symlink()), None)
    if sheet is None:
        return None, None
    dataset = _dataset_of(folder)
    if dataset in PICTURE_CREDITS or may_show_images:
        return sheet, None
    return None, (
        f"{SHEET}: it shows images of {'own data' if dataset == 'own' else dataset or 'data without a name'}; "
        "--i-have-the-right-to shows it"
    )


def _caption(folder: Path) -> str:
    return PICTURE_CREDITS.get(_dataset_of(folder) or "", "Shown with the publisher's word that they may.")


def complete_card(text: str, repo_id: str, caption: str | None) -> str:
    """A run's card with the repository's name in its examples and the pictures of failures among its limits.

    Args:
        text: The card that the run left.
        repo_id: Name for the examples.
        caption: Whose images the pictures show; `None` where there is no picture.

    Returns:
        The card to publish.
    """
    named = _EXAMPLE.sub(repo_id, text)
    if caption is None or SHEET in named:
        return named
    picture = (
        "Best, typical and worst samples of the test split, chosen by rule; failures (IoU below 0.5) have a red "
        f"frame. {caption}\n\n![Image, prediction and truth; failures framed in red]({SHEET})\n"
    )
    before, heading, after = named.partition("\n## Citation")
    return f"{before.rstrip()}\n\n{picture}{heading}{after}"


def _too_large(folder: Path, limit: int | str) -> bool:
    weights = folder / WEIGHTS
    return weights.is_file() and weights.stat().st_size > convert_file_size_to_int(limit)


def split_weights(folder: Path, target: Path, limit: int | str) -> list[RepoFile]:
    """Cut one file of weights into several; no number changes.

    Args:
        folder: Model folder with `model.safetensors`.
        target: Folder for the parts.
        limit: Most bytes of a part.

    Returns:
        The parts and their index.

    Raises:
        OSError: The disk has no room for the parts.
    """
    from huggingface_hub import save_torch_state_dict
    from safetensors.torch import load_file

    needed, free = (folder / WEIGHTS).stat().st_size, shutil.disk_usage(target).free
    if free < needed:
        raise OSError(
            f"{target}: cutting the weights needs {needed / 1e9:.1f} GB for a copy, {free / 1e9:.1f} GB are free; set "
            "TMPDIR to a folder on a larger disk, or --max-shard-size to more than the weights"
        )
    save_torch_state_dict(load_file(folder / WEIGHTS), target, max_shard_size=limit, metadata={"format": "pt"})
    return [RepoFile(path.name, path) for path in sorted(target.iterdir())]
