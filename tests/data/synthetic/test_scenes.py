"""Layouts and expressions of SyntheticRS: exactly one answer, contrast sets, held-out pairs, absent objects."""

import itertools
import math
import re

import pytest

from processing_rrsis.data.synthetic import vocabulary
from processing_rrsis.data.synthetic.absent import is_absent
from processing_rrsis.data.synthetic.ceilings import READERS, ceilings_of, expected_iou, reader_ceilings
from processing_rrsis.data.synthetic.layout import SceneObject, boxes_overlap, footprint_of
from processing_rrsis.data.synthetic.queries import (
    Match,
    Query,
    answers_of,
    distractors_of,
    is_valid,
    region_match,
    relation_match,
    uses_held_out_pair,
)
from processing_rrsis.data.synthetic.scenes import wanted_kinds
from processing_rrsis.data.synthetic.splits import make_split_scene
from processing_rrsis.errors import RRSISError

NUM_LAYOUTS = 2_000
SENTENCE = re.compile(
    r"(?P<article>The|An|A) (?P<noun>[a-z ]+?)"
    r"(?: (?:on|in|at) the (?P<position>upper left|upper right|lower left|lower right|left|right|top|bottom|middle)"
    r"|(?: is)? (?P<relation>on the left of|on the right of|above|below) the (?P<anchor>[a-z ]+))?"
)


def scenes_of(split, number, count=4, seed=0):
    return [make_split_scene("rrsisd", seed=seed, split=split, scene_index=i, count=count) for i in range(number)]


@pytest.fixture(scope="module")
def train_scenes():
    return scenes_of("train", NUM_LAYOUTS)


def references_of(scenes):
    return [(reference, scene.layout.objects) for scene in scenes for reference in scene.references]


def fits_noun(noun, item):
    words = noun.removesuffix(item.category).split()
    if not noun.endswith(item.category) or not set(words) <= {*vocabulary.COLOURS, *vocabulary.SIZES}:
        return False
    return all(word in (item.colour, item.size) for word in words)


def read_sentence(sentence, objects):
    """Answer a sentence from its words, with thirds and quadrants instead of dead zones: a second opinion."""
    parts = SENTENCE.fullmatch(sentence)
    found = [index for index, item in enumerate(objects) if fits_noun(parts["noun"], item)]
    if parts["position"]:
        columns, rows = {"left": 0, "right": 2}, {"upper": 0, "top": 0, "lower": 2, "bottom": 2}
        words = parts["position"].split()
        cell = (
            next((columns[word] for word in words if word in columns), 1),
            next((rows[word] for word in words if word in rows), 1),
        )
        found = [i for i in found if (int(objects[i].center_x * 3), int(objects[i].center_y * 3)) == cell]
    if parts["relation"]:
        (anchor,) = [item for item in objects if fits_noun(parts["anchor"], item)]
        side = parts["relation"].removeprefix("on the ").removesuffix(" of")
        found = [i for i in found if nearest_side(objects[i], anchor) == side]
    return found


def nearest_side(item, anchor):
    offset_x, offset_y = item.center_x - anchor.center_x, item.center_y - anchor.center_y
    if abs(offset_x) > abs(offset_y):
        return "left" if offset_x < 0 else "right"
    return "above" if offset_y < 0 else "below"


def make_object(category="building", colour="red", size="small", x=0.5, y=0.5, length=0.1):
    return SceneObject(
        category=category, colour=colour, size=size, center_x=x, center_y=y, angle_deg=0.0, length=length, width=length
    )


def test_every_query_has_exactly_one_answer_and_its_distractors(train_scenes):
    for reference, objects in references_of(train_scenes):
        (target,) = reference.answers
        assert answers_of(reference.query, objects) == ([target], [])
        assert is_valid(reference.query, target=target, objects=objects)
        for attribute in reference.query.attributes:
            rivals = distractors_of(reference.query, target=target, attribute=attribute, objects=objects)
            assert rivals, (reference, attribute)
            for rival in (objects[index] for index in rivals):
                wanted = objects[target]
                assert rival.category == wanted.category
                assert (rival.colour != wanted.colour) == (attribute == "colour")
                assert (rival.size != wanted.size) == (attribute == "size")


def test_sentences_read_from_their_words_have_the_same_answer(train_scenes):
    for reference, objects in references_of(train_scenes):
        assert read_sentence(reference.expression, objects) == list(reference.answers), reference


