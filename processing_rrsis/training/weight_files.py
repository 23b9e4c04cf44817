"""What names pretrained weights: local paths and names on the Hub; and what to do where they can't be had."""

from __future__ import annotations

import difflib
from pathlib import Path

import timm
from huggingface_hub import try_to_load_from_cache

WEIGHTS = "model.safetensors"
VISION_FILES = (WEIGHTS, "pytorch_model.bin")
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")  # either is enough
BY_HAND: dict[str, tuple[str, tuple[str, ...]]] = {
    "--vision_weights": ("weights/swin", (WEIGHTS, "config.json")),
    "--text_weights": ("weights/bert", ("config.json", WEIGHTS, *TOKENIZER_FILES, "tokenizer_config.json")),
}
"""Option → the folder that messages name, and the files to fetch by hand for a machine without network."""


class MissingWeightsError(OSError):
    """Pretrained weights are not here and can't be fetched; the message says how to get them."""


def find_vision(vision: str) -> str:
    """The file of a pretrained Swin, or timm's name of one.

    Args:
        vision: A file in timm's layout, a folder with it, or timm's name with its tag.

    Raises:
        ValueError: If it is none of these.
    """
    path = Path(vision).expanduser()
    for file in (path, *(path / name for name in VISION_FILES)):
        if file.is_file():
            return str(file)
    known = timm.list_pretrained("swin_*")
    if vision in known:
        return vision
    near = difflib.get_close_matches(vision, known, n=3, cutoff=0.5)
    raise ValueError(
        f"vision weights: expected a file, a folder with {' or '.join(VISION_FILES)}, or timm's name of a pretrained "
        f"Swin, got {vision!r}, which is none. "
        + (f"Near it: {', '.join(near)}." if near else "`timm.list_pretrained('swin_*')` lists them.")
    )


def find_text(text: str) -> str:
    """The folder of a pretrained BERT, or a name on the Hub.

    Raises:
        ValueError: If it is a path, and that of no such folder.
    """
    path = Path(text).expanduser()
    if (path / "config.json").is_file():
        return str(path)
    if path.exists() or path.is_absolute() or len(path.parts) > 2 or text.startswith((".", "~")):
        raise ValueError(
            f"text weights: expected a folder with config.json, {WEIGHTS} and {' or '.join(TOKENIZER_FILES)}, or a "
            f"name on the Hub, got {text!r}, which is neither"
        )
    return text


def how_to_get(wanted: dict[str, str], reason: Exception) -> Exception:
    """An error that says how to get what is missing; the reason itself where that is nothing of the Hub.

    Args:
        wanted: Option of `BY_HAND` → path, timm's name, or name on the Hub.
        reason: Why it could not be had.
    """
    lacking = {}
    for option, name in wanted.items():
        config = timm.get_pretrained_cfg(name) if option == "--vision_weights" else None
        repository = config.hf_hub_id if config is not None and config.hf_hub_id else name
        if not Path(name).exists() and not isinstance(try_to_load_from_cache(repository, WEIGHTS), str):
            lacking[option] = repository
    if not lacking:
        return reason
    commands = [
        f"  hf download {repository} {' '.join(BY_HAND[option][1])} --local-dir {BY_HAND[option][0]}"
        for option, repository in lacking.items()
    ]
    names, (why, *_) = ", ".join(lacking.values()), (*str(reason).splitlines(), type(reason).__name__)
    options = " ".join(f"{option} {BY_HAND[option][0]}" for option in lacking)
    return MissingWeightsError(
        "\n".join(
            (
                f"Pretrained weights are not on this machine ({names}) and could not be fetched: {why}",
                "On a machine with network, once:",
                *commands,
                f"then copy the folders here and add: {options}",
                "Or start from random weights, --small on a CPU or --from_scratch; or from a model, --init_from",
            )
        )
    )
