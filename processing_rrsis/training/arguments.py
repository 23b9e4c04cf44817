"""Options of the training command, and the recipe that they make."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, cast

from transformers import HfArgumentParser

from modeling_rrsis import MODELS

from ..bounds_rrsis import read_json
from ..data.own_table import TABLE_ENDINGS
from .recipes.presets import Ablation, get_ablation
from .recipes.shipped import Recipe, check_recipe, default_recipe, get_recipe
from .watching import check_trackers

RECIPE_OVERRIDES = {
    "image_size": "image_size_px",
    **{name: name for name in ("batch_size", "learning_rate", "text_learning_rate", "warmup_steps", "eval_every")},
    **{name: name for name in ("augmentation", "mixed_precision")},
}
"""Option → field of the recipe that it replaces."""
COMMAND_LINE = "option of the command line"
START_FIELDS = ("vision", "text", "trained_text_layers")
"""Fields of a recipe that tell what a network begins with."""
GROUPS = {
    "What is trained": "model",
    "Where it starts": "vision_weights",
    "How long and how": "image_size",
    "Stopping and going on": "resume",
    "What is seen": "eval_every",
    "The machine": "num_workers",
}
"""Headings of `--help`, each with the first option below it; the options stand in the order of `TrainingArguments`."""
LOWEST = {
    **dict.fromkeys(("gradient_accumulation_steps", "checkpoint_every", "keep_checkpoints", "log_every"), 1),
    **dict.fromkeys(("cpu_threads", "max_samples"), 1),
    **dict.fromkeys(("num_workers", "panel_samples", "seed", "data_seed"), 0),
}
"""Options that no recipe checks, and their least value."""
EXCLUSIVE = (
    ("max_steps", "max_epochs"),
    ("small", "recipe"),
    ("small", "vision_weights"),
    ("small", "text_weights"),
    ("from_scratch", "init_from"),
    ("from_scratch", "vision_weights"),
    ("init_from", "vision_weights"),
    ("init_from", "text_weights"),
    ("init_from", "ablation"),
)


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keep the lines of the description; name each option once, and its default where it has one."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        return action.option_strings[0] + ("" if action.default is False else f" {self._format_args(action, 'VALUE')}")

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        return {int: "INT", float: "NUMBER"}.get(action.type, "TEXT") if action.type else ""  # type: ignore[call-overload]

    def _get_help_string(self, action: argparse.Action) -> str:
        return (action.help or "") + (
            "" if action.default in (None, False, argparse.SUPPRESS) else " [default: %(default)s]"
        )


class TrainingParser(HfArgumentParser):
    """The options of training, in groups."""

    def error(self, message: str) -> NoReturn:
        """End with a line in the place of argparse's three."""
        self.exit(2, f"error: {message}; `{self.prog} --help` lists the options\n")

    def format_help(self) -> str:
        """The description, then the groups in the order of `GROUPS`."""
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, [], [], prefix="Usage: ")
        formatter.add_text(self.description)
        first = {name: heading for heading, name in GROUPS.items()}
        for action in self._actions:
            if action.dest in first:
                if action.dest != GROUPS["What is trained"]:
                    formatter.end_section()
                formatter.start_section(first[action.dest])
            if action.dest != "help":
                formatter.add_argument(action)
        formatter.end_section()
        return formatter.format_help()


def option(default: Any, text: str, shown: str | None = None) -> Any:
    """A field of the command line with its help; `shown` says in words what holds where it is left out."""
    return field(default=default, metadata={"help": text if shown is None else f"{text} [default: ({shown})]"})


