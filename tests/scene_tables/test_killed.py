"""200 scenes in every way, hurt in the middle: the second run ends with the same, and computes nothing twice."""

import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from pyarrow import parquet

from processing_rrsis.scene_tables.records import RECORD_FILE

from .conftest import layers, write_table

SCENES = 200
WAYS = {
    "processes": ("--num-workers", "2"),
    "shards": (),
    "ray": ("--engine", "ray", "--num-workers", "2"),
}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def big_table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("table"), SCENES)


def commands(way, table, out, model):
    base = [sys.executable, "-m", "processing_rrsis.cli.app", "scenes", table, "--out", out, "-m", model]
    base += ["--vector", "gpkg", "--cpu-threads", "1"]
    if way == "shards":
        return [[*map(str, base), "--shard", f"{index}/2"] for index in (1, 2)]
    if way == "ray":
        pytest.importorskip("ray")
    return [[*map(str, base), *WAYS[way]]]


def start(way, table, out, model):
    return [subprocess.Popen(command) for command in commands(way, table, out, model)]


def finish(way, table, out, model):
    """Run to the end; the manifest without times, and the exit codes."""
    codes = [process.wait() for process in start(way, table, out, model)]
    if way == "shards":
        merge = [
            sys.executable,
            "-m",
            "processing_rrsis.cli.app",
            "scenes-merge",
            str(table),
            "--out",
            str(out),
        ]
        codes.append(subprocess.run(merge, check=False).returncode)
    return parquet.read_table(out / "manifest.parquet").drop_columns(["seconds"]), codes


def records(out):
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob(f"*/{RECORD_FILE}")}


def wait_for(out, count):
    end = time.monotonic() + 600
    while len(records(out)) < count:
        assert time.monotonic() < end, "the run does not get on"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(big_table, model_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    started = time.monotonic()
    (command,) = commands("processes", big_table, out, model_folder)
    subprocess.run([*command[: command.index("--num-workers")], "--num-workers", "1"], check=True)
    print(f"one process: {time.monotonic() - started:.1f} s")  # noqa: T201
    return parquet.read_table(out / "manifest.parquet").drop_columns(["seconds"]), layers(out)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_ends_with_the_same(way, big_table, model_folder, whole, tmp_path):
    started = time.monotonic()
    manifest, codes = finish(way, big_table, tmp_path / "out", model_folder)
    print(f"{way}: {time.monotonic() - started:.1f} s")  # noqa: T201
    assert not any(codes)
    assert manifest.num_rows == 2 * SCENES
    assert manifest.equals(whole[0])
    assert layers(tmp_path / "out") == whole[1]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("who", ["driver", "worker"])
def test_killed(way, who, big_table, model_folder, whole, tmp_path):
    out = tmp_path / "out"
    running = start(way, big_table, out, model_folder)
    wait_for(out, SCENES // 4)
    workers = [child for process in running for child in psutil.Process(process.pid).children(recursive=True)]
    names = ("spawn_main", "SceneWorker")
    workers = [child for child in workers if any(name in " ".join(child.cmdline()) for name in names)]
    assert workers
    for victim in [process.pid for process in running] if who == "driver" else [workers[0].pid]:
        os.kill(victim, signal.SIGKILL)
    for process in running:
        process.wait()
    psutil.wait_procs(workers, timeout=60)
    before = records(out)
    lost = {path.parent.name for path in out.glob(f"*/{RECORD_FILE}") if '"error": "the ' in path.read_text()}
    assert len(lost) <= 1
    for (command,) in [commands(way, big_table, out, model_folder)] if way != "shards" else []:
        subprocess.run([*command, "--retry-failed"], check=True)
    if way == "shards":
        for command in commands(way, big_table, out, model_folder):
            subprocess.run([*command, "--retry-failed"], check=True)
    manifest, codes = finish(way, big_table, out, model_folder)
    after = records(out)
    assert not any(codes)
    assert manifest.equals(whole[0])
    assert layers(out) == whole[1]
    again = {name for name in before if after[name] != before[name]}
    assert again == lost
    print(f"{way}, {who} killed: {len(before)} finished, {len(again)} of them again")  # noqa: T201


@pytest.mark.parametrize("way", WAYS)
def test_an_output_deleted_an_input_damaged(way, big_table, model_folder, whole, tmp_path):
    table = tmp_path / "scenes.csv"
    shutil.copytree(big_table.parent / "rasters", tmp_path / "rasters")
    shutil.copy(big_table, table)
    out = tmp_path / "out"
    assert finish(way, table, out, model_folder)[0].num_rows == 2 * SCENES
    before = records(out)
    (gone,) = out.glob("s7-*/mask.tif")
    gone.unlink()
    damaged = tmp_path / "rasters" / "s9.tif"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:200])
    manifest, codes = finish(way, table, out, model_folder)
    assert any(codes)
    changed = {name.partition("-")[0] for name, when in records(out).items() if when != before[name]}
    assert changed == {"s7", "s9"}
    assert manifest["status"].to_pylist().count("failed") == 2
    damaged.write_bytes(content)
    manifest, codes = finish(way, table, out, model_folder)
    assert not any(codes)
    assert layers(out) == whole[1]


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk: Linux, root")
@pytest.mark.parametrize("way", WAYS)
def test_a_full_disk(way, big_table, model_folder, whole, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], check=True)
    try:
        out = disk / "out"
        running = start(way, big_table, out, model_folder)
        codes = [process.wait() for process in running]
        assert any(codes)
        before = {name: when for name, when in records(out).items() if not failed(out / name)}
        assert 0 < len(before) < SCENES
        subprocess.run(["mount", "-o", "remount,size=400m", str(disk)], check=True)
        for command in commands(way, big_table, out, model_folder):
            subprocess.run([*command, "--retry-failed"], check=True)
        manifest, codes = finish(way, big_table, out, model_folder)
        assert not any(codes)
        assert manifest.equals(whole[0])
        assert layers(out) == whole[1]
        assert all(records(out)[name] == when for name, when in before.items())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def failed(folder):
    return '"error": ""' not in (folder / RECORD_FILE).read_text()
