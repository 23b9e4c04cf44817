"""Our networks against numbers measured from the authors' code: outputs, losses, gradients, optimizer steps.

The weights take the converter's way, so that its table of keys is what is tested, too.
"""

import json

import numpy as np
import pytest
import torch

from modeling_rrsis.convert.conversion import MODELS, translate
from modeling_rrsis.convert.sizes import read_sizes
from modeling_rrsis.loss_rrsis import dice_loss, weighted_cross_entropy
from processing_rrsis.training.optimization import parameter_groups, poly_schedule

from .parity import (
    GOLDEN,
    Golden,
    make_tensor,
    numbers_of,
    published_keys,
    published_state,
    raw,
    sample_positions,
    target_of,
    uniform,
)
from .tiny import tiny_model

TINY = ("fianet1_tiny", "lavt_one_tiny")
CASES = ("A_sq128_b1", "B_sq160_b2", "C_rect150x203_b1", "D_sq224_b1")
FLOAT64_TOLERANCE = 1e-6  # relative to the largest value; the goldens are rounded to float32 (6e-8)
FLOAT32_TOLERANCE = 4  # times the difference between the authors' float32 and float64 runs
GRADIENT_TOLERANCE = 1e-5  # relative; asked for are 1e-3
STEP_TOLERANCE = 1e-4  # relative, of what three optimizer steps changed
ZERO_GRADIENT = 1e-9  # biases before an InstanceNorm: zero in theory, about 1e-14 here and there


def small():
    return json.loads((GOLDEN / "small.json").read_text())


def arch_of(name):
    return {"remotesam": "rmsin"}.get(network := name.split("_")[0].rstrip("13"), network)


def convert(name):
    """Golden values of a published network, ours with its generated weights, and what the converter did."""
    golden = Golden(name)
    published = published_state(name, golden.rows)
    model_class = MODELS[arch_of(name)]
    sizes = read_sizes(arch_of(name), published)
    model = model_class(model_class.config_class(**sizes)).eval()
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    conversion = translate(published, arch_of(name), shapes=shapes, sizes=sizes)
    model.load_state_dict(conversion.state, strict=True)
    return golden, model, conversion


@pytest.fixture(scope="module", params=TINY)
def network(request):
    """One network after the other, so that only one is held; tests cast it as they need, which loses nothing."""
    return convert(request.param)


def run_with_features(model, inputs):
    """Logits and every intermediate tensor, under the names of the golden files."""
    found, handles = {}, []

    def keep(name, change=lambda value: value):
        return lambda module, arguments, output: found.__setitem__(name, change(output))

    nchw = lambda x: x.permute(0, 3, 1, 2)  # noqa: E731
    handles.append(model.vision.patch_embed.register_forward_hook(keep("patch_embed", nchw)))
    for i in (1, 2, 3):
        hook = keep(f"stage{i}_next", lambda x: x.flatten(1, 2))
        handles.append(model.vision.layers[i].downsample.register_forward_hook(hook))
    for module in ("tmem", "cim"):
        if hasattr(model, module):
            handles.append(model.get_submodule(module).register_forward_hook(keep("enhanced")))
    with torch.no_grad():
        output = model(**{**inputs, "pixel_values": inputs["pixel_values"].to(model.dtype)}, output_hidden_states=True)
        words = model.encode_text(**{key: value for key, value in inputs.items() if key != "pixel_values"}).words
    for handle in handles:
        handle.remove()
    found.update(zip(("l_feats", "t_feats", "p_feats"), words, strict=False))
    enhanced = found.pop("enhanced", output.hidden_states)
    for i in range(4):
        found[f"stage{i + 1}_norm"], found[f"x_c{i + 1}"] = output.hidden_states[i], enhanced[i]
    return output.logits, found


