"""`rrsis export`: a model as a file for another runtime, checked against the model before it gets its name."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modeling_rrsis import LAVTForReferringSegmentation

from ..benchmark.machine import describe_machine
from ..data.inputs.collate import ReferringCollator
from .runtime_check import (
    ProgramNetwork,
    check_agreement,
    compare,
    load_rows,
    row_batches,
    score,
    time_both,
)
from .runtime_result import Agreement, Measured, RuntimeResult
from .runtime_spec import RuntimeFormat, RuntimeSpec
from .runtime_trace import InputShape, drop_origins, input_names, sample_inputs, trace

NOTES_FILE = "rrsis.json"
"""Of a .pt2, among its extra files."""
CHECKED_SHAPES: tuple[tuple[int, int], ...] = ((1, 5), (2, 12))
"""Batches and lengths of the check, other ones than were traced."""
TIMED_LENGTH = 20


@dataclass(frozen=True)
class Subject:
    """What is exported.

    Attributes:
        network: The network, float32, in evaluation, on the CPU.
        processor: Its processor, set to `size_px`.
        names: Tensors that the network reads.
        size_px: Height and width of the images.
    """

    network: Any
    processor: Any
    names: tuple[str, ...]
    size_px: tuple[int, int]

    def samples(self, batch: int, length: int, seed: int) -> dict[str, Tensor]:
        """Seeded inputs."""
        length = min(length, self.network.config.text_config.max_position_embeddings)
        return sample_inputs(self.network, self.names, InputShape(batch, length, self.size_px), seed=seed)


def export_runtime(spec: RuntimeSpec, on_step: Callable[[str], None] = lambda text: None) -> RuntimeResult:
    """Export, check, time and score a model.

    The file is written into a folder of its own beside its place and moved there at the end: whatever fails, what was
    at that place stays, and nothing is left.

    Args:
        spec: What is asked for.
        on_step: Told what comes next.

    Returns:
        What was measured.

    Raises:
        ValueError: For a model, data or settings that can't be used, or a folder that can't be written to.
        OSError: If the file can't be written.
        ImportError: If a package is missing.
        RuntimeError: If torch or onnxruntime fails, or a float32 export is another function than the network.
    """
    spec.check()
    output = spec.output.resolve()  # a link stays one
    with _folder_beside(output) as aside:
        on_step("loading the model")
        subject = load_subject(spec)
        rows = None if spec.data is None else load_rows(spec.data, spec.model, input_size_px=min(subject.size_px))
        path = aside / output.name
        notes = describe(spec, subject)
        on_step("tracing")
        eight_bit = write_file(subject, spec, path, notes, on_step)
        exported = open_file(path, spec.format)
        on_step("comparing")
        agreements = compare_all(subject, exported, rows, spec)
        result = measure(subject, exported, rows, spec, path, on_step)
        os.replace(path, output)
    return RuntimeResult(
        output=str(spec.output),
        notes=notes,
        inputs=subject.names,
        eight_bit=eight_bit,
        network=result[0],
        exported=result[1],
        agreements=agreements,
        data=None if spec.data is None else f"{spec.data.name}, {spec.data.split}",
        machine=describe_machine("cpu") | runtime_versions(spec.format),
    )


def load_subject(spec: RuntimeSpec) -> Subject:
    """Load a model with the checks of the other commands and set its processor to the size.

    Raises:
        ValueError: If it is no model of this project.
    """
    from ..hub.loading import load_pipeline

    try:
        pipe = load_pipeline(spec.model, trust_remote_code=spec.trust_remote_code)
    except ValueError as error:
        raise ValueError(str(error).replace("--model:", "MODEL:")) from error
    network, processor = pipe.model, pipe.processor
    if not isinstance(network, LAVTForReferringSegmentation):
        raise ValueError(
            f"MODEL: expected LAVT, DANet or FIANet of this project, {spec.model} holds a {type(network).__name__}"
        )
    if spec.image_size_px is not None:
        height, width = spec.image_size_px
        processor.image_processor.size = {"height": height, "width": width}
    size = processor.image_processor.size
    network = network.float().cpu().eval()
    return Subject(network, processor, input_names(network), (size["height"], size["width"]))


def describe(spec: RuntimeSpec, subject: Subject) -> dict[str, str]:
    """Notes for the file: what to feed and what comes out, for a reader who has the file alone."""
    images, processor = subject.processor.image_processor, subject.processor
    notes: dict[str, Any] = {
        "rrsis_version": version("rrsis"),
        "model_type": subject.network.config.model_type,
        "weights": "8-bit linear layers, float32 else" if spec.int8 else "float32",
        "image_height_px": subject.size_px[0],
        "image_width_px": subject.size_px[1],
        "image_channels": "RGB",
        "rescale_factor": images.rescale_factor,
        "image_mean": list(images.image_mean),
        "image_std": list(images.image_std),
        "inputs": ", ".join(subject.names),
        "longest_expression_tokens": subject.network.config.text_config.max_position_embeddings,
        "categories": processor.categories,
        "alignment": processor.alignment,
        "max_length": processor.max_length,
        "logits": "log-odds of the target (batch, height, width); the probability is their sigmoid",
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in notes.items()}


def write_file(
    subject: Subject, spec: RuntimeSpec, path: Path, notes: Mapping[str, str], on_step: Callable[[str], None]
) -> int:
    """Trace the network and write the file; returns how many products of matrices became 8-bit."""
    with _explained("torch.export could not trace the network"):
        program = trace(subject.network, subject.names, subject.size_px)
    if spec.format is RuntimeFormat.PT2:
        on_step("writing")
        drop_origins(program)
        whole = io.BytesIO()  # torch ends the process where it can't write
        with _explained("torch could not write the program"):
            torch.export.save(program, whole, extra_files={NOTES_FILE: json.dumps(dict(notes), indent=1)})
        path.write_bytes(whole.getbuffer())
        return 0
    from .runtime_onnx import check_size, quantize_linear_layers, write_notes, write_onnx

    check_size(program)
    on_step("translating to ONNX")
    count, plain = 0, path.with_name(f"float32-{path.name}") if spec.int8 else path
    with _explained("the network could not be translated to ONNX"):
        write_onnx(program, subject.names, plain)
    if spec.int8:
        on_step("rounding to 8 bits")
        with _explained("onnxruntime could not round the linear layers"):
            count = quantize_linear_layers(plain, path)
    write_notes(path, notes)
    return count


def open_file(path: Path, file_format: RuntimeFormat) -> Any:
    """The file in its runtime, callable as the network."""
    if file_format is RuntimeFormat.PT2:
        return ProgramNetwork(path)
    from .runtime_onnx import OnnxNetwork

    with _explained("onnxruntime could not load the file"):
        return OnnxNetwork(path, threads=torch.get_num_threads())


def compare_all(subject: Subject, exported: Any, rows: Any, spec: RuntimeSpec) -> list[Agreement]:
    """Agreement on seeded noise and on the first rows of the data; an error where float32 is not the network."""
    noise = [
        subject.samples(batch=batch, length=length, seed=spec.seed + number)
        for number, (batch, length) in enumerate(CHECKED_SHAPES)
    ]
    batches: dict[str, Sequence[dict[str, Tensor]]] = {"seeded noise": noise}
    if rows is not None and spec.data is not None:
        batches[f"{spec.data.name}, {spec.data.split}"] = row_batches(rows, ReferringCollator(subject.processor))
    agreements = []
    for name, inputs in batches.items():
        agreements.append(compare(subject.network, exported, inputs, inputs=name))
        if not spec.int8:
            check_agreement(agreements[-1])
    return agreements


def measure(
    subject: Subject, exported: Any, rows: Any, spec: RuntimeSpec, path: Path, on_step: Callable[[str], None]
) -> tuple[Measured, Measured]:
    """Size, time and scores of the network and of the export."""
    on_step("timing")
    inputs = subject.samples(batch=1, length=TIMED_LENGTH, seed=spec.seed)
    seconds = time_both(subject.network, exported, inputs, rounds=spec.rounds)
    scores: list[dict[str, float]] = [{}, {}]
    names = ("PyTorch, eager, float32", f"{spec.format}, {'int8' if spec.int8 else 'float32'}")
    if rows is not None:
        on_step("scoring")
        collator = ReferringCollator(subject.processor)
        pair = zip((subject.network, exported), names, strict=True)
        scores = [score(network, rows, collator, description=name) for network, name in pair]
    weights = sum(value.numel() * value.element_size() for value in subject.network.state_dict().values())
    sizes = (weights, path.stat().st_size)
    first, second = (
        Measured(name=name, size_bytes=size, seconds=runs, scores=found)
        for name, size, runs, found in zip(names, sizes, seconds, scores, strict=True)
    )
    return first, second


def runtime_versions(file_format: RuntimeFormat) -> dict[str, str]:
    """Versions of what wrote and ran the file, besides torch."""
    from .runtime_spec import ONNX_PACKAGES

    names = ONNX_PACKAGES if file_format is RuntimeFormat.ONNX else ()
    return {name: version(name) for name in names}


@contextmanager
def _folder_beside(output: Path) -> Iterator[Path]:
    """A folder on the file's disk, gone at the end."""
    try:
        folder = tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent)
    except OSError as error:
        raise ValueError(f"{output}: expected a folder that can be written to, got {error.strerror}") from error
    with folder as name:
        yield Path(name)


@contextmanager
def _explained(text: str) -> Iterator[None]:
    """Say in one sentence what failed in a library, whose own text is long or of a class of its own."""
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        detail = lines[0] if lines else type(error).__name__
        raise RuntimeError(f"{text} (torch {torch.__version__}): {detail}") from error
