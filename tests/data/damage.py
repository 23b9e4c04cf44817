"""Damage for tests: every oddity that `rrsis prepare` looks for, done to a freshly written folder and reported."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from processing_rrsis.data.writing.demo import DemoSpec, write_demo

DAMAGE_KINDS: dict[str, str] = {
    "missing-image": "an image file is deleted",
    "missing-mask": "a mask file, or the annotation of a reference, is deleted",
    "extra-file": "an image that no reference names is added",
    "truncated-image": "an image file loses its second half",
    "unreadable-image": "an image file is replaced by a web page",
    "unreadable-mask": "a mask is replaced by something that is none",
    "mask-size": "a mask gets one column more than its image has",
    "empty-mask": "a mask loses its foreground",
    "mask-values": "a mask gets values other than 0 and 255 (RRSIS-D: two codes that overlap)",
    "bad-box": "a box is moved beside its object (RRSIS-D only)",
    "unknown-category": "a reference gets a category number that does not exist (RRSIS-D only)",
    "duplicate-expression": "a reference gets image and expression of another one of its split",
    "leak": "a reference gets the image of another split",
    "leak-content": "an image file gets the content of an image of another split",
    "wrong-count": "a reference is deleted with all its files",
}
"""Kind → what is done; the check that finds it has the same name."""
_RRSISD_ONLY = frozenset({"bad-box", "unknown-category"})


@dataclass(frozen=True)
class Damage:
    """What was damaged.

    Attributes:
        kind: A key of `DAMAGE_KINDS`.
        names: What the report must name: files below the folder, or references ("reference 12").
        detail: What exactly was done.
    """

    kind: str
    names: tuple[str, ...]
    detail: str


class DamageableFolder(Protocol):
    """A folder whose lists were read, so that they can be edited and written again."""

    def apply(self, kind: str, draw: random.Random) -> Damage:
        """Damage something that is whole so far."""
        ...

    def save(self) -> None:
        """Write the lists again."""
        ...


def check_damage_kinds(kinds: Sequence[str], *, layout: str) -> list[str]:
    """Return the kinds in their order in `DAMAGE_KINDS`, ``"all"`` spelled out.

    Raises:
        ValueError: For an unknown kind, or one that the layout does not have.
    """
    possible = [kind for kind in DAMAGE_KINDS if layout == "rrsisd" or kind not in _RRSISD_ONLY]
    if "all" in kinds:
        return possible
    unknown = [kind for kind in kinds if kind not in possible]
    if unknown:
        raise ValueError(f"damage: expected kinds of {[*possible, 'all']} for {layout}, got {unknown}")
    return [kind for kind in possible if kind in kinds]


def truncate_file(path: Path) -> str:
    """Cut a file to its first half; return what was done."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return f"cut from {len(content)} to {len(content) // 2} bytes"


def replace_by_web_page(path: Path) -> str:
    """Replace a file by what a file share sends where a download failed; return what was done."""
    path.write_bytes(b"<!DOCTYPE html><html><body>Quota exceeded</body></html>\n")
    return "replaced by a web page"


def take(pool: list[Any], *, kind: str, draw: random.Random, fits: Callable[[Any], bool] = lambda item: True) -> Any:
    """Remove a random item that fits from a pool of what is still whole, and return it.

    Raises:
        ValueError: If none is left.
    """
    indices = [index for index, item in enumerate(pool) if fits(item)]
    if not indices:
        raise ValueError(f"damage {kind!r}: no undamaged sample is left for it; write a larger demo or fewer kinds")
    return pool.pop(draw.choice(indices))


def write_damaged_demo(spec: DemoSpec, directory: Path, kinds: Sequence[str]) -> list[Damage]:
    """Write a demo and damage it, each kind on files of its own, drawn by the demo's seed.

    Returns:
        What was damaged, in the order of `DAMAGE_KINDS`.

    Raises:
        ValueError: For an unknown kind, or too few images for all kinds.
    """
    from .damage_phrases import PhraseFolder
    from .damage_rrsisd import RRSISDFolder

    kinds = check_damage_kinds(kinds, layout=spec.style)
    write_demo(spec, directory, progress=False)
    target: DamageableFolder = (
        RRSISDFolder(directory) if spec.style == "rrsisd" else PhraseFolder(directory, layout=spec.style)
    )
    done = [target.apply(kind, draw=random.Random(f"{spec.seed} {kind}")) for kind in kinds]
    target.save()
    return done
