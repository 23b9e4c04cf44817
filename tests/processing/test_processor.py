"""The processor: five tensors out of images and expressions."""

import copy
import importlib
import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from processing_rrsis.image_processing_rrsis import RRSISImageProcessor
from processing_rrsis.processor_rrsis import RRSISProcessor
from tests.tiny import TINY_SIZE, build_tiny_processor

IMAGE = Image.new("RGB", (20, 10), (10, 200, 30))
TEXT_NAMES = ["attention_mask", "ground_object_mask", "input_ids", "spatial_position_mask"]


def pieces(processor, inputs, mask, row=0):
    """The word pieces a mask marks, as text."""
    ids = inputs["input_ids"][row][inputs[mask][row].bool()]
    return processor.tokenizer.convert_ids_to_tokens(ids.tolist())


def test_all_five_tensors_and_labels(processor):
    inputs = processor(
        images=[IMAGE, IMAGE],
        text=["the ship on the left", "a dam"],
        segmentation_maps=[np.ones((10, 20), dtype=bool)] * 2,
        return_tensors="pt",
    )
    assert sorted(inputs) == sorted([*TEXT_NAMES, "labels", "pixel_values"])
    assert inputs["pixel_values"].shape == (2, 3, TINY_SIZE, TINY_SIZE)
    assert inputs["labels"].shape == (2, TINY_SIZE, TINY_SIZE)
    for name in TEXT_NAMES:
        assert inputs[name].shape == (2, 7)  # [CLS] the ship on the left [SEP]
        assert inputs[name].dtype == torch.int64
    assert inputs["ground_object_mask"].tolist() == [[0, 0, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0]]
    assert inputs["spatial_position_mask"][0].tolist() == [0, 0, 0, 1, 1, 1, 0]
    # no position: the attention mask, without the padding
    assert inputs["spatial_position_mask"][1].tolist() == inputs["attention_mask"][1].tolist() == [1, 1, 1, 1, 0, 0, 0]


def test_split_words_are_marked_whole(processor):
    inputs = processor(text="the gray storage tanks at the top", return_tensors="pt")
    assert pieces(processor, inputs, "ground_object_mask") == ["storage", "tank", "##s"]
    assert pieces(processor, inputs, "spatial_position_mask") == ["at", "the", "top"]


def test_no_object_falls_back_to_the_whole_expression(processor):
    inputs = processor(text="the red one", return_tensors="pt")
    assert torch.equal(inputs["ground_object_mask"], inputs["attention_mask"])


def test_word_alignment_uses_word_indices_and_keeps_an_empty_object():
    processor = build_tiny_processor(alignment="word")
    inputs = processor(text="gravel ship on the left", return_tensors="pt")  # gravel is six pieces
    assert inputs["ground_object_mask"][0].nonzero().flatten().tolist() == [2]
    assert inputs["spatial_position_mask"][0].nonzero().flatten().tolist() == [3, 4, 5]
    assert processor(text="Bridge", return_tensors="pt")["ground_object_mask"].sum() == 0


def test_images_or_text_alone(processor):
    assert sorted(processor(images=IMAGE, return_tensors="pt")) == ["pixel_values"]
    assert sorted(processor(text="a ship", return_tensors="pt")) == TEXT_NAMES
    with pytest.raises(ValueError, match="expected at least one of them, got neither"):
        processor()
    with pytest.raises(ValueError, match="images they belong to"):
        processor(text="a ship", segmentation_maps=np.zeros((4, 4)))


def test_different_numbers_of_images_and_expressions(processor):
    with pytest.raises(ValueError, match="got 1 images and 2 expressions; repeat the image"):
        processor(images=IMAGE, text=["a ship", "a dam"], return_tensors="pt")
    with pytest.raises(ValueError, match="got 2 images and 1 expressions"):
        processor(images=[IMAGE, IMAGE], text="a ship", return_tensors="pt")


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("", ValueError, r"text\[0\]: expected an expression such as"),
        (["a ship", " \n"], ValueError, r"text\[1\].*allow_empty_text=True"),
        ([], ValueError, "empty list"),
        (["a ship", None], TypeError, r"text\[1\]: expected a string, got NoneType"),
        ([["a", "ship"]], TypeError, "pass expressions untokenised"),
        (7, TypeError, "got int"),
    ],
)
def test_bad_expressions(processor, text, error, match):
    with pytest.raises(error, match=match):
        processor(text=text, return_tensors="pt")


