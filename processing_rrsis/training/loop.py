"""The training loop: updates, evaluations on the validation split, checkpoints.

Nothing random outlives a forward pass: the order of the samples, augmentation and dropout are functions of the seed
and the number of the update. So a run that was killed at any moment and goes on from a checkpoint ends with the same
bytes.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import rich.progress
import torch
from accelerate.utils import send_to_device

from modeling_rrsis.loss_rrsis import BatchPart

from ..metrics import evaluate_with_controls
from ..metrics.controls import possible_controls
from .batch_norm import freeze_batch_norm
from .checkpoints import save_checkpoint
from .divergence import DivergenceError, DivergenceMonitor, write_divergence
from .outputs import draw_panel, save_weights
from .run import Run, checkpoint_state
from .sampling import update_seed
from .stopping import StopRequest
from .watching import WARNING, peak_memory_gib

EVAL_BATCHES = 4  # evaluation holds no activations, so a batch may be this many times that of training
COLLAPSE_MARGIN = 5.0  # points of mIoU; text that is ignored is the silent failure of this field


class StoppedError(RuntimeError):
    """The run was asked to stop, and has saved."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass
class Meter:
    """Time since the last line of metrics.jsonl."""

    started: float
    updates: int = 0
    waiting: float = 0.0


@dataclass
class Update:
    """Outcome of one update, the same on every process.

    Attributes:
        loss: Of the whole batch.
        grad_norm: Before clipping; `None` where a loss scale overflowed and the update was left out.
        stop_signal: Largest signal number that a process has got; 0 for none.
        waiting: Seconds that this process waited for data.
        learning_rate: With which the update was made; that of the first parameter group.
    """

    loss: float
    grad_norm: float | None
    stop_signal: int
    waiting: float
    learning_rate: float


def train(run: Run, request: StopRequest) -> None:
    """Train to the last update.

    Raises:
        StoppedError: If a stop signal came; a checkpoint has been saved.
        DivergenceError: If loss or gradient are no longer of use; the batch's sample ids have been saved.
        CheckpointError: If a checkpoint can't be written.
    """
    progress = run.progress
    monitor = DivergenceMonitor(progress.norms)
    checkpoint_every = run.args.checkpoint_every or run.eval_every
    with run.watch.progress() as bar, open_batches(run) as batches:
        task = bar.add_task("training", total=run.num_updates, completed=progress.step)
        if progress.step and is_evaluation_due(run):
            evaluate(run, request, bar)
        meter = Meter(time.perf_counter())
        while progress.step < run.num_updates:
            start = time.perf_counter()
            update = train_update(run, batches, request)
            problem = monitor.find(update.loss, update.grad_norm)
            if problem is not None:
                raise_divergence(run, update, problem)
            progress.step += 1
            progress.losses.append(update.loss)
            progress.norms = list(monitor.norms)
            progress.add_seconds("training", start)
            meter.updates += 1
            meter.waiting += update.waiting
            if progress.step % run.args.log_every == 0 or progress.step == run.num_updates:
                text = log_update(run, update, meter)
                bar.update(task, description=text)
                if not run.watch.console.is_terminal:  # a log shows no bar
                    run.watch.say(f"update {progress.step} of {run.num_updates}: {text}")
                meter = Meter(time.perf_counter())
            bar.update(task, completed=progress.step)
            evaluation_due = is_evaluation_due(run)
            if update.stop_signal or evaluation_due or progress.step % checkpoint_every == 0:
                save(run)
            if update.stop_signal:
                raise_stopped(run, request, update.stop_signal)
            if evaluation_due:
                evaluate(run, request, bar)
                meter = Meter(time.perf_counter())


@contextmanager
def open_batches(run: Run) -> Iterator[Iterator[dict[str, Any]]]:
    """The micro-batches that are left. Their workers end with the block, also where it ends with an error.

    They ignore SIGTERM, by which Python would end them at exit, and would then be waited for without end.
    """
    batches = iter(run.loader())
    try:
        yield batches
    finally:
        shut_down = getattr(batches, "_shutdown_workers", None)
        if shut_down is not None:
            shut_down()


def is_evaluation_due(run: Run) -> bool:
    """Whether the weights of this update are to be evaluated and have not been."""
    step = run.progress.step
    return (step % run.eval_every == 0 or step == run.num_updates) and run.progress.evaluated_step != step


def train_update(run: Run, batches: Iterator[dict[str, Any]], request: StopRequest) -> Update:
    """One update: all its micro-batches, forward and backward, and the optimizer's step."""
    step, accelerator = run.progress.step + 1, run.accelerator
    start = time.perf_counter()
    micro_batches = [next(batches) for _ in range(run.args.gradient_accumulation_steps)]
    waiting = time.perf_counter() - start
    batch_part = BatchPart(run.num_parts, count_labels(run, micro_batches))
    run.model.train()
    if run.args.freeze_batch_norm:
        freeze_batch_norm(run.model)
    loss = torch.zeros((), device=accelerator.device)
    grad_norm: float | None = math.nan
    for number, batch in enumerate(micro_batches):
        torch.manual_seed(update_seed(run.args.seed, step, number, accelerator.process_index))
        inputs = send_to_device(batch, accelerator.device, non_blocking=True)
        with accelerator.accumulate(run.model):
            part = run.model(**inputs, batch_part=batch_part).loss
            accelerator.backward(part)
            if accelerator.sync_gradients:
                limit = run.recipe.max_grad_norm or math.inf
                grad_norm = float(accelerator.clip_grad_norm_(run.model.parameters(), limit))
            run.optimizer.step()
            run.optimizer.zero_grad()
        loss += part.detach().float()
    learning_rate = float(run.schedule.get_last_lr()[0])
    if accelerator.optimizer_step_was_skipped:
        grad_norm = None
        run.progress.skipped += 1
    else:
        run.schedule.step()
        if run.average is not None:
            run.average.update_parameters(accelerator.unwrap_model(run.model, keep_torch_compile=False))
    total = accelerator.reduce(loss / run.num_parts, reduction="sum")
    stop = torch.tensor(float(request.signal_number), device=accelerator.device)
    stop = accelerator.gather(stop[None]).max() if accelerator.num_processes > 1 else stop
    return Update(float(total), grad_norm, int(stop), waiting, learning_rate)


