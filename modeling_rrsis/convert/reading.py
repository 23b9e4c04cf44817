"""Read a published checkpoint without running anything that it holds."""

from __future__ import annotations

import argparse
import io
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .pickles import NEEDED_NAMES, Survey

# Training scripts store their arguments; a Namespace is a bag of plain values and runs nothing when it is read.
ALLOWED = (argparse.Namespace,)
STATE_NAMES = ("model", "state_dict")
PREFIXES = ("module.", "_orig_mod.")
"""What data-parallel training and `torch.compile` put before every name."""
BERT_NAME = "bert_model"
FORMER_PICKLES = 5

MAX_SIZE = 2
"""Most bytes of all tensors, as a multiple of the file's: tensors may share memory."""


class ForeignContentError(ValueError):
    """The file holds what no checkpoint needs; nothing of it was run."""


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
    Prefixes that wrappers leave on every key ([`PREFIXES`]) are removed.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no PyTorch checkpoint, holds something besides tensors, plain values and
            `argparse.Namespace`, or no state dictionary.
    """
    path = Path(path)
    content = _read_safetensors(path) if path.suffix == ".safetensors" else load_safely(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: expected a dictionary of tensors, the file holds a {type(content).__name__}.")
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return Checkpoint(model=_tensors(path, "the file", content))
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


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: expected a safetensors file, this is none or a damaged one ({error}).") from error


def load_safely(path: Path) -> Any:
    """`torch.load` with `weights_only=True` and [`ALLOWED`], tensors mapped from the file where its format allows it.

    Before that every record of the file is compared with its checksum and with the size that is asked of it, since
    torch does neither. (The format before torch 1.6 has no checksums.)

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, no PyTorch checkpoint, or holds something else; the message names it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a checkpoint file, there is none.")
    with path.open("rb"):  # one that may not be read is told as the system does
        pass
    is_zip = zipfile.is_zipfile(path)
    try:
        if is_zip:
            with zipfile.ZipFile(path) as archive:
                if (damaged := archive.testzip()) is not None:
                    raise ValueError(f"the record {damaged} has another checksum than was written")
        check_records(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(ALLOWED)):
            warnings.simplefilter("ignore")  # of pickle protocols, which the survey has looked at
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except ForeignContentError as error:
        raise ValueError(
            f"{path}: {error}. If you trust its maker, write the tensors alone to a new file: "
            '`torch.save({"model": checkpoint["model"]}, NEW_FILE)`.'
        ) from error
    except Exception as error:  # on a damaged file torch, zipfile and pickle raise nearly every kind there is
        raise ValueError(
            f"{path}: expected a PyTorch checkpoint, this is none or a damaged one ({_said(error)}). Is the download "
            "complete?"
        ) from error


def check_records(path: Path) -> None:
    """Find out, before torch reads a file, whether it asks for code, or for more memory than it has bytes.

    Raises:
        Exception: Of nearly every kind where the file is damaged; `ForeignContentError` where it asks for code.
    """
    survey = _survey_zip(path) if zipfile.is_zipfile(path) else _survey_former(path)
    foreign = sorted(name for name in survey.names if not NEEDED_NAMES.fullmatch(name))
    if foreign:
        raise ForeignContentError(
            f"expected tensors, plain values and argparse.Namespace, it also holds {listed(foreign)}; reading that "
            "could run foreign code, so the file was refused and nothing in it was run"
        )


def _survey_zip(path: Path) -> Survey:
    """What the pickle of an archive asks for, its records compared with it."""
    survey = Survey()
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        sizes = {member.filename.partition("/")[2]: member.file_size for member in members}
        if len(sizes) != len(members) or any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("records of one name, or compressed ones, which torch does not write")
        (pickled,) = (member for member in members if member.filename.partition("/")[2] == "data.pkl")
        survey.add(io.BytesIO(archive.read(pickled)))
    for key, size in survey.storages.items():
        if sizes.get(f"data/{key}") != size:
            raise ValueError(f"the record data/{key} has {sizes.get(f'data/{key}')} bytes, {size} are asked for")
    return survey


def _survey_former(path: Path) -> Survey:
    """What is asked for before torch 1.6: five pickles one after the other, the tensors' bytes behind them."""
    survey = Survey()
    with path.open("rb") as file:
        for _ in range(FORMER_PICKLES):
            survey.add(file)
    if sum(survey.storages.values()) > path.stat().st_size:
        raise ValueError("more bytes of tensors than the file has")
    return survey


def _said(error: Exception) -> str:
    """The kind of an error and the first line of its text, which may be empty."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _tensors(path: Path, name: str, state: Any) -> dict[str, Tensor]:
    """The state dictionary, after a check that it holds tensors only."""
    if not isinstance(state, Mapping) or not state:
        raise ValueError(f"{path}: expected tensors by name under {name!r}, got {type(state).__name__}.")
    wrong = [key for key, value in state.items() if not isinstance(key, str) or not isinstance(value, Tensor)]
    if wrong:
        raise ValueError(f"{path}: expected only tensors under {name!r}, these are none: {listed(wrong)}.")
    size = sum(value.numel() * value.itemsize for value in state.values())
    if size > MAX_SIZE * path.stat().st_size:
        raise ValueError(f"{path}: expected tensors of about the file's size under {name!r}, got {size:,} bytes.")
    return _without_prefix(dict(state))


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names without what wrappers put before all of them: data-parallel training, `torch.compile`, or both."""
    while state and (prefix := next((one for one in PREFIXES if all(key.startswith(one) for key in state)), None)):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def listed(names: Any, limit: int = 8) -> str:
    """Names for a message, the first ones where there are many."""
    names = [str(name) for name in names]
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "") or "nothing"
