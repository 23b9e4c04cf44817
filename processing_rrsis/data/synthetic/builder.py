"""SyntheticRS: the embedded benchmark, rendered on the CPU from a seed, without any download."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import datasets

from ..files.rows import encode_png, row_features, shard_ranges
from .render import render_image, render_mask
from .splits import GENERATOR_VERSION, SPLITS, generator_fingerprint, make_split_scene

CONTROL_EXPRESSIONS_PER_SCENE = 2
"""Most expressions per scene of the two control splits: few scenes hold more held-out pairs or near misses."""
MIN_IMAGE_SIZE_PX, MAX_IMAGE_SIZE_PX = 32, 2048


@dataclass
class SyntheticRSConfig(datasets.BuilderConfig):
    """What a SyntheticRS is generated from; every field is part of the cache key.

    Attributes:
        image_size_px: Side of the square images and masks.
        seed: Seed of everything random; another seed gives another benchmark.
        train_samples: Samples of ``train``; 0 leaves a split out.
        validation_samples: Samples of ``validation``.
        test_samples: Samples of ``test``.
        test_compositional_samples: Samples of ``test_compositional``.
        test_absent_samples: Samples of ``test_absent``.
        expressions_per_scene: Expressions about each image, at most 2 in the last two splits.
    """

    version: datasets.Version | str = datasets.Version(GENERATOR_VERSION)  # noqa: RUF009 (immutable in use)
    image_size_px: int = 96
    seed: int = 0
    train_samples: int = 20_000
    validation_samples: int = 800
    test_samples: int = 1_600
    test_compositional_samples: int = 800
    test_absent_samples: int = 400
    expressions_per_scene: int = 4

    def validate(self) -> None:
        """Check the fields.

        Raises:
            TypeError: If a field is not an integer.
            ValueError: If a field is out of its range.
        """
        limits = {
            "image_size_px": (MIN_IMAGE_SIZE_PX, MAX_IMAGE_SIZE_PX),
            "seed": (0, 2**63 - 1),
            "expressions_per_scene": (1, 6),
            **{f"{split}_samples": (0, 10_000_000) for split in SPLITS},
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name}: expected an integer, got {value!r}")
            if not low <= value <= high:
                raise ValueError(f"{name}: expected {low} to {high}, got {value}")

    def samples_of(self, split: str) -> int:
        """Return the number of samples of a split."""
        return int(getattr(self, f"{split}_samples"))

    def expressions_of(self, split: str) -> int:
        """Return the number of expressions of each scene of a split."""
        if split in ("test_compositional", "test_absent"):
            return min(self.expressions_per_scene, CONTROL_EXPRESSIONS_PER_SCENE)
        return self.expressions_per_scene


class SyntheticRS(datasets.GeneratorBasedBuilder):
    """SyntheticRS, a rendered benchmark of referring segmentation in aerial images.

    It shows on any machine whether a model *reads* the expression: for every attribute that an expression uses, the
    scene holds an object of the same category that differs in exactly that attribute, and every expression has
    exactly one answer. Both are checked for each expression by code that knows nothing of how scenes are made.

    Source: generated from ``seed`` by this code; nothing is downloaded. Licence: Apache-2.0.
    Format: PNG bytes in Arrow; images RGB, masks 8-bit 0/255 with the objects' own pixels (no shadow, apron, basin),
    both square, 96 px by default. Lengths are shares of the frame, so there is no resolution in m.
    Columns: ``image``, ``mask``, ``expression``, ``category``, ``image_id``, ``sample_id``, ``kind``.

    Configuration ``"rrsisd"`` (default), in RRSIS-D's wording, e.g. "A small baseball field on the upper right":
        - four to seven objects a scene: vehicle, building, storage tank, tennis court, basketball court, airplane,
          ship, baseball field; seven colours, two sizes, any angle, nine regions of the frame, four relations;
        - kinds in equal shares: category, colour, size, position, colour+position, size+position, colour+size,
          relation.

    Configuration ``"refsegrs"``, in RefSegRS's wording, e.g. "light-duty vehicle driving on the road":
        - a road and a parking area with cars, vans, trucks, trailers and buses, buildings, trees, low vegetation,
          sidewalks; the mask is the union of all objects asked for;
        - kinds in equal shares: category, group (of categories), category+place, group+place.

    Splits (default sizes):
        - ``train`` 20,000, ``validation`` 800, ``test`` 1,600 samples; four expressions per image;
        - ``test_compositional`` 800: every expression names a pair (category with colour, region or place) that
          occurs in no expression of the other splits; two per image;
        - ``test_absent`` 400: the object is not there and the mask is empty, yet every attribute but one fits some
          object; two per image.

    Ceilings: mIoU in percent on ``test`` (seed 0) of readers with perfect masks who understand only part of the
    expression; `ceilings.reader_ceilings` computes them, also per kind. ``"rrsisd"``: random object 16.4,
    category only 42.6, without colour 79.4, without size 79.2, without position 78.2, without relation 92.9, without
    position and relation 71.1, everything 100. ``"refsegrs"``: any vehicle 37.5, without group 89.5, without place
    75.0, everything 100.

    Example:
        >>> builder = SyntheticRS(image_size_px=96, seed=0)  # doctest: +SKIP
        >>> builder.download_and_prepare(num_proc=2)  # doctest: +SKIP
        >>> test = builder.as_dataset(split="test")  # doctest: +SKIP
    """

    BUILDER_CONFIG_CLASS = SyntheticRSConfig
    BUILDER_CONFIGS: ClassVar[list[SyntheticRSConfig]] = [
        SyntheticRSConfig(name="rrsisd", description="one object per expression, RRSIS-D's wording"),
        SyntheticRSConfig(name="refsegrs", description="sets of objects as answers, RefSegRS's wording"),
    ]
    DEFAULT_CONFIG_NAME = "rrsisd"

    def __init__(self, config_name: str | None = None, **kwargs: Any) -> None:
        """Set up the builder.

        Args:
            config_name: ``"rrsisd"`` (default) or ``"refsegrs"``.
            **kwargs: ``cache_dir`` and the fields of `SyntheticRSConfig`.
        """
        kwargs.setdefault("hash", generator_fingerprint())
        kwargs.setdefault("dataset_name", "synthetic_rs")
        super().__init__(config_name=config_name, **kwargs)
        self.config.validate()

    def _info(self) -> datasets.DatasetInfo:
        features = row_features("kind")
        return datasets.DatasetInfo(description=self.__doc__ or "", features=features, license="Apache-2.0")

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        generators = []
        for split in SPLITS:
            samples, count = self.config.samples_of(split), self.config.expressions_of(split)
            if samples == 0:
                continue
            ranges = shard_ranges(-(-samples // count))
            generators.append(datasets.SplitGenerator(name=split, gen_kwargs={"split": split, "scene_ranges": ranges}))
        if not generators:
            raise ValueError("expected at least one split with samples, got 0 samples for every split")
        return generators

    def _generate_examples(
        self, split: str, scene_ranges: list[tuple[int, int]]
    ) -> Iterator[tuple[str | tuple[int, int], dict[str, Any]]]:
        samples, count = self.config.samples_of(split), self.config.expressions_of(split)
        for start, stop in scene_ranges:
            for scene_index in range(start, stop):
                rows = min(count, samples - scene_index * count)
                for number, row in enumerate(self._scene_rows(split, scene_index=scene_index, count=count)[:rows]):
                    yield (scene_index, number), row

    def _scene_rows(self, split: str, scene_index: int, count: int) -> list[dict[str, Any]]:
        """Render one scene and return its rows."""
        scene = make_split_scene(
            self.config.name, seed=self.config.seed, split=split, scene_index=scene_index, count=count
        )
        size_px = self.config.image_size_px
        image = encode_png(render_image(scene.layout, image_size_px=size_px))
        image_id = f"{split}_{scene_index:06d}"
        rows = []
        for number, reference in enumerate(scene.references):
            mask = render_mask(scene.layout, answers=reference.answers, image_size_px=size_px)
            rows.append(
                {
                    "image": {"path": None, "bytes": image},
                    "mask": {"path": None, "bytes": encode_png(mask)},
                    "expression": reference.expression,
                    "category": reference.category,
                    "image_id": image_id,
                    "sample_id": f"{image_id}_{number}",
                    "kind": reference.kind,
                }
            )
        return rows
