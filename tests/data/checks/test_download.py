"""What `rrsis prepare` finds: nothing in clean data, each kind of damage by name, and nothing more."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from processing_rrsis.data.checks.download import check_download, find_many_empty_masks
from processing_rrsis.data.checks.findings import CHECKS, ERROR, NOTE, SEVERITIES
from processing_rrsis.data.checks.lists import ListedSample
from processing_rrsis.data.checks.pictures import MaskTask, box_iou
from processing_rrsis.data.facts import PUBLISHED_COUNTS
from processing_rrsis.data.refsegrs import RefSegRS
from processing_rrsis.data.rrsisd import RRSISD
from processing_rrsis.data.writing.demo import DemoSpec
from processing_rrsis.data.writing.writers import write_rrsisd
from tests.data.damage import DAMAGE_KINDS, check_damage_kinds, write_damaged_demo

STYLES = ("rrsisd", "refsegrs", "risbench")
COUNTS = {"train": 6, "validation": 3, "test": 3}
PAIRS = [(style, kind) for style in STYLES[:2] for kind in check_damage_kinds(["all"], layout=style)]
REFERENCES = "rrsisd/refs(unc).p"
INSTANCES = "rrsisd/instances.json"


def make_demo(folder, style="rrsisd", damage=(), **fields):
    spec = DemoSpec(style, **{"counts": COUNTS, "image_size_px": 40, **fields})
    return write_damaged_demo(spec, folder, damage)


def check(folder, **options):
    return check_download(folder, progress=False, **options)


def found(report):
    """{check: names} of everything but notes."""
    return {finding.check: finding.names for finding in report.findings if finding.severity != NOTE}


@pytest.mark.parametrize("style", STYLES)
def test_clean_data_are_clean(style, tmp_path):
    make_demo(tmp_path / "demo", style=style)
    report = check(tmp_path / "demo")
    assert (report.dataset, report.expected_from, report.counts) == (style, "demo", COUNTS)
    assert (report.findings, report.left_out, report.exit_code, report.images) == ((), (), 0, 12)


@pytest.mark.parametrize(("style", "kind"), PAIRS)
def test_every_damage_is_found_by_name_and_nothing_else(style, kind, tmp_path):
    (damage,) = make_demo(tmp_path / "demo", style=style, damage=[kind])
    report = check(tmp_path / "demo")
    assert damage.kind == kind
    assert found(report) == {kind: damage.names}
    assert len(damage.names) == 1
    assert report.exit_code == (1 if CHECKS[kind].severity == ERROR else 0)
    assert bool(report.left_out) == kind.startswith("missing-")


@pytest.mark.parametrize("style", STYLES)
def test_all_damage_at_once_in_one_and_in_two_processes(style, tmp_path):
    done = make_demo(tmp_path / "demo", style=style, damage=["all"], counts={"train": 12, "validation": 8, "test": 8})
    report = check(tmp_path / "demo")
    assert found(report) == {damage.kind: damage.names for damage in done}
    assert report.exit_code == 1
    assert check(tmp_path / "demo", num_proc=2) == report
    again = make_demo(
        tmp_path / "again", style=style, damage=["all"], counts={"train": 12, "validation": 8, "test": 8}
    )
    assert again == done


def test_severities_follow_the_rule():
    """Damage stops; what published archives have is counted."""
    stops = {name for name, kind in CHECKS.items() if kind.severity == ERROR}
    assert stops & set(DAMAGE_KINDS) == {
        "missing-image",
        "missing-mask",
        "truncated-image",
        "unreadable-image",
        "unreadable-mask",
        "unknown-category",
        "leak",
        "wrong-count",
    }
    assert stops - set(DAMAGE_KINDS) == {
        "unsafe-pickle",
        "unreadable-list",
        "unsafe-name",
        "duplicate-id",
        "oversized-image",
        "many-empty-masks",
        "nothing-left",
    }
    order = [SEVERITIES.index(kind.severity) for kind in CHECKS.values()]
    assert order == sorted(order)
    assert {name for name, kind in CHECKS.items() if kind.leaves_out} == {"missing-image", "missing-mask"}


def test_allow_missing_goes_on_and_names_what_is_left_out(tmp_path):
    done = make_demo(tmp_path / "demo", damage=["missing-image", "missing-mask"], expressions_per_image=2)
    stopped, report = check(tmp_path / "demo"), check(tmp_path / "demo", allow_missing=True)
    assert (stopped.exit_code, report.exit_code) == (1, 0)
    (image,), (mask,) = done[0].names, done[1].names
    names = [item.name for item in report.left_out]
    assert mask in names
    assert len([name for name in names if name.startswith(f"{image}: reference ")]) == 2  # both of its expressions
    assert len(names) == 3
    assert sum(report.left_out_per_split.values()) == 3
    assert stopped.findings == report.findings


@pytest.mark.parametrize(("style", "builder"), [("rrsisd", RRSISD), ("refsegrs", RefSegRS)])
def test_the_builders_keep_what_the_report_says(style, builder, tmp_path):
    """Every oddity at once, and missing files: all references are built but the ones that are named as left out."""
    kinds = [kind for kind in check_damage_kinds(["all"], layout=style) if CHECKS[kind].severity != ERROR]
    counts = {"train": 12, "validation": 6, "test": 6}
    make_demo(tmp_path / "demo", style=style, damage=[*kinds, "missing-image", "missing-mask"], counts=counts)
    report = check(tmp_path / "demo", allow_missing=True)
    assert (report.exit_code, len(report.left_out)) == (0, 2)
    data = builder(data_dir=tmp_path / "demo", cache_dir=str(tmp_path / "cache"), allow_missing=True)
    data.download_and_prepare()
    built = {split: len(rows) for split, rows in data.as_dataset().items()}
    assert built == {split: count - report.left_out_per_split[split] for split, count in counts.items()}


@pytest.mark.parametrize("kind", ["wrong-count", "truncated-image", "leak", "unknown-category"])
def test_allow_missing_does_not_forgive_other_damage(kind, tmp_path):
    make_demo(tmp_path / "demo", damage=[kind, "missing-image"])
    report = check(tmp_path / "demo", allow_missing=True)
    assert report.exit_code == 1
    assert [finding.check for finding in report.blocking] == [kind]


def test_a_hostile_pickle_is_refused_by_name_and_nothing_runs(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    make_demo(tmp_path / "demo")
    (tmp_path / "demo" / REFERENCES).write_bytes(pickle.dumps([Hostile()]))
    for instances_too in (True, False):  # it is looked at even where the other list is missing
        if not instances_too:
            (tmp_path / "demo" / INSTANCES).unlink()
        report = check(tmp_path / "demo")
        (finding,) = [finding for finding in report.findings if finding.check == "unsafe-pickle"]
        assert finding.names == (REFERENCES,)
        assert "io.open" in finding.items[0].detail
        assert report.exit_code == 1
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", [REFERENCES, INSTANCES])
@pytest.mark.parametrize("content", [None, b"", b"<html>Quota exceeded</html>", b'{"annotations": 3}'])
def test_a_damaged_list_is_named(name, content, tmp_path):
    make_demo(tmp_path / "demo")
    (tmp_path / "demo" / name).unlink()
    if content is not None:
        (tmp_path / "demo" / name).write_bytes(content)
    report = check(tmp_path / "demo")
    assert found(report) == {"unreadable-list": (name,)}
    assert report.exit_code == 1


def test_a_missing_text_file_is_named_and_the_other_splits_are_checked(tmp_path):
    make_demo(tmp_path / "demo", style="refsegrs", damage=["empty-mask"])
    (tmp_path / "demo" / "output_phrase_test.txt").unlink()
    report = check(tmp_path / "demo")
    assert set(found(report)) == {"unreadable-list", "wrong-count", "empty-mask"}
    assert found(report)["unreadable-list"] == ("output_phrase_test.txt",)
    assert report.counts == {**COUNTS, "test": 0}


def test_names_that_lead_outside_are_refused(tmp_path):
    make_demo(tmp_path / "demo", style="refsegrs")
    with (tmp_path / "demo" / "output_phrase_val.txt").open("a") as file:
        file.write("../../secret the road\n")
    report = check(tmp_path / "demo", expected="none")
    assert found(report) == {"unsafe-name": ("output_phrase_val.txt: line 4",)}
    make_demo(tmp_path / "other")
    references = tmp_path / "other" / REFERENCES
    entries = pickle.loads(references.read_bytes())
    entries[3]["file_name"] = "../secret.jpg"
    references.write_bytes(pickle.dumps(entries, protocol=2))
    assert found(check(tmp_path / "other"))["unsafe-name"] == (f"{REFERENCES}: reference 4",)


def test_counts_are_compared_with_the_published_ones_where_there_is_no_marker(tmp_path):
    make_demo(tmp_path / "demo", style="refsegrs")
    assert found(check(tmp_path / "demo", expected="published")) == {"wrong-count": ("test", "train", "validation")}
    (tmp_path / "demo" / "demo.json").unlink()
    report = check(tmp_path / "demo")
    assert report.expected_from == "published"
    assert report.expected == {"train": 2172, "validation": 431, "test": 1817}
    details = [item.detail for finding in report.findings for item in finding.items if item.name == "train"]
    assert details == ["6 references, expected 2172"]
    assert PUBLISHED_COUNTS["rrsisd"] == {"train": 12_181, "validation": 1_740, "test": 3_481}
    report = check(tmp_path / "demo", expected="none")
    assert [finding.check for finding in report.findings] == ["image-size", "no-counts"]  # 40 px and not 512
    assert report.exit_code == 0


def test_demo_data_are_no_published_data(tmp_path):
    """A demo's counts and sizes count as such only where demo.json says so; its categories are the published ones."""
    make_demo(tmp_path / "demo", counts={"train": 20, "validation": 1, "test": 1})
    report = check(tmp_path / "demo", expected="published")
    assert [finding.check for finding in report.findings] == ["wrong-count", "image-size"]