def golden_logits(golden, case):
    """The published decoder's target − background, upsampled to the image."""
    maps = golden[f"{case.name}/decoder"].double().unsqueeze(1)
    size = (case.height, case.width)
    return torch.nn.functional.interpolate(maps, size=size, mode="bilinear", align_corners=True).squeeze(1)


def relative_errors(golden, case, features):
    """Largest difference of each tensor at its stored positions, relative to its largest value there."""
    errors = {}
    for name, tensor in features.items():
        if f"{case.name}/{name}" not in golden.arrays:
            continue
        expected = golden[f"{case.name}/{name}"].double()
        positions = sample_positions(case.name, name, size=tensor.numel(), count=len(expected))
        values = tensor.contiguous().flatten()[positions].double()
        errors[name] = ((values - expected).abs().max() / expected.abs().max()).item()
    return errors


def float64_errors(golden, model, case_name):
    """Relative error of every stored tensor and of the logits, in float64."""
    case = golden.case(case_name)
    logits, features = run_with_features(model.double(), case.inputs)
    expected = golden_logits(golden, case)
    errors = relative_errors(golden, case, features)
    errors["logits"] = ((logits - expected).abs().max() / expected.abs().max()).item()
    return errors


def check_float64(golden, model, case_name):
    errors = float64_errors(golden, model, case_name)
    stored = {key.split("/")[1] for key in golden.arrays if key.startswith(f"{case_name}/")}
    assert stored - {"ids", "l_mask", "t_mask", "p_mask", "decoder"} == set(errors) - {"logits"}
    assert {key: error for key, error in errors.items() if not error <= FLOAT64_TOLERANCE} == {}


def float32_error(golden, model, case_name):
    """Largest absolute difference of the logits in float32, and the noise floor of the authors' own runs."""
    case = golden.case(case_name)
    logits, _ = run_with_features(model.float(), case.inputs)
    error = (logits.double() - golden_logits(golden, case)).abs().max().item()
    return error, golden.noise(case_name, "logits")


def check_float32(golden, model, case_name):
    error, noise = float32_error(golden, model, case_name)
    assert error <= FLOAT32_TOLERANCE * noise


def test_generator_gives_the_published_numbers():
    for vector in small()["generator"]:
        key, shape = vector["key"], vector["shape"]
        if "raw_u64_hex_first4" in vector:
            assert [f"{int(number):016x}" for number in raw(key, 0, 4)] == vector["raw_u64_hex_first4"]
        size = int(np.prod(shape))
        if key.startswith("input:"):
            values = uniform(key, 0, size).astype(np.float32)
        else:
            values = numbers_of(key, shape, 0, size)
        assert values[:4].tolist() == vector["float32_first4"]
        assert values.sum(dtype=np.float64) == pytest.approx(vector["sum_f64"], rel=1e-6, abs=1e-5)
    whole = make_tensor("a.weight", (5, 3))
    assert torch.equal(make_tensor("a.weight", (5, 3), rows=[1, 4]), whole[[1, 4]])


@pytest.mark.parametrize("case", CASES)
def test_float32_agrees_within_the_noise(network, case):
    golden, model, _ = network
    check_float32(golden, model, case)


@pytest.mark.parametrize("case", CASES)
def test_float64_agrees_in_every_tensor(network, case):
    golden, model, _ = network
    check_float64(golden, model, case)


@pytest.mark.slow
def test_base_agrees():
    golden, model, _ = convert("fianet3_base")
    check_float32(golden, model, "E_sq480_b1")
    check_float64(golden, model, "E_sq480_b1")


@pytest.mark.parametrize("name", ["rmsin_tiny", pytest.param("remotesam_tiny", marks=pytest.mark.slow)])
def test_rmsin_agrees_at_its_size(name):
    golden, model, _ = convert(name)
    (case,) = golden.cases
    check_float32(golden, model, case)
    check_float64(golden, model, case)


