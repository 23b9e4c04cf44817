"""The arrows of the layout: who may import whom, and what lets root files travel to the Hub as flat remote code."""

import ast
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("modeling_rrsis", "processing_rrsis")
ROOT_FILES = sorted(path for package in PACKAGES for path in (ROOT / package).glob("*.py"))
TRAVELLING = [path for path in ROOT_FILES if re.fullmatch(r".*_rrsis\.py|modeling_.*\.py", path.name)]
LAYERS = {"configuration_rrsis", "alignment_rrsis", "loss_rrsis"}
MODELING_ARROWS: dict[str, set[str]] = {
    "configuration_rrsis": set(),
    "loss_rrsis": set(),
    "alignment_rrsis": {"configuration_rrsis"},
    "swin_rrsis": {"configuration_rrsis"},
    "multi_scale_rrsis": {"configuration_rrsis", "alignment_rrsis"},
    "modeling_lavt": {*LAYERS, "swin_rrsis"},
    "modeling_danet": {*LAYERS, "modeling_lavt"},
    "modeling_fianet": {*LAYERS, "modeling_lavt", "multi_scale_rrsis"},
    "modeling_rmsin": {*LAYERS, "modeling_lavt", "multi_scale_rrsis"},
}
FLOORS: tuple[tuple[str, ...], ...] = (
    ("",),
    ("data/files",),
    ("data/inputs",),
    ("data/synthetic",),
    ("data",),
    ("data/writing",),
    ("data/checks",),
    ("metrics", "metrics/rrsis_iou"),
    ("reports",),
    ("hub",),
    ("training/recipes",),
    ("training", "benchmark"),
    ("ablation", "runtimes"),
    ("scenes/reading", "scenes/frames"),
    ("scenes",),
    ("scene_tables",),
    ("cli",),
)
"""Folders of `processing_rrsis` from the bottom up: a file imports its own folder and floors below, nothing else."""
FILES = sorted((ROOT / "processing_rrsis").rglob("*.py"))
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
}


def relative_id(path):
    return str(path.relative_to(ROOT))


@cache
def imports(path):
    """(level, module, names) of every import statement, wherever it stands in the file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or "", tuple(alias.name for alias in node.names)))
    return found


def absolute_modules(path):
    """Imported modules as dotted names, relative ones resolved."""
    package = list(path.relative_to(ROOT).parent.parts)
    for level, module, names in imports(path):
        base = package[: len(package) - level + 1] if level else []
        prefix = ".".join([*base, *([module] if module else [])])
        yield prefix
        yield from (f"{prefix}.{name}" for name in names)


def imported_files(path):
    """Files of the two packages that a file imports; a package stands for its `__init__`."""
    package = list(path.relative_to(ROOT).parent.parts)
    for level, module, names in imports(path):
        base = package[: len(package) - level + 1] if level else []
        prefix = ".".join([*base, *([module] if module else [])])
        for name in names or ("",):
            found = MODULES.get(f"{prefix}.{name}", MODULES.get(prefix))
            if found is not None:
                yield found


def folder_of(path):
    """The folder of a file below `processing_rrsis`, `""` for its root files."""
    return path.relative_to(ROOT / "processing_rrsis").parent.as_posix().removeprefix(".")


def floor_of(path):
    folder = folder_of(path)
    return next(number for number, folders in enumerate(FLOORS) if folder in folders)


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
        assert "modeling_rrsis" not in packages_of(path), path


@pytest.mark.parametrize("path", [path for path in FILES if path.stem != "__init__"], ids=relative_id)
def test_arrows_point_down(path):
    """`__init__` is left out: it hands on names from the folders in its own."""
    for target in imported_files(path):
        if target in FILES and folder_of(target) != folder_of(path):
            assert floor_of(target) < floor_of(path), f"{relative_id(path)} imports {relative_id(target)}"


def test_no_file_imports_itself_over_others():
    graph = {path: set(imported_files(path)) - {path} for path in MODULES.values()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(map(relative_id, reversed(error.args[1]))))


def test_commands_are_imported_by_commands_alone():
    for path in MODULES.values():
        for target in imported_files(path):
            if target in FILES and folder_of(target) == "cli":
                assert path in FILES, path
                assert folder_of(path) == "cli", path


def test_of_training_only_ablation_and_its_command_take_more_than_recipes():
    for path in FILES:
        starts_it = relative_id(path) in ("processing_rrsis/cli/train.py", "processing_rrsis/cli/report.py")
        if folder_of(path).split("/")[0] not in ("training", "ablation") and not starts_it:
            taken = {folder_of(target) for target in imported_files(path) if target in FILES}
            assert "training" not in taken, path


def test_every_folder_says_in_a_line_what_lives_there():
    for folder in {path.parent for path in FILES} - {ROOT / "processing_rrsis" / "metrics" / "rrsis_iou"}:
        text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
        assert text, folder
        assert "\n" not in text, folder


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
    assert not [word for word in words if re.search("danet|fianet|rmsin", word, flags=re.IGNORECASE)]
    strings = [node.value for node in ast.walk(code) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert not [
        text for text in strings if re.search(r"rrsis_(danet|fianet|rmsin)|modeling_(danet|fianet|rmsin)", text)
    ]