def test_own_categories_are_known_by_the_marker_alone(tmp_path):
    row = {"image": np.zeros((8, 8, 3), np.uint8), "mask": np.eye(8, dtype=bool), "expression": "A barn"}
    rows = {split: [{**row, "category": "barn", "image_id": split}] for split in COUNTS}
    write_rrsisd(rows, tmp_path / "own", progress=False)
    assert "unknown-category" not in {finding.check for finding in check(tmp_path / "own").findings}
    report = check(tmp_path / "own", expected="published")
    (finding,) = [finding for finding in report.findings if finding.check == "unknown-category"]
    assert {item.detail for item in finding.items} == {"barn"}


def test_a_zip_is_checked_as_it_is(tmp_path):
    done = make_demo(tmp_path / "demo", damage=["truncated-image", "mask-size"])
    with zipfile.ZipFile(tmp_path / "demo.zip", "w") as archive:
        for path in (tmp_path / "demo").rglob("*"):
            archive.write(path, arcname=f"RRSIS-D/{path.relative_to(tmp_path / 'demo')}")
    report = check(tmp_path / "demo.zip", num_proc=2)
    assert found(report) == {damage.kind: damage.names for damage in done}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo", "demo.zip"]


def test_notes_do_not_stop(tmp_path):
    make_demo(tmp_path / "demo")
    root = tmp_path / "demo"
    (root / "README.txt").write_text("hello")
    (root / "images/rrsisd/ann_split/00002.xml").unlink()
    Image.new("L", (41, 40), color=7).save(root / "images/rrsisd/JPEGImages/00001.jpg")
    instances = json.loads((root / INSTANCES).read_text())
    instances["annotations"].append({**instances["annotations"][0], "id": 99})
    (root / INSTANCES).write_text(json.dumps(instances))
    report = check(root)
    names = {finding.check: finding.names for finding in report.findings}
    assert names == {
        "mask-size": ("images/rrsisd/JPEGImages/00001.jpg: reference 1",),
        "image-size": ("images/rrsisd/JPEGImages/00001.jpg",),
        "image-mode": ("images/rrsisd/JPEGImages/00001.jpg",),
        "missing-xml": ("images/rrsisd/ann_split/00002.xml",),
        "extra-annotation": ("rrsisd/instances.json: annotation 99",),
        "other-file": ("README.txt",),
    }
    assert report.exit_code == 0


