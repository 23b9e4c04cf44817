"""What is known of each benchmark, once: counts, size, licence, citation, and what cards say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModelCardText:
    """What the card of a model that was trained on a benchmark says about it.

    Args:
        dataset_type: Identifier in the card's metadata; a Hub name where there is one.
        description: Source and content, one sentence.
        licence: Licence of the data and what follows from it.
        model_licence: `license` of the metadata for weights trained on it.
        splits: Splits whose results a card shows, or says to be not measured.
        example: An expression of its kind.
        licence_name: Its name where `model_licence` is "other".
        on_hub: Whether `dataset_type` is a dataset on the Hub.
        limits: What follows for models trained on it.
    """

    dataset_type: str
    description: str
    licence: str
    model_licence: str
    splits: tuple[str, ...]
    example: str
    licence_name: str | None = None
    on_hub: bool = False
    limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatasetCardText:
    """What the card of a published copy of a benchmark says.

    Args:
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


@dataclass(frozen=True)
class BenchmarkFacts:
    """A benchmark.

    Args:
        name: Its name.
        model_card: For cards of models trained on it.
        dataset_card: For the card of a published copy; `None` where none is published.
        counts: References per split as published; empty where our sources do not state them.
        side_px: Side of its square images in pixels; `None` where they differ or are not stated.
    """

    name: str
    model_card: ModelCardText
    dataset_card: DatasetCardText | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    side_px: int | None = None

    @property
    def title(self) -> str:
        """The name at the beginning of a sentence."""
        return f"{self.name[0].upper()}{self.name[1:]}"


SYNTHETIC = BenchmarkFacts(
    name="SyntheticRS",
    model_card=ModelCardText(
        dataset_type="synthetic-rs",
        description="SyntheticRS, scenes rendered from a seed, in which every expression has exactly one answer",
        licence="Apache-2.0; the scenes are made by this project's code.",
        model_licence="apache-2.0",
        splits=("test", "test_compositional", "test_absent"),
        example="the red ship on the upper left",
        limits=(
            "Trained on rendered scenes with eight categories. It shows whether a network reads an expression; on "
            "real photographs its masks are not to be relied on.",
        ),
    ),
    dataset_card=DatasetCardText(
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
)

REFSEGRS = BenchmarkFacts(
    name="RefSegRS",
    counts={"train": 2_172, "validation": 431, "test": 1_817},  # its paper, table 1, and the released files
    side_px=512,
    model_card=ModelCardText(
        dataset_type="JessicaYuan/RefSegRS",
        description="RefSegRS, aerial images of 512×512 px at 0.13 m with 14 categories",
        licence="CC-BY-4.0; name the authors of RefSegRS.",
        model_licence="apache-2.0",
        splits=("test",),
        example="light-duty vehicle driving on the road",
        on_hub=True,
        limits=(
            "Trained on images of 0.13 m per pixel and 14 categories; other resolutions and objects are untried.",
        ),
    ),
    dataset_card=DatasetCardText(
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
)

RRSISD = BenchmarkFacts(
    name="RRSIS-D",
    counts={"train": 12_181, "validation": 1_740, "test": 3_481},  # RMSIN's paper, and the released files
    side_px=800,
    model_card=ModelCardText(
        dataset_type="rrsisd",
        description="RRSIS-D, images of 800×800 px with 20 categories, derived from DIOR",
        licence="none is stated for RRSIS-D; it derives from DIOR, which is for non-commercial use. Weights trained "
        "on it should be treated alike.",
        model_licence="other",
        licence_name="non-commercial-training-data",
        splits=("validation", "test"),
        example="The gray bridge on the left",
        limits=("The masks of RRSIS-D are noisy at their edges; high IoUs say little about exact outlines.",),
    ),
    dataset_card=DatasetCardText(
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
)

RISBENCH = BenchmarkFacts(
    name="RISBench",
    model_card=ModelCardText(
        dataset_type="risbench",
        description="RISBench, images and long expressions in RefSegRS's layout",
        licence="not recorded; ask its authors before weights trained on it are used commercially.",
        model_licence="unknown",
        splits=("validation", "test"),
        example="the gray bridge on the left of the image",
        limits=("The recipe's numbers are those for RRSIS-D and were not tuned on RISBench.",),
    ),
)

OWN = BenchmarkFacts(
    name="own data",
    model_card=ModelCardText(
        dataset_type="own",
        description="the trainer's own images, masks and expressions",
        licence="not recorded; whoever trained this model knows it.",
        model_licence="unknown",
        splits=("validation", "test"),
        example="the building on the left",
        limits=("What the training data does not show is untried: other sensors, resolutions, objects and words.",),
    ),
    dataset_card=DatasetCardText(
        summary="Overhead images with expressions and masks, collected by the publisher.",
        content="Resolution and categories: not recorded.",
        source="The publisher's own table of images, masks and expressions.",
        license="unknown",
        licence_text="Not recorded; ask the publisher.",
        limits=("What the images show, where and when they were taken: not recorded.",),
        citation="Not recorded.",
    ),
)

FACTS: dict[str, BenchmarkFacts] = {
    "synthetic": SYNTHETIC,
    "refsegrs": REFSEGRS,
    "rrsisd": RRSISD,
    "risbench": RISBENCH,
    "own": OWN,
}
DOWNLOADS: tuple[str, ...] = ("rrsisd", "refsegrs", "risbench")
"""Benchmarks that are downloads in a published layout."""
PUBLISHED_COUNTS: dict[str, Mapping[str, int]] = {name: facts.counts for name, facts in FACTS.items() if facts.counts}
"""References per split; our sources do not state RISBench's."""
