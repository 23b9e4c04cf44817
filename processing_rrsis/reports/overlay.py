"""Paints masks into pictures."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

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
_ROW_PX, _TEXT_PX = 26, 16


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


def add_legend(picture: Image.Image, texts: Sequence[str]) -> Image.Image:
    """Return the picture with a strip below it: the colour of each mask, and what was asked.

    Args:
        picture: RGB, as `paint_overlay` returns it.
        texts: The masks' texts, in their order.
    """
    font = ImageFont.load_default(size=_TEXT_PX)
    width = max(picture.width, *(2 * _ROW_PX + round(font.getlength(text)) for text in texts))
    sheet = Image.new("RGB", (width, picture.height + _ROW_PX * len(texts) + 6), (255, 255, 255))
    sheet.paste(picture)
    draw = ImageDraw.Draw(sheet)
    for index, text in enumerate(texts):
        top = picture.height + 3 + _ROW_PX * index
        draw.rectangle((6, top + 5, 22, top + 21), fill=OVERLAY_COLOURS[index % len(OVERLAY_COLOURS)])
        draw.text((_ROW_PX + 4, top + _ROW_PX // 2), text, fill=(25, 28, 33), font=font, anchor="lm")
    return sheet
