"""One's own images, masks and expressions from a CSV or JSONL file."""

import io
import json
import logging

import numpy as np
import pytest
from PIL import Image

from processing_rrsis import OwnData, load_benchmark
from processing_rrsis.data.file_benchmark import MissingFilesError
from tests.data.fake_downloads import encode, pixels_of, runs_of

POLYGON = [[2, 1], [6, 1], [6, 4], [2, 4]]


def polygon_mask(height=30, width=40):
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[1:4, 2:6] = 255
    return mask


@pytest.fixture
def folder(tmp_path):
    """An image, and a mask of it as a file; the table goes into `tables`."""
    (tmp_path / "tables").mkdir()
    image, mask = pixels_of(1)
    (tmp_path / "roofs 1.png").write_bytes(encode(image, "PNG"))
    (tmp_path / "mask.png").write_bytes(encode(mask * np.uint8(255), "PNG"))
    return tmp_path


def load(folder, lines, name="mine.jsonl", **options):
    text = "\n".join(json.dumps(line) for line in lines) if name.endswith("jsonl") else "\n".join(lines)
    (folder / "tables" / name).write_text(text, encoding="utf-8")
    return load_benchmark(str(folder / "tables" / name), cache_dir=str(folder / "cache"), **options)


def row(mask="../mask.png", **fields):
    return {"image": "../roofs 1.png", "mask": mask, "expression": "the red roof", **fields}


def masks_of(dataset):
    return [np.asarray(item["mask"]) for item in dataset]


def test_every_form_of_mask_in_jsonl(folder):
    runs = runs_of(pixels_of(1)[1])
    forms = ["../mask.png", str(folder / "mask.png"), runs, [runs], POLYGON, [POLYGON], [2, 1, 6, 1, 6, 4, 2, 4]]
    rows = load(folder, [row(form) for form in forms])["train"]
    from_file, drawn = pixels_of(1)[1] * 255, polygon_mask()
    for mask, expected in zip(masks_of(rows), [from_file] * 4 + [drawn] * 3, strict=True):
        assert np.array_equal(mask, expected)
    assert rows.column_names == ["image", "mask", "expression", "category", "image_id", "sample_id"]
    plain = {name: rows[1][name] for name in rows.column_names[2:]}
    assert plain == {"expression": "the red roof", "category": "", "image_id": "roofs 1", "sample_id": "roofs 1_2"}
    assert np.array_equal(np.asarray(rows[0]["image"]), pixels_of(1)[0])


def test_csv_with_splits_and_categories(folder):
    quoted = json.dumps(POLYGON)
    runs = json.dumps(runs_of(pixels_of(1)[1])).replace('"', '""')
    for number in (2, 3):
        (folder / f"roofs {number}.png").write_bytes((folder / "roofs 1.png").read_bytes())
    rows = load(
        folder,
        [
            "\ufeffExpression,image, mask,category,split,notes",
            f'"the roof, red","../roofs 1.png","{quoted}",building,train,',
            "",
            "a roof,../roofs 2.png,../mask.png,,val,x",
            f'all roofs,../roofs 3.png,"{runs}",building,Test,',
        ],
        name="mine.csv",
    )
    assert {split: rows[split]["expression"][:] for split in rows} == {
        "train": ["the roof, red"],
        "validation": ["a roof"],
        "test": ["all roofs"],
    }
    assert rows["train"]["category"][:] == ["building"]
    assert np.array_equal(masks_of(rows["train"])[0], polygon_mask())
    assert np.array_equal(masks_of(rows["test"])[0], pixels_of(1)[1] * 255)
    assert rows["test"]["sample_id"][:] == ["roofs 3_5"]


def test_by_path_by_name_and_streaming(folder):
    prepared = load(folder, [row(), row(POLYGON)])
    table, cache = str(folder / "tables/mine.jsonl"), str(folder / "cache")
    by_path = load_benchmark(table, split="train", cache_dir=cache)
    by_name = load_benchmark("own", data_dir=table, cache_dir=cache, split="train")
    stream = load_benchmark(table, cache_dir=cache, streaming=True, split="train")
    for rows in (by_path, by_name, stream):
        for mask, expected in zip(masks_of(rows), masks_of(prepared["train"]), strict=True):
            assert np.array_equal(mask, expected)
    with pytest.raises(ValueError, match="either the table"):
        load_benchmark(table, data_dir="x")
    with pytest.raises(ValueError, match=r"path of a \.csv or \.jsonl"):
        load_benchmark("own")


