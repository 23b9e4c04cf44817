"""Train LAVT, DANet or FIANet with Accelerate, on one CPU or on many GPUs.

    accelerate launch train_accelerate.py                      # small FIANet on the embedded benchmark
    accelerate launch train_accelerate.py --model danet --seed 1 --output_dir runs/danet
    accelerate launch train_accelerate.py --ablation fianet-fig9-cim

The recipe of a model on a benchmark sets every number; an option given here replaces it. The output folder holds
`best/` and `last/` (loaded by `AutoModel`, `AutoProcessor` and `pipeline`), `metrics.jsonl`, `metrics.json`,
`contact_sheet.png` and `curves.png`. The weights in `best/` are chosen on the validation split; the test splits are
read once, at the end.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import GradientAccumulationPlugin, set_seed
from datasets import DatasetDict
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers import HfArgumentParser

from modeling_rrsis import MODELS
from processing_rrsis import RRSISImageProcessor, RRSISProcessor
from processing_rrsis.data import build_synthetic_tokenizer, load_benchmark
from processing_rrsis.data.augmentation import Augmentation
from processing_rrsis.data.collate import ReferringCollator
from processing_rrsis.data.synthetic import SPLITS
from processing_rrsis.data.synthetic_ceilings import reader_ceilings
from processing_rrsis.metrics import EvaluationResult, evaluate_with_controls
from processing_rrsis.tools.ablations import Ablation, get_ablation
from processing_rrsis.tools.export import save_hub_folder
from processing_rrsis.tools.optimization import parameter_groups, poly_schedule
from processing_rrsis.tools.recipes import MODEL_NAMES, Recipe, get_recipe
from processing_rrsis.tools.run_report import (
    RunSummary,
    card_text,
    draw_sheet,
    evaluate_splits,
    plain_results,
    print_summary,
    write_metrics,
)

MAX_DATA_PROCESSES = 4  # that make the embedded benchmark; more gain little on 5,000 scenes
COLLAPSE_MARGIN = 5.0  # points of mIoU; text that is ignored is the silent failure of this field
EVAL_BATCHES = 4  # evaluation holds no activations, so a batch may be this many times that of training
RECIPE_OVERRIDES = ("max_steps", "batch_size", "learning_rate", "text_learning_rate", "warmup_steps", "eval_every")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keep the lines of the description, and say every default."""


class TrainingError(RuntimeError):
    """Training can't go on; the message says why and what to do."""


