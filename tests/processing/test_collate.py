"""Rows to batches."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from processing_rrsis.data.inputs.collate import ReferringCollator
from tests.tiny import TINY_SIZE


def make_row(index, **changes):
    mask = np.zeros((12, 18), dtype=np.uint8)
    mask[:6] = 255
    row = {
        "image": Image.new("RGB", (18, 12), (index, 0, 0)),
        "mask": Image.fromarray(mask),
        "expression": "the ship on the left",
        "category": "ship",
        "sample_id": f"s{index}",
        "index": index,
    }
    return {**row, **changes}


def without(row, *names):
    return {key: value for key, value in row.items() if key not in names}


def test_batch_of_rows(processor):
    batch = ReferringCollator(processor)([make_row(3), make_row(5, expression="a dam")])
    assert sorted(batch) == [
        "attention_mask",
        "ground_object_mask",
        "index",
        "input_ids",
        "labels",
        "pixel_values",
        "spatial_position_mask",
    ]
    assert batch["index"].tolist() == [3, 5]
    assert batch["index"].dtype == torch.int64
    assert batch["labels"].shape == (2, TINY_SIZE, TINY_SIZE)
    assert batch["labels"].float().mean() == 0.5
    assert batch["input_ids"].shape == (2, 7)


def test_without_masks_and_indices(processor):
    batch = ReferringCollator(processor)([without(make_row(0), "mask", "index")])
    assert "labels" not in batch
    assert "index" not in batch


def test_blank_text_where_it_is_allowed(processor):
    empty = ReferringCollator(processor, allow_empty_text=True)([make_row(1, expression="")])
    assert empty["input_ids"].shape == (1, 2)


def test_survives_pickling_and_works_in_a_worker(processor):
    collator = pickle.loads(pickle.dumps(ReferringCollator(processor)))
    loader = torch.utils.data.DataLoader(
        [make_row(i) for i in range(4)], batch_size=2, collate_fn=collator, num_workers=1
    )
    assert [batch["index"].tolist() for batch in loader] == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([], "at least one row"),
        ([make_row(0), without(make_row(1), "mask")], r"row 1 \(s1\).*'mask'"),
        ([without(make_row(4), "expression")], r"s4.*'expression'"),
        ([make_row(2, image=None)], "'image'"),
        ([make_row(0, expression=" ")], "allow_empty_text"),
        ([make_row(0, mask=Image.new("L", (5, 5)))], r"\(12, 18\), got \(5, 5\)"),
    ],
)
def test_bad_rows(processor, rows, match):
    with pytest.raises(ValueError, match=match):
        ReferringCollator(processor)(rows)
