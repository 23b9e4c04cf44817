"""LoRA by PEFT and 8-bit linear layers by torchao: the three models train and load with them."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModel

from modeling_rrsis import MODELS

from .tiny import TINY, tiny_inputs, tiny_labels, tiny_model

peft = pytest.importorskip("peft")

TRAINING = Path(__file__).parents[2] / "docs" / "training.md"
# What docs/training.md names: BERT's and Swin's attention, and the parts with BatchNorm, which train as a whole.
(TARGETS,) = re.findall(r'^TARGETS = r"(.+)"$', TRAINING.read_text(encoding="utf-8"), flags=re.MULTILINE)
WHOLE = {
    "lavt": ["decoder"],
    "danet": ["decoder", "predictor"],
    "fianet": ["decoder", "tmem"],
    "rmsin": ["cim", "decoder", "intra_scale"],
}
# Wide enough that no linear layer has a single input, of which torchao makes no 8-bit layer.
WIDE = {"backbone_kwargs": {**TINY["backbone_kwargs"], "embed_dim": 16}}
each = pytest.mark.parametrize("name", list(MODELS))


def config(name, **options):
    return peft.LoraConfig(target_modules=TARGETS, modules_to_save=WHOLE[name], r=4, **options)


def train(model, steps=4):
    """Losses of a few steps on one batch."""
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-3)
    losses = []
    model.train()
    for _ in range(steps):
        torch.manual_seed(0)  # the same dropout in every step
        loss = model(**tiny_inputs(), labels=tiny_labels()).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model.eval()
    return losses


@torch.no_grad()
def logits_of(model):
    return model.eval()(**tiny_inputs()).logits


@each
def test_whole_parts_are_those_with_batch_norm(name):
    """Their running statistics move in training, and an adapter's file holds none of the layers around it."""
    modules = tiny_model(name).named_modules()
    norms = [key for key, module in modules if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    parts = [set(key.split(".")) & set(WHOLE[name]) for key in norms]
    assert all(parts)
    assert set.union(*parts) == set(WHOLE[name])


@each
def test_lora_trains_is_saved_loaded_and_merged(name, tmp_path):
    tiny_model(name).save_pretrained(tmp_path / "base")
    model = peft.get_peft_model(tiny_model(name), config(name))
    assert len(model.targeted_module_names) == 2 * 2 + 2 * 5  # layers of BERT, blocks of Swin
    before = {key: value.clone() for key, value in model.named_parameters()}
    losses = train(model)
    assert losses[-1] < losses[0]
    moved = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    assert moved == {key for key, value in model.named_parameters() if value.requires_grad}
    assert all("lora_" in key or "modules_to_save" in key for key in moved)
    model.save_pretrained(tmp_path / "adapter")
    base = AutoModel.from_pretrained(tmp_path / "base")
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")
    torch.testing.assert_close(logits_of(loaded), logits_of(model), atol=1e-6, rtol=0)
    torch.testing.assert_close(logits_of(loaded.merge_and_unload()), logits_of(model), atol=1e-5, rtol=0)


def eight_bit():
    quantization = pytest.importorskip("torchao.quantization", reason="torchao: pip install -e '.[quantize]'")
    from transformers import TorchAoConfig

    parts = sorted({part for whole in WHOLE.values() for part in whole})
    return TorchAoConfig(quantization.Int8WeightOnlyConfig(), modules_to_not_convert=parts)


@each
def test_8_bit_layers_load_are_saved_and_train_with_lora(name, tmp_path):
    quantization = eight_bit()
    model = tiny_model(name, **WIDE)
    model.save_pretrained(tmp_path / "base")
    small = AutoModel.from_pretrained(tmp_path / "base", quantization_config=quantization)
    linear = {key: layer for key, layer in small.named_modules() if isinstance(layer, nn.Linear)}
    rounded = {key for key, layer in linear.items() if type(layer.weight.data) is not torch.Tensor}
    assert rounded == {key for key in linear if not set(key.split(".")) & set(WHOLE[name])}
    expected = logits_of(small)
    assert 0 < (expected - logits_of(model)).abs().max() < 0.05 * logits_of(model).abs().max()
    small.save_pretrained(tmp_path / "small")
    sizes = [(tmp_path / folder / "model.safetensors").stat().st_size for folder in ("base", "small")]
    assert sizes[1] < 0.8 * sizes[0]
    assert torch.equal(logits_of(AutoModel.from_pretrained(tmp_path / "small")), expected)
    adapted = peft.get_peft_model(small, config(name))
    losses = train(adapted)
    assert losses[-1] < losses[0]
    adapted.save_pretrained(tmp_path / "adapter")
    loaded = peft.PeftModel.from_pretrained(AutoModel.from_pretrained(tmp_path / "small"), tmp_path / "adapter")
    torch.testing.assert_close(logits_of(loaded), logits_of(adapted), atol=1e-6, rtol=0)
