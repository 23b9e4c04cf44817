"""What a run starts with: the processor, and a network with pretrained parts, random weights or those of a model.

processor = build_processor(recipe)
model = build_model(recipe, processor)                        # the Hub's weights, as the recipe names them
model = build_model(recipe, processor, vision="weights/swin", text="weights/bert")
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoConfig,
    AutoProcessor,
    AutoTokenizer,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from modeling_rrsis import MODELS

from ..data.inputs.word_tokenizer import learn_expression_tokenizer
from ..data.synthetic.tokenizer import build_synthetic_tokenizer
from ..expression_rrsis import CATEGORY_SETS
from ..hub.loading import load_network
from ..image_processing_rrsis import RRSISImageProcessor
from ..processor_rrsis import RRSISProcessor
from .recipes.config import model_config
from .recipes.recipe import Recipe
from .weight_files import TOKENIZER_FILES, find_text, find_vision, how_to_get


def words_in_letters(processor: RRSISProcessor, texts: Iterable[str]) -> list[str]:
    """Words of some texts, in lower case, that the tokenizer has in single letters alone: they are learned so."""
    words = {word.lower() for text in texts for word in re.findall(r"[^\W_]+", text)}
    pieces = {word: processor.tokenizer.tokenize(word) for word in sorted(words)}
    found = {
        word
        for word, tokens in pieces.items()
        if len(word) > 1 and all(len(token.removeprefix("##")) == 1 for token in tokens)
    }
    return sorted({*found, *(processor.trained_words or ())})


def data_categories(rows: Any) -> list[str]:
    """The category names of a dataset's rows, sorted; none where they have none.

    Args:
        rows: A `datasets.Dataset`.
    """
    if "category" not in rows.column_names:
        return []
    return sorted(name for name in rows.unique("category") if name and any(letter.isalpha() for letter in name))


def build_processor(
    recipe: Recipe,
    *,
    text: str | None = None,
    categories: Sequence[str] | None = None,
    train_expressions: Iterable[str] | None = None,
) -> RRSISProcessor:
    """Image processor, tokenizer and expression parser of a recipe.

    Args:
        recipe: The recipe.
        text: Local folder or name on the Hub of the BERT whose tokenizer is used, the recipe's if absent.
        categories: Names that count as ground objects in data that is none of the benchmarks whose categories are
            known (`data_categories`); without any, the head noun of an expression is its object.
        train_expressions: Expressions of the training split, for a network that starts from random weights: where
            the tokenizer of `text` is not on this machine, one is learned from them.

    Raises:
        MissingWeightsError: If the tokenizer can't be had; the message says how to get it.
        ValueError: If there is no tokenizer to take and nothing to learn one from.
    """
    return RRSISProcessor(
        RRSISImageProcessor(size={"height": recipe.image_size_px, "width": recipe.image_size_px}),
        _build_tokenizer(recipe, text=text or recipe.text, train_expressions=train_expressions),
        categories=recipe.dataset if recipe.dataset in CATEGORY_SETS else list(categories or ()),
        max_length=recipe.max_length,
    )


def _build_tokenizer(
    recipe: Recipe, text: str | None, train_expressions: Iterable[str] | None
) -> PreTrainedTokenizerBase:
    """BERT's tokenizer, the embedded benchmark's, or one that is learned."""
    if text is None and recipe.dataset == "synthetic":
        return build_synthetic_tokenizer()
    if text is not None:
        name = find_text(text)
        try:
            return _load_tokenizer(name, local_files_only=train_expressions is not None)
        except OSError as error:
            if train_expressions is None or Path(name).exists():
                raise how_to_get({"--text_weights": name}, error) from error
    if train_expressions is None:
        raise ValueError(
            "text: expected a BERT whose tokenizer is used, or expressions to learn one from, got neither"
        )
    return learn_expression_tokenizer(train_expressions)


def _load_tokenizer(name: str, local_files_only: bool) -> PreTrainedTokenizerBase:
    """Load a tokenizer; transformers makes one of five special tokens where the folder holds none."""
    tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=local_files_only)
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise FileNotFoundError(
            f"text weights: expected a tokenizer ({' or '.join(TOKENIZER_FILES)}) in {name}, found none; copy it there"
        )
    return tokenizer


def build_model(
    recipe: Recipe,
    processor: RRSISProcessor,
    *,
    vision: str | None = None,
    text: str | None = None,
    from_scratch: bool = False,
) -> PreTrainedModel:
    """The recipe's network.

    Args:
        recipe: The recipe; its `vision` and `text` name the pretrained parts, `None` for random weights.
        processor: What `build_processor` made, with the same `text`.
        vision: Local file or folder of the Swin's weights in timm's layout, or another timm name.
        text: Local folder or name on the Hub of BERT, whose configuration replaces the recipe's `text_config`.
        from_scratch: Random weights whatever the recipe names; `text` then stands for the tokenizer alone.

    Returns:
        The network in training mode, float32.

    Raises:
        MissingWeightsError: If pretrained weights can't be had; the message says how to get them.
        ValueError: If the parts do not fit each other.
    """
    if from_scratch and vision is not None:
        raise ValueError(f"expected either pretrained vision weights or --from_scratch, got both ({vision})")
    vision, text = (None, None) if from_scratch else (vision or recipe.vision, text or recipe.text)
    if vision is None and text is None:
        tokenizer = processor.tokenizer
        config = model_config(recipe, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
        return MODELS[recipe.model](config)
    if vision is None or text is None:
        given, lacking = ("vision", "text") if text is None else ("text", "vision")
        raise ValueError(
            f"expected pretrained weights for vision and text or for neither, got {given} alone; add "
            f"--{lacking}_weights"
        )
    swin, bert = find_vision(vision), find_text(text)
    config = model_config(recipe)
    if not Path(swin).exists() and swin.split(".")[0] != config.backbone:
        raise ValueError(f"expected vision weights of {config.backbone}, the recipe's backbone, got {swin}")
    try:
        check_text_weights(bert, processor.tokenizer)
        return MODELS[recipe.model].from_backbones(config, vision=swin, text=bert).train()
    except OSError as error:
        raise how_to_get({"--vision_weights": swin, "--text_weights": bert}, error) from error


def check_text_weights(text: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that a BERT is one, is complete, and was trained with this tokenizer.

    Transformers fills what is missing with random numbers, and a tokenizer of another vocabulary gives indices that
    mean other words.

    Raises:
        ValueError: If it is not so.
    """
    config = AutoConfig.from_pretrained(text)
    if config.model_type != "bert":
        raise ValueError(f"text weights: expected a BERT, {text} is of the type {config.model_type!r}")
    if config.vocab_size != len(tokenizer):
        raise ValueError(
            f"text weights: expected the {len(tokenizer)} tokens of the tokenizer, {text} has {config.vocab_size}; "
            "take both from the same folder or repository"
        )
    loaded: Any = BertModel.from_pretrained(text, add_pooling_layer=False, device_map="meta", output_loading_info=True)
    missing = sorted(loaded[1]["missing_keys"])
    if missing:
        raise ValueError(
            f"text weights: expected a whole BERT, {text} lacks {len(missing)} tensors, first {missing[0]}"
        )


def load_finetuned(path_or_repo: str) -> tuple[PreTrainedModel, RRSISProcessor]:
    """Network and processor of a finished training, to go on from.

    Args:
        path_or_repo: A run's `best/` or `last/`, or `user/name` on the Hub.

    Returns:
        The network in training mode, float32, and its processor.

    Raises:
        ValueError: If it is no model of this package, or weights are missing.
        OSError: If there is nothing of that name.
    """
    model = load_network(path_or_repo, "--init_from", dtype=torch.float32)
    if not isinstance(model, tuple(MODELS.values())):
        raise ValueError(
            f"--init_from: expected a model of this package ({', '.join(MODELS)}), {path_or_repo} holds a "
            f"{type(model).__name__}"
        )
    processor = AutoProcessor.from_pretrained(path_or_repo)
    if not isinstance(processor, RRSISProcessor):
        raise ValueError(
            f"--init_from: expected an RRSISProcessor in {path_or_repo}, got a {type(processor).__name__}; save the "
            "processor there: processor.save_pretrained(folder)"
        )
    return cast(PreTrainedModel, model).train(), processor
