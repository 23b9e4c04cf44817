"""Small rasters, readers that stand in for a network, and the blend of a whole frame at once."""

import numpy as np
import rasterio
from rasterio.transform import from_origin

UTM_33 = "EPSG:32633"
GRID = from_origin(500_000, 5_000_000, 0.5, 0.5)


def write_raster(path, values, *, crs=UTM_33, transform=GRID, **options):
    """Write values (bands, H, W); three bands are RGB."""
    count, height, width = values.shape
    if count in (3, 4) and "photometric" not in options:
        options["photometric"] = "RGB"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=width,
        height=height,
        count=count,
        dtype=values.dtype,
        crs=crs,
        transform=transform,
        **options,
    ) as raster:
        raster.write(values)
    return path


def noise(height, width, seed=0):
    """Patches of 7 × 7 px."""
    patches = np.random.default_rng(seed).integers(0, 256, (3, height // 7 + 1, width // 7 + 1), dtype=np.uint8)
    return patches.repeat(7, axis=1).repeat(7, axis=2)[:, :height, :width]


def red_reader(windows, phrases):
    """The probability is the first band over 255, whatever is asked."""
    red = windows[..., 0].astype(np.float32) / 255
    return np.repeat(red[:, None], len(phrases), axis=1)


def looking_around(windows, phrases):
    """A reader whose answer depends on where in the window a pixel lies and on the window's mean, as a network's."""
    height, width = windows.shape[1:3]
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None] * np.linspace(1, 0.2, width, dtype=np.float32)
    mean = windows.mean(axis=(1, 2, 3), dtype=np.float64).astype(np.float32)[:, None, None] / 255
    answers = (windows[..., 0].astype(np.float32) / 255 + ramp + mean) / 3
    return np.stack([answers * (1 - 0.1 * number) for number in range(len(phrases))], axis=1)


def blend_of_the_whole(values, reader, phrases, tiling):
    """Probabilities (P, H, W): every tile, one after another, weighted and divided by the sum of the weights."""
    height, width = values.shape[1:]
    total = np.zeros((len(phrases), height, width), dtype=np.float32)
    weight_sum = np.zeros((height, width), dtype=np.float32)
    size = tiling.tile_px
    for top in tiling.rows:
        for left in tiling.columns:
            tile = values[:, top : top + size, left : left + size].transpose(1, 2, 0)
            rows, columns = tile.shape[:2]
            padded = np.pad(tile, ((0, size - rows), (0, size - columns), (0, 0)), mode="symmetric")
            answer = reader(padded[None], phrases)[0, :, :rows, :columns]
            weights = tiling.weights[0][:rows, None] * tiling.weights[1][None, :columns]
            total[:, top : top + rows, left : left + columns] += answer * weights
            weight_sum[top : top + rows, left : left + columns] += weights
    return total / weight_sum
