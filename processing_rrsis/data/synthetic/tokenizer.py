"""The word-piece tokenizer of SyntheticRS, made from the benchmark's own words; no download."""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast

from ..inputs.word_tokenizer import build_word_tokenizer
from .sets import all_set_queries
from .wording import grammar_words


def all_words() -> tuple[str, ...]:
    """Return every word of the expressions of both presets, sorted; a hyphen parts words."""
    sets = {word for query in all_set_queries() for word in query.expression.replace("-", " ").split()}
    return tuple(sorted({*grammar_words(), *sets}))


def build_synthetic_tokenizer() -> PreTrainedTokenizerFast:
    """Make the tokenizer of the embedded benchmark: every word of its grammar is a token, others fall to letters.

    Returns:
        A lower-casing BERT-style tokenizer, ``[CLS] expression [SEP]``, which `AutoTokenizer` loads once saved.
    """
    return build_word_tokenizer(all_words())
