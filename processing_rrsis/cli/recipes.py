"""`rrsis recipes`: the numbers that networks are trained with, and where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..result_files import check_untouched, write_result
from .common import RESULTS, SCREEN, ListedJson, _plain_errors, check_result_files, write_json

if TYPE_CHECKING:
    from rich.table import Table

    from ..training.recipes.shipped import Recipe


def recipes(
    name: Annotated[str | None, typer.Argument(help="Show one: a name of the list, or a .yaml file of yours.")] = None,
    json_file: ListedJson = None,
    yaml_file: Annotated[
        Path | None, typer.Option("--yaml", help="Write it as a file to start your own from.", show_default=False)
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier file.", rich_help_panel=RESULTS)
    ] = False,
) -> None:
    """List the recipes of training, or show every number of one with its source.

    Train with one: rrsis train --recipe fianet-rrsisd --data_dir RRSIS-D

    Example:
        rrsis recipes fianet-rrsisd-paper

        rrsis recipes fianet-rrsisd --yaml mine.yaml
    """
    from rich.console import Console

    from ..training.recipes.files import recipe_yaml
    from ..training.recipes.shipped import get_recipe, recipe_names, recipe_text

    with _plain_errors():
        if yaml_file is not None and name is None:
            raise ValueError("--yaml: expected with the name of a recipe")
        json_file, yaml_file = check_result_files({"--json": json_file, "--yaml": yaml_file}).values()
        check_untouched([json_file, yaml_file], reads=[name], overwrite=overwrite)
        chosen = [get_recipe(one) for one in (recipe_names() if name is None else [name])]
        if yaml_file is not None:
            write_result(yaml_file, recipe_yaml(chosen[0]).encode())
        if json_file is not None:
            plain = [recipe.to_dict() for recipe in chosen]
            write_json(plain if name is None else plain[0], json_file)
    if str(json_file) != SCREEN:
        Console(highlight=False, markup=False).print(recipe_table(chosen) if name is None else recipe_text(chosen[0]))


def recipe_table(recipes: list[Recipe]) -> Table:
    """All recipes as a table for 80 columns, a section for each model."""
    from ..terminal import new_table

    numbers = ("batch", "length", "rate", "decay")
    table = new_table(("name",), numbers, title="Recipes", caption="rrsis recipes NAME shows the sources.")
    table.add_column("starts from")
    model = recipes[0].model
    for recipe in recipes:
        if recipe.model != model:
            table.add_section()
            model = recipe.model
        length = f"{recipe.max_epochs} epochs" if recipe.max_epochs else f"{recipe.max_steps} updates"
        table.add_row(
            recipe.name,
            str(recipe.batch_size),
            length,
            f"{recipe.learning_rate:g}",
            f"{recipe.weight_decay:g}",
            "random" if recipe.vision is None else "pretrained",
        )
    return table
