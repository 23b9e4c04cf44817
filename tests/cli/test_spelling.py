"""One thing has one spelling over all commands, with dashes and with underscores."""

import re

import pytest
import typer
from typer.testing import CliRunner

from processing_rrsis.cli.app import app
from processing_rrsis.training.arguments import build_parser

OTHERS = ("num-samples", "samples", "num-proc", "threads", "data", "model-folder", "config", "folder")
PROMISED = {"export": {"data"}}  # earlier words that go on working beside the new one
SHORT = {"-m": "--model", "-d": "--dataset", "-s": "--image-size", "-b": "--batch-size", "-f": "--format"}


def commands(command=None, name=""):
    command = command or typer.main.get_command(app)
    yield name, command
    for inner, sub_command in getattr(command, "commands", {}).items():
        yield from commands(sub_command, f"{name} {inner}".strip())


COMMANDS = dict(commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_options_are_spelled_as_everywhere(name):
    for parameter in COMMANDS[name].params:
        words = {word.lstrip("-") for word in parameter.opts if word.startswith("-")}
        assert not (words & set(OTHERS)) - PROMISED.get(name, set())
        assert not any("_" in word for word in words)
        for short in set(parameter.opts) & set(SHORT):
            assert SHORT[short] in parameter.opts
        if "--json" in parameter.opts:
            assert not parameter.is_flag


def test_training_has_the_same_words():
    words = {word.removeprefix("--") for action in build_parser("")._actions for word in action.option_strings}
    assert not words & set(OTHERS)
    assert {"max-samples", "max_samples", "data-dir", "data_dir", "num-workers", "cpu-threads"} <= words


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "train"])
@pytest.mark.parametrize("width", [80, 120])
def test_help_fits_and_cuts_nothing(name, width):
    result = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": str(width)}, terminal_width=width)
    assert result.exit_code == 0
    assert "…" not in re.sub(r"mit, …", "", result.output)
    for parameter in COMMANDS[name].params:
        assert all(word in result.output for word in parameter.opts if word.startswith("-"))
    assert max(map(len, result.output.splitlines())) <= width


def test_underscores_are_read_as_dashes():
    result = CliRunner().invoke(app, ["evaluate", "-m", "nowhere", "-d", "synthetic", "--max_samples=0"])
    assert result.exit_code == 2
    assert "--max-samples" in result.output
