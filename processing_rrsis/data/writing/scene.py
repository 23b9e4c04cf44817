"""A SyntheticRS scene of any size as a georeferenced raster, with every object's pixels and questions about it.

Drawn block by block in the painter's hand: objects lie anywhere, over the blocks' borders too, and the ground runs
through. Needs rasterio.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from rasterio.windows import Window

from ..files.marker import MARKER_FILE
from ..synthetic.draws import Draws, generator_of
from ..synthetic.layout import (
    CATEGORY_SHAPES,
    FRAME_MARGIN,
    SIZE_JITTER,
    Box,
    SceneLayout,
    SceneObject,
    boxes_overlap,
    footprint_of,
    reach_in_frame,
)
from ..synthetic.render import GRAIN, GROUND_VALUES, paint_layout, render_mask
from ..synthetic.vocabulary import CATEGORIES, CATEGORY_COLOURS, HELD_OUT_COLOURS, SIZES
from .folder import fresh_directory
from .scene_queries import Axes, SceneQuery, scene_queries

IMAGE_FILE, OBJECTS_FILE = "scene.tif", "objects.tif"
PLACING_TRIES = 40
COMPANIONS = 2
"""Objects that are put next to each landmark."""
COMPANION_DISTANCES = (1.1, 1.3)
"""Of their middles, in mean lengths."""
_SCENE_STREAM, _TEXTURE_STREAM = 0, 1
_TEXTURE_CELLS = ((4, 0.5), (10, 0.3), (28, 0.2))


@dataclass(frozen=True)
class SceneSpec:
    """What a scene is drawn from.

    Attributes:
        size_px: Width and height.
        block_px: Side of the frame for which SyntheticRS's sizes are meant: objects are as large in the scene as in
            one of its pictures of that side.
        objects_per_block: On average.
        queries: Questions about it.
        resolution_m: Ground resolution.
        crs: Any that rasterio reads.
        west_m: Of the upper left corner.
        north_m: Of the upper left corner.
        turned_deg: By which the raster is turned clockwise against its grid.
        seed: Of everything random.
    """

    size_px: int = 4096
    block_px: int = 480
    objects_per_block: float = 2.5
    queries: int = 200
    resolution_m: float = 0.3
    crs: str = "EPSG:32633"
    west_m: float = 500_000.0
    north_m: float = 5_000_000.0
    turned_deg: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size_px < self.block_px or self.block_px < 32:
            raise ValueError(
                f"size_px, block_px: expected a scene of at least one block and blocks of at least 32 px, got "
                f"{self.size_px} and {self.block_px}"
            )

    @property
    def transform(self) -> Affine:
        """From (column, row) to the CRS."""
        corner = Affine.translation(self.west_m, self.north_m)
        return corner @ Affine.rotation(-self.turned_deg) @ Affine.scale(self.resolution_m, -self.resolution_m)

    @property
    def axes(self) -> Axes:
        """Where grid east and north are in the image, y down."""
        cosine, sine = math.cos(math.radians(self.turned_deg)), math.sin(math.radians(self.turned_deg))
        return (cosine, -sine), (-sine, -cosine)

    @property
    def blocks(self) -> int:
        """Blocks along a side, the last one cut."""
        return -(-self.size_px // self.block_px)


@dataclass(frozen=True)
class WrittenScene:
    """A scene on the disk.

    Attributes:
        directory: Its folder: `scene.tif`, `objects.tif` (number of the object from 1, 0 none), `demo.json`.
        objects: In shares of the scene's side.
        queries: Questions and the indices of their answers.
    """

    directory: Path
    objects: tuple[SceneObject, ...]
    queries: tuple[tuple[SceneQuery, tuple[int, ...]], ...]


def write_scene(directory: str | Path, spec: SceneSpec, *, overwrite: bool = False) -> WrittenScene:
    """Draw and write a scene; memory does not grow with its height.

    Args:
        directory: New or empty folder; see `fresh_directory`.
        spec: What is drawn.
        overwrite: Whether to replace a folder that was written here before.

    Raises:
        FileExistsError: See `fresh_directory`.
        ValueError: For a scene that is smaller than a block.
    """
    objects, landmarks = place_objects(spec)
    shares = [scaled(item, 1 / (spec.size_px / spec.block_px)) for item in objects]
    found = scene_queries(shares, landmarks, spec.queries, Draws(spec.seed, _SCENE_STREAM, 1), axes=spec.axes)
    with fresh_directory(directory, overwrite=overwrite) as folder:
        _draw(folder, spec, objects)
        values = {
            "layout": "scene",
            "spec": asdict(spec),
            "objects": [asdict(item) for item in shares],
            "queries": [
                {"expression": query.expression, "kind": query.kind, "plural": query.plural, "answers": answers}
                for query, answers in found
            ],
        }
        (folder / MARKER_FILE).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return WrittenScene(
        directory=Path(directory),
        objects=tuple(shares),
        queries=tuple((query, tuple(answers)) for query, answers in found),
    )


def place_objects(spec: SceneSpec) -> tuple[list[SceneObject], list[tuple[str, str]]]:
    """Choose and place the objects of a scene.

    Returns:
        The objects, in units of blocks, and the landmarks: pairs of category and colour that one object alone has.
    """
    draws = Draws(spec.seed, _SCENE_STREAM)
    landmarks = []
    for category in CATEGORIES:
        plain = [colour for colour in CATEGORY_COLOURS[category] if (category, colour) not in HELD_OUT_COLOURS]
        landmarks.append((category, draws.pick(plain)))
    placer = _Placer(spec.size_px / spec.block_px, draws)
    for category, colour in landmarks:
        landmark = placer.place(category, colour, draws.pick(SIZES))
        for _ in range(COMPANIONS if landmark is not None else 0):
            placer.place(*_kind(landmarks, draws), near=landmark)
    for _ in range(round(spec.objects_per_block * placer.side**2) - len(placer.objects)):
        placer.place(*_kind(landmarks, draws))
    there = {(item.category, item.colour) for item in placer.objects}
    return placer.objects, [landmark for landmark in landmarks if landmark in there]


def _kind(landmarks: Sequence[tuple[str, str]], draws: Draws) -> tuple[str, str, str]:
    """Category, colour and size of an object that is no landmark."""
    category = draws.pick(CATEGORIES)
    colours = [colour for colour in CATEGORY_COLOURS[category] if (category, colour) not in landmarks]
    return category, draws.pick(colours), draws.pick(SIZES)


class _Placer:
    """Puts objects where no other is; units are blocks."""

    def __init__(self, side: float, draws: Draws) -> None:
        self.side = side
        self.draws = draws
        self.objects: list[SceneObject] = []
        self._boxes: dict[tuple[int, int], list[Box]] = {}

    def place(self, category: str, colour: str, size: str, near: SceneObject | None = None) -> SceneObject | None:
        """Place one object; None where no room was found."""
        shape, uniform = CATEGORY_SHAPES[category], self.draws.uniform
        base = shape.large_length if size == "large" else shape.small_length
        for _ in range(PLACING_TRIES):
            length = base * uniform(1 - SIZE_JITTER, 1 + SIZE_JITTER)
            angle_deg = uniform(0.0, 360.0)
            reach_x, reach_y = (
                value + FRAME_MARGIN for value in reach_in_frame(angle_deg, length, length * shape.aspect)
            )
            if near is None:
                x, y = uniform(reach_x, self.side - reach_x), uniform(reach_y, self.side - reach_y)
            else:
                distance, way = uniform(*COMPANION_DISTANCES) * (length + near.length) / 2, uniform(0.0, 2 * math.pi)
                x, y = near.center_x + distance * math.cos(way), near.center_y + distance * math.sin(way)
            if not (reach_x <= x <= self.side - reach_x and reach_y <= y <= self.side - reach_y):
                continue
            item = SceneObject(category, colour, size, x, y, angle_deg, length, length * shape.aspect)
            if self._add(item):
                return item
        return None

    def _add(self, item: SceneObject) -> bool:
        box, column, row = footprint_of(item), int(item.center_x), int(item.center_y)
        near = [(column + right, row + down) for right in (-1, 0, 1) for down in (-1, 0, 1)]
        if any(boxes_overlap(box, other) for cell in near for other in self._boxes.get(cell, ())):
            return False
        self._boxes.setdefault((column, row), []).append(box)
        self.objects.append(item)
        return True


def scaled(item: SceneObject, factor: float, left: float = 0.0, top: float = 0.0) -> SceneObject:
    """An object in a frame that begins at (left, top) and is 1 / factor as wide as a unit."""
    return replace(
        item,
        center_x=(item.center_x - left) * factor,
        center_y=(item.center_y - top) * factor,
        length=item.length * factor,
        width=item.width * factor,
    )


def _draw(folder: Path, spec: SceneSpec, objects: Sequence[SceneObject]) -> None:
    """Draw picture and objects' numbers, block by block."""
    generator = generator_of(spec.seed, _TEXTURE_STREAM)
    brightness = generator.uniform(0.93, 1.05, size=len(objects))
    ground = _Ground(spec, generator)
    profile: dict[str, Any] = {
        "driver": "GTiff", "width": spec.size_px, "height": spec.size_px, "crs": spec.crs,
        "transform": spec.transform, "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate",
        "bigtiff": "if_safer",
    }  # fmt: skip
    with (
        rasterio.open(folder / IMAGE_FILE, "w", count=3, dtype="uint8", photometric="RGB", **profile) as image,
        rasterio.open(folder / OBJECTS_FILE, "w", count=1, dtype="uint16", **profile) as numbers,
    ):
        for window, column, row in _windows(spec):
            inside = [
                number
                for number, item in enumerate(objects)
                if abs(item.center_x - column - 0.5) < 1 and abs(item.center_y - row - 0.5) < 1
            ]
            layout = SceneLayout(
                objects=tuple(scaled(objects[number], 1.0, left=column, top=row) for number in inside),
                roads=(),
                ground=ground.name,
                sun_deg=45.0,
                texture_key=(),
            )
            picture = paint_layout(layout, ground.block(column, row), brightness=brightness[inside].tolist())
            grain = generator_of(spec.seed, _TEXTURE_STREAM, column, row).standard_normal((*picture.shape[:2], 1))
            pixels = np.clip(picture + GRAIN * grain, 0.0, 255.0).astype(np.uint8)
            image.write(pixels[: window.height, : window.width].transpose(2, 0, 1), window=window)
            labels = np.zeros(picture.shape[:2], dtype=np.uint16)
            for place, number in enumerate(inside):
                labels[render_mask(layout, [place], spec.block_px) > 0] = number + 1
            numbers.write(labels[: window.height, : window.width], 1, window=window)


