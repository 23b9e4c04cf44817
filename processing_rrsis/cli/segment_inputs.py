"""The words of `rrsis segment`: which are images and which expressions, and where each image's results go."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jp2")
"""By these a file is an image of a folder, and a word is taken for an image's name though there is no such file."""


def tell_apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide words into images and expressions.

    An image is an address, a file, the files of a folder or of a pattern such as "harbour-*.png". A word without
    blanks that ends like an image or has a slash in it was meant as one. All others are expressions.

    Args:
        words: As they were typed, in any order.

    Returns:
        Images, paths or addresses; expressions. Both in order.

    Raises:
        ValueError: If a folder has no image in it, or there is no image among the words.
        FileNotFoundError: If there is no file of an image's name.
    """
    images: list[str] = []
    expressions: list[str] = []
    for word in words:
        found = _images_of(word)
        (expressions if found is None else images).extend([word] if found is None else found)
    if not images:
        raise ValueError(f"expected an image file, folder or address before the expressions, got {', '.join(words)}")
    return list(dict.fromkeys(images)), expressions


def _images_of(word: str) -> list[str] | None:
    """The images that a word names; `None` for an expression."""
    path = Path(word).expanduser()
    if "://" in word or path.is_file():
        return [word]
    if path.is_dir():
        files = sorted(str(file) for file in path.iterdir() if file.suffix.lower() in IMAGE_ENDINGS)
        if not files:
            raise ValueError(f"expected images in the folder {word}, found none; name the files")
        return files
    matches = sorted(glob.glob(str(path)))
    if matches:
        return matches
    is_one_word = not any(letter.isspace() for letter in word)
    if path.suffix.lower() in IMAGE_ENDINGS or (is_one_word and ("/" in word or "\\" in word)):
        raise FileNotFoundError(f"expected an image, there is no file {word}; an expression is words in quotes")
    return None


@dataclass(frozen=True)
class ImageResults:
    """Where the results of one image go.

    Attributes:
        image: The image.
        masks: A file for each expression.
        probabilities: A file for each expression, or none.
        overlay: Picture of all expressions.
        polygons: Outlines of all expressions.
    """

    image: str
    masks: list[Path]
    probabilities: list[Path]
    overlay: Path | None
    polygons: Path | None

    def shared(self) -> list[Path]:
        """Files that hold all expressions."""
        return [path for path in (self.overlay, self.polygons) if path is not None]

    def __iter__(self) -> Iterator[Path]:
        return iter([*self.masks, *self.probabilities, *self.shared()])


def plan_results(
    images: Sequence[str],
    num_expressions: int,
    *,
    mask: Path,
    probability: Path | None,
    overlay: Path | None,
    polygons: Path | None,
) -> list[ImageResults]:
    """Name the files of every image: mask.png; mask-2.png of several expressions; mask-harbour-2.png of images too.

    Raises:
        ValueError: If two images have one name, or two results would be one file.
    """
    stems = [Path(image.split("?")[0]).stem for image in images]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None)
    if twice is not None:
        raise ValueError(f"expected images of different names, two are called {twice}; give them in two calls")

    def named(path: Path, stem: str, number: int | None = None) -> Path:
        parts = [path.stem, *([stem] if len(images) > 1 else []), *([str(number)] if number else [])]
        return path.with_name("-".join(parts) + path.suffix)

    numbers = [None] if num_expressions == 1 else range(1, num_expressions + 1)
    plan = [
        ImageResults(
            image=image,
            masks=[named(mask, stem, number) for number in numbers],
            probabilities=[] if probability is None else [named(probability, stem, number) for number in numbers],
            overlay=None if overlay is None else named(overlay, stem),
            polygons=None if polygons is None else named(polygons, stem),
        )
        for image, stem in zip(images, stems, strict=True)
    ]
    counts = Counter(path.resolve() for results in plan for path in results)
    for path, count in counts.most_common(1):
        if count > 1:
            raise ValueError(f"expected a file of its own for each result, {count} would be {path}; choose another")
    return plan
