"""A model folder or Hub repository as a pipeline, with what it lacks said before anything is loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..bounds_rrsis import parse_json, read_file
from ..errors import PLAIN_ERRORS
from .checks import CONFIG, MAX_WORDS, check_tensors, without_numbers

NORMALIZERS = frozenset(
    ("BertNormalizer", "Sequence", "Lowercase", "StripAccents", "Strip", "NFC", "NFD", "NFKC", "NFKD", "ByteLevel")
)


def load_pipeline(
    model: str, trust_remote_code: bool = False, option: str = "--model", device: str | None = None
) -> Any:
    """Build the pipeline for a model folder or Hub repository, with the installed classes.

    Args:
        model: a folder written by training or `save_hub_folder`, or `user/name` on the Hub.
        trust_remote_code: allow code from the repository where the model is none of ours.
        option: what the command calls the model, for messages.
        device: PyTorch's name of a device; a GPU where there is one if absent.

    Raises:
        ValueError: no such folder, or a folder without configuration, processor or the complete weights.
    """
    _check_model_folder(model, option)
    if Path(model).expanduser().exists():
        model = str(Path(model).expanduser())
    from transformers import AutoProcessor
    from transformers.utils import logging

    from processing_rrsis.pipeline_rrsis import ReferringSegmentationPipeline

    logging.disable_progress_bar()
    network = load_network(model, option, trust_remote_code=trust_remote_code)
    with told(f"{option}: expected a processor in {model} as `save_pretrained` writes it"):
        processor = AutoProcessor.from_pretrained(model, trust_remote_code=trust_remote_code)
        if str(network.config.model_type).startswith("rrsis_"):
            check_processor(processor, model)
            check_tokenizer(processor.tokenizer, network.config.get_text_config().vocab_size, model)
        return ReferringSegmentationPipeline(model=network.eval(), processor=processor, device=device)  # type: ignore[arg-type]  # a name, too


def load_network(model: str, option: str, **options: Any) -> Any:
    """The network of a model folder or Hub repository, with all of its weights.

    Transformers fills gaps with random numbers and only warns; a mask from such a model would mean nothing.

    Args:
        model: As in `load_pipeline`.
        option: What the command calls the model, for messages.
        **options: For `AutoModel.from_pretrained`.

    Raises:
        ValueError: Damaged or incomplete weights.
        OSError: There is nothing of that name.
    """
    from transformers import AutoModel

    import modeling_rrsis  # noqa: F401 - registers the networks

    problems = check_described(Path(model))
    if problems:
        raise ValueError(f"{option}: {model}: {problems[0]}")
    try:
        with told(f"{option}: expected a network in {model} as `save_pretrained` writes it"):
            network, report = AutoModel.from_pretrained(model, output_loading_info=True, **options)
    except SafetensorError as error:
        raise ValueError(f"{option}: expected readable weights in {model}, got damaged ones ({error})") from error
    gaps = sorted(map(str, (*report["missing_keys"], *report["mismatched_keys"])))
    if gaps:
        raise ValueError(
            f"{option}: expected complete weights in {model}, {len(gaps)} tensors are missing or of another size, "
            f"such as {gaps[0]}; save the model again or check that config.json belongs to these weights"
        )
    without = without_numbers([*network.named_parameters(), *network.named_buffers()])
    if without:
        raise ValueError(
            f"{option}: expected finite numbers in {model}, {len(without)} tensors hold others, such as {without[0]}; "
            "the run diverged or the file is damaged"
        )
    return network


def check_processor(processor: Any, model: str) -> None:
    """Raise a `ValueError` for a processor of another project, or one whose settings a call would fail on."""
    parts = processor, getattr(processor, "image_processor", None)
    names = [type(part).__name__ for part in parts]
    if names[0] != "RRSISProcessor" or not names[1].startswith("RRSISImageProcessor"):
        raise ValueError(f"{model}: expected RRSISProcessor and its image processor, got {' and '.join(names)}")
    size = processor.image_processor.size
    if not all(isinstance(getattr(size, side, None), int) for side in ("height", "width")):
        raise ValueError(f"{model}: expected the images' size as height and width, got {size}")
    inputs = processor.tokenizer.model_input_names
    if not {"input_ids", "attention_mask"} <= set(inputs):
        raise ValueError(f"{model}: expected a tokenizer that gives input_ids and attention_mask, got {inputs}")


def check_tokenizer(tokenizer: Any, vocab_size: int, model: str) -> None:
    """Raise a `ValueError` for a tokenizer of another model's words, or one that writes texts anew before it cuts.

    Args:
        tokenizer: That was loaded.
        vocab_size: Words that the network knows.
        model: Where both are from.
    """
    highest = max(tokenizer.get_vocab().values(), default=0)
    if highest >= vocab_size:
        raise ValueError(f"{model}: expected a tokenizer of the network's {vocab_size:,} words, got index {highest:,}")
    normalizer = json.dumps(json.loads(tokenizer.backend_tokenizer.to_str()).get("normalizer"))
    strange = sorted(set(re.findall(r'"type": "(\w+)"', normalizer)) - NORMALIZERS)
    if strange:  # a few replacements by longer texts fill any memory
        raise ValueError(f"{model}: expected a tokenizer that normalizes as BERT's does, got {', '.join(strange)}")


@contextmanager
def told(expected: str) -> Iterator[None]:
    """Tell in words what values of a wrong kind in a configuration lead to in transformers and torch."""
    try:
        yield
    except SafetensorError:
        raise
    except PLAIN_ERRORS as error:
        if (
            len(str(error).strip().splitlines()) > 1 or len(str(error)) > MAX_WORDS
        ):  # transformers' words over several lines, in one
            kind = OSError if isinstance(error, OSError) else ValueError
            raise kind(" ".join(str(error).split())[:MAX_WORDS]) from error
        raise
    except Exception as error:
        raise ValueError(f"{expected}, got one that fails ({' '.join(str(error).split())[:MAX_WORDS]})") from error


def check_described(folder: Path) -> list[str]:
    """Compare the weights in a folder of ours with the network that it describes, before there is memory for either.

    Returns:
        At most one line; empty also for what is no folder of this project, or holds quantized weights.
    """
    if not (folder / CONFIG).is_file():
        return []
    settings = parse_json(read_file(folder / CONFIG), source=CONFIG)
    files = sorted(folder.glob("*.safetensors"))
    is_ours = isinstance(settings, dict) and str(settings.get("model_type")).startswith("rrsis_")
    if not is_ours or not files or "quantization_config" in settings:
        return []
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        for file in files:
            with safe_open(file, framework="numpy") as weights:
                shapes |= {key: tuple(weights.get_slice(key).get_shape()) for key in weights.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        return [f"{file.name}: expected readable weights, got damaged or cut ones ({error})"]
    return check_tensors(folder, shapes)


def _check_model_folder(model: str, option: str = "--model") -> None:
    """Say what a folder lacks; a name that is no folder must at least look like a Hub repository."""
    folder = Path(model).expanduser()
    if not folder.exists():
        parts = model.split("/")
        if len(parts) != 2 or not all(parts) or model.startswith((".", "~", "/")):
            raise ValueError(
                f"{option}: expected a model folder or a Hub repository such as user/name, {model!r} is neither; "
                "train one with `rrsis train`, it leaves OUTPUT/best"
            )
        if folder.parent.is_dir():
            raise ValueError(f"{option}: expected a model folder, {folder.parent} is one without {folder.name} in it")
        return
    if not (folder / "config.json").is_file():
        children = sorted(path.parent.name for path in folder.glob("*/config.json")) if folder.is_dir() else []
        hint = f"; did you mean {folder / children[0]}?" if children else "; train or download a model first"
        raise ValueError(f"{option}: expected a model folder, {model} has no config.json{hint}")
    if (folder / "runtime.json").is_file():
        raise ValueError(
            f"{option}: expected a model that torch computes, {model} holds a graph that `rrsis export` wrote from "
            "one; give the folder that it was exported from"
        )
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_model*.bin")):
        raise ValueError(
            f"{option}: expected weights (model.safetensors) beside config.json in {model}, found none; the copy is "
            "incomplete, fetch it again or point to the run's best/ or last/ folder"
        )
    if not (folder / "processor_config.json").is_file():
        raise ValueError(
            f"{option}: expected processor_config.json in {model}, found none; save the processor there too: "
            "processor.save_pretrained(folder)"
        )