def test_losses_agree():
    for row in small()["losses"]:
        two = torch.tensor(row["logits"], dtype=torch.float64)
        labels = torch.tensor(row["target"])
        logits = (two[:, 1] - two[:, 0]).requires_grad_()
        cross_entropy = weighted_cross_entropy(logits, labels, class_weights=(0.9, 1.1))
        dice = dice_loss(logits, labels, reduction="sum")
        loss = (1 - row["dice_weight"]) * cross_entropy + row["dice_weight"] * dice
        loss.backward()
        assert cross_entropy.item() == pytest.approx(row["ce"], rel=1e-6, abs=1e-6)
        assert dice.item() == pytest.approx(row["dice_sum"], rel=1e-6, abs=1e-6)
        assert loss.item() == pytest.approx(row["loss"], rel=1e-6, abs=1e-6)
        background, target = torch.tensor(row["grad_logits"], dtype=torch.float64).unbind(1)
        torch.testing.assert_close(background, -target, atol=1e-9, rtol=0)  # why one channel suffices
        torch.testing.assert_close(logits.grad, target, atol=1e-9, rtol=1e-3)


def summary(published, tensor):
    """L2 norm and first four values as stored; the folded head's as those of the two-channel head."""
    norm, first = tensor.norm().item(), tensor.flatten()[:4].tolist()
    if published.startswith("classifier.conv1_1."):
        # The channels' gradients are opposite, and the background comes first.
        norm, first = norm * 2**0.5, [-value for value in first]
        first = [first[0], -first[0]] if published.endswith("bias") else first
    return np.array([norm, *first, *[np.nan] * (4 - len(first))])


@pytest.mark.parametrize("mode", ["eval", "bn_batch_stats"])
@pytest.mark.parametrize(
    "network", ["fianet1_tiny", pytest.param("lavt_one_tiny", marks=pytest.mark.slow)], indirect=True
)
def test_gradients_agree(network, mode):
    golden, model, conversion = network
    model.double()
    for module in model.modules():
        module.train(mode == "bn_batch_stats" and isinstance(module, torch.nn.BatchNorm2d))
    inputs, labels = training_batch(golden, golden.info["gradient_case"], dtype=torch.float64)
    loss = model(**inputs, labels=labels).loss
    parameters = dict(model.named_parameters())
    gradients = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
    try:
        assert loss.item() == pytest.approx(golden.info["losses"][mode], rel=1e-6)
        check_gradients(golden, conversion, gradients, golden.arrays[f"gradients/{mode}"])
        if mode == "bn_batch_stats":
            check_running_statistics(golden, conversion, dict(model.named_buffers()))
    finally:
        model.eval().load_state_dict(conversion.state)


def training_batch(golden, case_name, dtype):
    case = golden.case(case_name)
    pixels = case.inputs["pixel_values"].to(dtype)
    return {**case.inputs, "pixel_values": pixels}, target_of(case, batch=len(pixels))


def check_gradients(golden, conversion, gradients, table):
    wrong = {}
    for published, expected in zip(golden.info["parameters"], table, strict=True):
        ours = conversion.taken.get(published)
        if ours is None:
            assert np.isnan(expected).all(), f"{published} has a gradient and was dropped"
            continue
        actual = summary(published, gradients[ours])
        error = np.abs(actual - expected) - ZERO_GRADIENT
        if not np.nanmax(error / max(expected[0], ZERO_GRADIENT)) <= GRADIENT_TOLERANCE:
            wrong[published] = (actual.tolist(), expected.tolist())
    assert wrong == {}


def check_running_statistics(golden, conversion, buffers):
    for published, expected in zip(golden.info["buffers"], golden.arrays["buffers_after"], strict=True):
        buffer = buffers[conversion.taken[published]]
        np.testing.assert_allclose(
            [buffer.norm().item(), *buffer[:4].tolist()], expected, rtol=1e-6, err_msg=published
        )