def test_blank_expression_as_a_control(processor):
    inputs = processor(text=["", "a ship"], allow_empty_text=True, return_tensors="pt")
    assert inputs["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert inputs["ground_object_mask"][0].tolist() == [1, 1, 0, 0]
    assert inputs["spatial_position_mask"][0].tolist() == [1, 1, 0, 0]


def test_long_expressions_are_cut_with_one_warning_each(monkeypatch):
    processor, messages = build_tiny_processor(max_length=6), []
    monkeypatch.setattr("processing_rrsis.processor_rrsis.logger.warning", messages.append)
    for _ in range(2):
        inputs = processor(text=["the ship on the left of the dam", "a ship"], return_tensors="pt")
    assert inputs["input_ids"].shape == (2, 6)
    assert inputs["input_ids"][0, -1] == processor.tokenizer.sep_token_id
    assert len(messages) == 1
    assert "'the ship on the left of the dam' has 10 tokens" in messages[0]
    assert "max_length=6" in messages[0]


def test_word_alignment_cuts_as_the_released_code_does():
    """Its last place holds the next word piece; "wordpiece" ends every expression with [SEP]."""
    text = "the ship on the left of the red building"
    word = build_tiny_processor(alignment="word", max_length=6)
    whole = build_tiny_processor(alignment="word", max_length=20)(text=text)["input_ids"][0]
    cut = word(text=[text, "the ship"])["input_ids"]
    assert cut[0] == whole[:6]
    assert cut[1][3] == word.tokenizer.sep_token_id
    pieces = build_tiny_processor(max_length=6)(text=text)["input_ids"][0]
    assert pieces == [*whole[:5], word.tokenizer.sep_token_id]


def test_pieces_lost_by_truncation_fall_back_to_the_whole():
    processor = build_tiny_processor(max_length=5)
    inputs = processor(text="the large red ship on the left", return_tensors="pt")
    assert torch.equal(inputs["ground_object_mask"], inputs["attention_mask"])
    assert torch.equal(inputs["spatial_position_mask"], inputs["attention_mask"])


def test_padding_options(processor):
    full = processor(text=["a ship"], padding="max_length", return_tensors="pt")
    assert {name: full[name].shape for name in TEXT_NAMES} == dict.fromkeys(TEXT_NAMES, (1, 22))
    assert full["spatial_position_mask"].sum() == 4
    assert processor(text=["a ship"], padding="max_length", max_length=9, return_tensors="pt")["input_ids"].shape == (
        1,
        9,
    )
    lists = processor(text=["a ship", "a large ship"], padding=False)
    assert [len(row) for row in lists["ground_object_mask"]] == [4, 5]
    arrays = processor(text=["a ship"], return_tensors="np")
    assert isinstance(arrays["ground_object_mask"], np.ndarray)
    nested = processor(
        images=IMAGE,
        text="a ship",
        text_kwargs={"padding": "max_length"},
        images_kwargs={"do_resize": False},
        return_tensors="pt",
    )
    assert nested["input_ids"].shape == (1, 22)
    assert nested["pixel_values"].shape == (1, 3, 10, 20)


def test_token_limit_of_call_then_tokenizer_then_processor():
    processor = build_tiny_processor(max_length=9)
    lengths = []
    full = {"padding": "max_length"}
    for options in (full, {"max_length": 5, **full}, {"text_kwargs": {"max_length": 6, **full}}):
        inputs = processor(text="a ship", return_tensors="pt", **options)
        lengths.append(inputs["input_ids"].shape[1])
    assert lengths == [9, 5, 6]
    processor.tokenizer.init_kwargs["max_length"] = 7
    assert processor(text="a ship", padding="max_length", return_tensors="pt")["input_ids"].shape == (1, 7)
    options = {"max_length": 6}
    with pytest.raises(ValueError, match="got 5 as a keyword and 6 in text_kwargs; drop one"):
        processor(text="a ship", max_length=5, text_kwargs=options)
    assert options == {"max_length": 6}
    with pytest.raises(ValueError, match=r"integer of at least 3 .* got 2"):
        processor(text="a ship", max_length=2)


def test_an_expression_may_come_without_an_image(processor):
    texts = ["a ship", "a dam", "the bridge"]
    inputs = processor(images=[[IMAGE], [], [IMAGE]], text=texts, return_tensors="pt")
    assert inputs["pixel_values"].shape[0] == 2
    assert torch.equal(inputs["input_ids"], processor(text=texts, return_tensors="pt")["input_ids"])
    for images in ([[IMAGE], []], [[IMAGE, IMAGE], [], [IMAGE]]):
        with pytest.raises(ValueError, match="expected as many expressions as images"):
            processor(images=images, text=texts, return_tensors="pt")
    with pytest.raises(ValueError, match="empty list"):
        processor(images=[[IMAGE], []], return_tensors="pt")


def test_saving_leaves_the_processor_as_it_was(tmp_path):
    importlib.import_module("modeling_rrsis")  # registers it: from then on its code is saved along
    processor = build_tiny_processor()
    before = processor.to_dict()
    processor.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "processor_config.json").read_text())["auto_map"] == {
        "AutoProcessor": "processor_rrsis.RRSISProcessor"
    }
    assert "auto_map" not in processor.to_dict()
    assert processor.to_dict().keys() == before.keys()
    assert RRSISProcessor.from_pretrained(tmp_path).to_dict() == processor.to_dict()


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"max_length": 2}, ValueError, "max_length: expected an integer of at least 3"),
        ({"alignment": "token"}, ValueError, "alignment: expected"),
        ({"categories": "dota"}, ValueError, "categories: expected"),
    ],
)
def test_bad_construction(options, error, match):
    with pytest.raises(error, match=match):
        build_tiny_processor(**options)


