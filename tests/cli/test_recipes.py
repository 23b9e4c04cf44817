"""`rrsis recipes`: the list, one with its sources, as JSON and as a file."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from processing_rrsis.cli.app import app
from processing_rrsis.training.recipes.shipped import get_recipe, recipe_names

run = CliRunner().invoke


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def test_it_lists_every_recipe_on_a_line():
    output = run(app, ["recipes"]).output
    rows = {line.split()[0]: line.split()[1:] for line in output.splitlines() if line.strip()}
    assert set(recipe_names()) <= set(rows)
    assert rows["fianet-rrsisd-paper"] == ["8", "40", "epochs", "3e-05", "0.1", "pretrained"]
    assert rows["lavt-synthetic"] == ["32", "1000", "updates", "0.0008", "0.01", "random"]


def test_it_shows_one_with_its_sources():
    output = " ".join(run(app, ["recipes", "fianet-rrsisd-paper"]).output.split())
    assert "weight_decay" in output
    assert "III-D" in output
    assert "stage_output" in output


def test_json():
    assert (
        json.loads(run(app, ["recipes", "danet-rrsisd", "--json", "-"]).output) == get_recipe("danet-rrsisd").to_dict()
    )
    assert [one["name"] for one in json.loads(run(app, ["recipes", "--json", "-"]).output)] == recipe_names()


def test_a_file_to_start_from(tmp_path):
    path = tmp_path / "mine.yaml"
    run(app, ["recipes", "danet-rrsisd", "--yaml", str(path)])
    assert get_recipe(str(path)) == get_recipe("danet-rrsisd")
    path.write_text("based_on: danet-rrsisd\nbatch_size: 3\n", encoding="utf-8")
    assert json.loads(run(app, ["recipes", str(path), "--json", "-"]).output)["batch_size"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["danet-rrsis"], "Near it: danet-rrsisd"),
        (["nowhere.yaml"], "there is none at nowhere.yaml"),
        (["--yaml", "x.yaml"], "--yaml: expected with the name of a recipe"),
    ],
)
def test_errors_are_one_line(arguments, message):
    result = run(app, ["recipes", *arguments])
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_the_list_needs_no_heavy_library():
    code = (
        "import sys; from typer.testing import CliRunner; from processing_rrsis.cli.app import app; "
        "result = CliRunner().invoke(app, ['recipes', 'fianet-rrsisd']); "
        "sys.exit(result.exit_code or len({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
