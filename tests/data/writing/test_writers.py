"""Writers of the published layouts: what lies on disk, what the readers make of it, what is never overwritten."""

import json
import os
import pickle
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from processing_rrsis.data.checks.download import check_download
from processing_rrsis.data.files.masks import encode_rle, tight_box
from processing_rrsis.data.refsegrs import RefSegRS
from processing_rrsis.data.risbench import RISBench
from processing_rrsis.data.rrsisd import RRSISD
from processing_rrsis.data.synthetic.builder import SyntheticRS
from processing_rrsis.data.writing.demo import DemoSpec, demo_rows, write_demo
from processing_rrsis.data.writing.folder import read_mask
from processing_rrsis.data.writing.rrsisd import FILE_CATEGORIES
from processing_rrsis.data.writing.writers import write_refsegrs, write_rrsisd
from processing_rrsis.expression_rrsis import CATEGORY_SETS

COUNTS = {"train": 5, "validation": 2, "test": 3}
SIZE_PX = 40


def make_row(number, image_id="one", height=4, width=6, **fields):
    """A gray picture and a mask of rows 1 and 2, columns 2 to 4."""
    mask = np.zeros((height, width), dtype=bool)
    mask[1:3, 2:5] = True
    image = np.full((height, width, 3), 90 + number, dtype=np.uint8)
    row = {"image": image, "mask": mask, "expression": f"thing {number}", "category": "storage tank"}
    return {**row, "image_id": image_id, "sample_id": f"{image_id}_{number}", **fields}


@pytest.fixture(scope="module", params=["rrsisd", "refsegrs", "risbench"])
def demo(request, tmp_path_factory):
    spec = DemoSpec(request.param, counts=COUNTS, image_size_px=SIZE_PX, seed=3, expressions_per_image=2)
    folder = tmp_path_factory.mktemp("demo") / request.param
    write_demo(spec, folder, progress=False)
    return spec, folder


def test_rrsisd_files_by_hand(tmp_path):
    rows = {"train": [make_row(1), make_row(2)], "test": [make_row(3, image_id="two", category="airplane")]}
    written = write_rrsisd(rows, tmp_path / "out", progress=False)
    assert (written.counts, written.images) == ({"train": 2, "validation": 0, "test": 1}, 2)
    names = {str(path.relative_to(written.directory)) for path in written.directory.rglob("*") if path.is_file()}
    assert names == {
        "demo.json",
        "images/rrsisd/JPEGImages/00001.jpg",
        "images/rrsisd/JPEGImages/00002.jpg",
        "images/rrsisd/ann_split/00001.xml",
        "images/rrsisd/ann_split/00002.xml",
        "rrsisd/instances.json",
        "rrsisd/refs(unc).p",
    }
    references = pickle.loads((written.directory / "rrsisd/refs(unc).p").read_bytes())
    assert references[2] == {
        "image_id": 2,
        "split": "test",
        "sentences": [{"tokens": ["thing", "3"], "raw": "thing 3", "sent": "thing 3", "sent_id": 3}],
        "file_name": "00002.jpg",
        "category_id": 3,
        "ann_id": 3,
        "sent_ids": [3],
        "ref_id": 3,
    }
    instances = json.loads((written.directory / "rrsisd/instances.json").read_text())
    first = instances["annotations"][0]
    (runs,) = first.pop("segmentation")
    assert first == {"id": 1, "image_id": 1, "categories_id": 16, "bbox": [2, 1, 4, 2], "area": 6}
    # Runs down the six columns of four pixels: 9, 2, 2, 2, 2, 2, 5, first one background. A character is 48 + value,
    # from the fourth run on 48 + difference to the run two before.
    assert runs == {"size": [4, 6], "counts": "9220003"}
    names = {category["id"]: category["name"] for category in instances["categories"]}
    assert (len(names), names[16], names[3]) == (20, "storagetank", "airplane")
    boxes = ElementTree.parse(written.directory / "images/rrsisd/ann_split/00001.xml").getroot().findall("object")
    assert [box.findtext("name") for box in boxes] == ["storagetank", "storagetank"]
    assert [int(side.text) for side in boxes[0].find("bndbox")] == [2, 1, 4, 2]


