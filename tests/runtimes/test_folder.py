"""What keeps a folder from being read, each in one sentence; and `--runtime`, which chooses who computes."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from processing_rrsis.runtimes.folder import FOLDER_VERSION
from processing_rrsis.runtimes.loading import open_pipeline
from processing_rrsis.runtimes.network import RuntimeNetwork

from ..metrics.evaluation_fakes import make_dataset
from .conftest import run, words


def change(path, **values):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **values}))


def change_size(folder):
    settings = json.loads((folder / "processor_config.json").read_text())["image_processor"]
    change(folder / "processor_config.json", image_processor={**settings, "size": {"height": 64, "width": 64}})


SPOILED = {
    "no runtime.json": (
        lambda folder: (folder / "runtime.json").unlink(),
        "expected a folder that `rrsis export` wrote, it has no runtime.json; write one with `rrsis export MODEL",
    ),
    "broken runtime.json": (lambda folder: (folder / "runtime.json").write_text("{"), "expected readable JSON"),
    "a list": (lambda folder: (folder / "runtime.json").write_text("[]"), "expected a JSON object, got list"),
    "a value missing": (
        lambda folder: (folder / "runtime.json").write_text(f'{{"folder_version": {FOLDER_VERSION}}}'),
        "expected a runtime.json as `rrsis export` writes it, got 'format'; export the model again",
    ),
    "another version": (
        lambda folder: change(folder / "runtime.json", folder_version=FOLDER_VERSION + 1),
        f"expected a folder of version {FOLDER_VERSION}, got version {FOLDER_VERSION + 1}, which rrsis 0.1.0 wrote",
    ),
    "no graph": (
        lambda folder: (folder / "openvino_model.bin").unlink(),
        "expected openvino_model.bin beside runtime.json, found none; copy the whole folder again",
    ),
    "no configuration": (lambda folder: (folder / "config.json").unlink(), "expected config.json beside runtime.json"),
    "no processor": (
        lambda folder: (folder / "processor_config.json").unlink(),
        "expected processor_config.json beside runtime.json",
    ),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "expected tokenizer.json beside"),
    "no hashes": (
        lambda folder: change(folder / "runtime.json", files_sha256=None),
        "expected a runtime.json as `rrsis export` writes it",
    ),
    "another version without versions": (
        lambda folder: change(folder / "runtime.json", folder_version=0, versions=None),
        "got version 0, which rrsis unknown",
    ),
    "deep runtime.json": (lambda folder: (folder / "runtime.json").write_text("[" * 10**5), "expected readable JSON"),
    "another version with a list of versions": (
        lambda folder: change(folder / "runtime.json", folder_version=1, versions=[1]),
        "got version 1, which rrsis unknown",
    ),
    "inputs that are numbers": (
        lambda folder: change(folder / "runtime.json", inputs=[1, 2]),
        "values of another type as inputs",
    ),
    "a list as image processor": (
        lambda folder: change(folder / "processor_config.json", image_processor=[1]),
        "expected a processor that makes images of 72×72 px",
    ),
    "a list as size": (
        lambda folder: change(folder / "processor_config.json", image_processor={"size": [80]}),
        "expected a processor that makes images of 72×72 px",
    ),
    "no image processor": (
        lambda folder: change(folder / "processor_config.json", image_processor=None),
        "expected a processor that makes images of 72×72 px",
    ),
    "another tokenizer": (
        lambda folder: change(folder / "tokenizer.json", model={}),
        "tokenizer.json is damaged or another's",
    ),
    "another model": (
        lambda folder: change(folder / "config.json", model_type="rrsis_danet"),
        "expected the config.json of the graph's model, rrsis_fianet, got rrsis_danet; export the model again",
    ),
    "another size": (change_size, "expected a processor that makes images of 72×72 px, the graph's"),
    "another graph": (
        lambda folder: (folder / "openvino_model.bin").write_bytes(b"damaged"),
        "openvino_model.bin is damaged or another's (its SHA-256 differs); copy the whole folder again",
    ),
}


@pytest.mark.parametrize(("spoil", "sentence"), SPOILED.values(), ids=SPOILED.keys())
def test_a_spoiled_folder_says_so(own_copy, spoil, sentence):
    spoil(own_copy)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        RuntimeNetwork.from_pretrained(own_copy)


@pytest.mark.parametrize("name", ["openvino_folder", "onnx_folder"])
def test_a_missing_library_is_named(request, monkeypatch, name):
    folder = request.getfixturevalue(name)
    package, extra = {"openvino_folder": ("openvino", "openvino"), "onnx_folder": ("onnxruntime", "onnx")}[name]
    monkeypatch.setattr("processing_rrsis.runtimes.spec.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=rf"needs {package}, which is not installed; run `pip install .*\[{extra}"):
        RuntimeNetwork.from_pretrained(folder)


def test_the_folder_says_its_runtime(openvino_folder, onnx_folder, fianet):
    for folder, runtime in ((openvino_folder, "openvino"), (onnx_folder, "onnx")):
        assert open_pipeline(str(folder)).model.manifest.format == runtime
        assert open_pipeline(str(folder), runtime=runtime).model.manifest.format == runtime
    assert not isinstance(open_pipeline(str(fianet), runtime="torch").model, RuntimeNetwork)


def test_another_runtime_than_the_folders_is_an_error(openvino_folder, fianet, tmp_path):
    best = tmp_path / "my run" / "best"
    best.mkdir(parents=True)
    cases = [
        (
            openvino_folder,
            "torch",
            f"--runtime torch: expected a folder for it, {openvino_folder} holds a graph for open",
        ),
        (openvino_folder, "onnx", "holds a graph for openvino; leave --runtime out, or give the folder that it was"),
        (fianet, "onnx", f"write one with `rrsis export {fianet} fianet-onnx --format onnx`"),
        (best, "openvino", f"write one with `rrsis export '{best}' 'my run'-openvino --format openvino`"),
    ]
    for folder, runtime, sentence in cases:
        with pytest.raises(ValueError, match=re.escape(sentence)):
            open_pipeline(str(folder), runtime=runtime)


def test_segment_evaluate_and_demo_take_a_graph(openvino_folder, fianet, tmp_path, monkeypatch):
    picture = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 90, 3), dtype=np.uint8)).save(picture)
    masks = []
    for name, model in (("graph", openvino_folder), ("network", fianet)):
        result = run("segment", picture, "the dam", "--model", model, "-o", tmp_path / f"{name}.png")
        assert result.exit_code == 0, result.output
        masks.append(np.asarray(Image.open(tmp_path / f"{name}.png")))
    np.testing.assert_array_equal(masks[0], masks[1])

    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    rows = make_dataset(num_samples=3, native_size_px=12)
    monkeypatch.setattr("processing_rrsis.data.load.load_benchmark", lambda name, **given: {"test": rows})
    scores = []
    for model, runtime in ((openvino_folder, "openvino"), (fianet, "torch")):
        options = [
            "--runtime",
            runtime,
            "--num-workers",
            0,
            "--resamples",
            100,
            "--json",
            tmp_path / f"{runtime}.json",
        ]
        result = run("evaluate", "-m", model, "-d", "rrsisd", *options)
        assert result.exit_code == 0, result.output
        assert "FIANet, ours" in result.output
        assert ("Computed by openvino in float32." in words(result)) == (runtime == "openvino")
        scores.append(json.loads((tmp_path / f"{runtime}.json").read_text())["results"])
    assert scores[0] == scores[1]
    values = json.loads((tmp_path / "openvino.json").read_text())
    assert values["model"]["class"] == "FIANetForReferringSegmentation"
    assert "runtime.json" in values["model"]["revision"]

    pytest.importorskip("gradio")
    opened = []

    def build_app(pipe, name, examples):
        opened.append(pipe.model)
        raise ValueError("seen")

    monkeypatch.setattr("hub_cards.space.app.build_app", build_app)
    result = run("demo", "--model", openvino_folder, "--runtime", "openvino")
    assert "seen" in result.output
    assert isinstance(opened[0], RuntimeNetwork)


def test_commands_that_need_torch_say_so(openvino_folder, tmp_path):
    result = run("export", openvino_folder, tmp_path / "again")
    assert result.exit_code == 1
    assert "expected a model that torch computes" in words(result)
    assert "give the folder that it was exported from" in words(result)
