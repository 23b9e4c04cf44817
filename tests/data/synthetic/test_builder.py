"""SyntheticRS as a dataset: bytes, masks, splits, cache, processes, bad arguments."""

import io

import datasets
import numpy as np
import pytest
from PIL import Image

from processing_rrsis.data import BENCHMARKS, SyntheticRS, load_benchmark
from processing_rrsis.data.files.rows import encode_png
from processing_rrsis.data.synthetic.builder import SPLITS
from processing_rrsis.data.synthetic.layout import SceneLayout, SceneObject
from processing_rrsis.data.synthetic.render import render_image, render_mask
from processing_rrsis.data.synthetic.splits import make_split_scene

SIZES = {
    "train_samples": 42,
    "validation_samples": 8,
    "test_samples": 16,
    "test_compositional_samples": 6,
    "test_absent_samples": 6,
}
COLUMNS = ["image", "mask", "expression", "category", "image_id", "sample_id", "kind"]


def raw_rows(dataset):
    plain = dataset.cast_column("image", datasets.Image(decode=False))
    return plain.cast_column("mask", datasets.Image(mode="L", decode=False)).to_list()


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("synthetic_cache"))


@pytest.fixture(scope="module")
def splits(cache_dir):
    return load_benchmark("synthetic", cache_dir=cache_dir, seed=5, **SIZES)


def test_splits_columns_and_counts(splits):
    assert list(splits) == list(SPLITS)
    for split in SPLITS:
        assert splits[split].column_names == COLUMNS
        assert len(splits[split]) == SIZES[f"{split}_samples"]
        assert len(set(splits[split]["sample_id"])) == len(splits[split])


def test_rows_hold_embedded_square_images_and_binary_masks(splits):
    for row in splits["train"]:
        assert (row["image"].mode, row["image"].size) == ("RGB", (96, 96))
        mask = np.asarray(row["mask"])
        assert (mask.shape, mask.dtype) == ((96, 96), np.uint8)
        assert set(np.unique(mask)) == {0, 255}
        assert 40 <= (mask > 0).sum() <= 0.12 * mask.size
    assert all(row["image"]["bytes"] and row["image"]["path"] is None for row in raw_rows(splits["test"]))


def test_an_image_has_several_expressions_with_different_masks(splits):
    rows = [row for row in raw_rows(splits["train"]) if row["image_id"] == "train_000000"]
    assert len(rows) == 4
    assert len({row["image"]["bytes"] for row in rows}) == 1
    assert len({row["mask"]["bytes"] for row in rows}) == 4
    assert len({row["expression"] for row in rows}) == 4


def test_masks_of_absent_objects_are_empty(splits):
    assert all(not np.asarray(row["mask"]).any() for row in splits["test_absent"])


def test_the_same_with_two_processes_and_streaming(splits, cache_dir, tmp_path):
    parallel = load_benchmark("synthetic", cache_dir=str(tmp_path), seed=5, num_proc=2, **SIZES)
    for split in SPLITS:
        assert raw_rows(parallel[split]) == raw_rows(splits[split])
    stream = load_benchmark("synthetic", split="test", streaming=True, cache_dir=cache_dir, seed=5, **SIZES)
    assert [row["sample_id"] for row in stream] == splits["test"]["sample_id"][:]
    assert [np.asarray(row["mask"]).sum() for row in stream] == [
        np.asarray(row["mask"]).sum() for row in splits["test"]
    ]


def test_fields_are_part_of_the_cache(splits, cache_dir):
    few = {**dict.fromkeys(SIZES, 0), "test_samples": 4}
    first = load_benchmark("synthetic", split="test", cache_dir=cache_dir, seed=5, **few)
    other_seed = load_benchmark("synthetic", split="test", cache_dir=cache_dir, seed=6, **few)
    other_size = load_benchmark("synthetic", split="test", cache_dir=cache_dir, seed=5, image_size_px=64, **few)
    again = load_benchmark("synthetic", split="test", cache_dir=cache_dir, seed=5, **few)
    assert raw_rows(first) == raw_rows(splits["test"])[:4] == raw_rows(again)
    assert not {row["image"]["bytes"] for row in raw_rows(other_seed)} & {
        row["image"]["bytes"] for row in raw_rows(first)
    }
    assert other_size[0]["image"].size == (64, 64)
    assert other_size["expression"][:] == first["expression"][:]


