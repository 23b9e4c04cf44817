"""What the cards of published data sets say; fills `hub_cards/dataset_card.md`."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping, Sequence
from string import Template
from typing import Any

from huggingface_hub import DatasetCardData

from ..data.facts import FACTS, DatasetCardText
from ..installation import package_version

DATASETS: tuple[str, ...] = ("refsegrs", "rrsisd", "synthetic", "own")
"""Data sets that can be published."""

_COLUMNS: dict[str, str] = {
    "image": "the image, as published",
    "mask": "8-bit PNG of the image's size: 255 where the expression applies, else 0",
    "expression": "English text",
    "category": "name of the object's category; empty where there is none",
    "image_id": "which image; several rows may share one",
    "sample_id": "unique in its split",
    "kind": "which attributes the expression uses",
}
_SIZES: tuple[tuple[int, str], ...] = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
)


def render_dataset_card(
    name: str,
    repo_id: str,
    counts: Mapping[str, int],
    columns: tuple[str, ...],
    *,
    license_id: str | None = None,
    settings: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The card of a published data set.

    Args:
        name: A name of `DATASETS`.
        repo_id: Its repository.
        counts: Split to number of rows.
        columns: Its columns.
        license_id: Licence of own data, as the Hub spells it, e.g. `"cc-by-4.0"`.
        settings: What it was made with, shown as it is.
        notes: Paragraphs about these files, shown first.

    Returns:
        Text of README.md, with the metadata that lets `load_dataset` read it.
    """
    title, facts = FACTS[name].title, FACTS[name].dataset_card
    if facts is None:
        raise ValueError(f"name: expected one of {', '.join(DATASETS)}, got {name!r}")
    licence = facts.license if license_id is None else license_id
    text = facts.licence_text if license_id is None else f"{license_id}, as the publisher says."
    lines = [f"| {split} | {count:,} |" for split, count in counts.items()]
    made_with = "".join(f" {key}: {value}." for key, value in (settings or {}).items())
    template = importlib.resources.files("hub_cards").joinpath("dataset_card.md").read_text(encoding="utf-8")
    return Template(template).substitute(
        metadata=_metadata(title, facts, licence, counts).to_yaml(),
        pretty_name=title,
        summary="\n\n".join([*notes, facts.summary]),
        repo_id=repo_id,
        first_split=next(iter(counts)),
        split_rows="\n".join(lines),
        columns="\n".join(f"| `{column}` | {_COLUMNS[column]} |" for column in columns),
        content=facts.content + made_with,
        source=facts.source,
        conversion=Template(facts.conversion).substitute(version=package_version()),
        licence=text,
        limits="\n".join(f"- {limit}" for limit in facts.limits),
        citation=facts.citation,
    )


def _metadata(title: str, facts: DatasetCardText, licence: str, counts: Mapping[str, int]) -> DatasetCardData:
    """Metadata with the files of every split: with it `load_dataset(repository)` needs no script."""
    total = sum(counts.values())
    files = [{"split": split, "path": f"data/{split}-*.parquet"} for split in counts]
    return DatasetCardData(
        language="en",
        license=licence,
        license_name=facts.license_name if licence == "other" else None,
        task_categories=["image-segmentation"],
        pretty_name=title,
        size_categories=[next((label for limit, label in _SIZES if total < limit), "n>1M")],
        tags=["referring-image-segmentation", "remote-sensing"],
        configs=[{"config_name": "default", "data_files": files}],
    )
