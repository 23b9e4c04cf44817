"""What the cards of published data sets say; fills `hub_cards/dataset_card.md`."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import Any

from huggingface_hub import DatasetCardData

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


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a data set.

    Args:
        pretty_name: Its name.
        summary: What it is, one or two sentences.
        content: Resolution, categories, sizes.
        source: Where the files come from.
        license: Identifier of the licence for the metadata.
        licence_text: The licence in words, and what follows from it.
        limits: One sentence each.
        citation: Markdown.
        license_name: Name of the licence where the identifier is `other`.
        conversion: What was done to the files, with `$version` for that of rrsis.
    """

    pretty_name: str
    summary: str
    content: str
    source: str
    license: str
    licence_text: str
    limits: tuple[str, ...]
    citation: str
    license_name: str | None = None
    conversion: str = (
        "Converted by rrsis $version: images byte for byte (a TIFF that Pillow can't open as 8-bit PNG), masks as PNG "
        "of their image's size, resized by nearest neighbour where they differ. Nothing was cleaned, relabelled or "
        "moved between splits."
    )


DATASETS: dict[str, DatasetFacts] = {
    "refsegrs": DatasetFacts(
        pretty_name="RefSegRS",
        summary="Aerial images of a city with expressions such as “light-duty vehicle driving on the road”; the mask "
        "covers everything that the expression refers to.",
        content="Images of 512×512 px at 0.13 m. 14 categories: road, vehicle, car, van, building, truck, trailer, "
        "bus, road marking, bikeway, sidewalk, tree, low vegetation, impervious surface. The published files hold no "
        "category: the column is the first category name in the expression.",
        source="`RefSegRS.zip` of [JessicaYuan/RefSegRS](https://huggingface.co/datasets/JessicaYuan/RefSegRS); the "
        "images are cropped from SkyScapes.",
        license="cc-by-4.0",
        licence_text="CC-BY-4.0, as published: share and adapt it, and name its authors, below.",
        limits=(
            "One city, one sensor, one resolution.",
            "Mask values above 50 of the published files count as the object.",
        ),
        citation="Zhenghang Yuan, Lichao Mou, Yuansheng Hua, Xiao Xiang Zhu: RRSIS: Referring Remote Sensing Image "
        "Segmentation. IEEE Transactions on Geoscience and Remote Sensing 62, 2024. arXiv:2306.08625.",
    ),
    "rrsisd": DatasetFacts(
        pretty_name="RRSIS-D",
        summary="Images of DIOR with expressions such as “The ship on the lower left”, one object each.",
        content="Images of nominally 800×800 px at 0.5 to 30 m. 20 categories: airplane, airport, baseball field, "
        "basketball court, bridge, chimney, dam, expressway service area, expressway toll station, golf field, ground "
        "track field, harbor, overpass, ship, stadium, storage tank, tennis court, train station, vehicle, windmill.",
        source="The archive that [RMSIN](https://github.com/Lsan2401/RMSIN) links to; its images are DIOR's, its "
        "masks were made by a segmentation model from DIOR's boxes.",
        license="other",
        license_name="none-stated-derived-from-non-commercial-dior",
        licence_text="**No licence is stated for RRSIS-D. It derives from DIOR, which is for non-commercial use.** "
        "Whoever published this copy said that they have the right to. Use it for research only, and ask the authors "
        "before anything else.",
        limits=(
            "The masks' edges are noisy, as published: high IoUs say little about exact outlines.",
            "Some published archives miss images; the table above counts what is here.",
        ),
        citation="Sihan Liu, Yiwei Ma, Xiaoqing Zhang, Haowei Wang, Jiayi Ji, Xiaoshuai Sun, Rongrong Ji: Rotated "
        "Multi-Scale Interaction Network for Referring Remote Sensing Image Segmentation. CVPR 2024. "
        "arXiv:2312.12470.\n\nKe Li, Gang Wan, Gong Cheng, Liqiu Meng, Junwei Han: Object detection in optical remote "
        "sensing images: A survey and a new benchmark (DIOR). ISPRS Journal of Photogrammetry and Remote Sensing 159, "
        "2020. arXiv:1909.00133.",
    ),
    "synthetic": DatasetFacts(
        pretty_name="SyntheticRS",
        summary="Scenes rendered from a seed. For every attribute that an expression uses, the scene holds an object "
        "of the same category that differs in exactly that attribute, and every expression has exactly one answer: it "
        "shows whether a model reads.",
        content="Square images. `test_compositional` names pairs of category and attribute that no other split has; "
        "in `test_absent` the object is not there and the mask is empty.",
        source="It is rendered; the same seed and version give the same data.",
        conversion="Rendered by rrsis $version.",
        license="apache-2.0",
        licence_text="Apache-2.0; everything in it was made by this project's code.",
        limits=("Rendered scenes: what a model scores here says little about photographs.",),
        citation="None; it comes with rrsis.",
    ),
    "own": DatasetFacts(
        pretty_name="Own data",
        summary="Overhead images with expressions and masks, collected by the publisher.",
        content="Resolution and categories: not recorded.",
        source="The publisher's own table of images, masks and expressions.",
        license="unknown",
        licence_text="Not recorded; ask the publisher.",
        limits=("What the images show, where and when they were taken: not recorded.",),
        citation="Not recorded.",
    ),
}


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
    facts = DATASETS[name]
    licence = facts.license if license_id is None else license_id
    text = facts.licence_text if license_id is None else f"{license_id}, as the publisher says."
    lines = [f"| {split} | {count:,} |" for split, count in counts.items()]
    made_with = "".join(f" {key}: {value}." for key, value in (settings or {}).items())
    template = importlib.resources.files("hub_cards").joinpath("dataset_card.md").read_text(encoding="utf-8")
    return Template(template).substitute(
        metadata=_metadata(facts, licence, counts).to_yaml(),
        pretty_name=facts.pretty_name,
        summary="\n\n".join([*notes, facts.summary]),
        repo_id=repo_id,
        first_split=next(iter(counts)),
        split_rows="\n".join(lines),
        columns="\n".join(f"| `{column}` | {_COLUMNS[column]} |" for column in columns),
        content=facts.content + made_with,
        source=facts.source,
        conversion=Template(facts.conversion).substitute(version=importlib.metadata.version("rrsis")),
        licence=text,
        limits="\n".join(f"- {limit}" for limit in facts.limits),
        citation=facts.citation,
    )


def _metadata(facts: DatasetFacts, licence: str, counts: Mapping[str, int]) -> DatasetCardData:
    """Metadata with the files of every split: with it `load_dataset(repository)` needs no script."""
    total = sum(counts.values())
    files = [{"split": split, "path": f"data/{split}-*.parquet"} for split in counts]
    return DatasetCardData(
        language="en",
        license=licence,
        license_name=facts.license_name if licence == "other" else None,
        task_categories=["image-segmentation"],
        pretty_name=facts.pretty_name,
        size_categories=[next((label for limit, label in _SIZES if total < limit), "n>1M")],
        tags=["referring-image-segmentation", "remote-sensing"],
        configs=[{"config_name": "default", "data_files": files}],
    )
