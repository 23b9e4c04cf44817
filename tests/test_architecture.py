"""The arrows of the layout: who may import whom, and what lets root files travel to the Hub as flat remote code."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("modeling_rrsis", "processing_rrsis")
ROOT_FILES = sorted(path for package in PACKAGES for path in (ROOT / package).glob("*.py"))
TRAVELLING = [path for path in ROOT_FILES if re.fullmatch(r".*_rrsis\.py|modeling_.*\.py", path.name)]
LAYERS = {"configuration_rrsis", "alignment_rrsis", "loss_rrsis"}
MODELING_ARROWS: dict[str, set[str]] = {
    "configuration_rrsis": set(),
    "affinity_triton_rrsis": set(),
    "affinity_rrsis": {"affinity_triton_rrsis"},
    "loss_rrsis": {"affinity_rrsis"},
    "alignment_rrsis": {"recomputed_rrsis", "shortcuts_rrsis"},
    "inputs_rrsis": set(),
    "shortcuts_rrsis": set(),
    "recomputed_rrsis": {"shortcuts_rrsis"},
    "windows_rrsis": {"recomputed_rrsis", "shortcuts_rrsis"},
    "convolution_rrsis": set(),
    "swin_rrsis": {"configuration_rrsis", "recomputed_rrsis", "windows_rrsis"},
    "multi_scale_rrsis": {"configuration_rrsis", "alignment_rrsis"},
    "modeling_lavt": {*LAYERS, "swin_rrsis", "convolution_rrsis", "inputs_rrsis", "shortcuts_rrsis"},
    "modeling_danet": {*LAYERS, "modeling_lavt"},
    "modeling_fianet": {*LAYERS, "modeling_lavt", "multi_scale_rrsis"},
}


def relative_id(path):
    return str(path.relative_to(ROOT))


def imports(path):
    """(level, module, names) of every import statement, wherever it stands in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield 0, alias.name, ()
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", tuple(alias.name for alias in node.names)


def absolute_modules(path):
    """Imported modules as dotted names, relative ones resolved."""
    package = list(path.relative_to(ROOT).parent.parts)
    for level, module, names in imports(path):
        base = package[: len(package) - level + 1] if level else []
        prefix = ".".join([*base, *([module] if module else [])])
        yield prefix
        yield from (f"{prefix}.{name}" for name in names)


def packages_of(path):
    return {module.split(".")[0] for module in absolute_modules(path)}


def test_the_files_are_found():
    names = {path.name for path in TRAVELLING}
    assert {"modeling_lavt.py", "configuration_rrsis.py", "expression_rrsis.py", "processor_rrsis.py"} <= names


@pytest.mark.parametrize("name", sorted(MODELING_ARROWS))
def test_the_networks_import_along_the_arrows(name):
    path = ROOT / "modeling_rrsis" / f"{name}.py"
    siblings = {module for level, module, _ in imports(path) if level == 1}
    assert siblings <= MODELING_ARROWS[name]


def test_every_root_file_of_the_networks_has_its_arrows():
    names = {path.stem for path in (ROOT / "modeling_rrsis").glob("*.py")} - {"__init__", "__main__"}
    assert names == set(MODELING_ARROWS)


@pytest.mark.parametrize("path", [path for path in ROOT_FILES if path.stem != "__init__"], ids=relative_id)
def test_root_files_never_import_the_other_package(path):
    """`__init__` never travels: registering the processor with the networks' configurations happens there."""
    (other,) = set(PACKAGES) - {path.parent.name}
    assert other not in packages_of(path)


@pytest.mark.parametrize("path", TRAVELLING, ids=relative_id)
def test_travelling_files_import_their_neighbours_flat(path):
    neighbours = {sibling.stem for sibling in path.parent.glob("*.py")}
    for level, module, names in imports(path):
        if level:
            assert level == 1, f"from {'.' * level}{module} reaches out of the folder"
            assert module in neighbours, f"from .{module} import {names} is not `from .module import name`"
        else:
            assert module.split(".")[0] not in PACKAGES, f"import {module} needs the package to be installed"


@pytest.mark.parametrize("path", TRAVELLING, ids=relative_id)
def test_no_text_looks_like_a_relative_import(path):
    """transformers finds relative imports by a regular expression, in docstrings too."""
    lines = re.findall(r"^\s*from\s+\.(\S+)\s+import", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(lines) == {module for level, module, _ in imports(path) if level}


@pytest.mark.parametrize("folder", ["data", "metrics", "scenes"])
def test_data_metrics_and_scenes_know_no_networks(folder):
    for path in (ROOT / "processing_rrsis" / folder).rglob("*.py"):
        modules = set(absolute_modules(path))
        assert "modeling_rrsis" not in packages_of(path), path
        above = ("processing_rrsis.tools", "processing_rrsis.training")
        assert not any(module.startswith(above) for module in modules), path


def test_the_metric_module_for_evaluate_stands_alone():
    path = ROOT / "processing_rrsis" / "metrics" / "rrsis_iou" / "rrsis_iou.py"
    assert packages_of(path) <= {"collections", "datasets", "evaluate", "math", "numpy", "typing"}


def test_names_of_root_files_are_unique_and_no_package_name():
    names = [path.stem for path in ROOT_FILES if path.stem not in ("__init__", "__main__")]
    assert len(names) == len(set(names))
    assert not set(names) & set(PACKAGES)


def test_the_base_never_mentions_a_child():
    text = (ROOT / "modeling_rrsis" / "modeling_lavt.py").read_text(encoding="utf-8")
    code = ast.parse(text)
    words = {node.id for node in ast.walk(code) if isinstance(node, ast.Name)}
    words |= {node.attr for node in ast.walk(code) if isinstance(node, ast.Attribute)}
    words |= {node.name for node in ast.walk(code) if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    assert not [word for word in words if re.search("danet|fianet", word, flags=re.IGNORECASE)]
    strings = [node.value for node in ast.walk(code) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert not [text for text in strings if re.search(r"rrsis_(danet|fianet)|modeling_(danet|fianet)", text)]
