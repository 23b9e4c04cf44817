"""What `rrsis prepare` can find in a download: every check with its severity, its meaning and what to do about it.

What stops and what is counted follows one rule. An **error** is damage: files can't be read as published, so samples
would be missing or wrong; fetching again helps. A **warning** is an oddity that published archives have or may have:
every sample can be read, in a way that is written down here. A **note** changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES: tuple[str, ...] = (ERROR, WARNING, NOTE)


@dataclass(frozen=True, slots=True)
class Check:
    """A kind of finding.

    Attributes:
        severity: `ERROR`, `WARNING` or `NOTE`.
        meaning: What it means for samples and scores.
        action: What to do; for warnings and notes also how the readers go on.
        leaves_out: Whether files are just not there, so that ``--allow-missing`` (`allow_missing` of the builders) can
            go on without the named samples.
    """

    severity: str
    meaning: str
    action: str
    leaves_out: bool = False


CHECKS: dict[str, Check] = {
    "unsafe-pickle": Check(
        severity=ERROR,
        meaning="The list of references asks to run code. Nothing of it was run.",
        action="Do not open it with pickle.load. Fetch it again from the authors' own link.",
    ),
    "unreadable-list": Check(
        severity=ERROR,
        meaning="A list of samples is missing or damaged; without it no sample of it is known.",
        action="Fetch this file again.",
    ),
    "wrong-count": Check(
        severity=ERROR,
        meaning="The list of a split has another length than published: scores could not be compared.",
        action="Fetch the lists again. Own data has no published counts: --expected none.",
    ),
    "unsafe-name": Check(
        severity=ERROR,
        meaning="A list names a file outside of the download.",
        action="Do not use this download.",
    ),
    "unknown-category": Check(
        severity=ERROR,
        meaning="A category that the benchmark does not have: the lists are not the published ones.",
        action="Fetch instances.json and refs(unc).p again, both from one place.",
    ),
    "duplicate-id": Check(
        severity=ERROR,
        meaning="References with the same ref_id and sent_id: results could not be told apart.",
        action="Fetch refs(unc).p again.",
    ),
    "missing-image": Check(
        severity=ERROR,
        meaning="An image that the lists name is not there.",
        action="Fetch it (some published archives lack images), or go on with --allow-missing.",
        leaves_out=True,
    ),
    "truncated-image": Check(
        severity=ERROR,
        meaning="An image file begins as an image, then ends early or is damaged.",
        action="Fetch it again; or delete it, then --allow-missing can go on.",
    ),
    "oversized-image": Check(
        severity=ERROR,
        meaning="An image file claims more pixels than are decoded; no benchmark has such images.",
        action="Fetching it again helps only if the copy is damaged. Delete it, then --allow-missing can go on.",
    ),
    "unreadable-image": Check(
        severity=ERROR,
        meaning="A file among the images is no image.",
        action="Fetch it again; or delete it, then --allow-missing can go on.",
    ),
    "missing-mask": Check(
        severity=ERROR,
        meaning="A mask file, or the annotation of a reference, is not there.",
        action="Fetch it again, or go on with --allow-missing.",
        leaves_out=True,
    ),
    "unreadable-mask": Check(
        severity=ERROR,
        meaning="A mask can't be decoded.",
        action="Fetch it again; or delete it (RRSIS-D: its annotation), then --allow-missing can go on.",
    ),
    "many-empty-masks": Check(
        severity=ERROR,
        meaning="So many masks of a split have no foreground that they were written in another way than published.",
        action="Fetch the masks again; own masks: write 0 and 255.",
    ),
    "nothing-left": Check(
        severity=ERROR,
        meaning="No reference is left, or none of a split: images or masks of all of them are missing.",
        action="Fetch images and masks; --allow-missing does not help.",
    ),
    "leak": Check(
        severity=ERROR,
        meaning="Two splits name the same image; the published lists do not.",
        action="Fetch the lists again; test scores would be too good.",
    ),
    "leak-content": Check(
        severity=WARNING,
        meaning="Images of two splits are byte for byte the same under different names.",
        action="Kept, as the published splits are fixed; tell it beside scores.",
    ),
    "mask-size": Check(
        severity=WARNING,
        meaning="A mask has another size than its image; RRSIS-D has such.",
        action="Kept: the mask is resized to its image (nearest).",
    ),
    "empty-mask": Check(
        severity=WARNING,
        meaning="A mask without foreground: the sample scores 0 whatever is predicted.",
        action="Kept, as the published metric counts it. Many of them in a split stop: many-empty-masks.",
    ),
    "mask-values": Check(
        severity=WARNING,
        meaning="Mask values other than 0 and 255, or codes of one mask that overlap.",
        action="Kept: above 50 is foreground; overlapping codes are united (the released code drops the overlap).",
    ),
    "bad-box": Check(
        severity=WARNING,
        meaning="A stored box overlaps the box around its mask by less than half (IoU < 0.5).",
        action="Kept: boxes are not used. Many of them would mean x, y, width, height instead of corners.",
    ),
    "annotation-mismatch": Check(
        severity=WARNING,
        meaning="A reference and its annotation differ in image or category.",
        action="Kept: image and category come from the reference, the mask from the annotation.",
    ),
    "duplicate-expression": Check(
        severity=WARNING,
        meaning="The same expression about the same image again (same file, or same bytes).",
        action="Kept, as published; such a sample counts twice.",
    ),
    "extra-file": Check(
        severity=WARNING,
        meaning="A file among images, masks or boxes that no list names.",
        action="Ignored. If images are missing as well, names may have changed.",
    ),
    "image-size": Check(
        severity=NOTE,
        meaning="An image of another size than the nominal one; RRSIS-D has such.",
        action="Kept at its size.",
    ),
    "image-mode": Check(
        severity=NOTE,
        meaning="An image that is not 8-bit RGB.",
        action="Kept: converted to 8-bit RGB while reading.",
    ),
    "missing-xml": Check(
        severity=NOTE,
        meaning="An image without its XML file of boxes.",
        action="Kept: the XML files are not used.",
    ),
    "extra-annotation": Check(severity=NOTE, meaning="An annotation that no reference names.", action="Ignored."),
    "other-file": Check(severity=NOTE, meaning="A file that is not part of the layout.", action="Ignored."),
    "no-counts": Check(
        severity=NOTE,
        meaning="There are no counts to compare with.",
        action="Compare the counts above with the source of the data.",
    ),
}
"""Check → what it is, the gravest first; findings are reported in this order."""


@dataclass(frozen=True, slots=True, order=True)
class FindingItem:
    """One thing that was found.

    Attributes:
        name: A file below the download's root, ``"<image>: reference <number>"``, or a split.
        detail: What exactly; may be empty.
    """

    name: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """All that one check found; never empty.

    Attributes:
        check: A key of `CHECKS`.
        items: What was found, sorted by name.
    """

    check: str
    items: tuple[FindingItem, ...]

    @property
    def severity(self) -> str:
        """`ERROR`, `WARNING` or `NOTE`."""
        return CHECKS[self.check].severity

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the items."""
        return tuple(item.name for item in self.items)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        check = CHECKS[self.check]
        return {
            "check": self.check,
            "severity": check.severity,
            "count": len(self.items),
            "meaning": check.meaning,
            "action": check.action,
            "items": [{"name": item.name, "detail": item.detail} for item in self.items],
        }


