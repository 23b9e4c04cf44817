"""Configurations of LAVT, RMSIN, DANet and FIANet.

Every architectural number of the networks is a field here. Where a paper is silent or the authors' released code does
something else than their paper, the field says which of the two its default follows.
"""

# No `from __future__ import annotations`: `@strict` checks the types of fields, which must not be strings.
import math
from typing import Any, Literal, Self

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

Number = int | float
Numbers = list[int | float] | tuple[int | float, ...]
Integers = list[int] | tuple[int, ...]

NUM_STAGES = 4
# Far beyond every published network; within them one is described, and told from its weights, in no time.
MAX_LAYERS = 256
MAX_NUMBER = 16_384
MAX_VOCABULARY = 1 << 21
SWIN_ARGUMENTS = (
    *("embed_dim", "depths", "num_heads", "head_dim", "window_size", "patch_size", "mlp_ratio", "qkv_bias"),
    *("drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate"),
)
"""What of timm's arguments describes a Swin; others name files and addresses, or are set here."""
MAX_EPSILON = 1.0
"""Of a normalisation; BERT's is 1e-12."""
TEXT_SIZES = {
    **dict.fromkeys(("hidden_size", "intermediate_size", "num_attention_heads", "type_vocab_size"), MAX_NUMBER),
    "num_hidden_layers": MAX_LAYERS,
    "vocab_size": MAX_VOCABULARY,
    "max_position_embeddings": MAX_NUMBER,
}
"""Sizes of BERT and the most that each may be."""
FORMER_CIM_FIELDS = ("cim_num_heads", "cim_pool_ratios", "cim_local_kernel")


@strict
class LAVTConfig(PreTrainedConfig):
    """Configuration of [`LAVTForReferringSegmentation`], the base of the others.

    The defaults are the published Base network: Swin-B with window 12, BERT-base, 480×480 pixels.

    Args:
        backbone: Name of a Swin Transformer of timm.
        backbone_kwargs: Arguments handed to timm, such as `embed_dim`, `depths`, `num_heads`, `window_size`,
            `patch_size` and `drop_path_rate`: those of `SWIN_ARGUMENTS`.
        text_config: Configuration of the BERT text encoder, as a `BertConfig` or a dictionary of its fields.
        image_size: Side in pixels that the image processor resizes to. The network itself accepts any height and
            width of at least 32.
        fusion_num_heads: Heads of the pixel–word attention of each of the four stages.
        fusion_dropout: Dropout after the two projections of the pixel–word attention module.
        decoder_hidden_size: Width of the decoder; `None` means four times the embedding width (512 for Swin-B).
        class_weights: Weights of background and target in the cross-entropy.
        initializer_range: Standard deviation of newly initialised linear layers.
        kwargs: Fields of `PreTrainedConfig`.

    Raises:
        StrictDataclassError: If a field is of another type or outside its range; the message names it.

    Example:
        >>> from modeling_rrsis import LAVTConfig
        >>> config = LAVTConfig(backbone_kwargs={"drop_path_rate": 0.2}, image_size=384)
        >>> config.backbone, config.text_config.hidden_size
        ('swin_base_patch4_window12_384', 768)
    """

    model_type = "rrsis_lavt"
    sub_configs = {"text_config": AutoConfig}  # noqa: RUF012 - the name and form that transformers reads
    keys_to_ignore_at_inference = ["loss_dict"]  # noqa: RUF012 - `Trainer.predict` gives the logits alone

    backbone: str = "swin_base_patch4_window12_384"
    backbone_kwargs: dict[str, Any] | None = None
    text_config: dict[str, Any] | PreTrainedConfig | None = None
    image_size: int = 480
    fusion_num_heads: Integers = (1, 1, 1, 1)
    fusion_dropout: Number = 0.0
    decoder_hidden_size: int | None = None
    class_weights: Numbers = (0.9, 1.1)
    initializer_range: Number = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        if not isinstance(self.text_config, PreTrainedConfig):
            try:
                self.text_config = AutoConfig.for_model(**{"model_type": "bert", **(self.text_config or {})})
            except (TypeError, KeyError, AttributeError) as error:
                raise ValueError(f"`text_config` must have the fields of a BERT, got {self.text_config}") from error
        # Lists, as they come out of a file: a configuration equals what it is saved as.
        self.backbone_kwargs = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in (self.backbone_kwargs or {}).items()
        }
        self.fusion_num_heads = list(self.fusion_num_heads)
        self.class_weights = list(self.class_weights)
        super().__post_init__(**kwargs)

    def validate_base(self) -> None:
        """Ranges of the fields; run by `@strict`."""
        check_range(self, 32, MAX_NUMBER, "image_size")
        check_range(self, 1, MAX_NUMBER, "fusion_num_heads", "decoder_hidden_size")
        check_range(self, 0, 1, "fusion_dropout")
        check_range(self, 0, MAX_NUMBER, "initializer_range")
        check_range(self, 1e-9, MAX_NUMBER, "class_weights")
        for name, length in (("fusion_num_heads", NUM_STAGES), ("class_weights", 2)):
            if len(value := getattr(self, name)) != length:
                raise ValueError(f"`{name}` needs {length} numbers, got {len(value)}: {value}.")
        check_swin(self.backbone_kwargs or {})
        check_text(self.text_config)


