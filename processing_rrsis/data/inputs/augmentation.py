"""Training augmentation that never breaks the expression: mirrored images with mirrored words, and black boxes.

Off by default. What happens to a sample depends on the seed, the epoch and the sample alone: not on the order of the
samples, the batch size, the number of data loader workers or of processes, nor on any global random state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ...image_labels_rrsis import to_label_map
from ...image_loading_rrsis import load_image, load_values, to_rgb8
from .mirrored_words import mirror_expression

AUGMENTATIONS: tuple[str, ...] = ("flip", "vflip", "boxes")
"""What `Augmentation.from_name` joins with "+"."""
FLIP_PROBABILITY = 0.5
BOXES_SHARE = 0.2
BOXES_COUNT = (20, 60)
BOX_SIZE_PX = 32
BOX_REFERENCE_PX = 800
"""Side of the images (RRSIS-D) that the published box size belongs to."""


class Augmentation:
    """Changes rows of a training split: `augmentation(row)` returns a new row.

    - `flip`, `vflip`: with probability ½ image and mask are mirrored and the expression is rewritten
      (`mirror_expression`). Where the expression can't be rewritten nothing is mirrored.
    - `boxes`: as in FIANet's released training on RRSIS-D (not in the paper): a fixed random 20 % of the
      samples get 20 to 60 black boxes, at new places every epoch; the mask stays. Boxes are 32 px on an image of
      800 px and keep their share of the longer side on others.

    Which samples get boxes is drawn per sample, so their share is 20 % up to chance.

    Args:
        flip: Mirror left and right.
        vflip: Mirror above and below. Shadows then fall the other way.
        boxes: Paint the boxes.
        seed: Seed of all draws.

    Example:
        >>> augmentation = Augmentation(flip=True, seed=0)
        >>> row = augmentation({**dataset[0], "epoch": 3})  # doctest: +SKIP
    """

    def __init__(self, *, flip: bool = False, vflip: bool = False, boxes: bool = False, seed: int = 0) -> None:
        self.flip, self.vflip, self.boxes = flip, vflip, boxes
        self.seed = seed

    @classmethod
    def from_name(cls, name: str, seed: int = 0) -> Augmentation | None:
        """Build it from its name on the command line.

        Args:
            name: `"none"`, or some of `AUGMENTATIONS` joined with "+", such as `"flip+boxes"`.
            seed: Seed of all draws.

        Returns:
            The augmentation; `None` for `"none"`.

        Raises:
            ValueError: If a part of the name is unknown or repeated.
        """
        if name == "none":
            return None
        parts = name.split("+")
        if len(set(parts)) < len(parts) or not set(parts) <= set(AUGMENTATIONS):
            raise ValueError(
                f"expected the augmentation as none, or {', '.join(AUGMENTATIONS)} joined with '+' (flip+boxes), got "
                f"{name!r}"
            )
        return cls(flip="flip" in parts, vflip="vflip" in parts, boxes="boxes" in parts, seed=seed)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Change one row.

        Args:
            row: With `image`, the expression, `sample_id` or `index` (which sample it is), where there is one `mask`,
                and `epoch`, the number of the epoch whose draws are made (0 if absent).

        Returns:
            A new row; image, mask and expression are replaced where they change.

        Raises:
            ValueError: If the row does not say which sample it is, or image and mask can't be read.
        """
        changed = dict(row)
        name = row.get("sample_id", row.get("index"))
        if name is None:
            raise ValueError(f"expected a row with sample_id or index to augment it, got the columns {sorted(row)}")
        draws = self._generator(name, f"epoch {row.get('epoch', 0)}")
        mirrored = {"horizontal": draws.random() < FLIP_PROBABILITY, "vertical": draws.random() < FLIP_PROBABILITY}
        for axis, wanted in (("horizontal", self.flip), ("vertical", self.vflip)):
            if wanted and mirrored[axis]:
                self._mirror(changed, axis)
        if self.boxes and self._generator(name, "has boxes").random() < BOXES_SHARE:
            changed["image"] = paint_boxes(to_rgb8(load_image(changed["image"])), draws)
        return changed

    def _generator(self, name: Any, purpose: str) -> np.random.Generator:
        """Random numbers of one sample and purpose."""
        digest = hashlib.sha256(f"{self.seed}/{purpose}/{name}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:16], "little"))

    def _mirror(self, row: dict[str, Any], axis: str) -> None:
        """Mirror image, mask and expression in place, or nothing where the expression refuses."""
        text = mirror_expression(row["expression"], axis=axis).text
        if text is None:
            return
        horizontal = axis == "horizontal"
        how = Image.Transpose.FLIP_LEFT_RIGHT if horizontal else Image.Transpose.FLIP_TOP_BOTTOM
        row["image"] = to_rgb8(load_image(row["image"])).transpose(how)  # upright first: EXIF turns after a flip
        row["expression"] = text
        if row.get("mask") is not None:
            labels = to_label_map(load_values(row["mask"], is_mask=True))
            row["mask"] = np.ascontiguousarray(np.flip(labels, axis=1 if horizontal else 0))


def paint_boxes(image: Image.Image, draws: np.random.Generator) -> Image.Image:
    """Paint 20 to 60 black squares, each whole inside the image, on a copy.

    Args:
        image: RGB, any size.
        draws: Source of the number and the places.

    Returns:
        The copy; a square's side is 32 px where the longer side of the image is 800 px, in proportion elsewhere.
    """
    painted = image.copy()
    pencil = ImageDraw.Draw(painted)
    side = max(1, round(BOX_SIZE_PX * max(image.size) / BOX_REFERENCE_PX))
    for _ in range(int(draws.integers(BOXES_COUNT[0], BOXES_COUNT[1] + 1))):
        left = int(draws.integers(0, max(image.width - side, 0) + 1))
        top = int(draws.integers(0, max(image.height - side, 0) + 1))
        pencil.rectangle((left, top, left + side - 1, top + side - 1), fill=(0, 0, 0))  # both corners are painted
    return painted