def _windows(spec: SceneSpec) -> Iterator[tuple[Window, int, int]]:
    for row in range(spec.blocks):
        for column in range(spec.blocks):
            left, top = column * spec.block_px, row * spec.block_px
            width, height = (min(spec.block_px, spec.size_px - start) for start in (left, top))
            yield Window(left, top, width, height), column, row


class _Ground:
    """A texture that runs through all blocks: smooth patches of three scales, noise of one value a cell."""

    def __init__(self, spec: SceneSpec, generator: np.random.Generator) -> None:
        self.name = list(GROUND_VALUES)[int(generator.integers(len(GROUND_VALUES)))]
        self._size_px = spec.block_px
        self._noise = [
            (cells, weight, generator.random((spec.blocks * cells + 4, spec.blocks * cells + 4), dtype=np.float32))
            for cells, weight in _TEXTURE_CELLS
        ]

    def block(self, column: int, row: int) -> NDArray[np.float32]:
        """The ground of a block, (H, H, 3) float32, 0 to 255."""
        field = np.zeros((self._size_px, self._size_px), dtype=np.float32)
        for cells, weight, noise in self._noise:
            part = noise[row * cells : (row + 1) * cells + 4, column * cells : (column + 1) * cells + 4]
            box = (2, 2, cells + 2, cells + 2)  # the cells around a block decide its border
            side = (self._size_px, self._size_px)
            field += weight * np.asarray(Image.fromarray(part).resize(side, Image.Resampling.BICUBIC, box=box))
        field = np.clip((field - 0.5) * 1.9 + 0.5, 0.0, 1.0)[..., None]
        dark, light = (np.asarray(value, dtype=np.float32) for value in GROUND_VALUES[self.name])
        return dark + (light - dark) * field
