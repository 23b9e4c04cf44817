"""One graph for images of many sizes: the sizes stay symbolic, and the compiler gets done with them in seconds."""

import pytest
import torch

from .tiny import tiny_inputs, tiny_model

pytestmark = pytest.mark.slow  # minutes: the sizes stay symbols
NAMES = ["lavt", "danet", "fianet"]
# From here on no map of the tiny models is padded: patches of 4, three halvings, windows of 4.
UNIT = 4 * 2**3 * 4


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_compiled_model_takes_other_sizes(name):
    torch.compiler.reset()
    model = tiny_model(name).eval()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for height, width in ((64, 64), (50, 75)):
        inputs = tiny_inputs(height=height, width=width)
        torch.testing.assert_close(compiled(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_exported_model_takes_multiples_of_the_window(name):
    model = tiny_model(name).eval()
    height, width = torch.export.Dim("height", min=2, max=16), torch.export.Dim("width", min=2, max=16)
    inputs = tiny_inputs(height=3 * UNIT, width=2 * UNIT)
    shapes = {key: {2: UNIT * height, 3: UNIT * width} if key == "pixel_values" else None for key in inputs}
    exported = torch.export.export(model, args=(), kwargs=inputs, dynamic_shapes=shapes).module()
    for rows, columns in ((2, 4), (3, 2)):
        given = tiny_inputs(height=rows * UNIT, width=columns * UNIT)
        torch.testing.assert_close(exported(**given).logits, model(**given).logits)
