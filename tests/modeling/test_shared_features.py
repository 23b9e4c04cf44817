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
def test_many_expressions_on_one_image(model, monkeypatch):
    inputs = inputs_of(3)
    one = inputs["pixel_values"][:1]
    expected = model(**{**inputs, "pixel_values": one.expand(3, -1, -1, -1)}).logits
    assert not torch.allclose(expected[0], expected[1])
    torch.testing.assert_close(model(**{**inputs, "pixel_values": one}).logits, expected)
    features = model.encode_image(one)
    monkeypatch.setattr(model.vision, "embed", None)  # would be called if the image were encoded again
    text = {key: inputs[key] for key in TEXT}
    torch.testing.assert_close(model(image_features=features, **text).logits, expected)


@torch.no_grad()
def test_one_expression_on_many_images(model, monkeypatch):
    inputs = inputs_of(3)
    one = {key: inputs[key][:1] for key in TEXT}
    pixels = inputs["pixel_values"]
    expected = model(pixels, **{key: value.expand(3, -1) for key, value in one.items()}).logits
    torch.testing.assert_close(model(pixels, **one).logits, expected)
    features = model.encode_text(**one)
    monkeypatch.setattr(model.text_encoder, "forward", None)
    torch.testing.assert_close(model(pixels, text_features=features).logits, expected)


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


def watched_rows(model, monkeypatch):
    """The numbers of rows that BERT is given, one after another."""
    rows, read = [], model.text_encoder.forward

    def watched(*args, **kwargs):
        rows.append(kwargs["input_ids"].tolist())
        return read(*args, **kwargs)

    monkeypatch.setattr(model.text_encoder, "forward", watched)
    return rows


@torch.no_grad()
def test_equal_rows_are_read_once(model, monkeypatch):
    inputs = inputs_of(1)
    whole = {**inputs, "ground_object_mask": inputs["attention_mask"], "spatial_position_mask": None}
    readings = 3 if model.config.model_type == "rrsis_fianet" else 1
    rows = watched_rows(model, monkeypatch)
    shared = model(**whole).logits
    model.text_encoder.embeddings.dropout.train()  # draws for each row; the tiny rate is set to nothing
    model.text_encoder.embeddings.dropout.p = 0.0
    torch.testing.assert_close(model(**whole).logits, shared)
    assert list(map(len, rows)) == [1, readings]


@torch.no_grad()
def test_rows_keep_their_order(model, monkeypatch):
    ids = torch.tensor([[9, 4], [7, 1], [9, 4], [2, 2], [7, 1]])
    rows = watched_rows(model, monkeypatch)
    words = model.encode_words(ids, torch.ones_like(ids))
    assert rows == [[[9, 4], [7, 1], [2, 2]]]
    torch.testing.assert_close(words[2], words[0])
    torch.testing.assert_close(words[4], words[1])
    alone = model.encode_words(ids[3:4], torch.ones(1, 2, dtype=torch.long))
    torch.testing.assert_close(words[3:4], alone)
    model.encode_words(ids[:2], torch.ones(2, 2, dtype=torch.long))
    assert rows[-1] == [[9, 4], [7, 1]]


@torch.no_grad()
@pytest.mark.parametrize("num_images", [1, 5])
@pytest.mark.parametrize("return_dict", [True, False])
def test_rows_go_through_a_cpu_in_parts(model, monkeypatch, num_images, return_dict):
    """Parts of two rows of five; what comes back is what the whole batch gives, states and attentions too."""
    inputs = inputs_of(5)
    inputs["pixel_values"] = inputs["pixel_values"][:num_images]
    wanted = {"output_attentions": True, "output_hidden_states": [1, 3], "return_dict": return_dict}
    expected = model(**inputs, **wanted)
    sizes = []
    fuse = model.fuse

    def watched(image, text):
        sizes.append(len(text[0].words))
        return fuse(image, text)

    monkeypatch.setattr(model, "fuse", watched)
    quarter = 18 * 14 * model.hidden_size
    monkeypatch.setattr("modeling_rrsis.modeling_lavt.NUMBERS_AT_A_TIME", 2 * quarter)
    torch.testing.assert_close(model(**inputs, **wanted), expected)
    assert sizes == [2, 2, 1]
    with torch.enable_grad():
        model(**inputs)
    handle = model.decoder.register_forward_hook(lambda *_: None)  # expects the batch
    model(**inputs)
    handle.remove()
    model.decoder.blocks[0].norm1.train()  # statistics of the batch
    model(**inputs)
    assert sizes[3:] == [5, 5, 5]


@torch.no_grad()
def test_what_does_not_go_together_is_refused(model):
    inputs = inputs_of(3)
    with pytest.raises(ValueError, match="of 2 images and `input_ids` of 3 expressions"):
        model(**{**inputs, "pixel_values": inputs["pixel_values"][:2]})
    with pytest.raises(ValueError, match="either `pixel_values` or `image_features`, got neither"):
        model(**{**inputs, "pixel_values": None})
    with pytest.raises(ValueError, match="either `input_ids` or `text_features`, got both"):
        model(**inputs, text_features=model.encode_text(inputs["input_ids"]))
