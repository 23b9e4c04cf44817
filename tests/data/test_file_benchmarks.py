"""RefSegRS, RRSIS-D and RISBench from the published layouts: rows, oddities, cache, processes, streaming, Parquet."""

import io
import json
import logging
import os
import pickle
import re
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from processing_rrsis import RRSISD, RefSegRS, RISBench, load_benchmark
from processing_rrsis.data import file_benchmark
from processing_rrsis.data.file_benchmark import MissingFilesError
from processing_rrsis.data.files.safe_pickle import UnsafePickleError
from tests.data.fake_downloads import (
    encode,
    phrase_files,
    pixels_of,
    rrsisd_files,
    runs_of,
    write_folder,
    write_zip,
)

COLUMNS = ["image", "mask", "expression", "category", "image_id", "sample_id"]


def raw_rows(dataset):
    plain = dataset.cast_column("image", datasets.Image(decode=False))
    return list(plain.cast_column("mask", datasets.Image(mode="L", decode=False)))


def text_rows(dataset):
    return [tuple(row[name] for name in COLUMNS[2:]) for row in raw_rows(dataset)]


@pytest.fixture
def cache_dir(tmp_path):
    return str(tmp_path / "cache")


@pytest.fixture(scope="module")
def rrsisd_folder(tmp_path_factory):
    return write_folder(rrsisd_files(), tmp_path_factory.mktemp("rrsisd"))


@pytest.fixture(scope="module")
def rrsisd(rrsisd_folder, tmp_path_factory):
    return load_benchmark("rrsisd", data_dir=rrsisd_folder, cache_dir=str(tmp_path_factory.mktemp("cache")))


def test_rrsisd_rows(rrsisd):
    assert list(rrsisd) == ["train", "validation", "test"]
    assert text_rows(rrsisd["train"]) == [
        ("The golf field on the left", "golf field", "00001", "101_1"),
        ("A ship", "ship", "00002", "102_2"),
        ("A white ship", "ship", "00003", "103_3"),
    ]
    assert text_rows(rrsisd["validation"]) == [
        ("The expressway toll station", "expressway toll station", "00004", "104_4")
    ]
    for number, row in enumerate(raw_rows(rrsisd["train"]), start=1):
        assert row["image"] == {"path": None, "bytes": rrsisd_files()[f"images/rrsisd/JPEGImages/{number:05d}.jpg"]}
    for number, row in enumerate(rrsisd["train"], start=1):
        assert row["image"].size == (40, 30)
        assert (row["mask"].mode, row["mask"].format) == ("L", "PNG")
        assert np.array_equal(np.asarray(row["mask"]), pixels_of(number)[1] * 255)


def test_rrsisd_from_the_zip_as_downloaded(rrsisd, tmp_path, cache_dir):
    path = write_zip(rrsisd_files(), tmp_path / "RRSIS-D.zip", outer="RRSIS-D/")
    from_zip = load_benchmark("rrsisd", data_dir=path, cache_dir=cache_dir, split="test")
    assert raw_rows(from_zip) == raw_rows(rrsisd["test"])


def test_two_processes_and_streaming_give_the_same_rows(rrsisd, rrsisd_folder, tmp_path, cache_dir):
    path = write_zip(rrsisd_files(), tmp_path / "RRSIS-D.zip")
    parallel = load_benchmark("rrsisd", data_dir=path, cache_dir=cache_dir, num_proc=2)
    stream = load_benchmark("rrsisd", data_dir=rrsisd_folder, cache_dir=cache_dir, streaming=True)
    for split, prepared in rrsisd.items():
        assert raw_rows(parallel[split]) == raw_rows(prepared)
        assert [row["sample_id"] for row in stream[split]] == prepared["sample_id"][:]
        for streamed, row in zip(stream[split], prepared, strict=True):
            assert np.array_equal(np.asarray(streamed["image"]), np.asarray(row["image"]))
            assert np.array_equal(np.asarray(streamed["mask"]), np.asarray(row["mask"]))
    assert not list((tmp_path / "cache").glob("*/*/*/*/*test*.incomplete"))


