"""The evaluation loop: exact counts for any batch size and number of processes, nothing disturbed."""

import json
import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator, debug_launcher
from accelerate.state import AcceleratorState
from PIL import Image
from rich.progress import Progress
from torch.nn import functional as F

from processing_rrsis.data.inputs.collate import ReferringCollator
from processing_rrsis.metrics.confidence import bootstrap_intervals
from processing_rrsis.metrics.evaluation import TIE_MARGIN, evaluate_model
from processing_rrsis.metrics.referring_iou import compute_referring_iou

from .evaluation_fakes import INPUT_SIZE_PX, FakeModel, FakeProcessor, make_dataset


def evaluate(dataset, model=None, **options):
    collator = options.pop("collator", None) or ReferringCollator(FakeProcessor())
    return evaluate_model(model or FakeModel(), dataset, collator, progress=False, **options)


def predict(dataset, index):
    """Log-odds (8, 8) and label (8, 8) of one sample, without the loop."""
    batch = ReferringCollator(FakeProcessor())([dataset[index]])
    with torch.no_grad():
        logits = FakeModel().eval()(batch["pixel_values"], batch["input_ids"]).logits
    return logits[0], batch["labels"][0]


def test_scores_equal_the_metric_on_the_masks():
    dataset = make_dataset()
    pairs = [predict(dataset, index) for index in range(len(dataset))]
    expected = compute_referring_iou(
        [(logits > 0).numpy() for logits, _ in pairs],
        [labels.numpy() for _, labels in pairs],
        categories=list(dataset["category"]),
    )
    result = evaluate(dataset, batch_size=3)
    assert result.overall == expected
    assert result.by_category["ship"]["mIoU"] == expected["per_category"]["ship"]
    sizes = {kind: scores["n"] for kind, scores in result.by_kind.items()}
    assert sizes == {"category": 3, "colour": 2, "relation": 2}
    assert result.ious.mean() * 100 == pytest.approx(expected["mIoU"])
    assert result.intersections.dtype == np.int64
    assert result.absent is None


def test_native_resolution_resizes_the_log_odds():
    dataset = make_dataset()
    predictions, references = [], []
    for index in range(len(dataset)):
        logits, _ = predict(dataset, index)
        reference = np.asarray(dataset[index]["mask"]) > 127
        resized = F.interpolate(logits[None, None], size=reference.shape, mode="bilinear", align_corners=False)[0, 0]
        predictions.append((resized > 0).numpy())
        references.append(reference)
    expected = compute_referring_iou(predictions, references, categories=list(dataset["category"]))
    result = evaluate(dataset)
    assert result.native == expected
    assert result.resolution == "8×8 px (model input); native: own size of each mask, 3 of 7 differ from the input"


def test_no_native_scores_where_nothing_was_resized():
    result = evaluate(make_dataset(native_size_px=INPUT_SIZE_PX))
    assert result.native is None
    assert result.resolution == "8×8 px (model input)"


def test_batch_size_and_workers_change_nothing():
    dataset = make_dataset()
    reference = evaluate(dataset, batch_size=1)
    for options in ({"batch_size": 4}, {"batch_size": 100}, {"batch_size": 3, "num_workers": 1}):
        other = evaluate(dataset, **options)
        assert (other.overall, other.native, other.by_kind) == (reference.overall, reference.native, reference.by_kind)
        assert other.intersections.tolist() == reference.intersections.tolist()


def evaluate_on_all_processes(expected):
    accelerator = Accelerator(cpu=True)
    model = accelerator.prepare(FakeModel())
    for batch_size in (1, 2, 7):
        result = evaluate(make_dataset(), model=model, accelerator=accelerator, batch_size=batch_size)
        assert accelerator.num_processes == 2
        assert result.intersections.tolist() == expected["intersections"]
        assert result.native_unions.tolist() == expected["native_unions"]
        assert result.overall == expected["overall"]
        assert result.to_dict()["by_kind"] == expected["by_kind"]


def test_two_processes_give_the_same_last_digit():
    single = evaluate(make_dataset())
    expected = {
        "intersections": single.intersections.tolist(),
        "native_unions": single.native_unions.tolist(),
        "overall": single.overall,
        "by_kind": single.to_dict()["by_kind"],
    }
    AcceleratorState._reset_state(reset_partial_state=True)  # the processes inherit it from an earlier test
    debug_launcher(evaluate_on_all_processes, args=(expected,), num_processes=2)


