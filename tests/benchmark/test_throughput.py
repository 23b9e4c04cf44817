"""`rrsis data-throughput`: both ways read the same, and what is timed is what is said."""

import json
import time
from dataclasses import replace

import datasets
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from processing_rrsis.benchmark.plain_dataset import PlainDataset
from processing_rrsis.benchmark.throughput import (
    ReadingWay,
    compare_batches,
    draw_batches,
    make_ways,
    measure_throughput,
    time_pass,
    time_steps,
    time_training,
)
from processing_rrsis.benchmark.throughput_report import (
    Agreement,
    Throughput,
    ThroughputReport,
    ThroughputSpec,
    agreement_line,
    throughput_table,
)
from processing_rrsis.cli.app import app
from processing_rrsis.data.writing.demo import DemoSpec, write_demo
from tests.data.fake_downloads import rrsisd_files, runs_of, write_folder, write_zip

COUNTS = {"train": 12, "validation": 1, "test": 1}


@pytest.fixture(scope="module", params=["rrsisd", "refsegrs", "risbench"])
def spec(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    write_demo(DemoSpec(request.param, counts=COUNTS, image_size_px=96), folder / "demo", progress=False)
    return ThroughputSpec(
        request.param,
        folder / "demo",
        workers=(0,),
        batch_size=4,
        batches=2,
        warmup_batches=1,
        repeat=2,
        image_size_px=64,
        cache_dir=str(folder / "cache"),
    )


@pytest.fixture
def fake_spec(tmp_path):
    folder = write_folder(rrsisd_files(), tmp_path / "download")
    return ThroughputSpec(
        "rrsisd", folder, batch_size=3, batches=1, image_size_px=48, cache_dir=str(tmp_path / "cache")
    )


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_both_ways_read_the_same_samples(spec):
    ours, plain = make_ways(spec)
    assert len(ours.dataset) == len(plain.dataset) == COUNTS["train"]
    one, two = ours.batch([5, 0, 11]), plain.batch([5, 0, 11])
    assert two["pixel_values"].shape == (3, 3, 64, 64)
    assert two["input_ids"].shape == (3, 22)
    assert one["labels"].dtype == two["labels"].dtype == torch.int64
    assert torch.equal(one["labels"], two["labels"])
    assert one["labels"].sum() > 0
    assert set(one) - set(two) == {"ground_object_mask", "spatial_position_mask"}
    assert compare_batches(ours, plain, [[5, 0, 11]]).largest_pixel_difference < 1e-6


def test_report_has_a_row_for_each_way_and_number_of_workers(spec):
    report = measure_throughput(replace(spec, workers=(0, 1)))
    assert [(row.way, row.num_workers) for row in report.throughput] == [
        ("rrsis", 0),
        ("plain", 0),
        ("rrsis", 1),
        ("plain", 1),
    ]
    assert all(len(row.samples_per_second) == 2 and min(row.samples_per_second) > 0 for row in report.throughput)
    assert (report.samples, report.agreement.batches, report.agreement.differing_labels) == (12, 2, 0)
    assert all(0 < share <= 1 for share in report.decode_share.values())
    assert report.training == []
    assert json.loads(json.dumps(report.to_dict()))["settings"]["samples_in_split"] == 12


def test_a_mask_of_another_size_goes_through_its_image(fake_spec):
    """Reference 3's mask becomes 10 × 10 of an image of 30 × 40; on the way to 48 × 48 it must not skip that size."""
    name = fake_spec.data_dir / "rrsisd/instances.json"
    instances = json.loads(name.read_text())
    small = np.zeros((10, 10), dtype=np.uint8)
    small[3:6, 1:8] = 1
    instances["annotations"][2]["segmentation"] = [runs_of(small)]
    name.write_text(json.dumps(instances))
    ours, plain = make_ways(fake_spec)
    at_image_size = small.repeat(3, axis=0).repeat(4, axis=1)
    nearest = (np.arange(48) + 0.5) * 30 / 48, (np.arange(48) + 0.5) * 40 / 48
    expected = at_image_size[np.ix_(*(axis.astype(int) for axis in nearest))]
    assert np.array_equal(plain.batch([2])["labels"][0], expected)
    assert np.array_equal(ours.batch([2])["labels"][0], expected)


def test_other_pixels_labels_or_tokens_are_refused(fake_spec):
    ours, plain = make_ways(fake_spec)
    flipped = replace(plain, collate=lambda rows: {**plain.collate(rows), "labels": ours.batch([1, 0])["labels"]})
    with pytest.raises(ValueError, match="differ; timing is not fair"):
        compare_batches(ours, flipped, [[0, 1]])
    brighter = replace(
        plain, collate=lambda rows: {**(b := plain.collate(rows)), "pixel_values": b["pixel_values"] + 1}
    )
    with pytest.raises(ValueError, match=r"pixels differ by up to 0\.22"):  # 0.229, the largest standard deviation
        compare_batches(ours, brighter, [[0, 1]])
    samples = [replace(sample, expression="A dam") for sample in plain.dataset.samples]
    other = PlainDataset(samples, plain.dataset.tokenizer, image_size_px=48, max_length=22)
    with pytest.raises(ValueError, match=r"other input_ids for the samples \[0, 1\]"):
        compare_batches(ours, replace(plain, dataset=other), [[0, 1]])


def test_batches_are_shuffled_epochs_and_the_same_again():
    spec = ThroughputSpec("rrsisd", ".", workers=(0, 2), batch_size=4, batches=3, warmup_batches=2)
    batches = draw_batches(10, spec)
    assert np.shape(batches) == (3 + 2 + 2 * 2, 4)
    flat = np.ravel(batches)
    assert sorted(flat[:10]) == sorted(flat[10:20]) == sorted(flat[20:30]) == list(range(10))
    assert batches == draw_batches(10, spec) != draw_batches(10, replace(spec, seed=1))


class Sleepy(torch.utils.data.Dataset):
    """The first two samples take a second each, the others 30 ms."""

    def __getitem__(self, index):
        time.sleep(1.0 if index < 2 else 0.03)
        return index


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_warm_up_is_not_timed(num_workers):
    """After one batch of two warm-up samples, five of two samples of 30 ms are timed: 33 samples a second."""
    spec = ThroughputSpec("rrsisd", ".", batch_size=2, batches=5, warmup_batches=1)
    batches = np.arange(16).reshape(8, 2).tolist()
    way = ReadingWay("plain", Sleepy(), collate=list, decode=list)
    speed, cpu_ms = time_pass(way, batches, num_workers=num_workers, spec=spec)
    assert 10 < speed < 60  # with the warm-up it would be 12 / 2.3 s
    assert cpu_ms is None or cpu_ms < 100


def test_share_of_waiting_by_hand():
    """Batches come after 0.5, 0.2 and 0.2 s, a step takes 0.05 s: 0.4 s of 0.5 s are waited."""

    def reader():
        for pause in (0.5, 0.2, 0.2):
            time.sleep(pause)
            yield pause

    taken = []
    seconds, share = time_steps(reader(), lambda batch: time.sleep(0.05) or taken.append(batch))
    assert taken == [0.5, 0.2, 0.2]
    assert 0.25 <= seconds < 0.5
    assert 0.6 < share < 0.9


def test_a_tiny_lavt_trains_on_the_batches_of_both_ways(fake_spec, one_thread):
    training = replace(fake_spec, training_steps=1)
    for way in make_ways(fake_spec):
        result = time_training(way, draw_batches(3, training), training)
        assert (result.way, result.steps, result.threads) == (way.name, 1, 1)
        assert result.seconds_per_step > 0
        assert 0 <= result.waiting_share <= 1


def test_medians_and_table_by_hand():
    row = Throughput("rrsis", num_workers=2, samples_per_second=[90.0, 120.0, 100.0], cpu_ms_per_sample=[8, None, 10])
    assert (row.median, row.median_per_core, row.median_cpu_ms) == (100.0, 50.0, 9)
    report = ThroughputReport(
        spec=ThroughputSpec("rrsisd", "."),
        samples=3,
        agreement=Agreement(2, largest_pixel_difference=1 / 510, differing_labels=0),
        decode_share={"rrsis": 0.375},
        throughput=[row],
        training=[],
        versions={},
    )
    assert [list(column.cells) for column in throughput_table(report).columns] == [
        ["rrsis"],
        ["2"],
        ["100.0"],
        ["90.0–120.0"],
        ["50.0"],
        ["9.00"],
        ["38%"],
    ]
    assert agreement_line(report).endswith("pixels differ by at most 0.50 of 255.")


def test_command_writes_a_table_and_json(fake_spec, tmp_path, monkeypatch, one_thread):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    options = ["--workers", "0", "--batches", "1", "--batch-size", "2", "--repeat", "1", "--image-size", "32"]
    options += ["--training-steps", "1", "--json", str(tmp_path / "out.json")]
    result = CliRunner().invoke(app, ["data-throughput", "--data-dir", str(fake_spec.data_dir), *options])
    assert result.exit_code == 0, result.output
    assert "rrsisd, train: batches of 2 at 32 px" in result.stdout
    assert "Training a tiny LAVT" in result.stdout
    written = json.loads((tmp_path / "out.json").read_text())
    assert [row["way"] for row in written["throughput"]] == ["rrsis", "plain"]
    assert len(written["training"]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-d", "own"], "dataset: expected one of"),
        (["--workers", "0,x"], "--workers: expected numbers separated by commas such as 0,1,2, got '0,x'"),
        (["--json", "no/such/out.json"], "--json: expected a file name in an existing folder"),
    ],
)
def test_errors_are_one_sentence(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["data-throughput", "--data-dir", str(tmp_path), *options])
    assert result.exit_code == 1
    assert message in result.stderr


def test_a_zip_has_no_files_to_open(tmp_path):
    path = write_zip(rrsisd_files(), tmp_path / "download.zip")
    with pytest.raises(ValueError, match="expected a folder"):
        make_ways(ThroughputSpec("rrsisd", path, cache_dir=str(tmp_path / "cache")))
