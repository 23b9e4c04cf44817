"""The demo: its functions without a browser, alone as on the Hub, and clicked through in headless Chromium."""

import ast
import html
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

from processing_rrsis.cli.app import app as command_line
from processing_rrsis.hub.model_folder import save_hub_folder
from processing_rrsis.hub.space_examples import write_examples
from processing_rrsis.pipeline_rrsis import ReferringSegmentationPipeline

from ..tiny import build_tiny_model, build_tiny_processor
from .conftest import run_stranger
from .stranger import TEXT

gr = pytest.importorskip("gradio", reason="the demo needs gradio: pip install 'rrsis[demo]'")

from hub_cards.space import app  # noqa: E402 - without Gradio the line above skips this file

CHROMIUM = Path("/usr/bin/chromium")
APP_FILE = Path(app.__file__)
SKIPPED = gr.skip()


@pytest.fixture(scope="module")
def pipe():
    return ReferringSegmentationPipeline(model=build_tiny_model("fianet"), processor=build_tiny_processor())


@pytest.fixture(scope="module")
def image_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("space") / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, size=(30, 44, 3), dtype=np.uint8)).save(path)
    return str(path)


def test_the_app_needs_nothing_of_ours():
    """On the Hub it stands alone: what it imports is in its requirements or comes with Python and Gradio."""
    tree = ast.parse(APP_FILE.read_text(encoding="utf-8"))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    tops = {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names)
    lines = APP_FILE.with_name("requirements.txt").read_text(encoding="utf-8").splitlines()
    required = {line.split(">=")[0] for line in lines}
    assert tops <= {name.replace("pillow", "PIL") for name in required} | {"gradio"}
    assert {"torch", "torchvision", "transformers", "timm"} <= required


def test_segment_answers_every_expression(pipe, image_file):
    text = "the ship on the left\n\n  the dam\nthe ship on the left"
    found, overlay, rows, files, maps, words, note, message = app.segment(pipe, image_file, text, 0.4)
    expected = pipe(image_file, text=["the ship on the left", "the dam"], threshold=0.4)
    assert [row[:2] for row in rows] == [[1, "the ship on the left"], [2, "the dam"]]
    for item, row, file in zip(expected, rows, files, strict=True):
        mask = np.asarray(item["mask"])
        np.testing.assert_array_equal(np.asarray(Image.open(file)), mask)
        area = int((mask == 255).sum())
        assert row[2:] == [round(item["score"], 3), area, round(100 * area / mask.size, 2)]
    assert Path(files[0]).name == "mask-1-the-ship-on-the-left.png"
    picture, annotations = overlay["value"]
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(Image.open(image_file)))
    assert [label.split(" (")[0] for _, label in annotations] == ["1 the ship on the left", "2 the dam"]
    assert [colour for _, colour in sorted(overlay["color_map"].items())] == list(app.COLOURS[:2])
    assert [(picture.size, caption) for picture, caption in maps] == [
        ((44, 30), "1 the ship on the left"),
        ((44, 30), "2 the dam"),
    ]
    assert "".join(text for text, _ in words) == "the ship on the left\nthe dam"
    assert [(text, kind) for text, kind in words if kind] == [
        ("ship", "object"),
        ("on the left", "position"),
        ("dam", "object"),
    ]
    assert note.startswith("The model is shown the object words")
    assert message.startswith("2 expressions, 44 × 30 px, ")
    folder = Path(found.folder.name)
    found.folder.cleanup()
    assert not folder.exists()


def test_a_new_threshold_runs_no_network(pipe, image_file, monkeypatch):
    found = app.find(pipe, image_file, "the ship")
    for threshold in (0.0, 0.47, 1.0):
        expected = pipe(image_file, text="the ship", threshold=threshold)
        with monkeypatch.context() as patch:
            patch.setattr(pipe.model, "forward", None)
            _, rows, files = app.show(found, threshold)
        np.testing.assert_array_equal(np.asarray(Image.open(files[0])), np.asarray(expected["mask"]))
        assert rows[0][2] == round(expected["score"], 3)
    assert rows == [[1, "the ship", 0.0, 0, 0.0]]


