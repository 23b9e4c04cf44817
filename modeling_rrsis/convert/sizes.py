"""Read every size of a network from the shapes of its published tensors."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

NUM_STAGES = 4
BERT_HEAD_CHANNELS = 64  # of every released BERT; the number of heads is in no tensor
DROP_PATH_RATE = 0.3  # as published; it is in no tensor and matters in training alone
PUBLISHED_SWINS: dict[
    tuple[int, tuple[int, ...], tuple[int, ...], int], str
] = {  # embedding width, depths, heads, window: timm's name
    (96, (2, 2, 6, 2), (3, 6, 12, 24), 7): "swin_tiny_patch4_window7_224",
    (96, (2, 2, 18, 2), (3, 6, 12, 24), 7): "swin_small_patch4_window7_224",
    (128, (2, 2, 18, 2), (4, 8, 16, 32), 7): "swin_base_patch4_window7_224",
    (128, (2, 2, 18, 2), (4, 8, 16, 32), 12): "swin_base_patch4_window12_384",
    (192, (2, 2, 18, 2), (6, 12, 24, 48), 7): "swin_large_patch4_window7_224",
    (192, (2, 2, 18, 2), (6, 12, 24, 48), 12): "swin_large_patch4_window12_384",
}
OTHER_SWIN = "swin_base_patch4_window12_384"  # the name that other sizes are handed to as arguments


class Shapes:
    """Shapes of the tensors of a state dictionary, with an error that names what is missing.

    Args:
        state: Tensors by published key; only their shapes are looked at.
        kind: What the tensors are expected to be, for the message.
    """

    def __init__(self, state: Mapping[str, Tensor], kind: str) -> None:
        self.shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
        self.kind = kind

    def __call__(self, key: str, dimensions: int | None = None) -> tuple[int, ...]:
        """Shape of a tensor.

        Raises:
            ValueError: If there is none of that name, or it has another number of dimensions.
        """
        shape = self.shapes.get(key)
        if shape is None:
            raise ValueError(f"Expected {self.kind}, but {key!r} is missing, from which a size is read.")
        if dimensions is not None and len(shape) != dimensions:
            raise ValueError(f"Expected {key!r} with {dimensions} dimensions, got the shape {shape}.")
        if 0 in shape:
            raise ValueError(f"Expected {key!r} to hold numbers, got the shape {shape}.")
        return shape

    def count(self, pattern: str) -> int:
        """Number of different indices that the pattern's group matches in the keys."""
        return len({match[1] for key in self.shapes if (match := re.match(pattern, key))})


def swin_sizes(shapes: Shapes, prefix: str = "backbone.") -> dict[str, Any]:
    """Configuration fields `backbone` and `backbone_kwargs` of a published Swin.

    Args:
        shapes: Shapes by published key.
        prefix: What stands before `patch_embed` and `layers`.

    Raises:
        ValueError: If a tensor is missing, the network has not four stages or a window is no square.
    """
    stages = shapes.count(rf"{re.escape(prefix)}layers\.(\d+)\.blocks\.")
    if stages != NUM_STAGES:
        raise ValueError(f"Expected {shapes.kind} with {NUM_STAGES} stages under {prefix}layers, found {stages}.")
    embed_dim, _, patch_height, patch_width = shapes(f"{prefix}patch_embed.proj.weight", dimensions=4)
    if patch_height != patch_width:
        raise ValueError(f"Expected square patches, got {patch_height}×{patch_width}.")
    depths, heads, windows = [], [], set()
    for stage in range(NUM_STAGES):
        layer = f"{prefix}layers.{stage}.blocks"
        depths.append(shapes.count(rf"{re.escape(layer)}\.(\d+)\."))
        positions, stage_heads = shapes(f"{layer}.0.attn.relative_position_bias_table", dimensions=2)
        heads.append(stage_heads)
        windows.add(window_of(positions))
    if len(windows) != 1:
        raise ValueError(f"Expected one window for all stages, got {sorted(windows)}.")
    window = windows.pop()
    mlp_ratio = shapes(f"{prefix}layers.0.blocks.0.mlp.fc1.weight", dimensions=2)[0] / embed_dim
    kwargs: dict[str, Any] = {
        "embed_dim": embed_dim,
        "depths": depths,
        "num_heads": heads,
        "window_size": window,
        "patch_size": patch_height,
        "drop_path_rate": DROP_PATH_RATE,
    }
    if mlp_ratio != 4:
        kwargs["mlp_ratio"] = mlp_ratio
    name = PUBLISHED_SWINS.get((embed_dim, tuple(depths), tuple(heads), window), OTHER_SWIN)
    return {"backbone": name, "backbone_kwargs": kwargs}


def window_of(positions: int) -> int:
    """Side of the window whose relative positions are so many: (2·side − 1)²."""
    side = (math.isqrt(positions) + 1) // 2
    if (2 * side - 1) ** 2 != positions:
        raise ValueError(f"Expected (2·window − 1)² relative positions, got {positions}.")
    return side


