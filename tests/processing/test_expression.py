"""The expression parser: what it reads, in both alignments."""

import json
import re
import time
from pathlib import Path

import pytest

from processing_rrsis import expression_tagging_rrsis as tagging
from processing_rrsis.expression_rrsis import CATEGORY_SETS, ExpressionParser, expression_masks, resolve_categories

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "text_word_masks.json").read_text())
GOLDEN_CASES = [(name, *record) for name in ("rrsisd", "refsegrs") for record in GOLDEN[name]["records"]]


@pytest.mark.parametrize("name", ["rrsisd", "refsegrs"])
def test_word_alignment_gives_the_released_masks(name):
    limit = GOLDEN[name]["max_tokens"]
    parser = ExpressionParser(name, alignment="word", tagger="builtin")
    assert len(GOLDEN[name]["records"]) == 110
    for text, tokens, target, position in GOLDEN[name]["records"]:
        attention = [1] * tokens + [0] * (limit - tokens)
        object_mask, position_mask = expression_masks(parser.parse(text), attention)
        assert [i for i, value in enumerate(object_mask) if value] == target, text
        expected = list(range(tokens)) if position is None else position
        assert [i for i, value in enumerate(position_mask) if value] == expected, text
        assert len(object_mask) == len(position_mask) == limit


@pytest.mark.skipif(not tagging.nltk_tagger_available(), reason="NLTK's tagger data is not installed")
@pytest.mark.parametrize("name", ["rrsisd", "refsegrs"])
def test_fallback_and_nltk_mark_the_same_words(name):
    nltk, builtin = (ExpressionParser(name, alignment="word", tagger=tagger) for tagger in ("nltk", "builtin"))
    for text, *_ in GOLDEN[name]["records"]:
        assert nltk.parse(text) == builtin.parse(text)


