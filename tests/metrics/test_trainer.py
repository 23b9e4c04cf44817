"""`TrainerMetrics` against the metric that it stands for, alone and in the hands of `Trainer`."""

import numpy as np
import pytest
import torch
from transformers import EvalPrediction, Trainer, TrainingArguments

from processing_rrsis.metrics import TrainerMetrics, compute_referring_iou
from tests.modeling.tiny import tiny_inputs, tiny_labels, tiny_model

SAMPLES = 7


def test_scores_worked_out_by_hand():
    """IoUs 1/2 and 0 (an empty prediction for an empty reference, and a pixel at one half, which is background)."""
    logits = torch.tensor([[[2.0, 1.0], [-1.0, 9.0]], [[0.0, -1.0], [-2.0, 3.0]]])
    labels = torch.tensor([[[1, 0], [0, 255]], [[0, 0], [0, 255]]])
    expected = {"mIoU": 25.0, "oIoU": 50.0, "Pr@0.5": 50.0, "Pr@0.6": 0.0, "Pr@0.7": 0.0, "Pr@0.8": 0.0, "Pr@0.9": 0.0}
    metrics = TrainerMetrics()
    assert metrics(EvalPrediction(logits, labels)) == {**expected, "n": 2}
    assert metrics(EvalPrediction(logits[:1].numpy(), labels[:1].numpy()), compute_result=False) == {}
    assert metrics(EvalPrediction((logits[1:], None), labels[1:]), compute_result=True) == {**expected, "n": 2}
    with pytest.raises(ValueError, match=r"one shape \(B, H, W\), got \(2, 2, 2\) and \(1, 2, 2\)"):
        metrics(EvalPrediction(logits, labels[:1]))


@pytest.fixture(scope="module")
def model():
    return tiny_model("danet")


@pytest.fixture(scope="module")
def rows():
    inputs = {**tiny_inputs(batch_size=SAMPLES), "labels": tiny_labels(batch_size=SAMPLES)}
    return [{key: value[index] for key, value in inputs.items()} for index in range(SAMPLES)]


def make_trainer(model, rows, folder, **options):
    plain = {"use_cpu": True, "report_to": [], "disable_tqdm": True, "save_strategy": "no"}
    arguments = TrainingArguments(str(folder), **plain, **options)
    return Trainer(model, arguments, train_dataset=rows, eval_dataset=rows, compute_metrics=TrainerMetrics())


def test_any_batch_size_and_both_ways_give_the_same_scores(model, rows, tmp_path):
    model.eval()
    with torch.no_grad():
        batch = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
        predicted = (model(**batch).logits > 0) & (batch["labels"] != 255)
    expected = compute_referring_iou(list(predicted), list(batch["labels"] == 1))
    for size, by_batch in ((1, True), (3, True), (SAMPLES, True), (3, False)):
        trainer = make_trainer(model, rows, tmp_path, per_device_eval_batch_size=size, batch_eval_metrics=by_batch)
        for _ in range(2):  # nothing is left over from the first time
            scores = trainer.evaluate()
            assert {name: scores[f"eval_{name}"] for name in expected} == expected
    assert expected["n"] == SAMPLES
    assert 0 < expected["mIoU"] < 100


def test_training_with_accumulated_gradients_is_evaluated(model, rows, tmp_path):
    options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "batch_eval_metrics": True}
    trainer = make_trainer(
        model,
        rows,
        tmp_path,
        max_steps=2,
        eval_strategy="steps",
        eval_steps=1,
        metric_for_best_model="mIoU",
        **options,
    )
    trainer.train()
    evaluations = [entry for entry in trainer.state.log_history if "eval_mIoU" in entry]
    assert [entry["step"] for entry in evaluations] == [1, 2]
    assert all(np.isfinite(entry["eval_loss"]) and entry["eval_n"] == SAMPLES for entry in evaluations)
    assert trainer.state.best_metric == max(entry["eval_mIoU"] for entry in evaluations)
