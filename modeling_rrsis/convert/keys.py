"""Key names of the published checkpoints: which of ours each one is, and which of them feed nothing.

A table is read from top to bottom. Every rename that fits is applied, so a later line sees what an earlier one left.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

Rename = tuple[str, str]


@dataclass(frozen=True)
class KeyTable:
    """What is known of the keys of one kind of checkpoint.

    Args:
        renames: Pairs of a regular expression and its replacement, in order. `{next}` in a replacement stands for the
            first group plus one.
        dead: Pairs of a reason and a regular expression of exactly the keys: tensors that influence nothing and are
            not taken, whatever their shape. A file from which they were removed already is as good.
        folded: Our keys whose published tensor has two channels, background and target, where ours has one.
        marks: Beginnings of keys that only this kind of checkpoint has.
    """

    renames: tuple[Rename, ...]
    dead: tuple[Rename, ...]
    folded: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()

    def rename(self, key: str) -> str:
        """Our name of a published key."""
        for pattern, replacement in self.renames:
            match = re.search(pattern, key)
            if match:
                following = str(int(match[1]) + 1) if "{next}" in replacement else ""
                key = (
                    key[: match.start()] + match.expand(replacement).replace("{next}", following) + key[match.end() :]
                )
        return key

    def dead_reason(self, key: str) -> str | None:
        """Why a published key is not taken; `None` where it is."""
        return next((reason for reason, pattern in self.dead if re.search(pattern, key)), None)


BUFFERS = "index buffer, built from the sizes"
GATE = "gate of the last stage, which feeds nothing"

SWIN_RENAMES: tuple[Rename, ...] = (
    # timm merges patches at the start of a stage, the published Swin at the end of the one before.
    (r"^backbone\.layers\.(\d)\.downsample\.", "vision.layers.{next}.downsample."),
    (r"^backbone\.layers\.(\d)\.blocks\.", r"vision.layers.\1.blocks."),
    (r"^backbone\.patch_embed\.", "vision.patch_embed."),
)
ATTENTION_RENAMES: tuple[Rename, ...] = (
    (r"\.image_lang_att\.", ".attention."),
    (r"\.vis_project\.0\.", ".visual."),
    (r"\.project_mm\.0\.", ".output."),
    (r"\.f_query\.0\.", ".query."),
    (r"\.f_key\.0\.", ".key."),
    (r"\.f_value\.0\.", ".value."),
    (r"\.W\.0\.", ".output."),
    (r"\.gate\.0\.", ".gate.reduce."),
    (r"\.gate\.2\.", ".gate.expand."),
)
DECODER_RENAMES: tuple[Rename, ...] = (
    (r"^classifier\.conv1_1\.", "head."),
    (r"^classifier\.conv([12])_4\.", r"decoder.blocks.2.conv\1."),
    (r"^classifier\.conv([12])_3\.", r"decoder.blocks.1.conv\1."),
    (r"^classifier\.conv([12])_2\.", r"decoder.blocks.0.conv\1."),
    (r"^classifier\.bn([12])_4\.", r"decoder.blocks.2.norm\1."),
    (r"^classifier\.bn([12])_3\.", r"decoder.blocks.1.norm\1."),
    (r"^classifier\.bn([12])_2\.", r"decoder.blocks.0.norm\1."),
)
BASE_DEAD: tuple[Rename, ...] = (
    (BUFFERS, r"^backbone\.layers\.\d\.blocks\.\d+\.(attn\.relative_position_index|attn_mask)$"),
    (BUFFERS, r"^text_encoder\.embeddings\.(position_ids|token_type_ids)$"),
    ("pooler of BERT, which is not used", r"^text_encoder\.pooler\.dense\.(weight|bias)$"),
)


def frame_renames(name: str) -> tuple[Rename, ...]:
    """What surrounds the layers of a multi-scale module: the way to its width and back, the scale-aware gates."""
    frame, gate = rf"^backbone\.{name}\.", rf"^backbone\.{name}\.fusion\.(\d)\."
    return (
        (frame + r"down_channel\.", f"{name}.down."),
        (frame + r"up_channel\.", f"{name}.up."),
        (frame + r"bn\.", f"{name}.norm."),
        (gate + r"local_embedding\.", rf"{name}.gates.\1.local."),
        (gate + r"bn1\.", rf"{name}.gates.\1.local_norm."),
        (gate + r"global_embedding\.", rf"{name}.gates.\1.shared."),
        (gate + r"bn2\.", rf"{name}.gates.\1.shared_norm."),
        (gate + r"global_act\.", rf"{name}.gates.\1.activation."),
        (gate + r"bn3\.", rf"{name}.gates.\1.activation_norm."),
    )


LAVT = KeyTable(
    renames=(
        *SWIN_RENAMES,
        (r"^backbone\.norm(\d)\.", r"fusion.\1.norm."),
        (r"^backbone\.layers\.(\d)\.fusion\.", r"fusion.\1.context."),
        (r"^backbone\.layers\.(\d)\.res_gate\.", r"fusion.\1.gate."),
        *ATTENTION_RENAMES,
        *DECODER_RENAMES,
    ),
    dead=(*BASE_DEAD, (GATE, r"^backbone\.layers\.3\.res_gate\.[02]\.weight$")),
    folded=("head.weight", "head.bias"),
    marks=("backbone.layers.0.res_gate.", "backbone.layers.0.fusion."),
)

FIANET = KeyTable(
    renames=(
        *SWIN_RENAMES,
        (r"^backbone\.norm(\d)\.", r"fusion.\1.norm."),
        (r"^backbone\.layers\.(\d)\.context_pixel_attn\.", r"fusion.\1.context."),
        (r"^backbone\.layers\.(\d)\.context_tanh_gate\.", r"fusion.\1.gate."),
        (
            r"^backbone\.layers\.(\d)\.object_position_align_blk\.go_cross_attn\.",
            r"fusion.\1.ground_object.attention.",
        ),
        (r"^backbone\.layers\.(\d)\.object_position_align_blk\.go_tanh_gating\.", r"fusion.\1.ground_object.gate."),
        (
            r"^backbone\.layers\.(\d)\.object_position_align_blk\.sp_cross_attn\.",
            r"fusion.\1.spatial_position.attention.",
        ),
        (r"^backbone\.layers\.(\d)\.object_position_align_blk\.conv1\.", r"fusion.\1.spatial_position.conv."),
        (r"^backbone\.layers\.(\d)\.fc1\.", r"fusion.\1.modulation.reduce."),
        (r"^backbone\.layers\.(\d)\.fc2\.", r"fusion.\1.modulation.expand."),
        (r"^backbone\.tmem\.block\.(\d+)\.tma\.", r"tmem.layers.\1.attention."),
        (r"^backbone\.tmem\.block\.(\d+)\.ff\.net\.0\.", r"tmem.layers.\1.expand."),
        (r"^backbone\.tmem\.block\.(\d+)\.ff\.net\.3\.", r"tmem.layers.\1.reduce."),
        (r"^backbone\.tmem\.block\.(\d+)\.norm([12])\.", r"tmem.layers.\1.norm\2."),
        *frame_renames("tmem"),
        *ATTENTION_RENAMES,
        *DECODER_RENAMES,
    ),
    dead=(
        *BASE_DEAD,
        (GATE, r"^backbone\.layers\.3\.context_tanh_gate\.[02]\.weight$"),
        (
            "linear layer that is never called",
            r"^backbone\.layers\.[0-3]\.object_position_align_blk\.go_embedding\.weight$",
        ),
        (
            "object-position alignment of the last stage, which feeds nothing",
            r"^backbone\.layers\.3\.object_position_align_blk\."
            r"((go|sp)_cross_attn\.(f_query|f_key|f_value|W)\.0\.(weight|bias)"
            r"|go_tanh_gating\.[02]\.weight|conv1\.weight)$",
        ),
        (
            "channel modulation of the last stage, which feeds nothing",
            r"^backbone\.layers\.3\.fc[12]\.(weight|bias)$",
        ),
    ),
    folded=("head.weight", "head.bias"),
    marks=("backbone.tmem.", "backbone.layers.0.object_position_align_blk."),
)

RMSIN = KeyTable(
    renames=(
        *SWIN_RENAMES,
        (r"^backbone\.norm(\d)\.", r"fusion.\1.language.norm."),
        (r"^backbone\.layers\.(\d)\.fusion\.", r"fusion.\1.language.context."),
        (r"^backbone\.layers\.(\d)\.res_gate\.", r"fusion.\1.language.gate."),
        (r"^backbone\.layers\.(\d)\.visual_gate\.0\.", r"fusion.\1.visual_gate.reduce."),
        (r"^backbone\.layers\.(\d)\.visual_gate\.2\.", r"fusion.\1.visual_gate.expand."),
        (r"^backbone\.layers\.(\d)\.visual_residual\.repblock\.(brb_\w+)_2\.", r"fusion.\1.intra_scale.second.\2."),
        (r"^backbone\.layers\.(\d)\.visual_residual\.repblock\.", r"fusion.\1.intra_scale.first."),
        (r"\.brb_1x1\.conv\.", ".point.0."),
        (r"\.brb_1x1\.bn\.", ".point.1."),
        (r"\.brb_3x3\.conv1\.", ".square.0."),
        (r"\.brb_3x3\.bn1\.", ".square.1."),
        (r"\.brb_3x3\.conv2\.", ".square.2."),
        (r"\.brb_3x3\.bn2\.", ".square.3."),
        (r"\.brb_identity\.", ".identity."),
        *frame_renames("cim"),
        (r"^backbone\.cim\.block\.(\d+)\.csa([12])\.m\.", r"cim.layers.\1.attention\2."),
        (r"\.attention([12])\.bn1\.", r".attention\1.norm."),
        (r"\.DWConv1\.", ".by_two."),
        (r"\.DWConv2\.", ".by_three."),
        (r"\.attention\.qkv\.c\.", ".project."),
        (r"\.attention\.qkv\.bn\.", ".project_norm."),
        (r"\.attention\.parallel_conv\.1\.", ".local."),
        (r"\.attention\.to_out\.", ".gather."),
        (r"\.attention\.proj\.", ".to_grid."),
        (r"\.attention([12])\.bn4\.", r".attention\1.output_norm."),
        (r"\.attention([12])\.conv\.", r".attention\1.output."),
        *(
            (rf"^backbone\.cim\.block\.(\d+)\.intra_ff\.m\.ff{i + 1}\.m\.", rf"cim.layers.\1.within.{i}.")
            for i in range(4)
        ),
        (r"^backbone\.cim\.block\.(\d+)\.ff\.m\.", r"cim.layers.\1.across."),
        *(
            (rf"\.(within\.\d|across)\.{theirs}\.", rf".\1.{ours}.")
            for theirs, ours in (("bn1", 0), ("conv1", 1), ("bn2", 2), ("conv2", 3), ("conv3", 5))
        ),
        *ATTENTION_RENAMES,
        *DECODER_RENAMES,
        (r"\.rounting_func\.dwc\.", ".routing."),
        (r"\.rounting_func\.norm\.norm\.", ".routing_norm."),
        (r"\.rounting_func\.fc_alpha\.", ".strength."),
        (r"\.rounting_func\.fc_theta\.", ".angle."),
    ),
    dead=(
        *BASE_DEAD,
        (GATE, r"^backbone\.layers\.3\.(res_gate|visual_gate)\.[02]\.weight$"),
        (
            "intra-scale branch of the last stage, which feeds nothing",
            r"^backbone\.layers\.3\.visual_residual\.repblock\.brb_(1x1|3x3|identity)(_2)?\."
            r"((conv|conv1|conv2)\.weight|((bn|bn1|bn2)\.)?(weight|bias|running_mean|running_var|num_batches_tracked))$",
        ),
    ),
    folded=("head.weight", "head.bias"),
    marks=("backbone.cim.", "backbone.layers.0.visual_gate."),
)

SWIN = KeyTable(
    renames=((r"^layers\.(\d)\.downsample\.", "layers.{next}.downsample."),),
    dead=(
        (BUFFERS, r"^layers\.\d\.blocks\.\d+\.(attn\.relative_position_index|attn_mask)$"),
        ("ImageNet's classification head", r"^head\.(weight|bias)$"),
    ),
    marks=("patch_embed.", "layers.0.blocks."),
)

# The more a kind has of its own, the earlier it stands: RMSIN has LAVT's marks, too.
TABLES: dict[str, KeyTable] = {"rmsin": RMSIN, "fianet": FIANET, "lavt": LAVT, "swin": SWIN}


def recognise(keys: Iterable[str]) -> str | None:
    """The kind of checkpoint that keys (published names, in any number) belong to."""
    keys = list(keys)
    fitting = (
        name
        for name, table in TABLES.items()
        if all(any(key.startswith(mark) for key in keys) for mark in table.marks)
    )
    return next(fitting, None)
