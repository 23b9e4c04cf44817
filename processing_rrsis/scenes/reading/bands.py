"""Which bands of a raster are red, green and blue, and how its values become 8-bit: chosen once per scene.

A picture that is read whole becomes 8-bit in `image_values_rrsis.py`, by the same percentiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.windows import Window

STRETCH_PERCENTILES = (2.0, 98.0)
STATISTICS_SIDE_PX = 1024
"""Larger side of the decimated read whose valid pixels decide the stretch."""

Stretch = tuple[tuple[float, float], ...]
"""Per band the values that become 0 and 255."""


@dataclass(frozen=True)
class BandChoice:
    """What is read of a raster.

    Attributes:
        indexes: Bands that become red, green and blue, from 1; a single one is repeated.
        palette: RGB of each value, uint8 (256 or 65,536, 3), of a band with a colour table.
    """

    indexes: tuple[int, ...]
    palette: NDArray[np.uint8] | None = None

    @property
    def resampling(self) -> Resampling:
        """How a decimated read makes a pixel of many: palettes have no mean."""
        return Resampling.average if self.palette is None else Resampling.nearest


def choose_bands(dataset: Any, bands: Sequence[int] | None) -> BandChoice:
    """Find red, green and blue.

    Args:
        dataset: Open raster.
        bands: Three numbers or one, from 1; found from the colour interpretation if absent.

    Raises:
        ValueError: If there is no such band, or if it isn't plain which ones are red, green and blue.
    """
    if bands is not None:
        chosen = tuple(int(number) for number in bands)
        if any(number != given for number, given in zip(chosen, bands, strict=True)):
            raise ValueError(f"bands: expected whole numbers, got {', '.join(map(str, bands))}")
        if len(chosen) not in (1, 3) or not all(1 <= number <= dataset.count for number in chosen):
            raise ValueError(
                f"bands: expected one number or three between 1 and {dataset.count}, got "
                f"{','.join(map(str, chosen))}; the raster has {_list_bands(dataset)}"
            )
        return _with_palette(dataset, chosen)
    colours = list(dataset.colorinterp)
    wanted = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    if all(colours.count(colour) == 1 for colour in wanted):
        return BandChoice(tuple(colours.index(colour) + 1 for colour in wanted))
    data = [number for number, colour in enumerate(colours, start=1) if colour is not ColorInterp.alpha]
    if len(data) == 1:
        return _with_palette(dataset, tuple(data))
    unnamed = {ColorInterp.gray, ColorInterp.undefined}
    if len(data) == 3 and {colours[number - 1] for number in data} <= unnamed:
        return BandChoice(tuple(data))
    raise ValueError(
        f"bands: can't tell which are red, green and blue of {_list_bands(dataset)}; name them with --bands, "
        "three numbers such as 3,2,1 or one"
    )


def _with_palette(dataset: Any, chosen: tuple[int, ...]) -> BandChoice:
    if len(chosen) == 1 and dataset.colorinterp[chosen[0] - 1] is ColorInterp.palette:
        colours = dataset.colormap(chosen[0])
        palette = np.zeros((256 if dataset.dtypes[chosen[0] - 1] == "uint8" else 1 << 16, 3), dtype=np.uint8)
        for value, colour in colours.items():
            if value < len(palette):
                palette[value] = colour[:3]
        return BandChoice(chosen, palette)
    return BandChoice(chosen)


def _list_bands(dataset: Any) -> str:
    shown = []
    for number, (colour, dtype, name) in enumerate(
        zip(dataset.colorinterp, dataset.dtypes, dataset.descriptions, strict=True), start=1
    ):
        shown.append(f"{number} {colour.name} {dtype}" + (f" ({name})" if name else ""))
    return ", ".join(shown)


def scene_stretch(dataset: Any, choice: BandChoice, given: Sequence[float] | None = None) -> Stretch | None:
    """Find the values that become 0 and 255.

    Args:
        dataset: Open raster.
        choice: Its bands.
        given: Two numbers for all bands, or two for each; found from the scene if absent: 8-bit values are left as
            they are, others go from the 2nd to the 98th percentile of the valid pixels of a decimated read.

    Returns:
        A pair for each band; None where values are left as they are.

    Raises:
        ValueError: If `given` has another length, or a second number that is not above the first.
        TypeError: If the values are complex.
    """
    dtypes = {np.dtype(dataset.dtypes[index - 1]) for index in choice.indexes}
    if any(dtype.kind == "c" for dtype in dtypes):
        raise ValueError(
            f"bands: expected real numbers, got {', '.join(map(str, dtypes))}; write their magnitude first"
        )
    if given is not None:
        return _given_stretch(given, count=len(choice.indexes))
    if choice.palette is not None:
        return None
    if dtypes == {np.dtype(np.uint8)}:
        return _few_bits(dataset, choice)
    scale = max(1.0, max(dataset.width, dataset.height) / STATISTICS_SIDE_PX)
    shape = (max(1, round(dataset.height / scale)), max(1, round(dataset.width / scale)))
    pairs = []
    for index in choice.indexes:
        values = _valid_values(dataset, index, shape=shape)
        if not values.size:  # few are valid, between the pixels of the decimated read
            values = _some_values(dataset, index)
        low, high = np.percentile(values, STRETCH_PERCENTILES) if values.size else (0.0, 1.0)
        if high <= low:
            low, high = (values.min(), values.max()) if values.size else (0.0, 1.0)
        pairs.append((float(low), float(high) if high > low else float(low) + 1.0))
    return tuple(pairs)


def _valid_values(
    dataset: Any, index: int, *, window: Window | None = None, shape: tuple[int, int] | None = None
) -> NDArray[np.float64]:
    """The valid, finite values of one band, (N,)."""
    values = dataset.read(index, window=window, out_shape=shape, resampling=Resampling.nearest)
    valid = valid_pixels(dataset, [index], window=window, shape=shape)
    return values[valid & np.isfinite(values)].astype(np.float64)


def _some_values(dataset: Any, index: int) -> NDArray[np.float64]:
    """Valid values of one band, read block by block until there are enough of them for percentiles."""
    found = np.empty(0)
    for _, window in dataset.block_windows(index):
        found = np.concatenate([found, _valid_values(dataset, index, window=window)])
        if len(found) >= STATISTICS_SIDE_PX**2:
            break
    return found


def _few_bits(dataset: Any, choice: BandChoice) -> Stretch | None:
    """Of bytes of which the file uses fewer than eight bits: their whole range."""
    bits = [dataset.tags(index, ns="IMAGE_STRUCTURE").get("NBITS", "8") for index in choice.indexes]
    if set(bits) <= {"8"}:
        return None
    return tuple((0.0, float(2 ** int(number) - 1)) for number in bits)


def valid_pixels(
    dataset: Any, indexes: Sequence[int], *, window: Window | None = None, shape: tuple[int, int] | None = None
) -> NDArray[np.bool_]:
    """Which pixels are valid by nodata and masks of some bands, where one of them is, and by an alpha band.

    Args:
        dataset: Open raster.
        indexes: Bands that are looked at.
        window: Part of it; all by default.
        shape: Height and width to read it at; its own if absent.

    Returns:
        bool (H, W).
    """
    options = {"window": window, "out_shape": shape}
    alpha = [number for number, colour in enumerate(dataset.colorinterp, start=1) if colour is ColorInterp.alpha]
    flags = [dataset.mask_flag_enums[index - 1] for index in indexes]
    shared = all(MaskFlags.per_dataset in each or MaskFlags.all_valid in each for each in flags)
    valid = dataset.read_masks(indexes[0], **options) > 0
    for index in [] if shared else indexes[1:]:
        valid |= dataset.read_masks(index, **options) > 0
    for index in alpha:
        valid &= dataset.read(index, **options) > 0
    return valid


def _given_stretch(given: Sequence[float], count: int) -> Stretch:
    numbers = [float(number) for number in given]
    if len(numbers) not in (2, 2 * count):
        raise ValueError(
            f"stretch: expected two numbers for all bands, or {2 * count}, two for each, got {len(numbers)}"
        )
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True)) * (1 if len(numbers) > 2 else count)
    if any(not (low < high and np.isfinite([low, high]).all()) for low, high in pairs):
        raise ValueError(f"stretch: expected a lower and a higher number, got {', '.join(map(str, numbers))}")
    return tuple(pairs)


def to_rgb(values: NDArray[Any], choice: BandChoice, stretch: Stretch | None) -> NDArray[np.uint8]:
    """Bring the values of a window to 8-bit RGB.

    Args:
        values: (bands, H, W) as stored.
        choice: What was read.
        stretch: Of the scene.

    Returns:
        uint8 (H, W, 3); what is not finite is 0.
    """
    if choice.palette is not None:
        return choice.palette[np.minimum(values[0], len(choice.palette) - 1)]
    picture = np.empty((*values.shape[1:], 3), dtype=np.uint8)
    for number, band in enumerate(values):
        picture[..., number] = band if stretch is None else _stretched(band, *stretch[number])
    if len(values) == 1:
        picture[..., 1:] = picture[..., :1]
    return picture


def _stretched(band: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    # float32 holds 24 bits: of larger numbers the difference is taken first
    kind: Any = np.float32 if band.dtype.itemsize <= 2 or band.dtype == np.float32 else np.float64
    scaled = (band.astype(kind) - kind(low)) * kind(255.0 / (high - low))
    np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
    return np.rint(np.clip(scaled, 0.0, 255.0, out=scaled), out=scaled).astype(np.uint8)
