"""What a run over a scene is to make, and by which numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Outputs:
    """Files to write; None where one was not asked for."""

    output: Path | None
    vector: Path | None
    probability: Path | None
    preview: Path | None

    @classmethod
    def of(cls, **paths: Any) -> Outputs:
        """From what a caller gave, checked.

        Raises:
            ValueError: If a file has no folder, is one, or is named twice.
        """
        found = {name: None if path is None else Path(path).expanduser() for name, path in paths.items()}
        for name, path in found.items():
            if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
                raise ValueError(f"{name}: expected a file name in an existing folder, got {path}")
        named = [path.resolve() for path in found.values() if path is not None]
        if len(set(named)) < len(named):
            raise ValueError(f"expected a file of its own for each result, got {', '.join(map(str, named))}")
        return cls(**found)

    @property
    def named(self) -> dict[str, Path]:
        """Those that were asked for."""
        return {name: path for name, path in vars(self).items() if path is not None}

    @property
    def receipt(self) -> Path | None:
        """Where the receipt of a finished run lies."""
        return None if self.output is None else self.output.with_name(f"{self.output.name}.receipt.json")


@dataclass(frozen=True)
class Settings:
    """What decides the pixels, besides the scene and the model."""

    tile_px: int
    overlap_px: int
    threshold: float
    min_area_m2: float
    simplify_m: float
