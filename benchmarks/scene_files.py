"""What happens with every GeoTIFF of a folder and with variants of it: rotated, south-up, geographic, striped, ...

    python benchmarks/scene_files.py FOLDER

A reader that finds bright patches stands in for a network. Checked: the mask lies on the input's ground (every corner
in coordinates), 255 is exactly where the input is not valid, the layer's polygons drawn again are the mask, their
areas are pyproj's, and rio-cogeo takes the mask for a valid COG.
"""

import argparse
import tempfile
from pathlib import Path

import geopandas
import numpy as np
import rasterio
from affine import Affine
from pyproj import Geod
from rasterio.enums import ColorInterp
from rasterio.features import rasterize
from rasterio.shutil import copy
from rasterio.warp import Resampling, calculate_default_transform, reproject
from rio_cogeo import cog_validate

from processing_rrsis.errors import PLAIN_ERRORS
from processing_rrsis.scenes import segment_scene

GEOD = Geod(ellps="WGS84")


PATCH_PX = 16
"""Of the tiles' 256: what the reader decides on together, so that there are hundreds of objects and not thousands."""


def bright(windows, phrases):
    """Bright patches are the target."""
    count, height, width, _ = windows.shape
    patches = windows.mean(axis=3).reshape(count, height // PATCH_PX, PATCH_PX, width // PATCH_PX, PATCH_PX)
    found = (patches.mean(axis=(2, 4)) > 127).astype(np.float32).repeat(PATCH_PX, 1).repeat(PATCH_PX, 2)
    return np.repeat(found[:, None], len(phrases), axis=1)


def variants(path, folder):
    """The file itself, then what is made of it: name and path."""
    yield "as it is", path
    with rasterio.open(path) as source:
        values, profile, mask = source.read(), source.profile, source.dataset_mask()
        colours, crs, transform = source.colorinterp, source.crs, source.transform
    middle = Affine.translation(source.width / 2, source.height / 2)
    turned = transform @ middle @ Affine.rotation(30) @ ~middle
    upside = transform @ Affine(1, 0, 0, 0, -1, source.height)
    plain = {
        **profile,
        "driver": "GTiff",
        "tiled": False,
        "compress": None,
        "photometric": None,
        "interleave": "pixel",
    }
    plain.pop("blockxsize", None), plain.pop("blockysize", None)

    def write(name, data, ending="tif", mask_values=None, **options):
        target = folder / f"{path.stem}-{name.replace(' ', '_')}.{ending}"
        with rasterio.open(target, "w", **{**plain, **options}) as raster:
            raster.write(data)
            if len(data) == len(colours):
                raster.colorinterp = colours
            if mask_values is not None:
                raster.write_mask(mask_values)
        return name, target

    yield write("rotated", values, transform=turned)
    yield write("south-up", values[:, ::-1], transform=upside)
    yield write("one strip", values, blockysize=source.height)
    yield write("TIFF ending", values, ending="TIFF")
    yield write("no CRS", values, crs=None, transform=Affine.identity())
    yield write("16 bit", values.astype(np.uint16) * (1 if values.dtype != np.uint8 else 16), dtype="uint16")
    as_float = np.where(mask > 0, values.astype(np.float32), np.nan)
    yield write("float with NaN", as_float, dtype="float32", nodata=np.nan)
    if values.dtype == np.uint8 and len(values) == 3:
        yield write(
            "JPEG",
            values,
            compress="jpeg",
            photometric="ycbcr",
            tiled=True,
            blockxsize=256,
            blockysize=256,
            nodata=None,
        )
    yield write("mask in a file of its own", values, nodata=None, mask_values=mask)
    target = folder / f"{path.stem}.vrt"
    copy(path, target, driver="VRT")
    yield "VRT", target
    geographic, width, height = calculate_default_transform(
        crs, "EPSG:4326", source.width, source.height, *source.bounds
    )
    data = np.zeros((len(values), height, width), values.dtype)
    reproject(
        values,
        data,
        src_transform=transform,
        src_crs=crs,
        dst_transform=geographic,
        dst_crs="EPSG:4326",
        resampling=Resampling.nearest,
    )
    yield write("geographic", data, crs="EPSG:4326", transform=geographic, width=width, height=height)
    broken = folder / f"{path.stem}-truncated.tif"
    broken.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    yield "truncated", broken


def check(path, folder):
    """Run it, and say what is wrong; an empty text where nothing is."""
    mask_file, layer = folder / "mask.tif", folder / "layer.gpkg"
    with rasterio.open(path) as source:
        bands = [1] if source.count == 2 and ColorInterp.red not in source.colorinterp else None
    segment_scene(path, "bright", mask_file, model=bright, vector=layer, tile_size_px=256, bands=bands, overwrite=True)
    wrong = []
    with rasterio.open(path) as source, rasterio.open(mask_file) as raster:
        corners = [(0, 0), (source.width, 0), (0, source.height), (source.width, source.height)]
        ground = [
            [tuple(np.array(tuple(t)[:6]).reshape(2, 3) @ [*corner, 1]) for corner in corners]
            for t in (source.transform, raster.transform)
        ]
        if not np.allclose(*ground, rtol=0, atol=1e-9 * np.abs(ground).max()) or source.crs != raster.crs:
            wrong.append("not on the same ground")
        mask = raster.read(1)
        valid = source.dataset_mask() > 0
        if "float" in source.dtypes[0]:
            valid &= np.isfinite(source.read()).all(axis=0)
        if ((mask != 255) != valid).any():
            wrong.append(f"{((mask != 255) != valid).sum()} pixels of another validity")
        frame = geopandas.read_file(layer)
        drawn = np.zeros(mask.shape, np.uint8)
        if len(frame):
            rasterize(((shape, 1) for shape in frame.geometry), out=drawn, transform=raster.transform)
        if ((mask == 1) != (drawn == 1)).any():
            wrong.append(f"{((mask == 1) != (drawn == 1)).sum()} pixels differ from the polygons")
        if source.crs is not None and len(frame):
            true = sum(abs(GEOD.geometry_area_perimeter(shape)[0]) for shape in frame.to_crs(4326).geometry)
            off = abs(frame.area_m2.sum() / true - 1)
            if off > 1e-3:
                wrong.append(f"area off by {100 * off:.2f} %")
    good, errors, _ = cog_validate(mask_file, quiet=True)
    if not good:
        wrong.append(f"no COG: {errors}")
    return f"{len(frame)} objects, {(mask == 255).mean():.0%} not valid" + (
        f"; WRONG: {'; '.join(wrong)}" if wrong else "; as it should"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for path in sorted(parser.parse_args().folder.glob("*.tif")):
        with tempfile.TemporaryDirectory() as folder:
            for name, variant in variants(path, Path(folder)):
                try:
                    said = check(variant, Path(folder))
                except PLAIN_ERRORS as error:
                    said = f"refused: {str(error).replace(folder, '')[:160]}"
                print(f"| {path.name} | {name} | {said} |", flush=True)


if __name__ == "__main__":
    main()
