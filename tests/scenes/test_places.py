"""What is read of a place, and which objects it means, by hand-placed boxes."""

import numpy as np
import pytest
import shapely
from affine import Affine
from pyproj import CRS

from processing_rrsis.scenes.frames.ground import Ground
from processing_rrsis.scenes.frames.places import Direction, Place, Relation, read_place
from processing_rrsis.scenes.frames.plan import compass_warnings, plan_expression
from processing_rrsis.scenes.frames.resolver import (
    Frames,
    Placed,
    between_fit,
    direction_fits,
    frames_of,
    near_fits,
    placed_object,
    position_fit,
    resolve,
)

UPPER_LEFT, LEFT = Direction("image", -1, 1), Direction("image", -1, 0)
NORTH, NORTH_WEST = Direction("ground", 0, 1), Direction("ground", -1, 1)


def near_to(phrase):
    return Relation("near", (Place(phrase),))


@pytest.mark.parametrize(
    ("text", "phrase", "count", "positions"),
    [
        ("A small baseball field on the upper right", "a small baseball field", 1, (Direction("image", 1, 1),)),
        ("the tanks in the upper left corner of the image", "the tanks", None, (UPPER_LEFT,)),
        ("all ships on the left side of the picture", "all ships", None, (LEFT,)),
        ("The ship is located at the bottom", "the ship", 1, (Direction("image", 0, -1),)),
        ("ships in the middle", "ships", None, (Direction("image", 0, 0),)),
        ("the ship in the north-east", "the ship", 1, (Direction("ground", 1, 1),)),
        ("the two western tennis courts", "the two tennis courts", 2, (Direction("ground", -1, 0),)),
        ("the western tennis court", "the tennis court", 1, (Direction("ground", -1, 0),)),
        ("the northernmost building", "the building", 1, (Direction("ground", 0, 1, extreme=True),)),
        ("the leftmost storage tank", "the storage tank", 1, (Direction("image", -1, 0, extreme=True),)),
        ("the top left storage tank", "the storage tank", 1, (UPPER_LEFT,)),
    ],
)
def test_positions_in_the_scene(text, phrase, count, positions):
    place = read_place(text)
    assert (place.phrase, place.count, place.positions, place.relations) == (phrase, count, positions, ())


@pytest.mark.parametrize(
    ("text", "phrase", "relations"),
    [
        (
            "the storage tanks north of the harbour",
            "the storage tanks",
            (Relation("direction", (Place("the harbour"),), NORTH),),
        ),
        (
            "The vehicle is on the left of the red building",
            "the vehicle",
            (Relation("direction", (Place("the red building"),), LEFT),),
        ),
        ("the airplane to the north-west of the terminal", "the airplane",
         (Relation("direction", (Place("the terminal"),), NORTH_WEST),)),
        ("the vehicles above the building", "the vehicles",
         (Relation("direction", (Place("the building"),), Direction("image", 0, 1)),)),
        ("the ship next to the harbour", "the ship", (near_to("the harbour"),)),
        ("the ship nearest to the harbour", "the ship", (Relation("nearest", (Place("the harbour"),)),)),
        ("the ship inside the harbour", "the ship", (Relation("inside", (Place("the harbour"),)),)),
        ("the building between the road and the river", "the building",
         (Relation("between", (Place("the road"), Place("the river"))),)),
        ("the ship next to the harbour on the left", "the ship",
         (Relation("near", (Place("the harbour", positions=(LEFT,)),)),)),
        ("the vehicle north of the red building and left of the ship", "the vehicle",
         (Relation("direction", (Place("the red building"),), NORTH),
          Relation("direction", (Place("the ship"),), LEFT))),
    ],
)  # fmt: skip
def test_relations(text, phrase, relations):
    place = read_place(text)
    assert (place.phrase, place.relations, place.positions) == (phrase, relations, ())


@pytest.mark.parametrize("text", ["car driving on the road", "The tanks", "the ship opposite the pier", "north"])
def test_what_tells_no_place_stays_whole(text):
    place = read_place(text)
    assert place.phrase == text
    assert not place.has_place


def test_numbers():
    counts = {"the ship": 1, "ships": None, "the two ships": 2, "both tanks": 2, "every bus": None, "the bus": 1}
    assert {text: read_place(text).count for text in counts} == counts


