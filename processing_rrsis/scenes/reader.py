"""Who reads: a model's pipeline, or any callable, as a function from windows and phrases to probabilities."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any
from uuid import uuid4

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray

Reader = Callable[[NDArray[np.uint8], Sequence[str]], NDArray[np.float32]]
"""Windows uint8 (B, H, W, 3) and P phrases in, probabilities of the target float (B, P, H, W) in [0, 1] out."""

DEFAULT_TILE_PX = 480
BATCH_ON_GPU = 8


class NetworkReader:
    """A pipeline's network and processor, asked in batches over windows and phrases.

    Args:
        pipeline: A `ReferringSegmentationPipeline`, of a model or of an exported graph.
        batch_size: Pairs of a window and a phrase that are computed at once; 1 on a CPU, 8 elsewhere if absent.
    """

    def __init__(self, pipeline: Any, batch_size: int | None = None) -> None:
        self.model = pipeline.model
        self.processor = pipeline.processor
        self.device = pipeline.model.device
        self.batch_size = batch_size or (1 if self.device.type == "cpu" else BATCH_ON_GPU)
        self._texts: dict[tuple[str, ...], Any] = {}

    @property
    def window_px(self) -> int:
        """The larger side of the images that the network was trained on."""
        size = self.processor.image_processor.size
        return max(size["height"], size["width"])

    @torch.inference_mode()
    def __call__(self, windows: NDArray[np.uint8], phrases: Sequence[str]) -> NDArray[np.float32]:
        """Probabilities of the target, float32 (B, P, H, W), at the windows' size."""
        images = self.processor.image_processor(list(windows), return_tensors="pt")["pixel_values"]
        texts = self._encoded(tuple(phrases))
        size = windows.shape[1:3]
        found = np.empty((len(windows), len(phrases), *size), dtype=np.float32)
        tiles_at_once = max(1, self.batch_size // len(phrases))
        for first in range(0, len(windows), tiles_at_once):
            part = images[first : first + tiles_at_once].to(self.device, self.model.dtype)
            for start in range(0, len(phrases), self.batch_size):
                rows = slice(start, start + self.batch_size)
                asked = {name: value[rows] for name, value in texts.items()}
                logits = self._logits(part, asked)
                _, probabilities = self.processor.post_process_referring_segmentation(
                    logits, target_sizes=[size] * len(logits), return_probabilities=True
                )
                stacked = torch.stack(probabilities).cpu().numpy()
                found[first : first + len(part), rows] = stacked.reshape(len(part), -1, *size)
        return found

    def _encoded(self, phrases: tuple[str, ...]) -> dict[str, torch.Tensor]:
        if phrases not in self._texts:
            self._texts = {phrases: dict(self.processor(text=list(phrases), return_tensors="pt").to(self.device))}
        return self._texts[phrases]

    def _logits(self, images: torch.Tensor, texts: dict[str, torch.Tensor]) -> torch.Tensor:
        """Ask about every pair; where one side is alone the network computes what it needs of it once."""
        count = len(texts["input_ids"])
        if len(images) > 1 and count > 1:
            texts = {name: value.repeat(len(images), 1) for name, value in texts.items()}
            images = images.repeat_interleave(count, dim=0)
        return self.model(pixel_values=images, **texts).logits.float()

    @cached_property
    def identity(self) -> str:
        """A digest of configuration, weights and processor: the same model in another folder has the same one."""
        manifest = getattr(self.model, "manifest", None)
        if manifest is not None:
            return f"{manifest.format}:{manifest.precision}:{sorted(manifest.files_sha256.values())}"
        digest = xxhash.xxh3_128(self.model.config.to_json_string().encode())
        digest.update(json.dumps(self.processor.to_dict(), sort_keys=True, default=str).encode())
        digest.update(self.processor.tokenizer.backend_tokenizer.to_str().encode())
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy())
        return digest.hexdigest()


def open_reader(model: Any, runtime: str = "torch", batch_size: int | None = None) -> Reader:
    """Turn what a caller hands over into a reader.

    Args:
        model: A `ReferringSegmentationPipeline`; a function as [`Reader`] says; or a model's folder or `user/name`
            on the Hub.
        runtime: Who computes, for a folder: `"torch"`, `"openvino"`, `"onnx"`, or `"auto"`.
        batch_size: See [`NetworkReader`].

    Raises:
        ValueError: If the folder is for another runtime or incomplete, or `batch_size` is below 1.
        TypeError: If the model is none of these.
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    if isinstance(model, str) or hasattr(model, "__fspath__"):
        from ..runtimes.loading import open_pipeline
        from ..runtimes.spec import Runtime

        if runtime not in list(Runtime):
            raise ValueError(f"runtime: expected one of {[str(name) for name in Runtime]}, got {runtime!r}")
        model = open_pipeline(str(model), runtime=Runtime(runtime))
    if isinstance(model, NetworkReader):
        return model
    if hasattr(model, "processor") and hasattr(model, "model"):
        return NetworkReader(model, batch_size=batch_size)
    if callable(model):
        return model
    raise TypeError(
        "model: expected a model's folder, a ReferringSegmentationPipeline or a function of windows and phrases, got "
        f"{type(model).__name__}"
    )


def reader_identity(reader: Any) -> str:
    """What a receipt holds of a reader: a network's digest, a function's `identity` or name; else what none has."""
    found = getattr(reader, "identity", None)
    if found is not None:
        return str(found() if callable(found) else found)
    name = getattr(reader, "__qualname__", "<instance>")
    unknown = uuid4().hex if "<" in name else ""  # of what a lambda or an object reads, nothing is known
    return f"{getattr(reader, '__module__', '')}.{name}{unknown}"


def window_px_of(reader: Any) -> int:
    """The side of the windows that a reader was made for: the network's, or a function's `window_px`."""
    return int(getattr(reader, "window_px", DEFAULT_TILE_PX))
