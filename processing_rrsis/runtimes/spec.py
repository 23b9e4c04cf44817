"""What `rrsis export` is asked for and which packages that needs. Nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from ..installation import install_command

DEFAULT_ROUNDS = 5
MIN_IMAGE_SIZE_PX = 32  # of the networks


class RuntimeFormat(StrEnum):
    """Graphs that `rrsis export` writes, by the library that runs them."""

    OPENVINO = "openvino"
    ONNX = "onnx"


class Runtime(StrEnum):
    """Who computes, as commands take it: what the model's folder was written for, or one by name."""

    AUTO = "auto"
    TORCH = "torch"
    OPENVINO = "openvino"
    ONNX = "onnx"


GRAPH_FILES: dict[RuntimeFormat, tuple[str, ...]] = {
    RuntimeFormat.OPENVINO: ("openvino_model.xml", "openvino_model.bin"),
    RuntimeFormat.ONNX: ("model.onnx",),
}
"""Graph and weights, named as optimum names them; the first is the one to open."""
AUTO_DEVICE = "auto"
DEVICE_HELP = "auto: a GPU where there is one; or cpu, cuda, cuda:1, mps."
RUNTIME_HELP = "Who computes; auto: what the model's folder was written for, see rrsis export."
RUNNING_PACKAGES: dict[RuntimeFormat, tuple[str, ...]] = {
    RuntimeFormat.OPENVINO: ("openvino",),
    RuntimeFormat.ONNX: ("onnxruntime",),
}
WRITING_PACKAGES: dict[RuntimeFormat, tuple[str, ...]] = {
    RuntimeFormat.OPENVINO: ("openvino",),
    RuntimeFormat.ONNX: ("onnx", "onnxscript", "onnxruntime"),
}
QUANTISING_PACKAGES: dict[RuntimeFormat, tuple[str, ...]] = {
    RuntimeFormat.OPENVINO: ("openvino", "nncf"),
    RuntimeFormat.ONNX: ("onnx", "onnxscript", "onnxruntime", "nncf"),
}


@dataclass(frozen=True)
class ExportOptions:
    """One export.

    Attributes:
        format: What to write.
        int8: Whether layers multiply 8-bit integers; their ranges come from calibration samples.
        image_size_px: Height and width of the images; the processor's if absent.
        rounds: Timed runs of network and graph.
        seed: Seed of the noise on which they are compared.
    """

    format: RuntimeFormat
    int8: bool = False
    image_size_px: tuple[int, int] | None = None
    rounds: int = DEFAULT_ROUNDS
    seed: int = 0

    def check(self) -> None:
        """Find out before anything is loaded what can't work.

        Raises:
            ValueError: For images that are too small.
            ImportError: If a package that the format needs is not installed.
        """
        if self.image_size_px is not None and min(self.image_size_px) < MIN_IMAGE_SIZE_PX:
            raise ValueError(f"image_size_px: expected at least {MIN_IMAGE_SIZE_PX} px, got {min(self.image_size_px)}")
        check_installed(self.format, QUANTISING_PACKAGES if self.int8 else WRITING_PACKAGES)


def check_installed(graph_format: RuntimeFormat, packages: dict[RuntimeFormat, tuple[str, ...]]) -> None:
    """Raise an `ImportError` that names the packages of a format which are not installed."""
    missing = [name for name in packages[graph_format] if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"{graph_format} needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed; "
            f"run `{install_command(graph_format)}`"
        )


def graph_module(graph_format: RuntimeFormat) -> Any:
    """The module that makes, writes and runs the graphs of a format: `translate`, `save` and `Session`."""
    return import_module(f".{graph_format}_graph", __package__)