def test_a_large_picture_is_shown_smaller_and_masked_whole(pipe, tmp_path):
    Image.new("RGB", (2048, 512)).save(tmp_path / "wide.png")
    found, overlay, _, files, maps, *_ = app.segment(pipe, str(tmp_path / "wide.png"), "the ship", 0.0)
    assert found.picture.size == (2048, 512)
    assert Image.open(files[0]).size == (2048, 512)
    picture, ((shade, label),) = overlay["value"]
    assert (picture.size, shade.shape, label) == ((1024, 256), (256, 1024), "1 the ship")
    assert maps[0][0].size == (1024, 256)


def test_overlay_is_half_inside_and_full_along_the_edge():
    mask = Image.new("L", (20, 20), 0)
    mask.paste(255, (5, 5, 15, 15))
    shade = app._shade(mask)
    assert shade[0, 0] == 0
    assert shade[10, 10] == pytest.approx(app.OPACITY)
    assert shade[5, 10] == 1


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    (folder / "notes.png").write_text("the ship on the left")
    (folder / "empty.jpg").write_bytes(b"")
    Image.new("1", (4001, 2000)).save(folder / "large.png")
    Image.new("1", (20_000, 20_000)).save(folder / "bomb.png")
    pixels = np.random.default_rng(0).integers(0, 256, size=(60, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:900])
    return folder


@pytest.mark.parametrize(
    ("name", "match"),
    [
        (None, "Upload an image first"),
        ("notes.png", r"notes\.png can't be read as an image"),
        ("empty.jpg", r"empty\.jpg can't be read as an image"),
        ("cut.jpg", r"cut\.jpg can't be read as an image"),
        ("large.png", r"large\.png has 4001 × 2000 pixels, more than 8 million"),
        ("bomb.png", r"bomb\.png can't be read as an image.*decompression bomb"),
        ("gone.png", r"gone\.png can't be read"),
    ],
)
def test_a_bad_image_gets_a_message(pipe, bad_files, name, match):
    path = None if name is None else str(bad_files / name)
    with pytest.warns(UserWarning, match=match):  # outside a browser Gradio's own warning is Python's
        *rest, message = app.segment(pipe, path, "the ship", 0.5)
    assert rest == [SKIPPED] * 7
    assert message.startswith("⚠️ ")
    assert str(bad_files) not in message
    if path is None:
        assert app.check_upload(pipe, path) == (None, "")
        return
    with pytest.warns(UserWarning, match=match):
        assert app.check_upload(pipe, path) == (None, message)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (None, "Type what to look for"),
        (" \n ", "Type what to look for"),
        ("\n".join(f"ship {number}" for number in range(7)), "At most 6 expressions at once, these are 7"),
        ("ship " * 61, "at most 300 characters"),
        ("the ship \x1b[2J", "control character"),
    ],
)
def test_a_bad_text_gets_a_message(pipe, image_file, text, match):
    with pytest.warns(UserWarning, match=match):
        *rest, message = app.segment(pipe, image_file, text, 0.5)
    assert rest == [SKIPPED] * 7
    assert message.startswith("⚠️ ")


def test_uploads_are_turned_into_what_browsers_show(pipe, image_file, tmp_path):
    assert app.check_upload(pipe, image_file) == (image_file, "44 × 30 px")
    Image.open(image_file).save(tmp_path / "scene.tif")
    path, message = app.check_upload(pipe, str(tmp_path / "scene.tif"))
    assert (Path(path).name, message) == ("scene.png", "44 × 30 px")
    np.testing.assert_array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(image_file)))