class BatchNoise(torch.nn.Module):
    """Log-odds in steps of 0.5, many of them 0, moved by 1e-4 for every further sample of the batch."""

    def __init__(self):
        super().__init__()
        self.network = FakeModel()
        self.batches = []

    def forward(self, pixel_values, input_ids):
        output = self.network(pixel_values, input_ids)
        self.batches.append(len(pixel_values))
        output.logits = (output.logits * 2).round() / 2 + 1e-4 * (len(pixel_values) - 1)
        return output


def test_ties_are_decided_by_batches_of_one():
    dataset, model = make_dataset(), BatchNoise()
    alone = evaluate(dataset, model=model, batch_size=1)
    moved = evaluate(dataset, model=model, batch_size=7)
    assert moved.intersections.tolist() != alone.intersections.tolist()
    assert moved.batch_check is None
    for margin in (TIE_MARGIN, math.inf):
        for batch_size in (1, 2, 7):
            result = evaluate(dataset, model=model, batch_size=batch_size, tie_margin=margin)
            assert result.intersections.tolist() == alone.intersections.tolist()
            assert result.native_unions.tolist() == alone.native_unions.tolist()
    model.batches.clear()
    checked = evaluate(dataset, model=model, batch_size=7, tie_margin=TIE_MARGIN)
    assert model.batches == [7] + [1] * 7  # every sample of this model has a pixel at 0
    assert checked.batch_check == {"margin": 1e-3, "repeated": 7, "largest_difference": pytest.approx(6e-4, rel=1e-2)}
    model.batches.clear()
    every = evaluate(dataset, model=model, batch_size=7, tie_margin=math.inf)
    assert model.batches == [1] * 7
    assert every.batch_check["margin"] == "every sample alone"


def test_samples_without_a_tie_run_once():
    model = BatchNoise()
    result = evaluate(make_dataset(native_size_px=INPUT_SIZE_PX), model=model, threshold=0.56, tie_margin=TIE_MARGIN)
    assert model.batches == [7]  # log-odds of 0.24 lie between two steps
    assert result.batch_check["repeated"] == 0


def test_intervals_of_a_result_draw_images():
    result = evaluate(make_dataset())
    assert result.image_ids[:3] == ["scene-0", "scene-0", "scene-1"]
    found = result.intervals(num_resamples=200)
    assert (found.unit, found.num_units) == ("image", 4)
    ships = result.intervals(category="ship", num_resamples=200)
    assert (
        ships.scores
        == bootstrap_intervals(
            result.intersections[::2],
            result.unions[::2],
            image_ids=result.image_ids[::2],
            num_resamples=200,
        ).scores
    )
    native = result.intervals(native=True, num_resamples=200).scores["mIoU"]
    assert native[0] <= result.native["mIoU"] <= native[1]
    assert native != found.scores["mIoU"]
    with pytest.raises(ValueError, match="category 'dam', the split has none"):
        result.intervals(category="dam")


def test_training_goes_on_undisturbed():
    model = FakeModel()
    model.train()
    model.dropout.eval()  # a frozen part stays frozen
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    evaluate(make_dataset(), model=model)
    assert torch.equal(torch.rand(3), expected)
    assert model.training
    assert not model.dropout.training


def test_ignored_pixels_are_not_scored():
    def collate(rows):
        batch = ReferringCollator(FakeProcessor())(rows)
        batch["labels"][:, :, 4:] = 255
        return batch

    dataset = make_dataset(native_size_px=INPUT_SIZE_PX)
    pairs = [predict(dataset, index) for index in range(len(dataset))]
    result = evaluate(dataset, collator=collate)
    for index, (logits, labels) in enumerate(pairs):
        union = ((logits > 0) | (labels == 1))[:, :4].sum()
        assert result.unions[index] == union


def test_threshold_is_a_probability():
    dataset = make_dataset(native_size_px=INPUT_SIZE_PX)
    result = evaluate(dataset, threshold=0.6)
    for index in range(len(dataset)):
        logits, labels = predict(dataset, index)
        assert result.intersections[index] == ((logits.sigmoid() > 0.6) & (labels == 1)).sum()


