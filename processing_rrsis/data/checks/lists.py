"""The samples that a download's lists name, in one form for all layouts, and what is wrong with the lists."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from .. import refsegrs_files, rrsisd_files
from ..files.archives import Archive
from ..files.marker import MARKER_FILE
from ..files.rows import SPLITS
from ..files.safe_pickle import UnsafePickleError, load_plain_pickle
from ..refsegrs_files import PHRASE_LAYOUTS, SPLIT_FILES, PhraseLayout
from ..rrsisd import spaced_category
from ..rrsisd_files import BOX_FOLDER, IMAGE_FOLDER, INSTANCES_FILE, REFERENCES_FILE
from .pictures import MaskTask


@dataclass(frozen=True, slots=True)
class ListedSample:
    """One expression about one image.

    Attributes:
        label: What the report calls it where the mask is meant.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        image: Name of the image in the archive.
        expression: The expression.
        mask: Its mask; None where there is no annotation.
    """

    label: str
    split: str
    image: str
    expression: str
    mask: MaskTask | None


@dataclass
class Listing:
    """What the lists of a download say.

    Attributes:
        samples: All samples whose names are safe.
        counts: Entries of each split that could be read, unsafe ones included.
        problems: (check, name, detail) of everything wrong with the lists.
        known_files: Names that belong to the layout, whether they exist or not.
        folders: Folders in which every file should be named by a list.
        complete: Whether all lists could be read.
    """

    samples: list[ListedSample] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    problems: list[tuple[str, str, str]] = field(default_factory=list)
    known_files: set[str] = field(default_factory=lambda: {MARKER_FILE})
    folders: tuple[str, ...] = ()
    complete: bool = True


def list_samples(archive: Archive, dataset: str, categories: Collection[str]) -> Listing:
    """Read the lists of a download.

    Args:
        archive: The opened download.
        dataset: ``"rrsisd"``, ``"refsegrs"`` or ``"risbench"``.
        categories: Category names that RRSIS-D's files may use, as `spaced_category` spells them.
    """
    if dataset == "rrsisd":
        return _list_rrsisd(archive, categories)
    return _list_phrases(archive, PHRASE_LAYOUTS[dataset])


def _list_phrases(archive: Archive, layout: PhraseLayout) -> Listing:
    listing = Listing(folders=(layout.image_folder, layout.mask_folder))
    for split, file_name in SPLIT_FILES.items():
        listing.known_files.add(file_name)
        try:
            lines = refsegrs_files.read_phrases(archive, split)
        except (OSError, ValueError) as error:
            listing.problems.append(("unreadable-list", file_name, str(error)))
            listing.complete = False
            continue
        listing.counts[split] = len(lines)
        for line in lines:
            try:
                image = refsegrs_files.image_name(line.image_id, layout)
                mask = refsegrs_files.mask_name(line.image_id, layout)
            except ValueError:
                listing.problems.append(("unsafe-name", f"{file_name}: line {line.line_number}", line.image_id))
                continue
            listing.known_files.update((image, mask))
            listing.samples.append(
                ListedSample(
                    label=mask,
                    split=split,
                    image=image,
                    expression=line.expression,
                    mask=MaskTask(label=mask, source=mask),
                )
            )
    return listing


def _list_rrsisd(archive: Archive, categories: Collection[str]) -> Listing:
    listing = Listing(folders=(IMAGE_FOLDER, BOX_FOLDER))
    listing.known_files.update((REFERENCES_FILE, INSTANCES_FILE))
    lists = _read_rrsisd(archive, listing)
    if lists is None:
        listing.complete = False
        return listing
    references, annotations = lists
    for reference in references:
        listing.counts[reference.split] += 1
        try:
            image, box = rrsisd_files.image_name(reference.file_name), rrsisd_files.box_name(reference.file_name)
        except ValueError:
            name = f"{REFERENCES_FILE}: reference {reference.ref_id}"
            listing.problems.append(("unsafe-name", name, reference.file_name))
            continue
        if box not in listing.known_files and not archive.exists(box):
            listing.problems.append(("missing-xml", box, ""))
        listing.known_files.update((image, box))
        label = f"{image}: reference {reference.ref_id}"
        annotation = annotations.get(reference.ann_id)
        if annotation is None:
            listing.problems.append(("missing-mask", label, f"{INSTANCES_FILE} has no annotation {reference.ann_id}"))
        elif (annotation.image_id, annotation.category) != (reference.image_id, reference.category):
            detail = (
                f"reference: image {reference.image_id}, {reference.category}; annotation {annotation.ann_id}: image "
                f"{annotation.image_id}, {annotation.category or 'no category'}"
            )
            listing.problems.append(("annotation-mismatch", label, detail))
        if spaced_category(reference.category) not in categories:
            listing.problems.append(("unknown-category", label, reference.category))
        listing.samples.append(
            ListedSample(
                label=label,
                split=reference.split,
                image=image,
                expression=reference.expression,
                mask=None if annotation is None else MaskTask(label=label, source=annotation),
            )
        )
    for reference in rrsisd_files.repeated_references(references):
        name = f"{REFERENCES_FILE}: reference {reference.ref_id}"
        listing.problems.append(("duplicate-id", name, f"sentence {reference.sent_id} again"))
    named = {reference.ann_id for reference in references}
    listing.problems.extend(
        ("extra-annotation", f"{INSTANCES_FILE}: annotation {number}", "")
        for number in annotations
        if number not in named
    )
    return listing


def _read_rrsisd(
    archive: Archive, listing: Listing
) -> tuple[list[rrsisd_files.Reference], dict[int, rrsisd_files.Annotation]] | None:
    """Read both lists; what is wrong goes to the listing. The pickle is looked at even where the other is missing."""
    instances = None
    try:
        instances = rrsisd_files.read_instances(archive)
        annotations = rrsisd_files.read_annotations(archive, instances)
    except (OSError, ValueError) as error:
        listing.problems.append(("unreadable-list", INSTANCES_FILE, str(error)))
    try:
        if instances is None:
            load_plain_pickle(archive.read(REFERENCES_FILE), source=archive.location(REFERENCES_FILE))
            return None
        references = rrsisd_files.read_references(archive, instances, unique=False)
    except UnsafePickleError as error:
        listing.problems.append(("unsafe-pickle", REFERENCES_FILE, str(error)))
        return None
    except (OSError, ValueError) as error:
        listing.problems.append(("unreadable-list", REFERENCES_FILE, str(error)))
        return None
    return None if any(check == "unreadable-list" for check, _, _ in listing.problems) else (references, annotations)
