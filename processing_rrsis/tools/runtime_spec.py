"""What `rrsis export` is asked for, checked as far as that needs no model. Nothing heavy is imported here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

ONNX_PACKAGES: tuple[str, ...] = ("onnx", "onnxscript", "onnxruntime")
DEFAULT_ROUNDS = 5
MIN_IMAGE_SIZE_PX = 32  # of the networks


class RuntimeFormat(StrEnum):
    """Files that `rrsis export` writes; each value is the file's ending without its dot."""

    ONNX = "onnx"
    PT2 = "pt2"


@dataclass(frozen=True)
class ScoredData:
    """The split on which an export is scored beside the model it comes from.

    Attributes:
        name: `"synthetic"`, `"own"`, another benchmark's name, a .csv or .jsonl file, or the folder or zip of a
            download, whose benchmark is found out from its files.
        split: Split to score.
        num_samples: Only the first ones; all if absent.
    """

    name: str
    split: str = "test"
    num_samples: int | None = None


@dataclass(frozen=True)
class RuntimeSpec:
    """One export.

    Attributes:
        model: Model folder or Hub repository.
        output: File to write.
        format: What to write.
        int8: Whether the weights of linear layers become 8-bit integers; ONNX only.
        image_size_px: Height and width of the images; the processor's if absent.
        data: What to score on; nothing if absent.
        rounds: Timed runs of each.
        seed: Seed of the inputs of check and timing.
        trust_remote_code: Whether code of a repository that is none of ours may run.
    """

    model: str
    output: Path
    format: RuntimeFormat
    int8: bool = False
    image_size_px: tuple[int, int] | None = None
    data: ScoredData | None = None
    rounds: int = DEFAULT_ROUNDS
    seed: int = 0
    trust_remote_code: bool = False

    def check(self) -> None:
        """Find out before anything is loaded what can't work.

        Raises:
            ValueError: For settings that don't fit each other or a file that can't be written.
            ImportError: If a package that the format needs is not installed.
        """
        if self.int8 and self.format is not RuntimeFormat.ONNX:
            raise ValueError(f"--int8: expected with an .onnx file, {self.output} would be .{self.format}; drop one")
        if self.image_size_px is not None and min(self.image_size_px) < MIN_IMAGE_SIZE_PX:
            raise ValueError(f"--image-size: expected at least {MIN_IMAGE_SIZE_PX} px, got {min(self.image_size_px)}")
        check_writable(self.output)
        if self.format is RuntimeFormat.ONNX:
            missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
            if missing:
                raise ImportError(
                    f'an .onnx file needs {", ".join(missing)}: run `pip install "rrsis[export]"`, or write .pt2'
                )


def choose_format(output: Path, name: str | None) -> RuntimeFormat:
    """The format of the file's ending, or the named one where the ending says nothing.

    Raises:
        ValueError: If there is no such format, or name and ending contradict each other.
    """
    known = {item.value: item for item in RuntimeFormat}
    endings = ", ".join(f".{item}" for item in known)
    if name is not None and name not in known:
        raise ValueError(f"--format: expected one of {', '.join(known)}, got {name!r}")
    ending = output.suffix.lower().removeprefix(".")
    if ending not in known and name is None:
        raise ValueError(
            f"{output}: expected a file name that ends with {endings}, or --format; got the ending {output.suffix!r}"
        )
    if ending in known and name not in (None, ending):
        raise ValueError(f"--format {name}: expected a file name that ends with .{name}, got {output}")
    return known[name or ending]


def check_writable(output: Path) -> None:
    """Raise a `ValueError` where a file can't be written."""
    folder = output.absolute().parent
    if output.is_dir():
        raise ValueError(f"{output}: expected a file name, got a folder; write {output}/model.onnx")
    if not folder.is_dir():
        raise ValueError(f"{output}: expected an existing folder, {folder} is none; create it first")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{output}: expected a folder that can be written to, {folder} can't; choose another one")
