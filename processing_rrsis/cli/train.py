"""`rrsis train`: `accelerate launch train_accelerate.py` in two words, with the options of both."""

from __future__ import annotations

import difflib
import signal
from pathlib import Path
from typing import Any

import typer

from .common import _plain_errors

MODULE = "processing_rrsis.training"
DESCRIPTION = """Train a network on one CPU, one GPU or many.

    rrsis train                          small FIANet on the embedded benchmark
    rrsis train --model danet --seed 1 --output_dir runs/danet
    rrsis train --dataset my_roofs.csv --init_from runs/fianet/best
    rrsis train --recipe fianet-rrsisd --data_dir RRSIS-D --resume latest
    rrsis train --num_processes 4 --recipe lavt-rrsisd --data_dir RRSIS-D

A recipe sets every number (`rrsis recipes`); an option given here replaces it.
The weights in OUTPUT_DIR/best are chosen on the validation split; the test
splits are read once, at the end. Stopped with Ctrl-C or killed, the same
command with --resume latest goes on, and ends with the same bytes.

Options of `accelerate launch` (--config_file, --num_processes, --cpu, ...)
stand beside these.
"""


def train(context: typer.Context) -> None:
    """Train a network; the same as `accelerate launch train_accelerate.py`, with the options of both."""
    with _plain_errors():
        code = launch(context.args)
    if code:
        raise typer.Exit(code)


def launch(words: list[str]) -> int:
    """Train with the options in `words`, in this process, or by Accelerate's launcher where there is more to start.

    Returns:
        The exit code, as `training.main.run_command` has it; of several processes that of the first that failed.

    Raises:
        ValueError: For an option that neither training nor `accelerate launch` has.
    """
    from ..training.arguments import build_parser

    parser = build_parser(DESCRIPTION, prog="rrsis train")
    options, launcher_words = parser.parse_known_args(words)
    training_words = [
        f"--{name}={value}" for name, value in vars(options).items() if value != parser.get_default(name)
    ]

    import torch
    from accelerate.commands.config.config_args import default_config_file
    from accelerate.commands.launch import launch_command_parser

    from ..training.main import run_command

    if not launcher_words and torch.cuda.device_count() < 2 and not Path(default_config_file).is_file():
        return run_command(DESCRIPTION, training_words)
    launcher, unknown = launch_command_parser().parse_known_args([*launcher_words, "-m", MODULE, *training_words])
    if unknown or launcher.training_script != MODULE:
        wrong = unknown[0] if unknown else launcher.training_script
        near = difflib.get_close_matches(
            wrong.split("=")[0].replace("-", "_"), [f"__{name}" for name in vars(options)], 1
        )
        meant = f" such as --{near[0][2:]}" if near else ""
        raise ValueError(
            f"{wrong}: expected an option{meant}; `rrsis train --help` and `accelerate launch --help` list them"
        )
    return _launch_processes(launcher)


def _launch_processes(launcher: Any) -> int:
    """Start what Accelerate's parsed options ask for; the processes have told their errors themselves."""
    import logging
    from subprocess import CalledProcessError

    from accelerate.commands.launch import launch_command
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.getLogger("accelerate.commands.launch").setLevel(logging.ERROR)  # five lines about defaults
    before = signal.signal(signal.SIGINT, lambda number, frame: None)  # Ctrl-C reaches them too: they save and end
    try:
        launch_command(launcher)
    except CalledProcessError as failed:
        return failed.returncode
    except ChildFailedError as failed:
        return failed.get_first_failure()[1].exitcode
    except SignalException as stopped:
        return 128 + stopped.sigval
    finally:
        signal.signal(signal.SIGINT, before)
    return 0