def test_edited_tables_and_images_are_noticed(folder):
    assert load(folder, [row()])["train"]["expression"][:] == ["the red roof"]
    assert load(folder, [row(expression="the big roof")])["train"]["expression"][:] == ["the big roof"]
    (folder / "mask.png").write_bytes(encode(polygon_mask(), "PNG"))
    assert np.array_equal(masks_of(load(folder, [row(expression="the big roof")])["train"])[0], polygon_mask())


def test_mask_files_of_other_kinds(folder):
    truth = pixels_of(1)[1]
    picture = Image.fromarray(truth * np.uint8(255))
    palette = Image.fromarray(truth, mode="P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    kinds = {"L01": Image.fromarray(truth), "one": picture.convert("1"), "rgb": picture.convert("RGB"), "p": palette}
    kinds["rgba"], kinds["la"] = picture.convert("RGBA"), picture.convert("LA")
    for name, image in kinds.items():
        image.save(folder / f"{name}.png")
    for mask in masks_of(load(folder, [row(f"../{name}.png") for name in kinds])["train"]):
        assert np.array_equal(mask, truth * 255)


@pytest.mark.parametrize("kind", ["quantize 2", "quantize 4", "adaptive", "all white", "all black"])
def test_palettes_in_black_and_white_count_by_colour(kind, folder):
    """Pillow's quantisation puts white first: by its indices such a mask would be inverted."""
    mask = np.zeros((30, 40), dtype=np.uint8)
    mask[5:15, 10:30] = 255
    mask = {"all white": np.full_like(mask, 255), "all black": np.zeros_like(mask)}.get(kind, mask)
    colours = Image.fromarray(mask).convert("RGB")
    image = {
        "quantize 2": lambda: colours.quantize(2),
        "quantize 4": lambda: colours.quantize(4),
        "adaptive": lambda: colours.convert("P", palette=Image.Palette.ADAPTIVE, colors=2),
    }.get(kind, lambda: colours.quantize(2))()
    assert image.mode == "P"
    image.save(folder / "palette.png")
    assert np.array_equal(masks_of(load(folder, [row("../palette.png")])["train"])[0], mask)


@pytest.mark.parametrize("colours", [[0, 0, 0, 128, 0, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1]])
def test_palettes_of_other_colours_count_by_index(colours, folder):
    truth = pixels_of(1)[1]
    palette = Image.fromarray(truth, mode="P")
    palette.putpalette(colours)
    palette.save(folder / "palette.png")
    assert np.array_equal(masks_of(load(folder, [row("../palette.png")])["train"])[0], truth * 255)


def test_empty_mask_files_are_counted(folder, caplog):
    (folder / "empty.png").write_bytes(encode(np.zeros((30, 40), dtype=np.uint8), "PNG"))
    with caplog.at_level(logging.WARNING, logger="processing_rrsis"):
        (mask, _) = masks_of(load(folder, [row("../empty.png"), row()])["train"])
    assert not mask.any()
    assert "own data, train: 1 masks are empty (all background): roofs 1_1" in caplog.text


@pytest.mark.parametrize(
    "polygon",
    [
        [[50, 5], [60, 5], [60, 20]],
        [[0.1, 0.1], [0.5, 0.1], [0.5, 0.5]],
        [0, 0, 1, 0, 1, 1, 0, 1],
        [[[0, 0], [0, 0], [0, 0]]],
        [[5, 5], [5, 5], [5, 5]],
    ],
)
def test_polygons_that_miss_the_image_are_refused(polygon, folder):
    with pytest.raises(ValueError, match=r"mine\.jsonl, line 2, 'mask': .*40×30 image.*between 0 and 1"):
        load(folder, [row(), row(polygon)])


def test_run_lengths_need_the_proportions_of_the_image(folder):
    whole, half = np.ones((30, 40), dtype=np.uint8), np.ones((15, 20), dtype=np.uint8)
    assert all(mask.all() for mask in masks_of(load(folder, [row(runs_of(whole)), row(runs_of(half))])["train"]))
    for shape in ((40, 30), (30, 20), (60, 40)):
        with pytest.raises(ValueError, match=rf"line 1, 'mask'.*\[30, 40\].*got \[{shape[0]}, {shape[1]}\]"):
            load(folder, [row(runs_of(np.ones(shape, dtype=np.uint8)))])


def test_image_ids_tell_files_of_one_name_apart(folder):
    names = ["city1/0.png", "city2/0.png", "city2/../city1/0.png", "1.png", "1.jpg", "city1/2.png"]
    for city in ("city1", "city2"):
        (folder / "tables" / city).mkdir()
    for name in names:
        (folder / "tables" / name).write_bytes((folder / "roofs 1.png").read_bytes())
    rows = load(folder, [row(POLYGON, image=name) for name in names])["train"]
    assert rows["image_id"][:] == ["city1/0", "city2/0", "city1/0", "1.png", "1.jpg", "2"]
    assert rows["sample_id"][:2] == ["city1/0_1", "city2/0_2"]


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.uint8([[0, 7], [0, 255]]), r"bad\.png.*got also \[7\]"),
        (np.uint8([[0, 1], [0, 255]]), r"bad\.png.*ignored"),
        (np.uint8([[[0, 0, 0], [255, 0, 0]]]), r"bad\.png.*coloured"),
    ],
)
def test_mask_files_of_other_values(array, text, folder):
    (folder / "bad.png").write_bytes(encode(array, "PNG"))
    with pytest.raises(ValueError, match=text):
        load(folder, [row("../bad.png")])


