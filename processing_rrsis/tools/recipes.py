"""Training recipes: one frozen set of numbers per model and benchmark."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

MODEL_NAMES = ("lavt", "danet", "fianet")


@dataclass(frozen=True)
class Recipe:
    """What a training run needs besides its data and seed.

    Args:
        model: `"lavt"`, `"danet"` or `"fianet"`.
        dataset: Name of the benchmark.
        source: Where the numbers come from.
        config: Fields of the model's configuration that differ from its defaults.
        image_size_px: Side in pixels that images are resized to.
        max_length: Token limit of an expression.
        batch_size: Samples per update, over all processes and accumulation steps.
        max_steps: Updates.
        warmup_steps: Updates of linear warm-up.
        learning_rate: AdamW's learning rate.
        text_learning_rate: That of the text encoder.
        weight_decay: Decoupled weight decay.
        trained_text_layers: BERT layers that are trained, the first ones; `None` for the whole text encoder.
        schedule_power: Exponent of the poly schedule.
        max_grad_norm: Norm that gradients are clipped to, `None` for no clipping.
        eval_every: Updates between two evaluations on the validation split.
        ablation: Name of the preset whose fields `config` holds, `None` for the whole network.
    """

    model: str
    dataset: str
    source: str
    config: dict[str, Any] = field(default_factory=dict)
    image_size_px: int = 480
    max_length: int = 22
    batch_size: int = 16
    max_steps: int = 1000
    warmup_steps: int = 0
    learning_rate: float = 5e-5
    text_learning_rate: float = 5e-5
    weight_decay: float = 0.01
    trained_text_layers: int | None = 10
    schedule_power: float = 0.9
    max_grad_norm: float | None = None
    eval_every: int = 500
    ablation: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, for the run's record."""
        return asdict(self)


TINY_CONFIG: dict[str, Any] = {
    "backbone": "swin_tiny_patch4_window7_224",
    "backbone_kwargs": {
        "embed_dim": 32,
        "depths": [1, 1, 2, 1],
        "num_heads": [1, 2, 4, 8],
        "window_size": 5,
        "drop_path_rate": 0.0,
    },
    "text_config": {
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "max_position_embeddings": 64,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
    "image_size": 80,
    "decoder_hidden_size": 64,
    "attn_implementation": "eager",  # on a CPU, fused attention on a dozen short words takes longer
}

# At 80 px a stage has 100 pixels or fewer, and the affinity loss's gradient is hundreds of times what it is at 480 px:
# the paper's weight of 0.5 then delays everything else. Measured in docs/danet_readings.md.
TINY_DANET: dict[str, Any] = {"affinity_weight": 0.05}

TINY_TRAINING: dict[str, Any] = {
    "dataset": "synthetic",
    "source": "chosen on the validation split of SyntheticRS; trains from random weights on two CPU cores",
    "image_size_px": 80,
    "max_length": 24,
    "batch_size": 32,
    "max_steps": 1000,
    "warmup_steps": 120,
    "learning_rate": 8e-4,
    "text_learning_rate": 5e-4,
    "weight_decay": 0.01,
    "trained_text_layers": None,
    "max_grad_norm": 1.0,
    "eval_every": 250,
}

RECIPES: dict[tuple[str, str], Recipe] = {
    ("lavt", "synthetic"): Recipe(model="lavt", config=TINY_CONFIG, **TINY_TRAINING),
    ("danet", "synthetic"): Recipe(model="danet", config=TINY_CONFIG | TINY_DANET, **TINY_TRAINING),
    ("fianet", "synthetic"): Recipe(model="fianet", config=TINY_CONFIG, **TINY_TRAINING),
}


def get_recipe(model: str, dataset: str) -> Recipe:
    """The recipe for a model on a benchmark.

    Raises:
        ValueError: If there is none; the message lists what exists.
    """
    recipe = RECIPES.get((model, dataset))
    if recipe is None:
        known = ", ".join(f"--model {m} --dataset {d}" for m, d in RECIPES)
        raise ValueError(f"No recipe for model {model!r} on dataset {dataset!r}. There is: {known}.")
    return recipe