@strict
class RMSINConfig(LAVTConfig):
    """Configuration of [`RMSINForReferringSegmentation`]; RemoteSAM is RMSIN with `image_size=896`.

    The defaults are what the published code computes.

    Args:
        use_intra_scale: Intra-scale branch (IIM) of the first three stages.
        use_cross_scale: Cross-scale interaction (CIM) between the stages and the decoder.
        use_rotated_convolution: Adaptive rotated convolution (ARC) in the decoder.
        num_cim_layers: Blocks of the cross-scale interaction.
        grid_size: Side of the square grid that the cross-scale interaction works on, whose positions are weights of
            it. `None` means the last stage's map at `image_size`, at least 4: 15 for 480 px, 28 for 896 px. Images of
            any other size are pooled to it.
        max_rotation: Largest angle, in degrees, by which an image turns the decoder's kernels.
        routing_dropout: Dropout before the two layers that choose angle and strength.
        dice_weight: w of the loss (1 − w)·CE + w·dice.
        dice_reduction: `"sum"` (released): over batch and both classes, so that it grows with the batch. `"mean"`.
        kwargs: Fields of [`LAVTConfig`].

    Raises:
        StrictDataclassError: If a field is of another type or outside its range; the message names it.

    Example:
        >>> from modeling_rrsis import RMSINConfig
        >>> RMSINConfig().grid_size, RMSINConfig(image_size=896).grid_size
        (15, 28)
    """

    model_type = "rrsis_rmsin"

    use_intra_scale: bool = True
    use_cross_scale: bool = True
    use_rotated_convolution: bool = True
    num_cim_layers: int = 1
    grid_size: int | None = None
    max_rotation: Number = 40.0
    routing_dropout: Number = 0.2
    dice_weight: Number = 0.1
    dice_reduction: Literal["sum", "mean"] = "sum"

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.grid_size is None:
            self.grid_size = grid_of(self)

    def validate_rmsin(self) -> None:
        """Ranges of the fields; run by `@strict`."""
        check_range(self, 1, MAX_LAYERS, "num_cim_layers")
        check_range(self, 1, MAX_NUMBER, "grid_size")
        check_range(self, 0, 45, "max_rotation")
        check_range(self, 0, 1, "routing_dropout", "dice_weight")


