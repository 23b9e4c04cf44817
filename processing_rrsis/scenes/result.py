"""What comes out of a scene."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SceneObject:
    """One connected piece of a mask.

    Attributes:
        geometry: Polygon along the pixels' edges, in the scene's CRS.
        outline_px: The same in pixels: x columns, y rows, from the raster's first pixel's corner.
        score: Mean probability inside, in [0, 1].
        area_m2: On the ellipsoid; None for a scene without a place on Earth.
        touches_edge: Whether it touches the frame or pixels that are not valid: it may go on there.
    """

    geometry: Any
    outline_px: Any
    score: float
    area_m2: float | None
    touches_edge: bool


@dataclass(frozen=True)
class ExpressionResult:
    """What was found of one expression.

    Attributes:
        expression: As it was given.
        objects: What it refers to.
        frame: `"tile"`, `"scene"` or `"hybrid"`: where its words were resolved.
        reason: Why in that frame.
        band: Of the mask raster, from 1.
    """

    expression: str
    objects: tuple[SceneObject, ...]
    frame: str
    reason: str
    band: int

    @property
    def found(self) -> bool:
        """Whether there is anything."""
        return bool(self.objects)

    @property
    def area_m2(self) -> float | None:
        """Of all objects together; None for a scene without a place on Earth."""
        areas = [item.area_m2 for item in self.objects]
        return None if any(area is None for area in areas) else float(sum(area for area in areas if area is not None))


@dataclass(frozen=True)
class SceneResult:
    """What was found in a scene: a sequence with one [`ExpressionResult`] per expression.

    Attributes:
        source: Path or address.
        results: In the expressions' order.
        paths: Files that were written, by the argument that named them: `output`, `vector`, `probability`, `preview`,
            and `receipt`.
        warnings: What the caller should know.
        seconds: That the run took.
    """

    source: str
    results: tuple[ExpressionResult, ...]
    paths: dict[str, Path] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0

    def __iter__(self) -> Iterator[ExpressionResult]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, number: int) -> ExpressionResult:
        return self.results[number]

    @property
    def found(self) -> bool:
        """Whether anything was found of any expression."""
        return any(result.found for result in self.results)