WORDPIECE_CASES = [
    ("rrsisd", "The ship on the lower left", ["ship"], ["on the lower left"]),
    ("rrsisd", "A steamship on the left", ["steamship"], ["on the left"]),
    ("rrsisd", "The damaged airplane on the far right", ["airplane"], ["on the far right"]),
    ("rrsisd", "BRIDGE in the middle", ["BRIDGE"], ["in the middle"]),
    ("rrsisd", "The vehicle on the right of the windmill", ["vehicle"], ["on the right of the windmill"]),
    ("rrsisd", "Two storage tanks at the bottom", ["storage tanks"], ["at the bottom"]),
    ("rrsisd", "The storage-tank", ["storage-tank"], []),
    ("rrsisd", "storagetank at the top", ["storagetank"], ["at the top"]),
    ("rrsisd", "A gray frustum of a cone chimney in the middle", ["chimney"], ["in the middle"]),
    ("rrsisd", "A ship is similar in size to the ship on the top", ["ship"], ["to the ship on the top"]),
    (
        "rrsisd",
        "The bridge is a little smaller than the bridge on the left",
        ["bridge"],
        ["than the bridge on the left"],
    ),
    ("rrsisd", "The stadium has the tiny baseball field", ["stadium"], ["the tiny baseball field"]),
    ("rrsisd", "The smallest airplane of all the airplanes", ["airplane"], ["of all the airplanes"]),
    ("rrsisd", "The topmost ship", ["ship"], ["topmost"]),
    ("rrsisd", "The left-most harbor in the scene.", ["harbor"], ["left-most", "in the scene"]),
    ("rrsisd", "In the upper left corner there is a dam", ["dam"], ["In the upper left corner"]),
    ("rrsisd", "On the left, a red vehicle", ["vehicle"], ["On the left"]),
    ("rrsisd", "The vehicle left of the bridge", ["vehicle"], ["left of the bridge"]),
    ("rrsisd", "The vehicle next to the dam that is red", ["vehicle"], ["next to the dam"]),
    ("rrsisd", "The large bridge", ["bridge"], []),
    ("rrsisd", "the white house with a pool behind the church", ["house"], ["with a pool behind the church"]),
    ("rrsisd", "swimming pool next to the house", ["pool"], ["next to the house"]),
    ("rrsisd", "a group of trees near the river", ["trees"], ["near the river"]),
    ("rrsisd", "On the left side of the image, a red car", ["car"], ["On the left side of the image"]),
    ("rrsisd", "the boat parked beside the pier", ["boat"], ["beside the pier"]),
    ("rrsisd", "It is on the left", [], ["on the left"]),
    ("rrsisd", "the red one", [], []),
    ("refsegrs", "light-duty vehicle in the parking area", ["vehicle"], ["in the parking area"]),
    ("refsegrs", "vehicle driving on the road", ["vehicle"], ["on the road"]),
    ("refsegrs", "road marking along the bikeway", ["road marking"], ["along the bikeway"]),
    ("refsegrs", "buses on the road", ["buses"], ["on the road"]),
    ("refsegrs", "car, van and truck on the road", ["car", "van", "truck"], ["on the road"]),
    ("synthetic", "the red building above the small white vehicle", ["building"], ["above the small white vehicle"]),
    ("synthetic", "the vehicle to the left of the red building", ["vehicle"], ["to the left of the red building"]),
    ("refsegrs", "long trailer in the parking area", ["trailer"], ["in the parking area"]),
    ("refsegrs", "paved road along with trees", ["road"], ["along with trees"]),
    ("refsegrs", "low vegetation surrounded by a building", ["low vegetation"], ["by a building"]),
    (
        "rrsisd",
        "The overpass that spans the width of the picture and crosses two other roads.",
        ["overpass"],
        ["spans the width of the picture"],
    ),
    (
        "rrsisd",
        "The tennis court abutting the left edge of the picture, directly above another court, has a green surface.",
        ["tennis court"],
        ["abutting the left edge of the picture", "above another court"],
    ),
    (
        "rrsisd",
        "The ship, moored furthest to the right side of the pier, is the second in a row from left to right.",
        ["ship"],
        ["furthest to the right side of the pier", "second", "in a row from left to right"],
    ),
    ("rrsisd", "The vehicle is placed upper middle of the picture", ["vehicle"], ["upper middle of the picture"]),
    ("rrsisd", "The overpass has the red and white vehicle", ["overpass"], ["the red and white vehicle"]),
    ("rrsisd", "The dam about one third of the way down", ["dam"], []),
    ("rrsisd", "The third bridge from the top", ["bridge"], ["third", "from the top"]),
    # a mention inside a position phrase is an anchor as long as a noun stands outside it
    ("rrsisd", "to the left of the bridge is a ship", ["ship"], ["to the left of the bridge"]),
    ("rrsisd", "to the left of the bridge is a silo", ["silo"], ["to the left of the bridge"]),
    ("rrsisd", "next to the harbor there are two vehicles", ["vehicles"], ["next to the harbor"]),
    ("rrsisd", "in front of the stadium a vehicle is parked", ["vehicle"], ["in front of the stadium"]),
    ("rrsisd", "nearest the dam is a ship", ["ship"], ["nearest the dam"]),
    ("rrsisd", "northeast of the bridge is a ship", ["ship"], ["northeast of the bridge"]),
    ("rrsisd", "in the harbor many ships", ["ships"], ["in the harbor"]),
    ("rrsisd", "unlike the bridge, the dam is gray", ["dam"], ["the bridge"]),
    ("rrsisd", "surrounded by the ships is a dam", ["dam"], ["by the ships"]),
    ("rrsisd", "the one to the left of the bridge", ["bridge"], ["to the left"]),  # no noun outside
    ("rrsisd", "with a vehicle", ["vehicle"], []),
    # ordinals in figures are read as in words
    ("rrsisd", "the 2nd ship", ["ship"], ["2nd"]),
    ("rrsisd", "the second ship", ["ship"], ["second"]),
    ("rrsisd", "the 3rd storage tank from the left", ["storage tank"], ["3rd", "from the left"]),
    ("rrsisd", "the 12th airplane", ["airplane"], ["12th"]),
    ("rrsisd", "the 21st silo", ["silo"], ["21st"]),
    ("rrsisd", "the eleventh silo", ["silo"], ["eleventh"]),
    # prepositions and the like are never objects
    ("rrsisd", "the tank without a shadow", ["tank"], []),
    ("rrsisd", "the tank despite the trees", ["tank"], []),
    ("rrsisd", "the silo via the road", ["silo"], []),
    ("rrsisd", "the silo except the roof", ["silo"], []),
    ("rrsisd", "the house like a cross", ["house"], []),
    ("rrsisd", "the tank not near the road", ["tank"], ["near the road"]),
    ("rrsisd", "please segment the silo", ["silo"], []),
    ("rrsisd", "without", [], []),
    ("rrsisd", "", [], []),
    ("rrsisd", " \t\n", [], []),
    ("rrsisd", "?!...", [], []),
]


