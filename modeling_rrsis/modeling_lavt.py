"""LAVT, the base of DANet and FIANet: a Swin Transformer with the expression fused into each of its stages.

Yang et al., "LAVT: Language-Aware Vision Transformer for Referring Image Segmentation", CVPR 2022, as the two papers
of this package use it. Written from the papers; the parameters are laid out for timm's Swin and transformers' BERT.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import WindowAttention
from torch import Tensor, nn
from transformers import BertModel, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput

from .alignment_rrsis import LanguageGate, PixelWordFusion, PointwiseConv, TextFeatures, tokens_to_map
from .configuration_rrsis import LAVTConfig
from .convolution_rrsis import conv3x3, conv3x3_of_norm, conv_of_upsampled
from .inputs_rrsis import check_given_once, check_images, check_pairs, check_text, select_states
from .loss_rrsis import BatchPart, check_label_values, check_labels, weighted_cross_entropy
from .shortcuts_rrsis import WIDE, is_eager_cpu, is_plain, is_plain_conv3x3, treats_rows_alike
from .swin_rrsis import SwinVisionEncoder, load_swin_state

# How `transformers.pipeline` finds the task; "pt" names the Auto class that it loads the model with.
PIPELINES = {
    "referring-image-segmentation": {
        "impl": "pipeline_rrsis.ReferringSegmentationPipeline",
        "pt": ["AutoModel"],
        "type": "multimodal",
    }
}
NUMBERS_AT_A_TIME = 2**23  # of the decoder's widest map, 32 MiB in float32: beyond, memory is slower than arithmetic


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


def join_outputs(parts: list[ReferringSegmentationOutput]) -> ReferringSegmentationOutput:
    """One output of the outputs of a batch's parts, without losses."""

    def join(states: Sequence[Any]) -> Any:
        if states[0] is None:
            return None
        return (
            torch.cat(list(states)) if isinstance(states[0], Tensor) else tuple(map(join, zip(*states, strict=True)))
        )

    names = ("logits", "hidden_states", "attentions")
    return ReferringSegmentationOutput(**{name: join([getattr(part, name) for part in parts]) for name in names})


class ImageFeatures(NamedTuple):
    """What the networks see in images before they read an expression.

    Attributes:
        first_stage: Output of the first stage's blocks, float (B, h, w, C), h and w a quarter of the image's.
        size: Height and width of the images.
    """

    first_stage: Tensor
    size: tuple[int, int]


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


