"""Mirrored words: right where they are a side of the frame, refused where that is not sure."""

import pytest

from processing_rrsis.data.inputs.mirrored_words import mirror_expression

HORIZONTAL = [
    ("The ship on the lower left", "The ship on the lower right"),
    ("A dam is on the upper right of the bridge on the left", "A dam is on the upper left of the bridge on the right"),
    ("The windmill on the far right", "The windmill on the far left"),
    ("the vehicle to the left of the red building", "the vehicle to the right of the red building"),
    ("The left-most harbor in the scene.", "The right-most harbor in the scene."),
    (
        "The leftmost of the two cars, near the top-right corner",
        "The rightmost of the two cars, near the top-left corner",
    ),
    ("the right-hand lane", "the left-hand lane"),
    ("Left and right of the road", "Right and left of the road"),
    ("LEFT part of the bridge", "RIGHT part of the bridge"),
    ("car left of the tree", "car right of the tree"),
    ("the van at left in the picture", "the van at right in the picture"),
    ("the plane facing left", "the plane facing right"),
    ("on the right next to the pier", "on the left next to the pier"),
    ("the ship on the east side, north-west of the pier", "the ship on the west side, north-east of the pier"),
    ("The southeastern tank", "The southwestern tank"),
    ("an eastern tank", "a western tank"),
    ("A western tank", "An eastern tank"),
    ("the NE corner", "the NW corner"),
    ("the truck turning clockwise", "the truck turning counterclockwise"),
    ("it turns counter-clockwise there", "it turns clockwise there"),
    ("the second car from the left", "the second car from the right"),
    ("the third tank from the top", "the third tank from the top"),
    ("the second from the left and first from the top", "the second from the right and first from the top"),
    ("the port on the left", "the port on the right"),
    ("the first in a row from left to right", "the first in a row from right to left"),
    ("the ship about one third of the way down on the left", "the ship about one third of the way down on the right"),
    ("a T-shaped pier on the left", "a T-shaped pier on the right"),
    (
        "The bright upright copyright sign in the leftover light",
        "The bright upright copyright sign in the leftover light",
    ),
    ("the vehicle above the small bridge", "the vehicle above the small bridge"),
    ("", ""),
]
VERTICAL = [
    ("The ship on the lower left", "The ship on the upper left"),
    ("An upper tank", "A lower tank"),
    ("A bridge at the bottom, below the dam", "A bridge at the top, above the dam"),
    ("the topmost car near the bottom-right corner", "the bottommost car near the top-right corner"),
    ("the car in the upper middle", "the car in the lower middle"),
    ("The northernmost pool", "The southernmost pool"),
    ("low vegetation at the very top of the image", "low vegetation at the very bottom of the image"),
    ("the ship left of the pier", "the ship left of the pier"),
    ("the car at the top of the image", "the car at the bottom of the image"),
    ("the road below ground track field", "the road above ground track field"),
]


@pytest.mark.parametrize(
    ("axis", "text", "mirrored"),
    [*(("horizontal", *pair) for pair in HORIZONTAL), *(("vertical", *pair) for pair in VERTICAL)],
)
def test_sides_change_places_and_back(axis, text, mirrored):
    assert mirror_expression(text, axis=axis).text == mirrored
    assert mirror_expression(mirrored, axis=axis).text == text.replace("counter-", "counter")


@pytest.mark.parametrize(
    ("axis", "text", "reason"),
    [
        ("horizontal", "the ship right next to the dam", "'right' between 'ship' and 'next'"),
        ("horizontal", "the pool right in the middle", "may be no side"),
        ("horizontal", "the right next vehicle", "may mean directly"),
        ("horizontal", "the car that left the parking area", "'left' between 'that' and 'the'"),
        ("horizontal", "the only tree left", "may be no side"),
        ("horizontal", "the vehicle is right on the line", "may be no side"),
        ("horizontal", "the building at a right angle to the road", "'right' before 'angle'"),
        ("horizontal", "the car with the right of way", "is no side"),
        ("horizontal", "the second vehicle", "'second' counts from a side that is not said"),
        ("horizontal", "the last ship in the row", "'last' counts"),
        ("horizontal", "the L-shaped building", "the mirrored shape is no L"),
        ("horizontal", "the runway with the number nine", "'number' is not read"),
        ("horizontal", "the starboard side of the ship", "'starboard' is not read"),
        ("horizontal", "the ship at the rigth edge", "'rigth' may be a misspelt side"),
        ("horizontal", "the ship at the lef edge", "misspelt"),
        ("horizontal", "the gate on side E", "'E' may be a direction"),
        ("horizontal", "the first ship in the second row from the top", "'first' counts"),
        ("horizontal", "the second vehicle in the third column from the left", "'second' counts"),
        ("horizontal", "the 1st ship", "'1st' counts"),
        ("horizontal", "the tank in row 3", "'row 3' is not read"),
        ("horizontal", "the tank in quadrant IV", "'quadrant iv' is not read"),
        ("horizontal", "the pier shaped like an L", "the mirrored shape is no L"),
        ("horizontal", "the 7-shaped pool", "'7-shaped' is not read"),
        ("horizontal", "the comma-shaped pond", "the mirrored shape is no comma"),
        ("horizontal", "the port side of the ship", "'port side' is not read"),
        ("horizontal", "the plane heading n.w.", "is not read"),
        ("horizontal", "the right kind of roof", "'right' before 'kind'"),
        ("horizontal", "the house on East Road", "'East' may be part of a name"),
        ("horizontal", "what is left of the building", "'what is left' is no side"),
        ("vertical", "the top of the tower", "'top of' may be a part of the object"),
        ("vertical", "the upper deck of the ship", "'upper deck' is part of an object"),
        ("vertical", "the ship upstream of the bridge", "'upstream' is not read"),
        ("vertical", "the bridge over the river", "'over' is not read"),
        ("vertical", "the car on top of the building", "'on top of' is no side"),
        ("vertical", "the tank with a white top", "may be a part of the object"),
        ("vertical", "the building lower than the chimney", "may compare heights"),
        ("vertical", "the above ground pool", "'above ground' is no side"),
        ("vertical", "the house behind the church", "'behind' is not read"),
        ("vertical", "the ship at the buttom", "'buttom' may be a misspelt side"),
        ("vertical", "the ship at the botom", "misspelt"),
    ],
)
def test_what_is_not_surely_a_side_is_refused(axis, text, reason):
    refused = mirror_expression(text, axis=axis)
    assert refused.text is None
    assert reason in refused.reason


def test_unknown_axes_are_named():
    with pytest.raises(ValueError, match="expected one of horizontal, vertical, got 'diagonal'"):
        mirror_expression("a ship", axis="diagonal")
