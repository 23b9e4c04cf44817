"""Every field that chooses between readings builds, runs and trains whole."""

import pytest
import torch

from modeling_rrsis import DANetConfig, DANetForReferringSegmentation, FIANetConfig, FIANetForReferringSegmentation
from modeling_rrsis.loss_rrsis import affinity_loss
from modeling_rrsis.modeling_danet import text_to_visual_activation

from .tiny import TINY, tiny_inputs, tiny_labels, tiny_model

DANET = [
    {"predictor": "conv", "affinity_weight": 0.0},
    {"predictor": "conv"},
    {"predictor": "cross_attention"},
    {"predictor": "masked_attention"},
    {"agent_distance": "cosine"},
    {"agent_distance": "l2"},
    {"agent_words": "shared"},
    {"affinity_stages": [4]},
    {"affinity_stages": [1, 2, 3, 4]},
    {"affinity_temperature": 0.1, "predictor_gain": 1.0},
    {"num_agents": 2},
]
FIANET = [
    {"stage_output": "fiam"},
    {"attention_norm": "none"},
    {"channel_modulation_source": "fused"},
    {"position_conv_kernel": 1},
    {"tmem_bottleneck": 1},
    {"num_tmem_layers": 3},
    {"multi_scale": "none"},
    {"multi_scale": "cim"},
    {"multi_scale": "cim", "num_tmem_layers": 2, "tmem_bottleneck": 1, "grid_size": 3},
    {"multi_scale": "lgce"},
    {"multi_scale": "lgce", "attention_norm": "none"},
    {"use_ground_object_branch": False},
    {"use_spatial_position_branch": False},
    {"use_channel_modulation": False},
    {"use_ground_object_branch": False, "use_spatial_position_branch": False, "use_channel_modulation": False},
    {"dice_mix": "sum", "dice_reduction": "mean"},
]
RMSIN = [
    {"use_intra_scale": False},
    {"use_cross_scale": False},
    {"use_rotated_convolution": False},
    {"use_intra_scale": False, "use_cross_scale": False, "use_rotated_convolution": False},
    {"num_cim_layers": 2, "grid_size": 3},
    {"max_rotation": 30.0, "routing_dropout": 0.0, "dice_weight": 0.5},
]
VARIANTS = [
    (name, fields) for name, all_of in (("danet", DANET), ("fianet", FIANET), ("rmsin", RMSIN)) for fields in all_of
]


@pytest.mark.parametrize(("name", "fields"), VARIANTS, ids=str)
def test_every_parameter_of_a_variant_is_trained(name, fields):
    model = tiny_model(name, **fields).train()
    output = model(**tiny_inputs(), labels=tiny_labels())
    output.loss.backward()
    assert output.loss.isfinite()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []


def test_literal_papers_train():
    for model_class, config in (
        (FIANetForReferringSegmentation, FIANetConfig.paper(**TINY)),
        (DANetForReferringSegmentation, DANetConfig.paper(**TINY)),
    ):
        torch.manual_seed(0)
        model = model_class(config).train()
        loss = model(**tiny_inputs(), labels=tiny_labels()).loss
        loss.backward()
        assert all(parameter.grad is not None for parameter in model.parameters())


def test_danet_starts_as_a_fixed_kernel():
    """Equation 10's kernel hardly depends on the sentence at first, and gives logits like the base's 1×1 kernel."""
    model = tiny_model("danet")
    kernel = model.predictor.block.norm3
    bound = kernel.bias.numel() ** -0.5
    assert kernel.weight.tolist() == pytest.approx([1e-3] * kernel.weight.numel())
    assert 0.5 * bound < kernel.bias.abs().max() <= bound
    assert tiny_model("danet", predictor_gain=1.0).predictor.block.norm3.weight.eq(1).all()


def test_affinity_belongs_to_training_only():
    model = tiny_model("danet")
    with torch.no_grad():
        training = model.train()(**tiny_inputs(), labels=tiny_labels()).loss_dict
        evaluation = model.eval()(**tiny_inputs(), labels=tiny_labels()).loss_dict
    assert set(training) == {"binary_cross_entropy", "affinity"}
    assert set(evaluation) == {"binary_cross_entropy"}


