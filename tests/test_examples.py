"""The examples in the docstrings of the public classes run as printed, and every one of these classes has one."""

import doctest
import inspect

import numpy as np
import pytest
from PIL import Image

import processing_rrsis
from modeling_rrsis import MODELS

from .tiny import build_tiny_model, build_tiny_processor

CLASSES = [cls for model in MODELS.values() for cls in (model.config_class, model)]
CLASSES += [
    getattr(processing_rrsis, name)
    for name in (
        "ExpressionParser",
        "RRSISImageProcessor",
        "RRSISImageProcessorTorchvision",
        "RRSISProcessor",
        "ReferringSegmentationPipeline",
        "TrainerMetrics",
    )
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the examples read: a model folder and an image."""
    folder = tmp_path_factory.mktemp("examples")
    build_tiny_model("fianet").save_pretrained(folder / "runs" / "fianet" / "best")
    build_tiny_processor().save_pretrained(folder / "runs" / "fianet" / "best")
    pixels = np.random.default_rng(0).integers(0, 256, size=(60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "harbor.png")
    return folder


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_the_class_has_an_example_that_runs(cls, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    example = doctest.DocTestParser().get_doctest(inspect.getdoc(cls), {}, cls.__name__, inspect.getsourcefile(cls), 0)
    assert example.examples, f"{cls.__name__} has no example in its docstring"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(example)
    assert runner.failures == 0, capsys.readouterr().out
