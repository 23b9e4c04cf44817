"""How far a small network's masks move when its images are resized to another size than the trained one.

    python benchmarks/sizes.py rmsin fianet             # minutes on two cores

A small network learns scenes of SyntheticRS at 128 px by heart and is then asked for the same masks at other sizes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

import modeling_rrsis
from processing_rrsis.data.load import load_benchmark
from processing_rrsis.training.recipes.shipped import get_recipe
from processing_rrsis.training.starting_weights import build_model, build_processor

TRAINED_PX = 128
SIZES_PX = ((96, 96), (112, 112), (128, 128), (160, 160), (128, 192), (207, 121), (256, 256))
SCENES, UPDATES, LEARNING_RATE = 24, 150, 2e-3


def inputs_at(processor: object, rows: list[dict], size_px: tuple[int, int]) -> dict[str, Tensor]:
    """Images of one size, expressions and masks."""
    processor.image_processor.size = {"height": size_px[0], "width": size_px[1]}  # type: ignore[attr-defined]
    return processor(  # type: ignore[operator]
        images=[row["image"] for row in rows],
        text=[row["expression"] for row in rows],
        segmentation_maps=[row["mask"] for row in rows],
        return_tensors="pt",
    )


def iou(first: Tensor, second: Tensor) -> float:
    """Mean IoU of two sets of masks (B, H, W), in percent."""
    both, either = (first & second).sum((1, 2)), (first | second).sum((1, 2)).clamp(min=1)
    return 100 * (both / either).mean().item()


def run(name: str) -> None:
    """Train one network and print a line for each size."""
    recipe = get_recipe(f"{name}-synthetic").changed("this script", image_size_px=TRAINED_PX)
    rows = [dict(row) for row in load_benchmark("synthetic", split="train").select(range(SCENES))]
    torch.manual_seed(0)
    processor = build_processor(recipe)
    model = build_model(recipe, processor)
    batch = inputs_at(processor, rows, (TRAINED_PX, TRAINED_PX))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    model.train()
    for _ in range(UPDATES):
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    masks = {}
    for size_px in SIZES_PX:
        with torch.no_grad():
            logits = model.eval()(**inputs_at(processor, rows, size_px)).logits.unsqueeze(1)
        masks[size_px] = F.interpolate(logits, size=(256, 256), mode="bilinear").squeeze(1) > 0
    truth = F.interpolate(batch["labels"].unsqueeze(1).float(), size=(256, 256)).squeeze(1) == 1
    for size_px, mask in masks.items():
        moved, right = iou(mask, masks[TRAINED_PX, TRAINED_PX]), iou(mask, truth)
        sys.stdout.write(
            f"{name}, {size_px[0]}×{size_px[1]}: IoU {moved:.1f} with {TRAINED_PX} px, {right:.1f} true\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    for chosen in sys.argv[1:] or list(modeling_rrsis.MODELS):
        run(chosen)
