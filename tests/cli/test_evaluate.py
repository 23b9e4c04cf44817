"""`rrsis evaluate`: the same numbers however they are computed, the papers' layout, one-sentence errors."""

import hashlib
import json
import os
import subprocess
import sys

import datasets
import pytest
import torch
from typer.testing import CliRunner

from processing_rrsis.cli.app import app
from processing_rrsis.data import DemoSpec, write_demo
from processing_rrsis.data.files.content_hash import content_hash
from processing_rrsis.hub.model_folder import save_hub_folder
from tests.metrics.evaluation_fakes import make_dataset
from tests.tiny import build_tiny_model, build_tiny_processor

TEXTS = [
    "the ship",
    "the large red tank on the upper left of the building",
    "a dam above the road",
    "the gray vehicle",
]


@pytest.fixture(autouse=True)
def on_the_cpu(fresh_accelerate, one_thread, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A FIANet of random weights that predicts a part of every image."""
    model = build_tiny_model("fianet")
    folder = tmp_path_factory.mktemp("evaluate") / "best"
    return save_hub_folder(model, build_tiny_processor(), folder, metrics={"selection": "best mIoU on validation"})


@pytest.fixture
def split():
    """Nine samples of three images, 12 px wide; texts of several lengths."""
    rows = make_dataset(num_samples=9, native_size_px=12)
    return rows.map(lambda row, index: {"expression": TEXTS[index % 4]}, with_indices=True, load_from_cache_file=False)


@pytest.fixture
def benchmark(monkeypatch, split):
    """Any benchmark's name loads the nine samples."""

    def load(name, data_dir=None, **options):
        return datasets.DatasetDict({"validation": split, "test": split})

    monkeypatch.setattr("processing_rrsis.data.load.load_benchmark", load)


def run(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)], env={"COLUMNS": "160"})


def evaluate(folder, output, *options):
    result = run("-m", folder, "-d", "rrsisd", "--json", output, "--num-workers", 0, "--resamples", 200, *options)
    assert result.exit_code == 0, result.output
    document = json.loads(output.read_text())
    return document, document.pop("run")


EVERY_PROCESS = """
import sys, datasets
import processing_rrsis.data.load as loading
from processing_rrsis.cli.app import app
rows = datasets.load_from_disk(sys.argv[1])
loading.load_benchmark = lambda name, **options: datasets.DatasetDict(validation=rows, test=rows)
for batch_size in ("1", "7"):
    arguments = ["evaluate", "-m", sys.argv[2], "-d", "rrsisd", "--json", f"{sys.argv[3]}/two-{batch_size}.json"]
    app([*arguments, "--num-workers", "0", "--resamples", "200", "--batch-size", batch_size], standalone_mode=False)
"""


