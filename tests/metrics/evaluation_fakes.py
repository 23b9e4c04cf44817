"""A dataset, a processor and a model small enough to work out by hand."""

from types import SimpleNamespace

import datasets
import numpy as np
import torch
from PIL import Image

INPUT_SIZE_PX = 8
KINDS = ("category", "colour", "relation")
CATEGORIES = ("ship", "storage tank")


def make_dataset(num_samples=7, native_size_px=None, empty_masks=False):
    """Random images and masks; every third mask has another size than the model's input."""
    generator = np.random.default_rng(5)
    rows = []
    for index in range(num_samples):
        side = native_size_px or (INPUT_SIZE_PX if index % 3 else 12)
        mask = (generator.random((side, side)) < 0.5) & (not empty_masks)
        rows.append(
            {
                "image": Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8)),
                "mask": Image.fromarray(mask.astype(np.uint8) * 255),
                "expression": f"the {CATEGORIES[index % 2]} number {index}",
                "category": CATEGORIES[index % 2],
                "kind": KINDS[index % 3],
                "image_id": f"scene-{index // 2}",
                "sample_id": f"sample-{index}",
            }
        )
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "mask": datasets.Image(mode="L"),
            **{name: datasets.Value("string") for name in ("expression", "category", "kind", "image_id", "sample_id")},
        }
    )
    return datasets.Dataset.from_list(rows, features=features)


class FakeProcessor:
    """Resizes to `INPUT_SIZE_PX`; the token ids are the lengths of the words."""

    def __init__(self):
        self.seen = []

    def __call__(self, images, text, segmentation_maps, allow_empty_text, return_tensors):
        if not allow_empty_text and not all(text):
            raise ValueError("blank")
        self.seen.extend(text)
        size = (INPUT_SIZE_PX, INPUT_SIZE_PX)
        pixels = [np.asarray(image.resize(size)).transpose(2, 0, 1) / 255 for image in images]
        labels = [np.asarray(mask.resize(size, resample=Image.Resampling.NEAREST)) > 127 for mask in segmentation_maps]
        ids = [[len(expression)] for expression in text]
        return {
            "pixel_values": torch.tensor(np.stack(pixels), dtype=torch.float32),
            "input_ids": torch.tensor(ids),
            "labels": torch.tensor(np.stack(labels), dtype=torch.int64),
        }


class FakeModel(torch.nn.Module):
    """Bright pixels are the target; the length of the text moves the brightness that counts as bright."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(4.0))
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, pixel_values, input_ids):
        log_odds = self.scale * (pixel_values.mean(dim=1) - 0.5) + 0.01 * input_ids.float().mean(dim=1)[:, None, None]
        return SimpleNamespace(logits=self.dropout(log_odds))
