"""The three models in the hands of PyTorch, accelerate and `Trainer`."""

import pytest
import torch
from transformers import Trainer, TrainingArguments

from modeling_rrsis import MODELS

from .tiny import tiny_inputs, tiny_labels, tiny_model

each = pytest.mark.parametrize("name", list(MODELS))
# Graphs take seconds to make; these two hold all of LAVT, and test_multi_scale.py has what RMSIN adds.
each_graph = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in ("danet", "fianet") else [pytest.mark.slow]) for name in MODELS],
)


@pytest.fixture
def model(name):
    return tiny_model(name).eval()


@each_graph
@torch.no_grad()
def test_compiles_whole(name, model):
    torch.compiler.reset()
    inputs, labels = tiny_inputs(), tiny_labels()
    expected = model(**inputs, labels=labels)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(**inputs).logits, expected.logits)
    torch.testing.assert_close(compiled(**inputs, labels=labels).loss, expected.loss)


@each_graph
@pytest.mark.parametrize(
    "backend",
    ["eager", *(pytest.param(backend, marks=pytest.mark.slow) for backend in ("aot_eager", "inductor"))],
)
def test_training_step_compiles_whole(name, backend):
    """Without a graph break, DANet's recomputed affinity loss included, to the same loss, gradients and buffers."""
    torch.compiler.reset()
    results = []
    for compiled in (False, True):
        model = tiny_model(name).train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        step = torch.compile(model, fullgraph=True, backend=backend) if compiled else model
        output = step(**tiny_inputs(), labels=tiny_labels())
        output.loss.backward()
        gradients = {f"gradient of {key}": parameter.grad for key, parameter in model.named_parameters()}
        results.append({"loss": output.loss.detach(), **gradients, **dict(model.named_buffers())})
        assert (output.loss_dict or {}).keys() == {
            "lavt": set(),
            "danet": {"binary_cross_entropy", "affinity"},
            "fianet": {"cross_entropy", "dice"},
            "rmsin": {"cross_entropy", "dice"},
        }[name]
    for key, plain in results[0].items():
        torch.testing.assert_close(results[1][key], plain, atol=2e-5, rtol=1e-4, msg=lambda text, key=key: key + text)


@each_graph
@torch.no_grad()
def test_exports_with_any_batch_and_length(name, model):
    batch, length = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("length", min=3, max=32)
    inputs = tiny_inputs(batch_size=3)
    shapes = {key: {0: batch} if key == "pixel_values" else {0: batch, 1: length} for key in inputs}
    exported = torch.export.export(model, args=(), kwargs=inputs, dynamic_shapes=shapes).module()
    for batch_size, num_tokens in ((1, 5), (3, 7), (5, 12)):
        given = tiny_inputs(batch_size=batch_size, length=num_tokens)
        torch.testing.assert_close(exported(**given).logits, model(**given).logits)


@pytest.mark.slow
@each
@torch.no_grad()
def test_exports(name, model):
    inputs = {**tiny_inputs(), "labels": tiny_labels()}
    exported = torch.export.export(model, args=(), kwargs=inputs)
    other = {**inputs, "pixel_values": inputs["pixel_values"].flip(-1), "input_ids": inputs["input_ids"].flip(0)}
    for given in (inputs, other):
        result, expected = exported.module()(**given), model(**given)
        torch.testing.assert_close(result.logits, expected.logits)
        torch.testing.assert_close(result.loss, expected.loss)


@each
def test_autocast_stays_near_and_trains(name, model):
    inputs, labels = tiny_inputs(), tiny_labels()
    with torch.no_grad():
        expected = model(**inputs).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**inputs, labels=labels)
    assert output.loss.dtype is torch.float32
    assert (output.logits - expected).abs().max() < 0.05 * expected.abs().max()
    output.loss.backward()
    assert [key for key, parameter in model.named_parameters() if not parameter.grad.isfinite().all()] == []


@each
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


@pytest.mark.parametrize("name", ["lavt", pytest.param("danet", marks=pytest.mark.slow)])
def test_trainer_logs_the_same_loss_with_accumulation(name, model, tmp_path):
    """The loss is a mean over the batch: two steps of two samples log that of one step of four, not its double."""
    inputs = {**tiny_inputs(batch_size=4), "labels": tiny_labels(batch_size=4)}
    rows = [{key: value[index] for key, value in inputs.items()} for index in range(4)]
    arguments = {"max_steps": 1, "logging_steps": 1, "use_cpu": True, "report_to": [], "disable_tqdm": True}
    losses = []
    for steps in (1, 2, 4):
        accumulation = {"per_device_train_batch_size": 4 // steps, "gradient_accumulation_steps": steps}
        trainer = Trainer(
            model=tiny_model(name, fusion_dropout=0.0, affinity_weight=0.0, dice_reduction="mean").eval(),
            args=TrainingArguments(output_dir=str(tmp_path / str(steps)), **arguments, **accumulation),
            train_dataset=rows,
        )
        trainer.train()
        losses.append(trainer.state.log_history[0]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.1)
    assert losses[2] == pytest.approx(losses[0], rel=0.1)


@each
@pytest.mark.parametrize("device_map", ["auto", "cpu", {"": "cpu"}])
@torch.no_grad()
def test_device_map_loads(name, model, device_map, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = MODELS[name].from_pretrained(tmp_path, device_map=device_map)
    assert torch.equal(loaded(**tiny_inputs()).logits, model(**tiny_inputs()).logits)


@each
@torch.no_grad()
def test_dtype_is_that_of_the_call_of_the_file_or_float32(name, model, tmp_path):
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    for dtype, expected in (("auto", torch.bfloat16), ("float16", torch.float16), (torch.float32, torch.float32)):
        loaded = MODELS[name].from_pretrained(tmp_path, dtype=dtype)
        assert {parameter.dtype for parameter in loaded.parameters()} == {expected}
        assert loaded(**tiny_inputs()).logits.dtype is expected
        loss = loaded(**tiny_inputs(), labels=tiny_labels()).loss
        assert loss.dtype is torch.float32
        assert loss.isfinite()


@each
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


@each
@torch.no_grad()
def test_attention_weights_are_shares_of_the_real_words(name, model):
    inputs = tiny_inputs()
    attentions = model(**inputs, output_attentions=True).attentions
    assert [tuple(weights.shape) for weights in attentions] == [(2, 1, size * size, 7) for size in (16, 8, 4, 2)]
    for weights in attentions:
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
        assert weights[1, ..., inputs["attention_mask"][1] == 0].eq(0).all()
    assert model(**inputs).attentions is None


@each
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
