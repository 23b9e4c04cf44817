"""The multi-scale modules that figure 9 of FIANet's paper compares: what each attends to, and any size."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from modeling_rrsis import FIANetConfig, FIANetForReferringSegmentation, RMSINConfig
from modeling_rrsis.multi_scale_rrsis import CrossScaleAttention

from .tiny import TINY, tiny_inputs, tiny_labels, tiny_model

MODULES = ["tmem", "cim", "lgce"]
OTHERS = ["cim", "lgce"]  # tmem is the default, which the tests of the three models hold


def without_dropout(model):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def random_stages(sizes=((8, 12), (4, 6), (2, 3), (1, 2))):
    """Stage maps of the tiny network."""
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(2, 8 * 2**i, *size, generator=generator) for i, size in enumerate(sizes)]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_stands_under_its_own_name(name):
    model = tiny_model("fianet", multi_scale=name)
    assert [child for child, _ in model.named_children() if child in MODULES] == [name]
    assert not [child for child, _ in tiny_model("fianet", multi_scale="none").named_children() if child in MODULES]


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize(
    "sizes", [((8, 12), (4, 6), (2, 3), (1, 2)), ((9, 12), (5, 6), (3, 3), (2, 2)), ((1, 1),) * 4]
)
def test_stages_keep_their_shapes(name, sizes):
    module = tiny_model("fianet", multi_scale=name).eval().get_submodule(name)
    features = random_stages(sizes)
    with torch.no_grad():
        enhanced = module(features, torch.randn(2, 5, 16), torch.ones(2, 5))
    assert [stage.shape for stage in enhanced] == [stage.shape for stage in features]
    assert all(stage.isfinite().all() for stage in enhanced)


@torch.no_grad()
def test_the_words_reach_tmem_and_lgce_but_not_cim():
    features, mask = random_stages(), torch.ones(2, 5)
    for name, reads in (("tmem", True), ("lgce", True), ("cim", False)):
        module = tiny_model("fianet", multi_scale=name).eval().get_submodule(name)
        first, second = (module(features, torch.randn(2, 5, 16), mask) for _ in range(2))
        differ = [not torch.equal(a, b) for a, b in zip(first, second, strict=True)]
        # InstanceNorm silences attention where it has no spread over pixels to scale; here every stage has some.
        assert differ == [reads] * 4, name


@torch.no_grad()
def test_cim_joins_all_four_scales_and_lgce_two():
    text = torch.randn(2, 5, 16), torch.ones(2, 5)
    reached = {
        "cim": {0: {0, 1, 2, 3}, 1: {0, 1, 2, 3}, 2: {0, 1, 2, 3}, 3: {0, 1, 2, 3}},
        "lgce": {0: {0}, 1: {0, 1}, 2: {1, 2, 3}, 3: {2, 3}},
    }
    for name, expected in reached.items():
        module = tiny_model("fianet", multi_scale=name).eval().get_submodule(name)
        for gate in module.gates:
            gate.register_forward_pre_hook(lambda gate, inputs: (torch.zeros_like(inputs[0]), inputs[1]))
        features = random_stages()
        reference = module(features, *text)
        for changed, stages in expected.items():
            others = [stage + (index == changed) * torch.randn_like(stage) for index, stage in enumerate(features)]
            shares = module(others, *text)
            assert {i for i in range(4) if not torch.equal(shares[i], reference[i])} == stages, (name, changed)


@torch.no_grad()
def test_cross_scale_attention_reads_two_reshapes_as_published():
    """By hand on a grid of 2×2: 4 + 1 + 1 tokens, one head, values twice as wide as keys."""
    attention = CrossScaleAttention(1, grid_size=2, num_heads=1, key_channels=1).eval()
    for parameter in attention.parameters():
        parameter.zero_()
    for norm in (attention.norm, attention.by_two[1], attention.by_three[1], attention.project_norm):
        norm.weight.fill_(1.0)
        norm.eps = 0.0
    attention.by_two[0].weight[0, 0, 1, 1] = 1.0  # takes the first pixel
    attention.by_three[0].weight[0, 0, 2, 3] = 1.0  # takes the first pixel's right neighbour
    attention.project.weight[2], attention.project.weight[3] = 1.0, 10.0  # the two channels of the values
    # Equal scores: every one of the six tokens gathers their mean, (1 + 2 + 3 + 4 + 1 + 2) / 6 = 13/6 and tenfold.
    # The rows of the (2, 6) matrix are that sequence's halves, so that both add up alternating ones and tens.
    attention.to_grid.weight[0] = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    attention.to_grid.weight[1] = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    gathered = []
    attention.gather.register_forward_pre_hook(lambda module, inputs: gathered.append(inputs[0][0].clone()))
    attention(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
    mean = 13 / 6
    expected = torch.tensor([[mean, mean], [10 * mean, 10 * mean], [0.0, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(gathered[0], expected)
    # The values (4, 2) of the grid's pixels, 1 10 2 20 | 3 30 4 40, are read as two maps of 2×2.
    attention.to_grid.weight.zero_()
    attention.local.weight[:, 0, 1, 1] = 1.0
    attention(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
    # Hardswish: x · (x + 3) / 6 below 3, x from there on.
    expected = torch.tensor([[4 / 6, 3.0], [10.0, 30.0], [10 / 6, 4.0], [20.0, 40.0]])
    torch.testing.assert_close(gathered[1], expected)


def test_the_grid_is_the_last_stages_at_the_trained_size():
    assert RMSINConfig().grid_size == 15
    assert RMSINConfig(image_size=896).grid_size == 28
    assert RMSINConfig(image_size=97, backbone_kwargs={"patch_size": 2}).grid_size == 7
    assert FIANetConfig(image_size=96).grid_size == 4
    assert RMSINConfig(image_size=480, grid_size=4).grid_size == 4


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 64), (480, 352)])
@torch.no_grad()
def test_any_size(name, size):
    model = tiny_model("fianet", multi_scale=name).eval()
    logits = model(**tiny_inputs(height=size[0], width=size[1])).logits
    assert logits.shape == (2, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", OTHERS)
@torch.no_grad()
def test_a_sample_does_not_depend_on_neighbours_or_padding(name):
    model = tiny_model("fianet", multi_scale=name).eval()
    inputs = tiny_inputs(height=97, width=161)
    alone = {key: value[1:] for key, value in inputs.items()}
    padded = {
        key: value if key == "pixel_values" else torch.nn.functional.pad(value, (0, 5)) for key, value in alone.items()
    }
    reference = model(**inputs).logits[1:]
    torch.testing.assert_close(model(**alone).logits, reference, atol=1e-5, rtol=0)
    torch.testing.assert_close(model(**padded).logits, reference, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", OTHERS)
@torch.no_grad()
def test_compiles_whole_and_exports(name):
    """The module alone; test_library.py holds it of the network around it."""
    torch.compiler.reset()
    module = tiny_model("fianet", multi_scale=name).eval().get_submodule(name)
    arguments = (random_stages(), torch.randn(2, 5, 16), torch.ones(2, 5))
    expected = module(*arguments)
    torch.testing.assert_close(torch.compile(module, fullgraph=True, backend="eager")(*arguments), expected)
    torch.testing.assert_close(torch.export.export(module, arguments).module()(*arguments), expected)


@pytest.mark.parametrize("name", OTHERS)
def test_checkpointing_gives_the_same_gradients(name):
    gradients = []
    for checkpointing in (False, True):
        model = without_dropout(tiny_model("fianet", multi_scale=name)).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(**tiny_inputs(), labels=tiny_labels()).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_saves_and_loads_exactly_in_half_precision(name, dtype, tmp_path):
    model = tiny_model("fianet", multi_scale=name).to(dtype).eval()
    model.save_pretrained(tmp_path)
    loaded = FIANetForReferringSegmentation.from_pretrained(tmp_path, dtype=dtype).eval()
    assert loaded.config.multi_scale == name
    logits = loaded(**tiny_inputs()).logits
    assert logits.dtype is dtype
    assert logits.isfinite().all()
    assert torch.equal(logits, model(**tiny_inputs()).logits)


@pytest.mark.parametrize("name", OTHERS)
def test_autocast_trains(name):
    model = without_dropout(tiny_model("fianet", multi_scale=name)).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**tiny_inputs(), labels=tiny_labels()).loss
    loss.backward()
    assert loss.dtype is torch.float32
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("name", MODULES)
def test_every_weight_of_a_module_moves_the_loss(name):
    """A gradient that is zero would be dead weight too. (Biases before a norm are, as published.)"""
    model = without_dropout(tiny_model("fianet", multi_scale=name, num_tmem_layers=2)).train()
    model(**tiny_inputs(), labels=tiny_labels()).loss.backward()
    weights = {key: p for key, p in model.get_submodule(name).named_parameters() if p.ndim > 1}
    assert len(weights) > 20
    assert [key for key, weight in weights.items() if weight.grad.abs().max() < 1e-8] == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("multi_scale", "fpn"),
        ("grid_size", 0),
    ],
)
def test_config_names_the_wrong_field(field, value):
    with pytest.raises(StrictDataclassError, match=field):
        FIANetConfig(**{field: value})


def test_the_bottleneck_must_divide_the_stages():
    with pytest.raises(ValueError, match=r"by 3, which must divide the stages' widths, got \[8, 16, 32, 64\]"):
        tiny_model("fianet", multi_scale="cim", tmem_bottleneck=3)


def test_files_of_the_former_cim_are_told_and_others_load():
    former = {"cim_num_heads": 1, "cim_pool_ratios": [1, 2, 4], "cim_local_kernel": 3}
    assert not hasattr(FIANetConfig(**TINY, **former), "cim_num_heads")
    with pytest.raises(ValueError, match="without cim_num_heads, cim_pool_ratios, cim_local_kernel"):
        FIANetConfig(**TINY, **former, multi_scale="cim")


def test_the_paper_has_no_bottleneck_in_either_frame():
    for name in ("tmem", "cim"):
        model = FIANetForReferringSegmentation(FIANetConfig.paper(**TINY, multi_scale=name))
        assert model.get_submodule(name).width == 8 + 16 + 32 + 64
