"""Rows about absent objects: who is asked about what, empty masks, and a training that sees them."""

import datasets
import numpy as np
import pytest
from PIL import Image

from processing_rrsis.data import load_benchmark
from processing_rrsis.data.absent_rows import missing_rows, with_absent_rows
from processing_rrsis.data.files.rows import row_features

CATEGORIES = ("ship", "dam", "ship", "harbor")
IMAGES = ("1", "1", "2", "3")


def make_rows(categories=CATEGORIES):
    grey = Image.new("L", (12, 8), 255)
    rows = [
        {
            "image": grey.convert("RGB"),
            "mask": grey,
            "expression": f"the {category}",
            "category": category,
            "image_id": image,
            "sample_id": str(number),
        }
        for number, (category, image) in enumerate(zip(categories, IMAGES, strict=True))
    ]
    return datasets.Dataset.from_list(rows, features=row_features())


def test_nobody_is_asked_about_what_the_image_has():
    found = missing_rows(make_rows())
    assert found[:2] == [3, 3]
    assert found[2] in (1, 3)
    assert found[3] in (0, 1, 2)


def test_expressions_are_exchanged_and_masks_emptied():
    rows = make_rows()
    more = with_absent_rows(rows, 0.4)  # 3 of 7
    assert more.features == rows.features
    assert more["sample_id"][:4] == rows["sample_id"]
    assert len(more) == 7
    in_image = {("1", "ship"), ("1", "dam"), ("2", "ship"), ("3", "harbor")}
    for row in more.select(range(4, 7)):
        assert row["sample_id"].startswith("absent-")
        assert (row["image_id"], row["category"]) not in in_image
        assert row["expression"] == f"the {row['category']}"
        assert row["mask"].size == (12, 8)
        assert row["mask"].getextrema() == (0, 0)
    assert all(row["mask"].getextrema() == (255, 255) for row in more.select(range(4)))


def test_what_can_not_be_absent():
    rows = make_rows()
    assert with_absent_rows(rows, 0.0) is rows
    with pytest.raises(
        ValueError, match="--absent_share: expected 4 samples whose images lack a category of the split, 0 do"
    ):
        with_absent_rows(make_rows(["ship"] * 4), 0.5)


def test_near_misses_of_the_embedded_benchmark_are_scenes_of_their_own():
    sizes = {"train_samples": 12, "validation_samples": 0, "test_samples": 0, "test_compositional_samples": 0}
    own = {"image_size_px": 32, "seed": 3}
    data = load_benchmark("synthetic", **sizes, **own, test_absent_samples=4)
    more = with_absent_rows(data["train"], 0.25, synthetic=own)
    added = more.select(range(12, 16))
    assert len(more) == 16
    assert not any(np.asarray(row["mask"]).any() for row in added)
    tests = [np.asarray(row["image"]).tobytes() for row in data["test_absent"]]
    assert not any(np.asarray(row["image"]).tobytes() in tests for row in added)
