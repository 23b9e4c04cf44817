"""What all models promise."""

import pytest
import torch
from accelerate import infer_auto_device_map
from huggingface_hub.errors import StrictDataclassError

from modeling_rrsis import MODELS, DANetConfig, FIANetConfig, LAVTConfig, RMSINConfig
from processing_rrsis.training.batch_norm import freeze_batch_norm

from .tiny import TINY, tiny_inputs, tiny_labels, tiny_model

CHECKPOINTING = "gradient_checkpointing"
pytestmark = pytest.mark.parametrize("name", list(MODELS))


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (50, 75), (97, 33)])
def test_any_size_gives_logits_of_that_size(name, size):
    model = tiny_model(name).eval()
    with torch.no_grad():
        output = model(**tiny_inputs(height=size[0], width=size[1]), output_hidden_states=True)
    assert output.logits.shape == (2, *size)
    assert output.logits.isfinite().all()
    assert output.loss is None
    maps = [tuple(state.shape[1:]) for state in output.hidden_states]
    expected, height, width = [], -(-size[0] // 4), -(-size[1] // 4)
    for channels in (8, 16, 32, 64):
        expected.append((channels, height, width))
        height, width = -(-height // 2), -(-width // 2)
    assert maps == expected


def test_every_parameter_gets_a_gradient(name):
    model = tiny_model(name).train()
    model(**tiny_inputs(), labels=tiny_labels()).loss.backward()
    dead = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert dead == []


def test_loss_falls_when_a_sample_is_learned(name):
    torch.manual_seed(0)
    model = tiny_model(name).train()
    inputs, labels = tiny_inputs(), tiny_labels()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_expression_changes_the_logits(name):
    model = tiny_model(name).eval()
    inputs = tiny_inputs()
    other = {**inputs, "input_ids": inputs["input_ids"].flip(0)}
    with torch.no_grad():
        difference = (model(**inputs).logits - model(**other).logits).abs().max()
    assert difference > 1e-4


def test_sample_does_not_depend_on_neighbours_or_padding(name):
    model = tiny_model(name).eval()
    inputs = tiny_inputs()
    alone = {key: value[:1] for key, value in inputs.items()}
    padded = {
        key: value if key == "pixel_values" else torch.nn.functional.pad(value, (0, 5)) for key, value in alone.items()
    }
    with torch.no_grad():
        reference = model(**inputs).logits[:1]
        torch.testing.assert_close(model(**alone).logits, reference, atol=1e-5, rtol=0)
        torch.testing.assert_close(model(**padded).logits, reference, atol=1e-5, rtol=0)


def test_eval_mode_is_deterministic_and_tuple_equals_dict(name):
    model = tiny_model(name).eval()
    inputs, labels = tiny_inputs(), tiny_labels()
    with torch.no_grad():
        first = model(**inputs, labels=labels)
        second = model(**inputs, labels=labels, return_dict=False)
    assert torch.equal(first.loss, second[0])
    assert torch.equal(first.logits, second[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_save_and_load_are_exact(name, dtype, tmp_path):
    model = tiny_model(name).to(dtype).eval()
    model.save_pretrained(tmp_path)
    loaded = MODELS[name].from_pretrained(tmp_path, dtype=dtype).eval()
    model.config.text_config.dtype = loaded.config.text_config.dtype  # from_pretrained sets it
    assert loaded.config.to_dict() == {**model.config.to_dict(), "_name_or_path": str(tmp_path)}
    assert set(loaded.state_dict()) == set(model.state_dict())
    inputs = tiny_inputs()
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients_and_buffers(name, use_reentrant):
    inputs, labels = tiny_inputs(), tiny_labels()
    inputs["pixel_values"] = inputs["pixel_values"].double()
    results = []
    for checkpointing in (False, True):
        model = tiny_model(name).double().train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})
            layers = {type(module).__name__ for module in model.modules() if getattr(module, CHECKPOINTING, False)}
            fusion = {"fianet": "FIANetStageFusion"}.get(name, "LAVTStageFusion")
            assert layers >= {"SwinBlock", fusion, "ConvBlock", "BertLayer"}
        model(**inputs, labels=labels).loss.backward()
        gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
        results.append({**gradients, **dict(model.named_buffers())})
    for key, plain in results[0].items():
        torch.testing.assert_close(results[1][key], plain, atol=1e-9, rtol=1e-7, msg=key)


def test_a_misspelt_argument_is_refused(name):
    with pytest.raises(TypeError, match="ground_objects_mask"):
        tiny_model(name)(**tiny_inputs(), ground_objects_mask=None)


@torch.no_grad()
def test_parts_on_a_disk_are_fetched_where_they_are_called(name, tmp_path):
    """As with several devices: accelerate brings weights and inputs to a module when it is called, not before."""
    model = tiny_model(name).eval()
    model.save_pretrained(tmp_path / "model")
    half = sum(parameter.numel() for parameter in model.parameters()) * 2  # bytes
    device_map = infer_auto_device_map(
        model, max_memory={"cpu": half, "disk": 2 * half}, no_split_module_classes=model._no_split_modules
    )
    loaded = MODELS[name].from_pretrained(
        tmp_path / "model", device_map=device_map, offload_folder=str(tmp_path / "offload")
    )
    assert sum(parameter.device.type == "meta" for parameter in loaded.parameters()) > 0
    torch.testing.assert_close(loaded(**tiny_inputs()).logits, model(**tiny_inputs()).logits)


def test_wrong_shapes_say_what_was_expected(name):
    model = tiny_model(name).eval()
    inputs = tiny_inputs()
    with pytest.raises(ValueError, match="at least 32, got"):
        model(**{**inputs, "pixel_values": inputs["pixel_values"][:, :, :20]})
    with pytest.raises(ValueError, match="got `pixel_values` of 3 images and `input_ids` of 2 expressions"):
        model(**{**inputs, "pixel_values": inputs["pixel_values"].repeat(2, 1, 1, 1)[:3]})
    with pytest.raises(ValueError, match=r"`input_ids` must be \(batch, length\), got \(7,\)"):
        model(**{**inputs, "input_ids": inputs["input_ids"][0]})
    for rows, length in ((0, 7), (2, 0)):
        with pytest.raises(ValueError, match="expected at least one image and one expression of a token, got"):
            model(**tiny_inputs() | {"input_ids": inputs["input_ids"][:rows, :length]})
    with pytest.raises(ValueError, match="at most 32 tokens"):
        model(**tiny_inputs(length=40))
    with pytest.raises(ValueError, match="shape of `input_ids`"):
        model(**{**inputs, "attention_mask": inputs["attention_mask"][:, :3]})
    with pytest.raises(ValueError, match="segmentation_maps"):
        model(**inputs, labels=tiny_labels(height=32))


@pytest.mark.parametrize(("side", "changes"), [(32, {}), (64, {"backbone_kwargs": {"patch_size": 8}})])
def test_a_single_value_is_too_few_for_batch_norm(name, side, changes):
    changes = {key: {**TINY[key], **value} for key, value in changes.items()}
    model, inputs = tiny_model(name, **changes).train(), tiny_inputs(batch_size=1, height=side, width=side)
    if name != "lavt":  # whose decoder begins at the third stage
        with pytest.raises(ValueError, match="training: expected a batch of 2 or larger images, BatchNorm got"):
            model(**inputs)
    model(**tiny_inputs(batch_size=1, height=side, width=2 * side))
    freeze_batch_norm(model)
    model(**inputs)


def test_values_of_labels_are_checked(name):
    model, labels = tiny_model(name), tiny_labels()
    model(**tiny_inputs(), labels=labels)
    labels[labels == 1] = 2
    with pytest.raises(ValueError, match=r"0 \(background\), 1 \(target\) or 255 \(ignored\), got also \[2\]"):
        model(**tiny_inputs(), labels=labels)


def test_offline_backbones_say_how_to_get_them(name, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OSError, match="Offline, download them once"):
        MODELS[name].from_backbones(tiny_model(name).config, text=str(tmp_path / "nothing"))


def test_a_wrong_backbone_is_no_failed_download(name, tmp_path):
    source = tiny_model(name)
    source.text_encoder.save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="must name a Swin Transformer of timm, got 'resnet50'"):
        MODELS[name].from_backbones(source.config, vision="resnet50", text=str(tmp_path / "bert"))


def test_backbones_load_from_local_files(name, tmp_path):
    source = tiny_model(name)
    source.text_encoder.save_pretrained(tmp_path / "bert")
    torch.save(source.vision.state_dict(), tmp_path / "swin.pth")
    torch.manual_seed(5)
    given = source.config.to_dict()
    model = MODELS[name].from_backbones(source.config, vision=str(tmp_path / "swin.pth"), text=str(tmp_path / "bert"))
    for part in ("vision", "text_encoder"):
        for key, value in source.get_submodule(part).state_dict().items():
            assert torch.equal(value, model.get_submodule(part).state_dict()[key]), key
    assert source.config.to_dict() == given
    assert not torch.equal(source.decoder.blocks[0].conv1.weight, model.decoder.blocks[0].conv1.weight)


def test_a_file_of_other_weights_is_refused(name, tmp_path):
    source = tiny_model(name)
    source.text_encoder.save_pretrained(tmp_path / "bert")
    torch.save({"conv.weight": torch.ones(3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"lacks \d+ of the weights"):
        MODELS[name].from_backbones(source.config, vision=str(tmp_path / "other.pth"), text=str(tmp_path / "bert"))


@pytest.mark.parametrize(
    ("config_class", "field", "value"),
    [
        (LAVTConfig, "fusion_num_heads", [1, 1]),
        (LAVTConfig, "image_size", 16),
        (LAVTConfig, "fusion_num_heads", 3),
        (LAVTConfig, "class_weights", [1.0]),
        (LAVTConfig, "class_weights", [float("nan"), 1.0]),
        (LAVTConfig, "initializer_range", -1.0),
        (LAVTConfig, "backbone", 3),
        (DANetConfig, "affinity_weight", float("inf")),
        (DANetConfig, "predictor_mlp_ratio", 0.0),
        (FIANetConfig, "tmem_mlp_ratio", -1.0),
        (FIANetConfig, "use_channel_modulation", "no"),
        (DANetConfig, "predictor", "magic"),
        (DANetConfig, "affinity_stages", [0, 1]),
        (DANetConfig, "affinity_stages", [2, 2]),
        (DANetConfig, "affinity_stages", []),
        (DANetConfig, "affinity_threshold", 1.5),
        (FIANetConfig, "stage_output", "raw"),
        (FIANetConfig, "num_tmem_layers", 0),
        (RMSINConfig, "max_rotation", 50),
        (RMSINConfig, "routing_dropout", 2),
    ],
)
def test_config_names_the_wrong_field(name, config_class, field, value):
    with pytest.raises(StrictDataclassError, match=field):
        config_class(**{field: value})


@pytest.mark.parametrize("backbone", ["resnet50", "swin_nope", "swinv2_tiny_window8_256"])
def test_only_swin_is_a_backbone(name, backbone):
    with pytest.raises(ValueError, match=f"got '{backbone}'"):
        tiny_model(name, backbone=backbone)


def test_heads_must_divide_the_width(name):
    with pytest.raises(ValueError, match="got 3 heads for 8 channels"):
        tiny_model(name, fusion_num_heads=[3, 1, 1, 1])
