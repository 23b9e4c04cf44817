"""Training that has gone wrong is stopped, and what it was fed is written down."""

from __future__ import annotations

import json
import math
import statistics
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import RRSISError

NORM_WINDOW = 100
MIN_NORMS = 20
NORM_RATIO = 1000.0
"""A gradient norm this many times the median of the last hundred is an explosion: clipping hides it, Adam's second
moment does not forget it for a thousand updates."""


class DivergenceError(RRSISError):
    """The loss or the gradient is no longer of use; the message says what to do."""


class DivergenceMonitor:
    """Watches loss and gradient norm of every update.

    Args:
        norms: Earlier gradient norms, of a run that goes on.
        ratio: Multiple of the median norm that counts as an explosion.
    """

    def __init__(self, norms: Sequence[float] = (), ratio: float = NORM_RATIO) -> None:
        self.norms: deque[float] = deque(norms, maxlen=NORM_WINDOW)
        self.ratio = ratio

    def find(self, loss: float, grad_norm: float | None) -> str | None:
        """What is wrong with an update, in words; `None` for a sound one, which is remembered.

        Args:
            loss: Of the whole batch.
            grad_norm: Before clipping; `None` where a loss scale overflowed and the update was left out.
        """
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if grad_norm is None:
            return None
        if not math.isfinite(grad_norm):
            return f"the gradient norm is {grad_norm}"
        if len(self.norms) >= MIN_NORMS:
            usual = statistics.median(self.norms)
            if grad_norm > self.ratio * usual > 0:
                return f"the gradient norm is {grad_norm:.3g}, {grad_norm / usual:,.0f} times its usual {usual:.3g}"
        self.norms.append(grad_norm)
        return None


def write_divergence(output_dir: Path, **facts: Any) -> Path:
    """Write `divergence.json`: step, loss, norm, learning rate and the ids of the batch's samples; its path."""
    path = output_dir / "divergence.json"
    plain = {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in facts.items()
    }
    path.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    return path