@pytest.mark.parametrize(
    "text",
    [
        *(
            "all ships but the one on the left",
            "all ships save the one on the left",
            "anything but the ships on the left",
        ),
        *(
            "the ships other than the one on the left",
            "ships rather than tanks on the left",
            "all tanks minus the left one",
        ),
        "the ships left of the harbour or right of the harbour",
        "near the harbour or near the road",
        "the ships on the left and on the right",
        "the ships at the top and at the bottom",
        *(
            "the ship north of the road, the tank south of the road",
            "the tank near the pier and the ship near the quay",
        ),
        "the largest and the smallest ship",
        "the largest ships",
        "the upper of the two ships",
        "the left one of the three ships",
        "the lower ship of the two",
        "the smallest of two ships",
        "the right side of the road",
        "the top of the building",
        "the left wing of the plane",
        "the right of way",
        *(
            "north of the harbour is a ship",
            "the ship a bit left of the harbour",
            "the ship halfway between the two piers",
        ),
        *(
            "the ship 100 m south of the harbour",
            "terminal 2 on the left",
            "the ship is bigger than the ship on the left",
        ),
    ],
)
def test_what_says_more_than_is_read_is_left_to_the_tiles(text):
    plan = plan_expression(text, "auto")
    assert plan.frame == "tile"
    assert plan.phrases == (text,)


@pytest.mark.parametrize(
    ("text", "phrase", "count"),
    [
        ("the plane with two engines on the left", "the plane with two engines", 1),
        ("the two-story building on the left", "the two story building", 1),
        ("the 400 m track on the left", "the 400 m track", 1),
        ("the row of five tanks on the left", "the row of five tanks", None),
        ("the ships sailing on the left", "the ships sailing", None),
        ("the ships moored at the quay on the left", "the ships moored at the quay", None),
        ("the sports building on the left", "the sports building", 1),
        ("the people on the left", "the people", None),
        ("the ships that are on the left", "the ships", None),
        ("the ship that's on the left", "the ship", 1),
        ("the red and white tanks on the left", "the red and white tanks", None),
    ],
)
def test_how_many_are_meant(text, phrase, count):
    plan = plan_expression(text, "auto")
    assert plan.frame == "hybrid", plan.reason
    assert (plan.place.phrase, plan.place.count, plan.place.positions) == (phrase, count, (LEFT,))


def test_directions_with_an_adverb_and_a_middle_of_two():
    assert read_place("the ship due north of the harbour").phrase == "the ship"
    (relation,) = read_place("the ship in the middle of the two harbours").relations
    assert (relation.kind, relation.anchors) == ("between", (Place("the two harbours", count=2),))


def test_frames_are_chosen_and_told():
    assert plan_expression("the ship", "auto").frame == "tile"
    assert plan_expression("the ship on the left", "auto").frame == "hybrid"
    assert plan_expression("the ship on the left", "tile").frame == "tile"
    unread = plan_expression("the second ship from the left", "hybrid")
    assert unread.frame == "tile"
    assert "'second', 'left' can't be resolved" in unread.reason
    plans = [plan_expression("the ship in the north", "auto"), plan_expression("the ship on the left", "auto")]
    assert len(compass_warnings(plans, georeferenced=False)) == 1
    assert compass_warnings(plans, georeferenced=True) == ()


def box(x, y, side=10):
    """A square around a point, the same in both frames."""
    square = shapely.box(x - side / 2, y - side / 2, x + side / 2, y + side / 2)
    return Placed(image=square, ground=square)


@pytest.mark.parametrize(
    ("direction", "x", "y", "fit"),
    [
        (LEFT, -1, 0, 1.0),
        (LEFT, -1 / 3, 0, 0.5),
        (LEFT, 1 / 3, 0, 0.0),
        (UPPER_LEFT, -1, 1 / 3, 0.5),
        (Direction("image", 0, 0), 0, 0, 1.0),
        (Direction("image", 0, 0), 1 / 3, 0, 0.5),
    ],
)
def test_position_fits(direction, x, y, fit):
    assert position_fit(direction, x, y) == pytest.approx(fit)


def test_left_prefers_the_middle_of_the_left_side_where_one_is_meant():
    assert position_fit(LEFT, -0.8, 0, single=True) > position_fit(LEFT, -0.9, 0.9, single=True)


