"""The metric against the released evaluation code, hand-worked numbers and its `evaluate` module."""

import json
import math
import re
from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch
from PIL import Image

import processing_rrsis
from processing_rrsis.metrics.confidence import bootstrap_intervals
from processing_rrsis.metrics.referring_iou import (
    THRESHOLDS,
    ReferringIoU,
    as_binary_mask,
    compute_referring_iou,
    intersection_and_union,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "metrics.json").read_text(encoding="utf-8"))
MODULE = Path(processing_rrsis.__file__).parent / "metrics" / "rrsis_iou"


@pytest.fixture
def load_module(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return lambda name=None: evaluate.load(str(MODULE), name, cache_dir=str(tmp_path))


@pytest.fixture
def random_masks():
    generator = np.random.default_rng(7)
    shapes = [(generator.integers(1, 9), generator.integers(1, 9)) for _ in range(30)]
    predictions = [generator.random(shape) < 0.5 for shape in shapes]
    references = [generator.random(shape) < 0.5 for shape in shapes]
    return predictions, references, [("ship", "dam", "storage tank")[i % 3] for i in range(30)]


@pytest.mark.parametrize("name", sorted(GOLDEN["sets"]))
def test_equals_the_released_evaluation(name):
    golden = GOLDEN["sets"][name]
    items = golden["items"]
    for item in items:
        assert intersection_and_union(item["pred"], item["target"]) == (item["I"], item["U"])
    scores = compute_referring_iou([item["pred"] for item in items], [item["target"] for item in items])
    assert f"{scores['mIoU']:.2f}" == golden["mean_iou"]
    assert f"{scores['oIoU']:.2f}" == golden["overall_iou"]
    for threshold, share in golden["precision"].items():
        assert f"{scores[f'Pr@{threshold}']:.2f}" == share
    assert scores["n"] == len(items)
    assert set(scores) == {"mIoU", "oIoU", "n", *(f"Pr@{x}" for x in THRESHOLDS)}


def test_scores_worked_by_hand():
    # IoU 1/2, 2/2 and 0/0: mean (0.5 + 1 + 0) / 3, overall (1 + 2 + 0) / (2 + 2 + 0).
    predictions = [[[1, 1], [0, 0]], [[0, 1], [0, 1]], [[0, 0], [0, 0]]]
    references = [[[1, 0], [0, 0]], [[0, 1], [0, 1]], [[0, 0], [0, 0]]]
    scores = compute_referring_iou(predictions, references, categories=["ship", "dam", "ship"])
    assert scores["mIoU"] == pytest.approx(50.0)
    assert scores["oIoU"] == pytest.approx(75.0)
    assert scores["Pr@0.5"] == pytest.approx(200 / 3)
    assert scores["Pr@0.6"] == pytest.approx(100 / 3)
    assert scores["per_category"] == {"dam": 100.0, "ship": 25.0}
    assert scores["category_average"] == pytest.approx(62.5)


@pytest.mark.parametrize("unknown", [None, "", " "])
def test_a_blank_category_is_none_of_the_categories(load_module, unknown):
    # IoU 1/2, 2/2 and 0/2; the last one counts in mIoU alone.
    predictions = [[[1, 1], [0, 0]], [[0, 1], [0, 1]], [[0, 0], [0, 0]]]
    references = [[[1, 0], [0, 0]], [[0, 1], [0, 1]], [[1, 1], [0, 0]]]
    for compute in (
        lambda names: compute_referring_iou(predictions, references, categories=names),
        lambda names: load_module().compute(predictions=predictions, references=references, categories=names),
    ):
        scores = compute(["ship", "dam", unknown])
        assert scores["mIoU"] == pytest.approx(50.0)
        assert scores["per_category"] == {"dam": 100.0, "ship": 50.0}
        assert scores["category_average"] == pytest.approx(75.0)
        assert set(compute([unknown] * 3)) == set(compute(None))
    metric = ReferringIoU()
    metric.update(1, 2, category=unknown, kind=unknown)
    assert (metric.by_category(), metric.by_kind()) == ({}, {})


def test_all_empty_masks_score_zero_and_the_overall_iou_is_undefined():
    empty = np.zeros((2, 3), dtype=bool)
    scores = compute_referring_iou([empty], [empty])
    assert scores["mIoU"] == 0.0
    assert scores["Pr@0.5"] == 0.0
    assert math.isnan(scores["oIoU"])


@pytest.mark.parametrize(
    "mask",
    [
        np.array([[1, 0], [0, 1]], dtype=np.uint8),
        np.array([[255, 0], [0, 255]], dtype=np.uint8),
        np.array([[1.0, 0.0], [0.0, 1.0]]),
        torch.tensor([[True, False], [False, True]]),
        Image.fromarray(np.array([[255, 0], [0, 255]], dtype=np.uint8)),
    ],
    ids=["0/1", "0/255", "float", "tensor", "image"],
)
def test_forms_of_a_mask(mask):
    assert as_binary_mask(mask).tolist() == [[True, False], [False, True]]


def test_any_split_and_order_gives_the_same_last_digit():
    generator = np.random.default_rng(3)
    unions = generator.integers(1, 10_000, size=500)
    counts = [(int(generator.integers(0, union + 1)), int(union)) for union in unions]
    names = [("ship", "dam")[i % 2] for i in range(500)]
    whole, parts = ReferringIoU(), [ReferringIoU() for _ in range(3)]
    for (intersection, union), name in zip(counts, names, strict=True):
        whole.update(intersection, union, category=name, kind=name.upper())
    for position in generator.permutation(500):
        parts[position % 3].update(*counts[position], category=names[position], kind=names[position].upper())
    merged = ReferringIoU()
    for part in parts:
        merged.merge(part)
    assert merged.compute() == whole.compute()
    assert merged.by_category() == whole.by_category()
    assert merged.by_kind() == whole.by_kind()
    assert list(merged.by_kind()) == ["DAM", "SHIP"]
    exact = math.fsum(intersection / union for intersection, union in counts) / 500
    assert whole.compute()["mIoU"] == pytest.approx(100 * exact, rel=1e-15)


def test_the_accumulator_stays_small():
    metric = ReferringIoU()
    for union in range(1, 3000):
        metric.update(union // 3, union)
    assert metric._overall.iou_sum.denominator.bit_length() < 128


@pytest.mark.parametrize(
    ("predictions", "references", "categories", "message"),
    [
        ([], [], None, "at least one sample"),
        ([[[1]]], [], None, "as many predictions as references, got 1 and 0"),
        ([[[1]]], [[[1]]], [], "one category per prediction"),
        ([[[1, 0]]], [[[1], [0]]], None, r"Sample 0: Expected prediction and reference of one shape"),
        ([[[0.2, 0.7]]], [[[1, 0]]], None, "binary .* got the values 0.2, 0.7"),
        ([[[0, 1, 255]]], [[[1, 0, 0]]], None, "binary .* got the values 0, 1, 255"),
        ([[[math.nan, 1]]], [[[1, 0]]], None, "binary"),
        ([[1, 0]], [[1, 0]], None, r"one mask of shape \(H, W\), got shape \(2,\)"),
        ([np.zeros((0, 4))], [np.zeros((0, 4))], None, "at least one pixel"),
        ([[["a"]]], [[[1]]], None, "bool or numbers"),
    ],
)
def test_bad_input_is_named(predictions, references, categories, message):
    with pytest.raises(ValueError, match=message):
        compute_referring_iou(predictions, references, categories)


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="0 <= intersection <= union"):
        ReferringIoU().update(3, 2)


def test_evaluate_module_equals_the_metric(load_module, random_masks):
    predictions, references, categories = random_masks
    expected = compute_referring_iou(predictions, references, categories=categories)
    as_lists = {
        "predictions": [mask.astype(np.uint8).tolist() for mask in predictions],
        "references": [mask.astype(np.uint8).tolist() for mask in references],
    }
    scores = load_module().compute(**as_lists, categories=categories)
    assert scores.pop("per_category") == pytest.approx(expected.pop("per_category"))
    assert scores == pytest.approx(expected)


def test_evaluate_module_takes_arrays_in_batches_and_counts(load_module, random_masks):
    predictions, references, _ = random_masks
    expected = compute_referring_iou(predictions, references)
    metric = load_module()
    for start in range(0, 30, 10):
        metric.add_batch(predictions=predictions[start : start + 10], references=references[start : start + 10])
    assert metric.compute() == pytest.approx(expected)
    counts = [intersection_and_union(p, r) for p, r in zip(predictions, references, strict=True)]
    scores = load_module("counts").compute(predictions=[i for i, _ in counts], references=[u for _, u in counts])
    assert scores == pytest.approx(expected)


@pytest.mark.parametrize("with_images", [False, True])
def test_evaluate_module_gives_the_same_intervals(load_module, with_images):
    generator = np.random.default_rng(11)
    unions = generator.integers(0, 900, size=120)
    inside = (unions * generator.random(120)).astype(int)
    images = [f"image {number}" for number in generator.integers(0, 40, size=120)] if with_images else None
    expected = bootstrap_intervals(inside, unions, image_ids=images, confidence=0.9, num_resamples=300, seed=5)
    scores = load_module("counts").compute(
        predictions=inside,
        references=unions,
        confidence_level=0.9,
        image_ids=images,
        resamples=300,
        seed=5,
    )
    found = scores["confidence_intervals"]
    assert list(found) == list(expected.scores)
    for name, bounds in expected.scores.items():
        assert found[name] == pytest.approx(list(bounds), rel=1e-12)
        assert bounds[0] < scores[name] < bounds[1]


def test_evaluate_module_without_pixels_has_no_interval_of_the_overall_iou(load_module):
    options = {"predictions": [0, 0], "references": [0, 0]}
    found = load_module("counts").compute(**options, confidence_level=0.95)["confidence_intervals"]
    assert np.isnan(found["oIoU"]).all()
    assert found["mIoU"] == [0.0, 0.0]
    assert "confidence_intervals" not in load_module("counts").compute(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence_level": 1.0}, "confidence_level between 0 and 1"),
        ({"confidence_level": 0.9, "resamples": 9}, "at least 100 resamples, got 0.9 and 9"),
        ({"confidence_level": 0.9, "image_ids": ["a"]}, r"one image id per sample \(2\), got 1"),
    ],
)
def test_evaluate_module_refuses_impossible_intervals(load_module, options, message):
    with pytest.raises(ValueError, match=message):
        load_module("counts").compute(predictions=[1, 1], references=[1, 2], **options)


