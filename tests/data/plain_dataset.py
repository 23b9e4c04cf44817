"""A plain PyTorch data set of a downloaded benchmark, as research code writes it: an independent reading of the files.

Nothing is checked, repaired or cached: a sample opens its JPEG, decodes its run lengths and is tokenised on its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from processing_rrsis.data.file_benchmark import FileBenchmark
from processing_rrsis.data.refsegrs import FOREGROUND_ABOVE


@dataclass(frozen=True)
class PlainSample:
    """One sample as the files name it.

    Attributes:
        sample_id: As in the builder's rows.
        image: Path of the image.
        mask: Path of the mask, or a list of COCO's run lengths.
        expression: The sentence.
    """

    sample_id: str
    image: Path
    mask: Path | Sequence[Mapping[str, Any]]
    expression: str


def plain_samples(builder: FileBenchmark, sample_ids: Iterable[str]) -> list[PlainSample]:
    """Return the samples with these ids, in their order.

    Args:
        builder: `RRSISD`, `RefSegRS` or `RISBench` of a folder.
        sample_ids: Ids of one split.

    Raises:
        ValueError: If the download is a zip, whose files have no paths, or has no sample of an id.
    """
    if not builder.archive.source.is_dir():
        raise ValueError(
            f"data_dir: expected a folder, got {builder.archive.source}; a plain data set opens files, unpack the zip"
        )
    known = {sample.sample_id: sample for samples in builder.read_samples().values() for sample in samples}
    chosen = []
    for sample_id in sample_ids:
        if sample_id not in known:
            raise ValueError(f"sample_ids: {builder.archive.source} has no sample {sample_id!r}")
        sample = known[sample_id]
        mask = Path(builder.archive.location(sample.mask_name)) if sample.mask_name else sample.mask
        image = Path(builder.archive.location(sample.image_name))
        chosen.append(PlainSample(sample_id, image=image, mask=mask, expression=sample.expression))
    return chosen


class PlainDataset(Dataset):
    """Samples of fixed size, which `torch.utils.data.default_collate` stacks.

    Args:
        samples: What `plain_samples` returns.
        tokenizer: Called with one expression at a time, which is padded to `max_length`.
        image_size_px: Side that images and masks are resized to.
        max_length: Tokens of every expression.
    """

    def __init__(self, samples: Sequence[PlainSample], tokenizer: Any, image_size_px: int, max_length: int) -> None:
        self.samples = samples
        self.tokenizer = tokenizer
        self.size = (image_size_px, image_size_px)
        self.max_length = max_length
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)]
        )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return `pixel_values` float32 (3, S, S), `labels` int64 (S, S), `input_ids`, `attention_mask` (L,)."""
        image, mask = self.decode(index)
        tokens = self.tokenizer(
            self.samples[index].expression, padding="max_length", truncation=True, max_length=self.max_length
        )
        return {
            "pixel_values": self.transform(image.resize(self.size, Image.Resampling.BILINEAR)),
            "labels": torch.from_numpy(np.array(mask.resize(self.size, Image.Resampling.NEAREST))).long(),
            "input_ids": torch.tensor(tokens["input_ids"]),
            "attention_mask": torch.tensor(tokens["attention_mask"]),
        }

    def decode(self, index: int) -> tuple[Image.Image, Image.Image]:
        """Return the image as RGB and the mask as 0 and 1, of the image's size."""
        sample = self.samples[index]
        with Image.open(sample.image) as file:
            image = file.convert("RGB")
        if isinstance(sample.mask, Path):
            with Image.open(sample.mask) as file:
                pixels = (np.array(file.convert("L")) > FOREGROUND_ABOVE).astype(np.uint8)
        else:
            pixels = coco_mask.decode(list(sample.mask)).max(axis=2)  # (H, W, parts) to (H, W)
        mask = Image.fromarray(pixels)
        return image, mask if mask.size == image.size else mask.resize(image.size, Image.Resampling.NEAREST)
