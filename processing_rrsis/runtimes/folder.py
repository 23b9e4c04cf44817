"""The folder of an exported graph: what `runtime.json` says of it, and what keeps it from being read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..bounds_rrsis import parse_json, read_file
from ..installation import package_version
from .spec import GRAPH_FILES, RuntimeFormat

MANIFEST_FILE = "runtime.json"
CONFIG_FILE = "config.json"
PROCESSOR_FILE = "processor_config.json"
FOLDER_VERSION = 2
"""Of what a folder holds; one more where an older reader would misread it."""
_AGAIN = "export the model again with `rrsis export`"


@dataclass(frozen=True)
class RuntimeManifest:
    """What `runtime.json` says of the graph beside it.

    Attributes:
        format: The library that runs it.
        precision: `"float32"` or `"int8"`.
        model_type: Of the network that it stands for.
        network_class: Name of that network's class.
        parameters: Number of its parameters.
        image_size_px: Height and width of the images, the only ones it takes.
        inputs: Names of the tensors that it reads.
        files_sha256: Of every file beside it: graph, configuration, processor, tokenizer.
        weights_sha256: Of the network's weights, see [`weights_sha256`].
        calibration: Data and number of samples that the ranges of int8 were taken from.
        versions: Of this project and of what wrote the graph.
        folder_version: The writer's [`FOLDER_VERSION`].
    """

    format: RuntimeFormat
    precision: str
    model_type: str
    network_class: str
    parameters: int
    image_size_px: tuple[int, int]
    inputs: tuple[str, ...]
    files_sha256: Mapping[str, str]
    weights_sha256: str
    calibration: Mapping[str, Any] | None
    versions: Mapping[str, str]
    folder_version: int = FOLDER_VERSION

    @property
    def size_text(self) -> str:
        """Such as `480×480 px`."""
        return "{}×{} px".format(*self.image_size_px)

    def write(self, folder: Path) -> None:
        """Write `runtime.json`."""
        (folder / MANIFEST_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def is_runtime_folder(folder: Path) -> bool:
    """Whether a folder says that it holds a graph."""
    return (folder / MANIFEST_FILE).is_file()


def read_manifest(folder: Path) -> RuntimeManifest:
    """Read `runtime.json`.

    Raises:
        ValueError: If `rrsis export` did not write the folder, or another version of it did.
    """
    if not is_runtime_folder(folder):
        raise ValueError(
            f"{folder}: expected a folder that `rrsis export` wrote, it has no {MANIFEST_FILE}; write one with "
            f"`rrsis export MODEL {folder} --format openvino`"
        )
    values = _read_json(folder / MANIFEST_FILE)
    found = values.get("folder_version")
    if found != FOLDER_VERSION:
        versions = values.get("versions")
        written = versions.get("rrsis", "unknown") if isinstance(versions, dict) else "unknown"
        raise ValueError(
            f"{folder}: expected a folder of version {FOLDER_VERSION}, got version {found}, which rrsis {written} "
            f"wrote; {_AGAIN} of this version, {package_version()}"
        )
    try:
        manifest = RuntimeManifest(
            **{
                **values,
                "format": RuntimeFormat(values["format"]),
                "image_size_px": tuple(values["image_size_px"]),
                "inputs": tuple(values["inputs"]),
                "files_sha256": dict(values["files_sha256"]),
            }
        )
        _check_types(manifest)
        return manifest
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{folder}: expected a {MANIFEST_FILE} as `rrsis export` writes it, got {error}; {_AGAIN}"
        ) from error


def _check_types(manifest: RuntimeManifest) -> None:
    """Raise a `ValueError` for values of another type than `rrsis export` writes."""
    texts = {
        "inputs": manifest.inputs,
        "files_sha256": (*manifest.files_sha256, *manifest.files_sha256.values()),
        "versions": dict(manifest.versions).values(),
        "network_class": (manifest.network_class, manifest.model_type, manifest.weights_sha256, manifest.precision),
    }
    wrong = [name for name, values in texts.items() if not all(isinstance(value, str) for value in values)]
    numbers = (*manifest.image_size_px, manifest.parameters)
    if len(numbers) != 3 or not all(isinstance(number, int) for number in numbers):
        wrong.append("image_size_px or parameters")
    if wrong:
        raise ValueError(f"values of another type as {', '.join(wrong)}")


def check_folder(folder: Path, manifest: RuntimeManifest) -> None:
    """Check that what `runtime.json` says lies beside it.

    Raises:
        ValueError: If a file is missing or was changed, or if configuration or processor are another model's.
    """
    for name in {*manifest.files_sha256, *GRAPH_FILES[manifest.format], CONFIG_FILE, PROCESSOR_FILE}:
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder}: expected {name} beside {MANIFEST_FILE}, found none; copy the whole folder again"
            )
    model_type = _read_json(folder / CONFIG_FILE).get("model_type")
    if model_type != manifest.model_type:
        raise ValueError(
            f"{folder}: expected the {CONFIG_FILE} of the graph's model, {manifest.model_type}, got {model_type}; "
            f"{_AGAIN}"
        )
    part = _read_json(folder / PROCESSOR_FILE).get("image_processor")
    size = part.get("size") if isinstance(part, dict) else None
    if not isinstance(size, dict) or (size.get("height"), size.get("width")) != manifest.image_size_px:
        raise ValueError(
            f"{folder}: expected a processor that makes images of {manifest.size_text}, the graph's, {PROCESSOR_FILE} "
            f"says {size}; {_AGAIN}"
        )
    found = hash_files(folder, manifest.files_sha256)
    changed = [name for name, value in found.items() if value != manifest.files_sha256[name]]
    if changed:
        raise ValueError(
            f"{folder}: expected the files that {MANIFEST_FILE} was written for, {', '.join(changed)} is damaged or "
            "another's (its SHA-256 differs); copy the whole folder again"
        )


def hash_files(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of some of a folder's files by name."""
    hashes = {}
    for name in names:
        with (folder / name).open("rb") as file:
            hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def weights_sha256(network: Any) -> str:
    """SHA-256 of the names and numbers of a network's weights, the same for the same weights in any file."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def package_versions(*names: str) -> dict[str, str]:
    """Versions of this project, of torch and of the packages with these names."""
    return {"rrsis": package_version(), **{name: version(name) for name in ("torch", *names)}}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = parse_json(read_file(path), source=path.name)
    except ValueError as error:
        raise ValueError(f"{path}: expected readable JSON, got {error}; {_AGAIN}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(values).__name__}; {_AGAIN}")
    return values
