"""`rrsis export`: folders that agree with the network, what 8 bits change, and errors that leave nothing behind."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import openvino
import pytest
import torch
from PIL import Image

from modeling_rrsis import MODELS
from processing_rrsis.errors import RRSISError
from processing_rrsis.runtimes import export as export_module
from processing_rrsis.runtimes import openvino_graph
from processing_rrsis.runtimes.check import compare
from processing_rrsis.runtimes.folder import RuntimeManifest, read_manifest, weights_sha256
from processing_rrsis.runtimes.network import RuntimeNetwork
from processing_rrsis.runtimes.result import Agreement
from processing_rrsis.runtimes.spec import ExportOptions, RuntimeFormat
from processing_rrsis.runtimes.tracing import InputShape, input_names, sample_inputs

from ..metrics.evaluation_fakes import make_dataset
from .conftest import ALL_INPUTS, PAIR_INPUTS, SIZE_PX, build_model, export, run, save_model, words

SPLITS = ("train", "validation", "test")
GRAPH_FILES = {
    "openvino": {"openvino_model.xml", "openvino_model.bin"},
    "onnx": {"model.onnx"},
}


@pytest.mark.parametrize(("name", "graph_format"), [("openvino_folder", "openvino"), ("onnx_folder", "onnx")])
def test_a_folder_agrees_and_says_what_it_holds(request, name, graph_format):
    folder = request.getfixturevalue(name)
    output, document = folder.with_suffix(".txt").read_text(), json.loads(Path(f"{folder}.json").read_text())
    (agreement,) = document["agreements"]
    assert agreement["highest"] - agreement["lowest"] > 1
    assert agreement["largest_difference"] <= agreement["float32_tolerance"]
    assert (agreement["images"], agreement["differing_pixels"]) == (3, 0)
    assert document["accuracy_cost"] == "not measured"
    assert "Accuracy: not measured" in output
    assert f"images of {SIZE_PX}×{SIZE_PX} px alone" in output
    manifest = json.loads((folder / "runtime.json").read_text())
    assert manifest == document["manifest"]
    assert manifest["format"] == graph_format
    assert {*GRAPH_FILES[graph_format], "config.json", "tokenizer.json"} < set(manifest["files_sha256"])
    assert set(manifest["versions"]) >= {"rrsis", "torch", "openvino" if graph_format == "openvino" else "onnxruntime"}
    size = sum((folder / file).stat().st_size for file in GRAPH_FILES[graph_format])
    assert document["exported"]["size_bytes"] == size
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        *GRAPH_FILES[graph_format],
        "config.json",
        "processor_config.json",
        "tokenizer.json",
        "runtime.json",
    }
    assert not any(path.name.startswith(".") for path in folder.parent.iterdir())


def test_weights_are_known_by_their_numbers(network, openvino_folder):
    manifest = read_manifest(openvino_folder)
    assert manifest.weights_sha256 == weights_sha256(network)
    assert manifest.weights_sha256 != weights_sha256(build_model("danet"))
    assert manifest.inputs == ALL_INPUTS


def test_graphs_name_their_inputs_and_leave_batch_and_length_free(openvino_folder, onnx_folder):
    graph = openvino.Core().read_model(openvino_folder / "openvino_model.xml")
    shapes = {item.any_name: str(item.partial_shape) for item in (*graph.inputs, *graph.outputs)}
    image = {"pixel_values": f"[?,3,{SIZE_PX},{SIZE_PX}]", "logits": f"[?,{SIZE_PX},{SIZE_PX}]"}
    assert shapes == {**image, **dict.fromkeys(ALL_INPUTS[1:], "[?,?]")}
    model = onnx.load(onnx_folder / "model.onnx")
    axes = {
        item.name: [axis.dim_param or axis.dim_value for axis in item.type.tensor_type.shape.dim]
        for item in (*model.graph.input, *model.graph.output)
    }
    image = {"pixel_values": ["batch", 3, SIZE_PX, SIZE_PX], "logits": ["batch", SIZE_PX, SIZE_PX]}
    assert axes == {**image, **{key: ["batch", "length"] for key in PAIR_INPUTS[1:]}}


@pytest.mark.parametrize("name", ["openvino_folder", "onnx_folder"])
def test_no_path_of_this_machine_in_a_folder(request, name):
    folder = request.getfixturevalue(name)
    places = (Path(export_module.__file__).parents[2], Path(torch.__file__).parents[1], folder.parent)
    for file in folder.iterdir():
        content = file.read_bytes()
        for place in places:
            assert str(place).encode() not in content, file


def test_eight_bits_are_smaller_and_their_cost_is_a_number(
    fianet, openvino_folder, tmp_path, monkeypatch, made_already
):
    rows = make_dataset(num_samples=3, native_size_px=12)
    monkeypatch.setattr("processing_rrsis.data.load.load_benchmark", lambda name, **given: dict.fromkeys(SPLITS, rows))
    folder = tmp_path / "int8"
    export(fianet, folder, "--int8", "--dataset", "rrsisd", "--max-samples", 3, "--calibration-samples", 2)
    output, document = (tmp_path / "int8.txt").read_text(), json.loads((tmp_path / "int8.json").read_text())
    weights = "openvino_model.bin"
    assert (folder / weights).stat().st_size < 0.6 * (openvino_folder / weights).stat().st_size
    assert document["manifest"]["precision"] == "int8"
    assert document["manifest"]["calibration"] == {"data": "rrsisd, train", "samples": 2}
    assert "Ranges of int8 from 2 samples of rrsisd, train." in output
    noise, data = document["agreements"]
    assert data["inputs"] == "rrsisd, test"
    # How much says nothing of random weights and two samples; of a trained model it stands in docs/runtimes.md.
    assert min(noise["largest_difference"], data["largest_difference"]) > 0
    scores = [document[name]["scores"] for name in ("network", "exported")]
    assert 0 < scores[0]["mIoU"] < 100
    assert document["accuracy_cost"]["mIoU"] == pytest.approx(scores[0]["mIoU"] - scores[1]["mIoU"])
    assert "Accuracy cost on rrsisd, test (n = 3), in points: mIoU" in output
    inputs = sample_inputs(build_model("fianet"), ALL_INPUTS, InputShape(2, 6, (SIZE_PX, SIZE_PX)))
    assert RuntimeNetwork.from_pretrained(folder)(**inputs).logits.isfinite().all()


def test_a_graph_that_differs_is_an_error_and_the_old_folder_stays(fianet, own_copy, monkeypatch, made_already):
    before = {path.name: path.read_bytes() for path in own_copy.iterdir()}
    call = openvino_graph.Session.__call__
    monkeypatch.setattr(openvino_graph.Session, "__call__", lambda self, inputs: call(self, inputs) + 0.5)
    result = run("export", fianet, own_copy, "--overwrite")
    assert result.exit_code == 1
    assert "the exported graph is not the network: its logits differ by up to 0.5" in words(result)
    assert "Traceback" not in result.output
    assert [path.name for path in own_copy.parent.iterdir()] == [own_copy.name]
    assert {path.name: path.read_bytes() for path in own_copy.iterdir()} == before


def test_an_older_graph_is_replaced(fianet, own_copy, made_already):
    (own_copy / "openvino_model.bin").write_bytes(b"damaged")
    export(fianet, own_copy, "--overwrite")
    RuntimeNetwork.from_pretrained(own_copy)


@pytest.mark.parametrize(
    ("lowest", "highest", "tolerance"),
    [(-4.0, 6.0, 1e-3), (-8.0, -7.99, 8e-5), (0.0, 0.0, 0.0)],
)
def test_tolerance_is_of_the_spread_or_of_rounding(lowest, highest, tolerance):
    agreement = Agreement("", 1, lowest, highest, largest_difference=0.0, differing_pixels=0.0)
    assert agreement.tolerance == pytest.approx(tolerance)


def test_another_image_size_is_the_processors_too(fianet):
    from processing_rrsis.hub.loading import load_pipeline

    subject = export_module.prepare(load_pipeline(str(fianet)), (96, 64))
    assert subject.size_px == (96, 64)
    assert subject.processor(images=np.zeros((9, 9, 3), np.uint8))["pixel_values"][0].shape == (3, 96, 64)


def test_documented_lines_run(fianet, openvino_folder, onnx_folder, tmp_path):
    """As printed, in a folder with a model, its graphs and an image; nothing of this project but the processor."""
    text = (Path(__file__).parents[2] / "docs" / "runtimes.md").read_text(encoding="utf-8")
    fences = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(fences) == 3
    (tmp_path / "fianet-openvino").symlink_to(openvino_folder)
    (tmp_path / "fianet-onnx").symlink_to(onnx_folder)
    Image.new("RGB", (90, 60), (90, 120, 70)).save(tmp_path / "image.png")
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", "\n".join(fences)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.size == (90, 60)


def test_errors_are_one_sentence(danet, tmp_path):
    target = tmp_path / "out"
    (tmp_path / "file").write_text("kept")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("kept")
    cases = [
        ([danet, target, "--format", "tflite"], "'tflite' is not one of 'openvino', 'onnx'"),
        ([danet, target, "--seed", 2**32], "--seed"),
        ([danet, target, "--int8"], "--int8: expected --dataset, whose training samples say in which range"),
        ([danet, tmp_path / "file"], "expected a folder"),
        ([danet, tmp_path / "other"], "holds other things, which would be deleted (no runtime.json in it)"),
        ([danet, danet], "holds other things, which would be deleted (no runtime.json in it)"),
        ([danet, tmp_path / "none" / "out"], "expected a name in an existing folder"),
        ([danet, target, "--max-samples", "3"], "--split, --max-samples: expected with --dataset"),
        ([danet, target, "--json", tmp_path], "--json: expected a file name in an existing folder"),
        ([danet, target, "--json", danet / "config.json"], "expected a name of its own for a result"),
        ([danet, target, "--dataset", "imagenet"], "dataset: expected synthetic, "),
        ([danet, target, "--dataset", "imagenet"], "got 'imagenet'"),
        ([danet, target, "--dataset", "rrsisd"], "expected data_dir, the folder or .zip of the download"),
        ([danet, target, "--dataset", "synthetic", "--split", "devel"], "--split: expected one of train, validation"),
        ([danet, target, "--dataset", tmp_path / "other"], "expected"),
        ([tmp_path / "none", target], "expected a model folder or a Hub repository"),
        ([tmp_path / "other", target], "expected a model folder"),
    ]
    before = {path.name: path.read_bytes() for path in danet.iterdir()}
    for arguments, expected in cases:
        result = run("export", *arguments)
        assert result.exit_code == (2 if {"--seed", "tflite"} & {*map(str, arguments)} else 1), arguments
        assert expected in words(result), result.output
        assert "Traceback" not in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "other"]
    assert {path.name: path.read_bytes() for path in danet.iterdir()} == before


def test_what_is_missing_is_named(danet, tmp_path, monkeypatch):
    monkeypatch.setattr("processing_rrsis.runtimes.spec.find_spec", lambda name: None)
    cases = {
        ("openvino", False): r'openvino needs openvino, which is not installed; run `pip install .*\[openvino\]"`',
        ("openvino", True): r"openvino needs openvino, nncf, which are not installed",
        ("onnx", False): r'needs onnx, onnxscript, onnxruntime, which are not.*`pip install .*\[onnx\]"`',
        ("onnx", True): "needs onnx, onnxscript, onnxruntime, nncf",
    }
    for (graph_format, int8), sentence in cases.items():
        with pytest.raises(ImportError, match=sentence):
            ExportOptions(format=RuntimeFormat(graph_format), int8=int8).check()
    monkeypatch.undo()
    with pytest.raises(ValueError, match="image_size_px: expected at least 32 px, got 16"):
        ExportOptions(format=RuntimeFormat.ONNX, image_size_px=(16, 64)).check()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    result = run("export", danet, tmp_path / "out")
    assert "expected a folder or file that can be written to" in words(result)


def test_weights_too_large_for_one_onnx_file(monkeypatch):
    from processing_rrsis.runtimes import onnx_graph

    monkeypatch.setattr(onnx_graph, "LARGEST_BYTES", 11)
    with pytest.raises(ValueError, match=r"the limit of one ONNX file.*use --format openvino"):
        onnx_graph.translate(SimpleNamespace(state_dict={"weight": torch.zeros(3)}), PAIR_INPUTS, (72, 72))


def test_another_network_is_refused():
    with pytest.raises(ValueError, match="expected a network of this project, got a Linear"):
        export_module.prepare(SimpleNamespace(model=torch.nn.Linear(1, 1), processor=None), None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals of POSIX")
@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(number, marks=pytest.mark.slow) for number in (signal.SIGHUP, signal.SIGINT))],
)
def test_a_stopped_export_leaves_what_was_there(danet, own_copy, number):
    command = [sys.executable, "-m", "processing_rrsis.cli.app", "export", str(danet), str(own_copy), "--overwrite"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    end = time.monotonic() + 200
    while len(list(own_copy.parent.iterdir())) < 2:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end, "no folder beside the target"
        time.sleep(0.02)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, output
    assert [path.name for path in own_copy.parent.iterdir()] == [own_copy.name]
    RuntimeNetwork.from_pretrained(own_copy)


def test_a_full_disk_is_one_sentence(fianet, tmp_path, monkeypatch, made_already):
    def full(self, folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RuntimeManifest, "write", full)
    result = run("export", fianet, tmp_path / "out")
    assert result.exit_code == 1
    assert "No space left on device" in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("export.trace", "torch.export could not trace the network (torch"),
        ("openvino_graph.translate", "the network could not be translated to openvino"),
        ("export.RuntimeNetwork.from_pretrained", "openvino could not load the graph"),
        ("quantisation.quantise", "NNCF could not make the graph's layers 8-bit"),
    ],
)
def test_what_a_library_says_is_one_sentence(fianet, tmp_path, monkeypatch, made_already, place, sentence):
    def refuse(*given, **named):
        raise KeyError("first line\nsecond line")

    rows = make_dataset(num_samples=3, native_size_px=12)
    monkeypatch.setattr("processing_rrsis.data.load.load_benchmark", lambda name, **given: dict.fromkeys(SPLITS, rows))
    monkeypatch.setattr(f"processing_rrsis.runtimes.{place}", refuse)
    options = (
        ("--int8", "--dataset", "rrsisd", "--max-samples", 2, "--calibration-samples", 2) if "NNCF" in sentence else ()
    )
    result = run("export", fianet, tmp_path / "out", *options)
    assert sentence in words(result)
    assert not list(tmp_path.iterdir())


def test_logits_of_another_shape_or_that_are_no_numbers_are_refused():
    shape = (1, 8, 8)
    network = lambda **batch: SimpleNamespace(logits=torch.zeros(shape))  # noqa: E731
    for found, sentence in (
        (torch.zeros(1, 4, 4), r"expected logits of shape \(1, 8, 8\) from the exported graph, got \(1, 4, 4\)"),
        (torch.full(shape, torch.nan), r"expected finite logits .* 64 that are none"),
    ):
        with pytest.raises(RRSISError, match=sentence):
            compare(network, lambda found=found, **batch: SimpleNamespace(logits=found), [{}], "noise")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "graph_format"),
    [
        ("lavt", "openvino"),
        ("danet", "openvino"),
        ("lavt", "onnx"),
        ("fianet", "onnx"),
        ("rmsin", "openvino"),
        ("rmsin", "onnx"),
    ],
)
def test_the_other_networks_agree(name, graph_format, tmp_path):
    model = save_model(name, tmp_path)
    export(model, tmp_path / "out", "--format", graph_format)
    manifest = read_manifest(tmp_path / "out")
    assert manifest.inputs == (ALL_INPUTS if name == "fianet" else PAIR_INPUTS)


@pytest.mark.slow
def test_eight_bits_in_onnx(danet, tmp_path, monkeypatch):
    rows = make_dataset(num_samples=3, native_size_px=12)
    monkeypatch.setattr("processing_rrsis.data.load.load_benchmark", lambda name, **given: dict.fromkeys(SPLITS, rows))
    export(danet, tmp_path / "out", "--format", "onnx", "--int8", "--dataset", "rrsisd", "--calibration-samples", 2)
    assert read_manifest(tmp_path / "out").precision == "int8"


@pytest.mark.parametrize("name", list(MODELS))
def test_only_fianet_reads_the_masks_of_the_words(name):
    assert input_names(build_model(name)) == (ALL_INPUTS if name == "fianet" else PAIR_INPUTS)
