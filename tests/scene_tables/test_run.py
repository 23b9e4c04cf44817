"""`rrsis scenes`: every row accounted for, nothing computed twice, failures told and tried again."""

import json
import os

import pytest
import rasterio
import rasterio.shutil
from pyarrow import parquet
from rasterio.vrt import WarpedVRT
from typer.testing import CliRunner

from processing_rrsis.cli.app import app
from processing_rrsis.scene_tables.worker import SceneWorker

from ..scenes.locked import locked_elsewhere
from ..scenes.rasters import noise, write_raster
from .conftest import PHRASES, layers


def in_this_process(tasks, arguments, workers, devices=()):
    """In the place of processes, which take seconds each to import what they need."""
    worker = SceneWorker(**arguments)
    for task in tasks:
        yield task, worker.run(task)


@pytest.fixture(autouse=True)
def _quick(request, monkeypatch):
    if "processes" not in request.node.name:
        monkeypatch.setattr("processing_rrsis.scene_tables.run.run_in_processes", in_this_process)


def run(command, *arguments):
    result = CliRunner().invoke(app, [command, *map(str, arguments)], env={"COLUMNS": "200"})
    return result.exit_code, " ".join(result.output.split())


def without_times(manifest):
    return manifest.drop_columns(["seconds"])


def test_rows_in_are_rows_out_and_a_second_run_computes_what_is_missing(tmp_path, table, model_folder):
    out = tmp_path / "out"
    command = ("scenes", table, "--out", out, "-m", model_folder, "--vector", "gpkg", "--cpu-threads", 1)
    code, output = run(*command)
    assert code == 0, output
    assert "scenes: 3 computed, 0 finished before" in output
    manifest = parquet.read_table(out / "manifest.parquet")
    assert manifest["id"].to_pylist() == [f"{scene}-{row}" for scene in range(3) for row in range(2)]
    assert manifest["owner"].to_pylist() == ["us"] * 6
    assert manifest["band"].to_pylist() == [1, 2] * 3
    for row in manifest.to_pylist():
        assert row["status"] == ("found" if row["objects"] else "absent")
        assert (out / row["mask"]).is_file()
        assert (out / row["mask"]).with_name("layers.gpkg").is_file()
    first = layers(out)
    code, output = run(*command)
    assert "scenes: 0 computed, 3 finished before" in output

    next(out.glob("s1-*/layers.gpkg")).unlink()
    code, output = run(*command)
    assert "scenes: 1 computed, 2 finished before" in output
    assert layers(out) == first
    assert without_times(parquet.read_table(out / "manifest.parquet")).equals(without_times(manifest))

    code, output = run(*command, "--threshold", 0.4)
    assert code == 1
    assert "threshold changed; choose another folder, or --overwrite" in output
    assert layers(out) == first
    code, output = run(*command, "--threshold", 0.4, "--overwrite")
    assert code == 0, output
    assert "scenes: 3 computed" in output


def test_processes_find_the_same(tmp_path, table, model_folder):
    command = ("scenes", table, "-m", model_folder, "--cpu-threads", 1)
    code, output = run(*command, "--out", tmp_path / "two", "--num-workers", 2)
    assert code == 0, output
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("processing_rrsis.scene_tables.run.run_in_processes", in_this_process)
        assert run(*command, "--output-dir", tmp_path / "one")[0] == 0
    manifests = [parquet.read_table(tmp_path / name / "manifest.parquet") for name in ("one", "two")]
    assert without_times(manifests[0]).equals(without_times(manifests[1]))
    assert layers(tmp_path / "one") == layers(tmp_path / "two")
    (tmp_path / "empty").mkdir()
    code, output = run("scenes", table, "--output-dir", tmp_path / "out", "-m", tmp_path / "empty", "--cpu-threads", 1)
    assert code == 1
    assert "--model" in output
    manifest = parquet.read_table(tmp_path / "out" / "manifest.parquet")
    assert manifest["status"].to_pylist() == ["skipped"] * 6


def test_a_scene_that_fails_has_its_row_and_is_tried_again_when_asked(tmp_path, table, model_folder):
    out = tmp_path / "out"
    broken = tmp_path / "rasters" / "s1.tif"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:100])
    command = ("scenes", table, "--out", out, "-m", model_folder, "--cpu-threads", 1)
    code, output = run(*command)
    assert code == 1
    assert "2 failed" in output
    manifest = parquet.read_table(out / "manifest.parquet")
    assert [row["status"] for row in manifest.to_pylist()][2:4] == ["failed", "failed"]
    assert "expected a raster that GDAL opens" in manifest["error"][2].as_py()
    assert manifest["error"][0].as_py() is None
    code, output = run(*command)
    assert code == 1
    assert "0 computed, 3 finished before" in output
    code, output = run(*command, "--retry-failed")
    assert code == 1
    assert "1 computed, 2 finished before" in output
    broken.write_bytes(whole)
    code, output = run(*command)
    assert code == 0, output
    assert "1 computed, 2 finished before" in output


