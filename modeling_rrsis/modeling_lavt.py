"""LAVT, the base of DANet and FIANet: a Swin Transformer with the expression fused into each of its stages.

Yang et al., "LAVT: Language-Aware Vision Transformer for Referring Image Segmentation", CVPR 2022, as the two papers
of this package use it. Written from the papers; the parameters are laid out for timm's Swin and transformers' BERT.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Self, cast

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import WindowAttention, get_relative_position_index
from torch import Tensor, nn
from transformers import BertConfig, BertModel, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput, can_return_tuple

from .alignment_rrsis import (
    BatchNorm2d,
    LanguageGate,
    PixelWordFusion,
    PointwiseConv,
    TextFeatures,
    tokens_to_map,
    upsample,
)
from .configuration_rrsis import LAVTConfig
from .loss_rrsis import BatchPart, check_labels, weighted_cross_entropy
from .swin_rrsis import SwinVisionEncoder, load_swin_state

MIN_IMAGE_SIZE = 32
# How `transformers.pipeline` finds the task; "pt" names the Auto class that it loads the model with.
PIPELINE = {"impl": "pipeline_rrsis.ReferringSegmentationPipeline", "pt": ["AutoModel"], "type": "multimodal"}


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

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: tuple[Tensor | None, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    loss_dict: dict[str, Tensor] | None = None


class StageState(NamedTuple):
    """A stage after its fusion: `output` (B, N, C) for the decoder, `size` its (height, width), pixel–word weights."""

    output: Tensor
    size: tuple[int, int]
    attention: Tensor


class LAVTStageFusion(GradientCheckpointingLayer):
    """Fusion after the blocks of a stage.

    Args:
        config: The model's configuration.
        stage: Index of the stage, 0 to 3. The last stage's gate would feed nothing and is not built.
        channels: Width of the stage.
    """

    def __init__(self, config: LAVTConfig, stage: int, channels: int) -> None:
        super().__init__()
        self.context = PixelWordFusion(config, channels, num_heads=config.fusion_num_heads[stage])
        self.gate = LanguageGate(channels) if stage < 3 else None
        self.norm = nn.LayerNorm(channels)

    def forward(
        self, pixels: Tensor, words: Tensor, mask: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Fuse pixels (B, N, C) of a map of `size` with readings of the expression, as of [`TextFeatures`].

        Returns:
            The next stage's input and the decoder's, both (B, N, C), and the attention's weights (B, heads, N, L).
        """
        fused, weights = self.context(pixels, words[0], mask[0])
        if self.gate is not None:
            pixels = pixels + self.gate(fused)
        return pixels, self.norm(fused), weights


