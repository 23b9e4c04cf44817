"""The tokenizer made from SyntheticRS's own words."""

import pytest
from transformers import AutoTokenizer

from processing_rrsis.data import build_synthetic_tokenizer
from processing_rrsis.data.synthetic.tokenizer import all_words


@pytest.fixture(scope="module")
def tokenizer():
    return build_synthetic_tokenizer()


def test_every_word_of_the_grammar_is_one_token(tokenizer):
    assert len(all_words()) > 50
    for word in all_words():
        assert tokenizer.tokenize(word) == [word]


def test_sentence_has_the_bert_frame_and_is_lower_cased(tokenizer):
    ids = tokenizer("The large tennis court on the upper right")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == [
        *("[CLS]", "the", "large", "tennis", "court", "on", "the", "upper", "right", "[SEP]"),
    ]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "the large tennis court on the upper right"


@pytest.mark.parametrize("word", ["windmill", "bridge", "xylophone", "golf2", "Österreich"])
def test_unknown_words_fall_to_pieces(tokenizer, word):
    tokens = tokenizer.tokenize(word)
    assert len(tokens) > 1
    assert "[UNK]" not in tokens


def test_padding_and_special_tokens(tokenizer):
    batch = tokenizer(["A ship", "The large red building"], padding=True)
    assert set(batch) == {"input_ids", "attention_mask"}
    assert batch["attention_mask"] == [[1, 1, 1, 1, 0, 0], [1] * 6]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert tokenizer.convert_tokens_to_ids(special) == [0, 1, 2, 3, 4]


def test_round_trip_through_auto_tokenizer(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    sentence = "An airplane is on the left of the gray windmill"
    assert loaded(sentence)["input_ids"] == tokenizer(sentence)["input_ids"]
    assert loaded.get_vocab() == tokenizer.get_vocab()
