"""`rrsis benchmark` as a command: its options, tables, files and errors."""

import json
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from processing_rrsis.benchmark.plot import plot_benchmark
from processing_rrsis.benchmark.report import print_report
from processing_rrsis.benchmark.results import OUT_OF_MEMORY, CaseResult, Memory
from processing_rrsis.benchmark.spec import (
    SCALING_SIZES_PX,
    TRAIN,
    TRAIN_CHECKPOINTED,
    BenchmarkSpec,
    Case,
)
from processing_rrsis.benchmark.study_results import BenchmarkReport
from processing_rrsis.cli.app import app
from processing_rrsis.hub.model_folder import save_hub_folder
from tests.processing.conftest import build_tiny_model, build_tiny_processor

TINY = Case("fianet", image_size_px=64, model_size="tiny")
QUICK = BenchmarkSpec(
    models=("lavt",),
    model_size="tiny",
    image_sizes_px=(64,),
    rounds=1,
    warmup=0,
    has_memory=False,
    ceiling_scale=32,
)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_command_writes_tables_json_and_a_picture(tmp_path):
    files = {name: tmp_path / name for name in ("out.json", "out.png", "trace.json")}
    options = ["--quick", "-m", "fianet", "--work", "train", "--no-memory", "--device", "cpu", "--grid", "--scaling"]
    options += ["--expressions", "2", "--affinity-loss", "--rounds", "1", "--trace", str(files["trace.json"])]
    options += ["--json", str(files["out.json"]), "--plot", str(files["out.png"])]
    result = CliRunner().invoke(app, ["benchmark", *options], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    for text in ("× Swin", "peak GiB", "s/megapixel", "Swin stage 3", "aten::", "as fast as the dense form"):
        assert text in result.stdout
    assert "…" not in result.stdout.split("Operators")[0]
    written = json.loads(files["out.json"].read_text())
    assert set(written) == {
        *("settings", "reference", "machine", "ceilings"),
        *("cases", "expressions", "scaling", "profiles", "affinity_loss"),
    }
    (case,) = written["cases"]
    assert (case["model"], case["work"], case["status"]) == ("fianet", "train", "ok")
    assert case["ratio_to_swin"]["of_medians"] == pytest.approx(case["median_seconds"] / case["reference_seconds"][0])
    assert case["images_per_second"] == pytest.approx(1 / case["median_seconds"])
    assert set(case["share_of_ceiling"]) == {"matrix product", "3x3 convolution"}
    assert written["scaling"][0]["sizes_px"] == [64, 96, 128]
    assert {"threads", "bfloat16_instructions", "torch", "processor"} <= set(written["machine"])
    assert files["out.png"].read_bytes().startswith(b"\x89PNG")
    assert json.loads(files["trace.json"].read_text())["traceEvents"]


def test_out_of_memory_is_shown_and_not_drawn(tmp_path):
    rows = [
        CaseResult(
            replace(TINY, image_size_px=1536, dtype="bfloat16", mode="compile", work=TRAIN_CHECKPOINTED),
            status=OUT_OF_MEMORY,
            memory=Memory(status=OUT_OF_MEMORY),
        )
    ]
    machine = {"processor": "P", "cores": 2, "threads": 1, "cpu_capability": "AVX2", "bfloat16_instructions": []}
    machine |= {"torch": "2", "timm": "1", "transformers": "5"}
    report = BenchmarkReport(QUICK, "swin", machine, [], rows, expressions=[], scaling=[], profiles=[], affinity=None)
    console = Console(width=80)
    with console.capture() as capture:
        print_report(report, console)
    assert capture.get().count(OUT_OF_MEMORY) == 2
    with pytest.raises(ValueError, match="nothing was measured that can be drawn"):
        plot_benchmark(report, tmp_path / "out.png")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-m", "lavt,unet"], "--model: expected one of lavt, danet, fianet, rmsin, got 'unet'"),
        (["--dtype", "float16"], "--dtype: expected one of float32, bfloat16, autocast, got 'float16'"),
        (["--work", "sleep"], "--work: expected one of forward, train, got 'sleep'"),
        (["--device", "tpu"], "--device: expected one of auto, cpu, cuda, got 'tpu'"),
        (["-s", "480px"], "--image-size: expected numbers separated by commas such as 1,2, got '480px'"),
        (["-s", "30"], "--image-size: expected multiples of 4 of at least 32, got 30"),
        (["--expressions", "1"], "--expressions: expected 2 or more"),
        (["--plot", "out.jpg"], "--plot: expected a file name that ends with .png, got out.jpg"),
        (["--json", "no/such/out.json"], "--json: expected a file name in an existing folder"),
        (["--profile", "--plot", "out.png"], "--plot: expected the table of cases or --scaling to draw"),
        (["--trace", "t.json"], "--trace: expected one model and one work"),
        (
            ["--json", "a.png", "--plot", "a.png"],
            "--plot: expected a file of its own for each result, a.png is --json's",
        ),
        (["--gpu-bar", "-m", "lavt", "--device", "cpu"], "--gpu-bar: sets --device, --model itself"),
        (["--model-folder", ".", "-m", "danet"], "--model-folder: sets --model itself"),
        (["--scaling", "-s", "64"], "--scaling: has image sizes of its own"),
        (["--gpu-bar", "--no-grid"], "--gpu-bar: sets --grid itself"),
        (["--no-grid"], "--no-grid: leaves nothing to measure"),
        (["--affinity-loss", "-s", "320"], "--affinity-loss: does not read --image-size"),
        (["--model-folder", "./none"], "--model-folder: expected a model folder"),
    ],
)
def test_errors_are_one_sentence(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["benchmark", *options])
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("option", [["--device", "cuda"], ["--gpu-bar"]])
def test_without_a_gpu_it_says_so(option, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = CliRunner().invoke(app, ["benchmark", *option])
    assert result.exit_code == 1
    assert "expected a GPU for cuda (and --gpu-bar), PyTorch finds none here" in result.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--device", "cpu"], {"has_grid": True, "rounds": 5, "image_sizes_px": (480,), "affinity_batch": 0}),
        (["--device", "cpu", "--quick", "-s", "96"], {"rounds": 2, "image_sizes_px": (96,), "model_size": "tiny"}),
        (["--quick", "--rounds", "5", "--model-size", "base"], {"rounds": 5, "model_size": "base"}),
        (["--quick", "-s", "480"], {"rounds": 2, "image_sizes_px": (480,)}),
        (["--device", "cpu", "--scaling"], {"has_grid": False, "scaling_sizes_px": SCALING_SIZES_PX}),
        (["--device", "cpu", "--affinity-loss"], {"has_grid": False, "affinity_batch": 1}),
        (["--device", "cuda", "--affinity-loss"], {"affinity_batch": 16, "affinity_pixels": 3600}),
        (["--gradient-checkpointing", "--work", "train"], {"works": (TRAIN, TRAIN_CHECKPOINTED)}),
        (
            ["--gpu-bar"],
            {
                "models": ("fianet",),
                "works": (TRAIN,),
                "batch_sizes": (16,),
                "image_sizes_px": (480,),
                "variants": (("float32", "eager"), ("bfloat16", "compile"), ("autocast", "compile")),
                "device": "cuda",
                "affinity_batch": 16,
                "has_grid": True,
            },
        ),
    ],
)
def test_options_become_settings(options, expected, monkeypatch):
    specs = []
    monkeypatch.setattr("processing_rrsis.cli.benchmark._run", lambda spec, **_: specs.append(spec))
    result = CliRunner().invoke(app, ["benchmark", *options])
    assert result.exit_code == 0, result.output
    assert {name: getattr(specs[0], name) for name in expected} == expected


def test_a_folder_is_measured_with_its_weights(tmp_path):
    folder = save_hub_folder(build_tiny_model("danet"), build_tiny_processor(), tmp_path / "best")
    options = ["--model-folder", str(folder), "--quick", "--expressions", "2", "--rounds", "1", "--device", "cpu"]
    result = CliRunner().invoke(app, ["benchmark", *options, "--json", str(tmp_path / "out.json")])
    assert result.exit_code == 0, result.output
    (found,) = json.loads((tmp_path / "out.json").read_text())["expressions"]
    assert found["case"]["model"] == "best"
    assert found["threshold"] == 0
    assert result.stdout.replace("\n", " ").count("logits cut at 0") == 1
