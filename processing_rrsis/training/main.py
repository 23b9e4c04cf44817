"""The training command, which `train_accelerate.py` and `python -m processing_rrsis.training` start."""

from __future__ import annotations

import warnings

import transformers
from rich.console import Console
from rich.markup import escape

from ..errors import error_text, is_plain
from .arguments import parse_arguments
from .loop import StoppedError, train
from .outputs import report, save_weights
from .run import Run, prepare_run
from .stopping import StopNow, StopRequest


def main(argv: list[str] | None = None, *, description: str = "") -> None:
    """Train, evaluate and write the run's folder.

    Args:
        argv: Options; those of the process if `None`.
        description: What `--help` says before the options.

    Raises:
        ValueError: For options that don't fit each other, the data or the checkpoint.
        OSError: If data or pretrained weights can't be had, or something can't be written.
        CheckpointError: If a checkpoint is damaged, of another run, or can't be written.
        DivergenceError: If the loss or its gradient are no longer of use.
        StoppedError: If a stop signal came; a checkpoint has been saved.
        PublishError: If the finished run can't be published; the same command with --resume latest tries again.
    """
    arguments = parse_arguments(argv, description=description)
    with StopRequest.listening() as request:
        # Step 1: options and recipe to data, network, optimizer, and the checkpoint to go on from
        with request.immediately():
            run = prepare_run(arguments)
        if not run.is_finished:
            run.watch.say(run.describe())
            # Step 2: updates, evaluations on the validation split, checkpoints
            train(run, request)
            # Step 3: the test splits, once, with the weights that the validation split selected
            with request.immediately():
                save_weights(run, "last")
                report(run)
                run.accelerator.end_training()
        else:
            run.watch.say(f"The run in {run.output_dir} is finished; nothing to do.")
    push(run)


def push(run: Run) -> None:
    """Publish the selected weights where `--push_to_hub` says so."""
    if run.args.push_to_hub is not None and run.accelerator.is_main_process:
        from ..hub.publish_model import publish_model
        from ..hub.push import PushOptions

        options = PushOptions(private=run.args.hub_private)
        published = publish_model(run.output_dir / "best", run.args.push_to_hub, options)
        run.watch.say(f"{'Unchanged' if published.is_unchanged else 'Published'}: {published.url}")


def run_command(description: str, argv: list[str] | None = None) -> int:
    """`main` as a command: what stops or fails is told in one line instead of a traceback.

    Args:
        description: What `--help` says before the options.
        argv: Options; those of the process if `None`.

    Returns:
        The exit code: 0, also where a scheduler asked to stop; 130 after Ctrl-C; 1 for an error.
    """
    warnings.filterwarnings("ignore", category=FutureWarning)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        main(argv, description=description)
    except StoppedError as stopped:
        Console().print(f"[bold yellow]stopped:[/] {escape(str(stopped))}")
        return stopped.exit_code
    except StopNow as stopped:
        Console().print(
            f"[bold yellow]stopped:[/] by {stopped.signal_name}; what has been saved is whole. Go on with the same "
            "command and --resume latest."
        )
        return int(stopped.code or 0)
    except Exception as error:
        if not is_plain(error):
            raise
        Console(stderr=True).print(f"[bold red]error:[/] {escape(error_text(error))}")
        return 1
    return 0
