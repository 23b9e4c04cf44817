"""Recipes as YAML: what a file holds, and a recipe as the text of a file."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import yaml

from .recipe import CHECKS, SOURCED, Recipe

BOOL, FLOAT = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:float"
FLOAT_FORM = re.compile(r"^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?$")
FLOAT_STARTS = list("-+.0123456789")
ALTERNATIVES = {"max_epochs": "max_steps", "max_steps": "max_epochs"}


class RecipeLoader(yaml.SafeLoader):
    """YAML as people write it: `5e-5` is a number, `no` a word, and a repeated key an error.

    PyYAML reads YAML 1.1, in which the first is a text and the second is false.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Read a value; an alias stands for a text alone: with lists in lists a few lines stand for billions.

        Raises:
            yaml.YAMLError: If it is an alias of something else.
        """
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if is_alias and not isinstance(node, yaml.ScalarNode):
            raise yaml.composer.ComposerError(None, None, "an alias of a list or a mapping", node.start_mark)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Make a dictionary.

        Raises:
            yaml.YAMLError: If a key stands in it twice.
        """
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = [key for key in keys if keys.count(key) > 1]
        if repeated:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {repeated[0]!r} stands here twice", node.start_mark
            )
        return super().construct_mapping(node, deep=deep)


RecipeLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (BOOL, FLOAT)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
RecipeLoader.add_implicit_resolver(BOOL, re.compile(r"^(true|True|false|False)$"), list("tTfF"))
RecipeLoader.add_implicit_resolver(FLOAT, FLOAT_FORM, FLOAT_STARTS)


class RecipeDumper(yaml.SafeDumper):
    """Quotes what either reading, that of PyYAML or that of `RecipeLoader`, would take for something else."""


RecipeDumper.add_implicit_resolver(FLOAT, FLOAT_FORM, FLOAT_STARTS)


@dataclass(frozen=True)
class RecipeFile:
    """What stands in a file, before it is checked.

    Args:
        origin: Path or name, for messages.
        values: Values by key; `config` is a dictionary of fields.
        sources: Sources by key; fields of the configuration as `"config.NAME"`.
        based_on: Name of the recipe that has the other values.
    """

    origin: str
    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    based_on: str | None = None

    def on_top_of(self, base: RecipeFile) -> RecipeFile:
        """The base with this file's values in place of its own; fields of `config` one by one."""
        replaced = {other for key, other in ALTERNATIVES.items() if self.values.get(key) is not None}
        values = {key: value for key, value in base.values.items() if key not in replaced} | self.values
        if "config" in self.values or "config" in base.values:
            values["config"] = {**base.values.get("config", {}), **self.values.get("config", {})}
        own = {*self.values, *(f"config.{key}" for key in self.values.get("config", {}))}
        sources = {key: text for key, text in base.sources.items() if key not in replaced | own} | self.sources
        return RecipeFile(self.origin, values, sources)


def read_recipe_file(text: str, origin: str) -> RecipeFile:
    """Read the text of a recipe's file.

    Args:
        text: YAML.
        origin: Path or name of the file, for messages.

    Raises:
        ValueError: If it is no YAML mapping, or an entry is neither a value nor `{value: …, source: …}`.
    """
    try:
        content = yaml.load(text, Loader=RecipeLoader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # PyYAML lets Python's errors through
        words = " ".join(str(error).split())
        raise ValueError(f"{origin}: expected YAML, which this is not: {words}") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ValueError(f"{origin}: expected lines `key: value`, got {type(content).__name__}")
    based_on = content.pop("based_on", None)
    if based_on is not None and not isinstance(based_on, str):
        raise ValueError(f"{origin}: based_on: expected the name of a recipe, got {based_on!r}")
    config = content.pop("config", None)
    file = RecipeFile(origin, based_on=based_on)
    for key, entry in content.items():
        file.values[key] = _value(entry, key=key, file=file)
    if config is not None:
        if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
            raise ValueError(f"{origin}: config: expected fields of the model's configuration, got {config!r}")
        file.values["config"] = {}
        for key, entry in config.items():
            is_plain = isinstance(entry, dict) and "value" not in entry
            file.values["config"][key] = entry if is_plain else _value(entry, key=f"config.{key}", file=file)
    return file


def _value(entry: Any, *, key: str, file: RecipeFile) -> Any:
    """The value of an entry, its source noted in the file."""
    if not isinstance(entry, dict):
        return entry
    if set(entry) != {"value", "source"}:
        raise ValueError(
            f"{file.origin}: {key}: expected a value or {{value: …, source: …}}, got the keys "
            f"{', '.join(map(str, entry)) or 'none'}"
        )
    if not isinstance(entry["source"], str) or not entry["source"].strip():
        raise ValueError(f"{file.origin}: {key}: expected the source as a text, got {entry['source']!r}")
    file.sources[key] = entry["source"]
    return entry["value"]


def recipe_yaml(recipe: Recipe) -> str:
    """The text of a file that reads back as the recipe, one line per field."""
    lines = []
    for key in CHECKS:
        value = getattr(recipe, key)
        if key == "config" or (value is None and key not in recipe.sources and key not in SOURCED):
            continue
        if key in ALTERNATIVES and value is None:
            continue
        lines.append(f"{key}: {_flow(value, recipe.sources.get(key))}")
    lines.append("config:" if recipe.config else "config: {}")
    lines += [f"  {key}: {_flow(value, recipe.sources.get(f'config.{key}'))}" for key, value in recipe.config.items()]
    return "\n".join(lines) + "\n"


def _flow(value: Any, source: str | None) -> str:
    """A value, with its source where it has one, as YAML on one line."""
    entry = value if source is None else {"value": value, "source": source}
    options = {"default_flow_style": True, "sort_keys": False, "allow_unicode": True, "width": float("inf")}
    text = yaml.dump(entry, Dumper=RecipeDumper, **options)
    return text.strip().removesuffix("...").strip()
