"""Tiny models and their graphs. To trace and to translate takes seconds each: the workers of a run share them."""

import shutil

import pytest
import torch
from typer.testing import CliRunner

from processing_rrsis.cli.app import app
from processing_rrsis.hub.model_folder import save_hub_folder
from processing_rrsis.runtimes import openvino_graph
from processing_rrsis.runtimes.loading import open_pipeline
from processing_rrsis.runtimes.network import RuntimeNetwork

from ..modeling.tiny import TINY, tiny_model
from ..tiny import build_tiny_processor

SIZE_PX = 72  # maps of 18, 9, 5 and 3: padded to windows of 4
PAIR_INPUTS = ("pixel_values", "input_ids", "attention_mask")
ALL_INPUTS = (*PAIR_INPUTS, "ground_object_mask", "spatial_position_mask")


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


def run(command, *arguments):
    return CliRunner().invoke(app, [command, *map(str, arguments)], env={"COLUMNS": "120"})


def words(result):
    """What a command printed, its lines joined."""
    return " ".join(result.output.split())


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def fianet(made_once):
    """A FIANet in a folder: it reads every input."""
    return made_once("fianet", lambda path: save_model("fianet", path.parent))


@pytest.fixture(scope="session")
def danet(made_once):
    """A DANet in a folder: all of LAVT, and a kernel that the expression makes."""
    return made_once("danet", lambda path: save_model("danet", path.parent))


def export(model, output, *options):
    result = run("export", model, output, "--rounds", 1, "--json", f"{output}.json", *options)
    assert result.exit_code == 0, result.output
    output.with_suffix(".txt").write_text(result.output, encoding="utf-8")


@pytest.fixture(scope="session")
def openvino_folder(made_once, fianet):
    """The FIANet for OpenVINO, as `rrsis export` wrote it; beside it what was printed and the JSON."""
    return made_once("fianet-openvino", lambda path: export(fianet, path))


@pytest.fixture(scope="session")
def onnx_folder(made_once, danet):
    """The DANet for onnxruntime."""
    return made_once("danet-onnx", lambda path: export(danet, path, "--format", "onnx"))


@pytest.fixture(scope="session")
def graph(openvino_folder):
    """The FIANet's graph, open."""
    return RuntimeNetwork.from_pretrained(openvino_folder)


@pytest.fixture(scope="session")
def network(fianet):
    """The FIANet itself."""
    return open_pipeline(str(fianet)).model


@pytest.fixture
def own_copy(openvino_folder, tmp_path):
    """The FIANet's graph in a folder that a test may spoil."""
    return shutil.copytree(openvino_folder, tmp_path / "fianet-openvino")


@pytest.fixture
def made_already(openvino_folder, monkeypatch):
    """Exports of the FIANet for OpenVINO take the graph that was made before."""
    import openvino

    graph = openvino_folder / "openvino_model.xml"
    monkeypatch.setattr("processing_rrsis.runtimes.export.trace", lambda network, names, size_px: None)
    monkeypatch.setattr(openvino_graph, "translate", lambda *given: openvino.Core().read_model(graph))
