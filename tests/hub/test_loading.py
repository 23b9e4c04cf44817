"""Model folders whose configuration or numbers make no network: one line, before there is memory for them."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from processing_rrsis.errors import PLAIN_ERRORS
from processing_rrsis.expression_rrsis import resolve_categories
from processing_rrsis.hub.loading import load_pipeline
from processing_rrsis.hub.model_folder import save_hub_folder
from tests.tiny import build_tiny_model, build_tiny_processor


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loading") / "model"
    return save_hub_folder(build_tiny_model("fianet"), build_tiny_processor(), folder)


@pytest.fixture
def folder(saved, tmp_path):
    """A copy whose weights are those of the saved one."""
    (tmp_path / "model").mkdir()
    for path in saved.iterdir():
        if path.is_file():
            (tmp_path / "model" / path.name).write_bytes(path.read_bytes())
    return tmp_path / "model"


CHANGES = [
    ("config.json", ("num_tmem_layers",), 10**8),
    ("config.json", ("num_tmem_layers",), 200),
    ("config.json", ("text_config", "num_hidden_layers"), 10**8),
    ("config.json", ("text_config", "hidden_size"), -1),
    ("config.json", ("text_config", "hidden_size"), 10**9),
    ("config.json", ("text_config", "model_type"), "gpt2"),
    ("config.json", ("text_config", "model_type"), ["bert"]),
    ("config.json", ("text_config",), [1]),
    ("config.json", ("backbone_kwargs", "depths"), [10**8, 1, 1, 1]),
    ("config.json", ("backbone_kwargs", "depths"), "many"),
    ("config.json", ("backbone_kwargs", "embed_dim"), 10**9),
    ("config.json", ("backbone_kwargs", "patch_size"), 0),
    ("config.json", ("backbone_kwargs", "checkpoint_path"), "/etc/passwd"),
    ("config.json", ("backbone",), "resnet50"),
    ("config.json", ("image_size",), 10**9),
    ("config.json", ("model_type",), 7),
    ("config.json", ("fusion_num_heads",), 1),
    ("config.json", ("text_config", "layer_norm_eps"), 1e38),
    ("config.json", ("text_config", "layer_norm_eps"), float("nan")),
    ("processor_config.json", ("image_processor",), []),
    ("processor_config.json", ("processor_class",), "CLIPProcessor"),
    ("processor_config.json", ("image_processor", "image_processor_type"), "CLIPImageProcessor"),
    ("processor_config.json", ("image_processor", "size"), {"shortest_edge": 80}),
    ("tokenizer_config.json", ("model_input_names",), ["x"]),
    ("processor_config.json", ("max_length",), "long"),
    ("processor_config.json", ("categories",), 5),
]


@pytest.mark.parametrize(("file", "keys", "value"), CHANGES)
def test_configurations_that_make_no_network_are_told(folder, file, keys, value):
    settings = json.loads((folder / file).read_text())
    inner = settings
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    (folder / file).write_text(json.dumps(settings))
    with pytest.raises(PLAIN_ERRORS) as caught:
        load_pipeline(str(folder))
    assert "\n" not in str(caught.value).strip()


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_refused(folder, number):
    weights = load_file(folder / "model.safetensors")
    weights["head.weight"].view(-1)[0] = number
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="expected finite numbers"):
        load_pipeline(str(folder))


@pytest.mark.parametrize("number", [torch.nan, torch.inf, 1e38])
def test_buffers_that_are_no_numbers_are_refused(folder, number):
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("running_var"))
    weights[name].view(-1)[0] = number
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"expected finite numbers.*{name}"):
        load_pipeline(str(folder))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_std", [1e6] * 3),
        ("image_mean", [1e3] * 3),
        ("image_std", [0.2, 0.2, 1e3]),
        ("image_std", [0.0] * 3),
        ("image_std", [-1.0] * 3),
        ("image_std", [1e-30] * 3),
        ("image_mean", [float("nan")] * 3),
        ("rescale_factor", 0.0),
        ("rescale_factor", float("inf")),
        ("size", {"height": 10**9, "width": 10**9}),
    ],
)
def test_values_that_hide_the_image_are_refused(saved, field, value):
    pipe = load_pipeline(str(saved))
    setattr(pipe.processor.image_processor, field, value)
    with pytest.raises(ValueError, match="expected"):
        pipe(torch.zeros(8, 8, 3, dtype=torch.uint8).numpy(), text="the ship")


def test_a_network_that_answers_no_numbers_is_refused(saved):
    pipe = load_pipeline(str(saved))
    pipe.model.head.weight.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="got NaN"):
        pipe(torch.zeros(8, 8, 3, dtype=torch.uint8).numpy(), text="the ship")


def test_a_tokenizer_of_another_model_or_that_writes_texts_anew_is_refused(folder):
    file = folder / "tokenizer.json"
    whole = file.read_text()
    values = json.loads(whole)
    values["normalizer"] = {"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 2000}
    values["normalizer"] = {"type": "Sequence", "normalizers": [values["normalizer"]] * 4}
    file.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="normalizes as BERT's does, got Replace"):
        load_pipeline(str(folder))
    values = json.loads(whole)
    values["model"]["vocab"]["ship"] = 10_000
    file.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"expected a tokenizer of the network's .* words, got index 10,000"):
        load_pipeline(str(folder))
    with pytest.raises(ValueError, match="at most 2,000 names"):
        resolve_categories([f"thing {number}" for number in range(2_001)])
