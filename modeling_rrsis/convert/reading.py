"""Read a published checkpoint without running anything that it holds."""

from __future__ import annotations

import argparse
import io
import pickle
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

# Training scripts store their arguments; a Namespace is a bag of plain values and runs nothing when it is read.
ALLOWED = (argparse.Namespace,)
STATE_NAMES = ("model", "state_dict")
BERT_NAME = "bert_model"

# What tensors, their containers and optimizer states are pickled with. Only used to leave them out of a message.
_HARMLESS = re.compile(
    r"torch\.(\w+Storage|Size|device|b?float\w*|u?int\w*|bool|complex\w*)|torch\._utils\._rebuild_\w+"
    r"|torch\.nn\.parameter\.Parameter|collections\.(OrderedDict|defaultdict|Counter)|argparse\.Namespace"
    r"|(builtins|__builtin__)\.(set|frozenset|bytearray|complex|slice|range)"
)
_STRINGS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING")


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a checkpoint by their published keys.

    Args:
        model: State dictionary of the network.
        bert: State dictionary of a BERT that is stored beside the network (one of LAVT's two forms).
        other: Names of what else lies in the file (optimizer, epoch, arguments).
    """

    model: dict[str, Tensor]
    bert: dict[str, Tensor] | None = None
    other: list[str] = field(default_factory=list)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read the tensors of a checkpoint; they stay on the disk until they are used.

    Accepts a bare state dictionary, one under `"model"` or `"state_dict"`, and a BERT beside it under `"bert_model"`.
    A prefix `module.` on every key, which data-parallel training leaves, is removed.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no PyTorch checkpoint, holds something besides tensors, plain values and
            `argparse.Namespace`, or no state dictionary.
    """
    path = Path(path)
    content = load_safely(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: expected a dictionary of tensors, the file holds a {type(content).__name__}.")
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return Checkpoint(model=_without_prefix(dict(content)))
    name = next((name for name in STATE_NAMES if isinstance(content.get(name), Mapping)), None)
    if name is None:
        raise ValueError(
            f"{path}: expected tensors by name, or a dictionary of them under {' or '.join(map(repr, STATE_NAMES))}; "
            f"the file holds {listed(content)}."
        )
    bert = content.get(BERT_NAME)
    return Checkpoint(
        model=_tensors(path, name, content[name]),
        bert=None if bert is None else _tensors(path, BERT_NAME, bert),
        other=[str(key) for key in content if key not in (name, BERT_NAME)],
    )


def load_safely(path: Path) -> Any:
    """`torch.load` with `weights_only=True` and [`ALLOWED`], tensors mapped from the file where its format allows it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, no PyTorch checkpoint, or holds something else; the message names it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a checkpoint file, there is none.")
    try:
        with torch.serialization.safe_globals(list(ALLOWED)):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError:
        names = sorted(name for name in set(pickled_names(path)) if not _HARMLESS.fullmatch(name))
        if not names:
            raise ValueError(
                f"{path}: expected a PyTorch checkpoint, this is none or a damaged one. Is the download complete?"
            ) from None
        raise ValueError(
            f"{path}: expected tensors, plain values and argparse.Namespace, it also holds {', '.join(names)}. "
            "Reading that could run foreign code, so the file was refused and nothing in it was run. If you trust its "
            'maker, write the tensors alone to a new file: `torch.save({"model": checkpoint["model"]}, NEW_FILE)`.'
        ) from None
    except PermissionError:
        raise
    # OSError: a cut archive sends the reader before the file's beginning.
    except (
        RuntimeError,
        OSError,
        EOFError,
        KeyError,
        AttributeError,
        zipfile.BadZipFile,
        UnicodeDecodeError,
    ) as error:
        raise ValueError(
            f"{path}: expected a PyTorch checkpoint, this is none or a damaged one ({_said(error)}). Is the download "
            "complete?"
        ) from error


def _said(error: Exception) -> str:
    """The kind of an error and the first line of its text, which may be empty."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def pickled_names(path: Path) -> list[str]:
    """Dotted names of classes and functions that the pickles in a checkpoint refer to, read without unpickling."""
    names: list[str] = []
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.endswith(".pkl"):
                    names += _names_in(io.BytesIO(archive.read(member)))
        return names
    with path.open("rb") as file:  # before torch 1.6: several pickles one after the other, then the tensors' bytes
        names += _names_in(file)
    return names


def _names_in(file: BinaryIO) -> Iterator[str]:
    """Names in one pickle after the other, until the bytes are none any more."""
    while True:
        texts: list[str] = []
        memo: dict[int, str] = {}
        fresh = False  # whether the last opcode pushed a text, which is what a following memo entry stores
        try:
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name in ("GLOBAL", "INST"):
                    yield str(argument).replace(" ", ".")
                elif opcode.name == "STACK_GLOBAL":
                    yield ".".join(texts[-2:])
                elif opcode.name in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
                    index = len(memo) if argument is None else int(argument)
                    memo[index] = texts[-1] if fresh else ""
                elif opcode.name in ("BINGET", "LONG_BINGET", "GET") and argument is not None:
                    texts.append(memo.get(int(argument), ""))
                fresh = opcode.name in _STRINGS
                if fresh:
                    texts.append(str(argument))
        except (ValueError, EOFError, OverflowError):
            return


def _tensors(path: Path, name: str, state: Any) -> dict[str, Tensor]:
    """The state dictionary, after a check that it holds tensors only."""
    if not isinstance(state, Mapping) or not state:
        raise ValueError(f"{path}: expected tensors by name under {name!r}, got {type(state).__name__}.")
    wrong = [str(key) for key, value in state.items() if not isinstance(value, Tensor)]
    if wrong:
        raise ValueError(f"{path}: expected only tensors under {name!r}, these are none: {listed(wrong)}.")
    return _without_prefix({str(key): value for key, value in state.items()})


def _without_prefix(state: dict[str, Tensor], prefix: str = "module.") -> dict[str, Tensor]:
    if not all(key.startswith(prefix) for key in state):
        return state
    return {key.removeprefix(prefix): value for key, value in state.items()}


def listed(names: Any, limit: int = 8) -> str:
    """Names for a message, the first ones where there are many."""
    names = [str(name) for name in names]
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "") or "nothing"
