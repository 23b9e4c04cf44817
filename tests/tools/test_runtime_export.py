"""`rrsis export`: files that agree with the network, what 8 bits change, and errors that leave nothing behind."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from modeling_rrsis import MODELS
from processing_rrsis.cli.app import app
from processing_rrsis.data import DemoSpec, write_demo
from processing_rrsis.hub.model_folder import save_hub_folder
from processing_rrsis.tools import runtime_export, runtime_onnx
from processing_rrsis.tools.runtime_check import load_rows
from processing_rrsis.tools.runtime_result import Agreement
from processing_rrsis.tools.runtime_spec import RuntimeFormat, RuntimeSpec, ScoredData, choose_format
from processing_rrsis.tools.runtime_trace import InputShape, input_names, sample_inputs
from tests.metrics.evaluation_fakes import make_dataset
from tests.modeling.tiny import TINY, tiny_model
from tests.processing.conftest import build_tiny_processor

SIZE_PX = 72  # maps of 18, 9, 5 and 3: padded to windows of 4
PAIR_INPUTS = ["pixel_values", "input_ids", "attention_mask"]
ALL_INPUTS = [*PAIR_INPUTS, "ground_object_mask", "spatial_position_mask"]
OTHER_SHAPES = ((1, 2), (4, 9))


def build_model(name):
    """Random weights, the last kernel of which gives log-odds on both sides of 0; one shifted window."""
    vocabulary = len(build_tiny_processor().tokenizer)
    swin = {**TINY["backbone_kwargs"], "depths": [2, 1, 1, 1]}
    text = {**TINY["text_config"], "num_hidden_layers": 1, "vocab_size": vocabulary}
    model = tiny_model(name, backbone_kwargs=swin, text_config=text, initializer_range=0.3).eval()
    torch.manual_seed(2)
    with torch.no_grad():
        if name == "danet":
            model.predictor.block.norm3.weight.normal_(std=20)
            model.predictor.block.norm3.bias.normal_(std=20)
        else:
            model.head.weight.normal_(std=20)
    return model


def save_model(name, folder):
    processor = build_tiny_processor()
    processor.image_processor.size = {"height": SIZE_PX, "width": SIZE_PX}
    return save_hub_folder(build_model(name), processor, folder / name)


def run(*arguments):
    return CliRunner().invoke(app, ["export", *map(str, arguments)], env={"COLUMNS": "120"})


def export(folder, output, *options):
    result = run(folder, output, "--rounds", 1, "--json", output.with_suffix(".json"), *options)
    assert result.exit_code == 0, result.output
    return result.output, json.loads(output.with_suffix(".json").read_text())


def run_onnx(path, inputs):
    """Without anything of ours between the file and its numbers."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {name: value.numpy() for name, value in inputs.items()})[0]


def assert_agrees(model, names, logits_of):
    """On other batches and lengths than were traced."""
    for batch, length in OTHER_SHAPES:
        inputs = sample_inputs(model, names, InputShape(batch, length, (SIZE_PX, SIZE_PX)), seed=5)
        with torch.no_grad():
            expected = model(**inputs).logits
        found = torch.as_tensor(logits_of(inputs))
        assert expected.std() > 1
        torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


