"""The word-piece tokenizer of SyntheticRS, trained from the benchmark's own sentences; no download."""

from __future__ import annotations

import string
from collections.abc import Iterator

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from .synthetic_sampler import make_scene
from .synthetic_sets import all_set_queries
from .synthetic_vocabulary import grammar_words

SPECIAL_TOKENS: tuple[str, ...] = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ALPHABET = string.ascii_lowercase + string.digits + string.punctuation
MODEL_MAX_LENGTH = 512


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


def _bert_style(model: models.Model) -> Tokenizer:
    """Wrap a model in BERT's lower-casing, splitting at blanks and punctuation, and ``##`` pieces."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return tokenizer


def _learned_words(num_scenes: int, vocab_size: int) -> set[str]:
    """Learn the words of the training sentences.

    Whole words are learned and not merges of letters: the merges of `tokenizers.trainers.WordPieceTrainer` depend on
    the order of a hash table where counts are equal, and so differ from call to call.
    """
    tokenizer = _bert_style(models.WordLevel(unk_token="[UNK]"))
    trainer = trainers.WordLevelTrainer(
        vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS), show_progress=False
    )
    tokenizer.train_from_iterator(training_sentences(num_scenes), trainer=trainer)
    return set(tokenizer.get_vocab())


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
    pieces = _learned_words(num_scenes, vocab_size=vocab_size)
    missing = sorted(set(all_words()) - pieces)
    if missing:
        raise ValueError(f"vocab_size {vocab_size} is too small: {len(missing)} words are split, e.g. {missing[:3]}")
    pieces |= {*ALPHABET, *(f"##{letter}" for letter in string.ascii_lowercase + string.digits)}
    ordered = [*SPECIAL_TOKENS, *sorted(pieces - set(SPECIAL_TOKENS))]
    vocabulary = {token: index for index, token in enumerate(ordered)}
    tokenizer = _bert_style(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=MODEL_MAX_LENGTH,
        model_input_names=["input_ids", "attention_mask"],
    )
