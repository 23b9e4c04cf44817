"""Augmentation: image, mask and words change together, the same way every time."""

import numpy as np
import pytest
import torch
from PIL import Image

from processing_rrsis.data.inputs.augmentation import Augmentation, paint_boxes
from processing_rrsis.data.inputs.collate import ReferringCollator
from processing_rrsis.training.sampling import KeyedRows, SampleKey

from ...tiny import TINY_SIZE, build_tiny_processor


def make_row(index=0, expression="the ship on the upper left", **changes):
    """The target is the upper left quarter, red; the rest is blue."""
    image, mask = Image.new("RGB", (40, 20), (0, 0, 255)), Image.new("L", (40, 20))
    image.paste((255, 0, 0), (0, 0, 20, 10))
    mask.paste(255, (0, 0, 20, 10))
    row = {"image": image, "mask": mask, "expression": expression, "sample_id": f"s{index}", "index": index}
    return {**row, **changes}


def red(row):
    """Where the picture is red, bool (H, W)."""
    return np.asarray(row["image"])[..., 0] == 255


def quarter(row):
    """Which quarter the target fills, by its words, its mask and its colour, which have to agree."""
    words = " ".join(row["expression"].split()[-2:])
    target = np.asarray(row["mask"]) > 0
    assert np.array_equal(target, red(row))
    top, left = target[:10].any(), target[:, :20].any()
    assert words == f"{'upper' if top else 'lower'} {'left' if left else 'right'}"
    return words


def test_image_mask_and_words_agree():
    both = Augmentation(flip=True, vflip=True)
    seen = [quarter(both(make_row(index))) for index in range(200)]
    assert {name: seen.count(name) for name in set(seen)} == pytest.approx(
        dict.fromkeys(("upper left", "upper right", "lower left", "lower right"), 50), abs=20
    )
    horizontal = Augmentation(flip=True)
    assert {quarter(horizontal(make_row(index))) for index in range(30)} == {"upper left", "upper right"}


def test_a_refused_expression_leaves_its_image_alone():
    text = "the ship right next to the upper left"
    for index in range(20):
        row = make_row(index, expression=text)
        changed = Augmentation(flip=True)(row)
        assert changed == row


def test_it_depends_on_seed_epoch_and_sample_alone():
    def draw(seed, epoch, order):
        augmentation = Augmentation(flip=True, boxes=True, seed=seed)
        np.random.seed(len(order))  # the global state must not matter
        rows = {index: augmentation({**make_row(index), "epoch": epoch}) for index in order}
        return [(row["expression"], row["image"].tobytes()) for _, row in sorted(rows.items())]

    forwards = draw(0, 3, range(40))
    assert draw(0, 3, range(39, -1, -1)) == forwards
    assert draw(0, 4, range(40)) != forwards
    assert draw(1, 3, range(40)) != forwards


def test_a_fixed_fifth_gets_new_boxes_every_epoch():
    augmentation = Augmentation(boxes=True)
    picture = Image.new("RGB", (400, 400), (90, 90, 90))
    chosen = []
    for epoch in range(2):
        rows = [{**make_row(index, image=picture, mask=None), "epoch": epoch} for index in range(300)]
        images = [augmentation(row)["image"] for row in rows]
        chosen.append({index: image.tobytes() for index, image in enumerate(images) if image is not picture})
    assert chosen[0].keys() == chosen[1].keys()
    assert len(chosen[0]) == pytest.approx(60, abs=20)
    assert all(chosen[0][index] != chosen[1][index] for index in chosen[0])


@pytest.mark.parametrize(("size", "side"), [((800, 800), 32), ((801, 787), 32), ((400, 300), 16), ((20, 10), 1)])
def test_boxes_have_the_published_size_and_number(size, side):
    """The number from the black area, which boxes that overlap can only make smaller."""
    picture = Image.new("RGB", size, (255, 255, 255))
    counts = []
    for seed in range(10):
        black = np.asarray(paint_boxes(picture, np.random.default_rng(seed))).sum(axis=2) == 0
        assert black.shape == size[::-1]
        counts.append(black.sum() / side**2)
        rows = np.flatnonzero(black.any(axis=1))
        assert np.diff(np.flatnonzero(np.diff(black[rows[0]], prepend=False, append=False)))[0] >= side
    assert np.asarray(picture).min() == 255
    assert min(counts) > (15 if min(size) > 100 else 0)
    assert max(counts) <= 60


def test_an_image_that_exif_turns_is_mirrored_as_it_is_seen(tmp_path):
    """Stored lying; upright it is 20 wide with its red half at the top."""
    stored = Image.new("RGB", (10, 20), (0, 0, 255))
    stored.paste((255, 0, 0), (0, 0, 5, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to see it upright
    stored.save(tmp_path / "turned.png", exif=exif)
    row = make_row(image=str(tmp_path / "turned.png"), mask=np.zeros((10, 20), dtype=np.uint8))
    changed = next(
        row
        for index in range(20)
        if (row := Augmentation(vflip=True)({**row, "sample_id": str(index)}))["expression"]
        == "the ship on the lower left"
    )
    assert changed["image"].size == (20, 10)
    assert red(changed)[5:].all()
    assert not red(changed)[:5].any()
    assert 0x0112 not in changed["image"].getexif()


def test_names_of_the_command_line():
    assert Augmentation.from_name("none") is None
    both = Augmentation.from_name("flip+boxes", seed=5)
    assert (both.flip, both.vflip, both.boxes, both.seed) == (True, False, True, 5)
    for name in ("rotate", "flip+flip", "flip,boxes", ""):
        with pytest.raises(ValueError, match="joined with"):
            Augmentation.from_name(name)
    with pytest.raises(ValueError, match="sample_id or index"):
        Augmentation(flip=True)({"image": None, "expression": "a ship"})


def test_the_collator_applies_it_in_workers_by_the_rows_epoch():
    collator = ReferringCollator(build_tiny_processor(), augmentation=Augmentation(flip=True))
    rows = KeyedRows([make_row(index) for index in range(8)])
    keys = [[SampleKey(index, epoch) for index in half] for epoch in range(3) for half in (range(4), range(4, 8))]
    loader = torch.utils.data.DataLoader(rows, batch_sampler=keys, collate_fn=collator, num_workers=1)
    batches = list(loader)
    for key, batch in zip(keys, batches, strict=True):
        direct = collator([rows[one] for one in key])
        assert torch.equal(direct["labels"], batch["labels"])
        words = collator.processor.tokenizer.batch_decode(direct["input_ids"], skip_special_tokens=True)
        for label, text in zip(direct["labels"], words, strict=True):
            assert label[0, 0 if text.endswith("left") else TINY_SIZE - 1] == 1
    assert not torch.equal(batches[0]["labels"], batches[2]["labels"])