def test_absent_objects_are_reported():
    dataset = make_dataset(native_size_px=INPUT_SIZE_PX, empty_masks=True)
    areas = [float((predict(dataset, index)[0] > 0).float().mean()) for index in range(len(dataset))]
    result = evaluate(dataset)
    assert result.absent["n"] == len(dataset)
    assert result.absent["empty_prediction"] == 0.0
    assert result.absent["predicted_area"] == pytest.approx(100 * np.mean(areas))
    quiet = evaluate(dataset, threshold=0.999999)
    assert quiet.absent == {"n": 7, "empty_prediction": 100.0, "predicted_area": 0.0}
    assert math.isnan(quiet.overall["oIoU"])
    assert json.loads(json.dumps(quiet.to_dict()))["overall"]["oIoU"] is None


def test_present_and_absent_objects_as_gres_scores_them():
    rows = list(make_dataset(num_samples=4, native_size_px=INPUT_SIZE_PX))
    empty = Image.new("L", rows[0]["mask"].size)
    rows[1]["mask"] = rows[2]["mask"] = empty
    result = evaluate(rows)
    ious = result.intersections / result.unions
    assert result.absent["T_acc"] == 100.0
    assert result.absent["gIoU"] == pytest.approx(100 * (ious[0] + ious[3]) / 4)  # of two, wrongly, something is found
    quiet = evaluate(rows, threshold=0.999999).absent
    assert (quiet["empty_prediction"], quiet["T_acc"], quiet["gIoU"]) == (100.0, 0.0, 50.0)


def test_other_expressions_also_blank_ones():
    dataset, processor = make_dataset(), FakeProcessor()
    collator = ReferringCollator(processor)
    texts = ["", "a", "bb", "", "the ship", "x", "y"]
    result = evaluate(dataset, collator=collator, expressions=texts)
    assert processor.seen == texts
    assert not collator.allow_empty_text
    assert result.intersections.tolist() != evaluate(dataset).intersections.tolist()


def test_rows_in_a_list_without_kind_or_category():
    rows = [{key: row[key] for key in ("image", "mask", "expression")} for row in make_dataset()]
    result = evaluate(rows)
    assert result.by_kind == {}
    assert result.by_category == {}
    assert result.overall["mIoU"] == evaluate(make_dataset()).overall["mIoU"]


def test_blank_categories_are_unknown():
    rows = [{**row, "category": ("", " ", "ship")[index % 3]} for index, row in enumerate(make_dataset())]
    result = evaluate(rows)
    assert set(result.by_category) == set(result.overall["per_category"]) == {"ship"}
    assert result.categories[:4] == [None, None, "ship", None]


def test_a_given_progress_is_used_and_cleaned_up():
    with Progress(disable=True) as progress:
        evaluate_model(FakeModel(), make_dataset(), ReferringCollator(FakeProcessor()), progress=progress)
        assert progress.tasks == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch size of at least 1"),
        ({"threshold": 1.0}, "threshold between 0 and 1"),
        ({"tie_margin": 0.0}, "tie margin above 0"),
        ({"expressions": ["a"]}, r"one expression per sample \(7\), got 1"),
        ({"collator": lambda rows: {"pixel_values": torch.zeros(1)}}, "collator to return"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(make_dataset(), **options)


def test_datasets_that_cannot_be_scored():
    with pytest.raises(ValueError, match="at least one sample"):
        evaluate([])
    with pytest.raises(ValueError, match="without streaming"):
        evaluate(make_dataset().to_iterable_dataset())


def test_bad_log_odds_are_named():
    diverged = FakeModel()
    torch.nn.init.constant_(diverged.scale, float("nan"))
    with pytest.raises(ValueError, match=r"NaN or infinity for the samples \[0, 1"):
        evaluate(make_dataset(), model=diverged)

    def cropped(pixel_values, input_ids):
        output = FakeModel().eval()(pixel_values, input_ids)
        output.logits = output.logits[:, 1:]
        return output

    with pytest.raises(ValueError, match="log-odds of the labels' shape"):
        evaluate(make_dataset(), model=cropped)
