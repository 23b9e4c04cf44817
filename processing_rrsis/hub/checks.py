"""What is looked at before a model goes to the Hub: is it complete, and does it tell what it should not."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .push import RepoFile
from .secret_search import find_secrets

WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
CONFIG, PROCESSOR, CARD = "config.json", "processor_config.json", "README.md"
NEEDED_FILES = (CONFIG, PROCESSOR, "tokenizer.json", "tokenizer_config.json", CARD)
AUTO_CLASSES: dict[str, tuple[str, ...]] = {
    CONFIG: ("AutoConfig", "AutoModel"),
    PROCESSOR: ("AutoProcessor", "AutoImageProcessor"),
}
OWN_PACKAGES = frozenset(("modeling_rrsis", "processing_rrsis", "hub_cards"))
MAX_WEIGHT = 1e10
"""Far beyond any number of a network that learned something."""
MAX_WORDS = 600
"""Most of another library's error in a message: it may repeat a value of any length."""
CARD_FIELDS = ("license", "library_name", "pipeline_tag")

_WEIGHTS_PART = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_REFERENCE = re.compile(r"\w+\.\w+")


def refuse(source: object, problems: Sequence[str]) -> None:
    """Raise a `ValueError` that lists the problems, if there are any."""
    if problems:
        found = "\n".join(f"  {problem}" for problem in problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise ValueError(f"{source}: not published, {count}:\n{found}")


def check_model_folder(folder: Path) -> list[str]:
    """What a model folder lacks before others can load it.

    Args:
        folder: A folder as `save_hub_folder` writes it.

    Returns:
        One line per problem, beginning with the file; empty for a complete folder.
    """
    problems = [
        f"{name}: missing; save the model with save_hub_folder" for name in NEEDED_FILES if not _is(folder, name)
    ]
    shapes: dict[str, tuple[int, ...]] = {}
    problems += _check_weights(folder, shapes)
    code: set[str] = set()
    for name, classes in AUTO_CLASSES.items():
        settings = _read_json(folder / name, problems)
        if settings is not None:
            problems += _check_references(folder, name, settings, classes, code)
    problems += _check_code(folder, code)
    if _is(folder, CARD):
        problems += check_card((folder / CARD).read_text(encoding="utf-8", errors="replace"))
    for path in sorted(folder.glob("*.json")):
        content = _read_json(path, problems if path.name not in AUTO_CLASSES else [])
        problems += [
            f"{path.name}: {reference} loads code of another repository; save with save_hub_folder"
            for reference in foreign_code(content)
        ]
    return problems or check_tensors(folder, shapes) or _check_numbers(folder)


def foreign_code(content: Any) -> list[str]:
    """References to code of other repositories, in any `auto_map` or `custom_pipelines` of a configuration."""
    found, waiting = [], [(content, False)]
    while waiting:
        value, is_reference = waiting.pop()
        if isinstance(value, dict):
            waiting += [(item, is_reference or key in ("auto_map", "custom_pipelines")) for key, item in value.items()]
        elif isinstance(value, list):
            waiting += [(item, is_reference) for item in value]
        elif is_reference and "--" in str(value):
            found.append(str(value)[:MAX_WORDS])
    return found


def _is(folder: Path, name: str) -> bool:
    return (folder / name).is_file()


def _read_json(path: Path, problems: list[str]) -> dict[str, Any] | None:
    """The content of a JSON file; what is wrong with it goes to `problems`."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        problems.append(f"{path.name}:{getattr(error, 'lineno', 1)}: expected JSON, got {error}")
        return None
    if not isinstance(content, dict):
        problems.append(f"{path.name}:1: expected an object, got {type(content).__name__}")
        return None
    return content


def check_tensors(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Compare the weights with the network that config.json describes, which is built without memory for it.

    transformers fills gaps with random numbers and only warns: a stranger would not see that a mask means nothing.

    Args:
        folder: Model folder, complete otherwise.
        shapes: Name to shape of every tensor there.

    Returns:
        At most one line; empty where all tensors of the network are there.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    import modeling_rrsis  # noqa: F401 - registers the networks

    try:
        with torch.device("meta"):
            network = AutoModel.from_config(AutoConfig.from_pretrained(folder))
    except Exception as error:  # whatever a field of the wrong kind leads to in the networks' constructors
        words = " ".join(str(error).split())[:MAX_WORDS]
        return [f"{CONFIG}: expected the configuration of a network of this project, got one that fails ({words})"]
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    wrong = sorted(name for name, shape in expected.items() if shapes.get(name) != shape)
    if not wrong:
        return []
    return [
        f"{WEIGHTS}: {len(wrong)} of {len(expected)} tensors that {CONFIG} asks for are missing or of another size, "
        f"such as {wrong[0]}; save the model again"
    ]


def without_numbers(tensors: Iterable[tuple[str, Any]]) -> list[str]:
    """Names of the tensors that hold NaN, infinities or numbers beyond `MAX_WEIGHT`: no mask follows from them."""
    import torch

    without = []
    for name, tensor in tensors:
        if tensor.is_floating_point() and tensor.numel():
            low, high = torch.aminmax(tensor)  # NaN where there is one
            if not (low >= -MAX_WEIGHT and high <= MAX_WEIGHT):
                without.append(name)
    return without


def _check_numbers(folder: Path) -> list[str]:
    """Every file of weights holds numbers that a network computes with."""
    from safetensors import safe_open

    problems = []
    for path in sorted(folder.glob("model*.safetensors")):
        with safe_open(path, framework="pt") as weights:
            names = list(weights.keys())
            without = without_numbers((name, weights.get_tensor(name)) for name in names)
        if without:
            problems.append(
                f"{path.name}: {len(without)} tensors hold no finite numbers, or huge ones, such as {without[0]}; the "
                "run diverged or the file is damaged"
            )
    return problems


def _check_weights(folder: Path, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """One file, or all that the index names; each readable to its end, with the tensors that belong there."""
    from safetensors import SafetensorError, safe_open

    if not _is(folder, WEIGHTS) and not _is(folder, WEIGHTS_INDEX):
        return [f"{WEIGHTS}: missing; weights go up as safetensors only"]
    problems: list[str] = []
    expected: dict[str, set[str] | None] = {WEIGHTS: None}
    if _is(folder, WEIGHTS_INDEX):
        index = _read_json(folder / WEIGHTS_INDEX, problems)
        if index is None:
            return problems
        expected, places = {}, index.get("weight_map")
        if not isinstance(places, dict) or not places:
            return [f"{WEIGHTS_INDEX}: expected a weight_map of tensors to files, got {places!r:.60}"]
        for tensor, name in places.items():
            expected.setdefault(str(name), set()).add(tensor)  # type: ignore[union-attr]
        if _is(folder, WEIGHTS):
            problems.append(
                f"{WEIGHTS}: weights twice, here and in the parts of {WEIGHTS_INDEX}; delete one of the two"
            )
    for name, tensors in sorted(expected.items()):
        if name != WEIGHTS and not _WEIGHTS_PART.fullmatch(name):
            problems.append(f"{WEIGHTS_INDEX}: expected files such as model-00001-of-00002.safetensors, got {name!r}")
            continue
        if not _is(folder, name):
            problems.append(f"{name}: missing, and {WEIGHTS_INDEX} names it")
            continue
        try:
            with safe_open(folder / name, framework="numpy") as weights:
                sizes = {key: tuple(weights.get_slice(key).get_shape()) for key in weights.keys()}  # noqa: SIM118
                there, metadata = set(sizes), weights.metadata() or {}
        except (SafetensorError, OSError) as error:
            problems.append(f"{name}: expected readable weights, got damaged or cut ones ({error}); save them again")
            continue
        shapes.update(sizes)
        if tensors is not None and there != tensors:
            differing = sorted(there ^ tensors)
            problems.append(f"{name}: {len(differing)} tensors differ from {WEIGHTS_INDEX}, such as {differing[0]}")
        told = json.dumps([metadata, list(sizes)], ensure_ascii=False).encode("utf-8", "replace")
        problems += find_secrets([RepoFile(f"{name} (metadata).json", told)])
    return problems


def _check_references(
    folder: Path, name: str, settings: Mapping[str, Any], classes: Sequence[str], code: set[str]
) -> list[str]:
    """Every "file.Class" of auto_map and custom_pipelines is there; the files go to `code`."""
    auto_map, pipelines = settings.get("auto_map", {}), settings.get("custom_pipelines", {})
    part = settings.get("image_processor", {})  # of a processor, with an auto_map of its own
    inner = part.get("auto_map", {}) if isinstance(part, dict) else part
    for field, value in (("auto_map", auto_map), ("custom_pipelines", pipelines), ("image_processor", inner)):
        if not isinstance(value, dict):
            return [f"{name}: expected an object as {field}, got {type(value).__name__}"]
    auto_map = {**{cls: inner[cls] for cls in classes[1:] if cls in inner}, **auto_map}
    lacking = (cls for cls in classes if cls not in auto_map)
    problems = [f"{name}: auto_map lacks {cls}, so it does not load as remote code" for cls in lacking]
    references = [value for value in auto_map.values() if value is not None]
    if name == CONFIG:
        if not pipelines:
            problems.append(f"{name}: custom_pipelines is missing, so pipeline(...) does not find the task")
        references += [task.get("impl") if isinstance(task, dict) else task for task in pipelines.values()]
    for reference in references:
        if isinstance(reference, str) and "--" in reference:
            continue  # said of every file and depth by `foreign_code`
        if not isinstance(reference, str) or not _REFERENCE.fullmatch(reference):
            problems.append(f"{name}: expected references such as modeling_lavt.LAVTModel, got {reference!r:.80}")
            continue
        module, _, class_name = reference.rpartition(".")
        path = folder / f"{module}.py"
        if not path.is_file():
            problems.append(f"{name}: {reference} points to {module}.py, which is missing")
            continue
        code.add(path.name)
        source = path.read_text(encoding="utf-8", errors="replace")
        if not re.search(rf"^class {re.escape(class_name)}\b", source, flags=re.MULTILINE):
            problems.append(f"{name}: {module}.py has no class {class_name}")
    return problems


def needed_code(folder: Path) -> set[str]:
    """Names of the files of code that a model folder's configurations reach, which alone go up."""
    code: set[str] = set()
    for name, classes in AUTO_CLASSES.items():
        settings = _read_json(folder / name, [])
        if settings is not None:
            _check_references(folder, name, settings, classes, code)
    _check_code(folder, code)
    return code


def _check_code(folder: Path, code: set[str]) -> list[str]:
    """The code is flat and complete: neighbours are there, which `code` gains, and our packages are not needed."""
    problems, waiting, seen = [], sorted(code), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        code.add(name)
        if not _is(folder, name):
            problems.append(f"{name}: missing, and another file imports it")
            continue
        try:
            tree = ast.parse((folder / name).read_text(encoding="utf-8"))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # ValueError: no UTF-8, or a zero byte
            line, reason = getattr(error, "lineno", None) or 1, getattr(error, "msg", error)
            problems.append(f"{name}:{line}: expected Python, got {reason}")
            continue
        for line, level, module in _imports(tree):
            if level > 1 or (level == 1 and "." in module) or (level == 1 and not module):
                problems.append(f"{name}:{line}: a relative import reaches out of the flat folder")
            elif level == 1:
                waiting.append(f"{module}.py")
            elif module.split(".")[0] in OWN_PACKAGES:
                problems.append(f"{name}:{line}: imports {module}, which is not installed elsewhere")
    return problems


def _imports(tree: ast.AST) -> Iterator[tuple[int, int, str]]:
    """Line, level and module of every import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield node.lineno, node.level, node.module or ""
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, 0, alias.name) for alias in node.names)


def check_card(text: str, fields: Sequence[str] = CARD_FIELDS) -> list[str]:
    """What is wrong with a card: its metadata, or holes of a template.

    Args:
        text: Content of README.md.
        fields: Metadata that it must have.

    Returns:
        One line per problem.
    """
    import yaml
    from huggingface_hub import RepoCard

    if not text.startswith("---\n"):
        return [f"{CARD}:1: expected metadata between two lines of ---, got {text[:20]!r}"]
    try:
        card = RepoCard(text)  # the same parser for every kind; results of models are read below
        data = card.data.to_dict()
    except (yaml.YAMLError, ValueError, TypeError) as error:
        return [f"{CARD}:1: expected metadata that the Hub reads, got {' '.join(str(error).split())}"]
    problems = [f"{CARD}:1: the metadata lacks `{name}`" for name in fields if not data.get(name)]
    problems += _check_results(data)
    for number, line in enumerate(text.splitlines(), start=1):
        if hole := re.search(r"\$\{?[a-z_]+\b\}?", line):
            problems.append(f"{CARD}:{number}: {hole[0]} was not filled in")
    return problems


def _check_results(data: Mapping[str, Any]) -> list[str]:
    """The results that the Hub would show, read by the Hub's own library."""
    from huggingface_hub.repocard_data import model_index_to_eval_results

    if not data.get("model-index"):
        return []
    try:
        _, results = model_index_to_eval_results(data["model-index"])
    except (KeyError, TypeError, ValueError) as error:
        return [f"{CARD}:1: model-index is not what the Hub reads ({error!r})"]
    return [
        f"{CARD}:1: model-index holds {result.metric_value!r} for {result.metric_type}, expected a number"
        for result in results
        if not isinstance(result.metric_value, int | float)
    ]
