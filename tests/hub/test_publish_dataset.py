"""Data sets as Parquet on the Hub: the same pixels as the builder's, without any script, whole and streamed."""

import errno
import hashlib
import io
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet
import pytest
from huggingface_hub import DatasetCard
from PIL import Image

from processing_rrsis.data import DemoSpec, load_benchmark, write_demo
from processing_rrsis.data.facts import FACTS
from processing_rrsis.hub.checks import check_card
from processing_rrsis.hub.dataset_card import DATASETS, render_dataset_card
from processing_rrsis.hub.publish_dataset import _notes, publish_dataset
from processing_rrsis.hub.publish_space import publish_metric
from processing_rrsis.hub.push import PushOptions

from .conftest import DRY_RUN, run_publish, run_stranger
from .loopback import USER
from .stranger import fingerprint

COUNTS = {"train": 4, "validation": 2, "test": 2}
SMALL = {f"{split}_samples": count for split, count in COUNTS.items()}
SMALL |= {"test_compositional_samples": 2, "test_absent_samples": 0, "image_size_px": 32}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder like RefSegRS's, and one like RRSIS-D's."""
    root = tmp_path_factory.mktemp("demo")
    for style in ("refsegrs", "rrsisd"):
        write_demo(DemoSpec(style=style, counts=COUNTS, image_size_px=32), root / style)
    return root


def tables(online, repo_id):
    files = online.repository(repo_id, "dataset").files()
    return {
        path: pyarrow.parquet.read_table(io.BytesIO(blob.content))
        for path, blob in files.items()
        if path.endswith(".parquet")
    }


def test_published_by_the_command_and_read_by_a_stranger(hub, demo, tmp_path):
    """Whole and streamed rows equal the builder's, pixel for pixel; the metric loads from its Space."""
    arguments = ("dataset", f"{USER}/refsegrs", "--dataset", "refsegrs", "--data-dir", demo / "refsegrs")
    done = run_publish(hub, tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert run_publish(hub, tmp_path, "metric", f"{USER}/rrsis_iou").returncode == 0
    report = run_stranger(hub, tmp_path, "use_data", f"{USER}/refsegrs", f"{USER}/rrsis_iou")
    built = load_benchmark("refsegrs", data_dir=demo / "refsegrs", cache_dir=str(tmp_path / "cache"))
    expected = {split: [fingerprint(row) for row in rows] for split, rows in built.items()}
    assert {split: len(rows) for split, rows in expected.items()} == COUNTS
    assert report["rows"] == expected
    assert report["streamed"] == expected
    assert report["columns"] == built["train"].column_names
    assert report["mask"] == ["L", [0, 255]]
    assert set(report["snapshot"]) == {".gitattributes", "README.md", "data"}
    # one pixel of two is right, and a quarter of the counted ones
    assert (report["scores"]["mIoU"], report["scores"]["Pr@0.5"], report["counts"]) == (50.0, 100.0, 25.0)


def test_images_are_the_files_bytes_and_masks_are_png(online, demo):
    publish_dataset("refsegrs", f"{USER}/refsegrs", data_dir=demo / "refsegrs")
    found = tables(online, f"{USER}/refsegrs")
    assert set(found) == {f"data/{split}-00000-of-00001.parquet" for split in COUNTS}
    originals = {
        hashlib.sha256(path.read_bytes()).hexdigest() for path in (demo / "refsegrs").rglob("*.tif") if path.is_file()
    }
    for table in found.values():
        for row in table.to_pylist():
            assert row["image"]["path"] is None
            assert hashlib.sha256(row["image"]["bytes"]).hexdigest() in originals
            mask = Image.open(io.BytesIO(row["mask"]["bytes"]))
            assert (mask.format, mask.mode) == ("PNG", "L")
            assert set(np.unique(mask)) <= {0, 255}
        assert str(demo).encode() not in json.dumps(str(table.schema.metadata)).encode()
    card = DatasetCard(online.repository(f"{USER}/refsegrs", "dataset").files()["README.md"].content.decode())
    assert card.data.license == "cc-by-4.0"


def test_rrsisd_needs_the_right(online, demo):
    options = {"data_dir": demo / "rrsisd"}
    for dry_run in (True, False):
        with pytest.raises(ValueError, match=r"derives from DIOR.*non-commercial.*--i-have-the-right-to"):
            publish_dataset("rrsisd", f"{USER}/rrsisd", PushOptions(dry_run=dry_run), **options)
    assert not online.requests
    private = PushOptions(private=True)
    publish_dataset("rrsisd", f"{USER}/rrsisd", private, i_have_the_right_to=True, **options)
    published = online.repository(f"{USER}/rrsisd", "dataset")
    assert published.private
    text = published.files()["README.md"].content.decode()
    assert "No licence is stated for RRSIS-D. It derives from DIOR" in text
    card = DatasetCard(text)
    assert (card.data.license, card.data.license_name) == ("other", "none-stated-derived-from-non-commercial-dior")


def test_the_card_says_what_is_not_as_published(demo, tmp_path):
    folder = tmp_path / "refsegrs"
    shutil.copytree(demo / "refsegrs", folder)
    (builder_notes,) = _notes("refsegrs", folder, allow_missing=False)
    assert "This is not the benchmark" in builder_notes
    (folder / "demo.json").unlink()
    assert _notes("refsegrs", folder, allow_missing=False) == []
    (missing,) = _notes("refsegrs", folder, allow_missing=True)
    text = render_dataset_card("refsegrs", f"{USER}/x", {"train": 1}, ("image",), notes=[missing])
    assert text.index("missing in the download are not here") < text.index("## Use")


def test_no_room_for_the_files(demo, monkeypatch):
    def fail(*arguments, **options):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            raise ValueError("Operation on closed file")

    monkeypatch.setattr("datasets.DatasetBuilder.download_and_prepare", fail)
    with pytest.raises(OSError, match=r"no room left for the Parquet files.*set TMPDIR"):
        publish_dataset("refsegrs", f"{USER}/x", DRY_RUN, data_dir=demo / "refsegrs")
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=2**30))
    monkeypatch.setattr("datasets.DatasetBuilder.download_and_prepare", lambda *arguments, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        publish_dataset("refsegrs", f"{USER}/x", DRY_RUN, data_dir=demo / "refsegrs")


def test_the_command_refuses_rrsisd_before_it_reads_anything(hub, tmp_path):
    done = run_publish(hub, tmp_path, "dataset", f"{USER}/x", "--dataset", "rrsisd", "--data-dir", "nowhere")
    assert done.returncode == 1
    assert "--i-have-the-right-to" in done.stderr
    assert not hub.requests


def test_synthetic_in_several_files_and_again_in_one(online):
    repo_id = f"{USER}/synthetic"
    publish_dataset("synthetic", repo_id, max_file_size="8kB", **{**SMALL, "train_samples": 1200})
    many = [path for path in tables(online, repo_id) if "train" in path]
    assert len(many) > 1
    done = publish_dataset("synthetic", repo_id, **SMALL)
    assert set(many) <= set(done.removed)
    found = tables(online, repo_id)
    assert {path.split("/")[1].rsplit("-", 3)[0]: table.num_rows for path, table in found.items()} == {
        **COUNTS,
        "test_compositional": 2,
    }
    card = DatasetCard(online.repository(repo_id, "dataset").files()["README.md"].content.decode())
    splits = [entry["split"] for entry in card.data.configs[0]["data_files"]]
    assert splits == ["train", "validation", "test", "test_compositional"]
    assert "Side in px: 32." in card.text


def test_own_data_with_its_licence(online, tmp_path):
    Image.new("RGB", (8, 6), "gray").save(tmp_path / "roof.png")
    mask = Image.new("L", (8, 6))
    mask.putpixel((3, 2), 255)
    mask.save(tmp_path / "mask.png")
    (tmp_path / "roofs.csv").write_text("image,mask,expression\nroof.png,mask.png,the red roof\n")
    options = {"data_dir": tmp_path / "roofs.csv"}
    publish_dataset("own", f"{USER}/roofs", license_id="mit", **options)
    card = DatasetCard(online.repository(f"{USER}/roofs", "dataset").files()["README.md"].content.decode())
    assert card.data.license == "mit"
    (table,) = tables(online, f"{USER}/roofs").values()
    assert table.to_pylist()[0]["expression"] == "the red roof"
    publish_dataset("own", f"{USER}/roofs", **options)
    files = online.repository(f"{USER}/roofs", "dataset").files()
    assert DatasetCard(files["README.md"].content.decode()).data.license == "unknown"
    with pytest.raises(ValueError, match="brings its own licence"):
        publish_dataset("refsegrs", f"{USER}/x", license_id="mit", **options)
    with pytest.raises(ValueError, match="reads no files"):
        publish_dataset("synthetic", f"{USER}/x", **options)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_card_is_what_the_hub_reads(name):
    text = render_dataset_card(name, f"{USER}/x", {"train": 12_181, "test": 7}, ("image", "mask", "expression"))
    card = DatasetCard(text)
    assert check_card(text, fields=("license", "configs")) == []
    assert card.data.license == FACTS[name].dataset_card.license
    assert card.data.size_categories == ["10K<n<100K"]
    assert card.data.configs == [
        {
            "config_name": "default",
            "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in ("train", "test")],
        }
    ]
    assert "| train | 12,181 |" in text
    assert f'load_dataset("{USER}/x")' in text
    assert "$" not in text


def test_metric_under_another_name(online):
    files = dict(publish_metric(f"{USER}/referring-iou").files)
    assert set(files) == {"README.md", "app.py", "referring-iou.py", "requirements.txt"}
