"""The marker in a folder that our writers wrote: what it holds in place of published counts."""

from __future__ import annotations

from dataclasses import dataclass

from ...bounds_rrsis import parse_json
from .archives import Archive
from .rows import SPLITS

MARKER_FILE = "demo.json"
"""Says that a folder was written here and not downloaded: layout, counts per split, categories, damage."""


@dataclass(frozen=True, slots=True)
class Marker:
    """What ``demo.json`` says about a folder that our writers wrote.

    Attributes:
        layout: ``"rrsisd"``, ``"refsegrs"`` or ``"risbench"``.
        counts: References of each split.
        categories: Category names in the files.
        image_size_px: Side of the images where it is known.
    """

    layout: str
    counts: dict[str, int]
    categories: tuple[str, ...]
    image_size_px: int | None


def read_marker(archive: Archive) -> Marker | None:
    """Read ``demo.json``, or return None where there is none: the data were not written by our writers.

    Raises:
        ValueError: If it is damaged.
    """
    if not archive.exists(MARKER_FILE):
        return None
    try:
        content = parse_json(archive.read(MARKER_FILE), source=MARKER_FILE)
        size = content["origin"].get("image_size_px")
        return Marker(
            layout=str(content["layout"]),
            counts={split: int(content["counts"][split]) for split in SPLITS},
            categories=tuple(str(name) for name in content["categories"]),
            image_size_px=None if size is None else int(size),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"{archive.location(MARKER_FILE)}: expected what `rrsis write-demo` wrote, got something else "
            f"({type(error).__name__}: {error}); write the demo again, or delete this file if the data are no demo"
        ) from error
