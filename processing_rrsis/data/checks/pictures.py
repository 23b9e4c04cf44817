"""Looks into one image and the masks that belong to it; runs in any process and returns only what is wrong."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...image_loading_rrsis import FORMATS, ImageSizeError
from ..files.archives import Archive
from ..files.masks import decode_segmentation, tight_box
from ..files.pictures import Picture, fit_mask, read_gray, read_picture
from ..refsegrs import FOREGROUND_ABOVE
from ..rrsisd_files import INSTANCES_FILE, Annotation

MIN_BOX_IOU = 0.5
"""Stored masks are noisy at the edge, so boxes can only be compared roughly."""
_IMAGE_SIGNATURES: tuple[bytes, ...] = (b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF8")


@dataclass(frozen=True, slots=True)
class MaskTask:
    """A mask to look into.

    Attributes:
        label: What the report calls it.
        source: Name of a mask file, or an annotation.
    """

    label: str
    source: str | Annotation


@dataclass(frozen=True, slots=True)
class ImageTask:
    """An image and its masks.

    Attributes:
        name: Name of the image in the archive.
        masks: What belongs to it.
        nominal_size_px: Side that images have as published, or None.
    """

    name: str
    masks: tuple[MaskTask, ...]
    nominal_size_px: int | None = None


@dataclass(slots=True)
class ImageFacts:
    """What was found out about an image and its masks.

    Attributes:
        name: Name of the image in the archive.
        digest: Hash of the file's bytes; None where there is no file.
        problems: (check, name, detail) of everything that was found.
    """

    name: str
    digest: bytes | None = None
    problems: list[tuple[str, str, str]] = field(default_factory=list)


def examine(archive: Archive, task: ImageTask) -> ImageFacts:
    """Decode an image and its masks completely and compare them.

    Args:
        archive: The opened download.
        task: What to look into.

    Returns:
        The image's hash and every problem; pixels are not kept.
    """
    facts = ImageFacts(name=task.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata; what counts is whether pixels come out
        picture = _examine_image(archive, task, facts=facts)
        for mask in task.masks:
            problems = (
                _examine_annotation(mask.source, picture)
                if isinstance(mask.source, Annotation)
                else _examine_file(archive, mask.source, picture)
            )
            facts.problems.extend((check, mask.label, detail) for check, detail in problems)
    return facts


def _examine_image(archive: Archive, task: ImageTask, facts: ImageFacts) -> Picture | None:
    """Read an image as the builders do, or return None where that fails; problems go to `facts`."""
    try:
        content = archive.read(task.name)
    except FileNotFoundError:
        facts.problems.append(("missing-image", task.name, ""))
        return None
    except (ValueError, OSError) as error:
        facts.problems.append(("unreadable-image", task.name, str(error)))
        return None
    facts.digest = hashlib.blake2b(content, digest_size=16).digest()
    try:
        picture = read_picture(content, name=archive.location(task.name))
    except ValueError as error:
        check, detail = _failure(content, error)
        facts.problems.append((check, task.name, detail))
        return None
    facts.problems.extend((check, task.name, detail) for check, detail in _image_oddities(content, picture, task))
    return picture


def _failure(content: bytes, error: ValueError) -> tuple[str, str]:
    """(check, detail) of a file that can't be decoded, in the same few words on every machine."""
    if isinstance(error, ImageSizeError):
        return "oversized-image", "more pixels than are decoded at once"
    if content.startswith(_IMAGE_SIGNATURES):
        return "truncated-image", f"{len(content)} bytes, which can't be decoded to the end"
    return "unreadable-image", f"{len(content)} bytes, beginning with {content[:14]!r}"


def _image_oddities(content: bytes, picture: Picture, task: ImageTask) -> list[tuple[str, str]]:
    """Return (check, detail) where an image is not as all the others."""
    oddities: list[tuple[str, str]] = []
    height, width = picture.size
    nominal = task.nominal_size_px
    if nominal is not None and picture.size != (nominal, nominal):
        oddities.append(("image-size", f"{width} x {height}, nominal {nominal} x {nominal}"))
    if picture.data is not content:
        oddities.append(("image-mode", "a TIFF of other bands or bit depth"))
    else:
        with Image.open(io.BytesIO(content), formats=FORMATS) as header:
            if header.mode != "RGB":
                oddities.append(("image-mode", header.mode))
    return oddities


