"""The files of RefSegRS as published, and of RISBench, which has the same form with other folder names.

``output_phrase_{train,val,test}.txt`` has a line ``<id> <expression>`` per sample; images and masks lie in two
folders under the same ids.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..bounds_rrsis import TextEncodingError, decode_text
from ..expression_rrsis import check_text
from .files.archives import Archive, checked_name

logger = logging.getLogger(__name__)

SPLIT_FILES: dict[str, str] = {
    "train": "output_phrase_train.txt",
    "validation": "output_phrase_val.txt",
    "test": "output_phrase_test.txt",
}


@dataclass(frozen=True)
class PhraseLayout:
    """Where a benchmark of this form has its files.

    Attributes:
        image_folder: Folder of the images.
        mask_folder: Folder of the masks.
        extension: Of both, with its dot; ``""`` where the ids in the text files carry it.
    """

    image_folder: str
    mask_folder: str
    extension: str


REFSEGRS_LAYOUT = PhraseLayout(image_folder="images", mask_folder="masks", extension=".tif")
RISBENCH_LAYOUT = PhraseLayout(image_folder="img_rgb", mask_folder="mask", extension="")
PHRASE_LAYOUTS: dict[str, PhraseLayout] = {"refsegrs": REFSEGRS_LAYOUT, "risbench": RISBENCH_LAYOUT}


@dataclass(frozen=True)
class PhraseLine:
    """One line of a text file.

    Attributes:
        image_id: First word, which names image and mask; in RISBench with the file's extension.
        expression: The rest.
        line_number: From 1.
    """

    image_id: str
    expression: str
    line_number: int


def image_name(image_id: str, layout: PhraseLayout = REFSEGRS_LAYOUT) -> str:
    """Return the name of an image in the archive.

    Raises:
        ArchiveError: If the id would lead out of the archive.
    """
    return checked_name(f"{layout.image_folder}/{image_id}{layout.extension}", "a text file's id")


def mask_name(image_id: str, layout: PhraseLayout = REFSEGRS_LAYOUT) -> str:
    """Return the name of a mask in the archive; arguments and errors as `image_name`."""
    return checked_name(f"{layout.mask_folder}/{image_id}{layout.extension}", "a text file's id")


def plain_id(image_id: str) -> str:
    """Return an id without the file's extension."""
    return PurePosixPath(image_id).stem if PurePosixPath(image_id).suffix.lower() in _EXTENSIONS else image_id


_EXTENSIONS = frozenset({".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp"})


def read_phrases(archive: Archive, split: str) -> list[PhraseLine]:
    """Read the samples of a split, in the file's order.

    A line is split at its first blank; blanks around the expression and the line's end are stripped. Text that is
    not UTF-8 is read as Latin-1, with a warning.

    Args:
        archive: The opened download.
        split: ``"train"``, ``"validation"`` or ``"test"``.

    Raises:
        FileNotFoundError: If the archive has no file for the split.
        ValueError: For an unknown split, or a blank line or one without an expression; the message names the line.
    """
    if split not in SPLIT_FILES:
        raise ValueError(f"expected a split of {list(SPLIT_FILES)}, got {split!r}")
    name = SPLIT_FILES[split]
    data = archive.read(name)
    try:
        text = decode_text(data, source=archive.location(name))
    except TextEncodingError:
        logger.warning("%s is not UTF-8 and is read as Latin-1", archive.location(name))
        text = data.decode("latin-1")
    phrases = []
    # Not str.splitlines, which also breaks at characters that a sentence may hold. Blank lines at the end are an end.
    for number, line in enumerate(text.rstrip().split("\n") if text.strip() else [], start=1):
        image_id, _, expression = line.rstrip("\r").partition(" ")
        expression = expression.strip()
        if not image_id or not expression or image_id.split() != [image_id]:
            raise ValueError(
                f"{archive.location(name)}, line {number}: expected '<id> <expression>', got {line[:80]!r}; fetch the "
                "file again or remove the line"
            )
        check_text(expression, source=f"{archive.location(name)}, line {number}")
        phrases.append(PhraseLine(image_id=image_id, expression=expression, line_number=number))
    if not phrases:
        raise ValueError(f"{archive.location(name)}: expected lines '<id> <expression>', got an empty file")
    return phrases
