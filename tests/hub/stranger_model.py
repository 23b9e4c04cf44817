"""Run by the tests in a process without our packages: load published models, train one step, publish, load again.

Arguments: folders to import from, an image, a folder for arrays, then repositories.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import blocking  # noqa: F401
import numpy as np
import torch
import transformers
from huggingface_hub import snapshot_download
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, pipeline

TEXT = "the red ship on the upper left"
TRUST = {"trust_remote_code": True}


def logits_of(model, inputs):
    with torch.no_grad():
        return model.eval()(**inputs).logits.numpy()


def load(repository, image_file, folder):
    image = Image.open(image_file)
    config = AutoConfig.from_pretrained(repository, **TRUST)
    model = AutoModel.from_pretrained(repository, **TRUST)
    processor = AutoProcessor.from_pretrained(repository, **TRUST)
    image_processor = AutoImageProcessor.from_pretrained(repository, **TRUST)
    inputs = processor(images=image, text=TEXT, return_tensors="pt")
    logits = logits_of(model, inputs)
    np.save(Path(folder) / f"{repository.rsplit('/', 1)[-1]}.npy", logits)
    pipe = pipeline("referring-image-segmentation", model=repository, **TRUST)
    snapshot = Path(snapshot_download(repository))
    return {
        "model_type": config.model_type,
        "module": type(model).__module__.split(".")[0],
        "same_pixels": torch.equal(image_processor(image, return_tensors="pt").pixel_values, inputs["pixel_values"]),
        "categories": processor.categories,
        "mask_size": pipe(image_file, text=TEXT)["mask"].size,
        "pipeline_bit_equal": bool(np.array_equal(logits_of(pipe.model, inputs), logits)),
        "files": sorted(path.name for path in snapshot.iterdir()),
        "revision": snapshot.name,
        **train_and_publish(pipe, repository, snapshot.name, inputs, logits),
    }


def train_and_publish(pipe, repository, old, inputs, before):
    """One optimizer step on what was downloaded; pushed again, it loads, and so does the older revision."""
    batch, _, *size = inputs["pixel_values"].shape
    labels = torch.zeros(batch, *size, dtype=torch.long)
    labels[:, :20] = 1
    optimizer = torch.optim.SGD(pipe.model.train().parameters(), lr=0.1)
    pipe.model(**inputs, labels=labels).loss.backward()
    optimizer.step()
    trained = logits_of(pipe.model, inputs)
    pipe.push_to_hub(repository)
    again = pipeline("referring-image-segmentation", model=repository, **TRUST)
    pinned = AutoModel.from_pretrained(repository, revision=old, **TRUST)
    return {
        "step": float(np.abs(trained - before).max()),
        "trained_difference": float(np.abs(logits_of(again.model, inputs) - trained).max()),
        "pinned_bit_equal": bool(np.array_equal(logits_of(pinned, inputs), before)),
    }


if __name__ == "__main__":
    image_file, folder, *repositories = sys.argv[1:]
    report = {repository: load(repository, image_file, folder) for repository in repositories}
    print("REPORT " + json.dumps({"transformers": transformers.__version__, **report}))  # noqa: T201 - read by the test
