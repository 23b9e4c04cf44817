"""ONNX files of the networks: a traced graph in ONNX's operations, 8-bit weights, notes on what to feed."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from .runtime_trace import OUTPUT, free_sizes

OPSET = 20  # since which GELU is one operation
LARGEST_BYTES = 2**31 - 1  # of one ONNX file, protobuf's limit
_LOGGERS = ("", "torch.onnx", "onnxscript", "onnx_ir")


def check_size(program: torch.export.ExportedProgram) -> None:
    """Raise a `ValueError` where the weights of a program are too large for one ONNX file."""
    size = sum(value.numel() * value.element_size() for value in program.state_dict.values())
    if size > LARGEST_BYTES:
        raise ValueError(
            f"expected weights of at most {LARGEST_BYTES / 2**30:.0f} GiB, the limit of one ONNX file, got "
            f"{size / 2**30:.1f} GiB; write a .pt2 file"
        )


def write_onnx(program: torch.export.ExportedProgram, names: Sequence[str], path: Path) -> None:
    """Translate a traced graph and write it as one file, its weights in it.

    Args:
        program: What `runtime_trace.trace` returned.
        names: Its inputs.
        path: File to write.
    """
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
    drop_origins(model)
    onnx.save(model, path)


def quantize_linear_layers(source: Path, target: Path) -> int:
    """Write a copy whose linear layers multiply 8-bit integers; convolutions, embeddings and the rest stay float32.

    Weights are rounded for each output channel, the inputs of a layer as a whole, by the range that they have in that
    call. Weights get 7 of the 8 bits: on CPUs without VNNI instructions, sums of two 8-bit products would overflow.

    Args:
        source: ONNX file of float32 weights.
        target: File to write.

    Returns:
        The number of products of matrices that became 8-bit.
    """
    prepared = target.with_name(f"prepared-{target.name}")
    with quiet():
        # Shapes alone: the symbolic pass gives up on attention, and folded constants would make the file half as large
        # again, since each window of a map gets its own sum of position biases and shift mask.
        quant_pre_process(source, prepared, skip_symbolic_shape=True, skip_optimization=True)
        quantize_dynamic(
            prepared,
            target,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
    prepared.unlink()
    return sum(node.op_type == "MatMulInteger" for node in onnx.load(target).graph.node)


def write_notes(path: Path, notes: Mapping[str, str]) -> None:
    """Put notes into an ONNX file, as its metadata."""
    model = onnx.load(path)
    model.producer_name = "rrsis"
    onnx.helper.set_model_props(model, dict(notes))
    onnx.save(model, path)


def drop_origins(model: onnx.ModelProto) -> None:
    """Drop from a graph where in which file on this machine its parts come from, and the shapes between them.

    Every reader infers those; after the exporter's optimiser some are wrong.
    """
    graph = model.graph
    graph.ClearField("value_info")
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


class OnnxNetwork:
    """An ONNX file in onnxruntime on the CPU, called as the network itself.

    Args:
        path: The file.
        threads: Threads of an operation.
    """

    def __init__(self, path: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.names = [item.name for item in self.session.get_inputs()]

    def __call__(self, **inputs: Tensor) -> SimpleNamespace:
        """Log-odds as `.logits`, float32 (B, H, W); tensors that the file does not read are ignored."""
        given: dict[str, Any] = {name: inputs[name].numpy() for name in self.names}
        (logits,) = self.session.run([OUTPUT], given)
        return SimpleNamespace(logits=torch.from_numpy(logits))


@contextmanager
def quiet() -> Iterator[None]:
    """Silence advice of the exporter and the quantiser to their developers; errors are raised all the same."""
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
