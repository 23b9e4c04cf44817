"""The training script: a short run and what it leaves."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor

from modeling_rrsis import FIANetForReferringSegmentation
from processing_rrsis.pipeline_rrsis import ReferringSegmentationPipeline
from processing_rrsis.training.recipes.shipped import get_recipe
from processing_rrsis.training.setup import fit_batch, resolve_precision
from train_accelerate import TrainingArguments, prepare_run, resolve_recipe

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("fresh_accelerate")


def test_prints_the_controls_and_the_kinds(run_dir):
    output = (run_dir.parent / "output.txt").read_text()
    for words in (
        "shuffled",
        "category only",
        "blank",
        "size+position",
        "test_compositional",
        "Selected on validation alone",
    ):
        assert words in output


def test_logs_every_step_and_evaluation(run_dir):
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    assert all(line["loss"] > 0 and line["grad_norm"] > 0 for line in steps)
    timing = [json.loads(line) for line in (run_dir / "timing.jsonl").read_text().splitlines()]
    assert [line["step"] for line in timing] == [1, 2, 3, 4]
    assert all(line["images_per_second"] > 0 and 0 <= line["data_wait_share"] <= 1 for line in timing)
    assert all(0.1 < line["memory_gib"] < 64 for line in timing)
    evaluations = [line for line in lines if line.get("split") == "validation"]
    assert [line["step"] for line in evaluations] == [2, 4]
    assert all(0 <= line["shuffled/mIoU"] <= 100 for line in evaluations)


def test_a_model_that_does_not_read_is_told_so(run_dir):
    assert "it hardly reads the text" in " ".join((run_dir.parent / "output.txt").read_text().split())


def test_metrics_hold_recipe_splits_and_controls(run_dir):
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert metrics["recipe"]["max_steps"] == 4
    assert set(metrics["results"]) == {"test", "test_compositional", "test_absent"}
    assert set(metrics["results"]["test"]) == {"expression", "shuffled", "category", "blank"}
    assert metrics["results"]["test"]["expression"]["overall"]["n"] == 24
    assert "validation" in metrics["selection"]
    assert json.loads((run_dir / "best" / "metrics.json").read_text()) == metrics


def test_pictures_can_be_opened(run_dir):
    for name in ("contact_sheet.png", "curves.png"):
        with Image.open(run_dir / name) as picture:
            picture.load()
            assert picture.width > 1000


@pytest.mark.parametrize("name", ["best", "last"])
def test_folders_have_a_model_card(run_dir, name):
    card = (run_dir / name / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag" in card
    one_run = "one run, its spread over seeds not measured"
    assert one_run in card
    assert ("not measured" in card.replace(one_run, "").lower()) == (name == "last")


@pytest.mark.parametrize("name", ["best", "last"])
def test_folders_load_and_segment(run_dir, name):
    model = AutoModel.from_pretrained(run_dir / name)
    assert isinstance(model, FIANetForReferringSegmentation)
    pipe = ReferringSegmentationPipeline(model=model, processor=AutoProcessor.from_pretrained(run_dir / name))
    result = pipe(Image.new("RGB", (70, 50)), text="the ship on the left")
    assert result["mask"].size == (70, 50)
    assert 0.0 <= result["score"] <= 1.0


def test_unknown_model_lists_what_exists():
    with pytest.raises(ValueError, match="lavt, danet, fianet, rmsin, got 'unet'"):
        resolve_recipe(TrainingArguments(model="unet"))


def test_a_small_network_on_any_data():
    arguments = TrainingArguments(small=True, dataset="my/roofs.csv", image_size=128)
    recipe = resolve_recipe(arguments)
    synthetic = get_recipe("fianet-synthetic")
    assert (recipe.name, recipe.dataset, recipe.vision, recipe.image_size_px) == ("fianet-own", "own", None, 128)
    assert (recipe.config, recipe.learning_rate) == (synthetic.config, synthetic.learning_rate)
    assert (arguments.data_dir, arguments.output_dir) == ("my/roofs.csv", "runs/fianet-own")
    with pytest.raises(ValueError, match="--small and --recipe exclude each other"):
        resolve_recipe(TrainingArguments(small=True, recipe="lavt-rrsisd"))


def test_a_model_is_finetuned_with_the_numbers_that_it_was_trained_with(run_dir, tmp_path):
    recipe = resolve_recipe(TrainingArguments(init_from=str(run_dir / "best"), dataset="roofs.csv"))
    before = json.loads((run_dir / "best" / "metrics.json").read_text())["recipe"]
    assert (recipe.dataset, recipe.batch_size, recipe.max_steps) == ("own", before["batch_size"], before["max_steps"])
    assert str(run_dir) not in str(recipe.to_dict())
    stopped = tmp_path / "run"  # before its end best/ has no metrics.json
    shutil.copytree(run_dir, stopped)
    (stopped / "best" / "metrics.json").unlink()
    again = resolve_recipe(TrainingArguments(init_from=str(stopped / "best"), dataset="roofs.csv"))
    assert (again.batch_size, again.config) == (recipe.batch_size, recipe.config)
    other = resolve_recipe(TrainingArguments(init_from=str(run_dir / "best"), dataset="roofs.csv", model="lavt"))
    assert other.learning_rate == get_recipe("lavt-rrsisd").learning_rate


@pytest.mark.parametrize(("samples", "processes", "batch"), [(8, 1, 8), (9, 2, 8), (100, 1, 32), (1, 2, 32)])
def test_a_batch_is_no_larger_than_the_training_split(samples, processes, batch):
    recipe = get_recipe("lavt-rrsisd")
    assert fit_batch(TrainingArguments(), recipe, samples, processes).batch_size == batch
    assert fit_batch(TrainingArguments(batch_size=32), recipe, samples, processes) is recipe


def test_few_rows_are_not_evaluated_at_every_update():
    recipe = get_recipe("fianet-rrsisd").changed("test", batch_size=8)
    assert (recipe.updates(8), recipe.evaluation_interval(8)) == (40, 50)
    assert recipe.evaluation_interval(2_172) == 271  # an epoch of RefSegRS


def test_unknown_dataset_lists_what_exists():
    with pytest.raises(ValueError, match=r"on dataset 'imagenet'.*refsegrs, risbench, rrsisd, synthetic"):
        resolve_recipe(TrainingArguments(dataset="imagenet"))


def test_batch_must_be_divisible(tmp_path):
    arguments = TrainingArguments(batch_size=3, gradient_accumulation_steps=2, output_dir=str(tmp_path), max_samples=8)
    with pytest.raises(ValueError, match="multiple of processes × accumulation steps, here 1 × 2"):
        prepare_run(arguments)


@pytest.mark.parametrize("name", ["max_steps", "batch_size", "eval_every", "log_every", "max_samples"])
def test_numbers_below_one_are_refused(name):
    with pytest.raises(ValueError, match=rf"{name}(: expected an integer of| must be) at least 1\b.*, got 0"):
        resolve_recipe(TrainingArguments(**{name: 0}))


@pytest.mark.parametrize(
    ("name", "value"), [("learning_rate", -1.0), ("text_learning_rate", float("nan")), ("warmup_steps", -3)]
)
def test_rates_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected (a number above 0|an integer of at least 0), got {value}"):
        resolve_recipe(TrainingArguments(**{name: value}))


def test_each_model_has_a_folder_of_its_own():
    arguments = TrainingArguments(model="danet")
    resolve_recipe(arguments)
    assert arguments.output_dir == "runs/danet"


def test_unknown_augmentations_list_what_exists(tmp_path):
    with pytest.raises(ValueError, match=r"flip, vflip, boxes joined with '\+' .*got 'rotate'"):
        prepare_run(TrainingArguments(augmentation="rotate", output_dir=str(tmp_path)))


@pytest.mark.slow
def test_two_processes_train_and_report_once(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(ROOT / "train_accelerate.py"), "--model", "lavt", "--output_dir", str(tmp_path / "out")]
    command += ["--max_steps", "2", "--eval_every", "2", "--max_samples", "12", "--batch_size", "8"]
    command += ["--num_workers", "0", "--cpu_threads", "1", "--augmentation", "flip+boxes"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("update 2: validation") == 1
    assert "2 process(es) on cpu" in " ".join(done.stdout.split())
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["results"]["test"]["expression"]["overall"]["n"] == 12


def test_too_few_samples_for_one_update(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="8 samples, fewer than the 16 of one update"):
        prepare_run(TrainingArguments(batch_size=16, max_samples=8, output_dir=str(tmp_path / "out")))


def test_errors_are_one_line_for_the_user():
    done = subprocess.run(
        [sys.executable, str(ROOT / "train_accelerate.py"), "--model", "unet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr


def test_auto_precision_is_one_the_hardware_has(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert resolve_precision("auto") == "bf16"
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    assert resolve_precision("auto") == "no"
    assert resolve_precision("fp16") == "fp16"
