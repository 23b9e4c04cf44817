"""SyntheticRS on disk, in the layouts that RRSIS-D, RefSegRS and RISBench are published in."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ...expression_rrsis import CATEGORY_SETS
from ..facts import DOWNLOADS, FACTS
from ..files.rows import SPLITS, encode_png
from ..synthetic.builder import MAX_IMAGE_SIZE_PX, MIN_IMAGE_SIZE_PX
from ..synthetic.render import render_image, render_mask
from ..synthetic.splits import make_split_scene
from .folder import WrittenBenchmark, encode_image, fresh_directory, write_marker
from .phrases import IMAGE_FORMATS
from .writers import LAYOUTS, write_files

NOMINAL_SIZES_PX: dict[str, int] = {name: FACTS[name].side_px or 512 for name in DOWNLOADS}
"""Side of the images: as published for the first two, our choice for RISBench."""
NOMINAL_EXPRESSIONS: dict[str, int] = {"rrsisd": 1, "refsegrs": 4, "risbench": 1}
"""Expressions about each image: RRSIS-D has one, RefSegRS fifteen on average, SyntheticRS at most six."""
MAX_EXPRESSIONS_PER_IMAGE = 6
_FORMATS = {"rrsisd": "JPEG", **{name: image_format for name, (image_format, _) in IMAGE_FORMATS.items()}}

Mapper = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""`map`, or the `imap` of a pool: results come in order."""


@dataclass(frozen=True)
class DemoSpec:
    """What a demo is made from.

    Attributes:
        style: ``"rrsisd"``, ``"refsegrs"`` or ``"risbench"``: the layout, and the preset of SyntheticRS (RRSIS-D's
            for ``"risbench"``).
        counts: References of ``train``, ``validation`` and ``test``.
        image_size_px: Side of the square images; the nominal size of the style by default.
        seed: Seed of SyntheticRS.
        expressions_per_image: Expressions about each image, 1 to 6; that of `NOMINAL_EXPRESSIONS` by default.
    """

    style: str
    counts: dict[str, int] = field(default_factory=lambda: {"train": 60, "validation": 20, "test": 20})
    image_size_px: int | None = None
    seed: int = 0
    expressions_per_image: int | None = None

    def __post_init__(self) -> None:
        if self.style not in LAYOUTS:
            raise ValueError(f"style: expected one of {list(LAYOUTS)}, got {self.style!r}")
        if set(self.counts) != set(SPLITS) or any(count < 1 for count in self.counts.values()):
            raise ValueError(
                f"counts: expected at least 1 reference for each of {list(SPLITS)}, got {self.counts}; the "
                "published layouts have all three"
            )
        if not MIN_IMAGE_SIZE_PX <= self.size_px <= MAX_IMAGE_SIZE_PX:
            raise ValueError(
                f"image_size_px: expected {MIN_IMAGE_SIZE_PX} to {MAX_IMAGE_SIZE_PX}, got {self.image_size_px}"
            )
        if not 1 <= self.expressions <= MAX_EXPRESSIONS_PER_IMAGE:
            raise ValueError(
                f"expressions_per_image: expected 1 to {MAX_EXPRESSIONS_PER_IMAGE}, got {self.expressions_per_image}"
            )

    @property
    def size_px(self) -> int:
        """Side of the images in pixels."""
        return NOMINAL_SIZES_PX[self.style] if self.image_size_px is None else self.image_size_px

    @property
    def expressions(self) -> int:
        """Expressions about each image."""
        count = self.expressions_per_image
        return NOMINAL_EXPRESSIONS[self.style] if count is None else count

    @property
    def preset(self) -> str:
        """Configuration of SyntheticRS whose scenes are drawn."""
        return "refsegrs" if self.style == "refsegrs" else "rrsisd"


def write_demo(
    spec: DemoSpec,
    directory: str | Path,
    *,
    overwrite: bool = False,
    num_proc: int = 1,
    progress: bool = True,
) -> WrittenBenchmark:
    """Write SyntheticRS as a published benchmark lies on disk, with a ``demo.json`` that says so.

    The rows are those of ``SyntheticRS(config_name=spec.preset, seed=..., expressions_per_scene=...)``: masks equal
    to the last pixel, images equal but for JPEG. RRSIS-D has no category "building": in its style the rows about one
    are skipped, so that a demo has the published categories and no other; buildings stay in the pictures, and in
    expressions that name them as a landmark ("the ship above the red building").

    Args:
        spec: Style, counts, size, seed.
        directory: New or empty folder; see `fresh_directory`.
        overwrite: Whether to replace a folder that was written here before.
        num_proc: Processes that draw; the files do not depend on it.
        progress: Whether to show a bar, in a terminal only.

    Returns:
        What was written.

    Raises:
        FileExistsError: See `fresh_directory`.
        ValueError: For less than one process.
    """
    if num_proc < 1:
        raise ValueError(f"num_proc: expected at least 1, got {num_proc}")
    with fresh_directory(directory, overwrite=overwrite) as folder, _mapper(num_proc) as mapper:
        rows = {split: demo_rows(spec, split, mapper=mapper) for split in SPLITS}
        written = write_files(spec.style, rows, folder=folder, progress=progress, total=sum(spec.counts.values()))
        origin = {
            "generator": "SyntheticRS",
            "preset": spec.preset,
            "seed": spec.seed,
            "image_size_px": spec.size_px,
            "expressions_per_image": spec.expressions,
        }
        write_marker(folder, written, **origin)
    return replace(written, directory=Path(directory))


@contextmanager
def _mapper(num_proc: int) -> Iterator[Mapper]:
    """Yield what maps a function over items, in this process or in several."""
    if num_proc == 1:
        yield map
        return
    with multiprocessing.Pool(num_proc) as pool:
        yield pool.imap


def demo_rows(spec: DemoSpec, split: str, *, mapper: Mapper = map) -> Iterator[dict[str, Any]]:
    """Draw the rows of a split, images already in the format of the files.

    Args:
        spec: What to draw.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        mapper: `map`, or something like it that works in several processes and keeps the order.

    Yields:
        ``image`` and ``mask`` (the bytes of an image file), ``expression``, ``category``, ``image_id``,
        ``sample_id``, ``kind``.
    """
    draw = partial(_scene_rows, spec, split)
    missing, scenes = spec.counts[split], range(0)
    while missing:  # again for what was skipped
        scenes = range(scenes.stop, scenes.stop - (-missing // spec.expressions))
        for row in itertools.islice(itertools.chain.from_iterable(mapper(draw, scenes)), missing):
            missing -= 1
            yield row


def _scene_rows(spec: DemoSpec, split: str, scene_index: int) -> list[dict[str, Any]]:
    """Draw one scene, if the style has the category of any of its references."""
    scene = make_split_scene(spec.preset, seed=spec.seed, split=split, scene_index=scene_index, count=spec.expressions)
    references = [
        (number, reference)
        for number, reference in enumerate(scene.references)
        if spec.style != "rrsisd" or reference.category in CATEGORY_SETS["rrsisd"]
    ]
    if not references:
        return []
    image = encode_image(render_image(scene.layout, image_size_px=spec.size_px), image_format=_FORMATS[spec.style])
    image_id = f"{split}_{scene_index:06d}"
    return [
        {
            "image": image,
            "mask": encode_png(render_mask(scene.layout, answers=reference.answers, image_size_px=spec.size_px)),
            "expression": reference.expression,
            "category": reference.category,
            "image_id": image_id,
            "sample_id": f"{image_id}_{number}",
            "kind": reference.kind,
        }
        for number, reference in references
    ]
