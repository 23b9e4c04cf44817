"""OpenVINO's form of a traced graph: made, written, run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch

from .spec import GRAPH_FILES, RuntimeFormat
from .tracing import IMAGE_INPUT, OUTPUT

GRAPH_FILE = GRAPH_FILES[RuntimeFormat.OPENVINO][0]


def translate(program: torch.export.ExportedProgram, names: Sequence[str], size_px: tuple[int, int]) -> Any:
    """Translate a traced graph.

    Args:
        program: What [`tracing.trace`] returned.
        names: Its inputs.
        size_px: Height and width of the images.

    Returns:
        An `openvino.Model` with these inputs and the output `logits`.
    """
    model = openvino.convert_model(program)
    for name, given in zip(names, model.inputs, strict=True):
        given.get_tensor().set_names({name})  # the converter adds inner names, one of a size without meaning
        if name == IMAGE_INPUT:  # it forgets fixed sizes
            given.get_node().set_partial_shape(openvino.PartialShape([-1, 3, *size_px]))
    model.outputs[0].get_tensor().set_names({OUTPUT})
    model.validate_nodes_and_infer_types()
    return model


def save(model: Any, folder: Path) -> None:
    """Write a model into a folder, its weights as they are."""
    openvino.save_model(model, folder / GRAPH_FILE, compress_to_fp16=False)


class Session:
    """A written graph on the CPU; may be called from several threads.

    Args:
        folder: Where it was written.
        threads: Threads of an operation.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        # By itself OpenVINO computes in bfloat16 where the CPU can; float32 is what was compared with the network.
        hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        self.compiled = openvino.Core().compile_model(os.fspath(folder / GRAPH_FILE), "CPU", hints)

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Log-odds float32 (B, H, W) of arrays under the graph's names."""
        return self.compiled.create_infer_request().infer(dict(inputs))[OUTPUT]
