"""Damage to a folder in RRSIS-D's layout; see `damage`."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from processing_rrsis.data.files.masks import decode_segmentation, encode_rle, tight_box
from processing_rrsis.data.files.safe_pickle import load_plain_pickle
from processing_rrsis.data.rrsisd_files import INSTANCES_FILE, REFERENCES_FILE, box_name, image_name
from processing_rrsis.data.writing.rrsisd import FILE_SPLITS, write_instances, write_references

from .damage import Damage, replace_by_web_page, take, truncate_file

SPLIT_ORDER = list(FILE_SPLITS.values())
UNKNOWN_CATEGORY = "spaceship"
FREE_FILE_NAME = "99999.jpg"


class RRSISDFolder:
    """Lists and files of a folder; a reference that was hit is in no pool any more.

    Args:
        folder: Written by `rrsisd.RRSISDWriter`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        references: Any = load_plain_pickle((folder / REFERENCES_FILE).read_bytes(), source=REFERENCES_FILE)
        self._references: list[dict[str, Any]] = references
        self._instances: dict[str, Any] = json.loads((folder / INSTANCES_FILE).read_text(encoding="utf-8"))
        self._annotations: dict[int, dict[str, Any]] = {item["id"]: item for item in self._instances["annotations"]}
        by_image: dict[str, list[dict[str, Any]]] = {}
        for reference in self._references:
            by_image.setdefault(reference["file_name"], []).append(reference)
        self._whole = list(by_image.values())
        """References of each image that is still whole."""

    def apply(self, kind: str, draw: random.Random) -> Damage:
        """Do one kind of damage."""
        if kind == "extra-file":
            return self._add_file()
        if kind in ("leak", "leak-content", "duplicate-expression"):
            return self._join_images(kind, draw=draw)
        references = take(self._whole, kind=kind, draw=draw)
        if kind in ("missing-image", "truncated-image", "unreadable-image"):
            return self._damage_image(kind, references[0])
        if kind == "wrong-count":
            return self._delete(references[0])
        return self._damage_annotation(kind, references[0])

    def save(self) -> None:
        """Write references and annotations again."""
        self._instances["annotations"] = list(self._annotations.values())
        write_instances(self.folder, self._instances)
        write_references(self.folder, self._references)

    def _add_file(self) -> Damage:
        name = image_name(FREE_FILE_NAME)
        Image.new("RGB", (8, 8), color=(7, 77, 7)).save(self.folder / name)
        return Damage(kind="extra-file", names=(name,), detail="a file that no reference names")

    def _damage_image(self, kind: str, reference: dict[str, Any]) -> Damage:
        name = image_name(reference["file_name"])
        path = self.folder / name
        if kind == "missing-image":
            path.unlink()
            detail = "deleted"
        else:
            detail = truncate_file(path) if kind == "truncated-image" else replace_by_web_page(path)
        return Damage(kind=kind, names=(name,), detail=detail)

    def _damage_annotation(self, kind: str, reference: dict[str, Any]) -> Damage:
        annotation = self._annotations[reference["ann_id"]]
        detail = {
            "missing-mask": self._drop_annotation,
            "unreadable-mask": _break_runs,
            "mask-size": _widen,
            "empty-mask": _empty,
            "mask-values": _overlap,
            "bad-box": _shift_box,
            "unknown-category": self._rename_category,
        }[kind](annotation)
        if kind == "unknown-category":
            reference["category_id"] = annotation["categories_id"]
        name = f"{image_name(reference['file_name'])}: reference {reference['ref_id']}"
        return Damage(kind=kind, names=(name,), detail=detail)

    def _drop_annotation(self, annotation: dict[str, Any]) -> str:
        del self._annotations[annotation["id"]]
        return f"annotation {annotation['id']} deleted"

    def _rename_category(self, annotation: dict[str, Any]) -> str:
        number = max(category["id"] for category in self._instances["categories"]) + 1
        entry = {"id": number, "name": UNKNOWN_CATEGORY, "supercategory": UNKNOWN_CATEGORY}
        self._instances["categories"].append(entry)
        annotation["categories_id"] = number
        return f"category {number}, {UNKNOWN_CATEGORY}"

    def _delete(self, reference: dict[str, Any]) -> Damage:
        self._references.remove(reference)
        del self._annotations[reference["ann_id"]]
        self._delete_unused_image(reference["file_name"])
        split = {name: split for split, name in FILE_SPLITS.items()}[reference["split"]]
        return Damage(kind="wrong-count", names=(split,), detail=f"reference {reference['ref_id']} deleted")

    def _delete_unused_image(self, file_name: str) -> None:
        if all(reference["file_name"] != file_name for reference in self._references):
            (self.folder / image_name(file_name)).unlink()
            (self.folder / box_name(file_name)).unlink()

    def _join_images(self, kind: str, draw: random.Random) -> Damage:
        """Give one reference the image of another: its file, or its file's content."""
        same_split = kind == "duplicate-expression"
        first = take(self._whole, kind=kind, draw=draw, fits=lambda item: item[0]["split"] == SPLIT_ORDER[0])
        said = {_expression(reference) for reference in first}

        def fits(item: list[dict[str, Any]]) -> bool:
            if same_split:
                return item[0]["split"] == first[0]["split"]
            return item[0]["split"] != first[0]["split"] and said.isdisjoint(map(_expression, item))

        second = take(self._whole, kind=kind, draw=draw, fits=fits)
        source, moved = first[0], second[0]
        if kind == "leak-content":
            target = image_name(moved["file_name"])
            (self.folder / target).write_bytes((self.folder / image_name(source["file_name"])).read_bytes())
            return Damage(kind=kind, names=(target,), detail=f"now a copy of {source['file_name']}")
        left = moved["file_name"]
        moved.update(image_id=source["image_id"], file_name=source["file_name"])
        self._annotations[moved["ann_id"]]["image_id"] = source["image_id"]
        if same_split:
            moved["sentences"] = [{**source["sentences"][0], "sent_id": moved["sent_ids"][0]}]
            moved["category_id"] = source["category_id"]
            self._annotations[moved["ann_id"]]["categories_id"] = source["category_id"]
        self._delete_unused_image(left)
        name = image_name(source["file_name"])
        return Damage(kind=kind, names=(name,), detail=f"reference {moved['ref_id']} moved here from {left}")


