"""Run by the tests in a process that can't import this project: what a stranger does with what was published.

Arguments: folders to import from, separated like PATH; the name of a function; its arguments.
"""

import hashlib
import importlib.metadata
import json
import os
import runpy
import sys
from pathlib import Path

PROJECT = ("modeling_rrsis", "processing_rrsis", "hub_cards")
TASK, TEXT = "referring-image-segmentation", "the red ship on the upper left"
TRUST = {"trust_remote_code": True}


class Blocked:
    """Stops our packages where they are installed."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in PROJECT:
            raise ModuleNotFoundError(f"No module named {name!r} (blocked)", name=name)


def fingerprint(row):
    """Hash of everything that a row holds, decoded."""
    import numpy as np

    digest = hashlib.sha256()
    for name in sorted(row):
        value = row[name] if isinstance(row[name], str) else np.asarray(row[name])
        digest.update(value.encode() if isinstance(value, str) else value.tobytes() + str(value.shape).encode())
    return digest.hexdigest()


def use_data(dataset, metric):
    """A data set, as a whole and streamed, the metric, a snapshot."""
    import evaluate
    import numpy as np
    from datasets import load_dataset
    from huggingface_hub import snapshot_download

    whole, streams = load_dataset(dataset), load_dataset(dataset, streaming=True)
    first = whole["train"][0]
    return {
        "rows": {split: [fingerprint(row) for row in rows] for split, rows in whole.items()},
        "streamed": {split: [fingerprint(row) for row in rows] for split, rows in streams.items()},
        "mask": [first["mask"].mode, sorted(np.unique(first["mask"]).tolist())],
        "columns": whole["train"].column_names,
        "scores": evaluate.load(metric).compute(predictions=[[[1, 1], [0, 0]]], references=[[[1, 0], [0, 0]]]),
        "counts": evaluate.load(metric, "counts").compute(predictions=[1], references=[4])["mIoU"],
        "snapshot": sorted(path.name for path in Path(snapshot_download(dataset, repo_type="dataset")).iterdir()),
    }


def logits_of(model, inputs):
    import torch

    with torch.no_grad():
        return model.eval()(**inputs).logits.numpy()


def use_models(image_file, folder, *repositories):
    """Published models: loaded, one step trained, published, loaded again. Logits go into the folder."""
    return {repository: use_model(repository, image_file, folder) for repository in repositories}


def use_model(repository, image_file, folder):
    import numpy as np
    import torch
    from huggingface_hub import snapshot_download
    from PIL import Image
    from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, pipeline

    image = Image.open(image_file)
    model = AutoModel.from_pretrained(repository, **TRUST)
    processor = AutoProcessor.from_pretrained(repository, **TRUST)
    image_processor = AutoImageProcessor.from_pretrained(repository, **TRUST)
    inputs = processor(images=image, text=TEXT, return_tensors="pt")
    logits = logits_of(model, inputs)
    np.save(Path(folder) / f"{repository.rsplit('/', 1)[-1]}.npy", logits)
    pipe = pipeline(TASK, model=repository, **TRUST)
    snapshot = Path(snapshot_download(repository))
    return {
        "model_type": AutoConfig.from_pretrained(repository, **TRUST).model_type,
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
    import numpy as np
    import torch
    from transformers import AutoModel, pipeline

    batch, _, *size = inputs["pixel_values"].shape
    labels = torch.zeros(batch, *size, dtype=torch.long)
    labels[:, :20] = 1
    optimizer = torch.optim.SGD(pipe.model.train().parameters(), lr=0.1)
    pipe.model(**inputs, labels=labels).loss.backward()
    optimizer.step()
    trained = logits_of(pipe.model, inputs)
    pipe.push_to_hub(repository)
    again = pipeline(TASK, model=repository, **TRUST)
    pinned = AutoModel.from_pretrained(repository, revision=old, **TRUST)
    return {
        "step": float(np.abs(trained - before).max()),
        "trained_difference": float(np.abs(logits_of(again.model, inputs) - trained).max()),
        "pinned_bit_equal": bool(np.array_equal(logits_of(pinned, inputs), before)),
    }


def use_plain(image, folder, *references):
    """What plain `save_pretrained` left gives a pipeline; and again after all was saved once more, part by part."""
    import numpy as np
    import torch
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModelForImageSegmentation, AutoTokenizer, pipeline

    report = {}
    for reference in references:
        pipe = pipeline(TASK, model=reference, **TRUST)
        inputs = pipe.processor(images=Image.open(image), text=TEXT, return_tensors="pt")
        pixels = AutoImageProcessor.from_pretrained(reference, **TRUST)(Image.open(image), return_tensors="pt")
        np.save(Path(folder) / f"{Path(reference).name}.npy", logits_of(pipe.model, inputs))
        again = Path(folder) / "again" / Path(reference).name
        pipe.model.save_pretrained(again)
        pipe.processor.save_pretrained(again)
        report[reference] = {
            "model": type(AutoModelForImageSegmentation.from_pretrained(reference, **TRUST)).__name__,
            "module": type(pipe.model).__module__.split(".")[0],
            "same_pixels": torch.equal(pixels["pixel_values"], inputs["pixel_values"]),
            "tokens": AutoTokenizer.from_pretrained(reference, **TRUST).tokenize("the dam"),
            "score": pipe(image, text=TEXT)["score"],
            "score_again": pipeline(model=str(again), **TRUST)(image, text=TEXT)["score"],
        }
    return report


def use_app(model, image, file):
    """The demo's app.py alone, as on the Hub; its pages are counted, not served."""
    import gradio

    launched = []
    gradio.Blocks.launch = lambda self, **options: launched.append(len(self.fns))
    os.environ["MODEL_ID"] = model
    app = runpy.run_path(file, run_name="__main__")
    pipe = app["load_model"](model)
    _, _, rows, *_ = app["segment"](pipe, image, TEXT, 0.4)
    return {"rows": rows, "module": type(pipe).__module__.split(".")[0], "launched": launched}


if __name__ == "__main__":
    paths, task, *arguments = sys.argv[1:]
    sys.path[:0] = paths.split(os.pathsep)
    sys.meta_path.insert(0, Blocked())
    for package in PROJECT:
        try:
            __import__(package)
        except ModuleNotFoundError:
            continue
        raise SystemExit(f"{package} is importable")
    report = {"transformers": importlib.metadata.version("transformers"), **globals()[task](*arguments)}
    print("REPORT " + json.dumps(report))  # noqa: T201 - read by the test
