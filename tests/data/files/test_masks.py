"""Run lengths and polygons to pixels."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from processing_rrsis.data.files.masks import decode_segmentation, run_lengths
from processing_rrsis.data.files.pictures import Picture, fit_mask
from tests.data.fake_downloads import runs_of


def test_a_hand_worked_mask():
    """Columns first: 2 rows × 3 columns, runs 1, 2, 3: background (0,0), target (1,0) (0,1), background the rest."""
    expected = [[0, 255, 0], [255, 0, 0]]
    assert decode_segmentation({"size": [2, 3], "counts": [1, 2, 3]}).tolist() == expected
    assert run_lengths("123").tolist() == [1, 2, 3]  # characters from "0" on: five bits each
    assert decode_segmentation([{"size": [2, 3], "counts": b"123"}]).tolist() == expected


def test_run_lengths_by_hand():
    # The fourth number is a difference to the second: 2 + (-1) = 1; -1 is 0b11111 with the sign bit: chr(48 + 31) "O".
    assert run_lengths("123O").tolist() == [1, 2, 3, 1]
    # 32 = 0b1_00000: five low bits with the flag (32 | 0 -> "P"), then 1.
    assert run_lengths("P1").tolist() == [32]


def test_equal_to_pycocotools():
    generator = np.random.default_rng(0)
    for share in (0.0, 0.01, 0.3, 0.5, 0.99, 1.0):
        for height, width in ((1, 1), (1, 70), (70, 1), (33, 41)):
            mask = (generator.random((height, width)) < share).astype(np.uint8)
            assert np.array_equal(decode_segmentation([runs_of(mask)]), mask * 255)


def test_several_parts_are_united():
    first, second = np.zeros((2, 6, 8), dtype=np.uint8)
    first[1:3, 1:4] = 1
    second[2:5, 3:7] = 1
    united = decode_segmentation([runs_of(first), runs_of(second)])
    assert np.array_equal(united, (first | second) * 255)


POINTS = [[2, 1], [6, 1], [6, 4], [2, 4]]
FLAT = [2, 1, 6, 1, 6, 4, 2, 4]


@pytest.mark.parametrize("polygon", [POINTS, [POINTS], FLAT, [FLAT], [[float(x), y] for x, y in POINTS]])
def test_polygon_forms(polygon):
    expected = np.zeros((6, 8), dtype=np.uint8)
    expected[1:4, 2:6] = 255  # corners are grid lines: 4 columns × 3 rows
    assert np.array_equal(decode_segmentation(polygon, size=(6, 8)), expected)


def test_polygons_are_drawn_as_coco_does():
    triangle = [3.2, 2.1, 30.7, 8.8, 12.5, 27.3]
    (runs,) = coco_mask.frPyObjects([triangle], 32, 40)
    assert np.array_equal(decode_segmentation([triangle], size=(32, 40)), coco_mask.decode(runs) * 255)


@pytest.mark.parametrize(
    ("segmentation", "text"),
    [
        (None, "expected run lengths"),
        ([], "expected run lengths"),
        ("123", "expected run lengths"),
        ([None], "expected run lengths or a polygon"),
        ({"counts": "123"}, "with 'size' and 'counts'"),
        ({"size": [2], "counts": "123"}, "'size'"),
        ({"size": [2, 0], "counts": "123"}, "'size'"),
        ({"size": [10**6, 10**6], "counts": "123"}, "'size'"),
        ({"size": [2.5, 2], "counts": "123"}, "'size'"),
        ({"size": ["2", "3"], "counts": "123"}, "list of numbers"),
        ({"size": [2, 2], "counts": "123"}, "2×2 = 4 pixels, got 6"),
        ({"size": [4, 4], "counts": "123"}, "4×4 = 16 pixels, got 6"),
        ({"size": [2, 3], "counts": ""}, "damaged"),
        ({"size": [2, 3], "counts": "12P"}, "damaged"),
        ({"size": [2, 3], "counts": "é€"}, "damaged"),
        ({"size": [2, 3], "counts": "o" * 40 + "0"}, "out of range"),
        ({"size": [2, 3], "counts": "OOO"}, "got -1"),
        ({"size": [2, 3], "counts": [1, -2, 7]}, "got -2"),
        ({"size": [2, 3], "counts": [1.5, 4.5]}, "whole run lengths"),
        ({"size": [2, 3], "counts": None}, "list of numbers"),
        ({"size": [2, 3], "counts": [10**400]}, "out of range"),
        ([1, 2, 3, 4], "at least 3 points"),
        ([1, 2, 3, 4, 5, 6, 7], "at least 3 points"),
        ([[1, 2], [3, 4], [5, 6, 7]], r"points as \[x, y\]"),
        ([1, 2, 3, float("nan"), 5, 6], "finite"),
        ([1, 2, 3, 1e9, 5, 6], r"8×6 image, got \[3\.0, 1000000000\.0\]"),
    ],
)
def test_bad_segmentations_are_refused_with_a_reason(segmentation, text):
    with pytest.raises(ValueError, match=f"annotation 7: .*{text}"):
        decode_segmentation(segmentation, size=(6, 8), source="annotation 7")


def test_polygons_need_a_size_and_parts_one_size():
    with pytest.raises(ValueError, match="image's size"):
        decode_segmentation(POINTS)
    with pytest.raises(ValueError, match="parts of one size"):
        decode_segmentation([{"size": [2, 3], "counts": [6]}, {"size": [3, 2], "counts": [6]}])


def test_parts_that_would_take_minutes_are_refused():
    whole = {"size": [8000, 8000], "counts": [0, 64_000_000]}
    with pytest.raises(ValueError, match="at most 10,000,000,000 pixels together, got 2,000 of 128,000,000,000"):
        decode_segmentation([whole] * 2_000, size=(64, 64))
    with pytest.raises(ValueError, match=r"got 20,000 of"):
        decode_segmentation([[1, 1, 3000, 1, 3000, 3000]] * 20_000, size=(4000, 4000))


def test_a_value_that_holds_itself_is_refused():
    loop = []
    loop.append(loop)
    with pytest.raises(ValueError, match="expected run lengths or a polygon"):
        decode_segmentation(loop)


def test_resize_is_nearest():
    mask = np.array([[0, 255]], dtype=np.uint8)
    larger, resized = fit_mask(mask, Picture(data=b"", size=(2, 4), orientation=1))
    assert (larger.tolist(), resized) == ([[0, 0, 255, 255]] * 2, True)
    assert fit_mask(mask, Picture(data=b"", size=(1, 2), orientation=1)) == (mask, False)
