"""A prepared training run: accelerator, data, network, optimizer, and what the loop remembers."""

from __future__ import annotations

import math
import shutil
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from datasets import DatasetDict
from rich.console import Console
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from ..data.inputs.augmentation import Augmentation
from ..data.inputs.collate import ReferringCollator
from ..hub.model_folder import recover_folder
from ..processor_rrsis import RRSISProcessor
from .arguments import TrainingArguments, resolve_recipe
from .checkpoints import Checkpoint, CheckpointError, checkpoint_folders, load_checkpoint, remove_partial
from .optimization import move_schedule
from .recipes.shipped import Recipe, write_recipe
from .run_folder import (
    END_FILES,
    RECIPE_FILE,
    check_same_settings,
    describe_settings,
    find_checkpoint,
    keep_aside,
    lock_folder,
    write_options,
    write_split,
)
from .sampling import KeyedRows, MicroBatches, UpdateOrder
from .setup import (
    build_accelerator,
    build_network,
    check_batch,
    fit_batch,
    load_data,
    load_start,
    prepare_network,
    recipe_of_start,
)
from .starting_weights import words_in_letters
from .stopping import ignore_in_worker
from .watching import LOGS, METRICS, TIMING, WARNING, Watch, cut_lines, start_trackers


@dataclass
class RunProgress:
    """What the loop remembers between updates, and a checkpoint with it.

    Args:
        step: Updates done.
        skipped: Of these, left out because a loss scale overflowed.
        evaluated_step: Update after which the validation split was last evaluated.
        best_step: Update whose weights were the best on the validation split.
        best_miou: Their mIoU, in percent; −1 before the first evaluation.
        best_validation: Their results on the validation split, by control, as plain values.
        losses: Loss of every update since the last line of metrics.jsonl.
        norms: Gradient norms that the divergence monitor looks back on.
        seconds: Wall-clock seconds by phase, over all starts of the run.
        run_id: By which trackers know that a run goes on.
    """

    step: int = 0
    skipped: int = 0
    evaluated_step: int = 0
    best_step: int = 0
    best_miou: float = -1.0
    best_validation: dict[str, Any] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    @classmethod
    def read(cls, values: dict[str, Any], checkpoint: Checkpoint) -> RunProgress:
        """What a checkpoint holds.

        Raises:
            CheckpointError: If a value is missing or of another kind.
        """
        expected = asdict(cls())
        if list(values) != list(expected) or [*map(type, values.values())] != [*map(type, expected.values())]:
            raise CheckpointError(f"{checkpoint.folder} holds another progress than {list(expected)}. Use another.")
        progress = cls(**values)
        numbers = [*progress.losses, *progress.norms, *progress.seconds.values(), progress.best_miou]
        counts = [progress.skipped, progress.evaluated_step, progress.best_step]
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers) or not all(
            0 <= count <= progress.step for count in counts
        ):
            raise CheckpointError(f"{checkpoint.folder} holds a progress of numbers that no run has. Use another.")
        return progress

    def add_seconds(self, phase: str, since: float) -> None:
        """Add the time since a `time.perf_counter()` to a phase."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - since


@dataclass
class Run:
    """Everything that training needs."""

    args: TrainingArguments
    recipe: Recipe
    accelerator: Accelerator
    watch: Watch
    data: DatasetDict
    processor: RRSISProcessor
    model: torch.nn.Module
    average: AveragedModel | None
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    order: UpdateOrder
    num_updates: int
    eval_every: int
    settings: dict[str, Any]
    lock: IO[str] | None = None
    progress: RunProgress = field(default_factory=RunProgress)

    @property
    def output_dir(self) -> Path:
        """Folder of the run."""
        return self.args.run_dir

    @property
    def is_finished(self) -> bool:
        """Whether a run that was asked to go on has nothing left to do."""
        return self.progress.step == self.num_updates and (self.output_dir / "metrics.json").exists()

    @property
    def micro_batch(self) -> int:
        """Samples of one forward pass of one process."""
        return self.recipe.batch_size // (self.accelerator.num_processes * self.args.gradient_accumulation_steps)

    @property
    def num_parts(self) -> int:
        """Forward passes of an update, over all processes."""
        return self.accelerator.num_processes * self.args.gradient_accumulation_steps

    def network(self) -> PreTrainedModel:
        """The network without wrappers: the averaged one where weights are averaged."""
        if self.average is not None:
            return cast(PreTrainedModel, self.average.module)
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def collator(self) -> ReferringCollator:
        """Rows to model inputs, without augmentation."""
        return ReferringCollator(self.processor)

    def loader(self) -> DataLoader:
        """Micro-batches of this process from the next update to the last."""
        augmentation = Augmentation.from_name(self.recipe.augmentation, seed=self.args.seed)
        return DataLoader(
            KeyedRows(self.data["train"]),
            batch_sampler=MicroBatches(
                self.order,
                first_update=self.progress.step + 1,
                last_update=self.num_updates,
                process_index=self.accelerator.process_index,
                num_processes=self.accelerator.num_processes,
                accumulation_steps=self.args.gradient_accumulation_steps,
            ),
            num_workers=self.args.num_workers,
            collate_fn=ReferringCollator(self.processor, augmentation=augmentation),
            pin_memory=self.accelerator.device.type == "cuda",
            worker_init_fn=ignore_in_worker,
            generator=torch.Generator(),  # the loader draws its workers' seed from it, and none from the global one
        )

    def describe(self) -> str:
        """One paragraph about the run, before it starts."""
        network = self.network()
        parameters = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        recipe, processes = self.recipe, self.accelerator.num_processes
        steps = self.args.gradient_accumulation_steps
        name = type(network).__name__ + (f" ({recipe.ablation})" if recipe.ablation else "")
        return (
            f"{name}, {parameters:.1f} M parameters, on {recipe.dataset}: {len(self.data['train']):,} samples of "
            f"{recipe.image_size_px} px, {self.num_updates:,} updates of {recipe.batch_size} samples = "
            f"{processes} process(es) × {steps} accumulation step(s) × {self.micro_batch}, on "
            f"{self.accelerator.device.type}, precision {self.accelerator.mixed_precision}."
        )


def prepare_run(args: TrainingArguments) -> Run:
    """Build everything that training needs, and go on from a checkpoint where `--resume` says so.

    Raises:
        ValueError: For options that don't fit each other, the data or the checkpoint.
        OSError: If data or pretrained weights can't be had.
        CheckpointError: If the checkpoint to go on from is damaged or of another run.
    """
    recipe = resolve_recipe(args)
    accelerator = build_accelerator(args, recipe)
    watch = Watch(accelerator, args.run_dir, Console(highlight=False))
    check_batch(recipe.batch_size, accelerator.num_processes, args.gradient_accumulation_steps)
    set_seed(args.seed)
    lock = lock_folder(args.run_dir) if accelerator.is_main_process else None
    start = time.perf_counter()
    finetuned = load_start(args, recipe)
    if finetuned is not None:
        recipe = recipe_of_start(args, recipe, finetuned)
    with accelerator.main_process_first():
        data = load_data(args, recipe, watch.say)
    recipe = fit_batch(args, recipe, len(data["train"]), accelerator.num_processes)
    order = UpdateOrder(len(data["train"]), recipe.batch_size, args.seed)
    progress = RunProgress()
    progress.add_seconds("data", start)
    checkpoint = find_checkpoint(args.resume, args.run_dir, accelerator, watch.say)
    with watch.working("building the network"):
        processor, network = build_network(args, recipe, data["train"], finetuned)
    processor.trained_words = words_in_letters(processor, data["train"]["expression"]) or None
    num_updates = recipe.updates(len(data["train"]))
    if recipe.warmup_steps >= num_updates and args.warmup_steps is None:
        recipe = recipe.changed(f"a tenth of the run's {num_updates:,} updates", warmup_steps=num_updates // 10)
    if recipe.warmup_steps >= num_updates:
        watch.say(
            f"{WARNING} the warm-up of {recipe.warmup_steps} updates is no shorter than the run, "
            f"{num_updates}: the learning rate is never reached. Lower --warmup_steps."
        )
    settings = describe_settings(args, recipe, data, num_updates, accelerator)
    model, average, optimizer, schedule = prepare_network(args, recipe, accelerator, network, num_updates)
    run = Run(
        args=args,
        recipe=recipe,
        accelerator=accelerator,
        watch=watch,
        data=data,
        processor=processor,
        model=model,
        average=average,
        optimizer=optimizer,
        schedule=schedule,
        order=order,
        num_updates=num_updates,
        eval_every=recipe.evaluation_interval(len(data["train"])),
        settings=settings,
        lock=lock,
        progress=progress,
    )
    open_folder(run, checkpoint)
    return run


def open_folder(run: Run, checkpoint: Checkpoint | None) -> None:
    """Start a new folder, or bring folder and run back to where a checkpoint was taken."""
    if checkpoint is not None:
        go_on(run, checkpoint)
    if run.accelerator.is_main_process and not run.is_finished:
        run.output_dir.mkdir(parents=True, exist_ok=True)
        for name in ("best", "last"):
            recover_folder(run.output_dir / name)
        for name in remove_partial(run.output_dir):
            run.watch.say(f"Removed {name}, which a stopped run had not finished.")
        if checkpoint is None:
            keep_aside(run.output_dir, run.watch.say)
            if run.args.resume == "latest":
                run.watch.say(f"No checkpoint in {run.output_dir} to go on from: starting at the first update.")
            write_recipe(run.recipe, run.output_dir / RECIPE_FILE)
            write_options(run.args, run.output_dir)
            write_split(run.data, run.output_dir)
        else:
            rewind_folder(run, checkpoint)
    run.accelerator.wait_for_everyone()
    tracking: dict[str, dict[str, Any]] = {
        "wandb": {"id": run.progress.run_id, "resume": "allow", "dir": str(run.output_dir / LOGS)}
    }
    if checkpoint is not None:
        tracking["tensorboard"] = {"purge_step": checkpoint.step + 1}
    start_trackers(run.accelerator, run.settings, tracking)


def go_on(run: Run, checkpoint: Checkpoint) -> None:
    """Weights, optimizer, schedule and what the loop remembers, from a checkpoint of the same run."""
    state = checkpoint.state()
    check_same_settings(state.get("settings"), run.settings, checkpoint)
    run.progress = RunProgress.read(state["progress"], checkpoint)
    if run.progress.step > run.num_updates:
        raise CheckpointError(f"{checkpoint.folder} is beyond the {run.num_updates} updates of this run. Use another.")
    load_checkpoint(run.accelerator, checkpoint, run.average)
    move_schedule(run.schedule, run.progress.step - run.progress.skipped)


def rewind_folder(run: Run, checkpoint: Checkpoint) -> None:
    """Take out of the folder what comes after a checkpoint: it will be written again."""
    for name in END_FILES:
        (run.output_dir / name).unlink(missing_ok=True)
    for name in (METRICS, TIMING):
        cut_lines(run.output_dir / name, checkpoint.step, run.progress.evaluated_step)
    for later in checkpoint_folders(run.output_dir):
        if later.step > checkpoint.step:
            shutil.rmtree(later.folder)
    run.watch.say(f"Going on from {checkpoint.folder}, update {checkpoint.step} of {run.num_updates}.")


def checkpoint_state(run: Run) -> dict[str, Any]:
    """What `state.json` of a checkpoint holds."""
    return {"settings": run.settings, "progress": asdict(run.progress)}