@dataclass(frozen=True)
class CheckReport:
    """What was checked and found.

    Attributes:
        dataset: ``"rrsisd"``, ``"refsegrs"`` or ``"risbench"``.
        source: The folder or zip.
        expected_from: Where the expected counts come from: ``"published"``, ``"demo"`` or ``"none"``.
        counts: References listed per split.
        expected: References expected per split; empty without counts to compare with.
        images: Images that the lists name.
        findings: In the order of `CHECKS`.
        left_out: Sample and reason for every sample whose image or mask is missing, sorted.
        left_out_per_split: Their number in each split.
        allow_missing: Whether they may be left out.
    """

    dataset: str
    source: str
    expected_from: str
    counts: dict[str, int]
    expected: dict[str, int]
    images: int
    findings: tuple[Finding, ...]
    left_out: tuple[FindingItem, ...] = ()
    left_out_per_split: dict[str, int] = field(default_factory=dict)
    allow_missing: bool = False

    @property
    def blocking(self) -> tuple[Finding, ...]:
        """The errors that stop: all, or with `allow_missing` those that leaving samples out does not help."""
        errors = (finding for finding in self.findings if finding.severity == ERROR)
        return tuple(finding for finding in errors if not (self.allow_missing and CHECKS[finding.check].leaves_out))

    @property
    def exit_code(self) -> int:
        """0 where the data can be built, 1 where damage stops it."""
        return 1 if self.blocking else 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; every name is in it."""
        return {
            "dataset": self.dataset,
            "source": self.source,
            "expected_from": self.expected_from,
            "splits": {
                split: {
                    "references": count,
                    "expected": self.expected.get(split),
                    "left_out": self.left_out_per_split.get(split, 0),
                }
                for split, count in self.counts.items()
            },
            "images": self.images,
            "findings": [finding.as_dict() for finding in self.findings],
            "left_out": [{"name": item.name, "reason": item.detail} for item in self.left_out],
            "allow_missing": self.allow_missing,
            "blocking": [finding.check for finding in self.blocking],
            "exit_code": self.exit_code,
        }