def test_objects_keep_apart_and_inside_the_frame(train_scenes):
    for scene in train_scenes:
        objects = scene.layout.objects
        assert 4 <= len(objects) <= 7
        for item in objects:
            angle = math.radians(item.angle_deg)
            reach_x = (item.length * abs(math.cos(angle)) + item.width * abs(math.sin(angle))) / 2
            reach_y = (item.length * abs(math.sin(angle)) + item.width * abs(math.cos(angle))) / 2
            assert reach_x < item.center_x < 1 - reach_x
            assert reach_y < item.center_y < 1 - reach_y
        for first, second in itertools.combinations(objects, 2):
            assert not boxes_overlap(footprint_of(first), footprint_of(second), margin=0.0)


def test_sizes_of_a_category_differ_clearly(train_scenes):
    lengths = {}
    for scene in train_scenes:
        for item in scene.layout.objects:
            lengths.setdefault((item.category, item.size), []).append(item.length)
    for category in vocabulary.CATEGORIES:
        assert min(lengths[category, "large"]) >= 1.6 * max(lengths[category, "small"])
        assert max(lengths[category, "large"]) <= 0.32  # a large ship is the longest: 0.306 of the frame, 4 % jitter


def test_kinds_have_equal_shares(train_scenes):
    counts = dict.fromkeys(vocabulary.KINDS, 0)
    for reference, _ in references_of(train_scenes):
        counts[reference.kind] += 1
    share = NUM_LAYOUTS * 4 / len(vocabulary.KINDS)
    assert all(abs(count - share) <= 0.02 * share for count in counts.values()), counts