@pytest.fixture(scope="module")
def danet(tmp_path_factory):
    """A DANet in a folder: all of LAVT, and a kernel that the expression makes."""
    return save_model("danet", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module", autouse=True)
def traced_once(tmp_path_factory):
    """Tracing takes seconds, translating half a minute: the files of this module share one of each per network."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    traced, written, folder = {}, {}, tmp_path_factory.mktemp("shared")
    trace, write_onnx = runtime_export.trace, runtime_onnx.write_onnx

    def trace_once(network, names, size_px):
        key = type(network), size_px
        if key not in traced:
            traced[key] = trace(network, names, size_px)
        return traced[key]

    def write_once(program, names, path):
        if id(program) not in written:
            written[id(program)] = folder / f"{len(written)}.onnx"
            write_onnx(program, names, written[id(program)])
        shutil.copyfile(written[id(program)], path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime_export, "trace", trace_once)
        patch.setattr(runtime_onnx, "write_onnx", write_once)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def onnx_file(danet, tmp_path_factory):
    """The DANet as ONNX: file, what was printed, what was written as JSON."""
    path = tmp_path_factory.mktemp("onnx") / "danet.onnx"
    return path, *export(danet, path)


def test_onnx_agrees_with_the_network(onnx_file):
    path, output, document = onnx_file
    assert_agrees(build_model("danet"), PAIR_INPUTS, lambda inputs: run_onnx(path, inputs))
    (agreement,) = document["agreements"]
    assert agreement["largest_difference"] <= agreement["float32_tolerance"]
    assert (agreement["images"], agreement["differing_pixels"]) == (3, 0)
    assert document["exported"]["size_bytes"] == path.stat().st_size
    assert document["accuracy_cost"] == "not measured"
    assert "Accuracy: not measured" in output


def test_onnx_says_what_to_feed(onnx_file):
    path, output, document = onnx_file
    model = onnx.load(path)
    axes = {
        item.name: [axis.dim_param or axis.dim_value for axis in item.type.tensor_type.shape.dim]
        for item in (*model.graph.input, *model.graph.output)
    }
    text = ["batch", "length"]
    image = ["batch", 3, SIZE_PX, SIZE_PX]
    assert axes == {
        "pixel_values": image,
        "input_ids": text,
        "attention_mask": text,
        "logits": ["batch", SIZE_PX, SIZE_PX],
    }
    notes = {item.key: item.value for item in model.metadata_props}
    assert notes == document["notes"]
    assert notes["model_type"] == "rrsis_danet"
    assert (notes["image_height_px"], notes["image_width_px"]) == (str(SIZE_PX), str(SIZE_PX))
    assert json.loads(notes["image_mean"]) == [0.485, 0.456, 0.406]
    assert f"images of {SIZE_PX}×{SIZE_PX} px alone" in output


def test_nothing_is_left_beside_the_file_and_no_path_in_it(onnx_file):
    path, *_ = onnx_file
    assert sorted(item.name for item in path.parent.iterdir()) == ["danet.json", "danet.onnx"]
    content = path.read_bytes()
    for place in (Path(runtime_export.__file__).parents[2], Path(torch.__file__).parents[1], path.parent):
        assert str(place).encode() not in content


@pytest.fixture(scope="module")
def pt2_file(danet, tmp_path_factory):
    """The DANet as a .pt2: file, what was written as JSON."""
    path = tmp_path_factory.mktemp("pt2") / "danet.pt2"
    return path, export(danet, path)[1]


def test_pt2_agrees_with_the_network(pt2_file):
    """As the command itself finds when it reads the file: reading it again would take seconds."""
    path, document = pt2_file
    (agreement,) = document["agreements"]
    assert agreement["highest"] - agreement["lowest"] > 1
    assert agreement["largest_difference"] <= agreement["float32_tolerance"]
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(runtime_export.NOTES_FILE)]
        assert json.loads(archive.read(name)) == document["notes"]


def test_eight_bits_change_little_and_their_cost_is_a_number(danet, onnx_file, tmp_path, monkeypatch):
    rows = make_dataset(num_samples=3, native_size_px=12)
    monkeypatch.setattr("processing_rrsis.data.load.load_benchmark", lambda name, **options: {"test": rows})
    output, document = export(danet, tmp_path / "danet.onnx", "--int8", "--data", "rrsisd", "--samples", 3)
    assert (tmp_path / "danet.onnx").stat().st_size < onnx_file[0].stat().st_size
    assert document["eight_bit_products"] > 40
    noise, data = document["agreements"]
    assert data["inputs"] == "rrsisd, test"
    for agreement in (noise, data):
        spread = agreement["highest"] - agreement["lowest"]
        assert 0 < agreement["largest_difference"] < 0.2 * spread
        assert agreement["differing_pixels"] < 0.05
    scores = [document[name]["scores"] for name in ("network", "exported")]
    assert 0 < scores[0]["mIoU"] < 100
    assert document["accuracy_cost"]["mIoU"] == pytest.approx(scores[0]["mIoU"] - scores[1]["mIoU"])
    assert "Accuracy cost on rrsisd, test (n = 3), in points: mIoU" in output
    logits = run_onnx(
        tmp_path / "danet.onnx", sample_inputs(build_model("danet"), PAIR_INPUTS, InputShape(2, 6, (SIZE_PX, SIZE_PX)))
    )
    assert np.isfinite(logits).all()


def test_a_file_that_differs_is_an_error_and_the_old_one_stays(danet, tmp_path, monkeypatch):
    path = tmp_path / "danet.onnx"
    path.write_text("old")
    call = runtime_onnx.OnnxNetwork.__call__

    def shifted(self, **inputs):
        output = call(self, **inputs)
        output.logits += 0.5
        return output

    monkeypatch.setattr(runtime_onnx.OnnxNetwork, "__call__", shifted)
    result = run(danet, path)
    assert result.exit_code == 1
    words = " ".join(result.output.split())
    assert "the exported file is not the network: its logits differ by up to 0.5" in words
    assert "Traceback" not in result.output
    assert [item.name for item in tmp_path.iterdir()] == ["danet.onnx"]
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("lowest", "highest", "tolerance"),
    [(-4.0, 6.0, 1e-2), (-8.0, -7.99, 8e-5), (0.0, 0.0, 0.0)],
)
def test_tolerance_is_of_the_spread_or_of_rounding(lowest, highest, tolerance):
    agreement = Agreement("", 1, lowest, highest, largest_difference=0.0, differing_pixels=0.0)
    assert agreement.tolerance == pytest.approx(tolerance)


def test_another_image_size_is_the_processors_too(danet, tmp_path):
    spec = RuntimeSpec(model=str(danet), output=tmp_path / "a.pt2", format=RuntimeFormat.PT2, image_size_px=(96, 64))
    subject = runtime_export.load_subject(spec)
    assert subject.size_px == (96, 64)
    assert subject.processor(images=np.zeros((9, 9, 3), np.uint8))["pixel_values"][0].shape == (3, 96, 64)
    assert runtime_export.describe(spec, subject)["image_height_px"] == "96"


def test_documented_lines_run(danet, onnx_file, pt2_file, tmp_path):
    """Beside a model folder, as printed, one after the other; both files make the same mask."""
    text = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    fences = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(fences) == 2
    code = "\n".join([*fences, "assert output['logits'].sub(torch.from_numpy(logits)).abs().max() < 1e-3"])
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "fianet").mkdir()
    (tmp_path / "runs" / "fianet" / "best").symlink_to(danet)
    (tmp_path / "fianet.onnx").symlink_to(onnx_file[0])
    (tmp_path / "fianet.pt2").symlink_to(pt2_file[0])
    Image.new("RGB", (90, 60), (90, 120, 70)).save(tmp_path / "image.png")
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.size == (90, 60)


def test_data_may_be_the_folder_of_a_download(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    spec = DemoSpec("refsegrs", counts={"train": 1, "validation": 1, "test": 3}, image_size_px=64)
    write_demo(spec, tmp_path / "demo", progress=False)
    data = ScoredData(str(tmp_path / "demo"), num_samples=2)
    rows = load_rows(data, model="fianet", input_size_px=SIZE_PX)
    assert len(rows) == 2
    assert set(rows.column_names) >= {"image", "mask", "expression"}


def test_errors_are_one_sentence(danet, tmp_path):
    target = tmp_path / "out.onnx"
    (tmp_path / "folder.onnx").mkdir()
    cases = [
        (
            [danet, tmp_path / "out.bin"],
            "expected a file name that ends with .onnx, .pt2, or --format; got the ending '.bin'",
        ),
        ([danet, target, "--format", "pt2"], "--format pt2: expected a file name that ends with .pt2"),
        ([danet, target, "--format", "tflite"], "--format: expected one of onnx, pt2, got 'tflite'"),
        ([danet, tmp_path / "out.pt2", "--int8"], "--int8: expected with an .onnx file"),
        ([danet, tmp_path / "folder.onnx"], "expected a file name, got a folder"),
        ([danet, tmp_path / "none" / "out.onnx"], "expected an existing folder"),
        ([danet, target, "--samples", "3"], "--split, --samples: expected with --data"),
        ([danet, target, "--json", tmp_path], "--json: expected a file name in an existing folder"),
        ([danet, target, "--json", target], "--json: expected a file of its own for each result"),
        ([danet, target, "--seed", 2**32], "--seed"),
        ([danet, target, "--data", "imagenet"], "--data: expected"),
        ([danet, target, "--data", "imagenet"], "got 'imagenet'"),
        ([danet, target, "--data", "rrsisd"], "its folder or zip as --data"),
        ([danet, target, "--data", "synthetic", "--split", "dev"], "--split: expected one of train, validation, test"),
        ([danet, target, "--data", tmp_path], "expected"),
        ([tmp_path / "none", target], "MODEL: expected a model folder or a Hub repository"),
        ([tmp_path, target], "MODEL: expected a model folder"),
    ]
    for arguments, expected in cases:
        result = run(*arguments)
        assert result.exit_code == (2 if "--seed" in arguments else 1), arguments
        assert expected in " ".join(result.output.split()), result.output
        assert "Traceback" not in result.output
    assert [item.name for item in tmp_path.iterdir()] == ["folder.onnx"]


def test_what_is_missing_is_named(danet, tmp_path, monkeypatch):
    spec = RuntimeSpec(model=str(danet), output=tmp_path / "out.onnx", format=RuntimeFormat.ONNX)
    monkeypatch.setattr("processing_rrsis.tools.runtime_spec.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'onnx, onnxscript, onnxruntime: run `pip install "rrsis\[export\]"`'):
        spec.check()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(ValueError, match="expected a folder that can be written to"):
        spec.check()


def test_the_ending_says_the_format():
    assert choose_format(Path("a.ONNX"), None) is RuntimeFormat.ONNX
    assert choose_format(Path("a.pt2"), "pt2") is RuntimeFormat.PT2
    assert choose_format(Path("model"), "onnx") is RuntimeFormat.ONNX


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_stopped_export_leaves_what_was_there(danet, tmp_path, number):
    target = tmp_path / "a.pt2"
    target.write_text("old")
    command = [sys.executable, "-m", "processing_rrsis.cli.app", "export", str(danet), str(target)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    end = time.monotonic() + 200
    while len(list(tmp_path.iterdir())) < 2:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end, "no file beside the target"
        time.sleep(0.02)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, output
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt2"]
    assert target.read_text() == "old"


def test_what_the_export_reads_is_not_replaced(danet, tmp_path):
    folder = shutil.copytree(danet, tmp_path / "best")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for arguments in (
        [folder / "model.safetensors", "--format", "pt2"],
        [tmp_path / "a.pt2", "--json", folder / "config.json"],
    ):
        result = run(folder, *arguments)
        assert result.exit_code == 1
        assert "expected another name, the export reads this file" in " ".join(result.output.split())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_full_disk_is_one_sentence(danet, tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    result = run(danet, tmp_path / "a.pt2")
    assert result.exit_code == 1
    assert "No space left on device" in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lavt", "fianet"])
def test_the_other_networks_agree_in_onnx(name, tmp_path):
    path = tmp_path / f"{name}.onnx"
    _, document = export(save_model(name, tmp_path), path)
    names = ALL_INPUTS if name == "fianet" else PAIR_INPUTS
    assert document["inputs"] == names
    assert_agrees(build_model(name), names, lambda inputs: run_onnx(path, inputs))


@pytest.mark.parametrize("name", list(MODELS))
def test_only_fianet_reads_the_masks_of_the_words(name):
    assert list(input_names(build_model(name))) == (ALL_INPUTS if name == "fianet" else PAIR_INPUTS)
