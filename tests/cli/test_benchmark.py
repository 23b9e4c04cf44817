"""`rrsis benchmark` as a command: its options, tables, files and errors."""

import json
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from processing_rrsis.benchmark.report import print_cases
from processing_rrsis.benchmark.results import OUT_OF_MEMORY, CaseResult, Memory
from processing_rrsis.benchmark.spec import TRAIN_CHECKPOINTED, Case
from processing_rrsis.cli.app import app
from processing_rrsis.hub.model_folder import save_hub_folder
from tests.tiny import build_tiny_model, build_tiny_processor

TINY = Case("fianet", image_size_px=64, model_size="tiny")
SMALL = ["--model-size", "tiny", "--device", "cpu"]
ONCE = ["--rounds", "1", "--warmup", "0"]
pytestmark = pytest.mark.usefixtures("one_thread")


def run(*options):
    return CliRunner().invoke(app, ["benchmark", *options], env={"COLUMNS": "80"})


def test_the_table_of_cases(tmp_path):
    options = ["-m", "fianet", "-s", "64", "--work", "train", "--gradient-checkpointing", "--no-memory"]
    result = run(*SMALL, *ONCE, *options, "--json", str(tmp_path / "out.json"))
    assert result.exit_code == 0, result.output
    assert "…" not in result.stdout
    assert "train ckpt" in result.stdout
    written = json.loads((tmp_path / "out.json").read_text())
    assert {"threads", "has_avx512_bf16", "torch", "processor"} <= set(written["machine"])
    case, checkpointed = written["cases"]
    assert (case["model"], case["work"], case["status"]) == ("fianet", "train", "ok")
    assert case["ratio_to_swin"]["of_medians"] == pytest.approx(case["median_seconds"] / case["reference_seconds"][0])
    assert case["images_per_second"] == pytest.approx(1 / case["median_seconds"])
    assert checkpointed["work"] == TRAIN_CHECKPOINTED


@pytest.mark.parametrize(
    ("options", "name", "text"),
    [
        (["scaling", *SMALL, *ONCE, "-m", "lavt", "-s", "64,96,128"], "scaling", "s/megapixel"),
        (["expressions", *SMALL, *ONCE, "-m", "lavt", "-s", "64", "-n", "2"], "expressions", "2 expressions in one"),
        (["profile", *SMALL, "-m", "lavt", "-s", "64", "--work", "train"], "profiles", "vision.layers.2"),
        (["affinity", "--device", "cpu", *ONCE, "-n", "64", "--no-memory"], "affinity_loss", "as the dense form"),
    ],
)
def test_studies(options, name, text, tmp_path):
    result = run(*options, "--json", str(tmp_path / "out.json"))
    assert result.exit_code == 0, result.output
    assert text in result.stdout
    assert len(json.loads((tmp_path / "out.json").read_text())[name]) == 1


def test_out_of_memory_is_shown():
    case = replace(TINY, image_size_px=1536, dtype="bfloat16", mode="compile", work=TRAIN_CHECKPOINTED)
    console = Console(width=80)
    with console.capture() as capture:
        print_cases([CaseResult(case, status=OUT_OF_MEMORY, memory=Memory(status=OUT_OF_MEMORY))], "swin", console)
    assert capture.get().count(OUT_OF_MEMORY) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-m", "lavt,unet"], "--model: expected one of lavt, danet, fianet, rmsin, got 'unet'"),
        (["--dtype", "float16"], "--dtype: expected one of float32, bfloat16, autocast, got 'float16'"),
        (["--work", "sleep"], "--work: expected one of forward, train, got 'sleep'"),
        (["--device", "tpu"], "--device: expected one of auto, cpu, cuda, got 'tpu'"),
        (["-s", "480px"], "--image-size: expected numbers separated by commas such as 1,2, got '480px'"),
        (["-s", "30"], "--image-size: expected multiples of 4 of at least 32, got 30"),
        (["--json", "no/such/out.json"], "--json: expected a name in an existing folder"),
        (["-m", "./none"], "--model: expected a model folder"),
        (["expressions", "-n", "1"], "--expressions: expected 2 or more"),
        (["scaling", "-s", "64,96"], "--image-size: expected at least three sizes"),
        (["profile", "--trace", "t.json"], "--trace: expected one model and one work"),
    ],
)
def test_errors_are_one_sentence(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*options)
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_without_a_gpu_it_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = run("--device", "cuda")
    assert result.exit_code == 1
    assert "expected a GPU for cuda, PyTorch finds none here" in result.stderr


def test_a_folder_is_measured_with_its_weights(tmp_path):
    folder = save_hub_folder(build_tiny_model("danet"), build_tiny_processor(), tmp_path / "best")
    result = run("expressions", "-m", str(folder), "-s", "64", "-n", "2", *ONCE, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert result.stdout.replace("\n", " ").count("best, float32 eager, 64 px") == 1
    assert result.stdout.replace("\n", " ").count("logits cut at 0 ") == 1