def bert_sizes(shapes: Shapes, num_heads: int | None = None, prefix: str = "text_encoder.") -> dict[str, Any]:
    """Configuration field `text_config`.

    Args:
        shapes: Shapes by published key.
        num_heads: Attention heads, which no tensor tells; one for each 64 channels if absent.
        prefix: What stands before `embeddings` and `encoder`.

    Raises:
        ValueError: If a tensor is missing, or the width is no multiple of the heads.
    """
    vocab_size, width = shapes(f"{prefix}embeddings.word_embeddings.weight", dimensions=2)
    if num_heads is None and width % BERT_HEAD_CHANNELS:
        raise ValueError(
            f"BERT's heads are in no tensor and its width {width} is no multiple of {BERT_HEAD_CHANNELS}, the width "
            "of a head in every released BERT; say their number (--text-heads, `text_heads=`)."
        )
    heads = width // BERT_HEAD_CHANNELS if num_heads is None else num_heads
    if heads < 1 or width % heads:
        raise ValueError(f"Expected a number of BERT heads that divides its width {width}, got {heads}.")
    return {
        "model_type": "bert",
        "vocab_size": vocab_size,
        "hidden_size": width,
        "num_hidden_layers": shapes.count(rf"{re.escape(prefix)}encoder\.layer\.(\d+)\."),
        "num_attention_heads": heads,
        "intermediate_size": shapes(f"{prefix}encoder.layer.0.intermediate.dense.weight", dimensions=2)[0],
        "max_position_embeddings": shapes(f"{prefix}embeddings.position_embeddings.weight", dimensions=2)[0],
        "type_vocab_size": shapes(f"{prefix}embeddings.token_type_embeddings.weight", dimensions=2)[0],
    }


def decoder_sizes(shapes: Shapes) -> dict[str, Any]:
    """Configuration field `decoder_hidden_size`."""
    return {"decoder_hidden_size": shapes("classifier.conv1_4.weight", dimensions=4)[0]}


def fianet_sizes(shapes: Shapes) -> dict[str, Any]:
    """Configuration fields that only FIANet has."""
    layer = "backbone.layers.0"
    reduced, channels = shapes(f"{layer}.fc1.weight", dimensions=2)
    width, total = shapes("backbone.tmem.down_channel.weight", dimensions=4)[:2]
    return {
        "num_tmem_layers": shapes.count(r"backbone\.tmem\.block\.(\d+)\."),
        "tmem_bottleneck": total // width,
        "tmem_mlp_ratio": shapes("backbone.tmem.block.0.ff.net.0.weight", dimensions=2)[0] / width,
        "channel_modulation_reduction": channels // reduced,
        "position_conv_kernel": shapes(f"{layer}.object_position_align_blk.conv1.weight", dimensions=4)[-1],
    }


def rmsin_sizes(shapes: Shapes, patch_size: int) -> dict[str, Any]:
    """Configuration fields that only RMSIN has; RemoteSAM is told from it by its larger grid."""
    block = r"backbone\.cim\.block\.(\d+)\."
    pixels = shapes("backbone.cim.block.0.csa1.m.attention.proj.weight", dimensions=2)[0]
    grid = math.isqrt(pixels)
    if grid**2 != pixels:
        raise ValueError(f"Expected the cross-scale attention to end on a square grid, got {pixels} positions.")
    return {"num_cim_layers": shapes.count(block), "grid_size": grid, "image_size": 8 * patch_size * grid}


def read_sizes(
    arch: str, state: Mapping[str, Tensor], text_heads: int | None = None, fusion_heads: list[int] | None = None
) -> dict[str, Any]:
    """Fields of the configuration that the tensors of a published network fix.

    Args:
        arch: `"lavt"`, `"fianet"` or `"rmsin"`, which RemoteSAM is, too.
        state: Tensors by published key, BERT's under `text_encoder.`; only their shapes are looked at.
        text_heads: Attention heads of BERT, which no tensor tells; one for each 64 channels if absent.
        fusion_heads: Heads of the pixel–word attention of the four stages, which no tensor tells; one each if absent.

    Raises:
        ValueError: If a tensor that tells a size is missing or has an unexpected shape.
    """
    shapes = Shapes(state, kind=f"a published {arch} checkpoint")
    sizes = {**swin_sizes(shapes), "text_config": bert_sizes(shapes, num_heads=text_heads), **decoder_sizes(shapes)}
    if fusion_heads is not None:
        sizes["fusion_num_heads"] = fusion_heads
    if arch == "rmsin":
        sizes |= rmsin_sizes(shapes, patch_size=sizes["backbone_kwargs"]["patch_size"])
    return {**sizes, **fianet_sizes(shapes)} if arch == "fianet" else sizes
