"""Train LAVT, DANet or FIANet with Accelerate, on one CPU or on many GPUs.

    accelerate launch train_accelerate.py                       # small FIANet on the embedded benchmark
    accelerate launch train_accelerate.py --model danet --seed 1 --output_dir runs/danet
    accelerate launch train_accelerate.py --recipe fianet-rrsisd --data_dir RRSIS-D --resume latest
    accelerate launch train_accelerate.py --init_from runs/fianet/best --dataset my_roofs.csv
    accelerate launch train_accelerate.py --ablation fianet-fig9-cim

A recipe sets every number (`rrsis recipes`); an option given here replaces it. The output folder holds `best/` and
`last/` (loaded by `AutoModel`, `AutoProcessor` and `pipeline`), `metrics.json`, `metrics.jsonl`, `recipe.yaml`,
`checkpoints/`, `panels/`, `contact_sheet.png` and `curves.png`. The weights in `best/` are chosen on the validation
split; the test splits are read once, at the end.

Killed, preempted or stopped with Ctrl-C, the same command with `--resume latest` goes on as if nothing had happened:
the run ends with the same bytes. For several GPUs or nodes see configs/.
"""

from __future__ import annotations

import sys
import warnings

import transformers
from rich.console import Console
from rich.markup import escape

from processing_rrsis.training.arguments import TrainingArguments, parse_arguments, resolve_recipe
from processing_rrsis.training.checkpoints import CheckpointError
from processing_rrsis.training.divergence import DivergenceError
from processing_rrsis.training.loop import StoppedError, train
from processing_rrsis.training.outputs import report, save_weights
from processing_rrsis.training.run import Run, prepare_run
from processing_rrsis.training.stopping import StopNow, StopRequest

__all__ = ["Run", "TrainingArguments", "main", "prepare_run", "resolve_recipe"]


def main(argv: list[str] | None = None) -> None:
    """Train, evaluate and write the run's folder."""
    # Step 1: options and recipe to data, network, optimizer, and the checkpoint to go on from
    run = prepare_run(parse_arguments(argv, description=__doc__ or ""))
    if run.is_finished:
        run.watch.say(f"The run in {run.output_dir} is finished; nothing to do.")
        return
    run.watch.say(run.describe())
    # Step 2: updates, evaluations on the validation split, checkpoints
    with StopRequest.listening() as request:
        train(run, request)
    save_weights(run, "last")
    # Step 3: the test splits, once, with the weights that the validation split selected
    report(run)
    run.accelerator.end_training()


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=FutureWarning)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        main()
    except StoppedError as stopped:
        Console().print(f"[bold yellow]stopped:[/] {escape(str(stopped))}")
        sys.exit(stopped.exit_code)
    except StopNow as stopped:
        Console().print(
            f"[bold yellow]stopped:[/] by {stopped.signal_name} in an evaluation; the checkpoint before it is whole. "
            "Go on with the same command and --resume latest."
        )
        sys.exit(stopped.code)
    except (ValueError, OSError, CheckpointError, DivergenceError) as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(1)
