"""Absence told from log-odds: the cut keeps its share, the temperature fits, folders carry both."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from processing_rrsis.cli.app import app
from processing_rrsis.hub.loading import load_pipeline
from processing_rrsis.metrics.presence import presence_scores
from processing_rrsis.presence_rrsis import Calibration, area_under_curve, fit_calibration, pooled_log_odds


def test_best_pixels_are_pooled():
    logits = torch.full((2, 20, 50), -3.0)
    logits[0, 4, 5], logits[0, 0, 0], logits[1, 1, 1] = 5.0, 1.0, 2.0
    assert pooled_log_odds(logits).tolist() == [3.0, -0.5]  # the best 2 of 1,000
    assert pooled_log_odds(logits[:, :2, :2]).tolist() == [1.0, 2.0]  # at least one


def test_cut_and_temperature():
    there = np.linspace(0, 99, 100)
    found = fit_calibration(there, there - 60, kept=0.9)
    assert found.cut == pytest.approx(9.9)
    assert found(torch.tensor([found.cut, 1e9, -1e9])).tolist() == [0.5, 1.0, 0.0]
    near = fit_calibration(there, there - 20, kept=0.9)
    assert near.temperature > found.temperature  # the less they differ, the flatter
    draw = np.random.default_rng(0)  # log-odds of two logistic distributions around the cut: their own scale is best
    steep = draw.uniform(-8, 8, 40_000)
    is_there = draw.random(40_000) < 1 / (1 + np.exp(-steep))
    scaled = fit_calibration(3 * steep[is_there] + 7, 3 * steep[~is_there] + 7, kept=(steep[is_there] > 0).mean())
    assert (scaled.cut, scaled.temperature) == (pytest.approx(7, abs=0.1), pytest.approx(3, rel=0.05))


@pytest.mark.parametrize(
    ("there", "missing", "kept", "message"),
    [
        ([1.0] * 30, [0.0] * 3, 0.9, "at least 20 samples with and without their object, got 30 and 3"),
        ([np.nan] * 30, [0.0] * 30, 0.9, "expected finite log-odds"),
        ([1.0] * 30, [0.0] * 30, 1.0, "between 0 and 1 to be kept"),
    ],
)
def test_what_can_not_be_fitted(there, missing, kept, message):
    with pytest.raises(ValueError, match=message):
        fit_calibration(there, missing, kept)
    with pytest.raises(ValueError, match="a temperature from"):
        Calibration(1.0, 0.0)


@pytest.mark.parametrize("numbers", [(1e300, 1.0), (0.0, 1e300), (0.0, 1e-320), (10**400, 1.0), (True, 1.0)])
def test_numbers_that_no_network_gives_are_refused(numbers):
    with pytest.raises(ValueError, match="presence: expected a cut of"):
        Calibration(*numbers)


def test_scores_by_hand():
    there, missing = np.array([2.0, 1.0, -1.0, 3.0]), np.array([-2.0, 1.0])
    scores = presence_scores(Calibration(0.0), there, missing)
    assert (scores["T_acc"], scores["N_acc"]) == (75.0, 50.0)
    assert area_under_curve(there, missing) == pytest.approx((2 + 1.5 + 1 + 2) / 8)
    assert scores["AUROC"] == pytest.approx(100 * 6.5 / 8)
    perfect = presence_scores(Calibration(0.0), np.array([900.0] * 4), np.array([-900.0] * 4))
    assert perfect == {"T_acc": 100.0, "N_acc": 100.0, "AUROC": 100.0, "ECE": 0.0}


def test_a_folder_is_calibrated_and_says_so(run_dir, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(run_dir / "best", model)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    before = load_pipeline(str(model))(image, text="the ship")
    assert before["presence"] is None
    result = CliRunner().invoke(app, ["calibrate", str(model), "--max-samples", "40"], env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    assert "test, test_absent" in result.output
    values = json.loads((model / "processor_config.json").read_text())
    after = load_pipeline(str(model))(image, text="the ship", presence_threshold=0)
    pooled = (values["presence_cut"], values["presence_temperature"])
    assert 0 < after["presence"] < 1
    assert pooled[1] > 0
    assert np.array_equal(np.asarray(after["mask"]), np.asarray(before["mask"]))
    values["presence_cut"] = 999.0
    (model / "processor_config.json").write_text(json.dumps(values))
    nothing = load_pipeline(str(model))(image, text="the ship", output="polygons")
    assert nothing["mask"].size == (50, 40)
    assert nothing["mask"].getextrema() == (0, 0)
    assert (nothing["found"], nothing["score"], nothing["polygons"]["coordinates"]) == (False, 0.0, [])
    assert nothing["presence"] < 1e-3


def test_what_is_no_model_folder_is_refused(tmp_path):
    result = CliRunner().invoke(app, ["calibrate", str(tmp_path)])
    assert result.exit_code == 1
    assert "expected a model folder with processor_config.json" in " ".join(result.output.split())
