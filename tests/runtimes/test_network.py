"""A graph in the network's place: the same log-odds, the same errors, in the pipeline and in the evaluation too."""

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from processing_rrsis.data.inputs.collate import ReferringCollator
from processing_rrsis.metrics import evaluate_model
from processing_rrsis.pipeline_rrsis import ReferringSegmentationPipeline
from processing_rrsis.runtimes.network import RuntimeNetwork
from processing_rrsis.runtimes.tracing import InputShape, sample_inputs

from ..metrics.evaluation_fakes import make_dataset
from ..tiny import build_tiny_processor
from .conftest import ALL_INPUTS, SIZE_PX, build_model

TOLERANCE = 1e-4  # of the largest log-odds


def noise(network, batch, length, names=ALL_INPUTS):
    return sample_inputs(network, names, InputShape(batch, length, (SIZE_PX, SIZE_PX)), seed=5)


def assert_same(network, graph, inputs):
    with torch.no_grad():
        expected = network(**inputs).logits
    found = graph(**inputs).logits
    assert found.dtype == torch.float32
    assert expected.std() > 1
    torch.testing.assert_close(found, expected, atol=TOLERANCE * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize(("batch", "length"), [(1, 2), (4, 9)])
def test_other_batches_and_lengths_than_were_traced(network, graph, batch, length):
    assert_same(network, graph, noise(network, batch, length))


def test_onnxruntime_gives_the_same(onnx_folder):
    model = build_model("danet")
    graph = RuntimeNetwork.from_pretrained(onnx_folder)
    assert_same(model, graph, noise(model, 3, 8))


@pytest.mark.parametrize("single", ["pixel_values", "text"])
def test_a_single_image_or_expression_goes_with_all_others(network, graph, single):
    inputs = noise(network, 3, 6)
    names = {name for name in inputs if (name == "pixel_values") == (single == "pixel_values")}
    inputs = {name: value[:1] if name in names else value for name, value in inputs.items()}
    assert graph(**inputs).logits.shape == (3, SIZE_PX, SIZE_PX)
    assert_same(network, graph, inputs)


def test_absent_masks_mean_the_whole_expression(network, graph):
    inputs = noise(network, 2, 6, names=("pixel_values", "input_ids"))
    assert_same(network, graph, inputs)


def test_it_looks_like_a_network(network, graph):
    assert graph.config.to_dict()["model_type"] == "rrsis_fianet"
    assert graph.num_parameters() == network.num_parameters()
    assert (graph.device, graph.dtype, graph.training) == (torch.device("cpu"), torch.float32, False)
    assert graph.to("cpu").float().eval() is graph


def test_it_may_be_called_from_several_threads(network, graph):
    inputs = noise(network, 1, 5)
    with ThreadPoolExecutor(4) as pool:
        outputs = [item.logits for item in pool.map(lambda _: graph(**inputs), range(8))]
    assert all(torch.equal(logits, outputs[0]) for logits in outputs)


WRONG_INPUTS = {
    "no batch of images": {"pixel_values": torch.zeros(3, SIZE_PX, SIZE_PX)},
    "tiny images": {"pixel_values": torch.zeros(1, 3, 16, 16)},
    "one expression, no batch": {"input_ids": torch.ones(5, dtype=torch.long)},
    "too long": {"input_ids": torch.ones(1, 40, dtype=torch.long)},
    "mask of another shape": {"ground_object_mask": torch.ones(1, 4, dtype=torch.long)},
    "two and three": {"pixel_values": torch.zeros(2, 3, SIZE_PX, SIZE_PX), "input_ids": torch.ones(3, 5).long()},
}


@pytest.mark.parametrize("wrong", WRONG_INPUTS.values(), ids=WRONG_INPUTS.keys())
def test_errors_are_the_networks_own(network, graph, wrong):
    inputs = {**noise(network, 1, 5, names=("pixel_values", "input_ids")), **wrong}
    with pytest.raises(ValueError, match=r"must|may|expected") as expected:
        network(**inputs)
    with pytest.raises(ValueError, match=f"^{re.escape(str(expected.value))}$"):
        graph(**inputs)


def test_errors_of_its_own(network, graph):
    inputs = noise(network, 1, 5)
    for name, value in (
        ("labels", torch.zeros(1, 72, 72)),
        ("output_hidden_states", True),
        ("output_attentions", True),
    ):
        with pytest.raises(ValueError, match=f"`{name}`: expected none, a graph for openvino computes logits alone"):
            graph(**inputs, **{name: value})
    output = graph(**inputs, output_hidden_states=False, labels=None)
    assert torch.equal(graph(**inputs, return_dict=False)[0], output.logits)
    with pytest.raises(TypeError, match="label'"):
        graph(**inputs, label=None)
    for token in (-1, network.config.text_config.vocab_size):
        with pytest.raises(ValueError, match=r"expected indices from 0 to \d+, the vocabulary's"):
            graph(**{**inputs, "input_ids": torch.full((1, 5), token)})
    spoiled = {**inputs, "pixel_values": torch.full((1, 3, 72, 72), torch.nan)}
    assert all(model(**spoiled).logits.isnan().all() for model in (network, graph))
    inputs["pixel_values"] = torch.zeros(1, 3, 96, 64)
    with pytest.raises(ValueError, match=r"expected images of 72×72 px.*got 96×64 px.*--image-size 96"):
        graph(**inputs)


def test_the_pipeline_takes_it(network, graph):
    processor = build_tiny_processor()
    processor.image_processor.size = {"height": SIZE_PX, "width": SIZE_PX}
    pipes = [
        ReferringSegmentationPipeline(model=model, processor=processor, device="cpu") for model in (network, graph)
    ]
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 90, 3), dtype=np.uint8))
    rows = [{"image": picture, "text": text} for text in ("the dam", "the bridge at the left")]
    calls = ((picture, "the ship"), (picture, ["the ship", "the dam", "the large vehicle"]), (rows, None))
    for inputs, text in calls:
        results = [pipe(inputs, text=text, output="probability", batch_size=2) for pipe in pipes]
        expected, found = (result if isinstance(result, list) else [result] for result in results)
        for one, other in zip(expected, found, strict=True):
            assert one["label"] == other["label"]
            assert other["mask"].size == (90, 50)
            np.testing.assert_allclose(other["probability"], one["probability"], atol=1e-3)


def test_the_evaluation_takes_it(network, graph):
    processor = build_tiny_processor()
    processor.image_processor.size = {"height": SIZE_PX, "width": SIZE_PX}
    rows, collator = make_dataset(num_samples=4, native_size_px=20), ReferringCollator(processor)
    batch = collator([rows[index] for index in range(4)])
    with torch.no_grad():
        logits = network(**{name: batch[name] for name in ALL_INPUTS}).logits.flatten().double().sort().values
    # A threshold in the widest gap of the middle half: elsewhere a pixel may lie nearer to it than rounding does, and
    # which side it takes depends on the processor's instructions.
    middle = logits[len(logits) // 4 : -len(logits) // 4]
    gap = middle.diff().argmax()
    assert middle.diff()[gap] > 2 * TOLERANCE * logits.abs().max()  # so that every error that is allowed fits in
    threshold = float((middle[gap] + middle[gap + 1]).div(2).sigmoid())
    expected, found = (
        evaluate_model(model, rows, collator, batch_size=2, threshold=threshold, tie_margin=1e-3, progress=False)
        for model in (network, graph)
    )
    assert found.overall == expected.overall
