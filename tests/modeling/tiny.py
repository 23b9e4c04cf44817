"""Tiny configurations of the three models, and inputs for them."""

import torch

from modeling_rrsis import MODELS

VOCABULARY = 60
TINY = {
    "backbone": "swin_tiny_patch4_window7_224",
    "backbone_kwargs": {"embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 1, 2, 2], "window_size": 4},
    "text_config": {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 32,
        "vocab_size": VOCABULARY,
    },
    "image_size": 64,
}


def tiny_model(name, **overrides):
    """A model with seeded random weights."""
    torch.manual_seed(0)
    model_class = MODELS[name]
    return model_class(model_class.config_class(**{**TINY, **overrides}))


def tiny_inputs(batch_size=2, height=64, width=64, length=7):
    """Seeded inputs with padding in the last row."""
    generator = torch.Generator().manual_seed(1)
    attention_mask = torch.ones(batch_size, length, dtype=torch.long)
    attention_mask[-1, length - 2 :] = 0
    ground_object_mask = torch.zeros_like(attention_mask)
    ground_object_mask[:, 2:4] = 1
    spatial_position_mask = torch.zeros_like(attention_mask)
    spatial_position_mask[:, 3:5] = 1
    return {
        "pixel_values": torch.randn(batch_size, 3, height, width, generator=generator),
        "input_ids": torch.randint(1, VOCABULARY, (batch_size, length), generator=generator) * attention_mask,
        "attention_mask": attention_mask,
        "ground_object_mask": ground_object_mask,
        "spatial_position_mask": spatial_position_mask,
    }


def tiny_labels(batch_size=2, height=64, width=64):
    """Boxes of target, with a corner that is ignored."""
    labels = torch.zeros(batch_size, height, width, dtype=torch.long)
    labels[:, height // 4 : height // 2, width // 4 : width // 2] = 1
    labels[:, :2, :2] = 255
    return labels
