"""The hash of a split's content: every stored byte counts, nothing else does."""

import datasets
import pytest

from processing_rrsis.data.files.content_hash import content_hash

from ...metrics.evaluation_fakes import make_dataset


def test_content_alone_decides(tmp_path):
    split = make_dataset()
    expected = content_hash(split)
    assert len(expected) == 64
    assert content_hash(split.map(lambda row: {"extra": 1})) == expected
    split.save_to_disk(tmp_path / "copy")
    assert content_hash(datasets.load_from_disk(str(tmp_path / "copy"))) == expected
    assert content_hash(split.select(range(7))) == expected
    changed = [
        split.select(range(6)),
        split.select([1, 0, *range(2, 7)]),
        split.map(lambda row: {"expression": row["expression"] + " "}),
        split.map(lambda row: {"mask": row["image"].convert("L")}),
        split.remove_columns("category"),
    ]
    hashes = {content_hash(other) for other in changed}
    assert len(hashes) == 5
    assert expected not in hashes


def test_images_on_disk_are_read(tmp_path):
    split = make_dataset(num_samples=2)
    stored = split.cast_column("image", datasets.Image(decode=False)).to_list()
    for index, row in enumerate(stored):
        (tmp_path / f"{index}.png").write_bytes(row["image"]["bytes"])
    paths = [str(tmp_path / f"{index}.png") for index in range(2)]
    on_disk = split.remove_columns("image").add_column("image", paths).cast_column("image", datasets.Image())
    assert content_hash(on_disk) == content_hash(split)


def test_missing_columns_are_named():
    with pytest.raises(ValueError, match=r"\['mask'\] are missing"):
        content_hash(make_dataset().remove_columns("mask"))