def evaluate_on_two_processes(split, folder, output):
    """By torchrun: a fork of this process would inherit locks of threads that it does not have."""
    split.save_to_disk(output / "split")
    (output / "every.py").write_text(EVERY_PROCESS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(output / "every.py"), str(output / "split"), str(folder), str(output)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_batch_size_and_number_of_processes_change_no_digit(benchmark, split, model_folder, tmp_path):
    expected, alone = evaluate(model_folder, tmp_path / "one-1.json", "--batch-size", 1)
    batched, run_of_seven = evaluate(model_folder, tmp_path / "one-7.json", "--batch-size", 7)
    exact, _ = evaluate(model_folder, tmp_path / "exact.json", "--batch-size", 7, "--exact")
    assert batched == expected
    assert exact == expected
    assert (alone["processes"], alone["batch_size"], run_of_seven["batch_size"]) == (1, 1, 7)
    assert run_of_seven["ties"]["expression"]["repeated"] > 0
    assert expected["results"]["expression"]["input"]["overall"]["mIoU"] > 0
    evaluate_on_two_processes(split, model_folder, tmp_path)
    for batch_size in (1, 7):
        document = json.loads((tmp_path / f"two-{batch_size}.json").read_text())
        assert document.pop("run")["processes"] == 2
        assert document == expected


def test_document_says_what_was_measured_and_how(benchmark, split, model_folder, tmp_path):
    document, _ = evaluate(model_folder, tmp_path / "results.json")
    weights = (model_folder / "model.safetensors").read_bytes()
    assert document["model"]["revision"]["model.safetensors"] == hashlib.sha256(weights).hexdigest()
    assert set(document["model"]["revision"]) == {"config.json", "model.safetensors"}
    assert document["model"]["selection"] == "best mIoU on validation"
    assert document["data"]["content_sha256"] == content_hash(split)
    assert (document["data"]["samples"], document["data"]["images"]) == (9, 5)
    assert document["protocol"]["resolution"].startswith("64×64 px (model input); native: own size")
    assert document["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    result = document["results"]["expression"]
    assert set(result) == {"absent", "resolution", "input", "native", "by_kind", "by_category"}
    low, high = result["native"]["intervals"]["mIoU"]
    assert low <= result["native"]["overall"]["mIoU"] <= high
    assert result["input"]["intervals"]["units"] == 5
    assert set(result["by_kind"]) == {"category", "colour", "relation"}
    assert result["by_category"]["ship"]["intervals"]["method"].endswith("drawing images")


def test_tables_have_the_papers_layout(benchmark, model_folder):
    result = run("-m", model_folder, "-d", "rrsisd", "--num-workers", 0, "--resamples", 200)
    lines = result.output.splitlines()
    heads = [line.split() for line in lines if "Pr@0.5" in line]
    assert heads[0] == ["method", "Pr@0.5", "Pr@0.6", "Pr@0.7", "Pr@0.8", "Pr@0.9", "oIoU", "mIoU"]
    assert next(line.split() for line in lines if "CrossVLT" in line)[1:] == (
        ["70.38", "63.83", "52.86", "42.11", "25.02", "76.32", "61.00"]
    )
    assert any(line.split()[:4] == ["FIANet,", "ours,", "64×64", "px"] for line in lines if line)
    windmill = next(line.split() for line in lines if "windmill" in line)
    assert windmill[-4:] == ["35.32", "41.99", "40.76", "46.72"]
    assert "best oIoU on this test split" in " ".join(result.output.split())
    assert "RMSIN, test: LAVT oIoU 77.19, mIoU 61.04." in " ".join(result.output.split())
    assert "not like for like, this model reads 64×64 px" in " ".join(result.output.split())
    assert "not comparable: DANet, table 2, val." in " ".join(result.output.split())
    validation = run(
        "-m", model_folder, "-d", "rrsisd", "--split", "validation", "--num-workers", 0, "--resamples", 100
    )
    assert "66.07" in validation.output
    assert "CrossVLT" not in validation.output


def test_one_resolution_and_the_controls(benchmark, model_folder, tmp_path):
    native, _ = evaluate(model_folder, tmp_path / "native.json", "--resolution", "native", "--controls")
    assert "input" not in native["results"]["expression"]
    assert set(native["results"]) == {"expression", "shuffled", "category", "blank"}
    assert native["protocol"]["shuffling_seed"] == 0
    small, _ = evaluate(model_folder, tmp_path / "480.json", "--resolution", "480", "--max-samples", 3)
    assert "native" not in small["results"]["expression"]
    assert small["data"]["samples"] == 3
    assert small["data"]["first_samples_only"]


def test_errors_are_one_sentence(benchmark, monkeypatch, model_folder, split, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.json").write_text("{}")
    given = ["-m", model_folder, "-d", "rrsisd"]
    cases = [
        ([*given, "--split", "tset"], "--split: expected one of validation, test, got 'tset'"),
        (["-m", empty, "-d", "rrsisd"], "expected weights (model.safetensors)"),
        (["-m", tmp_path / "none", "-d", "rrsisd"], "expected a model folder or a Hub repository"),
        ([*given, "--threshold", "1"], "--threshold: expected a probability"),
        ([*given, "--confidence", "95"], "such as 0.95, got 95.0"),
        ([*given, "--resamples", "5"], "at least 100, got 5"),
        ([*given, "--json", tmp_path], "--json: expected a file name"),
        ([*given, "--json", tmp_path / "no" / "r.json"], "--json: expected a name in an existing folder"),
        ([*given, "--image-size", "64"], "expected with --dataset synthetic alone"),
        (
            ["-m", model_folder, "-d", "synthetic", "--split", "devel"],
            "--split: expected one of train, validation, test",
        ),
        (["-m", model_folder, "-d", "synthetic", "--allow-missing"], "no files to miss"),
    ]
    for arguments, expected in cases:
        result = run(*arguments)
        assert result.exit_code == 1, arguments
        assert expected in " ".join(result.output.split()), result.output
        assert "Traceback" not in result.output
    without = datasets.DatasetDict({"test": split.remove_columns("mask")})
    monkeypatch.setattr("processing_rrsis.data.load.load_benchmark", lambda *args, **options: without)
    assert "lacks ['mask']" in " ".join(run(*given).output.split())


def test_what_is_not_like_the_papers_is_said_on_every_run(model_folder, tmp_path, monkeypatch):
    """A demo with a missing image, twice: the second time the data comes from the cache."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    demo = tmp_path / "demo"
    spec = DemoSpec("rrsisd", counts={"train": 1, "validation": 1, "test": 3}, image_size_px=64)
    write_demo(spec, demo, progress=False)
    image = sorted((demo / "images" / "rrsisd" / "JPEGImages").glob("*.jpg"))[-1]
    image.unlink()
    command = ["-m", model_folder, "-d", "rrsisd", "--split", "test", "--data-dir", demo, "--allow-missing"]
    for number in range(2):
        found = run(*command, "--json", tmp_path / f"{number}.json")
        assert found.exit_code == 0, found.output
        words = " ".join(found.output.split())
        assert "not comparable with the published rows" in words
        assert "the pictures are a demo's" in words
        assert "--allow-missing left out 1 references" in words
        assert "2 of 3,481 published references are scored" in words
        data = json.loads((tmp_path / f"{number}.json").read_text())["data"]
        assert (data["samples"], data["published_samples"], data["is_demo"]) == (2, 3481, True)
        assert len(data["left_out"]) == 1


def test_unknown_datasets_are_named(model_folder):
    result = run("-m", model_folder, "-d", "imagenet")
    assert result.exit_code == 1
    assert "got 'imagenet'" in result.output


def test_help_teaches():
    result = CliRunner().invoke(app, ["evaluate", "--help"], env={"COLUMNS": "80"})
    assert result.exit_code == 0
    assert "accelerate launch -m processing_rrsis.cli.app evaluate" in result.output


@pytest.mark.slow
def test_processes_started_the_documented_way(model_folder, tmp_path):
    """On the embedded benchmark, by torchrun with two processes and without it with one."""
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    launchers = {
        "one": [sys.executable],
        "two": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    }
    documents = {}
    for name, launcher in launchers.items():
        command = [*launcher, "-m", "processing_rrsis.cli.app", "evaluate", "-m", str(model_folder)]
        command += ["-d", "synthetic", "--max-samples", "10", "--image-size", "96", "--batch-size", "3"]
        command += ["--num-workers", "0", "--resamples", "100", "--json", str(tmp_path / f"{name}.json")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("mIoU per category") == 1
        documents[name] = json.loads((tmp_path / f"{name}.json").read_text())
    assert documents["two"].pop("run")["processes"] == 2
    assert documents["one"].pop("run")["processes"] == 1
    assert documents["one"] == documents["two"]