@dataclass
class TrainingArguments:
    """Options of the command line; an option that is left out follows the recipe."""

    model: str | None = option(None, f"Network: {', '.join(MODELS)}.", shown="the recipe's, or fianet")
    small: bool = option(
        False, "A small network on any data, minutes on two CPU cores: the numbers of the recipe MODEL-synthetic."
    )
    recipe: str | None = option(
        None, "Recipe by name (`rrsis recipes` lists them) or a .yaml file.", shown="MODEL-DATASET"
    )
    ablation: str | None = option(None, "Preset of a paper's ablation table, on top of the recipe: `rrsis ablations`.")
    dataset: str | None = option(
        None, "synthetic (made on this machine), refsegrs, rrsisd, risbench, own or a .csv/.jsonl table."
    )
    data_dir: str | None = option(None, "Folder or zip of a downloaded benchmark; with own the table.")
    allow_missing: bool = option(False, "Go on where images of the download are missing, without their references.")
    output_dir: str | None = option(
        None, "Folder that everything is written to.", shown="runs/RECIPE or runs/ABLATION"
    )
    vision_weights: str | None = option(
        None, "Pretrained Swin: a timm name or a file with its weights.", shown="the recipe's"
    )
    text_weights: str | None = option(None, "Pretrained BERT: a name on the Hub or a folder.", shown="the recipe's")
    from_scratch: bool = option(False, "Start from random weights where the recipe starts from pretrained ones.")
    init_from: str | None = option(
        None, "Fine-tune a model of this kind: a folder such as runs/x/best, or a Hub name."
    )
    seed: int = option(0, "Seed of new weights, order of samples, augmentation and dropout.")
    data_seed: int = option(0, "Seed of the embedded benchmark's scenes.")
    image_size: int | None = option(None, "Side in px that images are resized to.", shown="the recipe's")
    max_steps: int | None = option(None, "Updates.", shown="the recipe's updates or epochs")
    max_epochs: int | None = option(None, "Epochs.", shown="the recipe's updates or epochs")
    batch_size: int | None = option(
        None, "Samples per update, over all processes and accumulation steps: the learning rate belongs to it."
    )
    gradient_accumulation_steps: int = option(1, "Forward passes per update.")
    learning_rate: float | None = option(
        None, "AdamW's learning rate of all but the text encoder; never scaled by the number of processes."
    )
    text_learning_rate: float | None = option(None, "Learning rate of the text encoder; --learning_rate leaves it.")
    warmup_steps: int | None = option(None, "Updates of linear warm-up.")
    augmentation: str | None = option(
        None, "none, or flip, vflip and boxes joined with '+', such as flip+boxes; mirrors the words too."
    )
    absent_share: float = option(
        0.0, "Share of training samples about objects that are not there, such as 0.2: it learns to mark nothing."
    )
    mixed_precision: str | None = option(None, "no, bf16, fp16, or auto: bf16 where the hardware computes in it.")
    gradient_checkpointing: bool = option(False, "Recompute activations in the backward pass: less memory, more time.")
    freeze_batch_norm: bool = option(False, "Keep BatchNorm's statistics, as for fine-tuning with small batches.")
    ema_decay: float | None = option(
        None, "Also average the weights, 0.999 for example; the average is evaluated and saved."
    )
    compile: bool = option(False, "torch.compile the network; the first update takes minutes.")
    resume: str = option(
        "none",
        "latest: go on from the newest whole checkpoint, or start where there is none; or a checkpoint's folder.",
    )
    checkpoint_every: int | None = option(None, "Updates between checkpoints.", shown="as --eval_every")
    keep_checkpoints: int = option(2, "Checkpoints that stay on the disk; the oldest goes first.")
    eval_every: int | None = option(None, "Updates between evaluations on the validation split.")
    log_every: int = option(20, "Updates between lines of metrics.jsonl.")
    report_to: str = option("none", "Trackers beside metrics.jsonl: tensorboard, wandb, joined with commas.")
    panel_samples: int = option(8, "Validation samples drawn at every evaluation in panels/; 0 for none.")
    license: str | None = option(
        None, "Licence of the weights for the model card, as the Hub spells it: cc-by-4.0, mit, other."
    )
    push_to_hub: str | None = option(None, "Publish best/ at the end: user/name on the Hub; see `rrsis publish`.")
    hub_private: bool = option(False, "With --push_to_hub: only you can see the repository.")
    num_workers: int = option(1, "Processes that load data, per training process.")
    cpu_threads: int | None = option(
        None, "Threads of a process that computes on the CPU.", shown="its share of the cores"
    )
    max_samples: int | None = option(None, "Samples of each split, for a quick look.", shown="all")

    @property
    def run_dir(self) -> Path:
        """Folder of the run; `resolve_recipe` sets it where it was left out."""
        if self.output_dir is None:
            raise ValueError("output_dir is not set yet; call resolve_recipe first")
        return Path(self.output_dir)


def build_parser(description: str, prog: str | None = None) -> TrainingParser:
    """The parser of the command line; `prog` is the command's name, that of the script if `None`.

    Abbreviated options are none: `--cpu` is one of `accelerate launch`, not a short `--cpu_threads`.
    """
    return TrainingParser(
        cast(Any, TrainingArguments),
        prog=prog,
        usage="%(prog)s [OPTIONS]",
        description=description,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )


def parse_arguments(argv: list[str] | None, description: str) -> TrainingArguments:
    """The command line's options."""
    (arguments,) = build_parser(description).parse_args_into_dataclasses(argv)
    return arguments


def check_arguments(arguments: TrainingArguments) -> None:
    """Raise a `ValueError` for options that are out of range or exclude each other."""
    for name, lowest in LOWEST.items():
        value = getattr(arguments, name)
        if value is not None and not lowest <= value < 2**32:
            raise ValueError(f"--{name} must be at least {lowest} and below 2^32, got {value}.")
    if arguments.ema_decay is not None and not 0 < arguments.ema_decay < 1:
        raise ValueError(f"--ema_decay must lie between 0 and 1, such as 0.999, got {arguments.ema_decay}.")
    if not 0 <= arguments.absent_share < 1:
        raise ValueError(f"--absent_share must be at least 0 and below 1, such as 0.2, got {arguments.absent_share}.")
    for first, second in EXCLUSIVE:
        if getattr(arguments, first) and getattr(arguments, second):
            raise ValueError(f"--{first} and --{second} exclude each other; give one of them.")
    check_trackers(arguments.report_to)
    check_push(arguments.push_to_hub)


