"""The page of the metric's Space: two masks in, their scores out."""

from pathlib import Path
from typing import Any

import evaluate
import gradio as gr
import numpy as np

HERE = Path(__file__).parent


def load_metric() -> Any:
    """The metric beside this file: the one script here that is not this one."""
    (script,) = (path for path in HERE.glob("*.py") if path.name != "app.py")
    return evaluate.load(str(script))


def score(prediction: np.ndarray | None, reference: np.ndarray | None) -> dict[str, float]:
    """Scores of one sample.

    Args:
        prediction: Predicted mask, uint8 (H, W); above 127 is foreground.
        reference: True mask, uint8 (H, W).

    Returns:
        Name to score in percent.
    """
    if prediction is None or reference is None:
        raise gr.Error("Two masks are needed: a prediction and a reference.")
    if prediction.shape != reference.shape:
        raise gr.Error(f"The masks differ in size: {prediction.shape[::-1]} and {reference.shape[::-1]} pixels.")
    masks = [(mask > 127).astype(np.uint8).tolist() for mask in (prediction, reference)]
    return load_metric().compute(predictions=masks[:1], references=masks[1:])


def build_app() -> gr.Interface:
    """The page; the card below it explains the scores."""
    masks = [gr.Image(label=label, image_mode="L", type="numpy") for label in ("prediction", "reference")]
    card = (HERE / "README.md").read_text(encoding="utf-8").split("---\n", 2)[-1]
    return gr.Interface(score, masks, gr.JSON(label="scores in percent"), title="Referring IoU", article=card)


if __name__ == "__main__":
    build_app().launch()
