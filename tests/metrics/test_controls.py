"""The text controls: right texts, no sample with its own, and one evaluation per control."""

from collections import Counter

import datasets
import pytest

from processing_rrsis.data.inputs.collate import ReferringCollator
from processing_rrsis.metrics.controls import CONTROLS, control_expressions, evaluate_with_controls

from .evaluation_fakes import FakeModel, FakeProcessor, make_dataset


def texts_only(expressions, images=None):
    columns = {"expression": expressions, "category": ["ship"] * len(expressions)}
    return datasets.Dataset.from_dict(columns if images is None else {**columns, "image_id": images})


def test_what_the_controls_say():
    dataset = make_dataset()
    assert control_expressions(dataset, "expression") == list(dataset["expression"])
    assert control_expressions(dataset, "category")[:2] == ["The ship", "The storage tank"]
    assert control_expressions(dataset, "blank") == [""] * 7


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_is_a_permutation_without_own_texts_and_images(seed):
    texts = [f"text {index % 20}" for index in range(60)]
    images = [f"image {index // 3}" for index in range(60)]
    shuffled = control_expressions(texts_only(texts, images), "shuffled", seed=seed)
    assert Counter(shuffled) == Counter(texts)
    assert all(new != own for new, own in zip(shuffled, texts, strict=True))
    at_image = {image: {texts[i] for i in range(60) if images[i] == image} for image in images}
    assert sum(new in at_image[image] for new, image in zip(shuffled, images, strict=True)) == 0


def test_shuffled_depends_on_the_seed_alone():
    dataset = texts_only([f"text {index}" for index in range(30)])
    assert control_expressions(dataset, "shuffled", seed=1) == control_expressions(dataset, "shuffled", seed=1)
    assert control_expressions(dataset, "shuffled", seed=1) != control_expressions(dataset, "shuffled", seed=2)


@pytest.mark.parametrize("seed", range(20))
def test_shuffled_where_one_text_is_on_half_of_the_samples(seed):
    texts = ["the ship"] * 4 + ["a", "a", "b", "c"]
    shuffled = control_expressions(texts_only(texts), "shuffled", seed=seed)
    assert Counter(shuffled) == Counter(texts)
    assert all(new != own for new, own in zip(shuffled, texts, strict=True))


def test_two_expressions_of_one_image_still_swap():
    dataset = texts_only(["a", "b"], images=["one", "one"])
    assert control_expressions(dataset, "shuffled") == ["b", "a"]


@pytest.mark.parametrize(
    ("dataset", "control", "message"),
    [
        (texts_only(["a", "a", "b"]), "shuffled", "more than half of the samples, got 'a' on 2 of 3"),
        (texts_only(["a"]), "shuffled", "more than half"),
        (texts_only(["a"]), "swapped", "control of expression, shuffled, category, blank"),
        (texts_only(["a"]).remove_columns("category"), "category", "column 'category'"),
        (texts_only([]), "blank", "at least one sample"),
    ],
)
def test_bad_input_is_named(dataset, control, message):
    with pytest.raises(ValueError, match=message):
        control_expressions(dataset, control)


def test_every_control_is_evaluated():
    dataset, processor = make_dataset(), FakeProcessor()
    results = evaluate_with_controls(
        FakeModel(), dataset, ReferringCollator(processor), seed=3, progress=False, batch_size=4
    )
    assert tuple(results) == CONTROLS
    expected = [text for control in CONTROLS for text in control_expressions(dataset, control, seed=3)]
    assert processor.seen == expected
    assert len({tuple(result.intersections.tolist()) for result in results.values()}) > 1
