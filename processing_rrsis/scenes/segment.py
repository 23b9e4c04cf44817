"""`segment_scene`: from a raster and sentences to masks, layers and objects; killed, it goes on where it was."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..installation import package_version
from ..result_files import check_untouched
from .blending import Pass, run_tiles, run_whole
from .finish import finish, finished_result
from .frames.ground import Ground
from .frames.plan import FRAMES, Plan, compass_warnings, plan_expression
from .preview import check_preview
from .progress import shown_progress
from .reader import Reader, open_reader, reader_identity, window_px_of
from .reading.source import SceneSource, open_scene, source_identity
from .receipts import RECEIPT_FILE, LeftoverError, Scratch, differences, read_receipt
from .result import SceneResult
from .settings import Outputs, Settings
from .tiling import Tiling
from .vectors import check_vector

DEFAULT_THRESHOLD = 0.5
CONTROL_POINTS = (
    "the scene has control points and no transform: results are in its pixels, without a place; warp it before, such "
    "as with gdalwarp"
)
NO_TRANSFORM = (
    "the scene has a CRS and no transform: results are in its pixels, without a place; give it one, such as with "
    "gdal_translate -a_ullr"
)
MAX_TILE_PX = 4096
"""Side of the largest tile: memory grows with it."""


def segment_scene(
    source: str | os.PathLike[str],
    expressions: str | Sequence[str],
    output: str | os.PathLike[str] | None = None,
    *,
    model: Any,
    frame: str = "auto",
    tile_size_px: int | None = None,
    resolution_m: float | None = None,
    bands: Sequence[int] | None = None,
    stretch: Sequence[float] | None = None,
    threshold: float | None = None,
    vector: str | os.PathLike[str] | None = None,
    probability: str | os.PathLike[str] | None = None,
    preview: str | os.PathLike[str] | None = None,
    runtime: str = "torch",
    batch_size: int | None = None,
    overlap_px: int | None = None,
    min_area_m2: float = 0,
    simplify_m: float = 0,
    overwrite: bool = False,
    progress: bool = False,
) -> SceneResult:
    """Segment what expressions refer to in a georeferenced raster of any size.

    Args:
        source: Anything that rasterio opens: GeoTIFF, COG, VRT, JPEG 2000, `https://`, `s3://`; or a STAC item,
            `item.json#asset`.
        expressions: One or several; each gets a band of the mask and a layer.
        output: Mask to write: cloud-optimised GeoTIFF, uint8 0 and 1, 255 where the scene is not valid, on its grid.
            Beside it lie, while it runs, `OUTPUT.part` and, when it is finished, `OUTPUT.receipt.json`.
        model: A `ReferringSegmentationPipeline`; a model's folder or `user/name`; or a function that takes windows,
            uint8 (B, H, W, 3), and P phrases, and returns probabilities (B, P, H, W).
        frame: `"tile"`: tile by tile; `"scene"`: one view of the whole; `"hybrid"`: target and anchors tile by tile,
            their place on the objects of the whole scene; `"auto"`: hybrid where the sentence tells a position or a
            relation, else tile.
        tile_size_px: Side of a tile; the model's image size by default.
        resolution_m: Ground resolution that the model expects: tiles are as large on the ground as `tile_size_px`
            pixels of it, whatever the scene's own pixels. The scene's own by default.
        bands: Red, green and blue, or one; by colour interpretation by default.
        stretch: Values that become 0 and 255: two, or two for each band; 8-bit values are left as they are by
            default, others go from the 2nd to the 98th percentile of the whole scene.
        threshold: Probability above which a pixel is the target; 0.5 by default.
        vector: Layer to write: `.gpkg`, `.geojson` (EPSG:4326) or `.parquet`.
        probability: Raster to write: float32 in [0, 1], NaN where not valid, a band for each phrase that was asked.
        preview: Picture to write: scene, masks, legend, scale bar and north arrow.
        runtime: Who computes, where `model` is a folder: `"torch"`, `"openvino"`, `"onnx"` or `"auto"`.
        batch_size: Pairs of a window and a phrase that are computed at once.
        overlap_px: Of neighbouring tiles; a quarter of a tile by default.
        min_area_m2: Smaller pieces are dropped from masks and layers.
        simplify_m: By how much the layer's outlines may move to have fewer points.
        overwrite: Replace files that other settings made, and begin again.
        progress: Show a bar with pixels a second and time left.

    Returns:
        One entry per expression, and the files.

    Raises:
        ValueError: If an argument or the raster's bands are not what is expected, or a file would replace the raster.
        RRSISError: If a window can't be read, or files of other settings are in the way.
        OSError: If something can't be opened or written.
    """
    started = time.monotonic()
    texts = _checked_expressions(expressions)
    if frame not in FRAMES:
        raise ValueError(f"frame: expected one of {', '.join(FRAMES)}, got {frame!r}")
    outputs = Outputs.of(output=output, vector=vector, probability=probability, preview=preview)
    reader = open_reader(model, runtime=runtime, batch_size=batch_size)
    plans = [plan_expression(text, frame) for text in texts]
    with open_scene(os.fspath(source), bands=bands, stretch=stretch) as scene:
        ground = Ground.of(scene.dataset)
        if outputs.vector is not None:
            check_vector(outputs.vector, georeferenced=ground.crs is not None)
        check_untouched(
            [*outputs.named.values(), outputs.receipt],
            reads=[*scene.dataset.files, *scene.files],
            overwrite=True,  # whether what is there may be replaced follows from its receipt
        )
        if outputs.preview is not None:
            check_preview(outputs.preview)
        size = _tile_sizes(reader, ground, tile_size_px, overlap_px, resolution_m)
        lengths = (_not_negative("min_area_m2", min_area_m2), _not_negative("simplify_m", simplify_m))
        settings = Settings(*size, _checked_threshold(threshold), *lengths)
        request = _request(scene, reader, plans, settings, outputs)
        warnings = compass_warnings(plans, georeferenced=ground.crs is not None)
        points = scene.dataset.gcps[0] or scene.dataset.rpcs
        warnings += (CONTROL_POINTS,) if ground.crs is None and points else ()
        warnings += (NO_TRANSFORM,) if scene.dataset.crs and scene.dataset.transform.is_identity and not points else ()
        held = _finished(outputs, request, overwrite=overwrite)
        if held is not None:
            return finished_result(held, plans, ground, outputs.named, warnings=warnings)
        with _scratch(outputs, request, overwrite=overwrite) as scratch:
            work = _run(scene, reader, plans, settings, outputs, scratch, progress=progress)
            return finish(work, plans, ground, outputs, settings, request, warnings=warnings, started=started)


def _checked_expressions(expressions: str | Sequence[str]) -> list[str]:
    texts = [expressions] if isinstance(expressions, str) else list(expressions)
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f'expressions: expected words such as "the storage tanks", got {expressions!r}')
    return texts


def _checked_threshold(threshold: float | None) -> float:
    value = DEFAULT_THRESHOLD if threshold is None else float(threshold)
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"threshold: expected a probability in [0, 1], got {threshold}")
    return value


def _not_negative(name: str, number: float) -> float:
    value = float(number)
    if not 0 <= value < math.inf:
        raise ValueError(f"{name}: expected a number of at least 0, got {number}")
    return value


def _tile_sizes(
    reader: Reader, ground: Ground, tile_size_px: int | None, overlap_px: int | None, resolution_m: float | None
) -> tuple[int, int]:
    """Tile and overlap in pixels of the scene."""
    tile = window_px_of(reader) if tile_size_px is None else int(tile_size_px)
    overlap = tile // 4 if overlap_px is None else int(overlap_px)
    if resolution_m is None:
        return tile, overlap
    if ground.pixel_m is None:
        raise ValueError("resolution_m: expected a scene with a CRS, whose pixels have a size in metres; leave it out")
    if not resolution_m > 0:
        raise ValueError(f"resolution_m: expected metres above 0, got {resolution_m}")
    factor = resolution_m / ground.pixel_m
    if not tile * factor <= MAX_TILE_PX:
        raise ValueError(
            f"resolution_m: expected at most {MAX_TILE_PX * ground.pixel_m / tile:.3g} in this scene, for tiles of at "
            f"most {MAX_TILE_PX:,} of its pixels, got {resolution_m}; make a raster of that resolution first"
        )
    size = round(tile * factor)
    return size, min(round(overlap * factor), size // 2)


def _request(
    scene: SceneSource, reader: Reader, plans: Sequence[Plan], settings: Settings, outputs: Outputs
) -> dict[str, Any]:
    """Everything that decides the files: what a run must share with the one that it goes on with."""
    folder = (outputs.output or next(iter(outputs.named.values()))).parent if outputs.named else "."
    return {
        "rrsis": package_version(),
        "source": source_identity(scene),
        "bands": list(scene.choice.indexes),
        "stretch": None if scene.stretch is None else [list(pair) for pair in scene.stretch],
        "model": reader_identity(reader),
        "expressions": [plan.expression for plan in plans],
        "frames": [plan.frame for plan in plans],
        **vars(settings),
        "files": {name: os.path.relpath(path, folder) for name, path in outputs.named.items()},
    }


def _finished(outputs: Outputs, request: dict[str, Any], *, overwrite: bool) -> dict[str, Any] | None:
    """The receipt of a run that made the very files that are asked for, all of them still there.

    Raises:
        RRSISError: If files are there that other settings made, and they may not be replaced.
    """
    receipt = None if outputs.receipt is None or overwrite else read_receipt(outputs.receipt)
    changed = [] if receipt is None else differences(receipt["request"], request)
    sizes = {name: path.stat().st_size for name, path in outputs.named.items() if path.exists()}
    there = [str(outputs.named[name]) for name in sizes]
    if receipt is not None and not changed:
        if sizes == receipt["bytes"]:
            return receipt
        there = [str(outputs.named[name]) for name, size in sizes.items() if size != receipt["bytes"].get(name)]
    elif receipt is None and outputs.output is not None and not overwrite:
        # ended between the last file's rename and the receipt
        part = read_receipt(_scratch_folder(outputs.output) / RECEIPT_FILE)
        if part is not None and not differences(part["request"], request):
            return None
    if there and not overwrite:
        unknown = "no receipt beside them says what made them" if receipt is None else "changed since a run wrote it"
        why = "; ".join(changed) or unknown
        raise LeftoverError(
            f"{', '.join(there)}: expected no such file, or one of the same settings ({why}); choose another name, or "
            "--overwrite to replace it"
        )
    return None


def _scratch_folder(output: Path) -> Path:
    return output.with_name(f"{output.name}.part")


@contextmanager
def _scratch(outputs: Outputs, request: dict[str, Any], *, overwrite: bool) -> Iterator[Scratch]:
    """The folder for strips: beside the mask, to go on in; without a mask a temporary one."""
    if outputs.output is not None:
        yield Scratch(_scratch_folder(outputs.output), request, overwrite=overwrite)
        return
    with tempfile.TemporaryDirectory(prefix="rrsis-scene-") as folder:
        yield Scratch(Path(folder) / "part", request)


def _run(
    scene: SceneSource,
    reader: Reader,
    plans: Sequence[Plan],
    settings: Settings,
    outputs: Outputs,
    scratch: Scratch,
    *,
    progress: bool,
) -> Pass:
    """Ask about all phrases of all expressions in one pass; afterwards all strips are there."""
    tiling = Tiling(scene.width_px, scene.height_px, tile_px=settings.tile_px, overlap_px=settings.overlap_px)
    with shown_progress(tiling, on=progress) as on_windows:
        work = Pass(
            source=scene,
            tiling=tiling,
            reader=reader,
            phrases=list(dict.fromkeys(phrase for plan in plans for phrase in plan.phrases)),
            threshold=settings.threshold,
            keep_probability=outputs.probability is not None,
            scratch=scratch,
            on_windows=on_windows,
        )
        (run_whole if plans[0].frame == "scene" else run_tiles)(work)
    return work