def test_reference_and_annotation_that_differ_are_named(tmp_path):
    make_demo(tmp_path / "demo")
    instances = json.loads((tmp_path / "demo" / INSTANCES).read_text())
    instances["annotations"][4]["image_id"] = 1
    (tmp_path / "demo" / INSTANCES).write_text(json.dumps(instances))
    assert found(check(tmp_path / "demo")) == {
        "annotation-mismatch": ("images/rrsisd/JPEGImages/00005.jpg: reference 5",)
    }


def test_mask_values_are_shown(tmp_path):
    make_demo(tmp_path / "demo", style="refsegrs")
    values = np.zeros((40, 40), dtype=np.uint8)
    values[0, :3] = (30, 51, 255)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, format="TIFF")
    (tmp_path / "demo/masks/2.tif").write_bytes(buffer.getvalue())
    Image.fromarray(np.where(values > 0, np.uint8(1), np.uint8(0))).save(tmp_path / "demo/masks/3.tif")  # 0 and 1
    details = {
        (finding.check, item.name): item.detail
        for finding in check(tmp_path / "demo").findings
        for item in finding.items
    }
    assert details == {
        ("mask-values", "masks/2.tif"): "2 px with 30, 51",
        ("mask-values", "masks/3.tif"): "3 px with 1",
        ("empty-mask", "masks/3.tif"): "no value above 50, largest 1",
    }


