"""Lines, trackers, what is cut when a run goes on."""

import json

import pytest

from processing_rrsis.training import watching
from processing_rrsis.training.watching import append_line, check_trackers, cut_lines, flat_settings

from .killed_runs import UPDATES, run


def test_lines_that_will_be_written_again_are_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for step in (5, 10, 15):
        append_line(path, {"step": step, "loss": 1.0})
        append_line(path, {"step": step, "split": "validation", "mIoU": 1.0})
    with path.open("a") as file:
        file.write('{"step": 5, "lo')  # killed while writing
    cut_lines(path, last_step=10, last_evaluation=5)
    left = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["step"], "split" in line) for line in left] == [(5, False), (5, True), (10, False)]
    cut_lines(tmp_path / "absent.jsonl", last_step=1, last_evaluation=1)
    assert not (tmp_path / "absent.jsonl").exists()


def test_a_tracker_that_is_not_there_is_an_error(monkeypatch):
    assert check_trackers("none") == []
    with pytest.raises(ValueError, match="tensorboard, wandb, got 'tensorbord'"):
        check_trackers("tensorbord")
    monkeypatch.setitem(watching.TRACKERS, "wandb", (lambda: False, "wandb"))
    with pytest.raises(ValueError, match="pip install wandb"):
        check_trackers("wandb")


def test_settings_for_trackers_are_plain():
    assert flat_settings({"a": 1, "b": None, "c": [1], "d": "x"}) == {"a": 1, "b": "null", "c": "[1]", "d": "x"}


def test_tensorboard_gets_numbers_and_pictures(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run(tmp_path / "out", 1, "--report_to", "tensorboard", "--max_steps", str(UPDATES - 8))
    (file,) = (tmp_path / "out" / "logs").rglob("events.out.*.0")
    events = accumulator.EventAccumulator(str(file))
    events.Reload()
    assert {"train/loss", "train/learning_rate", "train/images_per_second", "validation/mIoU"} <= set(
        events.Tags()["scalars"]
    )
    assert "validation" in events.Tags()["images"]