@pytest.mark.parametrize(("categories", "text", "objects", "position"), WORDPIECE_CASES)
def test_wordpiece_reading(categories, text, objects, position):
    parsed = ExpressionParser(categories).parse(text)
    assert parsed.words_of("ground_object") == objects
    assert parsed.words_of("spatial_position") == position


@pytest.mark.parametrize("text", [case[1] for case in GOLDEN_CASES[::3]])
def test_object_and_position_never_overlap(text):
    parsed = ExpressionParser("refsegrs").parse(text)
    marks = [index for start, end in parsed.ground_object + parsed.spatial_position for index in range(start, end)]
    assert len(marks) == len(set(marks))
    for spans in (parsed.ground_object, parsed.spatial_position):
        assert spans == sorted(spans)
        assert all(0 <= start < end <= len(text) for start, end in spans)


def test_own_categories_longest_phrase_wins():
    parser = ExpressionParser(["field", "Golf-course", "golf course club house"])
    assert parser.categories == ("field", "golf course", "golf course club house")
    assert parser.parse("the golf course club house").words_of("ground_object") == ["golf course club house"]
    assert parser.parse("the golf courses by the field").words_of("ground_object") == ["golf courses"]
    assert parser.parse("golf, course").words_of("ground_object") == ["golf"]  # no phrase across a comma


def test_category_sets_are_the_published_ones():
    assert {name: len(names) for name, names in CATEGORY_SETS.items()} == {
        "rrsisd": 20,
        "refsegrs": 14,
        "synthetic": 8,
    }


def test_word_alignment_marks_by_substring_and_first_preposition():
    parsed = ExpressionParser("rrsisd", alignment="word", tagger="builtin").parse(
        "The damaged ship on the left of the dam"
    )
    assert parsed.words_of("ground_object") == ["damaged ship"]
    assert parsed.words_of("spatial_position") == ["on the left"]
    assert parsed.object_words == ((1, 1), (2, 1))


def test_word_masks_are_clipped_not_lengthened():
    parsed = ExpressionParser("rrsisd", alignment="word", tagger="builtin").parse("a " * 30 + "ship on the left")
    objects, positions = expression_masks(parsed, [1] * 22)
    assert objects == [0] * 22
    assert positions == [0] * 22


def test_wordpiece_masks_cover_whole_words_and_fall_back():
    parser = ExpressionParser("rrsisd")
    offsets = [
        (0, 0),
        (0, 3),
        (4, 6),
        (6, 8),
        (9, 11),
        (12, 16),
        (0, 0),
        (0, 0),
    ]  # the|ve|##ss|..: "ship" in two pieces
    attention = [1] * 7 + [0]
    parsed = parser.parse("the ship at left")
    assert expression_masks(parsed, attention, offsets) == ([0, 0, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 0, 0])
    assert expression_masks(parser.parse("the red one here"), attention, offsets) == (attention, attention)
    with pytest.raises(ValueError, match="offsets"):
        expression_masks(parsed, attention)