@pytest.mark.parametrize("count", [1, 3, 4])
def test_wanted_kinds_cover_a_round(count):
    wanted = [kind for index in range(24 // count) for kind in wanted_kinds((5,), scene_index=index, count=count)]
    assert sorted(wanted) == sorted(vocabulary.KINDS * 3)


def test_expressions_of_a_scene_have_different_targets(train_scenes):
    several = [scene for scene in train_scenes if len({ref.answers for ref in scene.references}) == 4]
    assert len(several) >= 0.99 * NUM_LAYOUTS
    assert all(len({ref.query for ref in scene.references}) == 4 for scene in train_scenes)


def test_every_attribute_value_is_asked_for(train_scenes):
    queries = [reference.query for reference, _ in references_of(train_scenes)]
    colours = {(category, colour) for category in vocabulary.CATEGORIES for colour in category_colours(category)}
    assert {(query.category, query.colour) for query in queries if query.colour} == (
        colours - vocabulary.HELD_OUT_COLOURS
    )
    positions = set(itertools.product(vocabulary.CATEGORIES, vocabulary.POSITION_PHRASES))
    assert {(query.category, query.position) for query in queries if query.position} == (
        positions - vocabulary.HELD_OUT_POSITIONS
    )
    assert {query.relation for query in queries if query.relation} == set(vocabulary.RELATION_PHRASES)


def category_colours(category):
    return vocabulary.CATEGORY_COLOURS[category]


def test_held_out_pairs_only_in_the_compositional_split(train_scenes):
    for split in ("validation", "test", "test_absent"):
        for reference, _ in references_of(scenes_of(split, 100, count=2)):
            assert not uses_held_out_pair(reference.query)
    assert not any(uses_held_out_pair(reference.query) for reference, _ in references_of(train_scenes))
    compositional = references_of(scenes_of("test_compositional", 200, count=2))
    for reference, objects in compositional:
        assert uses_held_out_pair(reference.query)
        assert is_valid(reference.query, target=reference.answers[0], objects=objects)
    named = {(r.query.category, r.query.colour) for r, _ in compositional}
    assert len(named & vocabulary.HELD_OUT_COLOURS) == len(vocabulary.HELD_OUT_COLOURS)


def test_absent_objects_are_near_misses():
    for reference, objects in references_of(scenes_of("test_absent", 200, count=2)):
        assert reference.answers == ()
        assert answers_of(reference.query, objects) == ([], [])
        assert is_absent(reference.query, objects)
        assert read_sentence(reference.expression, objects) == []
        present = {item.category for item in objects}
        assert (reference.category in present) == (reference.kind != "category")


def test_layouts_depend_on_the_arguments_alone():
    alone = make_split_scene("rrsisd", seed=3, split="test", scene_index=7, count=4)
    after_others = scenes_of("test", 8, seed=3)[7]
    assert alone == after_others
    assert alone != make_split_scene("rrsisd", seed=4, split="test", scene_index=7, count=4)
    assert alone != make_split_scene("rrsisd", seed=3, split="validation", scene_index=7, count=4)


def test_articles_are_right(train_scenes):
    starts = {reference.expression.split()[0] for reference, _ in references_of(train_scenes)}
    assert starts == {"The", "A", "An"}
    for reference, _ in references_of(train_scenes):
        article, word = reference.expression.split()[:2]
        assert article == "The" or (article == "An") == (word[0] in "aeiou")


@pytest.mark.parametrize(
    ("region", "x", "y", "expected"),
    [
        ("left", 0.2, 0.5, Match.YES),
        ("left", 0.5, 0.5, Match.NO),
        ("left", 0.33, 0.5, Match.UNSURE),
        ("left", 0.2, 0.2, Match.UNSURE),
        ("upper left", 0.2, 0.2, Match.YES),
        ("upper left", 0.2, 0.5, Match.NO),
        ("middle", 0.5, 0.5, Match.YES),
        ("middle", 0.5, 0.66, Match.UNSURE),
        ("bottom", 0.5, 0.9, Match.YES),
        ("bottom", 0.9, 0.9, Match.UNSURE),
        ("bottom", 0.5, 0.1, Match.NO),
    ],
)
def test_regions(region, x, y, expected):
    assert region_match(region, x, y) is expected


def test_relations():
    anchor = make_object(x=0.5, y=0.5)
    assert relation_match("left", 0.2, 0.5, anchor) is Match.YES
    assert relation_match("left", 0.2, 0.2, anchor) is Match.UNSURE
    assert relation_match("left", 0.5, 0.2, anchor) is Match.NO
    assert relation_match("above", 0.5, 0.2, anchor) is Match.YES
    assert relation_match("below", 0.5, 0.2, anchor) is Match.NO


def test_checker_refuses_queries_that_are_not_contrastive():
    objects = [make_object(colour="red", x=0.2), make_object(colour="white", x=0.8), make_object("ship", x=0.5)]
    red = Query(category="building", colour="red")
    assert is_valid(red, target=0, objects=objects)
    assert not is_valid(red, target=1, objects=objects)
    assert not is_valid(Query(category="building"), target=0, objects=objects)
    assert not is_valid(Query(category="building", colour="red", size="small"), target=0, objects=objects)
    assert is_valid(Query(category="ship"), target=2, objects=objects)
    above_building = Query(category="ship", relation="above", anchor=Query(category="building"))
    assert answers_of(above_building, objects) == ([], [2])


def test_reader_ceilings_by_hand():
    objects = [
        make_object(colour="red", x=0.2),
        make_object(colour="white", x=0.2, y=0.55),
        make_object(colour="red", x=0.8),
        make_object("ship", x=0.5),
    ]
    query = Query(category="building", colour="red", position="left")
    expected = {"random object": 1 / 4, "category only": 1 / 3, "without colour": 1 / 2, "without position": 1 / 2}
    for reader in READERS:
        iou = expected_iou(query, target=0, objects=objects, reader=reader)
        assert iou == pytest.approx(expected.get(reader, 0.5 if "position" in reader else 1.0)), reader


def test_reader_ceilings_lie_in_their_bands():
    table = reader_ceilings(split="test", samples=1_600, seed=0)
    assert 15.0 <= table["random object"]["overall"] <= 22.0
    assert 42.0 <= table["category only"]["overall"] <= 49.0
    assert 72.0 <= table["without position"]["overall"] <= 80.0
    assert set(table["everything"].values()) == {100.0}
    assert set(table["everything"]) == {"overall", *vocabulary.KINDS}


def test_ceilings_need_answers():
    with pytest.raises(ValueError, match="expected scenes with at least one expression"):
        ceilings_of(scenes_of("test_absent", 1, count=1))


def test_unknown_split_is_named():
    with pytest.raises(ValueError, match="'holdout'"):
        make_split_scene("rrsisd", seed=0, split="holdout", scene_index=0, count=4)


def test_too_many_expressions_for_a_scene():
    with pytest.raises(RRSISError, match="lower expressions_per_scene"):
        make_split_scene("rrsisd", seed=0, split="test_absent", scene_index=0, count=2_000)