@strict
class DANetConfig(LAVTConfig):
    """Configuration of [`DANetForReferringSegmentation`].

    DANet has no public code. Each field that closes a question which the paper leaves open says so.

    Args:
        affinity_weight: λ_af of equation 11. 0 turns the explicit affinity alignment off (table 3).
        affinity_stages: Stages (1 to 4) whose features are aligned (table 4).
        affinity_threshold: α of equation 2, on the text-to-visual activation after its min–max to [0, 1] (table 6).
        affinity_temperature: Divisor inside both softmaxes of equations 1 and 3; 1.0 is the literal paper. The
            gradient vanishes with the number of pixels; lower values make it stronger, and each of them did worse on
            the embedded benchmark (docs/design/danet_readings.md).
        predictor: `"agent"` (RAAM), `"cross_attention"`, `"masked_attention"` (table 5) or `"conv"`, LAVT's fixed
            1×1 kernel (table 3).
        num_agents: K, the number of agents, at most as many as the last stage has pixels (figure 4a). With a single
            agent both softmaxes of equation 7 are 1, and the projections inside them get a gradient of zero.
        agent_distance: `dis` of equation 5, which the paper leaves open: `"dot"`, `"cosine"` or `"l2"` (negative).
        agent_words: W^Q of equation 4, which selects the agents. The selection is discrete and hands no gradient on.
            `"weighted"`: a projection of its own, trained because each agent's key is weighed by the softmax of the
            agents' reliabilities. `"shared"`: equations 7 and 8 without weights, and the words take the sentence's
            trained projections (W^Qg).
        agent_update: Equation 9 over the M pixels of the last stage. `"mean"`: the pixels' weights add up to 1, so
            that the update has the same size for any image. `"sum"`: the paper to the letter, whose weights add up to
            about M/K: 7 at 480×480 pixels, 72 at 1,536×1,536, 1 at 96×96 and below.
        predictor_mlp_ratio: Width of the feed-forward layer that follows equation 9, as a multiple.
        predictor_gain: Initial weight of the last LayerNorm before equation 10; the paper leaves open how L̂_g starts.
            The LayerNorm's bias starts as LAVT's fixed kernel does, so that with a small gain DANet starts as its
            baseline and the sentence's part grows from nothing. 1.0 is LayerNorm's own start; 0 gives the rest of the
            predictor a gradient of zero in the first update.
        kwargs: Fields of [`LAVTConfig`].

    Raises:
        StrictDataclassError: If a field is of another type or outside its range; the message names it.

    Example:
        >>> from modeling_rrsis import DANetConfig
        >>> DANetConfig(num_agents=16).agent_update, DANetConfig.paper(num_agents=16).agent_update
        ('mean', 'sum')
    """

    model_type = "rrsis_danet"

    affinity_weight: Number = 0.5
    affinity_stages: Integers = (2, 3, 4)
    affinity_threshold: Number = 0.8
    affinity_temperature: Number = 1.0
    predictor: Literal["agent", "cross_attention", "masked_attention", "conv"] = "agent"
    num_agents: int = 32
    agent_distance: Literal["dot", "cosine", "l2"] = "dot"
    agent_words: Literal["weighted", "shared"] = "weighted"
    agent_update: Literal["mean", "sum"] = "mean"
    predictor_mlp_ratio: Number = 4.0
    predictor_gain: Number = 1e-3

    def __post_init__(self, **kwargs: Any) -> None:
        self.affinity_stages = sorted(self.affinity_stages)
        super().__post_init__(**kwargs)

    def validate_danet(self) -> None:
        """Ranges of the fields; run by `@strict`."""
        check_range(self, 0, MAX_NUMBER, "affinity_weight", "predictor_gain")
        check_range(self, 0, 1, "affinity_threshold")
        check_range(self, 1e-3, MAX_NUMBER, "affinity_temperature")
        check_range(self, 1e-9, MAX_NUMBER, "predictor_mlp_ratio")
        check_range(self, 1, MAX_NUMBER, "num_agents")
        check_range(self, 1, NUM_STAGES, "affinity_stages")
        check_different(self, "affinity_stages")

    @classmethod
    def paper(cls, **kwargs: Any) -> Self:
        """The literal paper: unweighted agents, softmaxes without a temperature; keywords override single fields.

        Without weights nothing trains a W^Q of the words (equation 4), so that the words take the sentence's
        projections. What the paper leaves open keeps its default, such as `agent_distance` and `predictor_gain`.
        """
        literal = {"agent_words": "shared", "agent_update": "sum", "affinity_temperature": 1.0}
        return cls(**{**literal, **kwargs})


