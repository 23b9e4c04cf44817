"""8-bit integers in a graph: NNCF measures on real samples in which range the numbers of each layer lie."""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import nncf
import numpy as np

PRODUCTS = ["aten.bmm", "node_matmul"]
"""Names of products of two activations, and of maps with the matrices that resize them, in either format."""


def quantise(model: Any, samples: Sequence[Mapping[str, np.ndarray]]) -> Any:
    """Let convolutions and linear layers multiply 8-bit integers.

    Products that are no layers stay float32: they are few operations, and a map that is resized in 8 bits
    costs more accuracy than all layers together (docs/runtimes.md).

    Args:
        model: Graph of either format; it is changed.
        samples: Inputs of the graph, from real images and expressions.

    Returns:
        The graph with 8-bit layers.
    """
    nncf.set_log_level(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):  # a bar for each of its steps
        return nncf.quantize(
            model,
            nncf.Dataset(samples),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(samples),
            ignored_scope=nncf.IgnoredScope(patterns=[f".*{re.escape(name)}.*" for name in PRODUCTS], validate=False),
        )
