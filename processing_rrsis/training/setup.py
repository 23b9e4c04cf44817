"""The parts that a run is put together from: accelerator, data, network, optimizer."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, GradientAccumulationPlugin, ProjectConfiguration, TorchDynamoPlugin
from datasets import Dataset, DatasetDict
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import PreTrainedModel

from ..data import load_benchmark
from ..data.absent_rows import with_absent_rows
from ..data.load import with_validation
from ..data.synthetic.builder import SPLITS
from ..expression_rrsis import CATEGORY_SETS
from ..hub.loading import _check_model_folder
from ..processor_rrsis import RRSISProcessor
from .arguments import TrainingArguments
from .batch_norm import synchronise_batch_norm
from .optimization import parameter_groups, poly_schedule
from .recipes.shipped import Recipe
from .starting_weights import build_model, build_processor, data_categories, load_finetuned
from .watching import LOGS, check_trackers

Finetuned = tuple[RRSISProcessor, PreTrainedModel]
MAX_DATA_PROCESSES = 4  # that make the embedded benchmark; more gain little on 5,000 scenes


def build_accelerator(args: TrainingArguments, recipe: Recipe) -> Accelerator:
    """Accelerate's object for this process; threads are set for training on a CPU."""
    precision = resolve_precision(recipe.mixed_precision)
    if precision == "fp16" and not torch.cuda.is_available():
        raise ValueError("--mixed_precision fp16 needs a GPU: its loss scale lives there. Use bf16, or no.")
    accelerator = Accelerator(
        mixed_precision=precision,
        # An update always has all of its micro-batches, also where an epoch ends between two of them.
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=args.gradient_accumulation_steps, sync_with_dataloader=False
        ),
        step_scheduler_with_optimizer=False,
        log_with=check_trackers(args.report_to) or None,
        project_config=ProjectConfiguration(project_dir=str(args.run_dir), logging_dir=str(args.run_dir / LOGS)),
        dynamo_plugin=TorchDynamoPlugin(backend="inductor") if args.compile else None,
    )
    if accelerator.device.type == "cuda":
        make_repeatable()
    if accelerator.device.type == "cpu":
        # `accelerate launch` leaves a CPU process a single thread.
        torch.set_num_threads(args.cpu_threads or max(1, available_cores() // accelerator.num_processes))
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        if args.resume != "none":
            raise ValueError(
                "--resume: DeepSpeed reads its checkpoints by unpickling, which runs what is in them; train on with "
                "--init_from, or with FSDP (configs/accelerate/fsdp.yaml), whose runs go on."
            )
        parts = accelerator.num_processes * args.gradient_accumulation_steps
        engine = accelerator.state.deepspeed_plugin.deepspeed_config  # it steps and clips by itself
        engine["train_micro_batch_size_per_gpu"] = max(1, recipe.batch_size // parts)
        engine["gradient_clipping"] = recipe.max_grad_norm or 0.0
    sharded = accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
    if sharded and args.ema_decay is not None:
        raise ValueError("--ema_decay keeps whole weights on every process, which FSDP and DeepSpeed do not have.")
    return accelerator


def make_repeatable() -> None:
    """Have a GPU add up in a fixed order, so that a run that was killed ends with the same bytes as one that was not.

    Without it the gradients of upsampling and of some convolutions and matrix products differ from run to run. What
    it costs stands in docs/design/performance.md.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product of matrices starts
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def check_batch(batch_size: int, num_processes: int, accumulation_steps: int) -> None:
    """Raise a `ValueError` unless an update divides into the micro-batches."""
    if batch_size % (num_processes * accumulation_steps):
        raise ValueError(
            f"--batch_size {batch_size} is the number of samples per update and must be a multiple of processes × "
            f"accumulation steps, here {num_processes} × {accumulation_steps}."
        )


def fit_batch(args: TrainingArguments, recipe: Recipe, train_samples: int, num_processes: int) -> Recipe:
    """The recipe with a batch that the training split fills, unless `--batch_size` says how large it is."""
    parts = num_processes * args.gradient_accumulation_steps
    size = train_samples // parts * parts
    if args.batch_size is not None or not 0 < size < recipe.batch_size:
        return recipe
    return recipe.changed(f"the training split has {train_samples} samples", batch_size=size)


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


def load_data(args: TrainingArguments, recipe: Recipe, say: Callable[[str], None]) -> DatasetDict:
    """The benchmark's splits, each cut to `--max_samples` where that is given."""
    options: dict[str, Any] = {"num_proc": min(MAX_DATA_PROCESSES, available_cores())}
    if recipe.dataset == "synthetic":
        options |= {"image_size_px": recipe.image_size_px, "seed": args.data_seed}
        if args.max_samples is not None:  # the embedded benchmark makes no more than is asked for
            options |= {"num_proc": None, **{f"{split}_samples": args.max_samples for split in SPLITS}}
    elif args.allow_missing:
        options["allow_missing"] = True
    data = with_validation(load_benchmark(recipe.dataset, data_dir=args.data_dir, **options), say)
    missing = {"train", "validation"} - set(data)
    if missing:
        raise ValueError(
            f"The data has no split {', '.join(sorted(missing))}; training needs train and validation, has "
            f"{', '.join(data)}. Name them in a column split, or bring at least two images."
        )
    if args.max_samples is not None:
        data = DatasetDict(
            {split: rows.select(range(min(len(rows), args.max_samples))) for split, rows in data.items()}
        )
    if args.absent_share:
        own = {name: options[name] for name in ("image_size_px", "seed")} if recipe.dataset == "synthetic" else None
        train = with_absent_rows(data["train"], args.absent_share, synthetic=own, seed=args.seed)
        data = DatasetDict({**data, "train": train})
    return data


def load_start(args: TrainingArguments, recipe: Recipe) -> Finetuned | None:
    """Processor and network of `--init_from`; `None` without it.

    Raises:
        ValueError: If it is of another architecture, lies where the run will write, or can't be there.
        OSError: If the Hub has nothing of that name.
    """
    if args.init_from is None:
        return None
    folder = Path(args.init_from).expanduser()
    if folder.exists() and folder.resolve().is_relative_to(args.run_dir.resolve()):
        raise ValueError(
            f"--init_from {args.init_from} lies in --output_dir {args.output_dir}, where the new run will write. "
            "Choose another --output_dir."
        )
    _check_model_folder(args.init_from, option="--init_from")
    model, processor = load_finetuned(args.init_from)
    if model.config.model_type != f"rrsis_{recipe.model}":
        raise ValueError(
            f"--init_from {args.init_from} is a {model.config.model_type}, the run's --model is {recipe.model}."
        )
    return processor, model


def recipe_of_start(args: TrainingArguments, recipe: Recipe, finetuned: Finetuned) -> Recipe:
    """The recipe with what a finished model decides: its configuration, its token limit, the size of its input."""
    processor, model = finetuned
    values = model.config.to_dict()
    config = {
        name: {key: values[name].get(key) for key in value} if isinstance(value, dict) else values.get(name)
        for name, value in recipe.config.items()
    }
    changes: dict[str, Any] = {"config": config, "max_length": processor.max_length}
    if args.image_size is None:
        changes["image_size_px"] = processor.image_processor.size["height"]
    return recipe.changed("the model of --init_from", **changes)


def build_network(args: TrainingArguments, recipe: Recipe, train: Dataset, finetuned: Finetuned | None) -> Finetuned:
    """Processor and network with the weights that the run starts from."""
    categories = data_categories(train)
    if finetuned is not None:
        before, model = finetuned
        before.image_processor.size = {"height": recipe.image_size_px, "width": recipe.image_size_px}
        model.config.image_size = recipe.image_size_px
        known: str | list[str] = recipe.dataset if recipe.dataset in CATEGORY_SETS else categories
        processor = RRSISProcessor(
            before.image_processor,
            before.tokenizer,
            categories=known or before.categories,
            alignment=before.alignment,
            max_length=before.max_length,
        )
        return processor, model
    processor = build_processor(
        recipe,
        text=args.text_weights,
        categories=categories,
        train_expressions=train["expression"] if args.from_scratch or recipe.text is None else None,
    )
    try:
        model = build_model(
            recipe, processor, vision=args.vision_weights, text=args.text_weights, from_scratch=args.from_scratch
        )
    except (TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"The recipe's config can't be built ({error}); compare it with `rrsis recipes`.") from error
    return processor, model


def prepare_network(
    args: TrainingArguments, recipe: Recipe, accelerator: Accelerator, model: PreTrainedModel, num_updates: int
) -> tuple[torch.nn.Module, AveragedModel | None, torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """Optimizer, schedule and average of a network."""
    if args.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    if accelerator.num_processes > 1 and not args.freeze_batch_norm:
        synchronise_batch_norm(model, accelerator.device)
    groups = parameter_groups(
        model,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        text_learning_rate=recipe.text_learning_rate,
        trained_text_layers=recipe.trained_text_layers,
    )
    optimizer = torch.optim.AdamW(groups, fused=True)
    schedule = poly_schedule(optimizer, num_updates, warmup_steps=recipe.warmup_steps, power=recipe.schedule_power)
    model, optimizer = accelerator.prepare(model, optimizer)
    average = None
    if args.ema_decay is not None:
        network = accelerator.unwrap_model(model, keep_torch_compile=False)
        average = AveragedModel(network, multi_avg_fn=average_floats(args.ema_decay), use_buffers=True)
    save_without_wrappers(accelerator)
    return model, average, optimizer, schedule


def average_floats(decay: float) -> Callable[..., None]:
    """Exponential moving average of what is a quantity; integers, such as window indices, are copied.

    PyTorch's own rule averages those too and rounds down, 0.9·80 + 0.1·80 to 79. After n updates the decay is at most
    (1 + n) / (10 + n), as TensorFlow's is: else 0.999 would keep a third of the first weights for 1,000 updates.
    """

    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], num_averaged: Tensor) -> None:
        if averaged[0].is_floating_point():
            done = int(num_averaged)
            get_ema_multi_avg_fn(min(decay, (1 + done) / (10 + done)))(averaged, current, num_averaged)
            return
        for one, other in zip(averaged, current, strict=True):
            one.copy_(other)

    return update


def save_without_wrappers(accelerator: Accelerator) -> None:
    """Let checkpoints hold the names of the bare network, so that a run can go on with another number of processes."""
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        return

    def rename(models: list[torch.nn.Module], weights: list[dict[str, Any]], output_dir: str) -> None:
        weights[:] = [accelerator.unwrap_model(model, keep_torch_compile=False).state_dict() for model in models]

    def unwrap(models: list[torch.nn.Module], input_dir: str) -> None:
        models[:] = [accelerator.unwrap_model(model, keep_torch_compile=False) for model in models]

    accelerator.register_save_state_pre_hook(rename)
    accelerator.register_load_state_pre_hook(unwrap)
