"""The contact sheet and the curves: what is chosen, that failures are marked, that bad files are named."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from processing_rrsis.reports.curves import (
    SheetSample,
    contact_sheet,
    predict_samples,
    read_metrics,
    select_for_sheet,
    training_curves,
)
from processing_rrsis.reports.sheet import PREDICTION_COLOUR, TRUTH_COLOUR

RED = (200, 30, 40)


def make_sample(iou=0.9, expression="The small white ship on the upper left", kind="colour+position"):
    mask = np.zeros((48, 48), dtype=bool)
    mask[10:30, 10:30] = True
    picture = Image.fromarray(np.full((48, 48, 3), 128, dtype=np.uint8))
    return SheetSample(picture, expression, kind, prediction=mask, reference=np.roll(mask, 9, axis=1), iou=iou)


def has_colour(path, colour):
    return bool((np.asarray(Image.open(path).convert("RGB")) == colour).all(axis=-1).any())


def test_selection_is_by_rule_and_covers_kinds():
    ious = [0.0, 0.1, 0.9, 0.95, 0.5, 0.55, 0.0, 0.8]
    kinds = ["colour", "colour", "colour", "size", "size", "size", "relation", "relation"]
    chosen = select_for_sheet(ious, kinds, 4)
    assert chosen == select_for_sheet(ious, kinds, 4)
    assert len(set(chosen)) == 4
    assert chosen == sorted(chosen, key=lambda index: -ious[index])
    assert {kinds[index] for index in chosen} == {"colour", "size", "relation"}
    assert ious[chosen[-1]] == 0.0  # the worst quarter
    assert ious[chosen[0]] == 0.95  # the best quarter


def test_selection_prefers_images_that_are_not_shown_yet():
    chosen = select_for_sheet([0.9, 0.8, 0.7, 0.1], None, 2, image_ids=["a", "a", "b", "b"])
    assert {"a", "b"} == {"aabb"[index] for index in chosen}


@pytest.mark.parametrize("n", [1, 2, 3, 5, 50])
def test_selection_never_repeats_a_sample(n):
    chosen = select_for_sheet(np.linspace(0, 1, 9), None, n)
    assert len(chosen) == len(set(chosen)) == min(n, 9)


def test_selection_names_bad_input():
    with pytest.raises(ValueError, match="at least one sample"):
        select_for_sheet([], None, 3)
    with pytest.raises(ValueError, match="one kind and one image per IoU"):
        select_for_sheet([0.1], ["a", "b"], 3)


def test_sheet_has_readme_width_and_both_masks(tmp_path):
    path = contact_sheet([make_sample() for _ in range(3)], tmp_path / "sheet.png", title="mIoU 61.3 / shuffled 18.2")
    width, height = Image.open(path).size
    assert 1200 <= width <= 1600
    assert height < 900
    assert has_colour(path, PREDICTION_COLOUR)
    assert has_colour(path, TRUTH_COLOUR)


def test_only_failures_have_a_red_frame(tmp_path):
    def frame(iou):
        path = contact_sheet([make_sample(iou=iou)], tmp_path / "sheet.png", title="t", columns=1, tile_px=64)
        tile_row = np.asarray(Image.open(path).convert("RGB"))[-60]
        return bool((tile_row == RED).all(axis=-1).any())

    assert frame(0.49)
    assert not frame(0.5)


def test_long_texts_and_empty_masks_still_draw(tmp_path):
    long = make_sample(expression="a very long expression " * 20)
    empty = SheetSample(long.image.convert("L"), "", "", np.zeros((7, 5), bool), np.zeros((9, 9), bool), iou=0.0)
    assert contact_sheet([long, empty], tmp_path / "sheet.png", title="words " * 60).is_file()


def test_sheet_names_bad_input(tmp_path):
    with pytest.raises(ValueError, match="at least one sample"):
        contact_sheet([], tmp_path / "sheet.png", title="t")
    with pytest.raises(ValueError, match="at least 1 column"):
        contact_sheet([make_sample()], tmp_path / "sheet.png", title="t", columns=0)


def test_predicted_samples_are_the_models_and_carry_their_iou():
    half = Image.fromarray(np.repeat(np.array([[255, 0]], dtype=np.uint8), 2, axis=0))
    row = {"image": half.convert("RGB"), "mask": half, "expression": "the left", "kind": "position"}

    def collate(rows):
        return {"pixel_values": torch.zeros(1, 3, 2, 2), "labels": torch.tensor([[[1, 0], [1, 0]]])}

    def model(pixel_values):
        return SimpleNamespace(logits=torch.tensor([[[1.0, 1.0], [1.0, -1.0]]]))

    (sample,) = predict_samples(model, [row], [0], collate)
    assert sample.prediction.tolist() == [[True, True], [True, False]]
    assert sample.reference.tolist() == [[True, False], [True, False]]
    assert sample.iou == pytest.approx(2 / 3)
    assert (sample.expression, sample.kind, sample.is_failure) == ("the left", "position", False)


def write_run(path, lines):
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_curves_of_a_run_that_was_cut_off(tmp_path):
    records = [{"step": step, "loss": 1 / step, "learning_rate": 1e-3} for step in range(1, 30)]
    records += [{"step": 10, "split": "validation", "mIoU": 20.0, "shuffled/mIoU": 9.0, "per_category": {"ship": 1.0}}]
    run = write_run(tmp_path / "metrics.jsonl", [*records, '{"step": 3'])
    assert len(read_metrics(run)) == 30
    picture = Image.open(training_curves(run, tmp_path / "curves.png"))
    assert picture.size == (1400, 400)
    assert np.asarray(picture.convert("L")).std() > 5


def test_bad_metrics_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="metrics file"):
        training_curves(tmp_path / "none.jsonl", tmp_path / "curves.png")
    damaged = write_run(tmp_path / "damaged.jsonl", [{"step": 1, "loss": 1.0}, "{oops", {"step": 2, "loss": 1.0}])
    with pytest.raises(ValueError, match="line 2 is damaged"):
        training_curves(damaged, tmp_path / "curves.png")
    empty = write_run(tmp_path / "empty.jsonl", [{"step": 1, "note": "nothing"}])
    with pytest.raises(ValueError, match="`step` and `loss` or `mIoU`"):
        training_curves(empty, tmp_path / "curves.png")