@pytest.mark.parametrize("name", TINY)
def test_parameter_groups_are_the_published_ones(name):
    golden, arch = Golden(name), arch_of(name)
    published = {key: torch.empty(shape, device="meta") for key, shape in published_keys(name).items()}
    sizes = read_sizes(arch, published)
    with torch.device("meta"):
        model = MODELS[arch](MODELS[arch].config_class(**sizes))
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    taken = translate(published, arch, shapes=shapes, sizes=sizes).taken
    groups = {group["name"]: group for group in parameter_groups(model, learning_rate=5e-5, weight_decay=0.01)}
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    ours = {names[id(parameter)]: group for group in groups for parameter in groups[group]["params"]}
    theirs = {key: int(group) for key, group in zip(golden.info["parameters"], golden.arrays["groups"], strict=True)}
    expected = {0: "no_decay", 1: "decay", 2: "decay", 3: "text", -1: None}  # 2 is their classifier
    for published_key, our_key in taken.items():
        if published_key in theirs:
            group = "head" if our_key.startswith("head.") else expected[theirs[published_key]]
            assert ours.get(our_key) == group, published_key
    assert (groups["no_decay"]["weight_decay"], groups["decay"]["weight_decay"]) == (0.0, 0.01)
    assert groups["text"]["weight_decay"] == 0.01
    assert (groups["head"]["lr"], groups["head"]["weight_decay"]) == (1e-4, 0.005)


def test_the_decoder_decays_whole():
    """As published, the LayerNorm in RMSIN's decoder included; those of vision and fusion do not."""
    model = tiny_model("rmsin")
    groups = {group["name"]: {id(p) for p in group["params"]} for group in parameter_groups(model, 3e-5, 0.01)}
    assert id(model.decoder.blocks[0].conv2.routing_norm.weight) in groups["decay"]
    assert id(model.cim.norm.weight) in groups["decay"]
    assert id(model.fusion[0].language.norm.weight) in groups["no_decay"]


def test_learning_rates_are_the_published_ones():
    schedule = small()["schedule"]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=schedule["lr0"])
    factor = poly_schedule(optimizer, num_steps=schedule["total"]).lr_lambdas[0]
    for step, rate in schedule["values"].items():
        assert schedule["lr0"] * factor(int(step)) == pytest.approx(rate, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["fianet1_tiny"], indirect=True)
def test_three_steps_follow_the_published_trajectory(network):
    golden, model, conversion = network
    try:
        # In float32 Adam makes full steps of gradients that are rounding noise; the losses then agree to 1e-4.
        train_three_steps(golden, model.double())
        after = dict(model.named_parameters())
        for published, expected in zip(golden.info["parameters"], golden.arrays["deltas"], strict=True):
            ours = conversion.taken.get(published)
            if ours is None:
                continue
            # The two channels move in opposite directions, each half of what their difference does; what the decay
            # adds to each is a two-thousandth of a step.
            delta = (after[ours].detach() - conversion.state[ours]) / (2 if ours.startswith("head.") else 1)
            error = np.nanmax(np.abs(summary(published, delta) - expected)) / max(expected[0], 1e-7)
            assert error <= (1e-3 if ours.startswith("head.") else STEP_TOLERANCE), published
    finally:
        model.load_state_dict(conversion.state)


def train_three_steps(golden, model):
    """Train as published and compare each loss."""
    facts = golden.info["three_steps"]
    groups = parameter_groups(model, learning_rate=facts["lr0"], weight_decay=facts["weight_decay"])
    optimizer = torch.optim.AdamW(groups, betas=tuple(facts["betas"]), eps=facts["eps"], foreach=False)
    schedule = poly_schedule(optimizer, num_steps=facts["total_iterations"])
    inputs, labels = training_batch(golden, facts["case"], dtype=model.dtype)
    for step in facts["steps"]:
        loss = model(**inputs, labels=labels).loss
        assert loss.item() == pytest.approx(step["loss"], abs=1e-5)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(step["lr"], rel=1e-9)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.zero_grad(set_to_none=True)
    model.requires_grad_(True)