def test_streaming_stores_nothing(rrsisd_folder, cache_dir):
    next(iter(load_benchmark("rrsisd", data_dir=rrsisd_folder, cache_dir=cache_dir, streaming=True, split="test")))
    assert not [name for _, _, names in os.walk(cache_dir) for name in names if name.endswith(".arrow")]


def test_parquet_holds_everything_and_keeps_the_columns(rrsisd, tmp_path):
    rrsisd["train"].to_parquet(tmp_path / "train.parquet")
    again = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "train.parquet"), split="train", cache_dir=str(tmp_path)
    )
    assert again.features == rrsisd["train"].features
    assert again.features["mask"] == datasets.Image(mode="L")
    assert raw_rows(again) == raw_rows(rrsisd["train"])


def test_refsegrs_rows(tmp_path, cache_dir):
    files = phrase_files()
    prepared = load_benchmark(
        "refsegrs", data_dir=write_zip(files, tmp_path / "z.zip", "RefSegRS/"), cache_dir=cache_dir
    )
    assert text_rows(prepared["train"]) == [
        ("car driving on the road", "car", "1", "train_00001"),
        ("light-duty vehicle in the parking area", "vehicle", "2", "train_00002"),
        ("low vegetation", "low vegetation", "3", "train_00003"),
    ]
    assert text_rows(prepared["validation"]) == [("buses", "bus", "4", "validation_00001")]
    assert text_rows(prepared["test"])[1] == ("grass in the park", "", "6", "test_00002")
    assert raw_rows(prepared["test"])[0]["image"]["bytes"] == files["images/5.tif"]
    assert np.array_equal(np.asarray(prepared["test"][0]["mask"]), pixels_of(5)[1] * 255)


def test_refsegrs_foreground_is_above_50_and_other_values_are_reported(tmp_path, cache_dir, caplog):
    files = phrase_files()
    values = np.arange(256, dtype=np.uint8).repeat(5)[:1200].reshape(30, 40)
    files["masks/2.tif"] = encode(values, "TIFF")
    builder = RefSegRS(data_dir=write_folder(files, tmp_path / "raw"), cache_dir=cache_dir)
    with caplog.at_level(logging.WARNING, logger="processing_rrsis"):
        builder.download_and_prepare()
    assert np.array_equal(np.asarray(builder.as_dataset(split="train")[1]["mask"]) == 255, values > 50)
    assert (
        "RefSegRS, train: 1 masks had values other than 0 and 255 (above 50 is the target): masks/2.tif" in caplog.text
    )


def test_risbench_rows(tmp_path, cache_dir):
    folder = write_folder(phrase_files(layout="risbench"), tmp_path / "raw")
    builder = RISBench(data_dir=folder, cache_dir=cache_dir)
    builder.download_and_prepare()
    assert text_rows(builder.as_dataset(split="test")) == [
        ("road marking", "", "5", "test_00001"),
        ("grass in the park", "", "6", "test_00002"),
    ]
    assert np.array_equal(np.asarray(builder.as_dataset(split="test")[0]["mask"]), pixels_of(5)[1] * 255)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_missing_images_are_named_and_left_out_only_when_told(kind, tmp_path, cache_dir, caplog):
    files = rrsisd_files()
    del files["images/rrsisd/JPEGImages/00002.jpg"], files["images/rrsisd/JPEGImages/00004.jpg"]
    download = write_zip(files, tmp_path / "d.zip") if kind == "zip" else write_folder(files, tmp_path / "d")
    with pytest.raises(
        MissingFilesError, match=r"2 files of 2 of 6 samples .*00002\.jpg, .*00004\.jpg\. .*allow_missing"
    ):
        load_benchmark("rrsisd", data_dir=download, cache_dir=cache_dir)
    with caplog.at_level(logging.WARNING, logger="processing_rrsis"):
        kept = load_benchmark("rrsisd", data_dir=download, cache_dir=cache_dir, allow_missing=True)
    assert {split: rows["image_id"][:] for split, rows in kept.items()} == {
        "train": ["00001", "00003"],
        "test": ["00005", "00006"],
    }
    assert "these samples are left out" in caplog.text


