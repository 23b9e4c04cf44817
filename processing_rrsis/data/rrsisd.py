"""RRSIS-D as a `datasets` builder."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ..expression_rrsis import CATEGORY_SETS
from .file_benchmark import FileBenchmark, Oddities, Sample
from .files.masks import decode_segmentation
from .files.pictures import Picture
from .files.rows import SPLITS
from .rrsisd_files import (
    IMAGE_FOLDER,
    INSTANCES_FILE,
    REFERENCES_FILE,
    image_name,
    read_annotations,
    read_instances,
    read_references,
)


class RRSISD(FileBenchmark):
    """RRSIS-D, referring segmentation of single objects in images of very different scale.

    Images of DIOR with expressions such as "A gray slender small bridge" or "The ship on the lower left"; the masks
    were made by a segmentation model from DIOR's boxes.

    Source: by hand from https://github.com/Lsan2401/RMSIN; the folder or zip that holds ``images`` and ``rrsisd``.
    Licence: none stated; DIOR, where the images come from, is for non-commercial use.
    Resolution: 0.5 to 30 m, differs from image to image.
    Format: ``images/rrsisd/JPEGImages/%05d.jpg``, nominally 800×800 px (a few differ by pixels);
    ``rrsisd/refs(unc).p``, a pickle, read without running anything in it; ``rrsisd/instances.json`` with run-length
    masks. Images are embedded as they are; masks become PNG, resized (nearest) where their size is not the image's,
    which a warning counts. Edges of the published masks are noisy; they are not cleaned.
    Samples: ``train`` 12,181, ``validation`` 1,740, ``test`` 3,481. Some published archives miss 63 of the images:
    that is an error which names them, unless ``allow_missing=True`` leaves those samples out.
    Categories (20), in the spelling of the expressions ("golf field" for the files' "golffield"): airplane, airport,
    baseball field, basketball court, bridge, chimney, dam, expressway service area, expressway toll station, golf
    field, ground track field, harbor, overpass, ship, stadium, storage tank, tennis court, train station, vehicle,
    windmill.
    Columns: ``image``, ``mask``, ``expression``, ``category``, ``image_id``, ``sample_id`` (reference and sentence).

    Citation: Sihan Liu, Yiwei Ma, Xiaoqing Zhang, Haowei Wang, Jiayi Ji, Xiaoshuai Sun, Rongrong Ji: Rotated
    Multi-Scale Interaction Network for Referring Remote Sensing Image Segmentation. CVPR 2024. arXiv:2312.12470.

    Example:
        >>> builder = RRSISD(data_dir="RRSIS-D", allow_missing=True)  # doctest: +SKIP
        >>> builder.download_and_prepare(num_proc=2)  # doctest: +SKIP
        >>> test = builder.as_dataset(split="test")  # doctest: +SKIP
    """

    NAME = "RRSIS-D"
    LICENSE = "not stated; images from DIOR, non-commercial use"
    DOWNLOAD = "https://github.com/Lsan2401/RMSIN links to it"
    FILES = (REFERENCES_FILE, INSTANCES_FILE, f"{IMAGE_FOLDER}/")

    def read_samples(self) -> dict[str, list[Sample]]:
        """Return the samples of the references, each with its mask as stored."""
        instances = read_instances(self.archive)
        annotations = read_annotations(self.archive, instances)
        samples: dict[str, list[Sample]] = {split: [] for split in SPLITS}
        for reference in read_references(self.archive, instances):
            annotation = annotations.get(reference.ann_id)
            samples[reference.split].append(
                Sample(
                    sample_id=f"{reference.ref_id}_{reference.sent_id}",
                    image_id=PurePosixPath(reference.file_name).stem,
                    expression=reference.expression,
                    category=spaced_category(reference.category),
                    image_name=image_name(reference.file_name),
                    mask=None if annotation is None else annotation.segmentation,
                )
            )
        return samples

    def read_mask(self, sample: Sample, picture: Picture, oddities: Oddities) -> NDArray[np.uint8]:
        """Return the mask at its own size; polygons are drawn at the image's."""
        source = f"{self.archive.location(INSTANCES_FILE)}, mask of reference {sample.sample_id}"
        return decode_segmentation(sample.mask, size=picture.size, source=source)


def spaced_category(name: str) -> str:
    """Return a category's name as expressions spell it.

    Args:
        name: As the files spell it, e.g. ``"Expressway-toll-station"`` or ``"golffield"``.

    Returns:
        Lower case with blanks, e.g. ``"golf field"``; an unknown name keeps its words.
    """
    words = re.sub(r"[^\w]+|_+", " ", name).strip().lower()
    return _SPACED.get(words.replace(" ", ""), words)


_SPACED = {name.replace(" ", ""): name for name in CATEGORY_SETS["rrsisd"]}