def test_a_geotiff_comes_back_with_its_place(pipe, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)}
    pixels = np.random.default_rng(0).integers(0, 256, size=(3, 30, 44), dtype=np.uint8)
    with rasterio.open(
        tmp_path / "in.tif", "w", driver="GTiff", width=44, height=30, count=3, dtype="uint8", **place
    ) as file:
        file.write(pixels)
    shown, _ = app.check_upload(pipe, str(tmp_path / "in.tif"))
    assert shown.endswith(".png")
    found, _, _, files, *_ = app.segment(pipe, shown, "the ship", 0.0)
    assert found.place is not None
    assert [Path(file).suffix for file in files] == [".png", ".tif"]
    with rasterio.open(files[1]) as file:
        assert (file.crs.to_epsg(), file.transform) == (32633, place["transform"])
        assert (file.read(1) == 255).all()
    assert app.read_place(str(tmp_path / "in.tif"), (30, 44)) is None  # a turned image has another
    wkt = rasterio.CRS.from_epsg(32633).to_wkt()
    for values in ([float("nan"), 0, 0, 0, 0, 0], [0] * 6, [float("inf"), 0, 0, 0, 1, 0], [10**400, 2, 3, 4, 5, 6]):
        noted = PngInfo()
        noted.add_text(app.PLACE, json.dumps([wkt, values]))
        Image.new("RGB", (44, 30)).save(tmp_path / "noted.png", pnginfo=noted)
        assert app.read_place(str(tmp_path / "noted.png"), (44, 30)) is None


def test_words_that_the_model_knows_are_said(pipe):
    assert "Objects it was trained on: " in app.known_words(pipe)
    assert "it does not know: xyzzy." in app.reading_note(pipe, ["the xyzzy ship", "the ship"]).lower()


def test_the_note_says_what_the_marks_are_to_the_model(pipe):
    baseline = ReferringSegmentationPipeline(model=build_tiny_model("lavt"), processor=build_tiny_processor())
    assert "not shown to it" in app.reading_note(baseline, ["the ship"])
    words = ReferringSegmentationPipeline(model=pipe.model, processor=build_tiny_processor(alignment="word"))
    assert "stands in" in app.reading_note(pipe, ["the ship"])
    assert "stands in" not in app.reading_note(words, ["the ship"])
    long = "the ship " * 20
    assert app.reading_note(pipe, ["the ship", long]).endswith(f"the end is cut off: {long}")
    active = f"![x](http://a.org/x.png) <b>www.a.org</b> *x* `x` {long}"
    assert app.reading_note(pipe, [active]).endswith(app.plain(active))
    assert not set(app.plain(active)) & set("![]<>/*`")
    assert html.unescape(app.plain(active)) == active


def test_examples_are_scenes_with_expressions(tmp_path):
    listing = write_examples(tmp_path / "examples", image_size_px=64)
    examples = app.read_examples(listing.parent)
    assert len(examples) == 4
    for path, text in examples:
        assert Image.open(path).size == (64, 64)
        assert len(app.read_expressions(text)) == 3
    assert app.read_examples(tmp_path) == []


def test_the_model_is_named_by_a_variable(monkeypatch):
    monkeypatch.delenv("MODEL_ID", raising=False)
    with pytest.raises(SystemExit, match="MODEL_ID: expected a repository such as user/name"):
        app.read_model_name()
    monkeypatch.setenv("MODEL_ID", "user/name")
    assert app.read_model_name() == "user/name"


def test_demo_starts_the_app_with_examples(tmp_path, monkeypatch):
    folder = save_hub_folder(build_tiny_model("lavt"), build_tiny_processor(), tmp_path / "best")
    launched = []
    monkeypatch.setattr(gr.Blocks, "launch", lambda self, **options: launched.append((self, options)))
    result = CliRunner().invoke(command_line, ["demo", "--model", str(folder), "--port", "7899"])
    assert result.exit_code == 0, result.output
    ((blocks, options),) = launched
    assert (options["server_port"], options["share"]) == (7899, False)
    kinds = {type(block).__name__ for block in blocks.blocks.values()}
    assert {"ImageFile", "Textbox", "Slider", "AnnotatedImage", "HighlightedText", "Gallery", "File"} <= kinds
    assert "Dataset" in kinds  # Gradio's name of the list of examples
    assert f"Model: {app.plain(f'{tmp_path.name}/best')}." in str(blocks.config)

    def refuse(self, **options):
        raise OSError("Cannot find empty port in range: 7899-7899.")

    monkeypatch.setattr(gr.Blocks, "launch", refuse)
    result = CliRunner().invoke(command_line, ["demo", "--model", str(folder), "--port", "7899"])
    assert result.exit_code == 1
    assert "--port: expected a free one, something uses 7899" in result.output
    result = CliRunner().invoke(command_line, ["demo", "--model", str(folder), "--examples", str(tmp_path)])
    assert result.exit_code == 1
    assert "examples.json" in result.output


