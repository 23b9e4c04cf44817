"""An exported graph in the network's place: the same inputs, the same log-odds, the same errors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig

from modeling_rrsis import ReferringSegmentationOutput
from modeling_rrsis.modeling_lavt import check_inputs

from .folder import RuntimeManifest, check_folder, read_manifest
from .spec import RUNNING_PACKAGES, check_installed, graph_module
from .tracing import IMAGE_INPUT


class RuntimeNetwork(nn.Module):
    """A graph that OpenVINO or onnxruntime runs on the CPU, called as the network it was exported from.

    It has no parameters and gives no gradients. It may be called from several threads.

    Args:
        config: The network's configuration.
        manifest: What is known of the graph.
        session: Runs it: arrays by name in, float32 (B, H, W) out.
    """

    device = torch.device("cpu")
    dtype = torch.float32
    input_modalities = ("image", "text")

    def __init__(self, config: Any, manifest: RuntimeManifest, session: Any) -> None:
        super().__init__()
        self.config = config
        self.manifest = manifest
        self.session = session
        self.eval()

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], threads: int | None = None) -> RuntimeNetwork:
        """Open a folder that `rrsis export` wrote.

        Args:
            folder: The folder, on this machine.
            threads: Threads of an operation; `torch.get_num_threads()` if absent.

        Raises:
            ValueError: If the folder is none, is incomplete, was changed or is of another version.
            ImportError: If the library that runs the graph is not installed.
        """
        place = Path(folder).expanduser()
        manifest = read_manifest(place)
        check_installed(manifest.format, RUNNING_PACKAGES)
        check_folder(place, manifest)
        try:
            session = graph_module(manifest.format).Session(place, threads=threads or torch.get_num_threads())
        except Exception as error:  # whatever the library finds: onnxruntime has classes of its own
            raise ValueError(
                f"{place}: expected a graph that the installed {manifest.format} reads, got: {error}; it was written "
                f"with {', '.join(f'{name} {number}' for name, number in manifest.versions.items())}"
            ) from error
        return cls(AutoConfig.from_pretrained(place), manifest, session)

    def num_parameters(self) -> int:
        """Number of the network's parameters."""
        return self.manifest.parameters

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        ground_object_mask: Tensor | None = None,
        spatial_position_mask: Tensor | None = None,
        labels: None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> ReferringSegmentationOutput | tuple[Tensor]:
        """Segment what the expressions refer to; arguments as of the network.

        Args:
            pixel_values: Images normalised with ImageNet's mean and deviation, float (B, 3, H, W) of the graph's size.
            input_ids: Token indices, int (B, L). Either B may be 1: that one goes with all of the others.
            attention_mask: 1 for tokens of the expression, 0 for padding, int (B, L); all ones if absent.
            ground_object_mask: 1 for tokens of the ground object, int (B, L); the whole expression if absent.
            spatial_position_mask: 1 for tokens of the spatial position, int (B, L); the whole expression if absent.
            labels: None; this and the next two are what a graph can't compute.
            output_attentions: None or False.
            output_hidden_states: None or False.
            return_dict: False for a tuple.

        Returns:
            `logits` float32 (B, H, W), the log-odds of the target, on the images' device.

        Raises:
            ValueError: If shapes do not fit each other, images are of another size than the graph's, or losses or
                inner values are asked for.
        """
        inner = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
        for name, asked in {"labels": labels, **inner}.items():
            if asked is not None and asked is not False:
                raise ValueError(
                    f"`{name}`: expected none, a graph for {self.manifest.format} computes logits alone; use the "
                    "model that it was exported from"
                )
        limit = self.config.text_config.max_position_embeddings
        masks = {"ground_object_mask": ground_object_mask, "spatial_position_mask": spatial_position_mask}
        check_inputs(pixel_values, input_ids, masks=(attention_mask, *masks.values()), labels=None, limit=limit)
        self._check_size(pixel_values)
        self._check_tokens(input_ids)
        attended = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        words = {name: attended if mask is None else mask for name, mask in masks.items()}
        given = {IMAGE_INPUT: pixel_values, "input_ids": input_ids, "attention_mask": attended, **words}
        rows = max(len(pixel_values), len(input_ids))
        arrays = {}
        for name in self.manifest.inputs:
            value = given[name].detach().to("cpu", torch.float32 if name == IMAGE_INPUT else torch.int64)
            arrays[name] = value.expand(rows, *value.shape[1:]).contiguous().numpy()
        logits = torch.from_numpy(self.session(arrays)).to(pixel_values.device)
        logits[~pixel_values.isfinite().flatten(1).all(1).expand(rows)] = torch.nan  # as of the network
        return (logits,) if return_dict is False else ReferringSegmentationOutput(logits=logits)

    def _check_tokens(self, input_ids: Tensor) -> None:
        """Raise a `ValueError` for tokens that the vocabulary lacks: a graph may read past its end."""
        size = self.config.text_config.vocab_size
        low, high = int(input_ids.min()), int(input_ids.max())
        if low < 0 or high >= size:
            raise ValueError(
                f"`input_ids`: expected indices from 0 to {size - 1}, the vocabulary's, got {low} to {high}; use the "
                "processor of the graph's folder"
            )

    def _check_size(self, images: Tensor) -> None:
        """Raise a `ValueError` where images have another size than the graph's."""
        if tuple(images.shape[-2:]) != self.manifest.image_size_px:
            height, width = images.shape[-2:]
            raise ValueError(
                f"`pixel_values`: expected images of {self.manifest.size_text}, the only ones that this graph takes, "
                f"got {height}×{width} px; resize them, or write another graph, for squares, with `rrsis export MODEL "
                f"OUTPUT --image-size {max(height, width)}`"
            )