def test_missing_masks_count_as_missing(tmp_path, cache_dir):
    files = rrsisd_files()
    instances = json.loads(files["rrsisd/instances.json"])
    del instances["annotations"][0]
    files["rrsisd/instances.json"] = json.dumps(instances).encode()
    with pytest.raises(MissingFilesError, match="the mask of 101_1"):
        load_benchmark("rrsisd", data_dir=write_folder(files, tmp_path / "a"), cache_dir=cache_dir)
    files = phrase_files()
    del files["masks/3.tif"]
    with pytest.raises(MissingFilesError, match=r"masks/3\.tif"):
        load_benchmark("refsegrs", data_dir=write_folder(files, tmp_path / "b"), cache_dir=cache_dir)


def test_no_sample_left(tmp_path, cache_dir):
    files = {name: data for name, data in rrsisd_files().items() if not name.endswith(".jpg")}
    with pytest.raises(ValueError, match="none whose files are there"):
        load_benchmark("rrsisd", data_dir=write_folder(files, tmp_path / "a"), cache_dir=cache_dir, allow_missing=True)


def test_a_mask_of_another_size_is_resized_and_counted(tmp_path, cache_dir, caplog):
    files = rrsisd_files()
    image = np.asarray(Image.open(io.BytesIO(files["images/rrsisd/JPEGImages/00001.jpg"])))
    files["images/rrsisd/JPEGImages/00001.jpg"] = encode(image.repeat(2, axis=0).repeat(2, axis=1), "JPEG")
    with caplog.at_level(logging.WARNING, logger="processing_rrsis"):
        prepared = load_benchmark("rrsisd", data_dir=write_folder(files, tmp_path / "a"), cache_dir=cache_dir)
    expected = (pixels_of(1)[1] * 255).repeat(2, axis=0).repeat(2, axis=1)
    assert np.array_equal(np.asarray(prepared["train"][0]["mask"]), expected)
    assert "RRSIS-D, train: 1 masks had another size than their image and were resized (nearest): 101_1" in caplog.text


def test_empty_masks_are_counted(tmp_path, cache_dir, caplog):
    files = {"rrsisd": rrsisd_files(), "refsegrs": phrase_files()}
    instances = json.loads(files["rrsisd"]["rrsisd/instances.json"])
    instances["annotations"][0]["segmentation"] = runs_of(np.zeros((30, 40), dtype=np.uint8))
    files["rrsisd"]["rrsisd/instances.json"] = json.dumps(instances).encode()
    files["refsegrs"]["masks/2.tif"] = encode(np.zeros((30, 40), dtype=np.uint8), "TIFF")
    with caplog.at_level(logging.WARNING, logger="processing_rrsis"):
        for name, content in files.items():
            load_benchmark(name, data_dir=write_folder(content, tmp_path / name), cache_dir=cache_dir)
    assert "RRSIS-D, train: 1 masks are empty (all background): 101_1" in caplog.text
    assert "RefSegRS, train: 1 masks are empty (all background): train_00002" in caplog.text


