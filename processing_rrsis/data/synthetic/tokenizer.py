"""The word-piece tokenizer of SyntheticRS, trained from the benchmark's own sentences; no download."""

from __future__ import annotations

from collections.abc import Iterator

from transformers import PreTrainedTokenizerFast

from ..inputs.word_tokenizer import build_word_tokenizer, learn_words
from .scenes import make_scene
from .sets import all_set_queries
from .wording import grammar_words


def all_words() -> tuple[str, ...]:
    """Return every word of the expressions of both presets, sorted; a hyphen parts words."""
    sets = {word for query in all_set_queries() for word in query.expression.replace("-", " ").split()}
    return tuple(sorted({*grammar_words(), *sets}))


def training_sentences(num_scenes: int, seed: int = 0) -> Iterator[str]:
    """Yield expressions of layouts that are not rendered, then every word of the grammar of both presets."""
    for scene_index in range(num_scenes):
        for reference in make_scene((seed, 0, 0), scene_index=scene_index, count=4).references:
            yield reference.expression
    yield from all_words()


def build_synthetic_tokenizer(num_scenes: int = 64, vocab_size: int = 1024) -> PreTrainedTokenizerFast:
    """Train the tokenizer of the embedded benchmark.

    Every word of the grammar is one token; a word it never saw falls to letters. Tokens are numbered in sorted order
    after the special ones, so that equal arguments give an equal tokenizer.

    Args:
        num_scenes: Layouts whose expressions are learned from, besides the list of all words.
        vocab_size: Bound on the number of learned words, special tokens included; letters come on top.

    Returns:
        A lower-casing BERT-style tokenizer, ``[CLS] expression [SEP]``, which `AutoTokenizer` loads once saved.

    Raises:
        ValueError: If `vocab_size` is too small to hold every word of the grammar.
    """
    pieces = learn_words(training_sentences(num_scenes), vocab_size=vocab_size)
    missing = sorted(set(all_words()) - pieces)
    if missing:
        raise ValueError(f"vocab_size {vocab_size} is too small: {len(missing)} words are split, e.g. {missing[:3]}")
    return build_word_tokenizer(pieces)
