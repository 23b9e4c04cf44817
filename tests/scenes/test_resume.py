"""A run that ends early goes on; one of other settings is refused; finished files appear by rename."""

import json
import os
import zlib

import pytest

from processing_rrsis.errors import RRSISError
from processing_rrsis.scenes import receipts, segment_scene
from processing_rrsis.scenes.receipts import LeftoverError

from .locked import locked_elsewhere
from .rasters import looking_around, noise, write_raster

OPTIONS = {"tile_size_px": 32, "overlap_px": 8}


class EndsAfter:
    """A reader that fails after some windows, and counts those that it saw."""

    identity = "a reader for tests"

    def __init__(self, windows):
        self.left = windows
        self.seen = 0

    def __call__(self, windows, phrases):
        if self.left <= 0:
            raise KeyboardInterrupt
        self.left -= len(windows)
        self.seen += len(windows)
        return looking_around(windows, phrases)


@pytest.fixture
def scene(tmp_path):
    return write_raster(tmp_path / "scene.tif", noise(200, 100))


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(".receipt.json")}


def run(scene, folder, reader, **options):
    folder.mkdir(exist_ok=True)
    return segment_scene(
        scene,
        ["the ship", "the largest dam"],
        folder / "mask.tif",
        model=reader,
        vector=folder / "objects.gpkg",
        preview=folder / "preview.png",
        **{**OPTIONS, **options},
    )


def test_a_run_that_ended_early_goes_on_and_ends_with_the_same_bytes(scene, tmp_path):
    whole = EndsAfter(10**6)
    run(scene, tmp_path / "whole", whole)
    counts = []
    for windows in (6, 3, 9, 10**6):
        reader = EndsAfter(windows)
        try:
            run(scene, tmp_path / "killed", reader)
        except KeyboardInterrupt:
            assert (tmp_path / "killed" / "mask.tif.part").is_dir()
            assert not (tmp_path / "killed" / "mask.tif").exists()
        counts.append(reader.seen)
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    # 8 rows of 4 tiles; a row is asked about in one call, so only the one under way is asked again
    assert whole.seen == 32
    assert sum(counts) == 32


def test_a_finished_run_is_not_done_again(scene, tmp_path):
    first = run(scene, tmp_path / "out", EndsAfter(10**6))
    reader = EndsAfter(0)
    again = run(scene, tmp_path / "out", reader)
    assert reader.seen == 0
    assert [[item.score for item in entry.objects] for entry in again] == [
        [item.score for item in entry.objects] for entry in first
    ]
    assert [[item.geometry for item in entry.objects] for entry in again] == [
        [item.geometry for item in entry.objects] for entry in first
    ]
    assert again.paths == first.paths


def test_a_deleted_file_is_made_again(scene, tmp_path):
    run(scene, tmp_path / "out", EndsAfter(10**6))
    before = files(tmp_path / "out")
    (tmp_path / "out" / "objects.gpkg").unlink()
    run(scene, tmp_path / "out", EndsAfter(10**6))
    assert files(tmp_path / "out") == before


