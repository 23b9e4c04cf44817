"""Publish from one process, load by the repository's name in another that can't import this project."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor

from .conftest import run_publish, run_stranger, write_run
from .loopback import USER, WRITE_TOKEN

TEXT = "the red ship on the upper left"


def round_trip(hub, tmp_path, names):
    repositories = [f"{USER}/{name}" for name in names]
    for name, repository in zip(names, repositories, strict=True):
        done = run_publish(hub, tmp_path, "model", write_run(tmp_path / name, name), repository)
        assert done.returncode == 0, done.stderr
        assert WRITE_TOKEN not in done.stdout + done.stderr
    image = tmp_path / "image.png"
    pixels = np.random.default_rng(0).integers(0, 256, size=(50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(image)
    report = run_stranger(hub, tmp_path, "use_models", image, tmp_path, *repositories, token=WRITE_TOKEN)
    for name, repository in zip(names, repositories, strict=True):
        entry, folder = report[repository], tmp_path / name / "best"
        model = AutoModel.from_pretrained(folder).eval()
        inputs = AutoProcessor.from_pretrained(folder)(images=Image.open(image), text=TEXT, return_tensors="pt")
        with torch.no_grad():
            np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), model(**inputs).logits.numpy())
        check_report(entry, name)
        published = hub.repository(repository)
        assert len(published.titles()) == 3  # created, published, published again by the stranger
        assert published.files(entry["revision"])["metrics.json"].content == (folder / "metrics.json").read_bytes()
    assert not [path for _, path, body in hub.requests if WRITE_TOKEN.encode() in body or WRITE_TOKEN in path]
    return report


def check_report(entry, name):
    assert entry["model_type"] == f"rrsis_{name}"
    assert entry["module"] == "transformers_modules"
    assert entry["same_pixels"]
    assert entry["categories"] == ["ship", "dam"]
    assert entry["mask_size"] == [70, 50]
    assert entry["pipeline_bit_equal"]
    assert {"config.json", "model.safetensors", "README.md", "metrics.json", "contact_sheet.png"} <= set(
        entry["files"]
    )
    assert entry["step"] > 1e-4
    # The trained weights lie at other addresses than the loaded ones; the CPU's kernels then add in another order.
    assert entry["trained_difference"] < 1e-5
    assert entry["pinned_bit_equal"]


@pytest.mark.usefixtures("one_thread")
def test_a_model_by_its_name_on_the_hub(hub, tmp_path):
    round_trip(hub, tmp_path, ["fianet"])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("one_thread")
def test_all_three_models_by_their_names_on_the_hub(hub, tmp_path):
    round_trip(hub, tmp_path, ["lavt", "danet", "fianet", "rmsin"])
