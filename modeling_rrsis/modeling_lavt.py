"""LAVT, the base of DANet and FIANet: a Swin Transformer with the expression fused into each of its stages.

Yang et al., "LAVT: Language-Aware Vision Transformer for Referring Image Segmentation", CVPR 2022, as the two papers
of this package use it. Written from the papers; the parameters are laid out for timm's Swin and transformers' BERT.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_rrsis import LAVTConfig
from .loss_rrsis import check_labels, weighted_cross_entropy

MIN_IMAGE_SIZE = 32
MASKED = -1e4  # added to the logits of padding words; as published, and within float16


@dataclass
class ReferringSegmentationOutput(ModelOutput):
    """Output of the three models.

    Args:
        loss (`torch.FloatTensor` of shape `(1,)`, *optional*, returned with `labels`): The training loss, float32.
        logits (`torch.FloatTensor` of shape `(batch_size, height, width)`): Log-odds of the target at the size of
            `pixel_values`; the probability is their sigmoid.
        hidden_states (`tuple(torch.FloatTensor)`, *optional*): Outputs of the four stages, each of shape
            `(batch_size, channels, height / 2^(k + 1), width / 2^(k + 1))`, k = 1 … 4, as the multi-scale module or
            the decoder receives them; `None` in place of a stage that was not asked for.
        attentions (`tuple(torch.FloatTensor)`, *optional*): Weights of the pixel–word attention of the four stages, in
            [0, 1], each of shape `(batch_size, num_heads, pixels, words)`, the pixels row by row.
        loss_dict (`dict[str, torch.FloatTensor]`, *optional*, returned with `labels`): The parts of the loss,
            unweighted and detached.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor | None, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None
    loss_dict: dict[str, torch.FloatTensor] | None = None


class TextFeatures(NamedTuple):
    """Word features float (B, L, D) and the mask (B, L) of the words that may be attended to, 1 or 0."""

    words: Tensor
    mask: Tensor


class StageState(NamedTuple):
    """A stage after its fusion: `output` (B, N, C) for the decoder, `size` its (height, width), pixel–word weights."""

    output: Tensor
    size: tuple[int, int]
    attention: Tensor


def instance_norm(tokens: Tensor, eps: float = 1e-5) -> Tensor:
    """InstanceNorm without parameters over the pixels of (B, N, C), in float32 at least; zero where N is 1."""
    wide = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
    centred = wide - wide.mean(1, keepdim=True)
    variance = centred.square().mean(1, keepdim=True)  # several times faster on a CPU than torch.var_mean over pixels
    return (centred * torch.rsqrt(variance + eps)).to(tokens.dtype)


def tokens_to_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, N, C) to (B, C, height, width), a view with channels last in memory."""
    return tokens.unflatten(1, size).permute(0, 3, 1, 2)


def map_to_tokens(feature_map: Tensor) -> Tensor:
    """(B, C, height, width) to (B, N, C)."""
    return feature_map.flatten(2).transpose(1, 2)


class PointwiseConv(nn.Linear):
    """1×1 convolution on tokens (B, N, C); a linear layer that is initialised like PyTorch's convolutions."""


class PixelWordAttention(nn.Module):
    """Cross-attention with pixels as queries and words as keys and values.

    Args:
        channels: Width C of the pixels, the keys and the values.
        text_channels: Width D of the words.
        num_heads: Heads; the scale is 1/√C whatever their number, as published.
        use_norm: InstanceNorm on the queries and on the output, as released.
    """

    def __init__(self, channels: int, text_channels: int, num_heads: int = 1, use_norm: bool = True) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(
                f"`fusion_num_heads` must divide the width of its stage, got {num_heads} heads for {channels} channels"
            )
        self.num_heads = num_heads
        self.scale = channels**-0.5
        self.use_norm = use_norm
        self.query = PointwiseConv(channels, channels)
        self.key = PointwiseConv(text_channels, channels)
        self.value = PointwiseConv(text_channels, channels)
        self.output = PointwiseConv(channels, channels)

    def project_query(self, pixels: Tensor) -> Tensor:
        """Queries (B, N, C) of pixels (B, N, C)."""
        query = self.query(pixels)
        return instance_norm(query) if self.use_norm else query

    def forward(self, pixels: Tensor, text: TextFeatures) -> tuple[Tensor, Tensor]:
        """Attend from pixels (B, N, C) to the words of `text`; returns (B, N, C) and the weights (B, heads, N, L)."""
        mask = text.mask.to(pixels.dtype).unsqueeze(-1)
        # Projections have biases, so padding is zeroed after them; a fully masked row then gives zeros.
        heads = (self.num_heads, -1)
        query = self.project_query(pixels).unflatten(-1, heads).transpose(1, 2)
        key = (self.key(text.words) * mask).unflatten(-1, heads).transpose(1, 2)
        value = (self.value(text.words) * mask).unflatten(-1, heads).transpose(1, 2)
        scores = (query * self.scale) @ key.transpose(-1, -2) + MASKED * (1 - mask[:, None, :, 0].unsqueeze(1))
        weights = scores.softmax(-1).to(value.dtype)
        out = self.output((weights @ value).transpose(1, 2).flatten(2))
        return (instance_norm(out) if self.use_norm else out), weights


