"""Run by the tests in a process without our packages: a data set, as a whole and streamed, the metric, a snapshot.

Arguments: folders to import from, the data set's repository, the metric's.
"""

import importlib.metadata
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import blocking  # noqa: F401
import evaluate
import numpy as np
from datasets import load_dataset
from huggingface_hub import snapshot_download
from stranger_rows import fingerprint

if __name__ == "__main__":
    dataset, metric = sys.argv[1:]
    whole = load_dataset(dataset)
    streams = load_dataset(dataset, streaming=True)
    first = whole["train"][0]
    module = evaluate.load(metric)
    scores = module.compute(predictions=[[[1, 1], [0, 0]]], references=[[[1, 0], [0, 0]]])
    counts = evaluate.load(metric, "counts").compute(predictions=[1], references=[4])
    report = {
        "transformers": importlib.metadata.version("transformers"),
        "rows": {split: [fingerprint(row) for row in rows] for split, rows in whole.items()},
        "streamed": {split: [fingerprint(row) for row in rows] for split, rows in streams.items()},
        "mask": [first["mask"].mode, sorted(np.unique(first["mask"]).tolist())],
        "columns": whole["train"].column_names,
        "scores": scores,
        "counts": counts["mIoU"],
        "snapshot": sorted(path.name for path in Path(snapshot_download(dataset, repo_type="dataset")).iterdir()),
    }
    print("REPORT " + json.dumps(report))  # noqa: T201 - read by the test
