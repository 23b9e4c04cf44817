"""The examples of the demo: a few scenes of SyntheticRS, with what to ask of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

from PIL import Image

from ..data.synthetic.render import render_image
from ..data.synthetic.splits import make_split_scene

EXAMPLES_FILE = "examples.json"
NUM_EXAMPLES = 4
EXPRESSIONS_PER_EXAMPLE = 3
IMAGE_SIZE_PX = 320


def write_examples(
    folder: str | os.PathLike[str], preset: str = "rrsisd", image_size_px: int = IMAGE_SIZE_PX, seed: int = 0
) -> Path:
    """Draw scenes of SyntheticRS's test split into a folder, as the demo reads them.

    Args:
        folder: where to; made if it is not there.
        preset: configuration of SyntheticRS, ``"rrsisd"`` or ``"refsegrs"``.
        image_size_px: side of the square pictures.
        seed: seed of SyntheticRS.

    Returns:
        ``examples.json`` in the folder: a list of ``{"image": file name, "expressions": [...]}``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for index in range(NUM_EXAMPLES):
        scene = make_split_scene(preset, seed=seed, split="test", scene_index=index, count=EXPRESSIONS_PER_EXAMPLE)
        name = f"scene-{index + 1}.png"
        Image.fromarray(render_image(scene.layout, image_size_px=image_size_px)).save(folder / name)
        entries.append({"image": name, "expressions": [reference.expression for reference in scene.references]})
    listing = folder / EXAMPLES_FILE
    listing.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    return listing
