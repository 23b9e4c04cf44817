"""The text, pickle and JSON files of the downloads: what they say, and errors that name entry and line."""

import pickle

import numpy as np
import pytest

from processing_rrsis import RRSISD, RefSegRS, load_benchmark
from processing_rrsis.data.files.masks import decode_segmentation
from processing_rrsis.data.rrsisd_files import image_name, read_annotations, read_references
from tests.data.fake_downloads import phrase_files, pixels_of, rrsisd_files, write_folder


@pytest.fixture
def cache_dir(tmp_path):
    return str(tmp_path / "cache")


@pytest.fixture(scope="module")
def rrsisd_folder(tmp_path_factory):
    return write_folder(rrsisd_files(), tmp_path_factory.mktemp("rrsisd"))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"1 car\n\n2 van\n", "line 2: expected '<id> <expression>', got ''"),
        (b"1 car\n2\n", "line 2: .* got '2'"),
        (b"1 car\n2  \n3 bus", "line 2"),
        (b"1\tcar\n", "line 1"),
        (b" 1 car\n", "line 1"),
        (b"", "empty file"),
        (b"../../secret car\n", "stay inside"),
    ],
)
def test_bad_phrase_lines_name_file_and_line(text, error, tmp_path, cache_dir):
    folder = write_folder({**phrase_files(), "output_phrase_train.txt": text}, tmp_path / "raw")
    with pytest.raises(ValueError, match=error):
        load_benchmark("refsegrs", data_dir=folder, cache_dir=cache_dir, streaming=True)


def test_phrase_files_of_other_editors(tmp_path, cache_dir, caplog):
    text = b"\xef\xbb\xbf1   car  \r\n2 caf\xc3\xa9 \x0b wall\n3 bus\n\n \n"
    folder = write_folder({**phrase_files(), "output_phrase_train.txt": text}, tmp_path / "raw")
    samples = RefSegRS(data_dir=folder, cache_dir=cache_dir).read_samples()["train"]
    assert [sample.expression for sample in samples] == ["car", "café \x0b wall", "bus"]
    (folder / "output_phrase_train.txt").write_bytes(b"1 caf\xe9\n")
    assert RefSegRS(data_dir=folder, cache_dir=cache_dir).read_samples()["train"][0].expression == "café"
    assert "not UTF-8" in caplog.text


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda ref: ref.pop("ann_id"), "entry 0: expected 'ann_id' as int, got no such field"),
        (lambda ref: ref.update(ref_id=True), "expected 'ref_id' as int, got bool"),
        (lambda ref: ref.update(split="dev"), "expected 'split' of"),
        (lambda ref: ref.update(category_id=99), "'category_id' 99 has no name"),
        (lambda ref: ref.update(sentences=[]), "at least one sentence"),
        (lambda ref: ref["sentences"][0].update(raw=" "), "blank"),
        (lambda ref: ref.update(sentences=["A ship"]), "expected a dictionary, got str"),
        (lambda ref: ref.update(file_name="../../../etc/passwd"), "plain file name"),
    ],
)
def test_bad_references_name_entry_and_field(change, text, tmp_path, cache_dir):
    files = rrsisd_files()
    refs = pickle.loads(files["rrsisd/refs(unc).p"])
    change(refs[0])
    files["rrsisd/refs(unc).p"] = pickle.dumps(refs)
    builder = RRSISD(data_dir=write_folder(files, tmp_path / "raw"), cache_dir=cache_dir)
    with pytest.raises(ValueError, match=text):
        builder.read_samples()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"{", "expected complete JSON"),
        (b"[]", "'annotations' and 'categories'"),
        (b'{"annotations": [{"id": 1}], "categories": []}', "annotation 0: expected 'bbox'"),
        (b'{"annotations": [], "categories": [{"id": 1}]}', "'categories': expected 'name'"),
    ],
)
def test_bad_instances(data, text, tmp_path, cache_dir):
    folder = write_folder({**rrsisd_files(), "rrsisd/instances.json": data}, tmp_path / "raw")
    with pytest.raises(ValueError, match=text):
        RRSISD(data_dir=folder, cache_dir=cache_dir).read_samples()


def test_references_and_annotations_as_read(rrsisd_folder):
    archive = RRSISD(data_dir=rrsisd_folder).archive
    first, annotations = read_references(archive)[0], read_annotations(archive)
    assert (first.ref_id, first.ann_id, first.image_id, first.sent_id) == (101, 501, 1, 1)
    assert (first.split, first.category, first.file_name) == ("train", "golffield", "00001.jpg")
    assert image_name(first.file_name) == "images/rrsisd/JPEGImages/00001.jpg"
    assert annotations[501].bbox_xyxy == (8.0, 5.0, 20.0, 13.0)
    assert annotations[501].category == "golffield"
    assert np.array_equal(decode_segmentation(annotations[501].segmentation), pixels_of(1)[1] * 255)
