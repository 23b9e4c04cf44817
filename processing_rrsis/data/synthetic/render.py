"""Draws SyntheticRS scenes: a picture and one mask per expression, antialiased by supersampling.

The ground is a random texture at the picture's size; roads, aprons, basins, shadows and objects are drawn on a finer
grid and averaged down. Masks use the very outlines of the objects: no shadow, apron or basin belongs to them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .draws import generator_of
from .layout import SceneLayout
from .painter import Colour, Painter, draw_object
from .sets import SURFACES
from .shapes import outlines_of, to_frame

GROUND_VALUES: dict[str, tuple[Colour, Colour]] = {
    "grass": ((58, 82, 40), (112, 132, 74)),
    "dry": ((92, 80, 56), (150, 132, 98)),
    "field": ((78, 92, 76), (126, 138, 118)),
    "sand": ((132, 118, 90), (178, 162, 128)),
}
"""Dark and light end of each ground palette."""
SHADOW_VALUE: NDArray[np.float32] = np.array((16, 20, 22), dtype=np.float32)
SHADOW_ALPHA = 105
SHADOW_LENGTHS: dict[str, float] = {
    "building": 0.03,
    "storage tank": 0.026,
    "tree": 0.024,
    "truck": 0.014,
    "trailer": 0.014,
    "bus": 0.014,
    "airplane": 0.014,
    "van": 0.012,
    "vehicle": 0.01,
    "car": 0.009,
    "ship": 0.008,
}
"""How far shadows reach, share of the frame; 0.004 for what lies flat."""
GRAIN = 5.0


def supersampling_of(image_size_px: int) -> int:
    """Return how many fine pixels per pixel side are drawn: more for small pictures."""
    if image_size_px <= 160:
        return 4
    return 3 if image_size_px <= 256 else 2


def _ground(layout: SceneLayout, image_size_px: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return the ground (H, W, 3), float32, 0 to 255: smooth patches of three scales between two colours."""
    field = np.zeros((image_size_px, image_size_px), dtype=np.float32)
    for cells, weight in ((4, 0.5), (10, 0.3), (28, 0.2)):
        noise = generator.random((cells, cells), dtype=np.float32)
        patch = Image.fromarray(noise).resize((image_size_px, image_size_px), Image.Resampling.BICUBIC)
        field += weight * np.asarray(patch)
    field = np.clip((field - 0.5) * 1.9 + 0.5, 0.0, 1.0)[..., None]
    dark, light = (np.asarray(value, dtype=np.float32) for value in GROUND_VALUES[layout.ground])
    return dark + (light - dark) * field


def _shadows(layout: SceneLayout, image_size_px: int, factor: int) -> NDArray[np.float32]:
    """Return how dark the shadows on ground and surfaces are, (H, W, 1) float32, 0 to 1; objects lie above them."""
    fine_size_px = image_size_px * factor
    shadow = Image.new("L", (fine_size_px, fine_size_px), color=0)
    draw = ImageDraw.Draw(shadow)
    scale = float(fine_size_px)
    sun = math.radians(layout.sun_deg)
    standing = [item for item in layout.objects if item.category not in SURFACES]
    for item in standing:
        height = SHADOW_LENGTHS.get(item.category, 0.004)
        for part in (0.5, 1.0):
            shift = (height * part * math.cos(sun), height * part * math.sin(sun))
            for outline in outlines_of(item):
                draw.polygon(to_frame(outline, item=item, scale=scale, shift=shift), fill=SHADOW_ALPHA)
    for item in standing:
        for outline in outlines_of(item):
            draw.polygon(to_frame(outline, item=item, scale=scale), fill=0)
    return np.asarray(shadow.reduce(factor), dtype=np.float32)[..., None] / 255.0


def render_image(layout: SceneLayout, image_size_px: int) -> NDArray[np.uint8]:
    """Draw a scene.

    Args:
        layout: The scene.
        image_size_px: Side of the square picture in pixels.

    Returns:
        (H, W, 3) uint8 RGB; equal arguments give equal bytes.
    """
    generator = generator_of(*layout.texture_key)
    ground = _ground(layout, image_size_px=image_size_px, generator=generator)
    brightness = generator.uniform(0.93, 1.05, size=len(layout.objects)).tolist()
    picture = paint_layout(layout, ground=ground, brightness=brightness)
    grain = generator.standard_normal((image_size_px, image_size_px, 1), dtype=np.float32)
    return np.clip(picture + GRAIN * grain, 0.0, 255.0).astype(np.uint8)


def paint_layout(layout: SceneLayout, ground: NDArray[np.float32], brightness: Sequence[float]) -> NDArray[np.float32]:
    """Draw roads, objects and shadows on a ground.

    Args:
        layout: The scene; what reaches over the frame is cut off there.
        ground: (H, H, 3) float32, 0 to 255.
        brightness: A factor for each object's colour.

    Returns:
        (H, H, 3) float32, 0 to 255, without grain.
    """
    image_size_px = len(ground)
    factor = supersampling_of(image_size_px)
    fine_size_px = image_size_px * factor
    canvas = Image.fromarray(ground.astype(np.uint8)).resize((fine_size_px, fine_size_px), Image.Resampling.NEAREST)
    painter = Painter(canvas, fine_size_px=fine_size_px, pixel=float(factor))
    lit = list(zip(layout.objects, brightness, strict=True))
    for road in layout.roads:
        painter.road(road)
    for item, light in lit:
        if item.category in SURFACES:
            draw_object(painter, item=item, brightness=light)
        painter.surround(item)
    for item, light in lit:
        if item.category not in SURFACES:
            draw_object(painter, item=item, brightness=light)
    picture = np.asarray(canvas.reduce(factor), dtype=np.float32)
    picture += (SHADOW_VALUE - picture) * _shadows(layout, image_size_px=image_size_px, factor=factor)
    return picture


def render_mask(layout: SceneLayout, answers: Collection[int], image_size_px: int) -> NDArray[np.uint8]:
    """Draw the mask of some objects of a scene: their visible pixels.

    Args:
        layout: The scene.
        answers: Indices of the objects that the mask covers; none for an empty mask.
        image_size_px: Side of the square mask in pixels.

    Returns:
        (H, W) uint8, 255 where the objects cover at least half of the pixel, else 0. What stands on a surface is no
        part of it.
    """
    factor = supersampling_of(image_size_px)
    fine_size_px = image_size_px * factor
    fine = Image.new("L", (fine_size_px, fine_size_px), color=0)
    draw = ImageDraw.Draw(fine)
    covered = any(layout.objects[index].category in SURFACES for index in answers)
    for index, item in enumerate(layout.objects):
        if index in answers or covered:
            for outline in outlines_of(item):
                corners = to_frame(outline, item=item, scale=float(fine_size_px))
                draw.polygon(corners, fill=255 if index in answers else 0)
    return np.where(np.asarray(fine.reduce(factor)) >= 128, 255, 0).astype(np.uint8)
