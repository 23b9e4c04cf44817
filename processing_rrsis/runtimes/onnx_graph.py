"""ONNX's form of a traced graph: made, written, run by onnxruntime."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
import torch

from .spec import GRAPH_FILES, RuntimeFormat
from .tracing import OUTPUT, free_sizes

GRAPH_FILE = GRAPH_FILES[RuntimeFormat.ONNX][0]
OPSET = 20  # since which GELU is one operation
LARGEST_BYTES = 2**31 - 1  # of one ONNX file, protobuf's limit
_LOGGERS = ("", "torch.onnx", "onnxscript", "onnx_ir")


def translate(program: torch.export.ExportedProgram, names: Sequence[str], size_px: tuple[int, int]) -> Any:
    """Translate a traced graph; arguments as of `openvino_graph.translate`.

    Returns:
        An `onnx.ModelProto` with these inputs and the output `logits`.

    Raises:
        ValueError: If the weights are too large for one ONNX file.
    """
    size = sum(value.numel() * value.element_size() for value in program.state_dict.values())
    if size > LARGEST_BYTES:
        raise ValueError(
            f"expected weights of at most {LARGEST_BYTES / 2**30:.0f} GiB, the limit of one ONNX file, got "
            f"{size / 2**30:.1f} GiB; use --format openvino"
        )
    with quiet(), torch.no_grad():
        translated = torch.onnx.export(
            program,
            dynamo=True,
            input_names=list(names),
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamic_shapes=free_sizes(names, "batch", "length"),
            verbose=False,
        )
    model = cast(torch.onnx.ONNXProgram, translated).model_proto
    _drop_origins(model)
    return model


def save(model: Any, folder: Path) -> None:
    """Write a model into a folder."""
    import onnx  # to run a graph onnxruntime is enough

    onnx.save(model, folder / GRAPH_FILE)


class Session:
    """A written graph on the CPU; may be called from several threads.

    Args:
        folder: Where it was written.
        threads: Threads of an operation.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors
        path = os.fspath(folder / GRAPH_FILE)
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Log-odds float32 (B, H, W) of arrays under the graph's names."""
        return self.session.run([OUTPUT], dict(inputs))[0]


def _drop_origins(model: Any) -> None:
    """Drop from a graph where in which file on this machine its parts come from, and the shapes between them.

    Every reader infers those; after the exporter's optimiser some are wrong.
    """
    graph = model.graph
    graph.ClearField("value_info")
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


@contextmanager
def quiet() -> Iterator[None]:
    """Silence advice of the exporter to its developers; errors are raised all the same."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
