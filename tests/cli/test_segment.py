"""`rrsis segment`: images told from expressions, several of both, what can't be used, devices."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from processing_rrsis.cli.app import app
from processing_rrsis.cli.segment_inputs import tell_apart
from processing_rrsis.hub.model_folder import save_hub_folder
from processing_rrsis.reports.overlay import OVERLAY_COLOURS, add_legend
from tests.tiny import build_tiny_model, build_tiny_processor

PIXELS = np.random.default_rng(0).integers(0, 256, size=(30, 44, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return save_hub_folder(build_tiny_model("lavt"), build_tiny_processor(), tmp_path_factory.mktemp("s") / "best")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "town").mkdir()
    (tmp_path / "empty").mkdir()
    for name in ("a.png", "b.png", "town/c.png", "town/d.JPG"):
        Image.fromarray(PIXELS).save(name)
    (tmp_path / "town" / "notes.txt").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("words", "images", "expressions"),
    [
        (["a.png", "b.png", "the ship"], ["a.png", "b.png"], ["the ship"]),
        (["the ship", "a.png", "car/van on the left"], ["a.png"], ["the ship", "car/van on the left"]),
        (["town", "ship"], ["town/c.png", "town/d.JPG"], ["ship"]),
        (["[ab].png", "a.png", "what is there?"], ["a.png", "b.png"], ["what is there?"]),
        (["https://x.org/1", "tank no.5"], ["https://x.org/1"], ["tank no.5"]),
    ],
)
def test_images_are_told_from_expressions(folder, words, images, expressions):
    assert tell_apart(words) == (images, expressions)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.png", "c.png", "the ship"], "there is no file c.png"),
        (["a.png", "town/e", "the ship"], "there is no file town/e"),
        (["*.tif", "the ship"], r"there is no file \*.tif"),
        (["the ship"], "expected an image file"),
        (["empty", "the ship"], "found none"),
    ],
)
def test_what_was_meant_as_an_image_is_missed(folder, words, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        tell_apart(words)


def segment(*words):
    return CliRunner().invoke(app, ["segment", *map(str, words)])


def test_several_images_and_expressions(model_folder, folder):
    (folder / "broken.png").write_bytes(b"no picture")
    words = ["a.png", "broken.png", "b.png", "a ship", "the dam", "-m", model_folder, "--threshold", "1"]
    result = segment(*words, "--overlay", "all.png", "--device", "cpu")
    assert result.exit_code == 1
    assert "broken.png" in result.output
    lines = [line for line in result.output.splitlines() if "nothing found" in line]
    assert [line.split(",")[0] for line in lines] == [
        f'{image}: "{text}": nothing found in 44 x 30 px'
        for image in ("a.png", "b.png")
        for text in ("a ship", "the dam")
    ]
    assert all(0 < float(line.split("highest probability is ")[1].split()[0]) < 1 for line in lines)
    written = {path.name for path in folder.glob("mask*")}
    assert written == {f"mask-{image}-{number}.png" for image in "ab" for number in (1, 2)}
    with Image.open("all-a.png") as picture:
        assert picture.width > 44
        assert picture.height == 30 + 2 * 26 + 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.png", "the ship", "--device", "nonsense"], "expected auto or a device of this machine"),
        (["a.png", "copy/a.png", "the ship"], "two are called a"),
        (["a.png"], "expected an EXPRESSION"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(model_folder, folder, words, message):
    (folder / "copy").mkdir()
    Image.fromarray(PIXELS).save("copy/a.png")
    result = segment(*words, "-m", model_folder)
    assert result.exit_code == 1
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_a_legend_shows_the_colours_below_the_picture():
    picture = np.asarray(add_legend(Image.new("RGB", (400, 10)), ["the ship", "the dam"]))
    assert picture.shape == (10 + 2 * 26 + 6, 400, 3)
    assert not picture[:10].any()
    assert [tuple(picture[row, 10]) for row in (10 + 3 + 12, 10 + 3 + 26 + 12)] == list(OVERLAY_COLOURS[:2])
