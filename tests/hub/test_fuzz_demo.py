"""200 requests to the demo and 100 configurations: a message or a mask, never a traceback."""

import functools
import io
import json
import random
import tempfile

import numpy as np
import pytest
from PIL import Image

from processing_rrsis.hub.loading import load_pipeline
from processing_rrsis.hub.model_folder import save_hub_folder
from processing_rrsis.training.recipes.files import recipe_yaml
from processing_rrsis.training.recipes.shipped import check_recipe, get_recipe
from tests.hostile.harness import WrongResultError, mutated, mutated_json, try_all
from tests.tiny import build_tiny_model, build_tiny_processor

app = pytest.importorskip("hub_cards.space.app", reason="the demo needs gradio: pip install 'rrsis[demo]'")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.filterwarnings("ignore")]
REQUESTS, CONFIGURATIONS, SEED = 200, 100, 18
TEXTS = (
    "the ship on the left",
    "the dam\n\nthe ship",
    "",
    None,
    "\0",
    "\x1b[2J",
    "\ud800",
    "ship " * 100,
    "x\n" * 50,
    "🚢" * 20,
)
TEXTS += ("<script>alert(1)</script>", "../../etc/passwd", "[CLS] [SEP]", "a" * 301, "\n" * 10_000, "ship\u202eleft")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "model"
    return save_hub_folder(build_tiny_model("fianet"), build_tiny_processor(), folder)


def picture(image_format, side=40, mode="RGB"):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(buffer, format=image_format)
    return buffer.getvalue()


def ask(pipe, path, text, threshold):
    tempfile.tempdir = str(path.parent)
    shown, message = app.check_upload(pipe, str(path))
    answer = app.segment(pipe, str(path), text, threshold)
    if shown is None or not isinstance(answer[0], app.Answers):
        if not message.strip() and not answer[-1].startswith("⚠️"):
            raise WrongResultError("no message")
        raise ValueError(answer[-1])
    again = app.show_again(answer[0], 1 - threshold)
    if len(answer[2]) != len(answer[0].answers) or len(again) != 3:
        raise WrongResultError("another number of answers")


def test_requests_to_the_demo(saved, tmp_path, capfd):
    generator, pipe = random.Random(SEED), load_pipeline(str(saved))
    kinds = [picture(name) for name in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")]
    kinds += [picture("PNG", mode="I;16"), picture("TIFF", mode="F"), picture("PNG", 2800), b"%!PS-Adobe-3.0", b""]

    def cases():
        for number in range(REQUESTS):
            data = generator.choice(kinds)
            data = mutated(data, generator) if number and generator.random() < 0.6 else data
            path = tmp_path / f"upload{generator.choice(('.png', '.tif', '', '.exe'))}"
            path.write_bytes(data)
            text, threshold = generator.choice(TEXTS) if number else TEXTS[0], generator.choice((0.0, 0.4, 0.5, 1.0))
            yield f"{number} {text!r:.60}", functools.partial(ask, pipe, path, text, threshold)

    try_all("demo requests", cases(), capfd)


def use(folder):
    pipe = load_pipeline(str(folder))
    result = pipe(np.zeros((40, 30, 3), dtype=np.uint8), text="the ship on the left")
    if result["mask"].size != (30, 40) or not 0 <= result["score"] <= 1:
        raise WrongResultError(f"{result}")


def read_recipe(path):
    check_recipe(get_recipe(str(path)))


def test_configurations(saved, tmp_path, capfd):
    generator = random.Random(SEED)
    folder = tmp_path / "model"
    folder.mkdir()
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]\n" for n in range(12))

    def cases():
        for number in range(CONFIGURATIONS):
            for path in saved.iterdir():
                if path.is_file():
                    (folder / path.name).write_bytes(path.read_bytes())
            name = generator.choice(("config.json", "config.json", "processor_config.json", "tokenizer_config.json"))
            values = json.loads((folder / name).read_text())
            if number and number % 5:
                odds = generator.choice((0.01, 0.03, 0.1))
                (folder / name).write_text(json.dumps(mutated_json(values, generator, odds=odds)))
            elif number:
                (folder / name).write_bytes(mutated((folder / name).read_bytes(), generator))
            if number % 4 == 3:
                text = mutated(recipe_yaml(get_recipe("fianet-synthetic")).encode(), generator)
                (tmp_path / "r.yaml").write_bytes(generator.choice((bomb.encode(), text)))
                yield f"recipe {number}", functools.partial(read_recipe, tmp_path / "r.yaml")
            else:
                yield f"{name} {number}", functools.partial(use, folder)

    try_all("configurations", cases(), capfd)
