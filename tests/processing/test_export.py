"""Writing and replacing a model folder."""

import json

import pytest
import torch
from transformers import AutoModel

from processing_rrsis.hub import model_folder
from processing_rrsis.hub.model_folder import save_hub_folder
from tests.tiny import build_tiny_model, build_tiny_processor


@pytest.fixture(scope="module")
def parts():
    return build_tiny_model("lavt"), build_tiny_processor(categories="synthetic")


def test_replaces_an_older_model_folder(parts, tmp_path):
    target = tmp_path / "best"
    save_hub_folder(*parts, target, metrics={"step": 1})
    (target / "stale.txt").write_text("of the older model")
    returned = save_hub_folder(*parts, str(target), metrics={"step": 2})
    assert returned == target
    assert not (target / "stale.txt").exists()
    assert json.loads((target / "metrics.json").read_text()) == {"step": 2}
    assert not (target / "README.md").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_given_weights_are_saved(parts, tmp_path):
    model, processor = parts
    averaged = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    save_hub_folder(model, processor, tmp_path / "ema", state_dict=averaged)
    loaded = AutoModel.from_pretrained(tmp_path / "ema")
    assert all(not parameter.any() for parameter in loaded.parameters())


@pytest.mark.parametrize("moment", ["writing", "renaming"])
def test_a_crash_leaves_the_older_folder(parts, tmp_path, monkeypatch, moment):
    target = tmp_path / "best"
    save_hub_folder(*parts, target, metrics={"step": 1})

    def crash(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_folder, "drop_local_keys" if moment == "writing" else "_swap", crash)
    with pytest.raises(OSError, match="No space left"):
        save_hub_folder(*parts, target, metrics={"step": 2})
    assert json.loads((target / "metrics.json").read_text()) == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_killed_between_the_two_renames(parts, tmp_path):
    target = tmp_path / "best"
    save_hub_folder(*parts, target, metrics={"step": 1})
    target.rename(tmp_path / ".best.old")
    (tmp_path / "best.txt").write_text("a file in the way of nothing")
    save_hub_folder(*parts, target, metrics={"step": 2})
    assert json.loads((target / "metrics.json").read_text()) == {"step": 2}
    assert not (tmp_path / ".best.old").exists()


def test_never_deletes_a_folder_of_other_things(parts, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds other things.*choose another name"):
        save_hub_folder(*parts, tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        save_hub_folder(*parts, tmp_path / "thesis.tex")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_the_model_in_training_is_left_alone(parts, tmp_path):
    model, processor = parts
    before = {name: value.clone() for name, value in model.state_dict().items()}
    save_hub_folder(model, processor, tmp_path / "best")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
