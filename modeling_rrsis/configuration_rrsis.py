"""Configurations of LAVT, DANet and FIANet.

Every architectural number of the three networks is a field here. Where a paper is silent or the authors' released
code does something else than their paper, the field says which of the two its default follows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

from transformers import AutoConfig, BertConfig, PreTrainedConfig

NUM_STAGES = 4


def _one_of(name: str, value: Any, allowed: Sequence[Any]) -> None:
    if value not in allowed:
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, allowed))}, got {value!r}.")


def _positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"`{name}` must be an integer of at least 1, got {value!r}.")


def _in_range(name: str, value: Any, low: float, high: float = math.inf) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not low <= value <= high:
        wanted = f"of at least {low}" if high == math.inf else f"between {low} and {high}"
        raise ValueError(f"`{name}` must be a number {wanted}, got {value!r}.")


def _above_zero(name: str, value: Any) -> None:
    _in_range(name, value, 0.0)
    if value == 0:
        raise ValueError(f"`{name}` must be above 0, got {value!r}.")


def _boolean(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` must be True or False, got {value!r}.")


def _list_of(name: str, value: Any, length: int | None = None) -> list[Any]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise ValueError(f"`{name}` must be a list of numbers, got {value!r}.")
    if length is not None and len(value) != length:
        raise ValueError(f"`{name}` needs {length} numbers, got {len(value)}: {list(value)}.")
    return list(value)


class LAVTConfig(PreTrainedConfig):
    """Configuration of [`LAVTForReferringSegmentation`], the base of DANet and FIANet.

    The defaults are the published Base network: Swin-B with window 12, BERT-base, 480×480 pixels.

    Args:
        backbone: Name of a Swin Transformer of timm.
        backbone_kwargs: Arguments handed to timm, such as `embed_dim`, `depths`, `num_heads`, `window_size`,
            `patch_size` and `drop_path_rate`.
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
        ValueError: If a field is outside its range.

    Example:
        >>> from modeling_rrsis import LAVTConfig

        >>> config = LAVTConfig(backbone_kwargs={"drop_path_rate": 0.2}, image_size=384)
        >>> config.backbone, config.text_config.hidden_size
        ('swin_base_patch4_window12_384', 768)
    """

    model_type = "rrsis_lavt"
    sub_configs = {"text_config": AutoConfig}  # noqa: RUF012 - the name and form that transformers reads
    keys_to_ignore_at_inference = ["loss_dict"]  # noqa: RUF012 - `Trainer.predict` gives the logits alone

    def __init__(
        self,
        backbone: str = "swin_base_patch4_window12_384",
        backbone_kwargs: dict[str, Any] | None = None,
        text_config: dict[str, Any] | PreTrainedConfig | None = None,
        image_size: int = 480,
        fusion_num_heads: Sequence[int] = (1, 1, 1, 1),
        fusion_dropout: float = 0.0,
        decoder_hidden_size: int | None = None,
        class_weights: Sequence[float] = (0.9, 1.1),
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        self.backbone = backbone
        # Lists, as they come out of a file: a configuration equals what it is saved as.
        self.backbone_kwargs: dict[str, Any] = {
            key: list(value) if isinstance(value, tuple) else value for key, value in (backbone_kwargs or {}).items()
        }
        if not isinstance(text_config, PreTrainedConfig):
            text_config = AutoConfig.for_model(**{"model_type": "bert", **(text_config or {})})
        self.text_config = cast(BertConfig, text_config)
        self.image_size = image_size
        self.fusion_num_heads = _list_of("fusion_num_heads", fusion_num_heads, NUM_STAGES)
        self.fusion_dropout = fusion_dropout
        self.decoder_hidden_size = decoder_hidden_size
        self.class_weights = _list_of("class_weights", class_weights, 2)
        self.initializer_range = initializer_range
        self._check_base()
        super().__init__(**kwargs)

    def _check_base(self) -> None:
        _positive("image_size", self.image_size)
        if self.image_size < 32:
            raise ValueError(f"`image_size` must be at least 32 pixels, got {self.image_size}.")
        for heads in self.fusion_num_heads:
            _positive("fusion_num_heads", heads)
        _in_range("fusion_dropout", self.fusion_dropout, 0.0, 1.0)
        if self.decoder_hidden_size is not None:
            _positive("decoder_hidden_size", self.decoder_hidden_size)
        for weight in self.class_weights:
            _above_zero("class_weights", weight)
        _in_range("initializer_range", self.initializer_range, 0.0)
        if not isinstance(self.backbone, str):
            raise ValueError(f"`backbone` must be the name of a Swin Transformer of timm, got {self.backbone!r}.")

    def __eq__(self, other: object) -> bool:
        """Equal where every field is, wherever the two were loaded from."""
        if not isinstance(other, PreTrainedConfig):
            return NotImplemented
        mine, theirs = ({**config.to_dict(), "_name_or_path": ""} for config in (self, other))
        return mine == theirs

    __hash__ = None  # type: ignore[assignment]


class DANetConfig(LAVTConfig):
    """Configuration of [`DANetForReferringSegmentation`].

    DANet has no public code. Each field that closes a question which the paper leaves open says so.

    Args:
        affinity_weight: λ_af of equation 11. 0 turns the explicit affinity alignment off (table 3).
        affinity_stages: Stages (1 to 4) whose features are aligned (table 4).
        affinity_threshold: α of equation 2, on the text-to-visual activation after its min–max to [0, 1] (table 6).
        affinity_temperature: Divisor inside both softmaxes of equations 1 and 3; 1.0 is the literal paper. The
            gradient vanishes with the number of pixels; lower values make it stronger, and each of them did worse on
            the embedded benchmark (docs/danet_readings.md).
        predictor: `"agent"` (RAAM), `"cross_attention"`, `"masked_attention"` (table 5) or `"conv"`, LAVT's fixed
            1×1 kernel (table 3).
        num_agents: K, the number of agents, at most as many as the last stage has pixels (figure 4a). With a single
            agent both softmaxes of equation 7 are 1, and the projections inside them get a gradient of zero.
        agent_distance: `dis` of equation 5, which the paper leaves open: `"dot"`, `"cosine"` or `"l2"` (negative).
        agent_words: W^Q of equation 4, which selects the agents. The selection is discrete and hands no gradient on.
            `"weighted"`: a projection of its own, trained because each agent's key is weighed by the softmax of the
            agents' reliabilities. `"shared"`: equations 7 and 8 without weights, and the words take the sentence's
            trained projections (W^Qg).
        predictor_mlp_ratio: Width of the feed-forward layer that follows equation 9, as a multiple.
        predictor_gain: Initial weight of the last LayerNorm before equation 10; the paper leaves open how L̂_g starts.
            The LayerNorm's bias starts as LAVT's fixed kernel does, so that with a small gain DANet starts as its
            baseline and the sentence's part grows from nothing. 1.0 is LayerNorm's own start; 0 gives the rest of the
            predictor a gradient of zero in the first update.
        kwargs: Fields of [`LAVTConfig`].

    Raises:
        ValueError: If a field is outside its range.

    Example:
        >>> from modeling_rrsis import DANetConfig

        >>> config = DANetConfig(affinity_weight=0.1)
        >>> config.model_type, config.affinity_weight
        ('rrsis_danet', 0.1)
    """

    model_type = "rrsis_danet"

    def __init__(
        self,
        affinity_weight: float = 0.5,
        affinity_stages: Sequence[int] = (2, 3, 4),
        affinity_threshold: float = 0.8,
        affinity_temperature: float = 1.0,
        predictor: str = "agent",
        num_agents: int = 32,
        agent_distance: str = "dot",
        agent_words: str = "weighted",
        predictor_mlp_ratio: float = 4.0,
        predictor_gain: float = 1e-3,
        **kwargs: Any,
    ) -> None:
        self.affinity_weight = affinity_weight
        self.affinity_stages = sorted(_list_of("affinity_stages", affinity_stages))
        self.affinity_threshold = affinity_threshold
        self.affinity_temperature = affinity_temperature
        self.predictor = predictor
        self.num_agents = num_agents
        self.agent_distance = agent_distance
        self.agent_words = agent_words
        self.predictor_mlp_ratio = predictor_mlp_ratio
        self.predictor_gain = predictor_gain
        self._check_danet()
        super().__init__(**kwargs)

    def _check_danet(self) -> None:
        _in_range("affinity_weight", self.affinity_weight, 0.0)
        _in_range("affinity_threshold", self.affinity_threshold, 0.0, 1.0)
        _in_range("affinity_temperature", self.affinity_temperature, 1e-3)
        stages = set(self.affinity_stages)
        if len(stages) != len(self.affinity_stages) or not stages <= {1, 2, 3, 4}:
            raise ValueError(f"`affinity_stages` must be different numbers from 1 to 4, got {self.affinity_stages}.")
        _one_of("predictor", self.predictor, ("agent", "cross_attention", "masked_attention", "conv"))
        _one_of("agent_distance", self.agent_distance, ("dot", "cosine", "l2"))
        _positive("num_agents", self.num_agents)
        _in_range("predictor_gain", self.predictor_gain, 0.0)
        _above_zero("predictor_mlp_ratio", self.predictor_mlp_ratio)
        _one_of("agent_words", self.agent_words, ("weighted", "shared"))

    @classmethod
    def paper(cls, **kwargs: Any) -> DANetConfig:
        """The literal paper: unweighted agents, softmaxes without a temperature; keywords override single fields.

        Without weights nothing trains a W^Q of the words (equation 4), so that the words take the sentence's
        projections. What the paper leaves open keeps its default, such as `agent_distance` and `predictor_gain`.
        """
        literal = {"agent_words": "shared", "affinity_temperature": 1.0}
        return cls(**{**literal, **kwargs})

    __eq__ = LAVTConfig.__eq__
    __hash__ = None  # type: ignore[assignment]


class FIANetConfig(LAVTConfig):
    """Configuration of [`FIANetForReferringSegmentation`].

    The defaults are the authors' released code (their weights are right only with it); [`FIANetConfig.paper`] is the
    literal paper.

    Args:
        num_tmem_layers: Layers of the text-aware multi-scale enhancement module: 1 for RefSegRS, 3 for RRSIS-D.
        stage_output: What a stage hands to the multi-scale module. `"context"` (released): the pixel–word attention
            alone, so that the last stage builds nothing else. `"fiam"` (paper, algorithm 1): the FIAM output.
        attention_norm: `"instance"` (released): InstanceNorm on query and output of every cross-attention, which
            silences a branch that attends to a single token. `"none"` (paper, equations 1, 3 and 13).
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
            TMEM, so that the three fields named after it hold for both; LGCE has no numbers of its own.
        cim_num_heads: Heads of the CIM's attention; they divide the module's width.
        cim_pool_ratios: Factors by which the CIM pools its keys and values, its receptive fields; 1 pools nothing.
        cim_local_kernel: Side of the CIM's depthwise convolution on the values, odd.
        dice_weight: w, the weight of the dice loss.
        dice_mix: `"convex"` (released): (1 − w)·CE + w·dice. `"sum"` (paper): CE + w·dice.
        dice_reduction: `"sum"` (released): over batch and both classes, so that it grows with the batch. `"mean"`.
        kwargs: Fields of [`LAVTConfig`].

    Raises:
        ValueError: If a field is outside its range.

    Example:
        >>> from modeling_rrsis import FIANetConfig

        >>> config = FIANetConfig(dice_reduction="mean")
        >>> config.model_type, config.dice_reduction
        ('rrsis_fianet', 'mean')
    """

    model_type = "rrsis_fianet"

    def __init__(
        self,
        num_tmem_layers: int = 1,
        stage_output: str = "context",
        attention_norm: str = "instance",
        channel_modulation_source: str = "visual",
        channel_modulation_reduction: int = 8,
        position_conv_kernel: int = 3,
        tmem_bottleneck: int = 4,
        tmem_mlp_ratio: float = 2.0,
        use_ground_object_branch: bool = True,
        use_spatial_position_branch: bool = True,
        use_channel_modulation: bool = True,
        multi_scale: str = "tmem",
        cim_num_heads: int = 1,
        cim_pool_ratios: Sequence[int] = (1, 2, 4),
        cim_local_kernel: int = 3,
        dice_weight: float = 0.1,
        dice_mix: str = "convex",
        dice_reduction: str = "sum",
        **kwargs: Any,
    ) -> None:
        self.num_tmem_layers = num_tmem_layers
        self.stage_output = stage_output
        self.attention_norm = attention_norm
        self.channel_modulation_source = channel_modulation_source
        self.channel_modulation_reduction = channel_modulation_reduction
        self.position_conv_kernel = position_conv_kernel
        self.tmem_bottleneck = tmem_bottleneck
        self.tmem_mlp_ratio = tmem_mlp_ratio
        self.use_ground_object_branch = use_ground_object_branch
        self.use_spatial_position_branch = use_spatial_position_branch
        self.use_channel_modulation = use_channel_modulation
        self.multi_scale = multi_scale
        self.cim_num_heads = cim_num_heads
        self.cim_pool_ratios = _list_of("cim_pool_ratios", cim_pool_ratios)
        self.cim_local_kernel = cim_local_kernel
        self.dice_weight = dice_weight
        self.dice_mix = dice_mix
        self.dice_reduction = dice_reduction
        self._check_fianet()
        super().__init__(**kwargs)

    def _check_fianet(self) -> None:
        _one_of("stage_output", self.stage_output, ("context", "fiam"))
        _one_of("attention_norm", self.attention_norm, ("instance", "none"))
        _one_of("channel_modulation_source", self.channel_modulation_source, ("visual", "fused"))
        _one_of("position_conv_kernel", self.position_conv_kernel, (1, 3, 5, 7))
        _one_of("multi_scale", self.multi_scale, ("tmem", "cim", "lgce", "none"))
        _one_of("cim_local_kernel", self.cim_local_kernel, (1, 3, 5, 7))
        _one_of("dice_mix", self.dice_mix, ("convex", "sum"))
        _one_of("dice_reduction", self.dice_reduction, ("sum", "mean"))
        _in_range("dice_weight", self.dice_weight, 0.0, 1.0)
        _above_zero("tmem_mlp_ratio", self.tmem_mlp_ratio)
        for name in ("use_ground_object_branch", "use_spatial_position_branch", "use_channel_modulation"):
            _boolean(name, getattr(self, name))
        for name in ("num_tmem_layers", "channel_modulation_reduction", "tmem_bottleneck", "cim_num_heads"):
            _positive(name, getattr(self, name))
        for ratio in self.cim_pool_ratios:
            _positive("cim_pool_ratios", ratio)
        if len(set(self.cim_pool_ratios)) != len(self.cim_pool_ratios) or not self.cim_pool_ratios:
            raise ValueError(f"`cim_pool_ratios` needs different numbers, at least one, got {self.cim_pool_ratios}.")

    @classmethod
    def paper(cls, **kwargs: Any) -> FIANetConfig:
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

    __eq__ = LAVTConfig.__eq__
    __hash__ = None  # type: ignore[assignment]
