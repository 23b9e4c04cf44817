"""Folders and zips as sets of named files: roots, bad names, damage, processes."""

import os
import pickle
import zipfile

import pytest

from processing_rrsis.data.files.archives import ArchiveError, open_archive
from tests.data.fake_downloads import write_folder, write_zip

FILES = {
    "rrsisd/instances.json": b"{}",
    "rrsisd/refs(unc).p": b".",
    "images/rrsisd/JPEGImages/00001.jpg": b"one",
    "images/rrsisd/JPEGImages/00002.jpg": b"two",
}
LITTER = {"__MACOSX/images/._00001.jpg": b"x", ".DS_Store": b"x", "images/Thumbs.db": b"x"}


def make(kind, tmp_path, files, outer=""):
    if kind == "zip":
        return write_zip(files, tmp_path / "download.zip", outer=outer)
    write_folder(files, tmp_path / "download" / outer)
    return tmp_path / "download"


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("outer", ["", "RRSIS-D/", "data/RRSIS-D/"])
def test_the_same_names_wherever_the_root_lies(kind, outer, tmp_path):
    archive = open_archive(make(kind, tmp_path, {**FILES, **LITTER}, outer=outer))
    assert archive.names() == sorted(FILES)
    assert archive.read("images/rrsisd/JPEGImages/00002.jpg") == b"two"
    assert archive.exists("rrsisd/refs(unc).p")
    assert not archive.exists("rrsisd/refs(umd).p")
    assert archive.location("rrsisd/instances.json").endswith(f"/{outer}rrsisd/instances.json")


def test_files_beside_the_outer_folder_do_not_matter(tmp_path):
    write_folder({"README.md": b"", **{f"RRSIS-D/{name}": data for name, data in FILES.items()}}, tmp_path)
    assert open_archive(tmp_path).names() == sorted(FILES)


def test_without_a_known_layout_common_outer_folders_are_left_out(tmp_path):
    write_folder({"a/b/images/1.tif": b"", "a/b/images/2.tif": b""}, tmp_path)
    assert open_archive(tmp_path).names() == ["images/1.tif", "images/2.tif"]


def test_two_benchmarks_in_one_folder(tmp_path):
    write_folder({f"{name}/output_phrase_train.txt": b"" for name in ("RefSegRS", "RISBench")}, tmp_path)
    with pytest.raises(ArchiveError, match=r"got several, in \['RISBench/', 'RefSegRS/'\]"):
        open_archive(tmp_path)


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "images/../../secret", "a\\b", "", "a//b", "./a", "a\0b"]
)
def test_names_that_lead_out_are_refused(kind, name, tmp_path):
    (tmp_path / "secret").write_text("secret")
    archive = open_archive(make(kind, tmp_path, FILES))
    for call in (archive.read, archive.exists):
        with pytest.raises(ArchiveError, match="stay inside"):
            call(name)


@pytest.mark.parametrize("entry", ["../../evil.sh", "/abs.sh"])
def test_a_zip_with_entries_that_lead_out_is_refused(entry, tmp_path):
    with pytest.raises(ArchiveError, match=entry):
        open_archive(write_zip({**FILES, entry: b"x"}, tmp_path / "evil.zip")).names()


def test_backslashes_of_windows_zips_are_slashes(tmp_path):
    path = write_zip({"images\\1.tif": b"one"}, tmp_path / "windows.zip")
    assert open_archive(path).read("images/1.tif") == b"one"


def test_missing_files_and_archives_are_named(tmp_path):
    path = make("zip", tmp_path, FILES)
    with pytest.raises(FileNotFoundError, match=r"download\.zip/images/none\.jpg"):
        open_archive(path).read("images/none.jpg")
    with pytest.raises(FileNotFoundError, match=r"none/here.*found nothing"):
        open_archive(tmp_path / "none/here")
    folder = open_archive(write_folder(FILES, tmp_path / "folder"))
    with pytest.raises(FileNotFoundError, match=r"folder/images/none\.jpg"):
        folder.read("images/none.jpg")


def test_no_zip_and_cut_zips(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"\x1f\x8b" + bytes(100))
    with pytest.raises(ArchiveError, match="unpack it and give the folder"):
        open_archive(tmp_path / "a.tar.gz")
    whole = make("zip", tmp_path, FILES).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArchiveError, match=r"cut\.zip.*cut short"):
        open_archive(tmp_path / "cut.zip")


def test_a_damaged_member_is_named(tmp_path):
    path = tmp_path / "stored.zip"
    with zipfile.ZipFile(path, "w") as writer:
        for name, data in {**FILES, "images/rrsisd/JPEGImages/00003.jpg": b"0123456789"}.items():
            writer.writestr(name, data)
    path.write_bytes(path.read_bytes().replace(b"0123456789", b"0123456780"))
    archive = open_archive(path)
    assert archive.read("images/rrsisd/JPEGImages/00001.jpg") == b"one"
    with pytest.raises(ArchiveError, match=r"00003\.jpg: expected a readable file.*CRC"):
        archive.read("images/rrsisd/JPEGImages/00003.jpg")


def test_large_members_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("processing_rrsis.data.files.archives.MAX_MEMBER_BYTES", 2)
    for kind in ("folder", "zip"):
        archive = open_archive(make(kind, tmp_path, FILES))
        with pytest.raises(ArchiveError, match=r"00001\.jpg: expected a file of at most"):
            archive.read("images/rrsisd/JPEGImages/00001.jpg")


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_the_fingerprint_follows_the_files(kind, tmp_path):
    def fingerprint(files, number, prefixes=("",)):
        return open_archive(make(kind, tmp_path / str(number), files)).fingerprint(prefixes)

    first = fingerprint(FILES, 1)
    larger, more = {**FILES, "rrsisd/instances.json": b"{ }"}, {**FILES, "README": b""}
    assert len({first, fingerprint(larger, 2), fingerprint(more, 3)}) == 3
    images = ("images/",)
    if kind == "zip":  # by checksum: a copy is the same, an edit of the same length is another
        assert fingerprint(FILES, 4) == first
        assert fingerprint({**FILES, "rrsisd/instances.json": b"[]"}, 5) != first
        assert fingerprint(FILES, 6, images) == fingerprint(larger, 7, images)


def test_an_edited_folder_is_noticed_by_an_open_archive(tmp_path):
    archive = open_archive(write_folder(FILES, tmp_path))
    first = archive.fingerprint()
    assert archive.fingerprint() == first
    status = (tmp_path / "rrsisd/instances.json").stat()
    (tmp_path / "rrsisd/instances.json").write_bytes(b"[]")
    os.utime(tmp_path / "rrsisd/instances.json", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert archive.fingerprint() != first


def test_links_are_followed_once(tmp_path):
    write_folder({"elsewhere/00003.jpg": b"three"}, tmp_path)
    root = write_folder(FILES, tmp_path / "download")
    (root / "images/linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "images/loop").symlink_to(root, target_is_directory=True)
    assert open_archive(root).names() == sorted([*FILES, "images/linked/00003.jpg"])


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_pickled_and_forked_archives_read_on(kind, tmp_path):
    archive = open_archive(make(kind, tmp_path, FILES))
    names = archive.names()
    copy = pickle.loads(pickle.dumps(archive))
    assert copy.names() == names
    assert copy.read("images/rrsisd/JPEGImages/00001.jpg") == b"one"
    child = os.fork()
    whole = all(archive.read(name) in FILES.values() for name in names * 50)  # both read at once
    if not child:
        os._exit(0 if whole else 3)
    assert whole
    assert os.waitpid(child, 0)[1] == 0