@pytest.mark.parametrize("num_proc", [None, 2])
def test_a_damaged_image_is_named(num_proc, tmp_path, cache_dir):
    files = rrsisd_files()
    name = "images/rrsisd/JPEGImages/00006.jpg"
    files[name] = files[name][: len(files[name]) // 2]
    folder = write_folder(files, tmp_path / "raw")
    with pytest.raises(ValueError, match=r"00006\.jpg.*truncated"):
        load_benchmark("rrsisd", data_dir=folder, cache_dir=cache_dir, num_proc=num_proc)


def edited(folder, cache_dir):
    return load_benchmark("rrsisd", data_dir=folder, cache_dir=cache_dir, split="test")


def test_edited_files_are_noticed(tmp_path, cache_dir):
    folder = write_folder(rrsisd_files(), tmp_path / "raw")
    first = RRSISD(data_dir=folder, cache_dir=cache_dir)
    assert edited(folder, cache_dir)["expression"][0] == "The ship in the middle"
    assert RRSISD(data_dir=folder, cache_dir=cache_dir).cache_dir == first.cache_dir
    changed = rrsisd_files((("test", "ship", "The large ship in the middle"),))
    write_folder({"rrsisd/refs(unc).p": changed["rrsisd/refs(unc).p"]}, folder)
    assert edited(folder, cache_dir)["expression"][:] == ["The large ship in the middle"]
    image = folder / "images/rrsisd/JPEGImages/00001.jpg"
    image.write_bytes(encode(pixels_of(77)[0], "JPEG"))
    assert edited(folder, cache_dir)[0]["image"].tobytes() == Image.open(image).tobytes()
    (folder / "notes.txt").write_text("does not matter")
    before = RRSISD(data_dir=folder, cache_dir=cache_dir).cache_dir
    (folder / "notes.txt").write_text("at all")
    assert RRSISD(data_dir=folder, cache_dir=cache_dir).cache_dir == before


def test_a_hostile_pickle_stops_everything(tmp_path, cache_dir):
    class Call:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    files = {**rrsisd_files(), "rrsisd/refs(unc).p": pickle.dumps([{"ref_id": Call()}])}
    folder = write_folder(files, tmp_path / "raw")
    for streaming in (False, True):
        with pytest.raises(UnsafePickleError, match=r"refs\(unc\)\.p: .*asks for posix\.system"):
            load_benchmark("rrsisd", data_dir=folder, cache_dir=cache_dir, streaming=streaming)
    assert not (tmp_path / "ran").exists()


def test_no_data_dir_says_where_to_get_it():
    for name, place in (("refsegrs", "JessicaYuan/RefSegRS"), ("rrsisd", "RMSIN"), ("risbench", "CroBIM")):
        with pytest.raises(ValueError, match=f"expected data_dir.*{place}"):
            load_benchmark(name)
    with pytest.raises(FileNotFoundError, match="found nothing"):
        load_benchmark("refsegrs", data_dir="no/such/folder")


def test_another_benchmark_in_the_folder(tmp_path, cache_dir):
    folder = write_folder(phrase_files(), tmp_path / "raw")
    with pytest.raises(FileNotFoundError, match=r"rrsisd/instances\.json"):
        load_benchmark("rrsisd", data_dir=folder, cache_dir=cache_dir)


def turned(array, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(array, "JPEG", quality=95, exif=exif)


@pytest.mark.parametrize("orientation", [3, 5, 6, 8])
def test_masks_match_images_that_exif_turns(orientation, tmp_path, cache_dir):
    """The stored pixels are 30 × 40; a mask of that size is turned with them, one of 40 × 30 is upright already."""
    stored, mask = pixels_of(2)
    stored[mask == 1], stored[mask == 0] = 255, 0
    upright = np.asarray(
        Image.open(io.BytesIO(turned(stored, orientation))).transpose(
            {3: Image.Transpose.ROTATE_180, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270}.get(
                orientation, Image.Transpose.ROTATE_90
            )
        )
    )
    for name, form in (("stored", mask), ("upright", (upright[:, :, 0] > 127).astype(np.uint8))):
        if orientation == 3 and name == "stored":
            continue  # equal sizes: the mask is taken to be upright
        files = rrsisd_files()
        files["images/rrsisd/JPEGImages/00005.jpg"] = turned(stored, orientation)
        instances = json.loads(files["rrsisd/instances.json"])
        instances["annotations"][4]["segmentation"] = [runs_of(form)]
        files["rrsisd/instances.json"] = json.dumps(instances).encode()
        folder = write_folder(files, tmp_path / f"{name}{orientation}")
        row = load_benchmark("rrsisd", data_dir=folder, cache_dir=cache_dir, split="test")[0]
        assert row["image"].size == row["mask"].size == (upright.shape[1], upright.shape[0])
        bright = np.asarray(row["image"].convert("L")) > 127
        assert (bright == (np.asarray(row["mask"]) == 255)).mean() > 0.99


def test_every_module_that_decides_rows_is_in_the_cache_key():
    """Whatever the builders' modules import from their folder and below, and what these import in turn."""
    folder = Path(file_benchmark.__file__).parent
    pending, seen = ["refsegrs", "rrsisd", "risbench", "own_data"], set()
    while pending:
        module = pending.pop()
        if module not in seen:
            seen.add(module)
            text = (folder / f"{module}.py").read_text()
            for dots, name in re.findall(r"^from (\.+)([\w.]+) import", text, flags=re.MULTILINE):
                target = (folder / module).parents[len(dots) - 1] / name.replace(".", "/")
                if target.is_relative_to(folder):
                    pending.append(target.relative_to(folder).as_posix())
    assert seen == set(file_benchmark.ROW_MODULES)