@strict
class FIANetConfig(LAVTConfig):
    """Configuration of [`FIANetForReferringSegmentation`].

    The defaults are the authors' released code (their weights are right only with it); [`FIANetConfig.paper`] is the
    literal paper.

    Args:
        num_tmem_layers: Layers of the text-aware multi-scale enhancement module: 1 for RefSegRS, 3 for RRSIS-D.
        stage_output: What a stage hands to the multi-scale module. `"context"` (released): the pixel–word attention
            alone, so that the last stage builds nothing else. `"fiam"` (paper, algorithm 1): the FIAM output.
        attention_norm: Cross-attention of equations 1, 3 and 13. `"instance"` (released): InstanceNorm on query and
            output, which silences a branch that attends to a single token. `"none"` (paper). The PWAM of equation 6
            is LAVT's and keeps its own norms.
        channel_modulation_source: Mean that drives equation 9: `"visual"` (released) or `"fused"` (paper).
        channel_modulation_reduction: Reduction of W_1 in equation 9.
        position_conv_kernel: Kernel of the convolution in equation 4: 3 (released) or 1 (paper).
        tmem_bottleneck: Factor by which the module narrows the channels before its layers: 4 (released) or 1, none
            (paper).
        tmem_mlp_ratio: Width of the module's feed-forward layers, as a multiple.
        use_ground_object_branch: Ground-object branch of the OPAB (table VI).
        use_spatial_position_branch: Spatial-position branch of the OPAB (table VI).
        use_channel_modulation: Channel modulation, equations 9 and 10 (table VI).
        multi_scale: Multi-scale module: `"tmem"` or `"none"` (table V); `"cim"`, RMSIN's cross-scale interaction
            without text, or `"lgce"`, language-guided pairs of scales (figure 9). The CIM stands in the frame of the
            TMEM, whose `num_tmem_layers` and `tmem_bottleneck` hold for both; LGCE has no numbers of its own.
        grid_size: Side of the CIM's grid, as of [`RMSINConfig`].
        dice_weight: w, the weight of the dice loss.
        dice_mix: `"convex"` (released): (1 − w)·CE + w·dice. `"sum"` (paper): CE + w·dice.
        dice_reduction: `"sum"` (released): over batch and both classes, so that it grows with the batch. `"mean"`.
        kwargs: Fields of [`LAVTConfig`].

    Raises:
        StrictDataclassError: If a field is of another type or outside its range; the message names it.

    Example:
        >>> from modeling_rrsis import FIANetConfig
        >>> FIANetConfig(num_tmem_layers=3).stage_output, FIANetConfig.paper(num_tmem_layers=3).stage_output
        ('context', 'fiam')
    """

    model_type = "rrsis_fianet"

    num_tmem_layers: int = 1
    stage_output: Literal["context", "fiam"] = "context"
    attention_norm: Literal["instance", "none"] = "instance"
    channel_modulation_source: Literal["visual", "fused"] = "visual"
    channel_modulation_reduction: int = 8
    position_conv_kernel: Literal[1, 3, 5, 7] = 3
    tmem_bottleneck: int = 4
    tmem_mlp_ratio: Number = 2.0
    use_ground_object_branch: bool = True
    use_spatial_position_branch: bool = True
    use_channel_modulation: bool = True
    multi_scale: Literal["tmem", "cim", "lgce", "none"] = "tmem"
    grid_size: int | None = None
    dice_weight: Number = 0.1
    dice_mix: Literal["convex", "sum"] = "convex"
    dice_reduction: Literal["sum", "mean"] = "sum"

    def __post_init__(self, **kwargs: Any) -> None:
        former = [name for name in FORMER_CIM_FIELDS if kwargs.pop(name, None) is not None]
        if former and self.multi_scale == "cim":
            raise ValueError(
                f"`multi_scale='cim'` is RMSIN's module as published, without {', '.join(former)}; these belong to a "
                "guess that stood here before, whose weights fit no longer: train anew."
            )
        super().__post_init__(**kwargs)
        if self.grid_size is None:
            self.grid_size = grid_of(self)

    def validate_fianet(self) -> None:
        """Ranges of the fields; run by `@strict`."""
        check_range(self, 0, 1, "dice_weight")
        check_range(self, 1e-9, MAX_NUMBER, "tmem_mlp_ratio")
        check_range(self, 1, MAX_LAYERS, "num_tmem_layers")
        check_range(self, 1, MAX_NUMBER, "tmem_bottleneck", "channel_modulation_reduction")
        check_range(self, 1, MAX_NUMBER, "grid_size")

    @classmethod
    def paper(cls, **kwargs: Any) -> Self:
        """The literal paper instead of the authors' released code; keywords override single fields."""
        literal = {
            "stage_output": "fiam",
            "attention_norm": "none",
            "channel_modulation_source": "fused",
            "position_conv_kernel": 1,
            "tmem_bottleneck": 1,
            "dice_mix": "sum",
            "dice_reduction": "mean",
            "class_weights": (1.0, 1.0),
        }
        return cls(**{**literal, **kwargs})


