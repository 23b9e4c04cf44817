"""A BERT-style tokenizer learned from expressions, the same one for equal expressions; no download."""

from __future__ import annotations

import string
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS: tuple[str, ...] = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ALPHABET = string.ascii_lowercase + string.digits + string.punctuation
MODEL_MAX_LENGTH = 512


def build_word_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer in which every given word is one token; any other falls to letters.

    Tokens are numbered in sorted order after the special ones, so that equal words give an equal tokenizer.

    Args:
        words: Lower-case words, in any order.

    Returns:
        A lower-casing BERT-style tokenizer, ``[CLS] expression [SEP]``, which `AutoTokenizer` loads once saved.
    """
    pieces = {*words, *ALPHABET, *(f"##{letter}" for letter in string.ascii_lowercase + string.digits)}
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


def learn_expression_tokenizer(expressions: Iterable[str], vocab_size: int = 30_000) -> PreTrainedTokenizerFast:
    """Learn a tokenizer from the expressions of a training split.

    Whole words are learned and not merges of letters: the merges of `tokenizers.trainers.WordPieceTrainer` depend on
    the order of a hash table where counts are equal, and so differ from call to call.

    Args:
        expressions: The expressions, in any order.
        vocab_size: Bound on the number of learned words, special tokens included; letters come on top.

    Raises:
        ValueError: If there is no word to learn from.
    """
    tokenizer = _bert_style(models.WordLevel(unk_token="[UNK]"))
    trainer = trainers.WordLevelTrainer(
        vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS), show_progress=False
    )
    tokenizer.train_from_iterator(expressions, trainer=trainer)
    words = set(tokenizer.get_vocab()) - set(SPECIAL_TOKENS)
    if not words:
        raise ValueError("expected expressions to learn a tokenizer from, got none; is the training split empty?")
    return build_word_tokenizer(words)


def _bert_style(model: models.Model) -> Tokenizer:
    """Wrap a model in BERT's lower-casing, splitting at blanks and punctuation, and ``##`` pieces."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return tokenizer