class ConvBlock(nn.Module):
    """A step of the decoder: upsample, concatenate with the finer stage, two times 3×3 convolution, BatchNorm, ReLU.

    Args:
        top_channels: Width of the coarser map.
        stage_channels: Width of the finer stage.
        out_channels: Width of the output.
    """

    _gradient_checkpointing_func: Callable[..., Tensor]  # transformers sets both
    gradient_checkpointing = False

    def __init__(self, top_channels: int, stage_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(top_channels + stage_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.norm1 = BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.norm2 = BatchNorm2d(out_channels)

    def forward(self, top: Tensor, stage: Tensor) -> Tensor:
        """Coarser map (B, C_top, h', w') and stage (B, C_stage, h, w) to (B, C_out, h, w)."""
        merge: Callable[..., Tensor] = self.merge
        if self.gradient_checkpointing and self.training:
            # The widest map is made again, and no more: a BatchNorm that is made again counts its batch twice.
            merge = partial(self._gradient_checkpointing_func, self.merge)
        x = F.relu(self.norm1(merge(top, stage)), inplace=True)
        return F.relu(self.norm2(self.conv2(x)), inplace=True)

    def merge(self, top: Tensor, stage: Tensor) -> Tensor:
        """The first convolution, on the upsampled map beside the stage."""
        top = upsample(top, (stage.shape[-2], stage.shape[-1]), align_corners=True)
        return self.conv1(torch.cat([top, stage], dim=1))


class SegmentationDecoder(nn.Module):
    """Top-down decoder: a [`ConvBlock`] for each of the three finer stages.

    Args:
        channels: Widths of the four stages, finest first.
        hidden_size: Width of the decoder.
    """

    def __init__(self, channels: list[int], hidden_size: int) -> None:
        super().__init__()
        tops = [hidden_size, hidden_size, channels[3]]
        self.blocks = nn.ModuleList([ConvBlock(tops[i], channels[i], hidden_size) for i in range(3)])

    def forward(self, features: list[Tensor]) -> Tensor:
        """Stage maps (B, C_i, h_i, w_i), finest first, to (B, hidden_size, h_1, w_1)."""
        x = features[3]
        for i in (2, 1, 0):
            x = self.blocks[i](x, features[i])
        return x


class LAVTPreTrainedModel(PreTrainedModel):
    """Weight initialisation and library behaviour of the models."""

    config: LAVTConfig
    config_class: type[LAVTConfig] = LAVTConfig
    base_model_prefix = "rrsis"
    main_input_name = "pixel_values"
    input_modalities = ["image", "text"]  # noqa: RUF012 - the form that transformers annotates
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # the loss is a mean over the batch: `Trainer` divides it by the accumulation steps
    _supports_sdpa = True
    # Layers that add up or multiply what their parts return, which must therefore lie on one device.
    _no_split_modules = ["SwinBlock", "LAVTStageFusion", "ConvBlock"]  # noqa: RUF012

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
        elif isinstance(module, WindowAttention):
            init.trunc_normal_(module.relative_position_bias_table, std=0.02)
            # from_pretrained leaves buffers that are not saved, such as this index, as uninitialised memory.
            init.copy_(cast(Tensor, module.relative_position_index), get_relative_position_index(*module.window_size))
        else:
            super()._init_weights(module)

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:  # type: ignore[override]
        """Save as transformers does, with a second Auto class and the pipeline, whose file the processor brings."""
        reference = f"{type(self).__module__.rsplit('.', 1)[-1]}.{type(self).__name__}"
        known = getattr(self.config, "auto_map", None) or {}
        self.config.auto_map = {**known, "AutoModelForImageSegmentation": reference}
        self.config.custom_pipelines = {"referring-image-segmentation": PIPELINE}
        super().save_pretrained(save_directory, **kwargs)


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

    Each `fusion` hands V_i + gate(F_i) ⊙ F_i to the next stage and LayerNorm(F_i) downwards, F_i = PWAM(V_i, words).

    Deviations from the published LAVT, none of which changes a number:

    | published | here |
    |---|---|
    | two logits [background, target] | one, their difference: the log-odds, softmax becomes sigmoid |
    | the last stage's gate, which feeds nothing | not built |
    | BERT's pooler, which nothing reads | not built |
    | 1×1 convolutions on pixels and words | linear layers on tokens (B, N, C) |
    | squares of the trained size | any H, W ≥ 32; windows keep their size, maps are padded before the shift |

    Subclasses override `stage_fusion_class`, [`encode_text`], [`predict`], and their head and loss.

    Example:
        >>> import torch
        >>> from modeling_rrsis import LAVTConfig, LAVTForReferringSegmentation
        >>> small = {"backbone": "swin_tiny_patch4_window7_224", "text_config": {"num_hidden_layers": 1}}
        >>> model = LAVTForReferringSegmentation(LAVTConfig(**small)).eval()  # LAVTConfig() is the published size
        >>> pixel_values, input_ids = torch.randn(2, 3, 96, 128), torch.tensor([[2, 8, 3], [2, 9, 3]])
        >>> outputs = model(pixel_values, input_ids, labels=torch.zeros(2, 96, 128, dtype=torch.long))
        >>> outputs.logits.shape, outputs.loss.shape
        (torch.Size([2, 96, 128]), torch.Size([]))
    """

    stage_fusion_class: type[nn.Module] = LAVTStageFusion

    def __init__(self, config: LAVTConfig) -> None:
        super().__init__(config)
        self.vision = SwinVisionEncoder(config)
        self.text_encoder = BertModel(cast(BertConfig, config.text_config), add_pooling_layer=False)
        channels = self.vision.channels
        self.fusion = nn.ModuleList(
            [self.stage_fusion_class(config, stage=i, channels=width) for i, width in enumerate(channels)]
        )
        self.hidden_size = config.decoder_hidden_size or 4 * channels[0]
        self.decoder = SegmentationDecoder(channels, self.hidden_size)
        self.build_head()
        built = {type(module).__name__ for module in self.modules()}  # FSDP refuses a name that it does not find
        self._no_split_modules = [name for name in self._no_split_modules if name in built]
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
        ground_object_mask: Tensor | None = None,
        spatial_position_mask: Tensor | None = None,
    ) -> TextFeatures:
        """Words of the expressions; LAVT reads them once and ignores the last two masks."""
        words = self.text_encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return TextFeatures(words[None], attention_mask[None])

    def encode_image(self, pixel_values: Tensor, text: TextFeatures) -> list[StageState]:
        """The four stages of images (B, 3, H, W), the expressions fused into each."""
        stages = []
        x = self.vision.embed(pixel_values)
        for blocks, fusion in zip(self.vision.layers, self.fusion, strict=True):
            x = blocks(x)  # patch merging and the blocks of the stage, (B, h, w, C)
            size = (x.shape[1], x.shape[2])
            tokens, output, attention = fusion(x.flatten(1, 2), text.words, text.mask, size)
            x = tokens.unflatten(1, size)
            stages.append(StageState(output, size, attention))
        return stages

    def predict(self, features: list[Tensor], text: TextFeatures) -> Tensor:
        """Log-odds (B, h, w) at a quarter of the image's size from the stage maps (B, C_i, h_i, w_i)."""
        return self.head(self.decoder(features)).squeeze(1)

    def compute_loss(
        self, logits: Tensor, labels: Tensor, stages: list[StageState], text: TextFeatures, part: BatchPart
    ) -> dict[str, Tensor]:
        """Parts of the loss; `"loss"` is their weighted sum. Here: weighted cross-entropy."""
        return {"loss": weighted_cross_entropy(logits, labels, class_weights=self.config.class_weights, part=part)}

    @can_return_tuple
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
        batch_part: BatchPart | None = None,
    ) -> ReferringSegmentationOutput:
        """Segment what the expressions refer to.

        Either there are as many images as expressions, or one of the two is a single one that goes with all of the
        others; what can be computed of it alone is then computed once.

        Args:
            pixel_values: Images normalised with ImageNet's mean and deviation, float (B, 3, H, W), H and W ≥ 32.
            input_ids: Token indices, int (B, L).
            attention_mask: 1 for tokens of the expression, 0 for padding, int (B, L); all ones if absent.
            ground_object_mask: 1 for tokens of the ground object, int (B, L); FIANet only, otherwise ignored.
            spatial_position_mask: 1 for tokens of the spatial position, int (B, L); FIANet only, otherwise ignored.
            labels: int (B, H, W), 0 background, 1 target, 255 ignored.
            output_attentions: Return the weights of the pixel–word attention of the four stages.
            output_hidden_states: Return the outputs of the four stages, or of those with the given indices.
            batch_part: Which part of a larger batch this is, see [`BatchPart`]; by default the whole of one.

        `return_dict=False` gives a tuple instead of a [`ReferringSegmentationOutput`].

        Raises:
            ValueError: If shapes do not fit each other, there is no stage of a given index, or labels hold other
                values than 0, 1 and 255.
        """
        if not torch.compiler.is_compiling():  # a graph has no values to look at; what it computes is the same
            limit = self.config.get_text_config().max_position_embeddings
            masks = (attention_mask, ground_object_mask, spatial_position_mask)
            check_inputs(pixel_values, input_ids, masks=masks, labels=labels, limit=limit)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        # Step 1: words of the expressions (R, B, L, D), once for each of R readings
        text = self.encode_text(input_ids, attention_mask, ground_object_mask, spatial_position_mask)
        # Step 2: image stages with the expressions fused into each
        stages = self.encode_image(pixel_values.to(self.dtype), text)
        features = [tokens_to_map(stage.output, stage.size) for stage in stages]
        # Step 3: log-odds at a quarter of the size, upsampled to the image
        size = (pixel_values.shape[-2], pixel_values.shape[-1])
        logits = upsample(self.predict(features, text).unsqueeze(1), size, align_corners=True).squeeze(1)
        # Step 4: loss in float32 at least
        losses: dict[str, Tensor] = {}
        if labels is not None:
            wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
            losses = self.compute_loss(wide, labels.to(wide.device), stages, text, batch_part or BatchPart())
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states or False
        return ReferringSegmentationOutput(
            loss=losses.pop("loss", None),
            logits=logits,
            hidden_states=select_states(features, output_hidden_states),
            attentions=tuple(stage.attention for stage in stages) if output_attentions else None,
            loss_dict={name: part.detach() for name, part in losses.items()} or None,
        )

    @classmethod
    def from_backbones(
        cls, config: LAVTConfig | None = None, vision: str | None = None, text: str | None = "bert-base-uncased"
    ) -> Self:
        """A model whose Swin and BERT are pretrained and whose other layers are new.

        Args:
            config: Configuration; the class's default (Swin-B, BERT-base) if absent. BERT's own configuration
                replaces its `text_config` in a copy.
            vision: timm's name of the pretrained Swin, such as `"swin_base_patch4_window12_384.ms_in22k"`, or a file
                with a timm state dictionary. The default is the configuration's `backbone` with ImageNet-22k weights.
            text: Name on the Hub or local folder of a BERT.

        Raises:
            OSError: If the weights can't be had; the message says how to get them.
            ValueError: If `vision` names no Swin, or its file lacks weights of it.
        """
        config = copy.deepcopy(config) if config is not None else cls.config_class()
        vision = vision or f"{config.backbone}.ms_in22k"
        try:
            bert = BertModel.from_pretrained(text, add_pooling_layer=False)
            config.text_config = bert.config
            swin_state = load_swin_state(config, vision)
        except OSError as error:
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


def check_inputs(
    pixel_values: Tensor, input_ids: Tensor, *, masks: Sequence[Tensor | None], labels: Tensor | None, limit: int
) -> None:
    """Raise a `ValueError` unless the inputs of `forward` fit each other; the text encoder reads `limit` tokens."""
    if pixel_values.ndim != 4 or pixel_values.shape[1] != 3 or min(pixel_values.shape[-2:]) < MIN_IMAGE_SIZE:
        raise ValueError(
            f"`pixel_values` must be (batch, 3, height, width) with height and width of at least {MIN_IMAGE_SIZE}, "
            f"got {tuple(pixel_values.shape)}. The processor makes it from an image: `processor(images=, text=)`."
        )
    if input_ids.ndim != 2:
        raise ValueError(f"`input_ids` must be (batch, length), got {tuple(input_ids.shape)}.")
    num_images, num_expressions = len(pixel_values), len(input_ids)
    if not (num_images and input_ids.numel()):
        raise ValueError(
            "expected at least one image and one expression of a token, got "
            f"`pixel_values` {tuple(pixel_values.shape)} and `input_ids` {tuple(input_ids.shape)}."
        )
    if num_images != num_expressions and 1 not in (num_images, num_expressions):
        raise ValueError(
            "expected one expression per image, several expressions on one image or one expression for several "
            f"images, got `pixel_values` of {num_images} images and `input_ids` of {num_expressions} expressions."
        )
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
    if labels is not None:
        check_labels(labels, shape=(max(num_images, num_expressions), *pixel_values.shape[-2:]))


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
