"""One's own images, masks and expressions as a `datasets` builder."""

from __future__ import annotations

import hashlib
import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bounds_rrsis import MAX_TEXT_BYTES, read_file
from ..image_loading_rrsis import BESIDE, second_mask
from ..place import NoPlaceError, Place, find_place
from .file_benchmark import FileBenchmark, Oddities, Sample, shorten_names
from .files.archives import MAX_MEMBER_BYTES, Archive
from .files.geometries import ENDINGS, check_unit, draw_geometry, is_geometry, is_in_pixels, read_geometry
from .files.masks import check_outlines, decode_segmentation, tight_box
from .files.pictures import Picture, read_mask
from .own_table import SPLIT_ALIASES, TABLE_ENDINGS, TableRow, read_table

logger = logging.getLogger(__name__)


class TableFiles(Archive):
    """The files that a table names, by the paths it names them with: relative to the table, or absolute."""

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        self.rows: list[TableRow] = read_table(source)

    def exists(self, name: str) -> bool:
        """Tell whether there is a file; the paths are the user's own and may lead anywhere."""
        return self._has(name)

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it has more bytes than any mask or image that is decoded at once.
        """
        return self._read(name)

    def location(self, name: str) -> str:
        """Return the path that a name leads to."""
        return str(self._path(name))

    def fingerprint(self, prefixes: Iterable[str] = ("",)) -> str:
        """Return a hash of the table's content, and of sizes and times of change of the files it names."""
        table = hashlib.sha256(read_file(self.source)).hexdigest()
        return hashlib.sha256(f"{table} {super().fingerprint(prefixes)}".encode()).hexdigest()[:16]

    def _path(self, name: str) -> Path:
        """Where a name leads; one written on Windows, or with other code points for the same letters, is found too."""
        forms = [name, name.replace("\\", "/")]
        forms += [unicodedata.normalize(form, text) for text in forms for form in ("NFC", "NFD")]
        paths = [self.source.parent / Path(form).expanduser() for form in forms]
        return next((path for path in paths if path.is_file()), paths[0])

    def _walk(self) -> Iterator[tuple[str, str]]:
        pictures = dict.fromkeys(name for row in self.rows for name in (row.image, row.mask) if isinstance(name, str))
        for name in dict.fromkeys(name for picture in pictures for name in _with_neighbours(picture)):
            if self._has(name):
                status = self._path(name).stat()
                yield name, f"{status.st_size} {status.st_mtime_ns}"

    def _has(self, path: str) -> bool:
        return self._path(path).is_file()

    def _read(self, path: str) -> bytes:
        is_text = Path(path).suffix.lower() in ENDINGS
        return read_file(self._path(path), MAX_TEXT_BYTES if is_text else MAX_MEMBER_BYTES)


