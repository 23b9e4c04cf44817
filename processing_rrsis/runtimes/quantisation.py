"""8-bit integers in a graph: NNCF measures on real samples in which range the numbers of each layer lie."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import nncf
import numpy as np


def quantise(model: Any, samples: Sequence[Mapping[str, np.ndarray]]) -> Any:
    """Let convolutions and matrix products multiply 8-bit integers.

    Args:
        model: Graph of either format; it is changed.
        samples: Inputs of the graph, from real images and expressions.

    Returns:
        The graph with 8-bit layers.
    """
    nncf.set_log_level(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):  # a bar for each of its steps
        return nncf.quantize(
            model, nncf.Dataset(samples), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(samples)
        )