@pytest.mark.parametrize("seed", range(4))
def test_run_lengths_are_cocos(seed):
    mask = np.random.default_rng(seed).random((17, 301)) < (0.5, 0.02, 0.98, 0.0)[seed]
    runs = encode_rle(mask)
    assert np.array_equal(coco_mask.decode({**runs, "counts": runs["counts"].encode()}), mask)
    assert json.loads(json.dumps(runs)) == runs


def test_refsegrs_files_by_hand(tmp_path):
    written = write_refsegrs({"train": [make_row(1), make_row(2)], "validation": [make_row(3)]}, tmp_path / "out")
    folder = written.directory
    texts = [(folder / f"output_phrase_{name}.txt").read_text() for name in ("train", "val", "test")]
    assert texts == ["1 thing 1\n2 thing 2\n", "3 thing 3\n", ""]
    assert sorted(path.name for path in (folder / "images").iterdir()) == ["1.tif", "2.tif", "3.tif"]
    with Image.open(folder / "masks" / "3.tif") as mask:
        assert (mask.format, mask.mode, mask.size) == ("TIFF", "L", (6, 4))
        assert np.array_equal(np.asarray(mask), make_row(3)["mask"] * 255)
    with Image.open(folder / "images" / "2.tif") as image:
        assert (image.format, image.mode) == ("TIFF", "RGB")
        assert np.array_equal(np.asarray(image), make_row(1)["image"])  # the first image of this image_id


def test_risbench_lines_carry_the_ending(tmp_path):
    written = write_refsegrs({"test": [make_row(1)]}, tmp_path / "out", layout="risbench")
    assert (written.directory / "output_phrase_test.txt").read_text() == "1.png thing 1\n"
    assert (written.directory / "img_rgb/1.png").is_file()
    assert (written.directory / "mask/1.png").is_file()


def test_the_builders_read_what_was_rendered(demo, tmp_path):
    """Expressions, masks and, but for JPEG, images are those of SyntheticRS; nothing is lost or reordered."""
    spec, folder = demo
    builder = {"rrsisd": RRSISD, "refsegrs": RefSegRS, "risbench": RISBench}[spec.style](
        data_dir=folder, cache_dir=str(tmp_path)
    )
    builder.download_and_prepare()
    for split, count in COUNTS.items():
        rows, drawn = builder.as_dataset(split=split), list(demo_rows(spec, split))
        assert len(rows) == count
        assert rows["expression"][:] == [row["expression"] for row in drawn]
        if spec.style == "rrsisd":
            assert rows["category"][:] == [row["category"] for row in drawn]
        for read, row in zip(rows, drawn, strict=True):
            mask = np.asarray(read["mask"])
            assert mask.shape == (SIZE_PX, SIZE_PX)
            assert np.array_equal(mask, read_mask(row["mask"]) * np.uint8(255))
            assert read["image"].size == (SIZE_PX, SIZE_PX)


def test_demo_rows_are_those_of_synthetic_rs(demo, tmp_path):
    """In their order; RRSIS-D's style skips those about buildings, which it has no category for."""
    spec, _ = demo
    reference = SyntheticRS(
        spec.preset,
        cache_dir=str(tmp_path),
        seed=3,
        image_size_px=SIZE_PX,
        expressions_per_scene=2,
        test_compositional_samples=0,
        test_absent_samples=0,
        **{f"{split}_samples": 2 * count for split, count in COUNTS.items()},
    )
    reference.download_and_prepare()
    skipped = 0
    for split, count in COUNTS.items():
        rows = list(reference.as_dataset(split=split))
        kept = [row for row in rows if spec.style != "rrsisd" or row["category"] != "building"]
        drawn = list(demo_rows(spec, split))
        skipped += len(rows) - len(kept)
        assert len(drawn) == count
        for expected, row in zip(kept[:count], drawn, strict=True):
            assert (row["sample_id"], row["expression"]) == (expected["sample_id"], expected["expression"])
            assert np.array_equal(read_mask(row["mask"]) * np.uint8(255), np.asarray(expected["mask"]))
    assert (skipped > 0) == (spec.style == "rrsisd")