@pytest.mark.parametrize("alignment", ["wordpiece", "word"])
@pytest.mark.parametrize(
    "piece", ["on the ", "of ", "ship and ", "-", "'s ", "a.b", "left right ", "to ", "((", "n't", "spans ", "second "]
)
def test_time_is_linear(alignment, piece):
    parser = ExpressionParser("rrsisd", alignment=alignment, tagger="builtin")
    parser.parse(piece)
    start = time.process_time()
    parser.parse(piece * 20_000)
    assert time.process_time() - start < 5.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The dam.", ["The", "dam", "."]),
        ("image's edge", ["image", "'s", "edge"]),
        ("car, van; (truck)", ["car", ",", "van", ";", "(", "truck", ")"]),
        ("left-most 0.5 m a 3:1 slope", ["left-most", "0.5", "m", "a", "3:1", "slope"]),
        ("it isn't ... there", ["it", "is", "n't", "...", "there"]),
        ("vehicle -- red?", ["vehicle", "--", "red", "?"]),
    ],
)
def test_words_split_as_the_treebank_does(text, words):
    assert [text[start:end] for start, end in tagging.split_words(text)] == words


def test_errors_say_what_was_expected():
    with pytest.raises(ValueError, match=r"expected one of \['refsegrs', 'rrsisd', 'synthetic'\].*got 'dior'"):
        ExpressionParser("dior")
    with pytest.raises(ValueError, match=r"alignment: expected one of .* got 'token'"):
        ExpressionParser("rrsisd", alignment="token")
    with pytest.raises(ValueError, match="tagger: expected"):
        ExpressionParser("rrsisd", tagger="spacy")
    with pytest.raises(ValueError, match="at least one letter"):
        resolve_categories(["ship", "  "])
    with pytest.raises(TypeError, match="names as strings, got int"):
        resolve_categories([3])
    with pytest.raises(TypeError, match="expected a set name or a list"):
        resolve_categories(3)
    with pytest.raises(TypeError, match="expected a string, got list"):
        ExpressionParser("rrsisd").parse(["a"])


def test_nltk_without_data_is_named(monkeypatch):
    monkeypatch.setattr(tagging, "_nltk_tagger", lambda: None)
    with pytest.raises(LookupError, match="averaged_perceptron_tagger_eng"):
        ExpressionParser("rrsisd", alignment="word", tagger="nltk").parse("a ship")
    assert ExpressionParser("rrsisd", alignment="word").parse("a ship in the harbor").words_of("spatial_position") == [
        "in the harbor"
    ]


@pytest.mark.parametrize(
    "place", ["to the left of", "next to", "near", "behind", "north of", "between", "in front of"]
)
@pytest.mark.parametrize("joint", [" is a ", " lies the ", " there is one ", ", the ", ": a ", " stands another "])
@pytest.mark.parametrize("target", ["ship", "storage tank", "silo"])
def test_a_place_told_first_names_the_anchor(place, joint, target):
    parsed = ExpressionParser("rrsisd").parse(f"{place} the bridge{joint}{target}")
    assert parsed.words_of("ground_object") == [target]
    assert any("bridge" in words for words in parsed.words_of("spatial_position"))


def test_no_english_preposition_is_an_object():
    closed_class = re.findall(
        r"\w+",
        "aboard about above across after against along amid among around as at before behind below beneath beside "
        "besides between beyond by concerning despite down during except excluding following for from given in "
        "including inside into like near notwithstanding off on onto opposite outside over past per plus regarding "
        "round since than through throughout till toward towards under underneath unlike until up upon via with "
        "within without",
    )
    parser = ExpressionParser(["ship"])
    for word in closed_class:
        assert parser.parse(f"the tank {word} a shadow").words_of("ground_object") == ["tank"], word
