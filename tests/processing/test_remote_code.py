"""What the saved folder holds; tests/hub/test_plain_save.py loads it where this project can't be imported."""

import json
from pathlib import Path

import pytest

from processing_rrsis.hub.model_folder import save_hub_folder
from tests.tiny import build_tiny_model, build_tiny_processor


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("remote")
    processor = build_tiny_processor(categories=["ship", "dam"], max_length=16)
    for name in ("lavt", "fianet"):
        card, metrics = "---\nlicense: apache-2.0\n---\n", {"test": {"mIoU": 1.5}}
        save_hub_folder(build_tiny_model(name), processor, root / "hub" / name, model_card=card, metrics=metrics)
    return root


def test_folder_is_complete_and_tells_nothing_about_this_machine(folders):
    root, folder = folders, folders / "hub" / "fianet"
    names = {path.name for path in folder.iterdir()}
    assert {
        "config.json",
        "model.safetensors",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    } <= names
    assert {"README.md", "metrics.json", "modeling_fianet.py", "modeling_lavt.py", "pipeline_rrsis.py"} <= names
    assert "mask_output_rrsis.py" in names
    assert {"processor_rrsis.py", "image_processing_rrsis.py", "expression_rrsis.py"} <= names
    assert not [path for path in folder.iterdir() if path.is_dir()]
    project = str(Path(__file__).resolve().parents[2])
    for path in folder.iterdir():
        if path.suffix in (".json", ".md", ".py"):
            text = path.read_text()
            keys = ("is_local", "_name_or_path", "local_files_only") if path.suffix == ".json" else ()
            for leak in (str(root), str(Path.home()) + "/", project, *keys):
                assert leak not in text, f"{leak} in {path.name}"
    config = json.loads((folder / "config.json").read_text())
    assert config["auto_map"] == {
        "AutoConfig": "configuration_rrsis.FIANetConfig",
        "AutoModel": "modeling_fianet.FIANetForReferringSegmentation",
        "AutoModelForImageSegmentation": "modeling_fianet.FIANetForReferringSegmentation",
    }
    task = config["custom_pipelines"]["referring-image-segmentation"]
    assert task["impl"] == "pipeline_rrsis.ReferringSegmentationPipeline"
    assert json.loads((folder / "metrics.json").read_text()) == {"test": {"mIoU": 1.5}}


def test_lavt_folder_carries_no_code_of_its_children(folders):
    names = {path.name for path in (folders / "hub" / "lavt").iterdir()}
    assert "modeling_fianet.py" not in names
    assert "modeling_danet.py" not in names
