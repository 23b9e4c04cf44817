"""What `save_pretrained`, `Trainer` and `push_to_hub` leave without any help of ours is a whole pipeline."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, Trainer, TrainingArguments

from processing_rrsis.hub.model_folder import save_hub_folder
from processing_rrsis.pipeline_rrsis import ReferringSegmentationPipeline
from tests.tiny import build_tiny_model, build_tiny_processor

from .conftest import run_stranger
from .loopback import USER, WRITE_TOKEN

TEXT = "the red ship on the upper left"
pytestmark = pytest.mark.usefixtures("one_thread")  # as the stranger has: more of them add in another order


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, size=(50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def check(report, expected):
    """`expected`: name or folder to the model that was saved there."""
    assert report.keys() - {"transformers"} == set(map(str, expected))
    for reference, model in expected.items():
        entry = report[str(reference)]
        assert entry["model"] == type(model).__name__
        assert entry["module"] == "transformers_modules"
        assert entry["score"] == entry["score_again"]
        assert entry["same_pixels"]
        assert entry["tokens"] == ["the", "dam"]


def score(model, image):
    return ReferringSegmentationPipeline(model=model, processor=build_tiny_processor())(str(image), text=TEXT)["score"]


def save(model, folder):
    model.save_pretrained(folder)
    build_tiny_processor().save_pretrained(folder)


def test_three_models_and_a_checkpoint_of_trainer(hub, image, tmp_path):
    models = {tmp_path / name: build_tiny_model(name) for name in ("lavt", "danet", "fianet", "rmsin")}
    for folder, model in models.items():
        save(model, folder)
    models[tmp_path / "best"] = build_tiny_model("danet")
    save_hub_folder(models[tmp_path / "best"], build_tiny_processor(), tmp_path / "best")
    trained, processor = build_tiny_model("fianet"), build_tiny_processor()
    inputs = processor(images=Image.open(image), text=TEXT, return_tensors="pt")
    row = {**{name: value[0] for name, value in inputs.items()}, "labels": torch.zeros(64, 64, dtype=torch.long)}
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "out"), max_steps=1, save_steps=1, use_cpu=True, report_to=[], disable_tqdm=True
    )
    Trainer(model=trained, args=arguments, train_dataset=[row, row], processing_class=processor).train()
    models[tmp_path / "out" / "checkpoint-1"] = trained.eval()
    report = run_stranger(hub, tmp_path, "use_plain", image, tmp_path, *models)
    check(report, models)
    for folder, model in models.items():
        assert report[str(folder)]["score"] == pytest.approx(score(model, image), abs=1e-6)
        # Bit for bit against our own class loaded from the same file; the model that was saved keeps its weights at
        # aligned addresses, the loaded ones do not, and the CPU's kernels then add in another order.
        with torch.no_grad():
            expected = AutoModel.from_pretrained(folder).eval()(**inputs).logits.numpy()
        np.testing.assert_array_equal(np.load(tmp_path / f"{folder.name}.npy"), expected)


@pytest.mark.slow
def test_a_folder_may_have_a_name_in_any_script(hub, image, tmp_path):
    model = build_tiny_model("danet")
    folders = [tmp_path / name for name in ("模型", "größe 1", "a.model-v2", "3 möbel")]
    for folder in folders:
        save(model, folder)
    report = run_stranger(hub, tmp_path, "use_plain", image, tmp_path, *folders)
    check(report, dict.fromkeys(folders, model))


def test_push_to_hub(online, image, tmp_path):
    model, repository = build_tiny_model("fianet"), f"{USER}/plain"
    model.push_to_hub(repository)
    build_tiny_processor().push_to_hub(repository)
    report = run_stranger(online, tmp_path, "use_plain", image, tmp_path, repository, token=WRITE_TOKEN)
    check(report, {repository: model})
    assert report[repository]["score"] == pytest.approx(score(model, image), abs=1e-6)
