"""Training recipes: one small YAML file per model and benchmark, each number with its source.

    recipe = get_recipe("fianet-rrsisd")            # shipped, or the path of a file of one's own
    recipe.updates(train_samples=12_181)            # 40 epochs of 1,522 updates

A file gives every field, either as a value or as `{value: …, source: …}`. With `based_on: NAME` it gives only what
differs from a shipped recipe; fields of `config` are merged one by one.
"""

from __future__ import annotations

import difflib
import importlib.resources
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...bounds_rrsis import read_text
from .files import RecipeFile, read_recipe_file, recipe_yaml
from .recipe import CHECKS, MODEL_NAMES, SOURCED, Recipe

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "MODEL_NAMES",
    "Recipe",
    "check_recipe",
    "default_recipe",
    "get_recipe",
    "recipe_names",
    "recipe_text",
    "write_recipe",
]

FILE_ENDINGS = (".yaml", ".yml")
OTHER_DATASETS = ("own",)  # that no paper trains on
OPTIONAL = ("name", "max_epochs", "max_steps", "ablation", "config")


def recipe_names() -> list[str]:
    """Names of the shipped recipes, by model."""
    files = importlib.resources.files(__package__).iterdir()
    names = [file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")]
    return sorted(names, key=lambda name: (MODEL_NAMES.index(name.split("-")[0]), name))


def get_recipe(name_or_path: str) -> Recipe:
    """A shipped recipe by its name, or one's own from a YAML file.

    Args:
        name_or_path: A name of `recipe_names()`, or the path of a .yaml file.

    Raises:
        ValueError: If there is no such recipe, or a file is wrong; the message names file and key.
        FileNotFoundError: If there is no such file.
    """
    if name_or_path in recipe_names():
        return _complete(_shipped_file(name_or_path))
    path = Path(name_or_path).expanduser()
    if path.suffix.lower() not in FILE_ENDINGS:
        raise ValueError(f"recipe: expected a shipped name or the path of a .yaml file, {_no_recipe(name_or_path)}")
    if not path.is_file():
        raise FileNotFoundError(f"recipe: expected a file, there is none at {path}; `rrsis recipes` lists the shipped")
    recipe = _complete(_read(read_text(path), origin=str(path), name=path.stem))
    try:
        check_recipe(recipe)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return recipe


@cache
def _shipped_file(name: str) -> RecipeFile:
    text = (importlib.resources.files(__package__) / f"{name}.yaml").read_text(encoding="utf-8")
    return _read(text, origin=f"{name}.yaml", name=name)


def _read(text: str, *, origin: str, name: str) -> RecipeFile:
    """A file on top of the recipe that it is based on."""
    file = read_recipe_file(text, origin=origin)
    file.values.setdefault("name", name)
    if file.based_on is None:
        return file
    if file.based_on not in recipe_names():
        raise ValueError(f"{origin}: based_on: expected a shipped recipe, {_no_recipe(file.based_on)}")
    return file.on_top_of(_shipped_file(file.based_on))


def _complete(file: RecipeFile) -> Recipe:
    """The recipe of a file.

    Raises:
        ValueError: If a field is missing, unknown or outside its range.
    """
    for key in file.values:
        if key not in CHECKS:
            raise ValueError(
                f"{file.origin}: {key}: expected a field of a recipe. {_near(key, CHECKS)}There is: "
                f"{', '.join(CHECKS)}."
            )
    missing = [key for key in CHECKS if key not in file.values and key not in OPTIONAL]
    if missing:
        raise ValueError(
            f"{file.origin}: expected every field, missing: {', '.join(missing)}; write them, or begin the file with "
            "`based_on: NAME` of the shipped recipe that has the other numbers"
        )
    try:
        return Recipe(**file.values, sources=dict(file.sources))
    except ValueError as error:
        raise ValueError(f"{file.origin}: {error}") from error


def check_recipe(recipe: Recipe) -> None:
    """Check what only the rest of the package knows: the configuration's fields and the augmentation's name.

    Raises:
        ValueError: If the model's configuration lacks a field or refuses a value, or the augmentation is unknown.
    """
    from ...data.inputs.augmentation import Augmentation
    from .config import model_config

    try:
        Augmentation.from_name(recipe.augmentation)
    except ValueError as error:
        raise ValueError(f"augmentation: {error}") from error
    model_config(recipe)


def default_recipe(model: str, dataset: str) -> Recipe:
    """The shipped recipe for a model on a benchmark, in the released form.

    Args:
        model: `"lavt"`, `"danet"`, `"fianet"` or `"rmsin"`.
        dataset: A benchmark. One's own data, `"own"` or the path of a .csv or .jsonl file, get the model's numbers
            for RRSIS-D, and their sources say so.

    Raises:
        ValueError: If there is none; the message lists what exists.
    """
    from ...data.own_table import TABLE_ENDINGS

    other = "own" if Path(dataset).suffix.lower() in TABLE_ENDINGS else dataset
    benchmarks = sorted({name.split("-")[1] for name in recipe_names()})
    if model not in MODEL_NAMES or other not in (*benchmarks, *OTHER_DATASETS):
        raise ValueError(
            f"No recipe for model {model!r} on dataset {dataset!r}. Models: {', '.join(MODEL_NAMES)}. Datasets: "
            f"{', '.join((*benchmarks, *OTHER_DATASETS))}, or a .csv or .jsonl file of your own data."
        )
    if other in benchmarks:
        return get_recipe(f"{model}-{other}")
    recipe = get_recipe(f"{model}-rrsisd")
    source = f"the numbers for RRSIS-D, not tuned on this data ({other}); {recipe.source}"
    return recipe.changed(source, name=f"{model}-{other}", dataset=other, source=source)


def write_recipe(recipe: Recipe, path: str | Path) -> Path:
    """Write a recipe as a file that `get_recipe(path)` reads back equal."""
    path = Path(path)
    path.write_text(recipe_yaml(recipe), encoding="utf-8")
    return path


def recipe_text(recipe: Recipe) -> Table:
    """The recipe as a table for the terminal: field, value, source."""
    from rich.text import Text

    from ...terminal import new_table

    table = new_table(("field", "value", "source"), title=f"Recipe {recipe.name}", caption=recipe.source)
    table.columns[0].no_wrap, table.columns[2].style = True, "dim"
    for name in ("model", "dataset", "ablation"):
        if getattr(recipe, name) is not None:
            table.add_row(name, Text(getattr(recipe, name)), "")
    for name in SOURCED:
        value = getattr(recipe, name)
        if value is not None or name in recipe.sources:
            table.add_row(name, Text(_shown(value)), Text(recipe.sources.get(name, "")))
    table.add_section()
    for name, value in recipe.config.items():
        table.add_row(Text(name), Text(_shown(value)), Text(recipe.sources.get(f"config.{name}", "")))
    return table


def _shown(value: Any) -> str:
    """A value in words: `None` as –, a mapping as one line per entry."""
    if value is None:
        return "–"
    if isinstance(value, dict):
        return "\n".join(f"{key}: {part}" for key, part in value.items())
    return str(value)


def _no_recipe(name: str) -> str:
    names = recipe_names()
    return f"got {name!r}. {_near(name, names)}There is: {', '.join(names)}."


def _near(name: str, known: Iterable[str]) -> str:
    """A sentence with the nearest names, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"Near it: {', '.join(near)}. " if near else ""
