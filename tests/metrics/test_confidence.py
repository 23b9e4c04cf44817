"""Bootstrap intervals: enumerated by hand where that is possible, and independent of the samples' order."""

import itertools
import json
import math

import numpy as np
import pytest

from processing_rrsis.metrics.confidence import SCORE_NAMES, bootstrap_intervals


def make_counts(n=200, seed=0):
    generator = np.random.default_rng(seed)
    unions = generator.integers(1, 5000, size=n)
    return (unions * generator.beta(3, 2, size=n)).astype(np.int64), unions


def test_bounds_of_two_samples_are_enumerated():
    # Draws of two samples with IoU 1/2 (1 of 2 px) and 1 (6 of 6 px): both the first (1/4 of the draws), one of each
    # (1/2), both the second (1/4). So the middle half of all draws, and any interval of less, is the mixed one.
    wide = bootstrap_intervals([1, 6], [2, 6], confidence=0.95).scores
    assert wide["mIoU"] == (50.0, 100.0)
    assert wide["oIoU"] == (50.0, 100.0)
    assert wide["Pr@0.6"] == (0.0, 100.0)
    assert wide["Pr@0.5"] == (100.0, 100.0)
    narrow = bootstrap_intervals([1, 6], [2, 6], confidence=0.4).scores
    assert narrow["mIoU"] == (75.0, 75.0)
    assert narrow["oIoU"] == (pytest.approx(87.5), pytest.approx(87.5))  # 7 of 8 px


def test_bounds_of_three_images_are_enumerated():
    """All 27 draws of three images, weighted equally: the bootstrap's percentiles are theirs."""
    inside, whole, images = [1, 3, 4, 9], [4, 4, 8, 10], ["a", "a", "b", "c"]
    groups = [[0, 1], [2], [3]]
    means = []
    for draw in itertools.product(groups, repeat=3):
        samples = [index for group in draw for index in group]
        means.append(100 * np.mean([inside[index] / whole[index] for index in samples]))
    found = bootstrap_intervals(inside, whole, image_ids=images, confidence=0.8, num_resamples=100_000)
    expected = np.percentile(means, [10, 90], method="inverted_cdf")
    assert found.scores["mIoU"] == pytest.approx(tuple(expected), abs=1e-9)
    assert (found.unit, found.num_units) == ("image", 3)


def test_width_is_the_standard_error_of_independent_samples():
    inside, whole = make_counts(n=2000)
    ious = inside / whole
    low, high = bootstrap_intervals(inside, whole).scores["mIoU"]
    assert low < 100 * ious.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * 100 * ious.std() / math.sqrt(2000), rel=0.06)


def test_images_drawn_whole_give_wider_intervals():
    """Four equal samples per image carry the information of one: the interval doubles."""
    inside, whole = make_counts(n=400)
    inside, whole = np.repeat(inside, 4), np.repeat(whole, 4)
    images = [f"image {index // 4}" for index in range(len(inside))]
    alone, together = (bootstrap_intervals(inside, whole, image_ids=ids).scores["mIoU"] for ids in (None, images))
    assert (together[1] - together[0]) / (alone[1] - alone[0]) == pytest.approx(2, rel=0.12)


@pytest.mark.parametrize("with_images", [True, False])
def test_order_changes_nothing_and_the_seed_does(with_images):
    inside, whole = make_counts()
    images = [f"image {index % 60}" for index in range(len(inside))]
    order = np.random.default_rng(1).permutation(len(inside))
    straight = bootstrap_intervals(inside, whole, image_ids=images if with_images else None)
    shuffled = bootstrap_intervals(
        inside[order], whole[order], image_ids=[images[i] for i in order] if with_images else None
    )
    assert straight == shuffled
    other = bootstrap_intervals(inside, whole, image_ids=images if with_images else None, seed=1)
    assert other.scores != straight.scores


def test_large_splits_are_drawn_in_chunks_with_the_same_result(monkeypatch):
    inside, whole = make_counts()
    expected = bootstrap_intervals(inside, whole, num_resamples=301).scores
    monkeypatch.setattr("processing_rrsis.metrics.confidence.CHUNK_DRAWS", 10_000)
    found = bootstrap_intervals(inside, whole, num_resamples=301).scores
    assert list(found) == list(expected)
    assert np.array(list(found.values())) == pytest.approx(np.array(list(expected.values())))


def test_empty_masks_leave_the_overall_iou_undefined():
    found = bootstrap_intervals([0, 0], [0, 0])
    assert found.scores["mIoU"] == (0.0, 0.0)
    plain = found.to_dict()
    assert plain["oIoU"] == [None, None]
    assert json.loads(json.dumps(plain))["method"] == "percentile bootstrap, drawing samples"
    assert set(SCORE_NAMES) <= set(plain)


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        (([], []), {}, "one length, at least 1"),
        (([1], [1, 2]), {}, r"shapes \(1,\) and \(2,\)"),
        (([0.5], [1.0]), {}, "integers, got float64"),
        (([1, 3], [2, 2]), {}, "got 3 and 2 for sample 1"),
        (([1], [2]), {"confidence": 1.0}, "confidence between 0 and 1"),
        (([1], [2]), {"num_resamples": 10}, "at least 100"),
        (([1], [2]), {"image_ids": []}, r"one image id per sample \(1\), got 0"),
    ],
)
def test_bad_input_is_named(counts, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_intervals(*counts, **options)
