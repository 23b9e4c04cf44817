"""Reading checkpoint files: every wrapper and format in use, and nothing that could run code."""

import argparse
import collections
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from modeling_rrsis.convert import read_checkpoint
from modeling_rrsis.convert.__main__ import main

from .parity import small_published_state


@pytest.fixture(scope="module")
def state():
    return small_published_state("lavt_one_tiny")


@pytest.fixture
def save(tmp_path):
    """Write a checkpoint and give back its path."""

    def write(content, **options):
        torch.save(content, tmp_path / "published.pth", **options)
        return tmp_path / "published.pth"

    return write


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state}])
def test_other_wrappers_hold_the_same(wrap, state, save):
    checkpoint = read_checkpoint(save(wrap(collections.OrderedDict(state))))
    assert list(checkpoint.model) == list(state)
    assert checkpoint.bert is None


def test_old_file_format_is_read(state, save):
    path = save({"model": state}, _use_new_zipfile_serialization=False)
    assert len(read_checkpoint(path).model) == len(state)


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4}])
@pytest.mark.parametrize("place", ["args", "model"])
def test_hostile_checkpoint_is_refused_by_name_and_runs_nothing(place, options, state, save, tmp_path, capsys):
    trap = Hostile(tmp_path / "ran")
    content = {"model": state, "args": argparse.Namespace(lr=trap)}
    if place == "model":
        content = {"model": {**state, "backbone.extra": trap}}
    assert main(["--arch", "lavt", str(save(content, **options)), str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().err
    assert f"{os.mkdir.__module__}.mkdir" in printed
    assert "nothing in it was run" in printed
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


def test_objects_besides_a_namespace_are_refused_by_name(state, save):
    content = {"model": state, "args": argparse.Namespace(root=Path("data"), best=np.float64(0.5))}
    with pytest.raises(ValueError, match=r"holds .*numpy.*scalar.*, pathlib"):
        read_checkpoint(save(content))


def test_files_that_are_no_checkpoint_are_told_so(tmp_path, save):
    with pytest.raises(FileNotFoundError, match="there is none"):
        read_checkpoint(tmp_path / "nothing.pth")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(ValueError, match="this is none or a damaged one"):
        read_checkpoint(tmp_path / "text.pth")
    whole = save({"model": {"a": torch.zeros(1000)}}).read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="this is none or a damaged one"):
        read_checkpoint(tmp_path / "half.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"model": 1}, protocol=2))
    with pytest.raises(ValueError, match="this is none or a damaged one"):
        read_checkpoint(tmp_path / "plain.pth")
    with pytest.raises(ValueError, match="holds weights, epoch"):
        read_checkpoint(save({"weights": {}, "epoch": 3}))
    with pytest.raises(ValueError, match="these are none: epoch"):
        read_checkpoint(save({"model": {"a": torch.zeros(1), "epoch": 3}}))
    with pytest.raises(ValueError, match="holds a list"):
        read_checkpoint(save([1, 2]))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02"])
def test_what_is_no_checkpoint_is_told(content, tmp_path):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(ValueError, match="this is none or a damaged one"):
        read_checkpoint(tmp_path / "a.pth")