class OwnData(FileBenchmark):
    """Own images with masks and expressions, listed in a CSV or JSONL file.

    Source: the user's. Licence: the user's.
    Format: columns ``image, mask, expression``, optionally ``category`` and ``split`` (train, validation, test; all
    rows are ``train`` without it). Paths are relative to the table, or absolute. ``image``: a file of any kind that
    `image_loading_rrsis.load_image` opens; URLs are refused. ``mask``, of the image upright as its EXIF says:

    - an image file with the values 0 and 255, or 0 and 1; a palette in black and white counts by its colours, any
      other by its indices;
    - run lengths: ``{"size": [height, width], "counts": …}``, compressed as in COCO or a list; of the image's
      proportions;
    - a polygon ``[[x, y], …]`` or COCO's ``[x, y, x, y, …]`` in pixels, or a list of several, which are united; what
      may be a box with score and class, or key points, is refused;
    - GeoJSON or WKT, in the cell or as a .geojson, .json or .wkt file, in pixels, or in map coordinates of an image
      that is a GeoTIFF (needs ``rrsis[geo]``); what `rrsis segment --polygons` writes is read by the row's expression.

    In a CSV, run lengths and polygons are JSON in a quoted cell. A mask of another size than its image is resized
    (nearest), which a warning counts, as it does empty masks. Polygons without a pixel in the image are an error.
    Images are embedded as they are; a TIFF that Pillow can't open as 8-bit PNG.
    Columns: ``image``, ``mask``, ``expression``, ``category`` (``""`` without one), ``image_id`` (the file's name
    without extension; with its path as written where several files share that name), ``sample_id`` (image and line).

    Example:
        >>> OwnData(data_dir="mine.csv").read_samples()["train"][0].expression  # doctest: +SKIP
        'the red roof'
    """

    NAME = "own data"
    LICENSE = "the user's own"
    MISSING = "don't exist, listed in"
    DOWNLOAD = "here the path of a .csv or .jsonl file with the columns image, mask, expression"

    archive: TableFiles

    def open(self, data_dir: str | PathLike[str]) -> Archive:
        """Read the table."""
        self._reaches: dict[str, tuple[int, int]] = {}  # of each image with polygons, see `check_unit`
        return TableFiles(Path(data_dir).expanduser().absolute())

    def read_samples(self) -> dict[str, list[Sample]]:
        """Return the rows of the table by split."""
        samples: dict[str, list[Sample]] = {split: [] for split in dict.fromkeys(SPLIT_ALIASES.values())}
        image_ids = _image_ids(self.archive)
        splits: dict[str, set[str]] = {}
        for row in self.archive.rows:
            splits.setdefault(image_ids[row.image], set()).add(row.split)
            is_file = isinstance(row.mask, str)
            image_id = image_ids[row.image]
            samples[row.split].append(
                Sample(
                    sample_id=f"{image_id}_{row.line_number}",
                    image_id=image_id,
                    expression=row.expression,
                    category=row.category,
                    image_name=row.image,
                    mask_name=str(row.mask) if is_file else "",
                    mask=None if is_file else row.mask,
                    place=f"line {row.line_number}",
                )
            )
        shared = [image_id for image_id, found in splits.items() if len(found) > 1]
        if shared:
            raise ValueError(
                f"{self.archive.source}: expected all rows of an image in one split, or scores say too much; in "
                f"several are {len(shared):,}: {shorten_names(shared)}"
            )
        return samples

    def read_mask(self, sample: Sample, picture: Picture, oddities: Oddities) -> NDArray[np.uint8]:
        """Return a mask file's pixels, or draw run lengths, polygons and geometries."""
        name, location = sample.mask_name, self.archive.location(sample.mask_name)
        if name and Path(name).suffix.lower() not in ENDINGS:
            if self.archive.exists(f"{name}.msk"):
                raise second_mask(location)
            mask = read_mask(self.archive.read(name), name=location)
            self._check_same_place(sample, mask.shape, picture)
            return mask
        source = f"mask file {location!r}" if name else f"{self.archive.source}, {sample.place}, 'mask'"
        form = read_geometry(self.archive.read(name), source=source) if name else sample.mask
        form = form["wkt"] if isinstance(form, Mapping) and "wkt" in form else form
        place = None
        if not is_geometry(form):
            mask, has_points = _decode(form, picture, source=source)
        else:
            place = self._place(sample.image_name, picture.size)
            mask, has_points = draw_geometry(form, picture.size, source, place, sample.expression), place is None
        if has_points:
            known = self._reaches.get(sample.image_id, (0, 0))[0]
            self._reaches[sample.image_id] = max(known, *tight_box(mask)[2:]), min(picture.size)
        return mask

    def _place(self, name: str, size: tuple[int, int]) -> Place | None:
        """Where a file's picture of (height, width) lies on Earth; None where it says nothing that can be used."""
        try:
            return find_place(self.archive.location(name), size)
        except NoPlaceError:
            return None

    def _check_same_place(self, sample: Sample, shape: tuple[int, int], picture: Picture) -> None:
        """Refuse a mask file of other proportions than its image's, or of another place on Earth."""
        location = self.archive.location(sample.mask_name)
        if not _has_proportions(shape, picture):
            raise ValueError(
                f"mask file {location!r}: expected the image's size [height, width] {list(picture.size)}, or its "
                f"proportions, got {list(shape)}; is it turned, or the mask of another image?"
            )
        mask = self._place(sample.mask_name, shape)
        image = mask and self._place(sample.image_name, picture.size)
        if mask and image and not _cover_the_same(mask, image, shape, picture.size):
            raise ValueError(
                f"mask file {location!r}: expected the place on Earth of its image, got another; warp it to the "
                "image's pixels (rio warp --like), or save it without a place if its pixels are the image's"
            )

    def _generate_examples(self, split: str, shards: list[list[Sample]]) -> Iterator[tuple[str, dict[str, Any]]]:
        self._reaches.clear()
        yield from super()._generate_examples(split, shards)
        check_unit(self._reaches.values(), source=str(self.archive.source))


def _with_neighbours(name: str) -> list[str]:
    """A file's name, and those of files that tell its mask, values without data, or place: world files by ending."""
    root, ending = os.path.splitext(name)
    worlds = [f"{root}.{ending[1:2]}{ending[-1:]}w", f"{name}w", f"{root}.wld"]
    return [name, *(f"{name}{beside}" for beside in BESIDE), *worlds]