def _expression(reference: dict[str, Any]) -> str:
    return str(reference["sentences"][0]["raw"])


def _pixels(annotation: dict[str, Any]) -> NDArray[np.bool_]:
    return decode_segmentation(annotation["segmentation"]) > 0


def _break_runs(annotation: dict[str, Any]) -> str:
    runs = annotation["segmentation"][0]
    runs["counts"] = runs["counts"][: len(runs["counts"]) // 2]
    return "second half of the run lengths cut off"


def _widen(annotation: dict[str, Any]) -> str:
    mask = _pixels(annotation)
    annotation["segmentation"] = [encode_rle(np.pad(mask, ((0, 0), (0, 1))))]
    return f"{mask.shape[1] + 1} columns, image {mask.shape[1]}"


def _empty(annotation: dict[str, Any]) -> str:
    annotation["segmentation"] = [encode_rle(np.zeros_like(_pixels(annotation)))]
    return "no foreground"


def _overlap(annotation: dict[str, Any]) -> str:
    mask = _pixels(annotation)
    annotation["segmentation"] = [encode_rle(mask), encode_rle(mask)]
    return "two codes on the same pixels"


def _shift_box(annotation: dict[str, Any]) -> str:
    left, top, right, bottom = tight_box(_pixels(annotation))
    width, height = right - left + 1, bottom - top + 1
    annotation["bbox"] = [left + width, top + height, right + width, bottom + height]
    return f"[{left}, {top}, {right}, {bottom}] became {annotation['bbox']}"