def test_demo_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "hub_cards.space.app")
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = CliRunner().invoke(command_line, ["demo", "--model", "user/name"])
    assert result.exit_code == 1
    assert "[demo]" in result.output
    assert "pip install" in result.output


@pytest.mark.slow
def test_the_app_runs_alone_as_on_the_hub(hub, pipe, image_file, tmp_path):
    folder = save_hub_folder(pipe.model, pipe.processor, tmp_path / "best")
    (tmp_path / "app.py").write_bytes(APP_FILE.read_bytes())
    report = run_stranger(hub, tmp_path, "use_app", folder, image_file, tmp_path / "app.py")
    assert report["module"] == "transformers_modules"
    assert len(report["launched"]) == 1
    (expected,) = app.segment(pipe, image_file, TEXT, 0.4)[2]
    (row,) = report["rows"]
    assert row[:2] == expected[:2]
    assert row[2:] == pytest.approx(expected[2:], rel=0.01)


@pytest.fixture
def page(pipe, tmp_path):
    """The app in headless Chromium, with two examples."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser test needs playwright")
    if not CHROMIUM.is_file():
        pytest.skip(f"the browser test needs {CHROMIUM}")
    examples = app.read_examples(write_examples(tmp_path / "examples").parent)[:2]
    blocks = app.build_app(pipe, "tiny", examples)
    _, url, _ = blocks.queue().launch(prevent_thread_lock=True, quiet=True, **app.LAUNCH_OPTIONS)
    try:
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1400, "height": 1500}, accept_downloads=True)
            page.goto(url)
            page.get_by_role("button", name="Segment").wait_for()
            yield page
            browser.close()
    finally:
        blocks.close()


@pytest.mark.slow
def test_clicked_through_in_a_browser(page, tmp_path):
    button, message = page.get_by_role("button", name="Segment"), page.locator("#message")
    button.click()
    message.get_by_text("Upload an image first").wait_for()

    page.locator("tr.tr-body").nth(1).click()
    page.locator("#image img").first.wait_for()
    page.locator("#threshold input[type=number]").fill("0.4")
    button.click()
    message.get_by_text("3 expressions, 320 × 320 px").wait_for()
    page.locator("#masks img").nth(3).wait_for()  # the picture and three masks
    page.locator("#maps img").nth(2).wait_for()
    page.locator("#words").get_by_text("position").first.wait_for()
    with page.expect_download() as download:
        page.locator("#files a[download]").first.click()
    mask = np.asarray(Image.open(download.value.path()))
    assert mask.shape == (320, 320)
    assert set(np.unique(mask)) <= {0, 255}

    page.locator("#threshold input[type=number]").fill("1")
    page.locator("#masks").get_by_text("(nothing found)").first.wait_for()

    (tmp_path / "notes.png").write_text("no image at all")
    page.locator("#image").get_by_label("Remove Image").click()
    page.locator("#image input[type=file]").first.set_input_files(tmp_path / "notes.png")
    message.get_by_text("notes.png can't be read as an image").wait_for()
    page.locator("#text textarea").fill(" ")
    page.locator("tr.tr-body").nth(0).click()
    page.locator("#image img").first.wait_for()
    page.locator("#text textarea").fill(" ")
    button.click()
    message.get_by_text("Type what to look for").wait_for()
    assert "Traceback" not in page.content()
