"""Where pretrained weights lie: local paths, the Hub's cache, the Hub; and what to do where they can't be had."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import timm
from huggingface_hub import try_to_load_from_cache
from transformers.utils import cached_file

WEIGHTS = "model.safetensors"
VISION_WEIGHTS = (WEIGHTS, "pytorch_model.bin")
TEXT_FILES = ("config.json", WEIGHTS)
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")  # either is enough
TEXT_DOWNLOAD = (*TEXT_FILES, *TOKENIZER_FILES, "tokenizer_config.json")
VISION_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")


class MissingWeightsError(OSError):
    """Pretrained weights are not here and can't be fetched; the message says how to get them."""


@dataclass(frozen=True)
class HubFiles:
    """Files of a repository on the Hub that a part of the network needs.

    Args:
        repository: Name on the Hub.
        needed: Files without which nothing can be loaded.
        download: Files to fetch by hand for a machine without network.
        folder: Local folder that the commands in messages name.
        option: Option that takes the folder.
    """

    repository: str
    needed: tuple[str, ...]
    download: tuple[str, ...]
    folder: str
    option: str

    @classmethod
    def of_vision(cls, name: str) -> HubFiles:
        """Files of a pretrained Swin by its timm name."""
        config = timm.get_pretrained_cfg(name)
        repository = config.hf_hub_id if config is not None else None
        return cls(
            repository or f"timm/{name}", (WEIGHTS,), (WEIGHTS, "config.json"), "weights/swin", "--vision_weights"
        )

    @classmethod
    def of_text(cls, name: str) -> HubFiles:
        """Files of a pretrained BERT by its name."""
        return cls(name, TEXT_FILES, TEXT_DOWNLOAD, "weights/bert", "--text_weights")

    @property
    def cache_folder(self) -> Path:
        """Folder of the Hub's cache that holds the needed files, once they are fetched."""
        return Path(cast(str, cached_file(self.repository, self.needed[0], local_files_only=True))).parent

    def missing(self) -> list[str]:
        """The needed files that the Hub's cache on this machine does not hold."""
        return [name for name in self.needed if not is_cached(self.repository, name)]

    def fetch(self) -> None:
        """Download into the Hub's cache what is not in it.

        Raises:
            OSError: If a file can't be had.
        """
        if self.missing():
            for name in self.needed:
                cached_file(self.repository, name)


def is_cached(repository: str, name: str) -> bool:
    """Whether the Hub's cache holds a file of a repository's main branch."""
    return isinstance(try_to_load_from_cache(repository, name), str)


def find_vision(vision: str) -> Path | HubFiles:
    """The file of a pretrained Swin, or, for timm's name of one, its files on the Hub.

    Args:
        vision: A file in timm's layout, a folder with model.safetensors, or timm's name with its tag.

    Raises:
        FileNotFoundError: If a path leads to nothing, or a folder has no weights.
        ValueError: If it is neither a path nor the name of a pretrained Swin.
    """
    path = Path(vision).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        for name in VISION_WEIGHTS:
            if (path / name).is_file():
                return path / name
        raise FileNotFoundError(
            f"vision weights: expected {' or '.join(VISION_WEIGHTS)} in {path}, found neither; name the file itself"
        )
    if vision in timm.list_pretrained("swin_*"):
        return HubFiles.of_vision(vision)
    if path.suffix in VISION_SUFFIXES or len(path.parts) > 1:
        raise FileNotFoundError(f"vision weights: expected a file or a folder, there is none at {path}")
    near = difflib.get_close_matches(vision, timm.list_pretrained("swin_*"), n=3, cutoff=0.5)
    raise ValueError(
        f"vision weights: expected a file, a folder or timm's name of a pretrained Swin, got {vision!r}. "
        + (f"Near it: {', '.join(near)}." if near else "`timm.list_pretrained('swin_*')` lists them.")
    )


def find_text(text: str) -> Path | HubFiles:
    """The folder of a pretrained BERT, or, for a name on the Hub, its files there.

    Raises:
        FileNotFoundError: If a folder lacks config.json.
        ValueError: If a file is given.
    """
    path = Path(text).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise FileNotFoundError(
                f"text weights: expected config.json in {path}, found none; the folder needs "
                f"{', '.join(TEXT_FILES)} and {' or '.join(TOKENIZER_FILES)}"
            )
        return path
    if path.is_file():
        raise ValueError(f"text weights: expected a folder, {path} is a file; name the folder that it is in")
    if len(path.parts) > 2 or path.is_absolute() or text.startswith((".", "~")):
        raise FileNotFoundError(f"text weights: expected a folder, there is none at {path}")
    return HubFiles.of_text(text)


def fetch_all(wanted: list[HubFiles]) -> None:
    """Download what the cache lacks.

    Raises:
        MissingWeightsError: If a file can't be had; the message has every file that is missing.
    """
    for files in wanted:
        try:
            files.fetch()
        except (OSError, ValueError) as error:
            # One failure is enough: without a network every further file would cost its own timeout.
            raise MissingWeightsError(how_to_get(wanted, reason=str(error))) from error


def how_to_get(wanted: list[HubFiles], reason: str) -> str:
    """What is missing, and the ways out."""
    lacking = [files for files in wanted if files.missing()]
    names = [f"  {', '.join(files.missing())} of {files.repository}" for files in lacking]
    commands = [
        f"  hf download {files.repository} {' '.join(files.download)} --local-dir {files.folder}" for files in lacking
    ]
    options = " ".join(f"{files.option} {files.folder}" for files in lacking)
    return "\n".join(
        (
            "Pretrained weights are not on this machine:",
            *names,
            "On a machine with network, once:",
            *commands,
            f"then copy the folders here and add: {options}",
            "Or start from random weights: --from_scratch",
            f"Why they could not be fetched: {reason.splitlines()[0] if reason else 'unknown'}",
        )
    )
