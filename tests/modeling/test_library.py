"""The three models in the hands of PyTorch, accelerate and `Trainer`."""

import pytest
import torch
from transformers import Trainer, TrainingArguments

from modeling_rrsis import MODELS

from .tiny import tiny_inputs, tiny_labels, tiny_model

pytestmark = pytest.mark.parametrize("name", list(MODELS))


@pytest.fixture
def model(name):
    return tiny_model(name).eval()


@torch.no_grad()
def test_compiles_whole(name, model):
    torch.compiler.reset()
    inputs, labels = tiny_inputs(), tiny_labels()
    expected = model(**inputs, labels=labels)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(**inputs).logits, expected.logits)
    torch.testing.assert_close(compiled(**inputs, labels=labels).loss, expected.loss)


@torch.no_grad()
def test_exports(name, model):
    inputs = {**tiny_inputs(), "labels": tiny_labels()}
    exported = torch.export.export(model, args=(), kwargs=inputs)
    other = {**inputs, "pixel_values": inputs["pixel_values"].flip(-1), "input_ids": inputs["input_ids"].flip(0)}
    for given in (inputs, other):
        result, expected = exported.module()(**given), model(**given)
        torch.testing.assert_close(result.logits, expected.logits)
        torch.testing.assert_close(result.loss, expected.loss)


def test_autocast_stays_near_and_trains(name, model):
    inputs, labels = tiny_inputs(), tiny_labels()
    with torch.no_grad():
        expected = model(**inputs).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**inputs, labels=labels)
    assert output.loss.dtype is torch.float32
    assert (output.logits - expected).abs().max() < 0.05 * expected.abs().max()
    output.loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_trainer_trains(name, model, tmp_path):
    inputs = {**tiny_inputs(batch_size=4), "labels": tiny_labels(batch_size=4)}
    rows = [{key: value[index] for key, value in inputs.items()} for index in range(4)]
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=2,
        learning_rate=1e-3,
        gradient_checkpointing=True,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows)
    result = trainer.train()
    assert result.global_step == 2
    assert result.training_loss > 0
    moved = {key.split(".")[0] for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    assert moved == {key.split(".")[0] for key in before}
    assert trainer.evaluate()["eval_loss"] > 0
    assert trainer.predict(rows).predictions.shape == (4, 64, 64)


@pytest.mark.parametrize("device_map", ["cpu", {"": "cpu"}])
@torch.no_grad()
def test_device_map_loads(name, model, device_map, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = MODELS[name].from_pretrained(tmp_path, device_map=device_map)
    assert torch.equal(loaded(**tiny_inputs()).logits, model(**tiny_inputs()).logits)


@torch.no_grad()
def test_attention_implementations_agree(name, model, tmp_path):
    model.save_pretrained(tmp_path)
    logits = []
    for implementation in ("eager", "sdpa", {"text_config": "eager"}):
        loaded = MODELS[name].from_pretrained(tmp_path, attn_implementation=implementation)
        chosen = implementation["text_config"] if isinstance(implementation, dict) else implementation
        assert loaded.text_encoder.config._attn_implementation == chosen
        logits.append(loaded(**tiny_inputs()).logits)
    torch.testing.assert_close(logits[0], logits[1], atol=1e-5, rtol=0)
    assert torch.equal(logits[0], logits[2])
    loaded.set_attn_implementation("sdpa")
    assert torch.equal(loaded(**tiny_inputs()).logits, logits[1])
    with pytest.raises(ValueError, match="flex_attention"):
        MODELS[name].from_pretrained(tmp_path, attn_implementation="flex_attention")


@torch.no_grad()
def test_attention_weights_are_shares_of_the_real_words(name, model):
    inputs = tiny_inputs()
    attentions = model(**inputs, output_attentions=True).attentions
    assert [tuple(weights.shape) for weights in attentions] == [(2, 1, size * size, 7) for size in (16, 8, 4, 2)]
    for weights in attentions:
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
        assert weights[1, ..., inputs["attention_mask"][1] == 0].eq(0).all()
    assert model(**inputs).attentions is None


@torch.no_grad()
def test_hidden_states_of_chosen_stages(name, model):
    everything = model(**tiny_inputs(), output_hidden_states=True).hidden_states
    chosen = model(**tiny_inputs(), output_hidden_states=[0, -2]).hidden_states
    assert [state is not None for state in chosen] == [True, False, True, False]
    assert torch.equal(chosen[0], everything[0])
    assert torch.equal(chosen[2], everything[2])
    model.config.output_hidden_states = True
    assert len(model(**tiny_inputs()).hidden_states) == 4
    assert model(**tiny_inputs(), output_hidden_states=False).hidden_states is None
    with pytest.raises(ValueError, match=r"from -4 to 3, got \[4\]"):
        model(**tiny_inputs(), output_hidden_states=[4])