def _examine_annotation(annotation: Annotation, picture: Picture | None) -> list[tuple[str, str]]:
    """Return (check, detail) of everything odd about an annotation."""
    has_size = _has_own_size(annotation.segmentation)
    if picture is None and not has_size:
        return []  # a polygon is drawn at its image's size, and that can't be read
    try:
        size = None if has_size or picture is None else picture.size
        source = f"{INSTANCES_FILE}, annotation {annotation.ann_id}"
        mask = decode_segmentation(annotation.segmentation, size=size, source=source)
    except ValueError as error:
        return [("unreadable-mask", str(error))]
    problems = _compare_sizes(mask, picture)
    if not mask.any():
        return [*problems, ("empty-mask", "")]
    overlap = _overlapping_pixels(annotation.segmentation)
    if overlap:
        problems.append(("mask-values", f"{overlap} px lie in several codes"))
    iou = box_iou(mask, annotation.bbox_xyxy)
    if iou < MIN_BOX_IOU:
        box = ", ".join(f"{value:g}" for value in annotation.bbox_xyxy)
        problems.append(("bad-box", f"[{box}], around the mask {tight_box(mask)}: IoU {iou:.2f}"))
    return problems


def _examine_file(archive: Archive, name: str, picture: Picture | None) -> list[tuple[str, str]]:
    """Return (check, detail) of everything odd about a mask file."""
    try:
        content = archive.read(name)
    except FileNotFoundError:
        return [("missing-mask", "")]
    except (ValueError, OSError) as error:
        return [("unreadable-mask", str(error))]
    try:
        values = read_gray(content, name=archive.location(name))
    except ValueError as error:
        return [("unreadable-mask", _failure(content, error)[1])]
    problems = _compare_sizes(values, picture)
    counts = np.bincount(values.ravel(), minlength=256)
    odd = np.flatnonzero(counts[1:255]) + 1
    if odd.size:
        shown = ", ".join(map(str, odd[:4].tolist()))
        problems.append(("mask-values", f"{int(counts[odd].sum())} px with {shown}{' …' if odd.size > 4 else ''}"))
    if not counts[FOREGROUND_ABOVE + 1 :].any():
        largest = int(np.flatnonzero(counts).max())
        problems.append(("empty-mask", f"no value above {FOREGROUND_ABOVE}, largest {largest}"))
    return problems


def _compare_sizes(mask: NDArray[np.uint8], picture: Picture | None) -> list[tuple[str, str]]:
    if picture is None or not fit_mask(mask, picture)[1]:
        return []
    return [("mask-size", f"{mask.shape[1]} x {mask.shape[0]}, image {picture.size[1]} x {picture.size[0]}")]


def _has_own_size(segmentation: Any) -> bool:
    """Tell run lengths, which bring their size, from polygons."""
    first = segmentation[0] if isinstance(segmentation, list) and segmentation else segmentation
    return isinstance(first, Mapping)


def _overlapping_pixels(segmentation: Any) -> int:
    """Return how many pixels lie in more than one of several run-length codes."""
    if not isinstance(segmentation, list) or len(segmentation) < 2 or not _has_own_size(segmentation):
        return 0
    times = sum((decode_segmentation(part) > 0).astype(np.uint8) for part in segmentation)
    return int(np.count_nonzero(times > 1)) if isinstance(times, np.ndarray) else 0


def box_iou(mask: NDArray[np.uint8], box_xyxy: tuple[float, float, float, float]) -> float:
    """Return the IoU of a stored box and the smallest box around a mask, in [0, 1].

    The corner at the lower right may be the last pixel or the edge behind it: the better reading counts.

    Args:
        mask: (H, W), not empty.
        box_xyxy: Left, top, right, bottom in pixels.
    """
    left, top, right, bottom = tight_box(mask)
    return max(
        _iou((left, top, right + 1, bottom + 1), (*box_xyxy[:2], box_xyxy[2] + extra, box_xyxy[3] + extra))
        for extra in (0.0, 1.0)
    )


def _iou(first: tuple[float, float, float, float], second: tuple[float, float, float, float]) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / (sum(areas) - width * height)
