"""The contact sheet: image, prediction and truth of chosen samples, failures included, in one picture.

Which samples are shown is decided by rule (`select_for_sheet`), never by hand: a quarter are the worst ones.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..image_loading_rrsis import to_rgb8
from ..metrics.referring_iou import intersection_and_union

FAILURE_BELOW_IOU = 0.5
PREDICTION_COLOUR = (255, 0, 200)
TRUTH_COLOUR = (0, 225, 255)
_INK, _PAPER, _GOOD, _BAD = (25, 28, 33), (255, 255, 255), (0, 128, 64), (200, 30, 40)
_GAP_PX, _MARGIN_PX, _HEAD_PX = 8, 24, 54


@dataclass(frozen=True)
class SheetSample:
    """One sample of the sheet.

    Args:
        image: The picture, RGB.
        expression: What the model was asked.
        kind: Kind of the expression; `""` where there is none.
        prediction: Predicted mask, bool (h, w), any size: it is scaled to the picture.
        reference: True mask, bool (h, w), any size.
        iou: IoU of the two at the model's input size, in [0, 1].
    """

    image: Image.Image
    expression: str
    kind: str
    prediction: np.ndarray
    reference: np.ndarray
    iou: float

    @property
    def is_failure(self) -> bool:
        """Whether the IoU is below one half."""
        return self.iou < FAILURE_BELOW_IOU


def select_for_sheet(
    ious: Sequence[float], kinds: Sequence[str | None] | None, n: int, *, image_ids: Sequence[str] | None = None
) -> list[int]:
    """Chooses samples by rule: a quarter the best, a quarter the worst, the rest typical, every kind in its turn.

    Args:
        ious: IoU of every sample, in [0, 1].
        kinds: Kind of every sample's expression, or `None`.
        n: Samples to choose; with fewer samples all are taken.
        image_ids: Image of every sample: one that is not shown yet goes first among samples of one kind.

    Returns:
        Indices of the chosen samples, by falling IoU, so that failures come last.

    Raises:
        ValueError: If `n` is below 1, there are no samples or the numbers of items differ.
    """
    scores = np.asarray(ious, dtype=np.float64)
    if n < 1 or scores.size == 0:
        raise ValueError(f"Expected at least one sample to choose from and to choose, got {scores.size} and n={n}.")
    names = [""] * scores.size if kinds is None else [kind or "" for kind in kinds]
    images = list(map(str, range(scores.size))) if image_ids is None else list(image_ids)
    if not len(names) == len(images) == scores.size:
        raise ValueError(
            f"Expected one kind and one image per IoU ({scores.size}), got {len(names)} and {len(images)}."
        )
    medians = {name: np.median(scores[[other == name for other in names]]) for name in set(names)}
    distance = np.array([abs(score - medians[name]) for score, name in zip(scores, names, strict=True)])
    worst = max(1, n // 4) if n > 1 else 0
    best = n // 4
    chosen: list[int] = []
    for order, count in ((scores, worst), (-scores, best), (distance, n - worst - best)):
        _take_in_turn(chosen, np.argsort(order, kind="stable").tolist(), count, names=names, images=images)
    return sorted(chosen, key=lambda index: (-scores[index], index))


def _take_in_turn(chosen: list[int], ranked: list[int], count: int, *, names: list[str], images: list[str]) -> None:
    """Adds the first samples of a ranking, those whose kind and image were shown least often before the others."""
    shown_names = Counter(names[index] for index in chosen)
    shown_images = Counter(images[index] for index in chosen)
    for _ in range(min(count, len(ranked) - len(chosen))):
        taken = set(chosen)
        free = (index for index in ranked if index not in taken)
        chosen.append(min(free, key=lambda index: (shown_names[names[index]], shown_images[images[index]])))
        shown_names[names[chosen[-1]]] += 1
        shown_images[images[chosen[-1]]] += 1


@torch.no_grad()
def predict_samples(
    model: Callable[..., Any],
    dataset: Any,
    indices: Sequence[int],
    collator: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]],
    *,
    device: torch.device | str = "cpu",
    threshold: float = 0.5,
) -> list[SheetSample]:
    """Runs the model on chosen samples, one by one.

    Args:
        model: In evaluation mode; called with the collator's tensors, returns `.logits` (B, H, W).
        dataset: Rows with `image`, `mask`, `expression`, optionally `kind`.
        indices: Rows to run.
        collator: As in `evaluate_model`.
        device: Where the model is.
        threshold: Probability above which a pixel is predicted.

    Returns:
        One sample per index.
    """
    samples = []
    for index in indices:
        row = dataset[index]
        batch = collator([row])
        inputs = {name: value.to(device) for name, value in batch.items() if isinstance(value, Tensor)}
        labels = inputs.pop("labels")[0].cpu()
        inputs.pop("index", None)
        probability = model(**inputs).logits[0].float().sigmoid().cpu()
        prediction, reference = (probability > threshold) & (labels != 255), labels == 1
        intersection, union = intersection_and_union(prediction, reference)
        samples.append(
            SheetSample(
                image=to_rgb8(row["image"]),
                expression=row["expression"],
                kind=row.get("kind") or "",
                prediction=prediction.numpy(),
                reference=reference.numpy(),
                iou=intersection / union if union else 0.0,
            )
        )
    return samples


def contact_sheet(
    samples: Sequence[SheetSample], path: str | Path, *, title: str, columns: int = 2, tile_px: int = 224
) -> Path:
    """Draws the sheet as a PNG: per sample the image, the image with the prediction and the image with the truth.

    With the default two columns and tiles the picture is 1,424 px wide.

    Args:
        samples: What to show, in this order, row by row.
        path: File to write; its folder must exist.
        title: Line on top, for example the mIoU with the expressions and with shuffled ones.
        columns: Samples side by side.
        tile_px: Side of a tile; images are scaled to it, their aspect ratio is not kept.

    Returns:
        The path.

    Raises:
        ValueError: If there are no samples or a size is below its minimum.
    """
    if not samples:
        raise ValueError("Expected at least one sample for the contact sheet, got none.")
    if columns < 1 or tile_px < 64:
        raise ValueError(f"Expected at least 1 column and tiles of at least 64 px, got {columns} and {tile_px}.")
    columns = min(columns, len(samples))
    cell_width, cell_height = 3 * tile_px + 2 * _GAP_PX, tile_px + _HEAD_PX
    rows = -(-len(samples) // columns)
    title_font = _font(26, bold=True)
    width = 2 * _MARGIN_PX + columns * cell_width + (columns - 1) * _MARGIN_PX
    lines = _wrap(title, title_font, width - 2 * _MARGIN_PX)
    top = _MARGIN_PX + 34 * len(lines) + 34
    sheet = Image.new("RGB", (width, top + rows * (cell_height + _MARGIN_PX)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.multiline_text((_MARGIN_PX, _MARGIN_PX - 6), "\n".join(lines), fill=_INK, font=title_font, spacing=4)
    _draw_legend(draw, (_MARGIN_PX, top - 36))
    for position, sample in enumerate(samples):
        row, column = divmod(position, columns)
        corner = (_MARGIN_PX + column * (cell_width + _MARGIN_PX), top + row * (cell_height + _MARGIN_PX))
        _draw_sample(sheet, sample, corner=corner, tile_px=tile_px)
    path = Path(path)
    sheet.save(path, format="PNG", optimize=True)
    return path


def _draw_legend(draw: ImageDraw.ImageDraw, corner: tuple[int, int]) -> None:
    x, y = corner
    entries = ((None, "each: image,"), (PREDICTION_COLOUR, "prediction,"), (TRUTH_COLOUR, "truth"))
    for colour, text in entries:
        if colour is not None:
            draw.rectangle((x, y + 3, x + 16, y + 19), outline=_INK, fill=colour)
            x += 24
        draw.text((x, y), text, fill=_INK, font=_font(17))
        x += int(draw.textlength(text, font=_font(17))) + 14
    draw.text((x + 10, y), f"✗ failure: IoU below {FAILURE_BELOW_IOU}", fill=_BAD, font=_font(17))


def _draw_sample(sheet: Image.Image, sample: SheetSample, corner: tuple[int, int], tile_px: int) -> None:
    """Two caption lines, then the three tiles; a failure has a red frame and cross."""
    draw, (x, y) = ImageDraw.Draw(sheet), corner
    colour, mark = (_BAD, "✗") if sample.is_failure else (_GOOD, "✓")
    width = 3 * tile_px + 2 * _GAP_PX
    score = f"{mark} IoU {sample.iou:.2f}"
    score_width = int(draw.textlength(score, font=_font(19, bold=True)))
    draw.text((x + width - score_width, y), score, fill=colour, font=_font(19, bold=True))
    expression = f"“{sample.expression}”"
    font = next(
        (_font(size) for size in (19, 17, 15) if _fits(expression, _font(size), width - score_width - 16)), _font(13)
    )
    draw.text((x, y), _shorten(expression, font, width - score_width - 16), fill=_INK, font=font)
    if sample.kind:
        draw.text((x, y + 26), sample.kind, fill=(95, 100, 110), font=_font(15))
    picture = sample.image.convert("RGB").resize((tile_px, tile_px), resample=Image.Resampling.BICUBIC)
    tiles = (
        picture,
        _overlay(picture, sample.prediction, PREDICTION_COLOUR),
        _overlay(picture, sample.reference, TRUTH_COLOUR),
    )
    for number, tile in enumerate(tiles):
        left, upper = x + number * (tile_px + _GAP_PX), y + _HEAD_PX - 4
        sheet.paste(tile, (left, upper))
        if number == 1:
            frame = (left - 3, upper - 3, left + tile_px + 2, upper + tile_px + 2)
            draw.rectangle(frame, outline=colour, width=4)


def _overlay(picture: Image.Image, mask: np.ndarray, colour: tuple[int, int, int]) -> Image.Image:
    """The picture, darkened outside the mask, with the mask tinted and outlined."""
    scaled = Image.fromarray(np.asarray(mask, dtype=np.uint8) * 255).resize(
        picture.size, resample=Image.Resampling.NEAREST
    )
    inside = np.asarray(scaled) > 127
    grown = np.zeros_like(inside)
    for shift in (-2, 2):
        grown |= np.roll(inside, shift, axis=0) | np.roll(inside, shift, axis=1)
    pixels = np.asarray(picture, dtype=np.float32)
    tinted = np.where(inside[..., None], 0.6 * pixels + 0.4 * np.array(colour, dtype=np.float32), 0.6 * pixels)
    tinted[grown & ~inside] = colour
    return Image.fromarray(tinted.round().astype(np.uint8))


def _font(size_px: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: the same letters, ✓ and ✗ on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size=size_px)


def _fits(text: str, font: ImageFont.FreeTypeFont, width_px: int) -> bool:
    return font.getlength(text) <= width_px


def _shorten(text: str, font: ImageFont.FreeTypeFont, width_px: int) -> str:
    if _fits(text, font, width_px):
        return text
    while text and not _fits(text + "…", font, width_px):
        text = text[:-1]
    return text + "…"


def _wrap(text: str, font: ImageFont.FreeTypeFont, width_px: int) -> list[str]:
    characters = max(10, int(len(text) * width_px / max(font.getlength(text), 1)) - 1)
    return textwrap.wrap(text, width=characters) or [""]
