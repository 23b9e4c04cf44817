"""Paints masks into pictures."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageChops, ImageFilter

Colour = tuple[int, int, int]

OVERLAY_COLOURS: tuple[Colour, ...] = (
    (255, 40, 40),
    (0, 160, 255),
    (255, 190, 0),
    (190, 70, 255),
    (0, 200, 120),
    (255, 110, 190),
)
"""The first mask's colour, the second's, ...; then again."""
OVERLAY_OPACITY = 0.45


def paint_overlay(picture: Image.Image, masks: Image.Image | Sequence[Image.Image]) -> Image.Image:
    """Return the picture with each mask in a translucent colour, its outline in the full colour.

    Args:
        picture: RGB.
        masks: "L", 0 and 255, of the same size; a later one is painted over an earlier one.
    """
    painted = picture
    for index, mask in enumerate([masks] if isinstance(masks, Image.Image) else masks):
        colour = Image.new("RGB", picture.size, OVERLAY_COLOURS[index % len(OVERLAY_COLOURS)])
        shade = mask.point(lambda value: round(value * OVERLAY_OPACITY))
        outline = ImageChops.subtract(mask.filter(ImageFilter.MaxFilter(3)), mask.filter(ImageFilter.MinFilter(3)))
        painted = Image.composite(colour, painted, ImageChops.lighter(shade, outline))
    return painted