def write_masks(root, split_lines, convert):
    """Write the masks of a split of RefSegRS anew, and return their names."""
    names = [f"masks/{line.split()[0]}.tif" for line in split_lines]
    for name in names:
        with Image.open(root / name) as stored:
            values = np.asarray(stored)
        convert(values).save(root / name)
    return names


def zero_and_one(values):
    return Image.fromarray((values > 50).astype(np.uint8))


def palette_of_voc(values):
    image = zero_and_one(values).convert("P")
    image.putpalette([0, 0, 0, 128, 0, 0])  # class 1 is dark red: gray value 38
    return image


@pytest.mark.parametrize("convert", [zero_and_one, palette_of_voc])
def test_masks_of_zero_and_one_stop_with_a_hint(convert, tmp_path):
    make_demo(tmp_path / "demo", style="refsegrs")
    lines = (tmp_path / "demo" / "output_phrase_train.txt").read_text().splitlines()
    names = write_masks(tmp_path / "demo", lines[:1], convert)
    assert check(tmp_path / "demo").exit_code == 0  # one is an oddity
    names += write_masks(tmp_path / "demo", lines[1:], convert)
    report = check(tmp_path / "demo", allow_missing=True)
    assert report.exit_code == 1
    (blocking,) = report.blocking
    assert (blocking.check, blocking.names) == ("many-empty-masks", ("train",))
    assert blocking.items[0].detail.startswith("6 of 6 masks; values 0/1? Foreground is a value above 50: re-encode")
    assert found(report)["empty-mask"] == tuple(sorted(names))


def sample_of(number, split="train"):
    image, mask = f"images/{number}.tif", f"masks/{number}.tif"
    return ListedSample(label=mask, split=split, image=image, expression="", mask=MaskTask(label=mask, source=mask))


@pytest.mark.parametrize(("masks", "empty", "stops"), [(2, 1, False), (39, 2, True), (40, 2, False), (40, 3, True)])
def test_empty_masks_stop_from_a_share_on(masks, empty, stops):
    """More than 5 % of a split and at least two; all-black masks have no odd values, so no hint at an encoding."""
    samples = [sample_of(number) for number in range(masks)]
    problems = [("empty-mask", sample.label, "") for sample in samples[:empty]]
    expected = [("many-empty-masks", "train", f"{empty} of {masks} masks")] if stops else []
    assert find_many_empty_masks(samples * 2, problems) == expected  # two expressions about a mask are one mask


@pytest.mark.parametrize("splits", [("val",), ("train", "val", "test")])
@pytest.mark.parametrize("allow_missing", [False, True])
def test_a_split_without_references_left_stops(splits, allow_missing, tmp_path):
    make_demo(tmp_path / "demo", style="refsegrs")
    for split in splits:
        for line in (tmp_path / "demo" / f"output_phrase_{split}.txt").read_text().splitlines():
            (tmp_path / "demo" / "images" / f"{line.split()[0]}.tif").unlink()
    report = check(tmp_path / "demo", allow_missing=allow_missing)
    assert report.exit_code == 1
    names = {"val": "validation"}
    assert found(report)["nothing-left"] == tuple(sorted(names.get(split, split) for split in splits))


def test_lists_without_a_reference_stop(tmp_path):
    make_demo(tmp_path / "demo")
    (tmp_path / "demo" / REFERENCES).write_bytes(pickle.dumps([], protocol=2))
    report = check(tmp_path / "demo", expected="none")
    assert found(report)["nothing-left"] == ("all splits",)
    assert report.exit_code == 1


