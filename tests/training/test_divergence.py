"""Losses and gradients that are of no use."""

import json
import math

import pytest

from processing_rrsis.training.divergence import DivergenceMonitor, write_divergence


@pytest.mark.parametrize(("loss", "norm", "words"), [(math.nan, 1.0, "loss is nan"), (1.0, math.inf, "norm is inf")])
def test_not_finite(loss, norm, words):
    assert words in DivergenceMonitor().find(loss, norm)


def test_an_explosion_is_measured_by_the_usual_norm():
    monitor = DivergenceMonitor()
    assert monitor.find(1.0, 1e9) is None  # the first updates have no usual norm yet
    monitor = DivergenceMonitor([2.0] * 20)
    assert monitor.find(1.0, 1999.0) is None
    assert "2.1e+03, 1,050 times its usual 2" in monitor.find(1.0, 2100.0)


def test_a_skipped_update_of_a_loss_scale_is_no_divergence():
    monitor = DivergenceMonitor([1.0])
    assert monitor.find(1.0, None) is None
    assert list(monitor.norms) == [1.0]


def test_only_the_last_hundred_norms_count():
    monitor = DivergenceMonitor([1000.0] * 100)
    for _ in range(100):
        assert monitor.find(1.0, 1.0) is None
    assert "1,500 times" in monitor.find(1.0, 1500.0)


def test_what_is_written_is_json(tmp_path):
    path = write_divergence(tmp_path, step=3, loss=math.nan, sample_ids=["a", "b"])
    assert json.loads(path.read_text()) == {"step": 3, "loss": "nan", "sample_ids": ["a", "b"]}
