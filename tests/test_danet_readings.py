"""The readings of DANet's alignments, on a tiny network."""

import pytest
import torch

from benchmarks.danet_readings import average, read_stages, target_coverage

from .modeling.tiny import TINY, tiny_inputs, tiny_labels, tiny_model


def test_coverage_is_the_share_of_each_cell():
    labels = torch.zeros(1, 4, 8, dtype=torch.long)
    labels[0, :2, 1:4] = 1
    labels[0, 3, 7] = 255  # ignored is no target
    assert target_coverage(labels, (2, 4)).tolist() == [[0.5, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]


STILL = {
    "text_config": {**TINY["text_config"], "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "backbone_kwargs": {**TINY["backbone_kwargs"], "drop_path_rate": 0.0},
    "affinity_stages": [3, 4],
    "num_agents": 3,
}


def test_share_follows_the_weight():
    model = tiny_model("danet", **STILL, affinity_weight=0.25)
    inputs = {**tiny_inputs(), "labels": tiny_labels()}
    stages, agents = read_stages(model, inputs, [1.0, 0.1])
    assert [(stage.stage, stage.num_pixels) for stage in stages] == [(3, 16), (4, 4)]
    assert (agents.num_agents, agents.num_pixels) == (3, 4)
    assert agents.reliability_agents > agents.reliability_all
    grown = stages[0].gradient_share
    assert set(grown) == {1.0, 0.1}
    again, _ = read_stages(tiny_model("danet", **STILL, affinity_weight=0.5), inputs, [1.0])
    assert again[0].gradient_bce == pytest.approx(stages[0].gradient_bce, rel=1e-5)
    assert again[0].gradient_share[1.0] == pytest.approx(2 * grown[1.0], rel=1e-4)


def test_averages_go_field_by_field():
    model = tiny_model("danet", affinity_stages=[4])
    readings = [read_stages(model, {**tiny_inputs(), "labels": tiny_labels()}, [1.0])[0][0] for _ in range(2)]
    mean = average(readings)
    assert mean.stage == 4
    assert mean.gradient_bce == pytest.approx(sum(reading.gradient_bce for reading in readings) / 2)
    shares = [reading.gradient_share[1.0] for reading in readings]
    assert mean.gradient_share[1.0] == pytest.approx(sum(shares) / 2)