def count_labels(run: Run, micro_batches: list[dict[str, Any]]) -> torch.Tensor | None:
    """Background and target pixels of the whole update, float (2,); `None` where one process takes it at once."""
    if run.num_parts == 1:
        return None
    counts = [[int((batch["labels"] == value).sum()) for value in (0, 1)] for batch in micro_batches]
    total = torch.tensor(counts, dtype=torch.float64).sum(0).to(run.accelerator.device, torch.float32)
    return run.accelerator.reduce(total, reduction="sum")


def log_update(run: Run, update: Update, meter: Meter) -> str:
    """Write the lines of the last updates; the text beside the progress bar."""
    progress = run.progress
    loss = sum(progress.losses) / len(progress.losses)
    progress.losses.clear()
    rate = update.learning_rate
    seconds = max(time.perf_counter() - meter.started, 1e-9)
    timing = {
        "images_per_second": meter.updates * run.recipe.batch_size / seconds,
        "data_wait_share": meter.waiting / seconds,
        "memory_gib": peak_memory_gib(run.accelerator.device),
    }
    run.watch.log(progress.step, {"loss": loss, "learning_rate": rate, "grad_norm": update.grad_norm}, timing)
    return f"loss {loss:.3f}  lr {rate:.1e}  {timing['images_per_second']:.1f} img/s  {timing['memory_gib']:.1f} GiB"


def evaluate(run: Run, request: StopRequest, bar: rich.progress.Progress) -> None:
    """Evaluate on the validation split, keep the best weights, draw a panel; a stop signal ends it at once.

    The same split with shuffled expressions shows whether the text is read: a model that ignores it scores the same.
    """
    progress, start = run.progress, time.perf_counter()
    rows = run.data["validation"]
    with request.immediately(), run.accelerator.autocast():
        results = evaluate_with_controls(
            run.model if run.average is None else run.network(),
            rows,
            run.collator(),
            controls=[name for name in possible_controls(rows) if name in ("expression", "shuffled")],
            seed=run.args.seed,
            accelerator=run.accelerator,
            batch_size=EVAL_BATCHES * run.micro_batch,
            progress=bar,
            description="validation",
        )
        scores = results["expression"].to_dict()["overall"]
        shuffled = results["shuffled"].overall["mIoU"] if "shuffled" in results else None
        better = scores["mIoU"] > progress.best_miou
        if better:
            progress.best_miou, progress.best_step = scores["mIoU"], progress.step
            progress.best_validation = {name: result.to_dict() for name, result in results.items()}
            save_weights(run, "best")
        control = {} if shuffled is None else {"shuffled/mIoU": shuffled}
        run.watch.log(progress.step, {"split": "validation", **scores, **control})
        draw_panel(run)
    run.watch.say(
        f"update {progress.step}: validation mIoU {scores['mIoU']:.1f}, oIoU {scores['oIoU'] or 0.0:.1f}"
        + ("" if shuffled is None else f", with shuffled expressions mIoU {shuffled:.1f}")
        + (" (best so far)" if better else "")
    )
    is_last = progress.step == run.num_updates
    if is_last and shuffled is not None and scores["mIoU"] - shuffled < COLLAPSE_MARGIN:
        run.watch.say(
            f"{WARNING} with shuffled expressions the model scores within {COLLAPSE_MARGIN:.0f} points "
            "of its own: it hardly reads the text. Train longer, or lower --text_learning_rate."
        )
    progress.evaluated_step = progress.step
    progress.add_seconds("validation", start)


def save(run: Run) -> None:
    """Write a checkpoint of this update."""
    start = time.perf_counter()
    state, keep = checkpoint_state(run), run.args.keep_checkpoints
    save_checkpoint(run.accelerator, run.output_dir, state, step=run.progress.step, keep=keep, average=run.average)
    run.progress.add_seconds("checkpoints", start)


def raise_stopped(run: Run, request: StopRequest, signal_number: int) -> None:
    """End a run that was asked to, after it has saved."""
    request.signal_number = request.signal_number or signal_number
    raise StoppedError(
        f"Stopped by {signal.Signals(signal_number).name} after update {run.progress.step} of {run.num_updates}; "
        "saved. Go on with the same command and --resume latest.",
        exit_code=request.exit_code,
    )


def raise_divergence(run: Run, update: Update, problem: str) -> None:
    """Write down what led to a useless update and end the run."""
    step = run.progress.step + 1
    rows = run.data["train"].select_columns(["sample_id"])
    path = run.output_dir / "divergence.json"
    if run.accelerator.is_main_process:
        write_divergence(
            run.output_dir,
            problem=problem,
            step=step,
            loss=update.loss,
            grad_norm=update.grad_norm,
            recent_grad_norms=run.progress.norms[-10:],
            learning_rate=update.learning_rate,
            sample_ids=[rows[key.row]["sample_id"] for key in run.order.samples(step)],
        )
    raise DivergenceError(
        f"Training diverged at update {step}: {problem}. {path} holds the ids of its samples. Lower --learning_rate, "
        "raise --warmup_steps, or train with --mixed_precision no; checkpoints and best/ are as they were."
    )