def grid_of(config: LAVTConfig) -> int:
    """Side of the last stage's map at `image_size`: the patches, halved three times and rounded up each time.

    At least 4, so that the coarsest view of the grid has more than one pixel, as a BatchNorm in training needs.
    """
    patch = (config.backbone_kwargs or {}).get("patch_size", 4)
    if not isinstance(patch, int) or not 1 <= patch <= MAX_NUMBER:
        raise ValueError(f"`backbone_kwargs`: `patch_size` must be between 1 and {MAX_NUMBER}, got {patch}.")
    return max(4, math.ceil(config.image_size / (8 * patch)))


def check_range(config: LAVTConfig, low: float, high: float, *names: str) -> None:
    """Raise a `ValueError` unless fields, or the numbers of lists, lie in [low, high] and are finite."""
    for name in names:
        value = getattr(config, name)
        for number in value if isinstance(value, list) else [value]:
            if number is not None and not (low <= number <= high and math.isfinite(number)):
                raise ValueError(f"`{name}` must be between {low} and {high}, got {value}.")


def check_swin(arguments: dict[str, Any]) -> None:
    """Raise a `ValueError` for arguments of timm's Swin that describe none."""
    unknown = sorted(set(arguments) - set(SWIN_ARGUMENTS))
    if unknown:
        raise ValueError(f"`backbone_kwargs` takes {', '.join(SWIN_ARGUMENTS)}, got {', '.join(unknown)}.")
    for name, value in arguments.items():
        for number in value if isinstance(value, list) else [value]:
            low = 0 if "rate" in name or name in ("qkv_bias", "head_dim") else 1e-9
            if number is not None and not (isinstance(number, int | float) and low <= number <= MAX_NUMBER):
                raise ValueError(f"`backbone_kwargs`: `{name}` must be of 0 to {MAX_NUMBER}, got {value}.")
    for name in ("depths", "num_heads"):
        value = arguments.get(name, [1] * NUM_STAGES)
        if not isinstance(value, list) or len(value) != NUM_STAGES or sum(value) > MAX_NUMBER:
            raise ValueError(f"`backbone_kwargs`: `{name}` needs {NUM_STAGES} numbers, got {value}.")
    if sum(arguments.get("depths", [])) > MAX_LAYERS:
        raise ValueError(f"`backbone_kwargs`: `depths` must have {MAX_LAYERS} in all, got {arguments['depths']}.")


def check_text(config: Any) -> None:
    """Raise a `ValueError` for a text encoder that is no BERT, or none of a size."""
    if config.model_type != "bert":
        raise ValueError(f"`text_config` must be of a BERT, got the type {config.model_type!r}.")
    for name, most in TEXT_SIZES.items():
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise ValueError(f"`text_config`: `{name}` must be between 1 and {most}, got {value}.")
    if not (isinstance(config.layer_norm_eps, float) and 0 < config.layer_norm_eps <= MAX_EPSILON):
        raise ValueError(
            f"`text_config`: `layer_norm_eps` must be above 0, at most {MAX_EPSILON}, got {config.layer_norm_eps}."
        )
    if config.hidden_size % config.num_attention_heads:
        raise ValueError(
            f"`text_config`: `hidden_size` {config.hidden_size} must be a multiple of `num_attention_heads`, got "
            f"{config.num_attention_heads}."
        )


def check_different(config: LAVTConfig, name: str) -> None:
    """Raise a `ValueError` unless a list has numbers, all of them different."""
    if not (value := getattr(config, name)) or len(set(value)) != len(value):
        raise ValueError(f"`{name}` needs different numbers, at least one, got {value}.")
