"""What a training step of a Base network keeps for its backward pass, counted on tensors without numbers.

    python benchmarks/memory_896.py                     # the figures of docs/which-model.md

Forward passes on PyTorch's meta device; what autograd saves is added up, parameters left out and no storage twice.
With checkpointing these are the inputs of the blocks, and the largest block that is made again comes on top.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from modeling_rrsis import MODELS

NUM_TOKENS = 20
SETTINGS = ("whole", "frozen BERT", "checkpointing", "checkpointing, frozen BERT", "checkpointing, LoRA")
LORA_TARGETS = r"vision\..*\.(qkv|proj)|text_encoder\..*\.(query|value)"


def build(name: str, size_px: int, setting: str) -> Any:
    """The Base network on the meta device, in training."""
    with torch.device("meta"):
        model = MODELS[name](MODELS[name].config_class(image_size=size_px)).train()
        if "frozen BERT" in setting:
            model.text_encoder.requires_grad_(False)
        if "LoRA" in setting:
            from peft import LoraConfig, get_peft_model

            model = get_peft_model(model, LoraConfig(r=16, target_modules=LORA_TARGETS))
        if "checkpointing" in setting:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
            model.enable_input_require_grads()
    return model


def saved_gib(model: Any, size_px: int) -> float:
    """GiB that one image's forward pass leaves for the backward pass."""
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    sizes: dict[int, int] = {}
    kept: list[Tensor] = []  # so that no address is given twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            sizes[storage._cdata] = storage.nbytes()
            kept.append(tensor)
        return tensor

    ids = torch.zeros(1, NUM_TOKENS, dtype=torch.long, device="meta")
    images = torch.zeros(1, 3, size_px, size_px, device="meta", requires_grad=True)
    # BERT asks whether there is padding, which a tensor without numbers can't tell.
    padded = mock.patch("transformers.masking_utils._ignore_bidirectional_mask_sdpa", return_value=False)
    wide = mock.patch("torch.autocast", return_value=nullcontext())  # the meta device has none
    with padded, wide, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(pixel_values=images, input_ids=ids, attention_mask=torch.ones_like(ids))
    return sum(sizes.values()) / 2**30


def main() -> None:
    """Print a line for each setting and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="rmsin", help="Networks, separated by commas.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[480, 896])
    options = parser.parse_args()
    for name in options.models.split(","):
        for setting in SETTINGS:
            for size_px in options.sizes:
                model = build(name, size_px, setting)
                trained = sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6
                gib = saved_gib(model, size_px)
                line = f"{name}, {setting}, {size_px} px: {gib:.2f} GiB an image, {trained:.1f} M trained\n"
                sys.stdout.write(line)
                sys.stdout.flush()


if __name__ == "__main__":
    main()