def check_push(repo_id: str | None) -> None:
    """Raise before the training what would stop the push after it.

    Raises:
        ValueError: No name of a repository, or nobody is logged in.
        PublishError: A token that can't be sent.
    """
    if repo_id is None:
        return
    from ..hub.push import AS_USUAL, check_repo_id, check_token

    check_repo_id(repo_id)
    token = AS_USUAL.used_token
    check_token(token)
    if token is None:
        raise ValueError("--push_to_hub: not logged in; run `hf auth login` or set HF_TOKEN before the training")


def resolve_recipe(arguments: TrainingArguments) -> Recipe:
    """The recipe with the ablation's fields and the command line's numbers in place of its own.

    Fills in `arguments.model`, `dataset` and `output_dir` where they were left out.

    Raises:
        ValueError: For an unknown model, recipe or ablation, numbers out of range or options that exclude each other.
    """
    check_arguments(arguments)
    if arguments.dataset is not None and Path(arguments.dataset).suffix.lower() in TABLE_ENDINGS:
        if arguments.data_dir is not None:
            raise ValueError(f"--dataset {arguments.dataset} is a table and needs no --data_dir; leave one out.")
        arguments.data_dir, arguments.dataset = arguments.dataset, "own"
    ablation = None if arguments.ablation is None else get_ablation(arguments.ablation)
    recipe = _named_recipe(arguments, ablation)
    arguments.model, arguments.dataset = recipe.model, recipe.dataset
    arguments.output_dir = arguments.output_dir or f"runs/{arguments.ablation or _short_name(recipe)}"
    given = {field: getattr(arguments, name) for name, field in RECIPE_OVERRIDES.items()}
    changes = {field: value for field, value in given.items() if value is not None}
    if arguments.max_steps is not None or arguments.max_epochs is not None:
        changes |= {"max_steps": arguments.max_steps, "max_epochs": arguments.max_epochs}
    recipe = recipe.changed(COMMAND_LINE, **changes)
    if ablation is not None:
        fields = {"config": dict(ablation.fields), "ablation": ablation.name}
        recipe = recipe.changed(f"ablation {ablation.name}", **fields)
    check_recipe(recipe)
    return recipe


def _named_recipe(arguments: TrainingArguments, ablation: Ablation | None) -> Recipe:
    """The recipe before its changes; it, the model, the dataset and the ablation must fit each other."""
    if arguments.recipe is not None:
        recipe = get_recipe(arguments.recipe)
        if arguments.model not in (None, recipe.model):
            raise ValueError(f"--recipe {recipe.name} is one of {recipe.model}, got --model {arguments.model}.")
        if arguments.dataset not in (None, recipe.dataset):
            recipe = recipe.changed(COMMAND_LINE, dataset=arguments.dataset)
    else:
        recipe = _unnamed_recipe(arguments, ablation)
    if ablation is not None and recipe.model != ablation.model:
        raise ValueError(
            f"--ablation {ablation.name} is one of {ablation.model}, got --model {recipe.model}. Leave --model out."
        )
    return recipe


def _unnamed_recipe(arguments: TrainingArguments, ablation: Ablation | None) -> Recipe:
    """The recipe where none is named: of `--init_from`'s training, of the small network, or of the benchmark."""
    known = None if arguments.small or arguments.init_from is None else recipe_of_model(arguments.init_from)
    model = arguments.model or ("fianet" if ablation is None else ablation.model)
    if known is not None and arguments.model in (None, known.model):
        recipe, source = _of_a_start(known), "the numbers that the model of --init_from was trained with"
    else:
        if model not in MODELS:
            raise ValueError(f"--model must be one of {', '.join(MODELS)}, got {model!r}.")
        recipe = default_recipe(model, "synthetic" if arguments.small else arguments.dataset or "synthetic")
        source = "the numbers of the small network, not tuned on this data"
    dataset = arguments.dataset or recipe.dataset
    if dataset == recipe.dataset:
        return recipe
    return recipe.changed(source, name=f"{recipe.model}-{dataset}", dataset=dataset, source=source)


def _of_a_start(recipe: Recipe) -> Recipe:
    """A model's recipe for a run that starts from it: its weights are the start, its options are given no more."""
    sources = {
        name: "the model of --init_from" if name in START_FIELDS else source for name, source in recipe.sources.items()
    }
    told = {name: source.replace(COMMAND_LINE, "option of the training before") for name, source in sources.items()}
    return dataclasses.replace(recipe, sources=told)


def recipe_of_model(folder: str) -> Recipe | None:
    """What a model was trained with: by the metrics.json in its folder, else by the recipe of the run that it lies in.

    Returns:
        `None` where neither is there or can be read.
    """
    place = Path(folder).expanduser()
    try:
        return Recipe(**read_json(place / "metrics.json")["recipe"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    try:  # of a run that was stopped
        return get_recipe(str(place.resolve().parent / "recipe.yaml")) if place.is_dir() else None
    except (OSError, ValueError):
        return None


def _short_name(recipe: Recipe) -> str:
    """Folder name of a run: the model's on the embedded benchmark, else the recipe's."""
    return recipe.model if recipe.dataset == "synthetic" else recipe.name