@dataclass
class TrainingArguments:
    """Options of the command line."""

    model: str | None = field(
        default=None, metadata={"help": f"Network: {', '.join(MODEL_NAMES)}; fianet, or the ablation's, if absent."}
    )
    ablation: str | None = field(
        default=None, metadata={"help": "Preset of a paper's ablation table, on top of the recipe: `rrsis ablations`."}
    )
    dataset: str = field(default="synthetic", metadata={"help": "Benchmark; 'synthetic' is made on this machine."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder of a downloaded benchmark."})
    output_dir: str | None = field(
        default=None,
        metadata={"help": "Folder that everything is written to; runs/MODEL or runs/ABLATION if absent."},
    )
    seed: int = field(default=0, metadata={"help": "Seed of weights, order of samples and dropout."})
    data_seed: int = field(default=0, metadata={"help": "Seed of the embedded benchmark's scenes."})
    max_steps: int | None = field(default=None, metadata={"help": "Updates; the recipe's number if absent."})
    batch_size: int | None = field(
        default=None, metadata={"help": "Samples per update over all processes; a multiple of their number."}
    )
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Forward passes per update."})
    learning_rate: float | None = field(default=None, metadata={"help": "AdamW's learning rate."})
    text_learning_rate: float | None = field(default=None, metadata={"help": "Learning rate of the text encoder."})
    warmup_steps: int | None = field(default=None, metadata={"help": "Updates of linear warm-up."})
    eval_every: int | None = field(default=None, metadata={"help": "Updates between evaluations."})
    mixed_precision: str = field(
        default="auto", metadata={"help": "no, bf16 or fp16; 'auto' is bf16 where the hardware computes in it."}
    )
    augmentation: str = field(
        default="none",
        metadata={"help": "flip, vflip and boxes joined with '+', such as flip+boxes; mirrors the words too."},
    )
    cpu_threads: int | None = field(
        default=None,
        metadata={"help": "Threads of a process that computes on the CPU; its share of the cores if absent."},
    )
    num_workers: int = field(default=1, metadata={"help": "Processes that load data, per training process."})
    log_every: int = field(default=20, metadata={"help": "Updates between lines of metrics.jsonl."})
    max_samples: int | None = field(
        default=None, metadata={"help": "Samples of each split, for a quick look; all of them if absent."}
    )


@dataclass
class Run:
    """A prepared training run."""

    args: TrainingArguments
    recipe: Recipe
    accelerator: Accelerator
    console: Console
    data: DatasetDict
    processor: RRSISProcessor
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    loader: DataLoader
    micro_batch: int
    seconds: dict[str, float] = field(default_factory=dict)
    best_miou: float = -1.0
    best_step: int = 0

    @property
    def output_dir(self) -> Path:
        """Folder of the run."""
        return Path(self.args.output_dir or "")

    def log(self, **values: Any) -> None:
        """Append a line to metrics.jsonl."""
        if self.accelerator.is_main_process:
            with (self.output_dir / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(values) + "\n")

    def say(self, text: str) -> None:
        """Print on the main process."""
        if self.accelerator.is_main_process:
            self.console.print(text)

    def collator(self) -> ReferringCollator:
        """Rows to model inputs."""
        return ReferringCollator(self.processor)


def describe(run: Run) -> str:
    """One paragraph about the run, before it starts."""
    model = run.accelerator.unwrap_model(run.model)
    parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    recipe = run.recipe
    name = type(model).__name__ + (f" ({recipe.ablation})" if recipe.ablation else "")
    return (
        f"{name}, {parameters:.1f} M parameters, on {recipe.dataset}: "
        f"{len(run.data['train']):,} samples of {recipe.image_size_px} px, "
        f"{recipe.max_steps:,} updates of {recipe.batch_size} samples, "
        f"{run.accelerator.num_processes} process(es) on {run.accelerator.device.type}, "
        f"precision {run.accelerator.mixed_precision}."
    )


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resolve_precision(requested: str) -> str:
    """`"auto"` to `"bf16"` where the hardware multiplies in bfloat16, else to `"no"`."""
    if requested != "auto":
        return requested
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    return "bf16" if getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)() else "no"


def resolve_ablation(args: TrainingArguments) -> Ablation | None:
    """The preset that is asked for; it decides the model where that is not given."""
    ablation = None if args.ablation is None else get_ablation(args.ablation)
    if args.model is None:
        args.model = "fianet" if ablation is None else ablation.model
    if args.model not in MODELS:
        raise ValueError(f"--model must be one of {', '.join(MODELS)}, got {args.model!r}.")
    if ablation is not None and args.model != ablation.model:
        raise ValueError(
            f"--ablation {ablation.name} is one of {ablation.model}, got --model {args.model}. Leave --model out."
        )
    return ablation


def resolve_recipe(args: TrainingArguments) -> Recipe:
    """The recipe with the ablation's fields and the command line's numbers in place of its own."""
    ablation = resolve_ablation(args)
    args.output_dir = args.output_dir or f"runs/{args.ablation or args.model}"
    changes = {name: getattr(args, name) for name in RECIPE_OVERRIDES if getattr(args, name) is not None}
    for name in ("max_steps", "batch_size", "eval_every", "log_every", "max_samples", "gradient_accumulation_steps"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}.")
    for name, low in (("learning_rate", 1e-9), ("text_learning_rate", 1e-9), ("warmup_steps", 0)):
        value = getattr(args, name)
        if value is not None and not low <= value < math.inf:
            raise ValueError(f"--{name} must be a number of at least {low:g}, got {value}.")
    recipe = get_recipe(args.model, args.dataset)
    if ablation is not None:
        changes |= {"config": {**recipe.config, **ablation.fields}, "ablation": ablation.name}
    return dataclasses.replace(recipe, **changes)


def build_processor(recipe: Recipe) -> RRSISProcessor:
    """Image processor, tokenizer and parser of a recipe."""
    size = {"height": recipe.image_size_px, "width": recipe.image_size_px}
    return RRSISProcessor(
        RRSISImageProcessor(size=size),
        build_synthetic_tokenizer(),
        categories=recipe.dataset,
        max_length=recipe.max_length,
    )


def build_model(recipe: Recipe, processor: RRSISProcessor) -> torch.nn.Module:
    """The recipe's network with random weights."""
    model_class = MODELS[recipe.model]
    text_config = {**recipe.config.get("text_config", {}), "vocab_size": len(processor.tokenizer)}
    return model_class(model_class.config_class(**{**recipe.config, "text_config": text_config}))


def load_data(args: TrainingArguments, recipe: Recipe) -> DatasetDict:
    """The benchmark's splits, each cut to `--max_samples` where that is given."""
    options: dict[str, Any] = {"num_proc": min(MAX_DATA_PROCESSES, available_cores())}
    if args.dataset == "synthetic":
        options |= {"image_size_px": recipe.image_size_px, "seed": args.data_seed}
        if args.max_samples is not None:  # the embedded benchmark makes no more than is asked for
            options |= {"num_proc": None, **{f"{split}_samples": args.max_samples for split in SPLITS}}
    data = load_benchmark(args.dataset, data_dir=args.data_dir, **options)
    if args.max_samples is not None:
        data = DatasetDict(
            {split: rows.select(range(min(len(rows), args.max_samples))) for split, rows in data.items()}
        )
    return data


def prepare_run(args: TrainingArguments) -> Run:
    """Build everything that training needs."""
    recipe = resolve_recipe(args)
    augmentation = Augmentation.from_name(args.augmentation, seed=args.seed)
    accelerator = Accelerator(
        mixed_precision=resolve_precision(args.mixed_precision),
        # An update always has all of its micro-batches, also where an epoch ends between two of them.
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=args.gradient_accumulation_steps, sync_with_dataloader=False
        ),
        step_scheduler_with_optimizer=False,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=args.seed),
    )
    if accelerator.device.type == "cpu":
        # `accelerate launch` leaves a CPU process a single thread.
        torch.set_num_threads(args.cpu_threads or max(1, available_cores() // accelerator.num_processes))
    console = Console(stderr=False, highlight=False)
    micro_batch, rest = divmod(recipe.batch_size, accelerator.num_processes * args.gradient_accumulation_steps)
    if rest or micro_batch == 0:
        raise ValueError(
            f"--batch_size {recipe.batch_size} is the number of samples per update and must be a multiple of "
            f"processes × accumulation steps, here {accelerator.num_processes} × {args.gradient_accumulation_steps}."
        )
    Path(args.output_dir or "").mkdir(parents=True, exist_ok=True)
    set_seed(args.seed)
    start = time.perf_counter()
    with accelerator.main_process_first():
        data = load_data(args, recipe)
    if len(data["train"]) < recipe.batch_size:
        raise ValueError(
            f"The training split has {len(data['train'])} samples, fewer than the {recipe.batch_size} of one update. "
            "Raise --max_samples or lower --batch_size."
        )
    seconds = {"data": time.perf_counter() - start}
    processor = build_processor(recipe)
    model = build_model(recipe, processor)
    groups = parameter_groups(
        model,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        text_learning_rate=recipe.text_learning_rate,
        trained_text_layers=recipe.trained_text_layers,
    )
    optimizer = torch.optim.AdamW(groups, fused=True)
    schedule = poly_schedule(
        optimizer, recipe.max_steps, warmup_steps=recipe.warmup_steps, power=recipe.schedule_power
    )
    loader = DataLoader(
        data["train"],
        batch_size=micro_batch,
        shuffle=True,
        drop_last=True,
        num_workers=args.num_workers,
        persistent_workers=args.num_workers > 0,
        collate_fn=ReferringCollator(processor, augmentation=augmentation),
    )
    if accelerator.num_processes > 1 and accelerator.device.type == "cuda":  # torch has it for GPUs only
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    return Run(
        args,
        recipe,
        accelerator,
        console,
        data,
        processor,
        model,
        optimizer,
        schedule,
        loader,
        micro_batch=micro_batch,
        seconds=seconds,
    )


def endless(run: Run) -> Iterator[dict[str, torch.Tensor]]:
    """Batches, epoch after epoch, each epoch in a new order."""
    epoch = 0
    while True:
        run.loader.set_epoch(epoch)
        run.loader.collate_fn.set_epoch(epoch)
        yield from run.loader
        epoch += 1


def train_step(run: Run, batch: dict[str, torch.Tensor]) -> tuple[float, float]:
    """One forward and backward pass, and an update where gradients are due; loss and gradient norm."""
    with run.accelerator.accumulate(run.model):
        loss = run.model(**batch).loss
        run.accelerator.backward(loss)
        norm = math.nan
        if run.accelerator.sync_gradients:
            limit = run.recipe.max_grad_norm or math.inf
            norm = float(run.accelerator.clip_grad_norm_(run.model.parameters(), limit))
        run.optimizer.step()
        run.optimizer.zero_grad()
        if run.accelerator.sync_gradients and not run.accelerator.optimizer_step_was_skipped:
            run.schedule.step()
    return loss.item(), norm


def train(run: Run) -> None:
    """The training loop, with evaluations on the validation split."""
    recipe = run.recipe
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=run.console, disable=not run.accelerator.is_main_process)
    start = time.perf_counter()
    evaluating = 0.0
    batches = endless(run)
    losses: list[float] = []
    with progress:
        task = progress.add_task("training", total=recipe.max_steps)
        for step in range(1, recipe.max_steps + 1):
            run.model.train()
            for _ in range(run.args.gradient_accumulation_steps):
                loss, norm = train_step(run, next(batches))
                losses.append(loss)
            if not math.isfinite(loss):
                raise TrainingError(
                    f"The loss is {loss} at step {step}. Lower --learning_rate or raise --warmup_steps."
                )
            if step % run.args.log_every == 0 or step == recipe.max_steps:
                mean_loss = sum(losses) / len(losses)
                losses.clear()
                rate = step * recipe.batch_size / (time.perf_counter() - start - evaluating)
                lr = run.schedule.get_last_lr()[0]
                norm_or_none = norm if math.isfinite(norm) else None
                run.log(step=step, loss=mean_loss, learning_rate=lr, grad_norm=norm_or_none, images_per_second=rate)
                progress.update(task, description=f"loss {mean_loss:.3f}  lr {lr:.1e}  {rate:.0f} img/s")
            progress.update(task, completed=step)
            if step % recipe.eval_every == 0 or step == recipe.max_steps:
                evaluating += validate(run, step, progress)
    run.seconds["training"] = time.perf_counter() - start - evaluating
    run.seconds["validation"] = evaluating


def validate(run: Run, step: int, progress: Progress) -> float:
    """Evaluate on the validation split and keep the best weights; the seconds it took.

    The same split with shuffled expressions shows whether the text is read: a model that ignores it scores the same.
    """
    start = time.perf_counter()
    results = evaluate_with_controls(
        run.model,
        run.data["validation"],
        run.collator(),
        controls=("expression", "shuffled"),
        seed=run.args.seed,
        accelerator=run.accelerator,
        batch_size=EVAL_BATCHES * run.micro_batch,
        progress=progress,
        description="validation",
    )
    scores, shuffled = results["expression"].to_dict()["overall"], results["shuffled"].overall["mIoU"]
    run.log(step=step, split="validation", **scores, **{"shuffled/mIoU": shuffled})
    better = scores["mIoU"] > run.best_miou
    if run.accelerator.is_main_process:
        progress.console.print(
            f"step {step}: validation mIoU {scores['mIoU']:.1f}, oIoU {scores['oIoU'] or 0.0:.1f}, with shuffled "
            f"expressions mIoU {shuffled:.1f}" + (" (best so far)" if better else "")
        )
    if step == run.recipe.max_steps and scores["mIoU"] - shuffled < COLLAPSE_MARGIN:
        run.say(
            f"[bold yellow]warning:[/] with shuffled expressions the model scores within {COLLAPSE_MARGIN:.0f} points "
            "of its own: it hardly reads the text. Train longer, or lower --text_learning_rate."
        )
    if better:
        run.best_miou, run.best_step = scores["mIoU"], step
        save(run, "best")
    return time.perf_counter() - start


def save(run: Run, name: str) -> None:
    """Write a Hub-shaped folder of the current weights; every process returns when it is there."""
    if run.accelerator.is_main_process:
        model = run.accelerator.unwrap_model(run.model, keep_torch_compile=False)
        selection = f"the {name} weights of the run so far; test scores are in the card of best/ when it ends"
        card = make_card(run, model, summarize(run), run.output_dir / name, selection=selection)
        save_hub_folder(model, run.processor, run.output_dir / name, model_card=card)
    run.accelerator.wait_for_everyone()


def summarize(run: Run, **found: Any) -> RunSummary:
    """What is known of the run; `found` are the results of its end."""
    return RunSummary(
        recipe=run.recipe,
        seed=run.args.seed,
        best_step=run.best_step,
        best_miou=run.best_miou,
        seconds=run.seconds,
        **found,
    )


def make_card(run: Run, model: torch.nn.Module, summary: RunSummary, folder: Path, selection: str) -> str:
    """The model card of a folder of weights."""
    return card_text(
        summary,
        model,
        repo_id=str(folder),
        selection=selection,
        train_samples=len(run.data["train"]),
        device=run.accelerator.device.type,
    )


def report(run: Run) -> None:
    """Test the selected weights once; the main process writes and prints the outcome."""
    start = time.perf_counter()
    model = run.accelerator.unwrap_model(run.model, keep_torch_compile=False)
    model.load_state_dict(load_file(run.output_dir / "best" / "model.safetensors"))
    results = evaluate_splits(
        run.model,
        run.data,
        run.collator(),
        batch_size=EVAL_BATCHES * run.micro_batch,
        accelerator=run.accelerator,
        seed=run.args.seed,
    )
    run.seconds["test"] = time.perf_counter() - start
    if run.accelerator.is_main_process:
        write_report(run, model.eval(), results)
    run.accelerator.wait_for_everyone()


def write_report(run: Run, model: torch.nn.Module, results: dict[str, dict[str, EvaluationResult]]) -> None:
    """Pictures, metrics.json and the model card of the selected weights, and the tables on the screen."""
    ceilings = {}
    if run.recipe.dataset == "synthetic":
        ceilings = reader_ceilings(samples=len(run.data["test"]), seed=run.args.data_seed)
    summary = summarize(
        run,
        results=plain_results(results),
        ceilings={reader: scores["overall"] for reader, scores in ceilings.items()},
    )
    sheet, best = run.output_dir / "contact_sheet.png", run.output_dir / "best"
    device = run.accelerator.device
    draw_sheet(model, run.data["test"], run.collator(), results["test"], device=device, path=sheet)
    write_metrics(summary, run.output_dir)
    selection = f"best mIoU on the validation split, step {run.best_step} of {run.recipe.max_steps}"
    card = make_card(run, model, summary, best, selection=selection)
    save_hub_folder(model, run.processor, best, model_card=card, metrics=summary.to_dict())
    print_summary(summary, results, run.console)
    run.say(f"Look at {sheet}; the model is in {best}.")


def remove_previous(run: Run) -> None:
    """Clear what an earlier run left in the folder, so that nothing of it stands beside the new one."""
    if run.accelerator.is_main_process and (run.output_dir / "metrics.jsonl").exists():
        run.say(f"Replacing the run that is in {run.output_dir}.")
        for name in ("metrics.jsonl", "metrics.json", "contact_sheet.png", "curves.png"):
            (run.output_dir / name).unlink(missing_ok=True)
        for name in ("best", "last"):
            shutil.rmtree(run.output_dir / name, ignore_errors=True)
    run.accelerator.wait_for_everyone()


def main(argv: list[str] | None = None) -> None:
    """Train, evaluate and write the run's folder."""
    parser = HfArgumentParser(TrainingArguments, description=__doc__, formatter_class=HelpFormatter)
    (args,) = parser.parse_args_into_dataclasses(argv)
    run = prepare_run(args)
    remove_previous(run)
    run.say(describe(run))
    train(run)
    save(run, "last")
    report(run)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=FutureWarning)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        main()
    except (ValueError, TrainingError, OSError) as error:
        Console(stderr=True).print(f"[bold red]error:[/] {error}", markup=True)
        sys.exit(1)
