"""The shorter ways on a CPU give the numbers of the plain ones, also where somebody has changed a layer."""

import copy
import io

import pytest
import torch
from timm.layers import Mlp
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrizations
from torch.nn.utils.fusion import fuse_conv_bn_eval

from modeling_rrsis.alignment_rrsis import TextFeatures
from modeling_rrsis.shortcuts_rrsis import (
    has_hooks,
    is_eager_cpu,
    is_plain,
    is_plain_conv3x3,
    keeps_for_backward,
    plain_ways,
)
from modeling_rrsis.windows_rrsis import can_be_planned

from .tiny import tiny_inputs, tiny_labels, tiny_model

HEIGHT, WIDTH = 72, 60  # maps that windows have to pad
NAMES = ("lavt", "danet", "fianet")


class Adapter(nn.Module):
    """A layer with something added, as LoRA does, dropout and bias included."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        width = next(iter(layer.parameters())).shape
        self.more = nn.Linear(width[1], width[0]).to(next(iter(layer.parameters())))

    def forward(self, x):
        return self.layer(x) + self.more(x)


class Doubled(Mlp):
    def forward(self, x):
        return 2 * super().forward(x)


def blocks(model):
    return [block for layer in model.vision.layers for block in layer.blocks]


def replaced(owner, name):
    setattr(owner, name, Adapter(getattr(owner, name)))


def hook(layer, change):
    layer.register_forward_hook(lambda module, args, out: change(out))


def each_block(change):
    return lambda model: [change(block) for block in blocks(model)]


def each_conv(change):
    return lambda model: [change(block) for block in model.decoder.blocks]


def each_fusion(change):
    modules = ("PixelWordAttention",)
    return lambda model: [change(m) for m in model.modules() if type(m).__name__ in modules]


def ramp(length):
    return torch.linspace(0.5, 1.5, length, dtype=torch.float64)


def by_column(out):
    return out * ramp(out.shape[2])[:, None]


def biased(block):
    block.conv2 = nn.Conv2d(block.conv2.in_channels, block.conv2.out_channels, 3, padding=1).double()


def other_conv(conv, padding=1, **settings):
    return nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=padding, bias=False, **settings).double()


def folded(block):
    for number in (1, 2):
        conv, norm = getattr(block, f"conv{number}"), getattr(block, f"norm{number}")
        setattr(block, f"conv{number}", fuse_conv_bn_eval(conv.eval(), norm.eval()))
        setattr(block, f"norm{number}", nn.Identity())


def grouped(block):
    block.norm1 = nn.GroupNorm(2, block.conv1.out_channels).double()


CHANGES = {
    "nothing": lambda model: None,
    "hook on norm1": each_block(lambda block: hook(block.norm1, by_column)),
    "hook on proj": each_block(lambda block: hook(block.attn.proj, lambda out: out * ramp(len(out)).view(-1, 1, 1))),
    "no dropout of attention": each_block(lambda block: setattr(block.attn, "attn_drop", nn.Identity())),
    "adapter on qkv": each_block(lambda block: replaced(block.attn, "qkv")),
    "hook on qkv": each_block(lambda block: hook(block.attn.qkv, lambda out: 1.5 * out + 0.5)),
    "other weights of qkv": each_block(lambda block: parametrizations.weight_norm(block.attn.qkv)),
    "hook on mlp": each_block(lambda block: hook(block.mlp, lambda out: 3 * out)),
    "class of mlp": each_block(lambda block: setattr(block.mlp, "__class__", Doubled)),
    "adapter on fc1": each_block(lambda block: replaced(block.mlp, "fc1")),
    "hook on dropout": each_block(lambda block: hook(block.mlp.drop1, torch.relu)),
    "norm without weights": each_block(
        lambda block: setattr(block, "norm2", nn.LayerNorm(block.norm2.normalized_shape, elementwise_affine=False))
    ),
    "bias in the decoder": each_conv(biased),
    "folded decoder": each_conv(folded),
    "other norm in the decoder": each_conv(grouped),
    "dilation": each_conv(lambda block: setattr(block, "conv2", other_conv(block.conv2, padding=2, dilation=2))),
    "groups": each_conv(lambda block: setattr(block, "conv2", other_conv(block.conv2, padding=1, groups=2))),
    "reflection": each_conv(lambda block: setattr(block, "conv2", other_conv(block.conv2, padding_mode="reflect"))),
    "hook on the decoder's norm": each_conv(lambda block: hook(block.norm2, torch.sigmoid)),
    "hook on query": each_fusion(lambda module: hook(module.query, torch.sigmoid)),
    "hook on output": each_fusion(lambda module: hook(module.output, torch.relu)),
    "adapter on output": each_fusion(lambda module: replaced(module, "output")),
}


@pytest.fixture
def inputs():
    inputs = tiny_inputs(height=HEIGHT, width=WIDTH)
    return {**inputs, "pixel_values": inputs["pixel_values"].double()}


def random_model(name, **overrides):
    """Every parameter matters, biases and gains too."""
    model = tiny_model(name, **overrides).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("training", [False, True])
def test_the_same_as_the_plain_ways(inputs, change, training):
    model = random_model("lavt", fusion_num_heads=[1, 2, 1, 2])
    before = model.eval()(**inputs).logits
    CHANGES[change](model)
    model.train(training)
    results = []
    for way in (plain_ways, torch.enable_grad):
        twin = copy.deepcopy(model)
        torch.manual_seed(0)  # BERT's dropout and Swin's dropped paths
        with way():
            output = twin(**inputs, labels=tiny_labels(height=HEIGHT, width=WIDTH))
        free = [parameter for parameter in twin.parameters() if parameter.requires_grad]
        results.append((output.logits, torch.autograd.grad(output.loss, free, allow_unused=True), [*twin.buffers()]))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-9, atol=1e-9)
    for ours, plain in zip(results[1][1], results[0][1], strict=True):
        assert (ours is None) == (plain is None)
        if ours is not None:
            torch.testing.assert_close(ours, plain, rtol=1e-6, atol=1e-6 * float(plain.abs().max()) + 1e-12)
    torch.testing.assert_close(results[1][2], results[0][2])
    with torch.no_grad():
        torch.manual_seed(0)
        torch.testing.assert_close(copy.deepcopy(model)(**inputs).logits, results[0][0], rtol=1e-9, atol=1e-9)
    if change not in ("nothing", "no dropout of attention", "other weights of qkv", "folded decoder") and not training:
        assert not torch.allclose(results[0][0], before, rtol=1e-4)


def test_what_is_plain():
    layer = nn.Linear(2, 2)
    assert is_plain(layer, nn.Linear)
    assert not is_plain(nn.modules.linear.NonDynamicallyQuantizableLinear(2, 2), nn.Linear)
    for register in ("register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"):
        handle = getattr(layer, register)(lambda *_: None)
        assert not is_plain(layer, nn.Linear)
        handle.remove()
        assert is_plain(layer, nn.Linear)
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert has_hooks(layer)
    handle.remove()
    assert not has_hooks(layer)
    layer.forward = lambda x: x
    assert not is_plain(layer, nn.Linear)


def test_weights_that_are_more_than_tensors_are_not_plain():
    class Packed(torch.Tensor):
        pass

    layer = nn.Linear(2, 2)
    layer.weight = nn.Parameter(torch.zeros(2, 2).as_subclass(Packed))
    assert not is_plain(layer, nn.Linear)


def test_what_a_plain_convolution_is():
    assert is_plain_conv3x3(nn.Conv2d(2, 2, 3, padding=1, bias=False))
    for other in ({"bias": True}, {"stride": 2}, {"dilation": 2}, {"groups": 2}, {"padding_mode": "circular"}):
        assert not is_plain_conv3x3(nn.Conv2d(2, 2, 3, **{"padding": 1, "bias": False, **other}))
    assert not is_plain_conv3x3(nn.Conv2d(2, 2, 5, padding=1, bias=False))
    assert not is_plain_conv3x3(nn.Conv2d(2, 2, 3, padding="same", bias=False))


@pytest.mark.parametrize("name", NAMES)
def test_every_module_is_called_where_all_are_watched(inputs, name):
    """As profilers and flop counters do it."""
    model = random_model(name).eval()
    calls = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: calls.append(module))
    counts = []
    for way in (plain_ways, torch.enable_grad):
        calls.clear()
        with way():
            model(**inputs)
        counts.append(len(calls))
    handle.remove()
    assert counts[0] == counts[1] > 100


@pytest.mark.parametrize("name", NAMES)
def test_hooks_keep_what_they_were_given(inputs, name):
    """Nothing is written over that a hook may have kept."""
    model = random_model(name).train()
    kept = []
    for layer in [block.norm2 for block in model.decoder.blocks] + [
        module.query for module in model.modules() if type(module).__name__ == "PixelWordAttention"
    ]:
        layer.register_forward_hook(lambda module, args, out: kept.append((out, out.detach().clone())))
        layer.register_full_backward_hook(lambda *_: None)
    model(**inputs, labels=tiny_labels(height=HEIGHT, width=WIDTH)).loss.backward()
    assert len(kept) >= 7
    for now, then in kept:
        torch.testing.assert_close(now, then, rtol=0, atol=0)


def test_dropout_that_alone_is_on_draws_for_each_row(inputs):
    """Monte Carlo dropout: the model evaluates, its dropout does not."""
    model = random_model("lavt", fusion_dropout=0.5).eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    same = {key: value[:1].expand(4, *value.shape[1:]) for key, value in inputs.items()}
    with torch.no_grad():
        logits = model(**same).logits
        words = model.encode_words(same["input_ids"], same["attention_mask"])
    assert not torch.allclose(logits[0], logits[1])
    assert not torch.allclose(words[0], words[1])


def test_attention_dropout_of_swin_is_drawn_for_each_row(inputs):
    """It alone is on, in evaluation, where maps are padded."""
    model = random_model("lavt").eval()
    for block in blocks(model):
        block.attn.attn_drop.p = 0.5
    same = {key: value[:1].expand(4, *value.shape[1:]) for key, value in inputs.items()}
    with torch.no_grad():
        still = model(**same).logits
        torch.testing.assert_close(still[0], still[1])
        for block in blocks(model):
            block.attn.attn_drop.train()
            assert not can_be_planned(block, inputs["pixel_values"])
        logits = model(**same).logits
    assert not torch.allclose(logits[0], logits[1])


def test_dropout_that_is_off_while_its_block_trains_is_off(inputs):
    model = random_model("lavt").eval()
    expected = model(**inputs).logits
    for block in blocks(model):
        block.attn.attn_drop.p = 0.5
        block.attn.training = True
    torch.testing.assert_close(model(**inputs).logits, expected)
    with plain_ways():
        torch.testing.assert_close(model(**inputs).logits, expected)


@pytest.mark.parametrize("heads", [1, 2])
def test_a_training_step_in_mixed_precision_is_the_plain_one(inputs, heads):
    """Nothing is made again where PyTorch keeps its halves, and no part is wider than without heads."""
    model = random_model("fianet", fusion_num_heads=[heads] * 4).float().eval()
    inputs["pixel_values"] = inputs["pixel_values"].float()
    kept = keeps_for_backward(inputs["pixel_values"])
    losses = []
    with torch.autocast("cpu", torch.bfloat16):
        assert kept
        assert not keeps_for_backward(inputs["pixel_values"])
        for way in (plain_ways, torch.enable_grad):
            with way():
                losses.append(model(**inputs, labels=tiny_labels(height=HEIGHT, width=WIDTH)).loss)
    losses[1].backward()
    torch.testing.assert_close(losses[1], losses[0], rtol=2e-2, atol=2e-2)
    assert not keeps_for_backward(inputs["pixel_values"].bfloat16())
    attended = []
    attentions = [module for module in model.modules() if type(module).__name__ == "PixelWordAttention"]
    for attention in attentions:
        attention.register_forward_hook(lambda module, args, out: attended.append(out[0].dtype))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        model(**inputs)
    assert set(attended) == {torch.bfloat16}


@torch.no_grad()
def test_batches_stay_whole_where_a_norm_keeps_no_statistics(inputs, monkeypatch):
    model = random_model("lavt").eval()
    for block in model.decoder.blocks:
        block.norm1 = nn.BatchNorm2d(block.conv1.out_channels, track_running_stats=False).double().eval()
    expected = model(**inputs).logits
    monkeypatch.setattr("modeling_rrsis.modeling_lavt.NUMBERS_AT_A_TIME", 1)
    torch.testing.assert_close(model(**inputs).logits, expected)


@torch.no_grad()
def test_rows_whose_masks_differ_by_a_fraction_are_not_equal():
    model = random_model("lavt").eval()
    ids, mask = torch.tensor([[5, 6, 7]] * 2), torch.tensor([[1, 1, 0.5], [1, 1, 0.0]])
    with plain_ways():
        expected = model.encode_words(ids, mask)
    torch.testing.assert_close(model.encode_words(ids, mask), expected)


def test_second_derivatives_need_the_plain_ways(inputs):
    model = random_model("lavt").eval()
    pixels = inputs.pop("pixel_values").requires_grad_()

    def penalty():
        (gradient,) = torch.autograd.grad(model(pixels, **inputs).logits.sum(), pixels, create_graph=True)
        gradient.square().sum().backward()
        return model.decoder.blocks[0].conv1.weight.grad

    with pytest.raises(RuntimeError, match="differentiate twice"):
        penalty()
    with plain_ways():
        assert penalty().abs().max() > 0
    assert is_eager_cpu(pixels)


def test_transforms_of_functions_and_traces(inputs):
    """`torch.func` and `torch.jit.trace` know no backward passes that are written by hand."""
    model = random_model("lavt").eval()
    pixels, text = inputs["pixel_values"], {key: value for key, value in inputs.items() if key != "pixel_values"}

    def loss_of(parameters):
        return torch.func.functional_call(model, parameters, (pixels,), text).logits.square().sum()

    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    gradients = torch.func.grad(loss_of)(parameters)
    loss = model(pixels, **text).logits.square().sum()
    name = "decoder.blocks.0.conv1.weight"
    (expected,) = torch.autograd.grad(loss, [dict(model.named_parameters())[name]])
    torch.testing.assert_close(gradients[name], expected)
    with sdpa_kernel(SDPBackend.MATH):  # PyTorch's fused attention has no such derivative
        _, slope = torch.func.jvp(lambda x: model(x, **text).logits, (pixels,), (torch.ones_like(pixels),))
    assert slope.shape == (2, HEIGHT, WIDTH)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_trace_is_saved_and_loaded(inputs):
    model = random_model("lavt", return_dict=False).eval()
    given = (inputs["pixel_values"], inputs["input_ids"], inputs["attention_mask"])
    with torch.no_grad():
        traced = torch.jit.trace(model, given, strict=False)
        buffer = io.BytesIO()
        torch.jit.save(traced, buffer)
        buffer.seek(0)
        torch.testing.assert_close(torch.jit.load(buffer)(*given)[0], model(*given)[0])


def test_another_default_dtype(inputs):
    model = random_model("lavt").eval()
    expected = model(**inputs).logits
    try:
        torch.set_default_dtype(torch.float64)
        wider = {**inputs, "pixel_values": torch.nn.functional.pad(inputs["pixel_values"], (0, 9))}
        model(**wider)  # a size without a plan
        torch.testing.assert_close(model(**inputs).logits, expected)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("is_changed", [False, True])
def test_attention_in_published_order(heads, is_changed):
    """Written out here: InstanceNorm of the queries and of the output, whose projection sees pixels."""
    model = random_model("lavt", fusion_num_heads=[heads] * 4).eval()
    attention = model.fusion[0].context.attention
    if is_changed:
        hook(attention.output, torch.relu)
    pixels, words = torch.randn(2, 50, 8).double(), torch.randn(2, 7, 16).double()
    norm = nn.InstanceNorm1d(8)
    query = norm(attention.query(pixels).mT).mT
    key, value = attention.key(words), attention.value(words)
    parts = [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key, value)]
    weights = (parts[0] @ parts[1].mT / 8**0.5).softmax(-1)
    expected = norm(attention.output((weights @ parts[2]).transpose(1, 2).flatten(2)).mT).mT
    text = TextFeatures(words, torch.ones(2, 7))
    torch.testing.assert_close(attention(pixels, text), (expected, weights))
    with plain_ways():
        torch.testing.assert_close(attention(pixels, text), (expected, weights))


@pytest.mark.parametrize("is_changed", [False, True])
def test_graphs_take_the_words_side_too(inputs, is_changed):
    """Of a plain layer the output projection goes to the words; what an adapter adds needs pixels."""
    attention = random_model("lavt").fusion[0].context.attention.eval()
    if is_changed:
        replaced(attention, "output")
    pixels, words = torch.randn(1, 50, 8).double(), torch.randn(1, 7, 16).double()
    text = TextFeatures(words, torch.ones(1, 7))
    program = torch.export.export(attention, (pixels, text))
    products = [node for node in program.graph.nodes if node.target is torch.ops.aten.linear.default]
    names = ("output_weight", "layer_weight")
    sizes = [node.args[0].meta["val"].shape[-2] for node in products if node.args[1].name.endswith(names)]
    assert sizes == [50 if is_changed else 7]
    torch.testing.assert_close(program.module()(pixels, text)[0], attention(pixels, text)[0])