def test_a_split_of_no_samples_is_left_out(cache_dir):
    only_test = load_benchmark("synthetic", cache_dir=cache_dir, **{**dict.fromkeys(SIZES, 0), "test_samples": 4})
    assert list(only_test) == ["test"]


def test_bytes_do_not_depend_on_what_was_drawn_before():
    def png(scene_index):
        scene = make_split_scene("rrsisd", seed=1, split="test", scene_index=scene_index, count=4)
        return encode_png(render_image(scene.layout, image_size_px=96))

    alone = png(3)
    np.random.seed(0)
    assert [png(index) for index in range(4)][3] == alone


@pytest.mark.parametrize("image_size_px", [96, 128, 320])
def test_masks_cover_the_objects_share_of_the_frame(image_size_px):
    item = SceneObject(
        category="building",
        colour="red",
        size="large",
        center_x=0.5,
        center_y=0.5,
        angle_deg=30.0,
        length=0.25,
        width=0.2,
    )
    layout = SceneLayout(objects=(item,), roads=(), ground="grass", sun_deg=45.0, texture_key=(0,))
    mask = render_mask(layout, answers=(0,), image_size_px=image_size_px)
    assert (mask > 0).mean() == pytest.approx(0.05, rel=0.05)
    assert not mask[0].any()
    assert not render_mask(layout, answers=(), image_size_px=image_size_px).any()


def test_mask_lies_on_the_drawn_object():
    item = SceneObject(
        category="storage tank",
        colour="red",
        size="large",
        center_x=0.25,
        center_y=0.75,
        angle_deg=0.0,
        length=0.2,
        width=0.2,
    )
    layout = SceneLayout(objects=(item,), roads=(), ground="grass", sun_deg=45.0, texture_key=(0,))
    image = render_image(layout, image_size_px=96).astype(int)
    reddish = image[..., 0] - image[..., 1] > 60
    mask = render_mask(layout, answers=(0,), image_size_px=96) > 0
    assert (reddish & mask).sum() / (reddish | mask).sum() > 0.93


def test_smallest_masks_can_be_seen_at_96_px():
    areas = []
    for index in range(60):
        scene = make_split_scene("rrsisd", seed=0, split="train", scene_index=index, count=4)
        areas += [
            (render_mask(scene.layout, answers=(number,), image_size_px=96) > 0).sum()
            for number in range(len(scene.layout.objects))
        ]
    assert min(areas) >= 40


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"image_size_px": 8}, ValueError, "image_size_px: expected 32 to 2048, got 8"),
        ({"seed": -1}, ValueError, "seed: expected 0"),
        ({"seed": 1.5}, TypeError, "seed: expected an integer, got 1.5"),
        ({"expressions_per_scene": 0}, ValueError, "expressions_per_scene"),
        ({"train_samples": -4}, ValueError, "train_samples"),
        ({"config_name": "coco"}, ValueError, "coco"),
        ({"colour": "red"}, ValueError, "colour"),
    ],
)
def test_bad_arguments(arguments, error, message, tmp_path):
    with pytest.raises(error, match=message):
        SyntheticRS(cache_dir=str(tmp_path), **arguments)


def test_no_samples_at_all(tmp_path):
    with pytest.raises(ValueError, match="at least one split with samples"):
        load_benchmark("synthetic", cache_dir=str(tmp_path), **dict.fromkeys(SIZES, 0))


def test_unknown_benchmark_lists_what_exists():
    with pytest.raises(ValueError, match=r"dataset: expected synthetic, .*got 'coco'"):
        load_benchmark("coco")
    assert "synthetic" in BENCHMARKS


def test_the_embedded_benchmark_reads_no_folder(tmp_path):
    with pytest.raises(ValueError, match="leave data_dir out"):
        load_benchmark("synthetic", data_dir=str(tmp_path))


def test_png_is_lossless():
    pixels = np.random.default_rng(0).integers(0, 256, size=(9, 7, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(pixels)))), pixels)
