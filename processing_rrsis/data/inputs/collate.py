"""From dataset rows to the tensors of a training or evaluation step."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from .augmentation import Augmentation


class ReferringCollator:
    """Turn rows with an image, a mask and an expression into model inputs; picklable, for data loader workers.

    Args:
        processor: an `RRSISProcessor`.
        allow_empty_text: accept blank expressions (the blank-text control).
        augmentation: changes a training row before it is processed, see `Augmentation`; `None` for none.

    Example:
        >>> loader = DataLoader(dataset, batch_size=8, collate_fn=ReferringCollator(processor))
    """

    def __init__(
        self,
        processor: Callable[..., Mapping[str, Any]],
        allow_empty_text: bool = False,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.processor = processor
        self.allow_empty_text = allow_empty_text
        self.augmentation = augmentation

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate.

        Args:
            rows: each with `image`, `expression` and, for training, `mask`; `index` where samples are to be told
                apart after gathering.

        Returns:
            `pixel_values` (B, 3, H, W), `input_ids`, `attention_mask`, `ground_object_mask`, `spatial_position_mask`
            (B, L), `labels` int64 (B, H, W) where the rows have masks, `index` int64 (B,) where they have indices.

        Raises:
            ValueError: no rows, a column missing, or only some rows with a mask; the text names the sample.
        """
        if not rows:
            raise ValueError("rows: expected at least one row, got none; check the sampler's batch size")
        self._check_columns(rows)
        if self.augmentation is not None:
            rows = [self.augmentation(row) for row in rows]
        masks = [row["mask"] for row in rows] if "mask" in rows[0] else None
        inputs = self.processor(
            images=[row["image"] for row in rows],
            text=[row["expression"] for row in rows],
            segmentation_maps=masks,
            allow_empty_text=self.allow_empty_text,
            return_tensors="pt",
        )
        batch = dict(inputs)
        if "index" in rows[0]:
            batch["index"] = torch.tensor([int(row["index"]) for row in rows], dtype=torch.int64)
        return batch

    def _check_columns(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Every row needs an image and an expression; masks are for all rows or for none."""
        needed = ["image", "expression", *(name for name in ("mask", "index") if any(name in row for row in rows))]
        for number, row in enumerate(rows):
            missing = [name for name in needed if row.get(name) is None]
            if missing:
                raise ValueError(
                    f"row {number} ({row.get('sample_id', 'no sample_id')}): expected the columns {needed}, {missing} "
                    f"are missing or None; it has {sorted(row)}"
                )
