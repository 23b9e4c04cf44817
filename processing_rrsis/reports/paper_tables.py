"""What `rrsis evaluate` prints and writes: the papers' table layouts, and JSON that says what was measured and how."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..bounds_rrsis import read_json
from ..installation import package_version
from ..metrics.confidence import BootstrapIntervals
from ..metrics.evaluation_result import EvaluationResult
from .published import PublishedTable
from .tables import ResultTable, score_text

PAPER_SCORES: tuple[str, ...] = ("Pr@0.5", "Pr@0.6", "Pr@0.7", "Pr@0.8", "Pr@0.9", "oIoU", "mIoU")
"""The columns of the papers' tables I and III, in their order."""
RESOLUTIONS: tuple[str, ...] = ("input", "native")
MIN_UNITS = 5  # images; an interval of fewer would look surer than it is
DIGITS = 2  # as printed in the papers
TRACKED_LIBRARIES = ("torch", "transformers", "timm", "accelerate", "datasets", "numpy", "pillow")


def overall_scores(result: EvaluationResult, resolution: str) -> Mapping[str, Any]:
    """Scores at the model's input size (`"input"`) or at the masks' own (`"native"`); equal where no mask differs."""
    return result.overall if resolution == "input" or result.native is None else result.native


def paper_table(
    result: EvaluationResult,
    intervals: Mapping[str, BootstrapIntervals],
    *,
    title: str,
    ours: str,
    published: PublishedTable | None = None,
) -> ResultTable:
    """The layout of tables I and III: published methods, then ours with the bounds of its interval below.

    Args:
        result: Our evaluation.
        intervals: For each resolution to show (see `RESOLUTIONS`) its intervals; none are shown below five images.
        title: Heading.
        ours: What our row is called.
        published: A table of overall scores on the same split.

    Returns:
        The table.
    """
    rows = []
    for row in published.rows if published else ():
        cells = (score_text(row.scores[name], DIGITS) if name in row.scores else "–" for name in PAPER_SCORES)
        rows.append((row.method, *cells))
    for resolution, found in intervals.items():
        scores = overall_scores(result, resolution)
        label = result.resolution.split(" (")[0] if resolution == "input" else "native size"
        rows.append((f"{ours}, {label}", *(score_text(scores[name], DIGITS) for name in PAPER_SCORES)))
        if found.num_units < MIN_UNITS:
            continue
        for bound, word in enumerate(("from", "to")):
            cells = (score_text(found.scores[name][bound], DIGITS) for name in PAPER_SCORES)
            rows.append((f"  {found.confidence:.0%} {word}", *cells))
    return ResultTable(title=title, columns=("method", *PAPER_SCORES), rows=tuple(rows))


def category_table(
    result: EvaluationResult,
    intervals: Mapping[str, BootstrapIntervals],
    *,
    title: str,
    resolutions: Sequence[str] = RESOLUTIONS,
    published: PublishedTable | None = None,
) -> ResultTable:
    """The layout of tables II and IV: mIoU per category, ours beside the published methods.

    Args:
        result: Our evaluation, with categories.
        intervals: Category → intervals at the first of `resolutions`; – below five images.
        title: Heading.
        resolutions: Which of `RESOLUTIONS` to show.
        published: A table of scores per category on the same split.

    Returns:
        The table; categories that only the paper has read "not measured".
    """
    printed = published.rows if published else ()
    names = {_key(name): name for name in (*(n for row in printed for n in row.categories), *result.by_category)}
    known = {_key(name): name for name in result.by_category}
    rows = []
    for key, name in names.items():
        mine = known.get(key, "")
        cells = [str(int(result.by_category[mine]["n"])) if mine else "0"]
        for resolution in resolutions:
            cells.append(score_text(overall_scores(result, resolution)["per_category"].get(mine), DIGITS))
        cells += _bounds(intervals.get(mine))
        cells += [_printed(row.categories, key) for row in printed]
        rows.append((name, *cells))
    averages = [
        score_text(overall_scores(result, resolution)["category_average"], DIGITS) for resolution in resolutions
    ]
    rows.append(("average", "", *averages, "", "", *(score_text(row.average, DIGITS) for row in printed)))
    ours = {"input": "ours", "native": "ours, native"}
    columns = ("category", "n", *(ours[resolution] for resolution in resolutions), "from", "to")
    return ResultTable(title=title, columns=(*columns, *(row.method for row in printed)), rows=tuple(rows))


def _bounds(found: BootstrapIntervals | None) -> list[str]:
    """Both ends of the interval of mIoU; – where there are too few units to draw from."""
    if found is None or found.num_units < MIN_UNITS:
        return ["–", "–"]
    return [score_text(bound, DIGITS) for bound in found.scores["mIoU"]]


def _key(category: str) -> str:
    """A category's letters: "Expressway-Service-area" and "expressway service area" are the same."""
    return "".join(character for character in category.lower() if character.isalnum())


def _printed(categories: Mapping[str, float], key: str) -> str:
    values = [value for name, value in categories.items() if _key(name) == key]
    return score_text(values[0], DIGITS) if values else "–"


def result_values(result: EvaluationResult, resolutions: Iterable[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """One evaluation as plain values with intervals, without anything that differs between two equal runs.

    Args:
        result: The evaluation.
        resolutions: Which of `RESOLUTIONS`.
        options: `confidence`, `num_resamples` and `seed` of the intervals.

    Returns:
        Per resolution `overall` and `intervals`; at the input size also `by_kind` and `by_category`, each group with
        its intervals; `absent` and `resolution`.
    """
    plain = result.to_dict()
    values: dict[str, Any] = {"absent": plain["absent"], "resolution": plain["resolution"]}
    for resolution in resolutions:
        native = resolution == "native"
        values[resolution] = {
            "overall": (plain["native"] if native else None) or plain["overall"],
            "intervals": result.intervals(native=native, **options).to_dict(),
        }
    for group, argument in (("by_kind", "kind"), ("by_category", "category")):
        values[group] = {
            name: {**scores, "intervals": result.intervals(**{argument: name}, **options).to_dict()}
            for name, scores in plain[group].items()
        }
    return values


def model_revision(model: str, network: Any) -> dict[str, str]:
    """What exactly was evaluated: the Hub's commit, or hashes of a folder's weights and configuration.

    Args:
        model: Folder or Hub repository.
        network: The loaded model.

    Returns:
        `{"commit": …}`, or file name → SHA-256.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return {"commit": getattr(network.config, "_commit_hash", None) or "unknown"}
    files = sorted(
        {
            *folder.glob("*.safetensors"),
            *folder.glob("pytorch_model*.bin"),
            folder / "config.json",
            *folder.glob("runtime.json"),
        }
    )
    hashes = {}
    for file in files:
        with file.open("rb") as stream:
            hashes[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return hashes


def checkpoint_selection(model: str) -> str:
    """How the weights were chosen, from the `metrics.json` beside them; "not stated" without one."""
    path = Path(model).expanduser() / "metrics.json"
    if not path.parent.is_dir():
        from huggingface_hub import hf_hub_download

        try:
            path = Path(hf_hub_download(model, "metrics.json"))
        except (OSError, ValueError):  # no such file in the repository, or no connection
            return "not stated"
    try:
        return str(read_json(path)["selection"])
    except (OSError, ValueError, KeyError, TypeError):
        return "not stated"


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide the numbers."""
    libraries = {name: importlib.metadata.version(name) for name in TRACKED_LIBRARIES}
    return {"python": platform.python_version(), "rrsis": package_version(), **libraries}
