"""A pipeline of a model folder or of an exported graph: what `--runtime` chooses from."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from .folder import MANIFEST_FILE, is_runtime_folder, read_manifest
from .spec import AUTO_DEVICE, Runtime


def open_pipeline(
    model: str, runtime: Runtime = Runtime.AUTO, trust_remote_code: bool = False, device: str = AUTO_DEVICE
) -> Any:
    """Build the pipeline of a model, by the runtime that its folder was written for.

    Args:
        model: Folder of a model or of an exported graph, or `user/name` on the Hub.
        runtime: What is expected to compute.
        trust_remote_code: Whether code of a repository that is none of ours may run.
        device: `"auto"`, or PyTorch's name of a device.

    Returns:
        A `ReferringSegmentationPipeline`; a graph's is on the CPU.

    Raises:
        ValueError: If the folder is for another runtime, or can't be loaded, or there is no such device.
        ImportError: If the library that runs a graph is not installed.
    """
    _check_device(device)
    folder = Path(model).expanduser()
    if not is_runtime_folder(folder):
        if runtime not in (Runtime.AUTO, Runtime.TORCH):
            run = shlex.quote((folder.parent if folder.name in ("best", "last") else folder).name)
            raise ValueError(
                f"--runtime {runtime}: expected a folder that `rrsis export` wrote, {model} has no {MANIFEST_FILE}; "
                f"write one with `rrsis export {shlex.quote(model)} {run}-{runtime} --format {runtime}`"
            )
        from ..hub.loading import load_pipeline

        return load_pipeline(
            model, trust_remote_code=trust_remote_code, device=None if device == AUTO_DEVICE else device
        )
    if device not in (AUTO_DEVICE, "cpu"):
        raise ValueError(f"--device: expected auto or cpu, {model} holds a graph that runs on the CPU; got {device!r}")
    held = read_manifest(folder).format
    if runtime not in (Runtime.AUTO, held):
        raise ValueError(
            f"--runtime {runtime}: expected a folder for it, {model} holds a graph for {held}; leave --runtime out, "
            "or give the folder that it was exported from"
        )
    from transformers import AutoProcessor

    from ..hub.loading import check_processor, told
    from ..pipeline_rrsis import ReferringSegmentationPipeline
    from .network import RuntimeNetwork

    network = RuntimeNetwork.from_pretrained(folder)
    with told(f"--model: expected a processor in {model} as `rrsis export` writes it"):
        processor = AutoProcessor.from_pretrained(folder)
        check_processor(processor, model)
    return ReferringSegmentationPipeline(model=network, processor=processor, device=network.device)  # type: ignore[arg-type]


def _check_device(name: str) -> None:
    """Raise a `ValueError` for a device that this machine has not."""
    if name == AUTO_DEVICE:
        return
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # PyTorch's for unknown names, and for what was not built in
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(
            f"--device: expected auto or a device of this machine, such as cpu, got {name!r}: {reason}"
        ) from error
