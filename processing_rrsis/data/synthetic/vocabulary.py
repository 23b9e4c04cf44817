"""Words of SyntheticRS: categories, colours, sizes, positions, relations and their wordings."""

from __future__ import annotations

CATEGORIES: tuple[str, ...] = (
    "vehicle",
    "building",
    "storage tank",
    "tennis court",
    "basketball court",
    "airplane",
    "ship",
    "baseball field",
)
COLOURS: tuple[str, ...] = ("white", "gray", "red", "blue", "green", "yellow", "orange")
SIZES: tuple[str, ...] = ("small", "large")
CATEGORY_COLOURS: dict[str, tuple[str, ...]] = {
    "vehicle": ("white", "red", "blue", "yellow"),
    "building": ("gray", "red", "white", "blue"),
    "storage tank": ("white", "gray", "green", "yellow"),
    "tennis court": ("green", "blue", "orange"),
    "basketball court": ("red", "gray", "orange", "yellow"),
    "airplane": ("white", "gray", "blue", "red"),
    "ship": ("white", "gray", "red", "orange"),
    "baseball field": ("green", "orange", "red"),
}

KINDS: tuple[str, ...] = (
    "category",
    "colour",
    "size",
    "position",
    "colour+position",
    "size+position",
    "colour+size",
    "relation",
)

POSITION_PHRASES: dict[str, tuple[str, ...]] = {
    "upper left": ("on the upper left",),
    "top": ("on the top", "on the top", "on the top", "at the top"),
    "upper right": ("on the upper right",),
    "left": ("on the left",),
    "middle": ("in the middle",),
    "right": ("on the right",),
    "lower left": ("on the lower left",),
    "bottom": ("at the bottom", "at the bottom", "at the bottom", "on the bottom"),
    "lower right": ("on the lower right",),
}
"""The nine regions of the frame and their wordings; a repeated wording is drawn that much more often."""

RELATION_PHRASES: dict[str, str] = {
    "left": "on the left of",
    "right": "on the right of",
    "above": "above",
    "below": "below",
}

HELD_OUT_COLOURS: frozenset[tuple[str, str]] = frozenset(
    {
        ("vehicle", "red"),
        ("building", "blue"),
        ("storage tank", "green"),
        ("tennis court", "orange"),
        ("basketball court", "gray"),
        ("airplane", "red"),
        ("ship", "white"),
        ("baseball field", "red"),
    }
)
"""(category, colour) pairs that no expression outside of ``test_compositional`` names."""

HELD_OUT_POSITIONS: frozenset[tuple[str, str]] = frozenset(
    {
        ("vehicle", "left"),
        ("building", "upper right"),
        ("storage tank", "bottom"),
        ("tennis court", "upper left"),
        ("basketball court", "right"),
        ("airplane", "lower left"),
        ("ship", "top"),
        ("baseball field", "lower right"),
    }
)
"""(category, region) pairs that no expression outside of ``test_compositional`` names."""
