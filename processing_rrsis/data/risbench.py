"""RISBench as a `datasets` builder."""

from __future__ import annotations

from .refsegrs import RefSegRS
from .refsegrs_files import RISBENCH_LAYOUT, SPLIT_FILES


class RISBench(RefSegRS):
    """RISBench, a large benchmark with long expressions, in the form of RefSegRS.

    Source: https://github.com/HIT-SIRS/CroBIM (links to the download), folder or zip. Licence: not stated.
    Resolution: differs from image to image.
    Format: ``img_rgb/<file>``, ``mask/<file>``; ``output_phrase_{train,val,test}.txt`` with a line ``<file>
    <expression>`` per sample, the file with its extension. Images are embedded as they are; masks become PNG, with
    values above 50 as the target; values other than 0 and 255 are counted in a warning.
    Samples: 52,472 in the paper; the text files say how they are split.
    Categories: the files hold none, and the column ``category`` is ``""``.
    Columns: ``image``, ``mask``, ``expression``, ``category``, ``image_id``, ``sample_id`` (split and line).

    Citation: Zhe Dong, Yuzhe Sun, Tianzhu Liu, Wangmeng Zuo, Yanfeng Gu: Cross-Modal Bidirectional Interaction Model
    for Referring Remote Sensing Image Segmentation. arXiv:2410.08613, 2024.

    Example:
        >>> builder = RISBench(data_dir="RISBench")  # doctest: +SKIP
        >>> builder.download_and_prepare(num_proc=2)  # doctest: +SKIP
    """

    NAME = "RISBench"
    LICENSE = "not stated"
    DOWNLOAD = "https://github.com/HIT-SIRS/CroBIM links to it"
    LAYOUT = RISBENCH_LAYOUT
    CATEGORIES = ()
    FILES = (*SPLIT_FILES.values(), "img_rgb/", "mask/")
