"""The pipeline: everything a user may hand over, and what comes back."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline
from transformers.utils import logging

from processing_rrsis import mask_output_rrsis
from processing_rrsis.pipeline_rrsis import ReferringSegmentationPipeline
from tests.tiny import build_tiny_model, build_tiny_processor


@pytest.fixture(scope="module")
def pipe():
    return ReferringSegmentationPipeline(model=build_tiny_model("fianet"), processor=build_tiny_processor())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(1).integers(0, 256, size=(41, 67, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    picture.save(folder / "rgb.jpg")
    picture.save(folder / "rgb.png")
    picture.convert("L").save(folder / "gray.png")
    picture.convert("RGBA").save(folder / "alpha.png")
    picture.convert("P").save(folder / "palette.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 200).save(folder / "deep.png")
    Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 200).save(folder / "deep.tif")
    (folder / "cut.jpg").write_bytes((folder / "rgb.jpg").read_bytes()[:500])
    return folder


FILES = ["rgb.jpg", "rgb.png", "gray.png", "alpha.png", "palette.png", "cmyk.jpg", "deep.png", "deep.tif"]


@pytest.mark.parametrize("name", FILES)
def test_any_file_gives_a_mask_of_its_own_size(pipe, files, name):
    item = pipe(str(files / name), text="the ship on the left")
    assert sorted(item) == ["found", "label", "mask", "presence", "score"]
    assert item["presence"] is None
    assert item["label"] == "the ship on the left"
    assert (item["mask"].mode, item["mask"].size) == ("L", (67, 41))
    assert set(np.unique(item["mask"])) <= {0, 255}
    assert 0.0 <= item["score"] <= 1.0


def test_16_bit_files_are_stretched_not_clipped(files):
    from processing_rrsis.image_loading_rrsis import load_image, to_rgb8

    values = np.asarray(to_rgb8(load_image(files / "deep.png")))
    assert len(np.unique(values)) > 200


def test_score_is_the_mean_probability_inside_the_mask(pipe, files):
    item = pipe(str(files / "rgb.png"), text="a ship", output="probability", threshold=0.5)
    probability, mask = item["probability"], np.asarray(item["mask"]) == 255
    assert probability.shape == (41, 67)
    assert probability.dtype == np.float32
    assert np.array_equal(mask, probability > 0.5)
    expected = probability[mask].mean() if mask.any() else 0.0
    assert item["score"] == pytest.approx(expected)
    nothing = pipe(str(files / "rgb.png"), text="a ship", threshold=1.0)
    assert nothing["score"] == 0.0
    assert np.asarray(nothing["mask"]).max() == 0


def test_the_probability_is_the_models(pipe, files):
    image = Image.open(files / "rgb.png")
    inputs = pipe.processor(images=image, text="the dam above", return_tensors="pt")
    with torch.no_grad():
        outputs = pipe.model(**inputs)
    _, expected = pipe.processor.post_process_referring_segmentation(outputs, [(41, 67)], return_probabilities=True)
    item = pipe(image, text="the dam above", output="probability")
    np.testing.assert_array_equal(item["probability"], expected[0].numpy())


def test_several_expressions_images_and_rows(pipe, files):
    one, two = str(files / "rgb.png"), Image.new("RGB", (30, 20), (9, 90, 9))
    singles = [pipe(one, text=text) for text in ("a ship", "the large dam on the left", "it")]
    for batch_size in (1, 2):
        items = pipe(one, text=["a ship", "the large dam on the left", "it"], batch_size=batch_size)
        assert [item["label"] for item in items] == ["a ship", "the large dam on the left", "it"]
        for item, single in zip(items, singles, strict=True):
            # padding to the longest of the batch moves the log-odds in the last digits only
            assert item["score"] == pytest.approx(single["score"], abs=1e-5)
    pairs = pipe([one, two], text=["a ship", "a dam"], batch_size=2)
    assert [(item["label"], item["mask"].size) for item in pairs] == [("a ship", (67, 41)), ("a dam", (30, 20))]
    same = pipe([one, two], text="a ship")
    assert [item["mask"].size for item in same] == [(67, 41), (30, 20)]
    rows = pipe([{"image": one, "text": "a ship"}, {"image": two, "expression": "a dam"}])
    assert [item["label"] for item in rows] == ["a ship", "a dam"]
    assert pipe({"image": two, "text": "a dam"})["label"] == "a dam"
    nested = pipe([{"image": two, "text": ["a dam", "a ship"]}])
    assert [item["label"] for item in nested] == ["a dam", "a ship"]
    assert pipe(image=two, text="a dam")["label"] == "a dam"


def test_arrays_and_streams(pipe):
    array = np.zeros((12, 34, 3), dtype=np.uint8)
    assert pipe(array, text="a ship")["mask"].size == (34, 12)
    assert pipe(torch.zeros(3, 12, 34), text="a ship")["mask"].size == (34, 12)
    stream = pipe(({"image": array, "text": text} for text in ("a ship", "a dam")), batch_size=2)
    assert [item["label"] for item in stream] == ["a ship", "a dam"]


def test_datasets_are_read_row_by_row(pipe):
    rows = [{"image": np.zeros((12, 34, 3), dtype=np.uint8), "expression": text} for text in ("a ship", "a dam", "it")]

    class Numbered(torch.utils.data.Dataset):
        read = 0

        def __len__(self):
            return 3

        def __getitem__(self, index):
            Numbered.read += 1
            return rows[index]

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(rows)

    lazy = pipe(Numbered())
    assert Numbered.read == 0
    assert next(iter(lazy))["label"] == "a ship"
    assert Numbered.read == 1
    for dataset in (Numbered(), Stream(), datasets.Dataset.from_list([{**row, "image": None} for row in rows])):
        if isinstance(dataset, datasets.Dataset):
            dataset = dataset.with_transform(
                lambda batch: {**batch, "image": [rows[0]["image"]] * len(batch["image"])}
            )
        for batch_size in (1, 2):
            results = list(pipe(dataset, batch_size=batch_size, num_workers=0))
            assert [item["label"] for item in results] == ["a ship", "a dam", "it"]
    with pytest.raises(ValueError, match="rows; expected None here"):
        pipe(Numbered(), text="a ship")


@pytest.fixture
def progress_bars():
    """transformers' bars, which other tests' commands may have switched off."""
    enabled = logging.is_progress_bar_enabled()
    logging.enable_progress_bar()
    yield
    if not enabled:
        logging.disable_progress_bar()


@pytest.mark.usefixtures("progress_bars")
def test_progress_counts_masks(pipe, capsys):
    assert len(pipe(IMAGE, text=["a ship", "a dam"], progress=True)) == 2
    assert "2/2" in capsys.readouterr().err
    stream = pipe(({"image": IMAGE, "text": text} for text in ("a ship", "a dam", "it")), progress=True)
    assert len(list(stream)) == 3
    assert "3mask" in capsys.readouterr().err
    pipe(IMAGE, text=["a ship", "a dam"])
    assert not capsys.readouterr().err


def test_polygons_drawn_again_are_the_mask(pipe, files):
    features = pytest.importorskip("rasterio.features", reason="polygons need rasterio")
    whole = pipe(str(files / "rgb.png"), text="a ship", output="polygons", threshold=0.0)
    assert whole["polygons"] == {
        "type": "MultiPolygon",
        "coordinates": [[[[0, 0], [0, 41], [67, 41], [67, 0], [0, 0]]]],
    }
    nothing = pipe(str(files / "rgb.png"), text="a ship", output="polygons", threshold=1.0)
    assert nothing["polygons"]["coordinates"] == []
    middle = float(np.median(pipe(str(files / "rgb.png"), text="a ship", output="probability")["probability"]))
    item = pipe(str(files / "rgb.png"), text="a ship", output="polygons", threshold=middle)
    mask = np.asarray(item["mask"])
    assert 0 < (mask == 255).sum() < mask.size
    np.testing.assert_array_equal(features.rasterize([(item["polygons"], 255)], out_shape=mask.shape), mask)


def test_polygons_keep_holes_and_part_corners():
    features = pytest.importorskip("rasterio.features", reason="polygons need rasterio")
    mask = np.zeros((6, 8), dtype=bool)
    mask[1:4, 1:4] = True
    mask[2, 2] = False  # a hole
    mask[4, 4] = True  # touches by a corner alone
    polygons = mask_output_rrsis.mask_to_polygons(mask)["coordinates"]
    assert sorted(len(rings) for rings in polygons) == [1, 2]
    with_hole, corner = sorted(polygons, key=len, reverse=True)
    assert {tuple(point) for point in with_hole[0]} == {(1, 1), (1, 4), (4, 4), (4, 1)}
    assert {tuple(point) for point in with_hole[1]} == {(2, 2), (2, 3), (3, 3), (3, 2)}
    assert {tuple(point) for point in corner[0]} == {(4, 4), (4, 5), (5, 5), (5, 4)}
    noise = np.random.default_rng(0).random((40, 50)) > 0.5
    drawn = features.rasterize([mask_output_rrsis.mask_to_polygons(noise)], out_shape=noise.shape)
    np.testing.assert_array_equal(drawn.astype(bool), noise)
    with pytest.raises(ValueError, match=r"shape \(2, 2, 3\)"):
        mask_output_rrsis.mask_to_polygons(np.zeros((2, 2, 3)))


def test_polygons_without_rasterio_say_what_to_install(pipe, monkeypatch):
    monkeypatch.setattr(mask_output_rrsis, "features", None)
    with pytest.raises(ImportError, match="pip install rasterio"):
        pipe(IMAGE, text="a ship", output="polygons")
    assert pipe(IMAGE, text="a ship")["label"] == "a ship"


def test_open_image_is_what_the_network_is_shown(pipe, files):
    picture = pipe.open_image(files / "deep.png")
    assert (picture.mode, picture.size) == ("RGB", (67, 41))
    assert pipe(picture, text="a ship")["score"] == pipe(files / "deep.png", text="a ship")["score"]


def test_one_image_is_prepared_once_for_all_expressions(pipe, monkeypatch):
    calls = []
    original = type(pipe.processor.image_processor).preprocess
    monkeypatch.setattr(
        type(pipe.processor.image_processor),
        "preprocess",
        lambda self, *args, **kwargs: calls.append(1) or original(self, *args, **kwargs),
    )
    pipe(Image.new("RGB", (30, 20)), text=["a ship", "a dam", "a road"])
    assert len(calls) == 1


@pytest.mark.parametrize("batch_size", [None, 1, 2, 5])
def test_one_image_is_seen_once_for_a_batch_of_expressions(pipe, files, batch_size):
    texts = ["a ship", "a dam", "the road on the left", "a ship"]
    alone = [pipe(str(files / "rgb.png"), text=text, output="probability") for text in texts]
    calls = []
    watch = pipe.model.vision.layers[0].register_forward_hook(lambda stage, x, output: calls.append(len(output)))
    together = pipe(str(files / "rgb.png"), text=texts, output="probability", batch_size=batch_size)
    watch.remove()
    assert calls == [1] * -(-len(texts) // (batch_size or 1))
    assert [result["label"] for result in together] == texts
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other["probability"], one["probability"], atol=1e-5)
        assert other["mask"].tobytes() == one["mask"].tobytes()


def test_a_batch_size_that_is_none(pipe):
    with pytest.raises(ValueError, match="batch_size: expected an integer of at least 1, got -1"):
        pipe(Image.new("RGB", (30, 20)), text=["a ship", "a dam"], batch_size=-1)


IMAGE = Image.new("RGB", (8, 8))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "match"),
    [
        ((None,), {"text": "a ship"}, ValueError, "image: expected a path"),
        (([],), {"text": "a ship"}, ValueError, "empty list"),
        ((IMAGE,), {}, ValueError, "text: expected an expression"),
        ((IMAGE,), {"text": ""}, ValueError, "text: expected an expression"),
        ((IMAGE,), {"text": []}, ValueError, "at least one expression"),
        ((IMAGE,), {"text": ["a ship", 3]}, TypeError, "expected a string, got int"),
        ((IMAGE,), {"text": 5}, TypeError, r"expected a string or a list of strings, got int \(5\)"),
        (([IMAGE],), {"text": b"a ship"}, TypeError, "got bytes"),
        ((IMAGE,), {"text": {"a ship": 1}}, TypeError, "got dict"),
        (([IMAGE],), {"text": ["a ship", "a dam"]}, ValueError, "got 1 images and 2 expressions"),
        (([{"image": IMAGE}],), {}, ValueError, "text: expected an expression"),
        (([{"text": "a ship"}],), {}, ValueError, "image: expected a path"),
        (([{"image": IMAGE, "text": "a"}],), {"text": "b"}, ValueError, "rows bring their own"),
        ((IMAGE,), {"text": "a ship", "threshold": 40}, ValueError, r"in \[0, 1\], got 40"),
        ((IMAGE,), {"text": "a ship", "output": "polygon"}, ValueError, "output: expected one of.*polygons"),
        ((IMAGE,), {"text": "a ship", "tresh": 0.5}, TypeError, "'tresh'"),
        (("nowhere.png",), {"text": "a ship"}, FileNotFoundError, "nowhere.png"),
        ((np.full((4, 4, 3), np.nan),), {"text": "a ship"}, ValueError, "NaN"),
    ],
)
def test_bad_calls(pipe, arguments, options, error, match):
    with pytest.raises(error, match=match):
        pipe(*arguments, **options)


def test_a_damaged_file_is_named(pipe, files):
    with pytest.raises(ValueError, match=r"cut\.jpg.*truncated"):
        pipe(str(files / "cut.jpg"), text="a ship")
    with pytest.raises(ConnectionError, match=r"http://127\.0\.0\.1:9/x\.png.*download it"):
        pipe("http://127.0.0.1:9/x.png", text="a ship")


def test_a_url_is_read(pipe, files):
    import threading
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(files)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        item = pipe(f"http://127.0.0.1:{server.server_port}/rgb.png", text="a ship")
    finally:
        server.shutdown()
    assert item == {**pipe(str(files / "rgb.png"), text="a ship"), "mask": item["mask"]}


def test_saved_pipeline_is_complete(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "saved")
    loaded = pipeline("referring-image-segmentation", model=str(tmp_path / "saved"), trust_remote_code=True)
    assert loaded.processor.max_length == pipe.processor.max_length
    assert loaded(IMAGE, text="a ship")["score"] == pytest.approx(pipe(IMAGE, text="a ship")["score"], abs=1e-6)
