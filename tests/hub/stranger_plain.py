"""Run by the tests in a process without our packages: what plain `save_pretrained` left gives a pipeline, twice.

Arguments: folders to import from, an image, a folder to save into, then model folders or repositories.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import blocking  # noqa: F401
import transformers
from transformers import AutoModelForImageSegmentation, pipeline

TASK, TEXT = "referring-image-segmentation", "the red ship on the upper left"
TRUST = {"trust_remote_code": True}


def ask(reference, image):
    """Score of the pipeline, before and after everything was saved once more, part by part."""
    pipe = pipeline(TASK, model=reference, **TRUST)
    again = Path(folder) / "again" / Path(reference).name
    pipe.model.save_pretrained(again)
    pipe.processor.save_pretrained(again)
    return {
        "model": type(AutoModelForImageSegmentation.from_pretrained(reference, **TRUST)).__name__,
        "module": type(pipe.model).__module__.split(".")[0],
        "score": pipe(image, text=TEXT)["score"],
        "score_again": pipeline(model=str(again), **TRUST)(image, text=TEXT)["score"],
    }


if __name__ == "__main__":
    image, folder, *references = sys.argv[1:]
    report = {reference: ask(reference, image) for reference in references}
    print("REPORT " + json.dumps({"transformers": transformers.__version__, **report}))  # noqa: T201 - read by the test
