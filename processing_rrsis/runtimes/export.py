"""A model as a folder for another runtime, checked against the model before the folder gets its name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modeling_rrsis import LAVTForReferringSegmentation

from ..benchmark.machine import describe_machine
from ..data.inputs.collate import ReferringCollator
from ..errors import RRSISError
from ..hub.model_folder import drop_local_keys, replaced_folder
from .check import COMPARED_ROWS, check_agreement, compare, row_batches, score, time_both
from .folder import MANIFEST_FILE, RuntimeManifest, hash_files, package_versions, weights_sha256
from .network import RuntimeNetwork
from .result import Agreement, ExportResult, Measured
from .spec import GRAPH_FILES, QUANTISING_PACKAGES, WRITING_PACKAGES, ExportOptions, graph_module
from .tracing import InputShape, input_names, sample_inputs, trace

CHECKED_SHAPES: tuple[tuple[int, int], ...] = ((1, 5), (2, 12))
"""Batches and lengths of the check, other ones than were traced."""
TIMED_LENGTH = 20


@dataclass(frozen=True)
class NamedRows:
    """Samples and what to call them.

    Attributes:
        name: Such as `"synthetic, test"`.
        rows: Rows with `image`, `mask` and `expression`.
    """

    name: str
    rows: Any


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

    def noise(self, batch: int, length: int, seed: int) -> dict[str, Tensor]:
        """Seeded inputs."""
        length = min(length, self.network.config.text_config.max_position_embeddings)
        return sample_inputs(self.network, self.names, InputShape(batch, length, self.size_px), seed=seed)

    def row_batches(self, rows: Any, count: int) -> list[dict[str, Tensor]]:
        """Some rows as inputs, one a batch."""
        return row_batches(rows, ReferringCollator(self.processor), count=count)


def export_runtime(
    pipe: Any,
    output: Path,
    options: ExportOptions,
    *,
    scored: NamedRows | None = None,
    calibration: NamedRows | None = None,
    calibration_samples: int = 0,
    on_step: Callable[[str], None] = lambda text: None,
) -> ExportResult:
    """Export, check, time and score a model.

    The folder is written under another name beside its place and moved there at the end: whatever fails, what was at
    that place stays, and nothing is left.

    Args:
        pipe: Pipeline of the model and its processor, both of which are set to the image size, float32 and the CPU.
        output: Folder to write; one that `rrsis export` wrote is replaced.
        options: What is asked for.
        scored: Samples to score network and graph on.
        calibration: Samples from which int8 takes its ranges; needed for int8.
        calibration_samples: How many of them.
        on_step: Told what comes next.

    Returns:
        What was measured.

    Raises:
        ValueError: For a model or options that can't be used, or a folder that holds other things.
        OSError: If the folder can't be written.
        ImportError: If a package is missing.
        RRSISError: If torch or the runtime fails, or a float32 graph is another function than the network.
    """
    options.check()
    subject = prepare(pipe, options.image_size_px)
    graph_module(options.format)  # its library is imported by now: a signal amid an import comes out as an ImportError
    with replaced_folder(output, marker=MANIFEST_FILE) as aside:
        samples = [] if calibration is None else subject.row_batches(calibration.rows, calibration_samples)
        note = None if calibration is None else {"data": calibration.name, "samples": len(samples)}
        write_folder(subject, options, aside, samples=samples, calibration=note, on_step=on_step)
        on_step("comparing")
        with _explained(f"{options.format} could not load the graph"):
            exported = RuntimeNetwork.from_pretrained(aside)
        agreements = compare_all(subject, exported, scored, options)
        network, graph = measure(subject, exported, scored, options, aside, on_step)
    return ExportResult(
        output=str(output),
        manifest=exported.manifest,
        network=network,
        exported=graph,
        agreements=agreements,
        data=None if scored is None else scored.name,
        machine=describe_machine("cpu") | dict(exported.manifest.versions),
    )


def prepare(pipe: Any, image_size_px: tuple[int, int] | None) -> Subject:
    """Set network and processor to what the graph is made for.

    Raises:
        ValueError: If it is no model of this project.
    """
    network, processor = pipe.model, pipe.processor
    if not isinstance(network, LAVTForReferringSegmentation):
        raise ValueError(f"expected a network of this project, got a {type(network).__name__}")
    if getattr(network, "is_quantized", False):
        raise ValueError(
            "expected a network of floating-point weights, got one whose layers are 8-bit already; export the model "
            "that it was made from, with --int8"
        )
    if image_size_px is not None:
        height, width = image_size_px
        processor.image_processor.size = {"height": height, "width": width}
    size = processor.image_processor.size
    network = network.float().cpu().eval()
    return Subject(network, processor, input_names(network), (size["height"], size["width"]))


def write_folder(
    subject: Subject,
    options: ExportOptions,
    folder: Path,
    *,
    samples: Sequence[Mapping[str, Tensor]],
    calibration: Mapping[str, Any] | None,
    on_step: Callable[[str], None],
) -> None:
    """Trace the network and write graph, configuration, processor and `runtime.json`."""
    module = graph_module(options.format)
    on_step("tracing")
    with _explained("torch.export could not trace the network"):
        program = trace(subject.network, subject.names, subject.size_px)
    on_step(f"translating to {options.format}")
    with _explained(f"the network could not be translated to {options.format}"):
        model = module.translate(program, subject.names, subject.size_px)
    if options.int8:
        from .quantisation import quantise

        on_step(f"calibrating 8 bits on {len(samples)} samples")
        with _explained("NNCF could not make the graph's layers 8-bit"):
            model = quantise(model, [{name: item[name].numpy() for name in subject.names} for item in samples])
    on_step("writing")
    module.save(model, folder)
    config = copy.deepcopy(subject.network.config)
    config.auto_map = {}  # the folder holds no network's code
    config.save_pretrained(folder)
    subject.processor.save_pretrained(folder)
    drop_local_keys(folder)
    packages = (QUANTISING_PACKAGES if options.int8 else WRITING_PACKAGES)[options.format]
    RuntimeManifest(
        format=options.format,
        precision="int8" if options.int8 else "float32",
        model_type=config.model_type,
        network_class=type(subject.network).__name__,
        parameters=subject.network.num_parameters(),
        image_size_px=subject.size_px,
        inputs=subject.names,
        files_sha256=hash_files(folder, sorted(path.name for path in folder.iterdir())),
        weights_sha256=weights_sha256(subject.network),
        calibration=calibration,
        versions=package_versions(*packages),
    ).write(folder)


def compare_all(
    subject: Subject, exported: RuntimeNetwork, scored: NamedRows | None, options: ExportOptions
) -> list[Agreement]:
    """Agreement on seeded noise and on some rows of the data; an error where float32 is not the network."""
    noise = [
        subject.noise(batch=batch, length=length, seed=options.seed + number)
        for number, (batch, length) in enumerate(CHECKED_SHAPES)
    ]
    batches: dict[str, Sequence[dict[str, Tensor]]] = {"seeded noise": noise}
    if scored is not None:
        batches[scored.name] = subject.row_batches(scored.rows, COMPARED_ROWS)
    agreements = []
    for name, inputs in batches.items():
        agreements.append(compare(subject.network, exported, inputs, inputs=name))
        if not options.int8:
            check_agreement(agreements[-1])
    return agreements


def measure(
    subject: Subject,
    exported: RuntimeNetwork,
    scored: NamedRows | None,
    options: ExportOptions,
    folder: Path,
    on_step: Callable[[str], None],
) -> tuple[Measured, Measured]:
    """Size, time and scores of the network and of the graph."""
    on_step("timing")
    inputs = subject.noise(batch=1, length=TIMED_LENGTH, seed=options.seed)
    seconds = time_both(subject.network, exported, inputs, rounds=options.rounds)
    scores: list[dict[str, float]] = [{}, {}]
    names = ("PyTorch, eager, float32", f"{options.format}, {exported.manifest.precision}")
    if scored is not None:
        on_step("scoring")
        collator = ReferringCollator(subject.processor)
        pair = zip((subject.network, exported), names, strict=True)
        scores = [score(network, scored.rows, collator, description=name) for network, name in pair]
    weights = sum(value.numel() * value.element_size() for value in subject.network.state_dict().values())
    graph = sum((folder / name).stat().st_size for name in GRAPH_FILES[options.format])
    first, second = (
        Measured(name=name, size_bytes=size, seconds=runs, scores=found)
        for name, size, runs, found in zip(names, (weights, graph), seconds, scores, strict=True)
    )
    return first, second


@contextmanager
def _explained(text: str) -> Iterator[None]:
    """Say in one sentence what failed in a library, whose own text is long or of a class of its own."""
    try:
        yield
    except (OSError, MemoryError, ValueError):
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        detail = lines[0] if lines else type(error).__name__
        raise RRSISError(f"{text} (torch {torch.__version__}): {detail}") from error