def test_other_settings_are_refused_while_and_after_a_run(scene, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(scene, tmp_path / "out", EndsAfter(6))
    with pytest.raises(RRSISError, match=r"threshold was 0\.5 and is 0\.6"):
        run(scene, tmp_path / "out", EndsAfter(10**6), threshold=0.6)
    run(scene, tmp_path / "out", EndsAfter(10**6))
    with pytest.raises(RRSISError, match=r"threshold was 0\.5 and is 0\.6"):
        run(scene, tmp_path / "out", EndsAfter(10**6), threshold=0.6)
    run(scene, tmp_path / "out", EndsAfter(10**6), threshold=0.6, overwrite=True)
    receipt = json.loads((tmp_path / "out" / "mask.tif.receipt.json").read_text())
    assert receipt["request"]["threshold"] == 0.6


def test_a_changed_scene_is_noticed(scene, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(scene, tmp_path / "out", EndsAfter(6))
    write_raster(scene, noise(200, 100, seed=1))
    with pytest.raises(RRSISError, match="source differs"):
        run(scene, tmp_path / "out", EndsAfter(10**6))


def test_a_file_of_unknown_origin_is_not_replaced(scene, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "objects.gpkg").write_text("somebody's")
    with pytest.raises(RRSISError, match="no receipt"):
        run(scene, tmp_path / "out", EndsAfter(10**6))
    assert (tmp_path / "out" / "objects.gpkg").read_text() == "somebody's"


def test_two_processes_do_not_work_on_one_result(scene, tmp_path):
    part = tmp_path / "mask.tif.part"
    part.mkdir()
    with locked_elsewhere(part / ".lock"), pytest.raises(ValueError, match="no other process at work"):
        segment_scene(scene, "the ship", tmp_path / "mask.tif", model=looking_around, **OPTIONS)
    segment_scene(scene, "the ship", tmp_path / "mask.tif", model=looking_around, **OPTIONS)
    assert not part.exists()


def test_a_damaged_strip_is_told(scene, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        segment_scene(scene, "the ship", tmp_path / "mask.tif", model=EndsAfter(8), **OPTIONS)
    strip = min((tmp_path / "mask.tif.part").glob("strip-*"))
    strip.write_bytes(strip.read_bytes()[:-9])
    with pytest.raises(RRSISError, match=r"expected a strip as a run writes it, got .*--overwrite"):
        segment_scene(scene, "the ship", tmp_path / "mask.tif", model=EndsAfter(99), **OPTIONS)
    segment_scene(scene, "the ship", tmp_path / "mask.tif", model=EndsAfter(99), overwrite=True, **OPTIONS)


def _unpacked_to(header):
    head = header.encode().ljust(117) + b"\n"
    return zlib.compress(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)


@pytest.mark.parametrize(
    "content",
    [
        zlib.compress(bytes((1 << 20) + 1)),
        _unpacked_to("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000)}"),
        _unpacked_to("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 30 + ", 0)}"),
        None,
    ],
)
def test_a_strip_without_bounds_is_told(scene, tmp_path, content, monkeypatch):
    monkeypatch.setattr(receipts, "MAX_STRIP_BYTES", 1 << 20)
    with pytest.raises(KeyboardInterrupt):
        segment_scene(scene, "the ship", tmp_path / "mask.tif", model=EndsAfter(8), **OPTIONS)
    strip = min((tmp_path / "mask.tif.part").glob("strip-*"))
    strip.unlink()
    os.mkfifo(strip) if content is None else strip.write_bytes(content)
    with pytest.raises(LeftoverError, match=f"{strip.name}: expected a strip as a run writes it"):
        segment_scene(scene, "the ship", tmp_path / "mask.tif", model=EndsAfter(99), **OPTIONS)


@pytest.mark.parametrize("name", ["receipt.json", ".lock"])
def test_a_pipe_is_not_waited_for(scene, tmp_path, name):
    (tmp_path / "mask.tif.part").mkdir()
    os.mkfifo(tmp_path / "mask.tif.part" / name)
    with pytest.raises((RRSISError, ValueError), match=name):
        segment_scene(scene, "the ship", tmp_path / "mask.tif", model=looking_around, **OPTIONS)


def test_a_layer_that_somebody_changed_and_one_elsewhere_are_not_replaced(scene, tmp_path):
    (tmp_path / "other").mkdir()
    options = {"model": looking_around, **OPTIONS}
    for folder in (tmp_path, tmp_path / "other"):
        layer = folder / "ships.gpkg"
        segment_scene(scene, "the ship", folder / "mask.tif", vector=layer, **options)
    with pytest.raises(RRSISError, match=r"files (differs|was)"):
        segment_scene(scene, "the ship", tmp_path / "mask.tif", vector=tmp_path / "other" / "ships.gpkg", **options)
    layer = tmp_path / "ships.gpkg"
    layer.write_bytes(layer.read_bytes() + b"edited")
    with pytest.raises(RRSISError, match="changed since a run wrote it"):
        segment_scene(scene, "the ship", tmp_path / "mask.tif", vector=layer, **options)
    assert layer.read_bytes().endswith(b"edited")


def test_what_nothing_is_known_of_is_never_the_same_reader(scene, tmp_path):
    segment_scene(scene, "the ship", tmp_path / "mask.tif", model=lambda *given: looking_around(*given), **OPTIONS)
    with pytest.raises(RRSISError, match="model"):
        segment_scene(scene, "the ship", tmp_path / "mask.tif", model=lambda *given: looking_around(*given), **OPTIONS)


def test_a_damaged_receipt_is_told(scene, tmp_path):
    run(scene, tmp_path / "out", EndsAfter(10**6))
    (tmp_path / "out" / "mask.tif.receipt.json").write_text("{")
    with pytest.raises(RRSISError, match="--overwrite"):
        run(scene, tmp_path / "out", EndsAfter(10**6))