def test_references_of_the_same_numbers_are_named(tmp_path):
    make_demo(tmp_path / "demo")
    path = tmp_path / "demo" / REFERENCES
    entries = pickle.loads(path.read_bytes())
    entries[4]["ref_id"] = entries[1]["ref_id"]
    path.write_bytes(pickle.dumps(entries, protocol=2))
    assert found(check(tmp_path / "demo")) == {}  # sentences of one reference, told apart by their own numbers
    entries[4]["sentences"][0]["sent_id"] = entries[1]["sentences"][0]["sent_id"]
    path.write_bytes(pickle.dumps(entries, protocol=2))
    report = check(tmp_path / "demo")
    assert found(report) == {"duplicate-id": (f"{REFERENCES}: reference 2",)}
    assert report.exit_code == 1
    data = RRSISD(data_dir=tmp_path / "demo", cache_dir=str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=r"got 1 again, such as ref_id 2 with sent_id"):
        data.download_and_prepare()


@pytest.mark.parametrize("style", ["rrsisd", "refsegrs"])
def test_an_image_of_too_many_pixels_has_its_own_words(style, tmp_path, monkeypatch):
    make_demo(tmp_path / "demo", style=style)
    name = "images/rrsisd/JPEGImages/00003.jpg" if style == "rrsisd" else "images/3.tif"
    Image.new("RGB", (60, 60)).save(tmp_path / "demo" / name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1700)  # an error from twice as many on: 3600, and not 40 x 40
    report = check(tmp_path / "demo")
    assert found(report)["oversized-image"] == (name,)
    assert "truncated-image" not in found(report)
    assert report.exit_code == 1
    assert (
        "more pixels than are decoded at once"
        in next(f for f in report.findings if f.check == "oversized-image").items[0].detail
    )


def test_a_zip_in_a_zip_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.writestr("download/RefSegRS.zip", b"PK")
    with pytest.raises(ValueError, match=r"got 'RefSegRS\.zip', a zip inside; unpack the outer one"):
        check(tmp_path / "outer.zip")


def test_box_iou_by_hand():
    mask = np.zeros((10, 10), dtype=np.uint8)
    mask[2:4, 2:6] = 255  # columns 2 to 5, rows 2 and 3: 8 px
    assert box_iou(mask, (2, 2, 5, 3)) == 1.0  # last pixel
    assert box_iou(mask, (2, 2, 6, 4)) == 1.0  # edge behind it
    assert box_iou(mask, (4, 2, 7, 3)) == pytest.approx(4 / 12)
    assert box_iou(mask, (6, 2, 9, 3)) == 0.0
    assert box_iou(mask, (5, 3, 2, 2)) == 0.0  # corners the wrong way round


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "coco"}, "dataset: expected one of"),
        ({"num_proc": 0}, "num_proc: expected at least 1"),
        ({"expected": "twice"}, "expected: expected one of"),
        ({"dataset": "refsegrs"}, "demo.json says that this folder is 'rrsisd'"),
    ],
)
def test_bad_options_are_refused(options, message, tmp_path):
    make_demo(tmp_path / "demo")
    with pytest.raises(ValueError, match=message):
        check(tmp_path / "demo", **options)


def test_no_benchmark_and_no_counts_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="found neither"):
        check(tmp_path / "empty")
    assert found(check(tmp_path / "empty", dataset="rrsisd"))["unreadable-list"] == (INSTANCES, REFERENCES)
    with pytest.raises(FileNotFoundError, match="found nothing"):
        check(tmp_path / "nowhere")
    make_demo(tmp_path / "ris", style="risbench")
    with pytest.raises(ValueError, match=r"published counts of .* only, not of 'risbench'"):
        check(tmp_path / "ris", expected="published")
    (tmp_path / "ris" / "demo.json").write_text("{}")
    with pytest.raises(ValueError, match=r"demo\.json: expected what"):
        check(tmp_path / "ris")
    (tmp_path / "ris" / "demo.json").unlink()
    assert check(tmp_path / "ris").expected_from == "none"
    with pytest.raises(ValueError, match=r"needs the demo\.json"):
        check(tmp_path / "ris", expected="demo")


def test_kinds_of_damage_that_a_layout_lacks_are_refused(tmp_path):
    assert set(check_damage_kinds(["all"], layout="rrsisd")) == set(DAMAGE_KINDS)
    with pytest.raises(ValueError, match=r"for refsegrs, got \['bad-box'\]"):
        make_demo(tmp_path / "demo", style="refsegrs", damage=["bad-box", "leak"])
    with pytest.raises(ValueError, match="write a larger demo or fewer kinds"):
        make_demo(tmp_path / "demo", damage=["all"], counts={"train": 2, "validation": 1, "test": 1})
