"""The RefSegRS-like preset of SyntheticRS: nouns that name several categories, places, set-valued masks."""

import itertools
import math

import numpy as np
import pytest

from processing_rrsis.data import load_benchmark
from processing_rrsis.data.synthetic.ceilings import SET_READERS, expected_set_iou, reader_ceilings
from processing_rrsis.data.synthetic.layout import SceneObject, boxes_overlap, footprint_of
from processing_rrsis.data.synthetic.render import render_mask
from processing_rrsis.data.synthetic.sets import (
    HELD_OUT_PLACES,
    NOUNS,
    SET_KINDS,
    SURFACES,
    VEHICLES,
    SetQuery,
    is_absent_set,
    is_valid_set,
    mean_set_iou,
    set_answers,
)
from processing_rrsis.data.synthetic.splits import make_split_scene

REFSEGRS_CATEGORIES = (
    *("road", "vehicle", "car", "van", "building", "truck", "trailer", "bus", "road marking", "bikeway"),
    *("sidewalk", "tree", "low vegetation", "impervious surface"),
)


def scenes_of(split, number, count=4):
    return [make_split_scene("refsegrs", seed=0, split=split, scene_index=i, count=count) for i in range(number)]


@pytest.fixture(scope="module")
def train_scenes():
    return scenes_of("train", 500)


def references_of(scenes):
    return [(reference, scene.layout.objects) for scene in scenes for reference in scene.references]


def make_object(category, x=0.5, y=0.5, length=0.1, width=0.1):
    return SceneObject(
        category=category, colour="gray", size="", center_x=x, center_y=y, angle_deg=0.0, length=length, width=width
    )


@pytest.fixture
def street():
    return [
        make_object("road", y=0.2, length=1.7, width=0.2),
        make_object("impervious surface", y=0.7, length=0.6, width=0.3),
        make_object("car", x=0.2, y=0.2),
        make_object("truck", x=0.6, y=0.2, length=0.2),
        make_object("car", x=0.3, y=0.7),
        make_object("van", x=0.5, y=0.7, length=0.2),
    ]


@pytest.mark.parametrize(
    ("noun", "place", "expected"),
    [
        ("car", None, [2, 4]),
        ("car", "road", [2]),
        ("light-duty vehicle", None, [2, 4, 5]),
        ("light-duty vehicle", "impervious surface", [4, 5]),
        ("heavy-duty vehicle", "impervious surface", []),
        ("vehicle", "road", [2, 3]),
        ("road", None, [0]),
    ],
)
def test_answers_by_hand(street, noun, place, expected):
    assert set_answers(SetQuery(noun=noun, place=place), street) == expected


def test_validity_by_hand(street):
    assert is_valid_set(SetQuery(noun="car", place="road"), street)
    assert not is_valid_set(SetQuery(noun="van", place="impervious surface"), street)
    assert is_valid_set(SetQuery(noun="light-duty vehicle"), street)
    assert not is_valid_set(SetQuery(noun="heavy-duty vehicle"), street)
    assert is_absent_set(SetQuery(noun="van", place="road"), street)
    assert not is_absent_set(SetQuery(noun="car", place="road"), street)
    assert is_absent_set(SetQuery(noun="bus"), street)


def test_readers_by_hand(street):
    query = SetQuery(noun="light-duty vehicle", place="impervious surface")
    scores = {r: expected_set_iou(query, answers=[4, 5], objects=street, reader=r) for r in SET_READERS}
    assert scores == pytest.approx(
        {"any vehicle": 3 / 6, "without group": 1.0, "without place": 3 / 4, "everything": 1.0}
    )
    assert mean_set_iou([], [], objects=street) == 0.0


def test_wording_and_category():
    query = SetQuery(noun="light-duty vehicle", place="road")
    assert (query.expression, query.category, query.kind) == (
        "light-duty vehicle driving on the road",
        "vehicle",
        "group+place",
    )
    assert SetQuery(noun="bus", place="impervious surface").expression == "bus in the parking area"


def test_answers_are_what_the_words_say(train_scenes):
    counts = dict.fromkeys(SET_KINDS, 0)
    for reference, objects in references_of(train_scenes):
        counts[reference.kind] += 1
        assert reference.category in REFSEGRS_CATEGORIES
        assert list(reference.answers) == set_answers(reference.query, objects)
        assert is_valid_set(reference.query, objects)
        noun = reference.expression.removesuffix(" in the parking area").removesuffix(" driving on the road")
        assert {objects[index].category for index in reference.answers} <= set(NOUNS[noun])
        elsewhere = set(range(len(objects))) - set(reference.answers)
        if noun != reference.expression:
            assert any(objects[index].category in NOUNS[noun] for index in elsewhere)
    assert len(set(counts.values())) == 1


def test_answers_of_a_scene_differ(train_scenes):
    assert all(len({reference.answers for reference in scene.references}) == 4 for scene in train_scenes)


def test_vehicles_stand_apart_inside_the_frame(train_scenes):
    for scene in train_scenes:
        things = [item for item in scene.layout.objects if item.category not in SURFACES]
        for item in things:
            angle = math.radians(item.angle_deg)
            reach_x = (item.length * abs(math.cos(angle)) + item.width * abs(math.sin(angle))) / 2
            assert reach_x < item.center_x < 1 - reach_x
        for first, second in itertools.combinations(things, 2):
            assert not boxes_overlap(footprint_of(first), footprint_of(second), margin=0.0)


def test_held_out_places(train_scenes):
    assert not any((r.query.noun, r.query.place) in HELD_OUT_PLACES for r, _ in references_of(train_scenes))
    compositional = references_of(scenes_of("test_compositional", 60, count=2))
    assert {(r.query.noun, r.query.place) for r, _ in compositional} == HELD_OUT_PLACES


def test_absent_sets():
    for reference, objects in references_of(scenes_of("test_absent", 60, count=2)):
        assert reference.answers == ()
        assert is_absent_set(reference.query, objects)


def test_a_road_is_what_is_seen_of_it(train_scenes):
    scene = next(
        scene for scene in train_scenes if sum(item.category in VEHICLES for item in scene.layout.objects) > 5
    )
    objects = scene.layout.objects
    road = render_mask(scene.layout, answers=set_answers(SetQuery("road"), objects), image_size_px=96) > 0
    vehicles = render_mask(scene.layout, answers=set_answers(SetQuery("vehicle"), objects), image_size_px=96) > 0
    assert road.any()
    # A pixel of which each covers just half belongs to both.
    assert (road & vehicles).sum() <= 0.03 * vehicles.sum()


def test_the_dataset(tmp_path):
    sizes = dict.fromkeys((f"{split}_samples" for split in ("train", "validation", "test_compositional")), 4)
    dataset = load_benchmark(
        "synthetic",
        config_name="refsegrs",
        cache_dir=str(tmp_path),
        test_samples=8,
        test_absent_samples=4,
        **sizes,
    )
    assert [len(dataset[split]) for split in dataset] == [4, 4, 8, 4, 4]
    assert all(np.asarray(row["mask"]).any() for row in dataset["test"])
    assert not any(np.asarray(row["mask"]).any() for row in dataset["test_absent"])


def test_ceilings():
    table = reader_ceilings(preset="refsegrs", samples=400)
    assert table["everything"]["overall"] == 100.0
    assert table["any vehicle"]["overall"] < 50.0
    assert table["without place"]["category+place"] < 60.0
    assert table["without group"]["group"] < 100.0
    assert set(table) == set(SET_READERS)
