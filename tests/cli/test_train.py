"""`rrsis train`: which options go where, and how processes that it starts end."""

import signal
from subprocess import CalledProcessError

import pytest
from accelerate.commands import launch as accelerate_launch
from accelerate.commands.config import config_args
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from typer.testing import CliRunner

from processing_rrsis.cli.app import app
from processing_rrsis.training import main


@pytest.fixture
def started(monkeypatch, tmp_path):
    """What would have been started: the options of training here, the parsed ones of Accelerate's launcher."""
    seen = {}
    monkeypatch.setattr(config_args, "default_config_file", str(tmp_path / "absent.yaml"))
    monkeypatch.setattr(main, "run_command", lambda description, words: seen.update(here=words) or 0)
    monkeypatch.setattr(accelerate_launch, "launch_command", lambda options: seen.update(launcher=options))
    return seen


def run(*words):
    return CliRunner().invoke(app, ["train", *words])


def test_one_process_trains_here(started):
    result = run("--model", "danet", "--max-steps", "4", "--from_scratch", "--resume", "latest")
    assert result.exit_code == 0, result.output
    assert started == {"here": ["--model=danet", "--from_scratch=True", "--max_steps=4", "--resume=latest"]}


def test_options_of_the_launcher_go_to_the_launcher(started):
    result = run("--num_processes", "2", "--model", "lavt", "--cpu", "--mixed_precision", "no")
    assert result.exit_code == 0, result.output
    options = started["launcher"]
    assert (options.num_processes, options.cpu, options.module) == (2, True, True)
    assert options.training_script == "processing_rrsis.training"
    assert options.training_script_args == ["--model=lavt", "--mixed_precision=no"]


def test_a_configuration_of_accelerate_is_followed(started, monkeypatch, tmp_path):
    (tmp_path / "default_config.yaml").touch()
    monkeypatch.setattr(config_args, "default_config_file", str(tmp_path / "default_config.yaml"))
    assert run("--model", "lavt").exit_code == 0
    assert started["launcher"].training_script_args == ["--model=lavt"]


@pytest.mark.parametrize("words", [("--lerning_rate", "3"), ("roofs.csv",), ("--num_processes", "2", "roofs.csv")])
def test_a_word_that_nobody_reads_is_named(started, words):
    result = run(*words)
    assert result.exit_code == 1
    assert f"{words[0] if len(words) < 3 else words[-1]}: expected an option" in result.output
    assert started == {}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CalledProcessError(130, ["python"]), 130),
        (ChildFailedError("training", {0: ProcessFailure(local_rank=0, pid=1, exitcode=1, error_file="")}), 1),
    ],
)
def test_a_process_that_failed_leaves_its_exit_code_alone(started, monkeypatch, error, code):
    def fail(options):
        raise error

    monkeypatch.setattr(accelerate_launch, "launch_command", fail)
    before = signal.getsignal(signal.SIGINT)
    result = run("--num_processes", "2")
    assert (result.exit_code, result.output) == (code, "")
    assert signal.getsignal(signal.SIGINT) is before


def test_help_lists_the_options_of_training():
    result = run("--help")
    assert result.exit_code == 0
    assert "--gradient_checkpointing" in result.output
    assert "accelerate launch" in result.output


def test_version():
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("rrsis")


@pytest.mark.parametrize(("word", "meant"), [("--lerning_rate=1", "--learning_rate"), ("--max-step", "--max_steps")])
def test_a_mistyped_option_is_guessed(started, word, meant):
    assert f"{word}: expected an option such as {meant};" in run(word).output
