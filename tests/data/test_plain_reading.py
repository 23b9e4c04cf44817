"""What the builders, the collator and the processor read, against a plain data set that reads the files by itself."""

import json

import numpy as np
import pytest
import torch

from processing_rrsis.data import BENCHMARKS, build_synthetic_tokenizer, load_benchmark
from processing_rrsis.data.inputs.collate import ReferringCollator
from processing_rrsis.data.writing.demo import DemoSpec, write_demo
from processing_rrsis.image_processing_rrsis import RRSISImageProcessor
from processing_rrsis.processor_rrsis import RRSISProcessor
from tests.data.fake_downloads import rrsisd_files, runs_of, write_folder
from tests.data.plain_dataset import PlainDataset, plain_samples

COUNTS = {"train": 12, "validation": 1, "test": 1}
MAX_LENGTH = 22


def read_both_ways(name, folder, cache_dir, indices, size_px):
    """A batch of the training split as the package reads it, and as the plain data set does."""
    rows = load_benchmark(name, split="train", data_dir=folder, cache_dir=str(cache_dir))
    builder = BENCHMARKS[name](data_dir=folder, cache_dir=str(cache_dir))
    tokenizer = build_synthetic_tokenizer()
    image_processor = RRSISImageProcessor(size={"height": size_px, "width": size_px})
    collate = ReferringCollator(RRSISProcessor(image_processor, tokenizer, max_length=MAX_LENGTH))
    plain = PlainDataset(
        plain_samples(builder, rows["sample_id"]), tokenizer, image_size_px=size_px, max_length=MAX_LENGTH
    )
    assert len(rows) == len(plain)
    return (
        collate([rows[index] for index in indices]),
        torch.utils.data.default_collate([plain[index] for index in indices]),
    )


@pytest.mark.parametrize("name", ["rrsisd", "refsegrs", "risbench"])
def test_both_ways_read_the_same_samples(name, tmp_path):
    write_demo(DemoSpec(name, counts=COUNTS, image_size_px=96), tmp_path / "demo", progress=False)
    ours, plain = read_both_ways(name, tmp_path / "demo", tmp_path / "cache", [5, 0, 11], size_px=64)
    assert plain["pixel_values"].shape == (3, 3, 64, 64)
    torch.testing.assert_close(ours["pixel_values"], plain["pixel_values"], rtol=0, atol=1e-6)
    assert ours["labels"].dtype == plain["labels"].dtype == torch.int64
    assert torch.equal(ours["labels"], plain["labels"])
    assert ours["labels"].sum() > 0
    length = ours["input_ids"].shape[1]
    for field in ("input_ids", "attention_mask"):
        assert torch.equal(ours[field], plain[field][:, :length])
    assert not plain["attention_mask"][:, length:].any()
    assert set(ours) - set(plain) == {"ground_object_mask", "spatial_position_mask"}


def test_a_mask_of_another_size_goes_through_its_image(tmp_path):
    """Reference 3's mask becomes 10 × 10 of an image of 30 × 40; on the way to 48 × 48 it must not skip that size."""
    folder = write_folder(rrsisd_files(), tmp_path / "download")
    name = folder / "rrsisd/instances.json"
    instances = json.loads(name.read_text())
    small = np.zeros((10, 10), dtype=np.uint8)
    small[3:6, 1:8] = 1
    instances["annotations"][2]["segmentation"] = [runs_of(small)]
    name.write_text(json.dumps(instances))
    at_image_size = small.repeat(3, axis=0).repeat(4, axis=1)
    nearest = (np.arange(48) + 0.5) * 30 / 48, (np.arange(48) + 0.5) * 40 / 48
    expected = at_image_size[np.ix_(*(axis.astype(int) for axis in nearest))]
    ours, plain = read_both_ways("rrsisd", folder, tmp_path / "cache", [2], size_px=48)
    assert np.array_equal(plain["labels"][0], expected)
    assert np.array_equal(ours["labels"][0], expected)