class PixelWordFusion(nn.Module):
    """LAVT's pixel–word attention module (PWAM): GELU(1×1(GELU(1×1(V)) ⊙ attention(V, words)))."""

    def __init__(
        self, channels: int, text_channels: int, num_heads: int = 1, dropout: float = 0.0, use_norm: bool = True
    ) -> None:
        super().__init__()
        self.attention = PixelWordAttention(channels, text_channels, num_heads=num_heads, use_norm=use_norm)
        self.visual = PointwiseConv(channels, channels)
        self.output = PointwiseConv(channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, pixels: Tensor, text: TextFeatures) -> tuple[Tensor, Tensor]:
        """Fuse pixels (B, N, C) with the words; returns (B, N, C) and the attention's weights (B, heads, N, L)."""
        visual = self.dropout(F.gelu(self.visual(pixels)))
        attended, weights = self.attention(pixels, text)
        return self.dropout(F.gelu(self.output(visual * attended))), weights


class LanguageGate(nn.Module):
    """Linear–ReLU–Linear–Tanh without biases; returns gate ⊙ input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(channels, channels, bias=False)
        self.expand = nn.Linear(channels, channels, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Gate (B, N, C)."""
        return self.expand(self.reduce(tokens).relu()).tanh() * tokens


class LAVTStageFusion(nn.Module):
    """Fusion after the blocks of a stage.

    Args:
        config: The model's configuration.
        stage: Index of the stage, 0 to 3. The last stage's gate would feed nothing and is not built.
        channels: Width of the stage.
    """

    def __init__(self, config: LAVTConfig, stage: int, channels: int) -> None:
        super().__init__()
        self.context = PixelWordFusion(
            channels,
            config.text_config.hidden_size,
            num_heads=config.fusion_num_heads[stage],
            dropout=config.fusion_dropout,
        )
        self.gate = LanguageGate(channels) if stage < 3 else None
        self.norm = nn.LayerNorm(channels)

    def forward(
        self, pixels: Tensor, text: tuple[TextFeatures, ...], size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Fuse (B, N, C) with the expression.

        Returns:
            The next stage's input and the decoder's, both (B, N, C), and the attention's weights (B, heads, N, L).
        """
        fused, weights = self.context(pixels, text[0])
        if self.gate is not None:
            pixels = pixels + self.gate(fused)
        return pixels, self.norm(fused), weights


class SwinVisionEncoder(nn.Module):
    """timm's Swin Transformer, stage by stage, for any image size.

    Windows keep their size on small maps, and maps are padded at the right and the bottom before the cyclic shift, as
    in the published detection and segmentation Swin; timm shifts first, which gives other numbers where a map is no
    multiple of the window. The padding is attended to in unshifted windows, as published.
    """

    def __init__(self, config: LAVTConfig) -> None:
        super().__init__()
        swin = build_swin(config)
        self.patch_embed = swin.patch_embed
        self.layers = swin.layers
        self.channels = [info["num_chs"] for info in swin.feature_info]
        self.patch_size = swin.patch_embed.patch_size
        self.gradient_checkpointing = False

    def embed(self, pixel_values: Tensor) -> Tensor:
        """Patches (B, h, w, C) of an image (B, 3, H, W), padded with zeros to a multiple of the patch."""
        height, width = pixel_values.shape[-2:]
        pad = (0, -width % self.patch_size[1], 0, -height % self.patch_size[0])
        return self.patch_embed(F.pad(pixel_values, pad))

    def forward_stage(self, stage: int, feature_map: Tensor) -> Tensor:
        """Patch merging (from the second stage on) and the blocks of a stage, (B, h, w, C) to (B, h', w', C')."""
        layer = self.layers[stage]
        feature_map = layer.downsample(feature_map)
        shift_mask = None
        for block in layer.blocks:
            if any(block.shift_size) and shift_mask is None:
                shift_mask = self._shift_mask(block, feature_map)
            mask = shift_mask if any(block.shift_size) else None
            if self.gradient_checkpointing and self.training:
                feature_map = self._gradient_checkpointing_func(self._block, block, feature_map, mask)
            else:
                feature_map = self._block(block, feature_map, mask)
        return feature_map

    @staticmethod
    def _shift_mask(block: nn.Module, feature_map: Tensor) -> Tensor:
        """−100 between pixels of a shifted window that were not neighbours: (windows, 1, area, area)."""
        regions = []
        for size, window, shift in zip(feature_map.shape[1:3], block.window_size, block.shift_size, strict=True):
            padded = size + (-size % window)
            position = torch.arange(padded, device=feature_map.device)
            regions.append((position >= padded - window).long() + (position >= padded - shift).long())
        region = regions[0][:, None] * 3 + regions[1][None, :]
        windows = partition_windows(region[None, :, :, None], block.window_size).flatten(1)
        different = windows[:, None, :] != windows[:, :, None]
        return (different.to(feature_map.dtype) * -100.0).unsqueeze(1)

    @staticmethod
    def _block(block: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
        """One Swin block on (B, h, w, C)."""
        x = x + block.drop_path1(window_attention(block, block.norm1(x), mask))
        return x + block.drop_path2(block.mlp(block.norm2(x)))


def build_swin(config: LAVTConfig, pretrained: bool = False) -> nn.Module:
    """Timm's Swin for a configuration; with `pretrained`, with timm's weights for that name."""
    if not config.backbone.startswith("swin_") or not timm.is_model(config.backbone.split(".")[0]):
        raise ValueError(
            f"`backbone` must name a Swin Transformer of timm, got {config.backbone!r}; `timm.list_models('swin_*')` "
            "lists them."
        )
    kwargs = {"img_size": config.image_size, **config.backbone_kwargs}
    return timm.create_model(
        config.backbone, pretrained=pretrained, num_classes=0, strict_img_size=False, always_partition=True, **kwargs
    )


def partition_windows(x: Tensor, window: tuple[int, int]) -> Tensor:
    """(B, h, w, C), h and w multiples of the window, to (B · windows, area, C)."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // window[0], window[0], width // window[1], window[1], channels)
    return x.transpose(2, 3).reshape(-1, window[0] * window[1], channels)


def merge_windows(windows: Tensor, window: tuple[int, int], height: int, width: int) -> Tensor:
    """Inverse of [`partition_windows`]: (B · windows, area, C) to (B, height, width, C)."""
    channels = windows.shape[-1]
    x = windows.view(-1, height // window[0], width // window[1], window[0], window[1], channels)
    return x.transpose(2, 3).reshape(-1, height, width, channels)


def window_attention(block: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    """(Shifted-)window attention of a timm Swin block on normalised (B, h, w, C)."""
    attention = block.attn
    height, width = x.shape[1:3]
    window = attention.window_size
    x = F.pad(x, (0, 0, 0, -width % window[1], 0, -height % window[0]))
    padded_height, padded_width = x.shape[1:3]
    if mask is not None:
        x = torch.roll(x, shifts=(-block.shift_size[0], -block.shift_size[1]), dims=(1, 2))
    windows = partition_windows(x, window)
    query, key, value = (
        attention.qkv(windows).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    )
    area = window[0] * window[1]
    bias = attention.relative_position_bias_table[attention.relative_position_index.flatten()]
    bias = bias.view(area, area, -1).permute(2, 0, 1).to(query.dtype)
    if mask is not None:  # (windows, heads, area, area), repeated over the batch
        bias = (bias + mask.to(bias.dtype)).repeat(query.shape[0] // mask.shape[0], 1, 1, 1)
    weights = ((query * attention.scale) @ key.transpose(-1, -2) + bias).softmax(-1).to(value.dtype)
    out = (attention.attn_drop(weights) @ value).transpose(1, 2).flatten(2)
    out = attention.proj_drop(attention.proj(out))
    x = merge_windows(out, window, padded_height, padded_width)
    if mask is not None:
        x = torch.roll(x, shifts=(block.shift_size[0], block.shift_size[1]), dims=(1, 2))
    return x[:, :height, :width]


class ConvBlock(nn.Module):
    """Two times 3×3 convolution without bias, BatchNorm and ReLU: (B, C_in, h, w) to (B, C_out, h, w)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply both convolutions."""
        x = self.norm1(self.conv1(x)).relu()
        return self.norm2(self.conv2(x)).relu()


class SegmentationDecoder(nn.Module):
    """Top-down decoder: upsample, concatenate with the next finer stage, [`ConvBlock`]; three times.

    Args:
        channels: Widths of the four stages, finest first.
        hidden_size: Width of the decoder.
    """

    def __init__(self, channels: list[int], hidden_size: int) -> None:
        super().__init__()
        tops = [hidden_size, hidden_size, channels[3]]
        self.blocks = nn.ModuleList([ConvBlock(tops[i] + channels[i], hidden_size) for i in range(3)])

    def forward(self, features: list[Tensor]) -> Tensor:
        """Stage maps (B, C_i, h_i, w_i), finest first, to (B, hidden_size, h_1, w_1)."""
        x = features[3]
        for i in (2, 1, 0):
            x = F.interpolate(x, size=features[i].shape[-2:], mode="bilinear", align_corners=True)
            x = self.blocks[i](torch.cat([x, features[i]], dim=1))
        return x


class LAVTPreTrainedModel(PreTrainedModel):
    """Weight initialisation and library behaviour of the three models."""

    config_class = LAVTConfig
    base_model_prefix = "rrsis"
    main_input_name = "pixel_values"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["SwinTransformerBlock", "ConvBlock", "BertEmbeddings", "BertLayer"]  # noqa: RUF012

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        """The implementation is BERT's alone; transformers would guess from the names of the classes in this file."""
        return True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """As published: linear layers truncated normal, convolutions (1×1 ones on tokens too) PyTorch's default."""
        if isinstance(module, (nn.Conv2d, PointwiseConv)):
            bound = module.weight[0].numel() ** -0.5
            init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, nn.Linear):
            init.trunc_normal_(module.weight, std=self.config.initializer_range)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif hasattr(module, "relative_position_bias_table"):
            init.trunc_normal_(module.relative_position_bias_table, std=0.02)
        else:
            super()._init_weights(module)
        # from_pretrained builds on the meta device and leaves buffers that are not saved as uninitialised memory.
        if hasattr(module, "init_non_persistent_buffers"):
            module.init_non_persistent_buffers()


class LAVTForReferringSegmentation(LAVTPreTrainedModel):
    """LAVT with a one-channel head.

    ```text
    expression (B, L) ── BERT ── words (B, L, D) ──┬─────────────┬─────────────┬─────────────┐
                                                   │             │             │             │
    image (B, 3, H, W) ── patches ── stage 1 ── fusion ── 2 ── fusion ── 3 ── fusion ── 4 ── fusion
                                                   │ H/4         │ H/8         │ H/16        │ H/32
                                                   └──────┐      └──────┐      └──────┐      │
                                         logits ── block ─┴──── block ──┴──── block ──┴──────┘
                                        (B, H, W)  H/4 (B, 4·embed_dim, h, w)
    ```

    Subclasses override `stage_fusion_class`, [`encode_text`] and [`predict`], and their loss.
    """

    stage_fusion_class: type[nn.Module] = LAVTStageFusion
    has_conv_head = True

    def __init__(self, config: LAVTConfig) -> None:
        super().__init__(config)
        self.vision = SwinVisionEncoder(config)
        self.text_encoder = BertModel(config.text_config, add_pooling_layer=False)
        channels = self.vision.channels
        self.fusion = nn.ModuleList(
            [self.stage_fusion_class(config, stage=i, channels=width) for i, width in enumerate(channels)]
        )
        self.hidden_size = config.decoder_hidden_size or 4 * channels[0]
        self.decoder = SegmentationDecoder(channels, self.hidden_size)
        self.build_head()
        self.post_init()

    def build_head(self) -> None:
        """Build what follows the stages besides the decoder: here a 1×1 kernel, the log-odds of target and rest."""
        self.head = nn.Conv2d(self.hidden_size, 1, kernel_size=1)

    def get_input_embeddings(self) -> nn.Module:
        """Word embeddings of the text encoder."""
        return self.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word embeddings of the text encoder."""
        self.text_encoder.set_input_embeddings(value)

    def encode_text(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        ground_object_mask: Tensor | None,
        spatial_position_mask: Tensor | None,
    ) -> tuple[TextFeatures, ...]:
        """Words of the expression; LAVT reads it once and ignores the last two masks."""
        words = self.text_encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return (TextFeatures(words, attention_mask),)

    def encode_image(self, pixel_values: Tensor, text: tuple[TextFeatures, ...]) -> list[StageState]:
        """The four stages of the image (B, 3, H, W), the expression fused into each."""
        stages = []
        x = self.vision.embed(pixel_values)
        for i, fusion in enumerate(self.fusion):
            x = self.vision.forward_stage(i, x)
            size = (x.shape[1], x.shape[2])
            tokens, output, attention = fusion(x.flatten(1, 2), text, size)
            x = tokens.unflatten(1, size)
            stages.append(StageState(output, size, attention))
        return stages

    def predict(self, features: list[Tensor], text: tuple[TextFeatures, ...]) -> Tensor:
        """Log-odds (B, h, w) at a quarter of the image's size from the stage maps (B, C_i, h_i, w_i)."""
        return self.head(self.decoder(features)).squeeze(1)

    def compute_loss(
        self, logits: Tensor, labels: Tensor, stages: list[StageState], text: tuple[TextFeatures, ...]
    ) -> dict[str, Tensor]:
        """Parts of the loss; `"loss"` is their weighted sum. Here: weighted cross-entropy."""
        return {"loss": weighted_cross_entropy(logits, labels, class_weights=self.config.class_weights)}

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        ground_object_mask: Tensor | None = None,
        spatial_position_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | Sequence[int] | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> ReferringSegmentationOutput | tuple[Tensor, ...]:
        """Segment what the expression refers to.

        Args:
            pixel_values: Images normalised with ImageNet's mean and deviation, float (B, 3, H, W), H and W ≥ 32.
            input_ids: Token indices, int (B, L).
            attention_mask: 1 for tokens of the expression, 0 for padding, int (B, L); all ones if absent.
            ground_object_mask: 1 for tokens of the ground object, int (B, L); FIANet only, otherwise ignored.
            spatial_position_mask: 1 for tokens of the spatial position, int (B, L); FIANet only, otherwise ignored.
            labels: int (B, H, W), 0 background, 1 target, 255 ignored.
            output_attentions: Return the weights of the pixel–word attention of the four stages.
            output_hidden_states: Return the outputs of the four stages, or of those with the given indices.
            return_dict: Return a [`ReferringSegmentationOutput`] (default) instead of a tuple.
            kwargs: Ignored, so that `Trainer` may hand over its bookkeeping.

        Raises:
            ValueError: If shapes do not fit each other, or there is no stage of a given index.
        """
        check_inputs(pixel_values, input_ids)
        masks = (attention_mask, ground_object_mask, spatial_position_mask)
        check_text(input_ids, masks, limit=self.config.text_config.max_position_embeddings)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        # Step 1: words of the expression (B, L, D), once for each reading of it
        text = self.encode_text(input_ids, attention_mask, ground_object_mask, spatial_position_mask)
        # Step 2: image stages with the expression fused into each
        stages = self.encode_image(pixel_values.to(self.dtype), text)
        features = [tokens_to_map(stage.output, stage.size) for stage in stages]
        # Step 3: log-odds at a quarter of the size, upsampled to the image
        logits = self.predict(features, text).unsqueeze(1)
        logits = F.interpolate(logits, size=pixel_values.shape[-2:], mode="bilinear", align_corners=True).squeeze(1)
        # Step 4: loss in float32 at least
        losses: dict[str, Tensor] = {}
        if labels is not None:
            check_labels(logits, labels)
            wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
            losses = self.compute_loss(wide, labels, stages, text)
        loss = losses.pop("loss", None)
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        output = ReferringSegmentationOutput(
            loss=loss,
            logits=logits,
            hidden_states=select_states(features, output_hidden_states),
            attentions=tuple(stage.attention for stage in stages) if output_attentions else None,
            loss_dict={name: part.detach() for name, part in losses.items()} or None,
        )
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    @classmethod
    def from_backbones(
        cls, config: LAVTConfig | None = None, vision: str | None = None, text: str | None = "bert-base-uncased"
    ) -> LAVTForReferringSegmentation:
        """A model whose Swin and BERT are pretrained and whose other layers are new.

        Args:
            config: Configuration; the class's default (Swin-B, BERT-base) if absent. BERT's own configuration
                replaces its `text_config`.
            vision: timm's name of the pretrained Swin, such as `"swin_base_patch4_window12_384.ms_in22k"`, or a file
                with a timm state dictionary. The default is the configuration's `backbone` with ImageNet-22k weights.
            text: Name on the Hub or local folder of a BERT.

        Raises:
            OSError: If the weights can't be had; the message says how to get them.
        """
        config = config if config is not None else cls.config_class()
        vision = vision or f"{config.backbone}.ms_in22k"
        try:
            bert = BertModel.from_pretrained(text, add_pooling_layer=False)
            config.text_config = bert.config
            swin_state = load_swin_state(config, vision)
        except Exception as error:
            raise OSError(
                f"Pretrained weights could not be loaded (vision={vision!r}, text={text!r}): {error}\nOnline, they "
                "come from the Hub. Offline, download them once elsewhere and give local paths: `vision=` a file with "
                "the timm Swin's weights, `text=` a folder with BERT's config.json and model.safetensors. "
                f"`{cls.__name__}(config)` starts from random weights."
            ) from error
        model = cls(config)
        model.vision.load_state_dict(swin_state)
        model.text_encoder.load_state_dict(bert.state_dict())
        return model


def check_inputs(pixel_values: Tensor, input_ids: Tensor) -> None:
    """Raise a `ValueError` unless images are (B, 3, H, W) with H, W ≥ 32 and token indices (B, L)."""
    if pixel_values.ndim != 4 or pixel_values.shape[1] != 3 or min(pixel_values.shape[-2:]) < MIN_IMAGE_SIZE:
        raise ValueError(
            f"`pixel_values` must be (batch, 3, height, width) with height and width of at least {MIN_IMAGE_SIZE}, "
            f"got {tuple(pixel_values.shape)}. The processor makes it from an image: `processor(images=, text=)`."
        )
    if input_ids.ndim != 2 or input_ids.shape[0] != pixel_values.shape[0]:
        raise ValueError(
            f"`input_ids` must be (batch, length) with one expression per image, here ({pixel_values.shape[0]}, "
            f"length), got {tuple(input_ids.shape)}. Repeat the image for several expressions on it."
        )


def check_text(input_ids: Tensor, masks: tuple[Tensor | None, ...], limit: int) -> None:
    """Raise a `ValueError` unless masks have the shape of the indices and the expression fits the text encoder."""
    if input_ids.shape[1] > limit:
        raise ValueError(
            f"`input_ids` may hold at most {limit} tokens, the text encoder's positions, got {input_ids.shape[1]}. "
            "The processor's `max_length` cuts longer expressions."
        )
    for mask in masks:
        if mask is not None and mask.shape != input_ids.shape:
            raise ValueError(
                f"Masks of the text must have the shape of `input_ids`, here {tuple(input_ids.shape)}, got "
                f"{tuple(mask.shape)}. The processor makes all of them together."
            )


def select_states(states: list[Tensor], wanted: bool | Sequence[int]) -> tuple[Tensor | None, ...] | None:
    """All states or none of them; with indices (negative from the end), `None` in place of each other state."""
    if isinstance(wanted, bool):
        return tuple(states) if wanted else None
    outside = [index for index in wanted if not -len(states) <= index < len(states)]
    if outside:
        raise ValueError(
            f"`output_hidden_states` must be a bool or indices of {len(states)} stages, from {-len(states)} to "
            f"{len(states) - 1}, got {outside}."
        )
    chosen = {index % len(states) for index in wanted}
    return tuple(state if index in chosen else None for index, state in enumerate(states))


def load_swin_state(config: LAVTConfig, vision: str) -> dict[str, Tensor]:
    """State dictionary for [`SwinVisionEncoder`] from timm's Hub weights or from a file in timm's layout."""
    if os.path.exists(vision):
        swin = build_swin(config)
        missing = timm.models.load_checkpoint(swin, vision, strict=False).missing_keys
        missing = [key for key in missing if key.startswith(("patch_embed.", "layers."))]
        if missing:
            raise ValueError(
                f"{vision} lacks {len(missing)} of the weights of {config.backbone} in timm's layout, first "
                f"{missing[:3]}. `python -m modeling_rrsis.convert --arch swin` makes one from the published file"
            )
    else:
        named = type(config)(**{**config.to_dict(), "backbone": vision})
        swin = build_swin(named, pretrained=True)
    state = swin.state_dict()
    return {key: value for key, value in state.items() if key.startswith(("patch_embed.", "layers."))}