def test_a_raster_that_changed_and_a_new_row_are_computed_again(tmp_path, table, model_folder):
    out = tmp_path / "out"
    command = ("scenes", table, "--out", out, "-m", model_folder, "--cpu-threads", 1)
    assert run(*command)[0] == 0
    write_raster(tmp_path / "rasters" / "s0.tif", noise(60, 70, 9))
    table.write_text(table.read_text() + "new,rasters/s2.tif,the dam,us\n")
    code, output = run(*command)
    assert code == 0, output
    assert "2 computed, 1 finished before" in output
    manifest = parquet.read_table(out / "manifest.parquet")
    assert manifest.num_rows == 7
    assert manifest["band"][6].as_py() == 3


def test_bands_follow_the_table_when_its_rows_change_places(tmp_path, table, model_folder):
    out = tmp_path / "out"
    command = ("scenes", table, "--out", out, "-m", model_folder, "--cpu-threads", 1)
    assert run(*command)[0] == 0
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([head, *reversed(rows)]) + "\n")
    code, output = run(*command)
    assert code == 0, output
    for row in parquet.read_table(out / "manifest.parquet").to_pylist():
        with rasterio.open(out / row["mask"]) as raster:
            assert raster.descriptions[row["band"] - 1] == row["expression"]


def test_a_killed_overwrite_goes_on_and_a_failed_replacement_is_tried_again(
    tmp_path, table, model_folder, monkeypatch
):
    out = tmp_path / "out"
    command = ("scenes", table, "--out", out, "-m", model_folder, "--cpu-threads", 1)
    assert run(*command)[0] == 0
    code, output = run(*command, "--overwrite")
    assert "0 computed, 3 finished before" in output
    write_raster(tmp_path / "rasters" / "s0.tif", noise(60, 70, 9))
    with monkeypatch.context() as patch:
        patch.setattr(SceneWorker, "_segment", lambda self, task, started: 1 / 0)
        code, output = run(*command)
        assert code == 1
    code, output = run(*command, "--retry-failed")
    assert code == 0, output
    assert "1 computed, 2 finished before" in output


def test_settings_that_made_nothing_bind_nothing(tmp_path, table, model_folder):
    out = tmp_path / "out"
    command = ("scenes", table, "--out", out, "-m", model_folder, "--cpu-threads", 1)
    code, output = run(*command, "--bands", "1,2,9")
    assert code == 1
    assert "6 failed" in output
    code, output = run(*command)
    assert code == 0, output
    assert "3 computed" in output


def test_another_table_does_not_replace_a_manifest(tmp_path, table, model_folder):
    out = tmp_path / "out"
    command = ("scenes", table, "--out", out, "-m", model_folder, "--cpu-threads", 1)
    assert run(*command)[0] == 0
    manifest = (out / "manifest.parquet").read_bytes()
    other = table.with_name("other.csv")
    other.write_text(table.read_text().replace("0-0", "x"))
    code, output = run("scenes", other, *command[2:])
    assert code == 1
    assert "it has rows that the table has not: 0-0; choose another folder" in output
    assert (out / "manifest.parquet").read_bytes() == manifest
    code, output = run("scenes", other, *command[2:], "--overwrite")
    assert code == 0, output
    (out / "settings.json").write_text("{")
    code, output = run("scenes", other, *command[2:], "--threshold", 0.4)
    assert code == 1
    assert "expected the settings that its results were made with" in output
    code, output = run("scenes", other, *command[2:])
    assert code == 0, output
    assert "0 computed, 3 finished before" in output
    other.write_text(other.read_text().replace("the ship", "the dam"))
    code, output = run("scenes", other, *command[2:])
    assert code == 1
    assert "it has rows that the table has not: x, 1-0, 2-0" in output


def test_what_a_killed_run_left_of_another_raster_is_replaced(tmp_path, table, model_folder, monkeypatch):
    out = tmp_path / "out"
    command = ("scenes", table, "--out", out, "-m", model_folder, "--cpu-threads", 1)
    with monkeypatch.context() as patch:
        patch.setattr("processing_rrsis.scenes.segment.finish", lambda *given, **named: 1 / 0)
        assert run(*command)[0] == 1
    assert len(list(out.glob("*/mask.tif.part/strip-*"))) >= 3
    write_raster(tmp_path / "rasters" / "s0.tif", noise(60, 70, 9))
    damaged = next(out.glob("s1-*/mask.tif.part/strip-*"))
    damaged.write_bytes(damaged.read_bytes()[:-9])
    next(out.glob("s2-*/mask.tif.part/receipt.json")).write_text("{")
    code, output = run(*command, "--retry-failed")
    assert code == 0, output
    assert run("scenes", table, "--out", tmp_path / "fresh", *command[4:])[0] == 0
    assert layers(out) == layers(tmp_path / "fresh")


