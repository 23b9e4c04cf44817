"""What `rrsis benchmark` runs: the models, their inputs, and timm's Swin as the unit beside them."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from torch.utils.module_tracker import ModuleTracker

from .spec import FORWARD, NUM_TOKENS, TRAIN_CHECKPOINTED, Case
from .timing import Work

TINY_SWIN: dict[str, Any] = {"embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 1, 2, 2], "window_size": 4}
TINY_CONFIG: dict[str, Any] = {
    "backbone": "swin_tiny_patch4_window7_224",
    "backbone_kwargs": TINY_SWIN,
    "text_config": {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 32,
        "vocab_size": 60,
    },
}
"""For smoke tests: every part is there, none costs anything."""
REFERENCES: dict[str, tuple[str, dict[str, Any]]] = {
    "base": ("swin_base_patch4_window12_384", {}),
    "tiny": ("swin_tiny_patch4_window7_224", TINY_SWIN),
}
FIRST_TOKEN = 5
"""Token indices below belong to padding and the like."""


def build_model(case: Case) -> Any:
    """The network of a case in its dtype on its device: the class's default configuration, tiny, or from a folder."""
    torch.manual_seed(case.seed)
    if case.model_folder is not None:
        model = _load_model(case.model_folder)
    else:
        from modeling_rrsis import MODELS

        model_class = MODELS[case.model]
        settings = TINY_CONFIG if case.model_size == "tiny" else {}
        # The size is the network's own: RMSIN has weights for each place of a grid that follows from it.
        model = model_class(model_class.config_class(**settings, image_size=case.image_size_px))
    return model.to(device=case.device, dtype=torch.bfloat16 if case.dtype == "bfloat16" else torch.float32)


def _load_model(folder: str) -> Any:
    """The network in a folder or Hub repository, with the checks of the other commands."""
    from ..hub.loading import load_pipeline

    return load_pipeline(folder).model


def build_reference(case: Case) -> nn.Module:
    """Timm's Swin for the image size of a case, float32, random weights."""
    torch.manual_seed(case.seed)
    name, settings = REFERENCES[case.model_size]
    swin = timm.create_model(name, pretrained=False, num_classes=0, img_size=case.image_size_px, **settings)
    return cast(nn.Module, swin.to(case.device))


def make_inputs(case: Case, model: Any, expressions: int | None = None) -> dict[str, Tensor]:
    """Images and expressions of 20 tokens, all real, with masks of two object and four position words.

    Args:
        case: Says the size, the batch, the seed and whether labels are wanted.
        model: Its vocabulary is drawn from.
        expressions: Number of expressions; one for each image by default.

    Returns:
        Arguments of the model's forward on the case's device: `pixel_values` (B, 3, H, W), `input_ids` and the masks
        (E, 20), and for training `labels` (B, H, W), a box of target.
    """
    generator = torch.Generator().manual_seed(case.seed)
    size, batch = case.image_size_px, case.batch_size
    rows = expressions or batch
    vocabulary = model.config.text_config.vocab_size
    ground_object = torch.zeros(rows, NUM_TOKENS, dtype=torch.long)
    spatial_position = torch.zeros_like(ground_object)
    for row in range(rows):
        start = 1 + row % (NUM_TOKENS - 8)
        ground_object[row, start : start + 2] = 1
        spatial_position[row, start + 3 : start + 7] = 1
    inputs = {
        "pixel_values": torch.randn(batch, 3, size, size, generator=generator),
        "input_ids": torch.randint(FIRST_TOKEN, vocabulary, (rows, NUM_TOKENS), generator=generator),
        "attention_mask": torch.ones_like(ground_object),
        "ground_object_mask": ground_object,
        "spatial_position_mask": spatial_position,
    }
    if case.work != FORWARD:
        labels = torch.zeros(batch, size, size, dtype=torch.long)
        labels[:, size // 4 : size // 2, size // 4 : size // 2] = 1
        inputs["labels"] = labels
    return {name: value.to(case.device) for name, value in inputs.items()}


def prepare_model(model: Any, work: str) -> None:
    """Set what a work needs on a new model: training or evaluation, gradient checkpointing where it is asked for."""
    model.train(work != FORWARD)
    if work == TRAIN_CHECKPOINTED:  # newer versions of transformers have renamed it
        has_new_name = hasattr(model, "activation_checkpointing_enable")
        getattr(model, "activation_checkpointing_enable" if has_new_name else "gradient_checkpointing_enable")()


def model_work(case: Case, model: Any, inputs: dict[str, Tensor] | None = None) -> Work:
    """The work of a case on a model that `prepare_model` has seen."""
    inputs = make_inputs(case, model) if inputs is None else inputs
    # Every size is compiled for itself: a graph for all sizes would be slower.
    network = torch.compile(model, dynamic=False) if case.mode == "compile" else model

    def forward() -> Any:
        autocast = torch.autocast(case.device, dtype=torch.bfloat16) if case.dtype == "autocast" else nullcontext()
        with autocast:
            return network(**inputs)

    def train() -> None:
        forward().loss.backward()

    if case.work == FORWARD:
        return Work(torch.no_grad()(forward))
    return Work(train, reset=lambda: model.zero_grad(set_to_none=True))


def reference_work(case: Case, swin: Any) -> Work:
    """`forward_features` of timm's Swin on the same images, and for training the backward pass of its mean."""
    generator = torch.Generator().manual_seed(case.seed)
    size = case.image_size_px
    images = torch.randn(case.batch_size, 3, size, size, generator=generator).to(case.device)
    swin.train(case.work != FORWARD)
    if case.work == FORWARD:
        return Work(torch.no_grad()(lambda: swin.forward_features(images)))
    return Work(lambda: swin.forward_features(images).mean().backward(), lambda: swin.zero_grad(set_to_none=True))


class _NoModules:
    """In place of the counter's watch over modules, which fails where one runs without gradients in training."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def count_flops(work: Work) -> int:
    """Operations of matrix products, convolutions and fused attention in one run, a multiplication and addition as 2.

    Element by element operations, normalisations and softmax are not counted. What gradient
    checkpointing computes twice counts twice.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_cpu_attention())
    counter.mod_tracker = cast(ModuleTracker, _NoModules())
    with counter:
        work.run()
    work.reset()
    return int(counter.get_total_flops())


def _cpu_attention() -> dict[Any, Any]:
    """Fused attention on a CPU, which PyTorch's counter leaves out."""

    def forward(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
        return sdpa_flop_count(query, key, value)

    def backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
        return sdpa_backward_flop_count(gradient, query, key, value)

    names = {
        "_scaled_dot_product_flash_attention_for_cpu": forward,
        "_scaled_dot_product_flash_attention_for_cpu_backward": backward,
    }
    return {getattr(torch.ops.aten, name): count for name, count in names.items() if hasattr(torch.ops.aten, name)}
