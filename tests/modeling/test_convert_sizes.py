"""Sizes are read from a published checkpoint's shapes; a shape that says none is told."""

import re

import pytest
import torch

from modeling_rrsis.convert.sizes import Shapes, bert_sizes, rmsin_sizes, swin_sizes

from .parity import published_keys

LAYER = "backbone.layers.0.blocks.0.attn.relative_position_bias_table"
PATCH = "backbone.patch_embed.proj.weight"
WORDS = "text_encoder.embeddings.word_embeddings.weight"
GRID = "backbone.cim.block.0.csa1.m.attention.proj.weight"


@pytest.mark.parametrize(
    ("read", "change", "sentence"),
    [
        (swin_sizes, {PATCH: None}, f"Expected RMSIN, but '{PATCH}' is missing, from which a size is read."),
        (swin_sizes, {PATCH: (96, 3, 4)}, f"Expected '{PATCH}' with 4 dimensions, got the shape (96, 3, 4)."),
        (swin_sizes, {PATCH: (0, 3, 4, 4)}, f"Expected '{PATCH}' to hold numbers, got the shape (0, 3, 4, 4)."),
        (swin_sizes, {PATCH: (96, 3, 4, 8)}, "Expected square patches, got 4×8."),
        (swin_sizes, {LAYER: (168, 3)}, "Expected (2·window − 1)² relative positions, got 168."),
        (swin_sizes, {LAYER: (81, 3)}, "Expected one window for all stages, got [5, 7]."),
        (swin_sizes, {"layers.3": None}, "Expected RMSIN with 4 stages under backbone.layers, found 3."),
        (bert_sizes, {WORDS: (99, 100)}, "its width 100 is no multiple of 64"),
        (
            lambda shapes: bert_sizes(shapes, 5),
            {},
            "a number of BERT heads that divides its width 768, got 5.",
        ),
        (lambda shapes: rmsin_sizes(shapes, 4), {GRID: (200, 200)}, "to end on a square grid, got 200 positions."),
    ],
)
def test_a_shape_that_says_no_size_is_told(read, change, sentence):
    shapes = {key: tuple(shape) for key, shape in published_keys("remotesam_tiny").items()}
    for key, shape in change.items():
        if shape is None:
            shapes = {name: held for name, held in shapes.items() if key not in name}
        else:
            shapes[key] = shape
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    with pytest.raises(ValueError, match=re.escape(sentence)):
        read(Shapes(state, "RMSIN"))