class ConvBlock(nn.Module):
    """A step of the decoder: upsample, concatenate with the finer stage, two times 3×3 convolution, BatchNorm, ReLU.

    Args:
        top_channels: Width of the coarser map.
        stage_channels: Width of the finer stage.
        out_channels: Width of the output.
    """

    def __init__(self, top_channels: int, stage_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(top_channels + stage_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)

    def forward(self, top: Tensor, stage: Tensor) -> Tensor:
        """Coarser map (B, C_top, h', w') and stage (B, C_stage, h, w) to (B, C_out, h, w)."""
        # On a CPU a convolution costs what its multiplications cost, in half precision the interpolation would lose
        # digits, and a compiler or another runtime has its own ways.
        is_wide = stage.dtype in WIDE and not torch.is_autocast_enabled("cpu")
        if is_wide and is_eager_cpu(stage) and is_plain_conv3x3(self.conv1) and is_plain_conv3x3(self.conv2):
            kernels = self.conv1.weight.split([top.shape[1], stage.shape[1]], dim=1)
            size = (stage.shape[-2], stage.shape[-1])
            x = conv_of_upsampled(top, kernels[0], size=size).add_(conv3x3(stage, kernels[1]))
            if is_plain(self.norm1, nn.BatchNorm2d) and self.norm1.training and self.norm1.momentum is not None:
                x = conv3x3_of_norm(self.norm1, x, self.conv2.weight)
            else:
                x = conv3x3(relu_of_norm(self.norm1, x), self.conv2.weight)
        else:
            top = F.interpolate(top, size=stage.shape[-2:], mode="bilinear", align_corners=True)
            x = self.conv2(relu_of_norm(self.norm1, self.conv1(torch.cat([top, stage], dim=1))))
        return relu_of_norm(self.norm2, x)


def relu_of_norm(norm: nn.Module, x: Tensor) -> Tensor:
    """`norm(x).relu()`, in place where nobody else sees the norm's output."""
    normalised = norm(x)
    is_unseen = is_plain(norm, nn.BatchNorm2d) or is_plain(norm, nn.SyncBatchNorm)
    return normalised.relu_() if is_unseen else normalised.relu()


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
    """Weight initialisation and library behaviour of the three models."""

    config: LAVTConfig
    config_class: type[LAVTConfig] = LAVTConfig
    base_model_prefix = "rrsis"
    main_input_name = "pixel_values"
    input_modalities = ["image", "text"]  # noqa: RUF012 - the form that transformers annotates
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    # Not timm's blocks: their parts are called one by one, so a wrapper around a block's forward would never run.
    _no_split_modules = ["ConvBlock", "BertEmbeddings", "BertLayer"]  # noqa: RUF012

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
        else:
            super()._init_weights(module)
        # from_pretrained builds on the meta device and leaves buffers that are not saved as uninitialised memory.
        rebuild_buffers = getattr(module, "init_non_persistent_buffers", None)
        if rebuild_buffers is not None:
            rebuild_buffers()

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:  # type: ignore[override]
        """Save as transformers does; the configuration also names a second Auto class and the pipeline.

        The pipeline's file comes with the processor: save that into the same folder, and `pipeline(...)` works.

        Args:
            save_directory: The folder.
            kwargs: Arguments of `PreTrainedModel.save_pretrained`.
        """
        reference = f"{type(self).__module__.rsplit('.', 1)[-1]}.{type(self).__name__}"
        self.config.auto_map = {
            **(getattr(self.config, "auto_map", None) or {}),
            "AutoModelForImageSegmentation": reference,
        }
        self.config.custom_pipelines = PIPELINES
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

    Subclasses override `stage_fusion_class`, [`read_text`] and [`predict`], and their loss.

    Example:
        >>> import torch
        >>> from modeling_rrsis import LAVTConfig, LAVTForReferringSegmentation

        >>> config = LAVTConfig(  # a small network; LAVTConfig() is the published one
        ...     backbone="swin_tiny_patch4_window7_224",
        ...     backbone_kwargs={"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]},
        ...     text_config={"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
        ... )
        >>> model = LAVTForReferringSegmentation(config).eval()
        >>> pixel_values, input_ids = torch.randn(2, 3, 96, 128), torch.tensor([[2, 8, 3], [2, 9, 3]])
        >>> outputs = model(pixel_values, input_ids, labels=torch.zeros(2, 96, 128, dtype=torch.long))
        >>> outputs.logits.shape, outputs.loss.shape
        (torch.Size([2, 96, 128]), torch.Size([]))
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
        self._has_checked_labels = False
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
        attention_mask: Tensor | None = None,
        ground_object_mask: Tensor | None = None,
        spatial_position_mask: Tensor | None = None,
    ) -> tuple[TextFeatures, ...]:
        """Words of expressions, once for each reading of them; to be used for many images as `text_features`.

        LAVT has one reading and ignores the last two masks. Arguments as of [`forward`].
        """
        masks = (attention_mask, ground_object_mask, spatial_position_mask)
        check_text(input_ids, masks, limit=self.config.text_config.max_position_embeddings)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        return self.read_text(input_ids, attention_mask, ground_object_mask, spatial_position_mask)

    def read_text(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        ground_object_mask: Tensor | None,
        spatial_position_mask: Tensor | None,
    ) -> tuple[TextFeatures, ...]:
        """The readings behind [`encode_text`], of checked arguments."""
        return (TextFeatures(self.encode_words(input_ids, attention_mask), attention_mask),)

    def encode_words(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """BERT's last hidden states (B, L, D); in evaluation on a CPU, rows that are equal are read once."""
        shared = None
        if is_eager_cpu(input_ids) and treats_rows_alike(self.text_encoder):
            rows = [(*ids, *mask) for ids, mask in zip(input_ids.tolist(), attention_mask.tolist(), strict=True)]
            places = {row: place for place, row in enumerate(dict.fromkeys(rows))}
            if len(places) < len(rows):
                kept = [rows.index(row) for row in places]
                input_ids, attention_mask = input_ids[kept], attention_mask[kept]
                shared = [places[row] for row in rows]
        words = self.text_encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return words if shared is None else words[shared]

    def encode_image(self, pixel_values: Tensor) -> ImageFeatures:
        """What can be said of images (B, 3, H, W) without an expression; for many of them as `image_features`."""
        check_images(pixel_values)
        first_stage = self.vision.forward_stage(0, self.vision.embed(pixel_values.to(self.dtype)))
        return ImageFeatures(first_stage, (pixel_values.shape[-2], pixel_values.shape[-1]))

    def split_rows(
        self, image: ImageFeatures, text: tuple[TextFeatures, ...]
    ) -> list[tuple[ImageFeatures, tuple[TextFeatures, ...]]]:
        """Cut a batch into parts whose maps stay in a CPU's cache; elsewhere and where gradients follow, one part.

        In evaluation no row of a batch knows of the others, so the numbers are the same up to rounding. Where a layer
        has a hook, or is in training mode, it gets the whole batch.
        """
        num_images, num_texts = len(image.first_stage), len(text[0].words)
        size = max(num_images, num_texts)
        if is_eager_cpu(image.first_stage) and not torch.is_grad_enabled() and treats_rows_alike(self):
            pixels = image.first_stage.shape[1] * image.first_stage.shape[2]
            size = max(1, NUMBERS_AT_A_TIME // (pixels * self.hidden_size))
        parts = []
        for start in range(0, max(num_images, num_texts), size):
            rows = slice(start, start + size)
            stage = image.first_stage if num_images == 1 else image.first_stage[rows]
            words = text if num_texts == 1 else tuple(TextFeatures(*(part[rows] for part in each)) for each in text)
            parts.append((ImageFeatures(stage, image.size), words))
        return parts

    def fuse(self, image: ImageFeatures, text: tuple[TextFeatures, ...]) -> list[StageState]:
        """The four stages, the expressions fused into each; a single image or expression goes with all others."""
        stages: list[StageState] = []
        x = image.first_stage
        for i, fusion in enumerate(self.fusion):
            if i > 0:
                x = self.vision.forward_stage(i, x)
            size = (x.shape[1], x.shape[2])
            tokens, output, attention = fusion(x.flatten(1, 2), text, size)
            x = tokens.unflatten(1, size)
            stages.append(StageState(output, size, attention))
        return stages

    def predict(self, features: list[Tensor], text: tuple[TextFeatures, ...]) -> Tensor:
        """Log-odds (B, h, w) at a quarter of the image's size from the stage maps (B, C_i, h_i, w_i)."""
        return self.head(self.decoder(features)).squeeze(1)

    def check_first_labels(self, labels: Tensor) -> None:
        """Check the values of the first labels a model is given: to look at them makes the host wait for the device.

        What is wrong with labels is wrong with all of them. In a compiled or exported graph nothing is looked at.
        """
        if not torch.compiler.is_compiling() and not self._has_checked_labels:
            check_label_values(labels)
            self._has_checked_labels = True

    def compute_loss(
        self,
        logits: Tensor,
        labels: Tensor,
        stages: list[StageState],
        text: tuple[TextFeatures, ...],
        part: BatchPart,
    ) -> dict[str, Tensor]:
        """Parts of the loss; `"loss"` is their weighted sum. Here: weighted cross-entropy."""
        return {"loss": weighted_cross_entropy(logits, labels, class_weights=self.config.class_weights, part=part)}

    def forward(
        self,
        pixel_values: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        ground_object_mask: Tensor | None = None,
        spatial_position_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | Sequence[int] | None = None,
        return_dict: bool | None = None,
        pixel_counts: Tensor | None = None,
        num_parts: int = 1,
        image_features: ImageFeatures | None = None,
        text_features: tuple[TextFeatures, ...] | None = None,
        **kwargs: Any,
    ) -> ReferringSegmentationOutput | tuple[Tensor, ...]:
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
            return_dict: Return a [`ReferringSegmentationOutput`] (default) instead of a tuple.
            pixel_counts: Background and target pixels of a whole batch of which this is a part, float (2,); see
                [`BatchPart`]. (Not "label": `Trainer` takes every such argument for one that must come.)
            num_parts: Number of equal parts of that batch; the loss of the whole is the mean over them.
            image_features: What [`encode_image`] made of the images, instead of `pixel_values`.
            text_features: What [`encode_text`] made of the expressions, instead of `input_ids` and the masks.
            kwargs: Ignored, so that `Trainer` may hand over its bookkeeping.

        Raises:
            ValueError: If images or expressions come not at all or twice, shapes do not fit each other, there is no
                stage of a given index, or the first labels hold other values than 0, 1 and 255.
        """
        check_given_once("pixel_values", pixel_values, "image_features", image_features)
        check_given_once("input_ids", input_ids, "text_features", text_features)
        # Step 1: words of the expressions (B, L, D), once for each reading of them
        if text_features is None:
            input_ids = cast(Tensor, input_ids)
            text_features = self.encode_text(input_ids, attention_mask, ground_object_mask, spatial_position_mask)
        # Step 2: image stages with the expressions fused into each
        if image_features is None:
            image_features = self.encode_image(cast(Tensor, pixel_values))
        parts = []
        if not torch.compiler.is_compiling():  # sizes may be symbols there, of which nothing can be said
            check_pairs(len(image_features.first_stage), len(text_features[0].words))
            parts = self.split_rows(image_features, text_features) if labels is None else []
        if len(parts) > 1:
            wanted: dict[str, Any] = {"output_attentions": output_attentions, "return_dict": True}
            wanted["output_hidden_states"] = output_hidden_states
            rows = [self.forward(image_features=image, text_features=words, **wanted) for image, words in parts]
            output = join_outputs(cast(list[ReferringSegmentationOutput], rows))
            return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()
        stages = self.fuse(image_features, text_features)
        features = [tokens_to_map(stage.output, stage.size) for stage in stages]
        # Step 3: log-odds at a quarter of the size, upsampled to the image
        logits = self.predict(features, text_features).unsqueeze(1)
        logits = F.interpolate(logits, size=image_features.size, mode="bilinear", align_corners=True).squeeze(1)
        # Step 4: loss in float32 at least
        losses: dict[str, Tensor] = {}
        if labels is not None:
            check_labels(logits, labels)
            self.check_first_labels(labels)
            wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
            losses = self.compute_loss(wide, labels, stages, text_features, BatchPart(num_parts, pixel_counts))
        loss = losses.pop("loss", None)
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states or False
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
