"""RefSegRS as a `datasets` builder."""

from __future__ import annotations

import re
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..expression_rrsis import CATEGORY_SETS, ExpressionParser
from .file_benchmark import FileBenchmark, Oddities, Sample
from .files.pictures import Picture, read_gray
from .refsegrs_files import (
    REFSEGRS_LAYOUT,
    SPLIT_FILES,
    PhraseLayout,
    image_name,
    mask_name,
    plain_id,
    read_phrases,
)

FOREGROUND_ABOVE = 50
"""Mask values above this are the target, as in the released code of the papers."""


class RefSegRS(FileBenchmark):
    """RefSegRS, referring segmentation with sets of objects as answers.

    Aerial images of a city, cropped from SkyScapes, with expressions such as "vehicle in the parking area"; the mask
    covers everything that the expression refers to.

    Source: https://huggingface.co/datasets/JessicaYuan/RefSegRS (``RefSegRS.zip``, 3 GB), folder or zip.
    Licence: CC-BY-4.0.
    Resolution: 0.13 m.
    Format: ``images/<id>.tif`` and ``masks/<id>.tif``, 512×512 px; ``output_phrase_{train,val,test}.txt`` with a line
    ``<id> <expression>`` per sample. Images are embedded as they are; masks become PNG, with values above 50 as the
    target; values other than 0 and 255 are counted in a warning.
    Samples: ``train`` 2,172, ``validation`` 431, ``test`` 1,817.
    Categories (14): road, vehicle, car, van, building, truck, trailer, bus, road marking, bikeway, sidewalk, tree, low
    vegetation, impervious surface. The files hold no category: the column ``category`` is the first category name in
    the expression (`ExpressionParser`), ``""`` where there is none.
    Columns: ``image``, ``mask``, ``expression``, ``category``, ``image_id``, ``sample_id`` (split and line).

    Citation: Zhenghang Yuan, Lichao Mou, Yuansheng Hua, Xiao Xiang Zhu: RRSIS: Referring Remote Sensing Image
    Segmentation. IEEE Transactions on Geoscience and Remote Sensing 62, 2024. arXiv:2306.08625.

    Example:
        >>> builder = RefSegRS(data_dir="RefSegRS.zip")  # doctest: +SKIP
        >>> builder.download_and_prepare(num_proc=2)  # doctest: +SKIP
        >>> test = builder.as_dataset(split="test")  # doctest: +SKIP
    """

    NAME = "RefSegRS"
    LICENSE = "CC-BY-4.0"
    DOWNLOAD = "fetch RefSegRS.zip from https://huggingface.co/datasets/JessicaYuan/RefSegRS"
    LAYOUT: ClassVar[PhraseLayout] = REFSEGRS_LAYOUT
    CATEGORIES: ClassVar[tuple[str, ...]] = CATEGORY_SETS["refsegrs"]
    FILES = (*SPLIT_FILES.values(), "images/", "masks/")

    def read_samples(self) -> dict[str, list[Sample]]:
        """Return the samples of the text files."""
        parser = ExpressionParser(self.CATEGORIES) if self.CATEGORIES else None
        return {
            split: [
                Sample(
                    sample_id=f"{split}_{line.line_number:05d}",
                    image_id=plain_id(line.image_id),
                    expression=line.expression,
                    category=first_category(line.expression, parser) if parser else "",
                    image_name=image_name(line.image_id, self.LAYOUT),
                    mask_name=mask_name(line.image_id, self.LAYOUT),
                )
                for line in read_phrases(self.archive, split)
            ]
            for split in SPLIT_FILES
        }

    def read_mask(self, sample: Sample, picture: Picture, oddities: Oddities) -> NDArray[np.uint8]:
        """Return the mask file's values above 50 as 255, the others as 0."""
        name = self.archive.location(sample.mask_name)
        values = read_gray(self.archive.read(sample.mask_name), name=name)
        if ((values != 0) & (values != 255)).any():
            oddities.add(
                f"masks had values other than 0 and 255 (above {FOREGROUND_ABOVE} is the target)", sample.mask_name
            )
        return np.where(values > FOREGROUND_ABOVE, np.uint8(255), np.uint8(0))


def first_category(expression: str, parser: ExpressionParser) -> str:
    """Return the category that an expression is about.

    Args:
        expression: The sentence.
        parser: A parser that knows the categories.

    Returns:
        The name of the first category in the sentence, singular and with blanks, or ``""``.
    """
    pieces = parser.parse(expression).words_of("ground_object")
    found = " ".join(re.findall(r"[^\W_]+", pieces[0].lower())) if pieces else ""
    for form in (found, *(found.removesuffix(ending) for ending in ("s", "es")), re.sub("ies$", "y", found)):
        if form in parser.categories:
            return form
    return ""
