"""Turn the tensors of a published checkpoint into ours, every key accounted for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..configuration_rrsis import LAVTConfig
from ..modeling_fianet import FIANetForReferringSegmentation
from ..modeling_lavt import LAVTForReferringSegmentation
from ..modeling_rmsin import RMSINForReferringSegmentation
from ..swin_rrsis import build_swin
from .keys import TABLES, KeyTable, recognise
from .reading import Checkpoint, listed, read_checkpoint
from .sizes import Shapes, read_sizes, swin_sizes

Network = TypeVar("Network")
COUNTER = "num_batches_tracked"  # of BatchNorm: the only whole number that is taken
MODELS: dict[str, type[LAVTForReferringSegmentation]] = {
    "lavt": LAVTForReferringSegmentation,
    "fianet": FIANetForReferringSegmentation,
    "rmsin": RMSINForReferringSegmentation,
}


@dataclass
class Conversion:
    """Converted tensors and what became of each published key.

    Args:
        arch: `"lavt"`, `"fianet"` or `"swin"`.
        sizes: What was read from the shapes: fields of the configuration.
        state: Tensors by our key.
        taken: Published key to ours.
        folded: Those of `taken` whose two channels became one.
        dropped: Reason to the published keys that feed nothing.
        other: Names of what else lay in the file.
    """

    arch: str
    sizes: dict[str, Any]
    state: dict[str, Tensor] = field(default_factory=dict)
    taken: dict[str, str] = field(default_factory=dict)
    folded: list[str] = field(default_factory=list)
    dropped: dict[str, list[str]] = field(default_factory=dict)
    other: list[str] = field(default_factory=list)


def convert_checkpoint(
    path: str | Path,
    arch: str | None = None,
    text_heads: int | None = None,
    fusion_heads: list[int] | None = None,
) -> tuple[LAVTForReferringSegmentation, Conversion]:
    """Convert a published checkpoint of LAVT, FIANet, RMSIN or RemoteSAM.

    The parameters of the returned model are the file's bytes; its position indices are on the meta device. Save it and
    load it again to use it: `model.save_pretrained(folder)`, `Model.from_pretrained(folder)`.

    Args:
        path: The checkpoint.
        arch: `"lavt"` (either of its forms), `"fianet"` or `"rmsin"`; found from the keys if absent.
        text_heads: Attention heads of BERT, which no tensor tells; one for each 64 channels if absent.
        fusion_heads: Heads of the pixel–word attention of the four stages, which no tensor tells; one each if absent.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It can't be read safely, is of another kind, has unexpected or missing keys, or holds numbers that
            are not finite; the message begins with the path.
    """
    checkpoint = read_checkpoint(path)
    arch = arch or recognise(checkpoint.model) or "lavt"  # what is none of them fails as the base
    try:
        return _convert(checkpoint, arch, text_heads=text_heads, fusion_heads=fusion_heads)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _convert(
    checkpoint: Checkpoint, arch: str, text_heads: int | None, fusion_heads: list[int] | None
) -> tuple[LAVTForReferringSegmentation, Conversion]:
    published = _with_bert(checkpoint, arch)
    sizes = read_sizes(arch, published, text_heads=text_heads, fusion_heads=fusion_heads)
    model_class = MODELS[arch]
    model = _on_meta(lambda: model_class(model_class.config_class(**sizes)), sizes)
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    conversion = translate(published, arch, shapes=shapes, sizes=sizes)
    conversion.other = checkpoint.other
    _check_finite(conversion)
    model.load_state_dict(conversion.state, strict=True, assign=True)
    return model.eval(), conversion


def convert_swin(path: str | Path) -> Conversion:
    """Convert Microsoft's Swin file (ImageNet) to timm's layout, which `Model.from_backbones(vision=FILE)` loads.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It can't be read safely, is of another kind, or has unexpected or missing keys; all are listed.
    """
    checkpoint = read_checkpoint(path)
    try:
        return _convert_swin(path, checkpoint)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _convert_swin(path: str | Path, checkpoint: Checkpoint) -> Conversion:
    _check_kind(checkpoint.model, "swin")
    if "layers.3.downsample.norm.weight" in checkpoint.model:
        raise ValueError(
            f"it is in timm's layout already: give it to `Model.from_backbones(vision={str(path)!r})` as it is."
        )
    sizes = swin_sizes(Shapes(checkpoint.model, kind="a published Swin"), prefix="")
    swin = _on_meta(lambda: build_swin(LAVTConfig(**sizes)), sizes)
    shapes = {key: tuple(tensor.shape) for key, tensor in swin.state_dict().items()}
    conversion = translate(checkpoint.model, "swin", shapes=shapes, sizes=sizes)
    conversion.other = checkpoint.other
    _check_finite(conversion)
    return conversion


def _on_meta(build: Callable[[], Network], sizes: dict[str, Any]) -> Network:
    """A network without memory; sizes that make none are told, whatever they lead to in its layers."""
    try:
        with torch.device("meta"):
            return build()
    except Exception as error:
        words = " ".join(str(error).split())
        raise ValueError(f"its tensors' sizes, {sizes}, make no network: {words}") from error


def _with_bert(checkpoint: Checkpoint, arch: str) -> dict[str, Tensor]:
    """All tensors under one dictionary, BERT's under `text_encoder.`: both of LAVT's forms become one."""
    _check_kind(checkpoint.model, arch)
    inside = any(key.startswith("text_encoder.") for key in checkpoint.model)
    if inside == (checkpoint.bert is not None):
        found = "both" if inside else "neither"
        raise ValueError(
            "expected a BERT, either as `text_encoder.*` among the network's keys or beside them under `bert_model`; "
            f"found {found}."
        )
    beside = {f"text_encoder.{key}": tensor for key, tensor in (checkpoint.bert or {}).items()}
    return {**checkpoint.model, **beside}


def _check_kind(state: Mapping[str, Tensor], arch: str) -> None:
    """Raise a `ValueError` if the keys are those of another kind of checkpoint."""
    kind = recognise(state)
    if arch != kind:
        hint = f"this looks like {kind}" if kind else f"its keys begin with {', '.join(list(state)[:3])}"
        raise ValueError(f"expected a published {arch} checkpoint, but {hint}.")


def translate(
    published: Mapping[str, Tensor], arch: str, shapes: Mapping[str, tuple[int, ...]], sizes: dict[str, Any]
) -> Conversion:
    """Rename, reshape and fold published tensors until they are exactly those of `shapes`.

    Args:
        published: Tensors by published key.
        arch: Name of the table of keys.
        shapes: Shape of every tensor that is expected, by our key.
        sizes: What was read from the published shapes.

    Raises:
        ValueError: If keys are unexpected, missing or doubled or have another shape; the message lists them.
    """
    table = TABLES[arch]
    conversion = Conversion(arch=arch, sizes=sizes)
    unexpected, wrong = [], []
    wrong_names: set[str] = set()
    for key, tensor in published.items():
        reason = table.dead_reason(key)
        if reason is not None:
            conversion.dropped.setdefault(reason, []).append(key)
            continue
        name = table.rename(key)
        if name not in shapes or name in conversion.state:
            unexpected.append(key)
            continue
        fitted = _fit(tensor, name=name, shape=shapes[name], table=table)
        if fitted is None:
            wrong.append(f"{key} {_described(tensor)}, expected {_expected(name, shapes[name], table)}")
            wrong_names.add(name)
            continue
        conversion.state[name] = fitted
        conversion.taken[key] = name
        if name in table.folded:
            conversion.folded.append(key)
    missing = sorted(set(shapes) - set(conversion.state) - wrong_names)
    _check_complete(arch, unexpected=unexpected, missing=missing, wrong=wrong)
    return conversion


def _fit(tensor: Tensor, name: str, shape: tuple[int, ...], table: KeyTable) -> Tensor | None:
    """The tensor in the expected shape; `None` if it has another size or holds no floating-point numbers."""
    if name.endswith(COUNTER):
        tensor = tensor.long()
    elif not tensor.is_floating_point():
        return None
    if name in table.folded:
        if tensor.ndim == 0 or tensor.shape[0] != 2:
            return None
        tensor = fold_two_channels(tensor)
    if tensor.ndim == 5:  # the rotated convolutions' set of kernels, of which there is one
        tensor = tensor.flatten(0, 1)
    # A 1×1 convolution is a linear layer: its last dimensions of one fall away.
    trailing = tuple(tensor.shape[len(shape) :])
    if tuple(tensor.shape[: len(shape)]) != shape or any(size != 1 for size in trailing):
        return None
    return tensor.reshape(shape)


def _check_finite(conversion: Conversion) -> None:
    """Raise a `ValueError` if a tensor holds infinities or no numbers, as a run that diverged leaves them.

    A variance below zero becomes one in the network.
    """
    wrong = [key for key, name in conversion.taken.items() if not conversion.state[name].isfinite().all()]
    if wrong:
        raise ValueError(f"expected finite numbers, {len(wrong)} tensors hold others: {listed(wrong)}.")
    negative = [
        key
        for key, name in conversion.taken.items()
        if name.endswith("running_var") and (conversion.state[name] < 0).any()
    ]
    if negative:
        raise ValueError(f"expected variances of at least 0, {len(negative)} tensors hold others: {listed(negative)}.")


def _described(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _expected(name: str, shape: tuple[int, ...], table: KeyTable) -> str:
    """The published form of one of our tensors, for a message."""
    if name in table.folded:
        return f"two channels, background and target: {(2, *shape[1:])} floating-point numbers"
    return f"{shape} floating-point numbers for {name}"


def fold_two_channels(tensor: Tensor) -> Tensor:
    """Target − background of a head (2, …): the log-odds of its softmax, as one channel (1, …)."""
    return (tensor[1:2].double() - tensor[0:1].double()).to(tensor.dtype)


def _check_complete(arch: str, unexpected: Iterable[str], missing: Iterable[str], wrong: Iterable[str]) -> None:
    named = (("unexpected", unexpected), ("missing (our names)", missing), ("of another size or type", wrong))
    parts = [f"{len(found)} {title}: {listed(found)}" for title, keys in named if (found := list(keys))]
    if parts:
        raise ValueError(f"expected exactly the tensors of a published {arch}, but found {'; '.join(parts)}.")