def test_direction_fits():
    assert direction_fits(LEFT, box(0, 0), [box(100, 0)])[0] == pytest.approx(1.0)
    assert direction_fits(LEFT, box(0, 0), [box(100, 100, side=1e-6)])[0] == pytest.approx(0.5, abs=1e-3)
    assert direction_fits(LEFT, box(100, 0), [box(0, 0)])[0] == 0.0
    road = Placed(shapely.box(0, -1000, 10, 1000), shapely.box(0, -1000, 10, 1000))
    assert direction_fits(LEFT, box(-50, 100), [road])[0] > 0.5  # 62° off the road's middle, straight left of its edge


def test_near_and_between_fits():
    assert near_fits(box(0, 0), [box(10, 0)])[0] == 1.0
    assert near_fits(box(0, 0), [box(20, 0)])[0] == 0.5  # a gap of 10, as wide as both
    assert between_fit(box(0, 0), [[box(-50, 0)], [box(50, 0)]]) == pytest.approx(1.0)
    right_angle = [box(50, 0, side=1e-6), box(0, 50, side=1e-6)]
    assert between_fit(box(0, 0), [right_angle]) == pytest.approx(0.25, abs=1e-3)
    assert between_fit(box(0, 0), [[*right_angle, box(-50, 0)]]) == pytest.approx(1.0)  # the widest pair counts
    assert between_fit(box(0, 0), [right_angle[:1]]) == between_fit(box(0, 0), [[], right_angle]) == 0.0


def scene_100(**changes):
    return Ground(width_px=100, height_px=100, transform=Affine.identity(), crs=None, **changes)


def boxes(ground, *centres):
    return [placed_object(shapely.box(x - 2, y - 2, x + 2, y + 2), ground) for x, y in centres]


def test_one_or_all_of_those_on_the_left():
    ground = scene_100()
    ships = boxes(ground, (10, 50), (20, 10), (90, 50), (30, 90))
    assert resolve(read_place("the ship on the left"), {"the ship": ships}, frames_of(ground)) == [0]
    assert resolve(read_place("the ships on the left"), {"the ships": ships}, frames_of(ground)) == [0, 1, 3]
    assert resolve(read_place("the ship on the lower left"), {"the ship": ships}, frames_of(ground)) == [3]
    assert resolve(read_place("the ship on the right"), {"the ship": ships[:2]}, frames_of(ground)) == []


def test_an_anchor_with_a_place_and_one_that_is_the_target():
    ground = scene_100()
    found = {
        "the ship": boxes(ground, (20, 20), (80, 80)),
        "the tank": boxes(ground, (30, 30), (90, 70)),
        "the building": boxes(ground, (20, 20), (20, 80)),
    }
    place = read_place("the ship next to the tank on the upper left")
    assert resolve(place, found, frames_of(ground)) == [0]
    same = {"the building": found["the building"]}
    assert resolve(read_place("the building above the building"), same, frames_of(ground)) == [0]
    assert resolve(read_place("the ship next to the dam"), {**found, "the dam": []}, frames_of(ground)) == []


def test_a_false_alarm_is_not_the_one_that_is_meant():
    ground = scene_100()
    boxes = [shapely.box(0, 48, 4, 52), shapely.box(10, 44, 18, 52)]
    unsure, sure = (placed_object(box, ground, score) for box, score in zip(boxes, (0.55, 0.95), strict=True))
    for text in ("the ship on the left", "the leftmost ship"):
        assert resolve(read_place(text), {"the ship": [unsure, sure]}, frames_of(ground)) == [1]
        equal = [placed_object(box, ground) for box in boxes]
        assert resolve(read_place(text), {"the ship": equal}, frames_of(ground)) == [0]


def test_the_largest_of_those_in_the_north():
    ground = scene_100()
    sides = [(20, 20, 2), (60, 20, 4), (50, 80, 9)]
    tanks = [placed_object(shapely.box(x - s, y - s, x + s, y + s), ground) for x, y, s in sides]
    assert resolve(read_place("the largest tank"), {"the tank": tanks}, frames_of(ground)) == [2]
    assert resolve(read_place("the smallest tank"), {"the tank": tanks}, frames_of(ground)) == [0]
    assert resolve(read_place("the largest tank in the top"), {"the tank": tanks}, frames_of(ground)) == [1]
    assert read_place("the largest tanks in the top").unread == ("largest",)  # how many?
    assert resolve(read_place("the two largest tanks"), {"the two tanks": tanks}, frames_of(ground)) == [1, 2]
    assert read_place("the largest of the two tanks").count == 1


