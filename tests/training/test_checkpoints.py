"""Checkpoints: whole or not there, newest first, damage named."""

import errno
import json
import shutil
from types import SimpleNamespace

import pytest

from processing_rrsis.training import checkpoints
from processing_rrsis.training.checkpoints import (
    CheckpointError,
    checkpoint_folders,
    find_damage,
    load_checkpoint,
    newest_whole,
    remove_partial,
    resolve_resume,
    save_checkpoint,
)


class FakeAccelerator:
    """Writes two files, or as many as the disk takes."""

    is_main_process = True

    def __init__(self, error=None):
        self.error = error

    def wait_for_everyone(self):
        pass

    def save_state(self, folder):
        with open(f"{folder}/model.safetensors", "wb") as file:
            file.write(b"weights" * 100)
        if self.error is not None:
            raise self.error
        with open(f"{folder}/optimizer.bin", "wb") as file:
            file.write(b"moments" * 100)


def save(folder, *steps, keep=9):
    for step in steps:
        save_checkpoint(FakeAccelerator(), folder, {"progress": {"step": step}}, step=step, keep=keep)


def test_the_newest_whole_one_is_found(tmp_path):
    save(tmp_path, 5, 20, 10)
    found = newest_whole(tmp_path, pytest.fail)
    assert (found.step, found.state()) == (20, {"progress": {"step": 20}})
    assert found.folder.name == "step-00000020"
    assert found.num_bytes() > 1400


def test_no_checkpoints_is_no_error(tmp_path):
    assert newest_whole(tmp_path, pytest.fail) is None
    assert resolve_resume("latest", tmp_path, pytest.fail) is None


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "no manifest.json"),
        (lambda folder: (folder / "manifest.json").write_text('{"format": 2, "fi'), "can't be read"),
        (lambda folder: (folder / "optimizer.bin").unlink(), "optimizer.bin is missing"),
        (lambda folder: (folder / "optimizer.bin").write_bytes(b"half"), "has 4 bytes, 700 were written"),
        (lambda folder: (folder / "optimizer.bin").write_bytes(b"Moments" * 100), "other content"),
        (lambda folder: (folder / "state.json").write_text("{"), "state.json has 1 bytes"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json or state.json can't be read"),
        (lambda folder: (folder / "manifest.json").write_text('{"format": []}'), "it has format []"),
        (lambda folder: (folder / "manifest.json").write_text('{"format": 2, "files": 7}'), "can't be read"),
        (lambda folder: (folder / "manifest.json").write_text("[" * 100_000), "can't be read"),
        (lambda folder: (folder / "custom_checkpoint_0.pkl").touch(), "custom_checkpoint_0.pkl was not written"),
    ],
)
def test_damaged_ones_are_skipped_and_named(tmp_path, damage, words):
    save(tmp_path, 1, 2)
    damage(tmp_path / "checkpoints" / "step-00000002")
    said = []
    assert newest_whole(tmp_path, said.append).step == 1
    assert "step-00000002" in said[0]
    assert words in said[0]
    with pytest.raises(CheckpointError, match="is damaged"):
        resolve_resume(str(tmp_path / "checkpoints" / "step-00000002"), tmp_path, pytest.fail)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"progress": {"step": 1_000_000}}, "its state.json is of step 1000000"),
        ({"progress": {"step": "00000002"}}, "can't be read"),
        ({"progress": []}, "can't be read"),
        ([], "can't be read"),
        ({}, "can't be read"),
    ],
)
def test_a_state_of_another_kind_is_skipped(tmp_path, state, words):
    save(tmp_path, 1)
    save_checkpoint(FakeAccelerator(), tmp_path, state, step=2, keep=9)
    (tmp_path / "checkpoints" / "step-00000003").touch()  # a stray file is no checkpoint
    said = []
    assert newest_whole(tmp_path, said.append).step == 1
    assert words in said[0]


def test_what_a_loader_stumbles_over_is_said(tmp_path):
    class Stumbling(FakeAccelerator):
        def load_state(self, folder):
            raise KeyError("param_groups")

    save(tmp_path, 1)
    with pytest.raises(CheckpointError, match=r"step-00000001 can't be loaded: 'param_groups'. Use another"):
        load_checkpoint(Stumbling(), newest_whole(tmp_path, pytest.fail))


def test_nothing_but_damage_is_an_error(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "checkpoints" / "step-00000001" / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="All 1 checkpoints"):
        newest_whole(tmp_path, lambda text: None)


def test_a_folder_can_be_named(tmp_path):
    save(tmp_path, 1, 2)
    folder = tmp_path / "checkpoints" / "step-00000001"
    assert resolve_resume(str(folder), tmp_path, pytest.fail).step == 1
    assert resolve_resume("none", tmp_path, pytest.fail) is None
    with pytest.raises(CheckpointError, match="expected none, latest or the folder"):
        resolve_resume("newest", tmp_path, pytest.fail)


def test_old_ones_go_after_the_new_one_is_whole(tmp_path):
    save(tmp_path, 1, 2, 3, keep=2)
    assert [checkpoint.step for checkpoint in checkpoint_folders(tmp_path)] == [3, 2]


def test_a_half_written_one_has_no_name_and_is_removed(tmp_path):
    save(tmp_path, 1)
    half = tmp_path / "checkpoints" / "step-00000002.partial"
    shutil.copytree(tmp_path / "checkpoints" / "step-00000001", half)
    (tmp_path / ".best.tmp-123").mkdir()
    assert newest_whole(tmp_path, pytest.fail).step == 1
    assert remove_partial(tmp_path) == [".best.tmp-123", "step-00000002.partial"]
    assert not half.exists()


def test_a_damaged_one_is_replaced_by_its_new_self(tmp_path):
    save(tmp_path, 1)
    folder = tmp_path / "checkpoints" / "step-00000001"
    (folder / "optimizer.bin").write_bytes(b"half")
    (folder / "left_over.bin").write_bytes(b"")
    save(tmp_path, 1)
    assert find_damage(folder) is None
    assert sorted(json.loads((folder / "manifest.json").read_text())["files"]) == [
        "model.safetensors",
        "optimizer.bin",
        "state.json",
    ]
    assert not (folder / "left_over.bin").exists()


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("unexpected pos 64")]
)
def test_a_failed_save_leaves_the_last_one_and_no_rest(tmp_path, error):
    save(tmp_path, 1)
    with pytest.raises(
        CheckpointError, match=r"step 2 could not be written.*step-00000001, is whole.*--resume latest"
    ):
        save_checkpoint(FakeAccelerator(error), tmp_path, {}, step=2, keep=1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]
    assert find_damage(tmp_path / "checkpoints" / "step-00000001") is None


def test_too_little_space_is_seen_before_writing(tmp_path, monkeypatch):
    save(tmp_path, 1)
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(CheckpointError, match="No space left: the last one has"):
        save(tmp_path, 2)
