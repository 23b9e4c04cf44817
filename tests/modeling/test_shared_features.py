"""One image with many expressions and one expression with many images: encoded once, the same numbers."""

import pytest
import torch

from .tiny import tiny_inputs, tiny_model

NAMES = ("lavt", "danet", "fianet")
TEXT = ("input_ids", "attention_mask", "ground_object_mask", "spatial_position_mask")


@pytest.fixture(params=NAMES)
def model(request):
    return tiny_model(request.param).double().eval()


def inputs_of(batch_size):
    inputs = tiny_inputs(batch_size=batch_size, height=72, width=56)
    return {**inputs, "pixel_values": inputs["pixel_values"].double()}


@torch.no_grad()
def test_many_expressions_on_one_image(model):
    inputs = inputs_of(3)
    one = inputs["pixel_values"][:1]
    expected = model(**{**inputs, "pixel_values": one.expand(3, -1, -1, -1)}).logits
    assert not torch.allclose(expected[0], expected[1])
    calls = []
    model.vision.layers[0].register_forward_hook(lambda stage, inputs, output: calls.append(len(output)))
    torch.testing.assert_close(model(**{**inputs, "pixel_values": one}).logits, expected)
    assert calls == [1]  # what precedes the first fusion is computed once


@torch.no_grad()
def test_one_expression_on_many_images(model):
    inputs = inputs_of(3)
    one = {key: inputs[key][:1] for key in TEXT}
    pixels = inputs["pixel_values"]
    expected = model(pixels, **{key: value.expand(3, -1) for key, value in one.items()}).logits
    torch.testing.assert_close(model(pixels, **one).logits, expected)


def test_gradients_reach_what_is_shared(model):
    inputs, labels = inputs_of(2), torch.zeros(2, 72, 56, dtype=torch.long)
    labels[:, 20:40, 10:30] = 1
    one = inputs["pixel_values"][:1]
    gradients = []
    for pixels in (one, one.expand(2, -1, -1, -1)):
        model.zero_grad()
        model(**{**inputs, "pixel_values": pixels}, labels=labels).loss.backward()
        gradients.append([parameter.grad for parameter in model.vision.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


@torch.no_grad()
def test_what_does_not_go_together_is_refused(model):
    inputs = inputs_of(3)
    with pytest.raises(ValueError, match="of 2 images and `input_ids` of 3 expressions"):
        model(**{**inputs, "pixel_values": inputs["pixel_values"][:2]})
