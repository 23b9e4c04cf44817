"""From finished strips to files: rasters, objects, layers, a picture, a receipt; all of them appear by rename."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .blending import Pass
from .frames.ground import Ground
from .frames.plan import Plan
from .frames.resolver import frames_of, placed_object, resolve
from .objects import burner, find_objects
from .preview import draw_preview
from .rasters import edited_pieces, scratch_profile, strip_pieces, write_cog, write_raster
from .receipts import RECEIPT_VERSION, write_receipt
from .result import ExpressionResult, SceneObject, SceneResult
from .settings import Outputs, Settings
from .vectors import write_vector

RASTERS = ("output", "probability")
ASIDE = ".writing"
"""What a file's name ends with until it is complete; it begins with a dot, too."""


def finish(
    work: Pass,
    plans: Sequence[Plan],
    ground: Ground,
    outputs: Outputs,
    settings: Settings,
    request: Mapping[str, Any],
    *,
    warnings: tuple[str, ...],
    started: float,
) -> SceneResult:
    """Make the files of a pass whose strips are all there, then drop the strips.

    Raises:
        OSError: If something can't be written; strips stay.
    """
    folder = work.scratch.folder
    asked, scores, masks = (folder / f"{name}.tif" for name in ("asked", "scores", "masks"))
    names = [plan.expression for plan in plans]
    byte_profile = scratch_profile(work.source, count=len(work.phrases), dtype="uint8")
    write_raster(asked, byte_profile, strip_pieces(work.scratch, work.tiling, "mask"), work.phrases)
    write_raster(scores, byte_profile, strip_pieces(work.scratch, work.tiling, "score"), work.phrases)
    found = [
        find_objects(asked, scores, band, ground, settings.min_area_m2) for band in range(1, len(work.phrases) + 1)
    ]
    results = resolved(plans, dict(zip(work.phrases, found, strict=True)), ground)
    bands = [work.phrases.index(plan.phrases[0]) + 1 for plan in plans]
    keep_all = [plan.place is None and not settings.min_area_m2 for plan in plans]
    chosen = [None if keep else result.objects for keep, result in zip(keep_all, results, strict=True)]
    profile = scratch_profile(work.source, count=len(plans), dtype="uint8")
    write_raster(masks, profile, edited_pieces(asked, bands, burner(chosen)), names)
    aside = {name: _aside(path) for name, path in outputs.named.items()}
    _write_outputs(aside, work, masks, results, ground, settings)
    for name, path in outputs.named.items():
        if name in RASTERS:  # GDAL would read what is left of an earlier file with the new one
            for ending in (".msk", ".ovr", ".aux.xml"):
                path.with_name(path.name + ending).unlink(missing_ok=True)
        os.replace(aside[name], path)
    result = SceneResult(
        source=work.source.name,
        results=tuple(results),
        paths=dict(outputs.named),
        warnings=warnings,
        seconds=time.monotonic() - started,
    )
    if outputs.receipt is not None:
        write_receipt(outputs.receipt, _receipt(request, result, outputs))
        result.paths["receipt"] = outputs.receipt
        work.scratch.remove()
    return result


def resolved(
    plans: Sequence[Plan], objects: Mapping[str, Sequence[SceneObject]], ground: Ground
) -> list[ExpressionResult]:
    """Give each expression its objects: all of its phrase, or those whose place it tells."""
    placed: dict[str, list[Any]] = {}
    results = []
    for band, plan in enumerate(plans, start=1):
        items = objects[plan.phrases[0]]
        reason = plan.reason
        if plan.place is not None:
            for phrase in plan.phrases:
                if phrase not in placed:
                    placed[phrase] = [placed_object(item.outline_px, ground, item.score) for item in objects[phrase]]
            items = [items[index] for index in resolve(plan.place, placed, frames_of(ground))]
            missing = [f"'{phrase}'" for phrase in plan.phrases if not objects[phrase]]
            reason += f"; not found: {', '.join(missing)}" if missing else ""
        results.append(ExpressionResult(plan.expression, tuple(items), plan.frame, reason, band))
    return results


def _write_outputs(
    aside: Mapping[str, Path],
    work: Pass,
    masks: Path,
    results: Sequence[ExpressionResult],
    ground: Ground,
    settings: Settings,
) -> None:
    """Write every file that was asked for under the name that it has until all are there."""
    if "output" in aside:
        write_cog(masks, aside["output"])
    if "probability" in aside:
        plain = work.scratch.folder / "probability.tif"
        profile = scratch_profile(work.source, count=len(work.phrases), dtype="float32")
        write_raster(plain, profile, strip_pieces(work.scratch, work.tiling, "probability"), work.phrases)
        write_cog(plain, aside["probability"])
    if "vector" in aside:
        write_vector(
            aside["vector"],
            results,
            ground,
            simplify_m=settings.simplify_m,
            name=aside["vector"].stem[1 : -len(ASIDE)],
        )
    if "preview" in aside:
        draw_preview(aside["preview"], work.source, masks, results, ground)


def _aside(path: Path) -> Path:
    """The name of a file until it is complete; what a killed run left of it is dropped."""
    name = path.with_name(f".{path.stem}{ASIDE}{path.suffix}")
    name.unlink(missing_ok=True)
    return name


def _receipt(request: Mapping[str, Any], result: SceneResult, outputs: Outputs) -> dict[str, Any]:
    return {
        "version": RECEIPT_VERSION,
        "request": dict(request),
        "bytes": {name: path.stat().st_size for name, path in outputs.named.items()},
        "seconds": round(result.seconds, 3),
        "results": [
            {
                "expression": entry.expression,
                "frame": entry.frame,
                "reason": entry.reason,
                "objects": len(entry.objects),
                "area_m2": entry.area_m2,
                "scores": [item.score for item in entry.objects],
            }
            for entry in result
        ],
    }


def finished_result(
    receipt: Mapping[str, Any],
    plans: Sequence[Plan],
    ground: Ground,
    paths: Mapping[str, Path],
    *,
    warnings: tuple[str, ...],
) -> SceneResult:
    """What a finished run found, read from its files."""
    results = []
    for band, (plan, held) in enumerate(zip(plans, receipt["results"], strict=True), start=1):
        objects = find_objects(paths["output"], held["scores"], band, ground)
        results.append(ExpressionResult(plan.expression, tuple(objects), held["frame"], held["reason"], band))
    receipt_path = paths["output"].with_name(f"{paths['output'].name}.receipt.json")
    return SceneResult(
        source=receipt["request"]["source"]["name"],
        results=tuple(results),
        paths={**paths, "receipt": receipt_path},
        warnings=warnings,
        seconds=receipt["seconds"],
    )