def test_a_mask_of_another_size_is_resized_and_counted(folder, caplog):
    (folder / "small.png").write_bytes(encode(np.uint8([[0, 255]]), "PNG"))
    with caplog.at_level(logging.WARNING, logger="processing_rrsis"):
        (mask,) = masks_of(load(folder, [row("../small.png")])["train"])
    assert mask.shape == (30, 40)
    assert (mask[:, 20:] == 255).all()
    assert not mask[:, :20].any()
    assert "own data, train: 1 masks had another size than their image" in caplog.text


def test_exif_turned_images_and_polygons(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    (folder / "turned.png").write_bytes(encode(pixels_of(1)[0], "PNG", exif=exif))
    rows = load(folder, [row(POLYGON, image="../turned.png"), row("../mask.png", image="../turned.png")])["train"]
    assert rows[0]["image"].size == rows[0]["mask"].size == (30, 40)
    assert np.array_equal(masks_of(rows)[0], polygon_mask(height=40, width=30))
    assert np.array_equal(masks_of(rows)[1], np.rot90(pixels_of(1)[1], k=-1) * 255)


def test_a_tiff_of_many_bands_becomes_a_png(folder):
    rasterio = pytest.importorskip("rasterio")
    bands = np.random.default_rng(0).integers(0, 256, size=(5, 30, 40), dtype=np.uint8)
    with rasterio.open(folder / "bands.tif", "w", driver="GTiff", count=5, height=30, width=40, dtype="uint8") as file:
        file.write(bands)
    (item,) = load(folder, [row(POLYGON, image="../bands.tif")])["train"]
    assert item["image"].format == "PNG"
    assert np.array_equal(np.asarray(item["image"]), np.moveaxis(bands[:3], 0, -1))


def test_missing_files_are_named(folder):
    lines = [row(), row(image="../none.png"), row("../no_mask.png")]
    named = r"2 of 3 .*mine\.jsonl: \.\./none\.png \(line 2\), \.\./no_mask\.png \(line 3\)"
    with pytest.raises(MissingFilesError, match=f"own data: 2 files of {named}.*--allow-missing"):
        load(folder, lines)
    assert len(load(folder, lines, allow_missing=True)["train"]) == 1


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["image,expression", "a,b"], r"\['mask'\] missing in \['image', 'expression'\]"),
        (["image;mask;expression", "a;b;c"], "separated by commas"),
        (["image,mask,expression", "a,b,c,d"], r"mine\.csv, line 2: expected 3 cells .*got 4"),
        (["image,mask,expression", "a,b,c", "a,[[1,2],c"], r"line 3: expected 3 cells"),
        (["image,mask,expression", 'a,"[[1,2],",c'], "line 2: expected a path or JSON in 'mask'"),
        (["image,mask,expression", "a,,c"], "line 2: expected 'mask' as a path"),
        (["image,mask,expression", "a,b, "], "line 2: expected text in 'expression', got ' '"),
        (["image,mask,expression", ",b,c"], "line 2: expected text in 'image'"),
        (["image,mask,expression,split", "a,b,c,holdout"], "line 2: expected 'split' of train.*'holdout'"),
        (["image,mask,expression,Mask", "a,b,c,d"], r"mine\.csv: expected each column once, got \['mask'\]"),
        (
            ["image,mask,expression", "~nosuch/a.png,b,c"],
            r"mine\.csv, line 2: .*'~nosuch/a\.png': there is no such user",
        ),
        (["image,mask,expression", "a,https://x.org/m.png,c"], r"mine\.csv, line 2: .*got the URL 'https://x\.org"),
        (["image,mask,expression", f'a,"[{"9" * 5000}]",c'], r"mine\.csv, line 2: .*JSON in 'mask'"),
        (["image,mask,expression"], "at least one line"),
        ([""], "at least one line"),
    ],
)
def test_bad_csv_lines(lines, text, folder):
    with pytest.raises(ValueError, match=text):
        load(folder, lines, name="mine.csv")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("{", r"mine\.jsonl, line 2: expected a JSON object"),
        ("[1]", r"line 2: expected a JSON object, got \[1\]"),
        ('{"image": "a", "expression": "b"}', "line 2: expected 'mask'.*got None"),
        ('{"image": "a", "expression": 3, "mask": "c"}', "line 2: expected text in 'expression', got 3"),
        ('{"image": "a", "expression": "b", "mask": "c", "category": 1}', "line 2: expected text in 'category'"),
        (
            '{"image": "a", "expression": "b", "mask": "c", "category": "x\\u001b[31m"}',
            "'category': .* control character",
        ),
        ('{"image": "http://x.org/a.png", "expression": "b", "mask": "c"}', "line 2: .*got the URL 'http://x"),
        ('{"image": "a\\u0000", "expression": "b", "mask": "c"}', "line 2: .*holds a null"),
        (f'{{"image": {"9" * 5000}}}', r"mine\.jsonl, line 2: expected a JSON object.*64 bits"),
        ('{"image": "a", "expression": "b", "mask": 5}', "line 2: expected 'mask'.*got 5"),
    ],
)
def test_bad_json_lines(line, text, folder):
    (folder / "tables/mine.jsonl").write_text(json.dumps(row()) + "\n" + line)
    with pytest.raises(ValueError, match=text):
        OwnData(folder / "tables/mine.jsonl")