@pytest.mark.parametrize(
    ("transform", "northern"),
    [
        (Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000), 0),
        (Affine(0.5, 0, 500_000, 0, 0.5, 4_999_950), 1),  # south-up: the last row is the northernmost
        (
            Affine(0, -0.5, 500_000, 0.5, 0, 5_000_000),
            3,
        ),  # turned by a quarter: rows to the west, columns to the north
    ],
)
def test_north_comes_from_the_transform_and_up_from_the_image(transform, northern):
    ground = Ground(width_px=100, height_px=100, transform=transform, crs=CRS.from_epsg(32633))
    ships = boxes(ground, (50, 5), (50, 95), (5, 50), (95, 50))
    assert resolve(read_place("the northernmost ship"), {"the ship": ships}, frames_of(ground)) == [northern]
    assert resolve(read_place("the ship in the north"), {"the ship": ships}, frames_of(ground)) == [northern]
    assert resolve(read_place("the topmost ship"), {"the ship": ships}, frames_of(ground)) == [0]


def test_metres_and_areas_in_degrees():
    """At 60° north a degree of longitude is 55.80 km on WGS 84 and one of latitude 111.41 km."""
    ground = Ground(100, 100, Affine(1e-4, 0, 25.0, 0, -1e-4, 60.005), CRS.from_epsg(4326))
    ends = ground.to_metres(np.array([[50.0, 50.0], [60.0, 50.0], [50.0, 40.0]]))
    assert ends[0] == pytest.approx([0, 0], abs=1e-6)
    assert ends[1] == pytest.approx([55.8, 0], abs=0.1)
    assert ends[2] == pytest.approx([0, 111.4], abs=0.1)
    assert ground.area_m2(shapely.box(25.0, 59.995, 25.01, 60.005)) == pytest.approx(558.0 * 1114.1, rel=1e-3)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("the ship not next to the harbour", "not"),
        ("all ships except the one on the left", "except"),
        ("the ship that isn't on the left", "isn"),
        ("no ships on the left", "no"),
        ("the panels on top of the building", "on top of"),
        ("the car under the bridge", "under"),
        ("the planes in the northern part of the airport", "northern"),
        ("the tank on the left and the ship at the top", "and"),
    ],
)
def test_what_would_be_read_as_something_else_is_asked_tile_by_tile(text, word):
    plan = plan_expression(text, "auto")
    assert plan.frame == "tile"
    assert f"'{word}'" in plan.reason


def found(text, **objects):
    """What a sentence finds among squares of 10 px, given by their lower left corners, in a frame of 400 px."""
    place = read_place(text)
    placed = {phrase: [box(*corner) for corner in objects[phrase.split()[-1]]] for phrase in place.phrases}
    return resolve(place, placed, Frames(image=(0, 0, 400, 400), ground=(0, 0, 400, 400)))


def test_superlatives_compare_those_that_are_there_by_all_else():
    ships, harbour = [(150, 340), (200, 280), (60, 20), (390, 200)], [(200, 200)]
    assert found("the leftmost ship north of the harbour", ship=ships, harbour=harbour) == [0]
    assert found("the ship in the south nearest to the harbour", ship=ships, harbour=harbour) == [2]
    assert found("the two ships nearest to the harbour", ships=ships, harbour=harbour) == [1, 0][::-1]
    assert found("the three largest ships", ships=ships) == [0, 1, 2]
    assert len(found("the seven largest ships", ships=ships * 2)) == 7
    assert found("the 2 ships on the left", ships=ships) == [0, 2]


def test_halves_sides_middles_and_all_anchors():
    ships = [(150, 230), (60, 360), (200, 370), (200, 20)]
    assert found("the ships in the upper half", ships=ships) == [0, 1, 2]
    assert found("the ships at the top", ships=ships) == [1, 2]
    assert found("the ships in the top center", ships=ships) == [2]
    tanks = [(150, 100), (150, 300)]
    assert found("the ships above both tanks", ships=ships, tanks=tanks) == [2]
    place = Placed(shapely.box(50, 150, 260, 260), shapely.box(50, 150, 260, 260))
    inside = resolve(
        read_place("the ship in the middle of the harbour"),
        {"the ship": [box(*corner) for corner in ships], "the harbour": [place]},
        Frames(image=(0, 0, 400, 400), ground=(0, 0, 400, 400)),
    )
    assert inside == [0]