def table_files(*names: str | PathLike[str] | None) -> list[str]:
    """Return the files that tables name, of names that may be tables of own data.

    Raises:
        ValueError: If one is a table that can't be read.
    """
    tables = [Path(name).expanduser() for name in names if name is not None]
    found = [TableFiles(path.absolute()) for path in tables if path.suffix in TABLE_ENDINGS and path.is_file()]
    return [files.location(name) for files in found for name in files.names()]


def _image_ids(files: TableFiles) -> dict[str, str]:
    """Name every image, by its path as written: equal for paths that lead to one file, and only for these."""
    leads_to = {
        name: os.path.realpath(files.location(name)) for name in dict.fromkeys(row.image for row in files.rows)
    }
    first: dict[str, str] = {}  # file: the path it is first written with
    for name, file in leads_to.items():
        first.setdefault(file, name)
    ids = {file: Path(files.location(name)).stem for file, name in first.items()}
    for longer in ({file: os.path.splitext(name)[0] for file, name in first.items()}, first):
        taken = Counter(ids.values())
        ids = {file: longer[file] if taken[image_id] > 1 else image_id for file, image_id in ids.items()}
    return {name: ids[file] for name, file in leads_to.items()}


def _decode(form: Any, picture: Picture, source: str) -> tuple[NDArray[np.uint8], bool]:
    """Decode run lengths and polygons, say whether there are any of these, and refuse what is meant for no such image.

    Raises:
        ValueError: For run lengths of other proportions than the image's, and polygons that cover no pixel, leave the
            image, or lie in the unit square.
    """
    if isinstance(form, list):
        check_outlines([part for part in form if not isinstance(part, Mapping)], source=source)
    _check_is_outline(form, source=source)
    mask = decode_segmentation(form, size=picture.size, source=source)
    if not _has_proportions(mask.shape, picture):
        raise ValueError(
            f"{source}: expected run lengths of the image's 'size' [height, width] {list(picture.size)}, or of these "
            f"proportions, got {list(mask.shape)}; is it [width, height], or the mask of another image?"
        )
    points = np.array(list(_coordinates(form))).reshape(-1, 2)  # (N, 2), x and y
    if len(points) and not (mask.any() and is_in_pixels((*points.min(axis=0), *points.max(axis=0)), picture.size)):
        height, width = picture.size
        raise ValueError(
            f"{source}: expected polygon points in pixels that cover a part of the {width}×{height} image, got points "
            f"from {points.min():g} to {points.max():g}; do they lie between 0 and 1, outside it, or on one line?"
        )
    return mask, len(points) > 0


def _check_is_outline(form: Any, source: str) -> None:
    """Refuse numbers x, y, x, y, … that may be a box with score and class or angle, or key points x, y, visible.

    Pairs [x, y] are always points, and refused are those rows alone that can be read both ways: six numbers that no
    list holds, as COCO's polygons are held; a last point that is a share; every third number 0, 1 or 2.
    """
    is_flat = isinstance(form, list) and all(isinstance(value, int | float) for value in form)
    for part in [form] if is_flat else form if isinstance(form, list) else []:
        if not isinstance(part, list) or not all(isinstance(value, int | float) for value in part):
            continue
        number, last = len(part), part[-2:]
        is_box = number == 6 and (is_flat or any(0 <= value <= 1 for value in last))
        is_box |= number == 10 and any(0 < value < 1 for value in last)  # of four corners
        if is_box or (number > 3 and number % 6 == 0 and all(value in (0, 1, 2) for value in part[2::3])):
            raise ValueError(
                f"{source}: expected an outline, got {number} numbers, which may be a box with score and class, or "
                "key points; write the points of an outline as [[x, y], [x, y], …]"
            )


def _cover_the_same(mask: Place, image: Place, shape: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether the corners of a mask of (height, width) lie at those of its image, to half a pixel of it."""
    corners = np.array([(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)])
    crs = mask.crs or image.crs  # a world file names none
    try:
        on_map = mask.to_map(corners * shape[::-1], mask.crs)
        found = image.to_pixels(on_map, crs if image.crs else None)
    except ValueError:
        return False
    return bool(np.abs(found - corners * size[::-1]).max() <= 0.5)


def _has_proportions(shape: tuple[int, ...], picture: Picture) -> bool:
    """Tell whether a mask has its image's proportions but for rounding, upright or as the pixels are stored."""
    height, width = picture.size
    if shape == (width, height) != (height, width):
        return picture.orientation > 4  # quarter turns; `fit_mask` turns such masks
    return abs(shape[0] * width - shape[1] * height) <= max(height, width)


def _coordinates(form: Any) -> Iterator[float]:
    """Yield the numbers of all polygons."""
    if isinstance(form, int | float):
        yield form
    elif not isinstance(form, Mapping):
        for part in form:
            yield from _coordinates(part)