def test_bad_masks_name_the_line(folder):
    with pytest.raises(
        ValueError, match=r"mine\.jsonl, line 2, 'mask': expected polygon points in pixels of the 40×30"
    ):
        load(folder, [row(), row([[1, 1], [2, 2], [900, 3]])])


def test_a_long_cell_and_other_endings(folder):
    polygon = [[2 + index % 3, 1 + index % 2] for index in range(17_000)]
    assert len(json.dumps(polygon)) > 131_072
    lines = ["image,mask,expression", f'../roofs 1.png,"{json.dumps(polygon)}",roof']
    assert len(load(folder, lines, name="mine.csv")["train"]) == 1
    with pytest.raises(ValueError, match=r"\.csv, \.jsonl, \.ndjson, got '\.xlsx'"):
        OwnData(folder / "mine.xlsx")
    with pytest.raises(FileNotFoundError, match="found no file"):
        OwnData(folder / "none.csv")
    (folder / "latin.csv").write_bytes("image,mask,expression\na,b,é\n".encode("latin-1"))
    with pytest.raises(ValueError, match="UTF-8"):
        OwnData(folder / "latin.csv")


def test_embedded_bytes_are_the_files_own(folder):
    buffer = io.BytesIO()
    Image.fromarray(pixels_of(1)[0]).convert("CMYK").save(buffer, "JPEG")
    (folder / "cmyk.jpg").write_bytes(buffer.getvalue())
    rows = load(folder, [row(POLYGON, image="../cmyk.jpg")])["train"]
    assert rows.data.column("image")[0].as_py() == {"path": None, "bytes": buffer.getvalue()}
    assert rows[0]["image"].mode == "CMYK"


def test_an_image_in_two_splits_is_refused(folder):
    with pytest.raises(ValueError, match=r"expected all rows of an image in one split.* in several are 1: roofs 1"):
        load(folder, [row(), row(split="test")])