@pytest.mark.parametrize("values", [[[0.4, 0.9]], [[-1.0, 1.0]], [[float("nan"), 1.0]], [[256, 1]], [[0, 7]]])
def test_evaluate_module_checks_values_before_the_cast(load_module, values):
    whole = [[[0, 1]]]
    with pytest.raises(ValueError, match="Sample 0: Expected the prediction to be binary") as expected:
        compute_referring_iou([values], whole)
    shown = re.escape(str(expected.value).partition("got the values")[2].partition(". Threshold")[0])
    with pytest.raises(ValueError, match=f"Sample 0: Expected the prediction to be binary.*got the values{shown}"):
        load_module().compute(predictions=[values], references=whole)
    with pytest.raises(ValueError, match="the reference to be binary"):
        load_module().add_batch(predictions=whole, references=[values])
    with pytest.raises(ValueError, match="the prediction to be binary"):
        load_module().add(prediction=np.array(values), reference=whole[0])
    metric = load_module()
    metric.add(prediction=np.array([[0.0, 1.0]]), reference=np.array([[False, True]]))
    assert metric.compute()["mIoU"] == 100.0


@pytest.mark.parametrize("configuration", ["masks", "counts"])
def test_evaluate_module_refuses_no_samples(load_module, configuration):
    for inputs in ({"predictions": [], "references": []}, {}):
        with pytest.raises(ValueError, match="at least one sample to score, got none"):
            load_module(configuration).compute(**inputs)
    metric = load_module(configuration)
    metric.add_batch(predictions=[], references=[])
    with pytest.raises(ValueError, match="at least one sample to score, got none"):
        metric.compute()
    with pytest.raises(ValueError, match="as many predictions as references, got 1 and 0"):
        load_module(configuration).compute(predictions=[[[1]]], references=[])


def test_evaluate_module_refuses_8_bit_masks_and_unknown_configurations(load_module):
    with pytest.raises(ValueError, match="masks of 0 and 1"):
        load_module().compute(predictions=[[[255, 0]]], references=[[[1, 0]]])
    with pytest.raises(ValueError, match='"masks" or "counts"'):
        load_module("boxes")