def test_affinity_adds_no_parameter_and_sums_its_stages():
    model = tiny_model("danet", affinity_stages=[3, 4]).eval()
    assert len(list(model.parameters())) == len(list(tiny_model("danet", affinity_weight=0.0).parameters()))
    inputs = tiny_inputs()
    with torch.no_grad():
        text = model.encode_text(inputs["input_ids"], inputs["attention_mask"])
        stages = model.encode_image(inputs["pixel_values"], text)
        expected = 0.0
        for number in (3, 4):
            attention = model.fusion[number - 1].context.attention
            activation = text_to_visual_activation(attention, stages[number - 1].output, text.words[0, :, 0])
            expected = expected + affinity_loss(stages[number - 1].output, activation > 0.8)
        torch.testing.assert_close(model.affinity_alignment(stages, text), expected)


@torch.no_grad()
def test_the_predictors_update_has_one_size_for_every_image():
    """Equation 9's weights: their sum is about M/K to the letter of the paper, 1 by default."""
    for update, sizes in (("mean", (1.0, 1.0)), ("sum", (2.0, 32.0))):
        predictor = tiny_model("danet", agent_update=update, num_agents=8).eval().predictor
        for parameter in (predictor.pixel_query.weight, predictor.sentence_query.weight):
            parameter.zero_()  # every pixel and the sentence correlate with every agent alike
        for pixels, size in zip((16, 256), sizes, strict=True):
            keys = torch.randn(2, pixels, 32)
            text = torch.randn(2, 5, 16), torch.ones(2, 5)
            weights = predictor.align_by_agents(keys, keys, torch.zeros(2, 1, 32), *text)
            torch.testing.assert_close(weights.sum(-1), torch.full((2, 1), size))


def test_activation_spans_zero_to_one():
    model = tiny_model("danet").eval()
    activation = text_to_visual_activation(
        model.fusion[1].context.attention, torch.randn(2, 40, 16), sentence=torch.randn(2, 16)
    )
    assert activation.shape == (2, 40)
    torch.testing.assert_close(activation.amin(1), torch.zeros(2))
    torch.testing.assert_close(activation.amax(1), torch.ones(2))


@pytest.mark.parametrize("distance", ["dot", "cosine", "l2"])
def test_agents_are_the_most_reliable_pixels_and_ignore_padding(distance):
    predictor = tiny_model("danet", agent_distance=distance, num_agents=3).eval().predictor
    keys = torch.randn(2, 12, 32)
    words, mask = torch.randn(2, 5, 16), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    with torch.no_grad():
        indices, values = predictor.select_agents(keys, words, mask)
        changed = words.clone()
        changed[1, 3:] = 9.0
        again, _ = predictor.select_agents(keys, changed, mask)
        everything = predictor.reliability(keys, words, mask)
    assert torch.equal(indices, again)
    assert torch.equal(everything.gather(1, indices), values)
    assert (everything.sort(descending=True).values[:, :3] == values).all()


def test_more_agents_than_pixels_are_capped():
    model = tiny_model("danet", num_agents=500).eval()
    with torch.no_grad():
        assert model(**tiny_inputs()).logits.isfinite().all()


def test_released_fianet_builds_nothing_that_its_last_stage_would_not_use():
    last = tiny_model("fianet").fusion[3]
    assert [name for name, _ in last.named_children()] == ["context", "norm"]
    assert tiny_model("fianet", stage_output="fiam").fusion[3].gate is not None


def test_fianet_reads_its_two_masks():
    model = tiny_model("fianet").eval()
    inputs = tiny_inputs()
    with torch.no_grad():
        reference = model(**inputs).logits
        for name in ("ground_object_mask", "spatial_position_mask"):
            other = {**inputs, name: inputs["attention_mask"]}
            assert (model(**other).logits - reference).abs().max() > 1e-5, name
        empty = {**inputs, "ground_object_mask": torch.zeros_like(inputs["ground_object_mask"])}
        assert model(**empty).logits.isfinite().all()