@pytest.mark.parametrize("categories", ["synthetic", ["Golf-Course", "pier"]])
def test_everything_survives_saving(tmp_path, categories):
    importlib.import_module("modeling_rrsis")  # registers the processor's parts
    processor = build_tiny_processor(categories=categories, alignment="word", max_length=17)
    processor.save_pretrained(tmp_path)
    loaded = RRSISProcessor.from_pretrained(tmp_path)
    assert isinstance(loaded.image_processor, RRSISImageProcessor)
    assert (loaded.categories, loaded.alignment, loaded.max_length) == (categories, "word", 17)
    assert loaded.image_processor.size.height == TINY_SIZE
    text = "the gray pier on the far left"
    before, after = (one(images=IMAGE, text=text, return_tensors="pt") for one in (processor, loaded))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert RRSISProcessor.from_pretrained(tmp_path, max_length=5).max_length == 5


def test_pickled_without_what_it_remembers(processor):
    processor(text="a ship", return_tensors="pt")
    assert processor._parses
    clone = pickle.loads(pickle.dumps(processor))
    assert not clone._parses
    assert clone(text="a ship", return_tensors="pt")["ground_object_mask"].tolist() == [[0, 0, 1, 0]]
    assert copy.deepcopy(processor).parse("a ship") == processor.parse("a ship")


def test_parses_are_remembered_and_bounded(processor, monkeypatch):
    monkeypatch.setattr("processing_rrsis.processor_rrsis._CACHE_LIMIT", 2)
    first = processor.parse("a ship")
    assert processor.parse("a ship") is first
    for text in ("a dam", "a bridge", "a road"):
        processor.parse(text)
    assert len(processor._parses) <= 2


def test_post_processing_is_the_image_processors(processor):
    masks = processor.post_process_referring_segmentation(torch.ones(1, 4, 4), target_sizes=[(10, 20)])
    assert masks[0].shape == (10, 20)
    assert masks[0].all()


UNREADABLE = [
    "\u200b",
    "\u2060\ufeff",
    "左边的船",
    "корабль",
    "🚢",
    "!!!",
    "[]",
    "\ud800 ship",
    "a\x1b[31m ship",
    "ship\x07",
    "ship \u202etfel",
]


@pytest.mark.parametrize("text", UNREADABLE, ids=ascii)
def test_text_without_a_word_that_is_known_or_with_control_characters_is_refused(text):
    processor = build_tiny_processor()
    with pytest.raises(ValueError, match=r"text\[1\]: expected") as error:
        processor(text=["the ship", text])
    assert len(str(error.value)) < 400
    assert all(character.isprintable() for character in str(error.value))


def test_typed_special_tokens_are_text():
    processor = build_tiny_processor()
    for token in ("[SEP]", "[PAD]", "[CLS]", "[MASK]", "[UNK]"):
        ids = processor(text=f"the ship {token} left")["input_ids"][0]
        special = [value for value in ids if value in processor.tokenizer.all_special_ids]
        unknown = processor.tokenizer.unk_token_id
        assert [value for value in special if value != unknown] == [ids[0], ids[-1]]


def test_words_split_into_letters_are_named_once(caplog):
    processor = build_tiny_processor()
    for _ in range(2):
        processor(text=["the ship on the left", "the xqzvw ship", "a red xqzvw"])
    processor(text="ship " * 390)
    named = [record.message for record in caplog.records]
    assert sum("xqzvw" in message for message in named) == 1
    assert len(named) == 2
    assert max(map(len, named)) < 400