def test_a_demo_of_rrsisd_has_its_categories_and_no_other(tmp_path):
    """Of 40 references some 5 would be about buildings."""
    spec = DemoSpec("rrsisd", counts={"train": 40, "validation": 1, "test": 1}, image_size_px=SIZE_PX)
    written = write_demo(spec, tmp_path / "demo", progress=False)
    assert written.categories == FILE_CATEGORIES
    assert written.counts == spec.counts
    assert {row["category"] for row in demo_rows(spec, "train")} <= set(CATEGORY_SETS["rrsisd"])
    others = {
        row["category"] for row in demo_rows(DemoSpec("risbench", counts=spec.counts, image_size_px=40), "train")
    }
    assert "building" in others


def test_several_processes_write_the_same_files(demo, tmp_path):
    spec, folder = demo
    write_demo(spec, tmp_path / "again", num_proc=2, progress=False)
    names = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert names == {
        path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*") if path.is_file()
    }
    assert all((folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names)


def test_a_failed_write_leaves_nothing(tmp_path):
    rows = [make_row(1), make_row(2, image_id="two", expression="two\nlines")]
    with pytest.raises(ValueError, match="'two_2': expected an expression of one line"):
        write_refsegrs({"train": rows}, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_write_is_recognisable(tmp_path):
    """The process dies at its second row, without a chance to clean up."""
    rows = (make_row(number) if number < 2 else os._exit(9) for number in range(3))
    child = os.fork()
    if not child:
        try:
            write_refsegrs({"train": rows}, tmp_path / "out", progress=False)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial"]
    assert (tmp_path / "out.partial" / "images" / "2.tif").is_file()
    with pytest.raises(FileNotFoundError, match=r"a write into it was interrupted .* write it again with --overwrite"):
        check_download(tmp_path / "out")
    with pytest.raises(FileExistsError, match=r"out\.partial: an earlier write was interrupted"):
        write_refsegrs({"train": [make_row(1)]}, tmp_path / "out")
    write_refsegrs({"train": [make_row(1)]}, tmp_path / "out", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir())[:2] == ["demo.json", "images"]


def test_a_folder_that_only_has_such_a_name_is_kept(tmp_path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "precious.tif").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"delete this folder$"):
        write_refsegrs({"train": [make_row(1)]}, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out.partial" / "precious.tif").read_bytes() == b"mine"


def test_nothing_is_overwritten_but_what_was_written_here(tmp_path):
    (tmp_path / "download").mkdir()
    (tmp_path / "download" / "precious.tif").write_bytes(b"mine")
    for overwrite, message in ((False, "holds 1 entries such as precious.tif"), (True, "it has no demo.json")):
        with pytest.raises(FileExistsError, match=message):
            write_refsegrs({"train": [make_row(1)]}, tmp_path / "download", overwrite=overwrite)
    assert (tmp_path / "download" / "precious.tif").read_bytes() == b"mine"
    write_refsegrs({"train": [make_row(1)]}, tmp_path / "out")
    with pytest.raises(FileExistsError, match="expected a new or empty folder"):
        write_refsegrs({"train": [make_row(2)]}, tmp_path / "out")
    write_refsegrs({"train": [make_row(2), make_row(3)]}, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "output_phrase_train.txt").read_text() == "1 thing 2\n2 thing 3\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["download", "out"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"train": [make_row(1, mask=np.zeros((4, 7), dtype=bool))]}, "expected a mask of 4 x 6 .* got 4 x 7"),
        ({"train": [make_row(1, mask=np.zeros((4, 6, 3), dtype=bool))]}, "expected one band"),
        ({"train": [make_row(1, expression="  ")]}, "expected an expression of one line"),
        ({"dev": [make_row(1)]}, r"got also \['dev'\]"),
    ],
)
def test_bad_rows_are_refused(rows, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_rrsisd(rows, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"style": "coco"}, r"style: expected one of \['rrsisd', 'refsegrs', 'risbench'\], got 'coco'"),
        ({"style": "rrsisd", "counts": {"train": 1}}, "expected at least 1 reference for each"),
        ({"style": "rrsisd", "image_size_px": 8}, "image_size_px: expected 32 to 2048, got 8"),
        ({"style": "rrsisd", "expressions_per_image": 7}, "expected 1 to 6, got 7"),
    ],
)
def test_bad_demos_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DemoSpec(**arguments)


def test_nominal_sizes_are_the_published_ones():
    assert [DemoSpec(style).size_px for style in ("rrsisd", "refsegrs")] == [800, 512]


def test_tight_box_of_an_empty_mask():
    assert tight_box(np.zeros((3, 3), dtype=bool)) == [0, 0, 0, 0]