def test_a_raster_behind_another_file_is_noticed_when_it_changes(tmp_path, table, model_folder):
    virtual = tmp_path / "rasters" / "s0.vrt"
    with rasterio.open(tmp_path / "rasters" / "s0.tif") as source, WarpedVRT(source) as warped:
        rasterio.shutil.copy(warped, virtual, driver="VRT")
    table.write_text(table.read_text().replace("s0.tif", "s0.vrt"))
    command = ("scenes", table, "--out", tmp_path / "out", "-m", model_folder, "--cpu-threads", 1)
    assert run(*command)[0] == 0
    write_raster(tmp_path / "rasters" / "s0.tif", noise(90, 100, 9))
    code, output = run(*command)
    assert code == 0, output
    assert "1 computed, 2 finished before" in output


def test_an_expression_that_the_model_does_not_know_fails_alone(tmp_path, table, model_folder):
    table.write_text(table.read_text() + "new,rasters/s2.tif,船,us\n")
    out = tmp_path / "out"
    command = ("scenes", table, "--out", out, "-m", model_folder, "--cpu-threads", 1)
    for computed in ("3 computed", "0 computed"):
        code, output = run(*command)
        assert code == 1
        assert computed in output
        rows = parquet.read_table(out / "manifest.parquet").to_pylist()
        assert [row["status"] == "failed" for row in rows] == [False] * 6 + [True]
        assert "expected English words" in rows[6]["error"]
        assert rows[5]["band"] == 2


def test_a_folder_in_which_another_process_works_is_left_alone(tmp_path, table, model_folder):
    out = tmp_path / "out"
    out.mkdir()
    with locked_elsewhere(out / "manifest.lock"):
        code, output = run("scenes", table, "--out", out, "-m", model_folder, "--cpu-threads", 1)
    assert code == 1
    assert "another process is at work on it" in output
    assert [path.name for path in out.iterdir()] == ["manifest.lock"]


def test_pipes_and_deep_texts_in_the_place_of_records_are_not_waited_for(tmp_path, table, model_folder):
    out = tmp_path / "out"
    command = ("scenes", table, "--out", out, "-m", model_folder, "--cpu-threads", 1)
    assert run(*command)[0] == 0
    records = sorted(out.glob("*/result.json"))
    for path in (records[0], out / "settings.json"):
        path.unlink()
        os.mkfifo(path)
    records[1].write_text("[" * 100_000)
    code, output = run(*command)
    assert code == 0, output
    assert "2 computed, 1 finished before" in output
    assert json.loads((out / "settings.json").read_text())["runtime"] == "auto"


def test_what_signs_an_address_is_not_written_down(tmp_path, model_folder):
    table = tmp_path / "scenes.csv"
    table.write_text("id,scene,expression\n1,http://me:word@127.0.0.1:9/s.tif?sig=secret,the ship\n")
    code, output = run("scenes", table, "--out", tmp_path / "out", "-m", model_folder, "--cpu-threads", 1)
    assert code == 1
    row = parquet.read_table(tmp_path / "out" / "manifest.parquet").to_pylist()[0]
    assert row["scene"] == "http://127.0.0.1:9/s.tif"
    assert not any(mark in f"{row}{output}" for mark in ("secret", "word@"))


def test_shards_end_with_the_same_manifest(tmp_path, table, model_folder):
    command = ("scenes", table, "-m", model_folder, "--cpu-threads", 1)
    assert run(*command, "--out", tmp_path / "whole")[0] == 0
    for index in (1, 2):
        code, output = run(*command, "--out", tmp_path / "shards", "--shard", f"{index}/2")
        assert code == 0, output
    code, output = run("scenes-merge", table, "--out", tmp_path / "shards")
    assert code == 0, output
    assert "rows: 6" in output
    whole, joined = (parquet.read_table(tmp_path / name / "manifest.parquet") for name in ("whole", "shards"))
    assert without_times(whole).equals(without_times(joined))
    assert layers(tmp_path / "whole") == layers(tmp_path / "shards")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shard", "3/2"), "--shard: expected I/N"),
        (("--shard", "²/²"), "--shard: expected I/N"),
        (("-e", PHRASES[0]), "expected a STAC item collection"),
        (("--bands", "red"), "--bands: expected numbers"),
    ],
)
def test_wrong_options_are_told_before_the_work(tmp_path, table, model_folder, arguments, message):
    code, output = run("scenes", table, "--out", tmp_path / "out", "-m", model_folder, *arguments)
    assert code == 1
    assert message in output
    assert not (tmp_path / "out").exists()
