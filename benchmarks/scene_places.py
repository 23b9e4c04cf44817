"""Places in a demo scene: the share of queries answered exactly with perfect masks, or a model's mIoU, by frame.

    python benchmarks/scene_places.py                       # perfect masks
    python benchmarks/scene_places.py --model runs/lavt/best

With perfect masks the reader sees the objects of a window, and nothing else, and understands every word: what is
wrong then is the frame's fault. In the frames `tile` and `scene` it answers the whole sentence on the objects of its
view, in `hybrid` it finds target and anchors and the resolver does the rest.
"""

import argparse
import itertools
import json
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio

from processing_rrsis.data.synthetic.vocabulary import CATEGORIES, COLOURS, SIZES
from processing_rrsis.data.writing.scene import IMAGE_FILE, OBJECTS_FILE, SceneSpec, write_scene
from processing_rrsis.scenes import segment_scene
from processing_rrsis.terminal import new_table

MARK = 77
QUERIES_AT_ONCE = 20
FRAMES = ("hybrid", "tile", "scene")


class PerfectReader:
    """Finds the objects that a phrase means among those that a window shows.

    Args:
        scene: What `write_scene` gave.
        axes: Where east and north are in the image.
        side_share: Side of a window, in sides of the scene.
    """

    def __init__(self, scene, axes, side_share, window_px):
        self.objects = scene.objects
        self.queries = {query.expression: query for query, _ in scene.queries}
        self.axes = axes
        self.side_share = side_share
        self.window_px = window_px

    def __call__(self, windows, phrases):
        found = np.zeros((len(windows), len(phrases), *windows.shape[1:3]), dtype=np.float32)
        for number, window in enumerate(windows):
            numbers = np.where(window[..., 2] == MARK, window[..., 0], 0)
            shown = self._shown(numbers)
            for place, phrase in enumerate(phrases):
                meant = np.zeros(256, dtype=np.float32)
                meant[self._meant(phrase, shown)] = 1.0
                found[number, place] = meant[numbers]
        return found

    def _shown(self, numbers):
        """What a window shows, by number, in shares of the window; of an object that is cut, what is to be seen."""
        height, width = numbers.shape
        flat = numbers.ravel()
        counts = np.bincount(flat, minlength=256)
        rows = np.bincount(flat, weights=np.repeat(np.arange(height), width), minlength=256)
        columns = np.bincount(flat, weights=np.tile(np.arange(width), height), minlength=256)
        return {
            int(value): replace(
                self.objects[value - 1],
                center_x=(columns[value] / counts[value] + 0.5) / width,
                center_y=(rows[value] / counts[value] + 0.5) / height,
                length=self.objects[value - 1].length / self.side_share,
                width=self.objects[value - 1].width / self.side_share,
            )
            for value in np.nonzero(counts[1:])[0] + 1
        }

    def _meant(self, phrase, shown):
        ids = list(shown)
        query = self.queries.get(phrase)
        if query is not None:
            return [ids[index] for index in query.answers(list(shown.values()), self.axes)[0]]
        words = set(phrase.split()) | {word.removesuffix("s") for word in phrase.split()}
        category = next(name for name in CATEGORIES if set(name.split()) <= words)
        colours, sizes = words & set(COLOURS), words & set(SIZES)
        return [
            value
            for value, item in shown.items()
            if item.category == category
            and (not colours or item.colour in colours)
            and (not sizes or item.size in sizes)
        ]


def write_numbers(folder):
    """The objects' numbers as a palette raster, in which a decimated read has no mean."""
    with rasterio.open(folder / OBJECTS_FILE) as source:
        numbers = source.read(1)
        profile = {**source.profile, "dtype": "uint8", "photometric": "palette"}
    if numbers.max() > 255:
        raise ValueError(f"expected at most 255 objects, got {numbers.max()}; take a smaller --size")
    with rasterio.open(folder / "numbers.tif", "w", **profile) as target:
        target.write_colormap(1, {value: (value, 255 - value, MARK if value else 0) for value in range(256)})
        target.write(numbers.astype(np.uint8), 1)
    return folder / "numbers.tif", numbers


def ask(source, scene, frame, readers, spec):
    """Masks of all queries in a frame, one after another."""
    queries = list(scene.queries)
    for first in range(0, len(queries), QUERIES_AT_ONCE):
        part = queries[first : first + QUERIES_AT_ONCE]
        with tempfile.TemporaryDirectory() as folder:
            result = segment_scene(
                source,
                [query.expression for query, _ in part],
                Path(folder) / "mask.tif",
                model=readers(frame),
                frame=frame,
                tile_size_px=spec.block_px,
            )
            with rasterio.open(Path(folder) / "mask.tif") as masks:
                for (query, answers), entry in zip(part, result, strict=True):
                    yield query, answers, masks.read(entry.band) == 1


def found_numbers(mask, numbers, sizes):
    """Numbers of the objects of which at least half is in the mask."""
    inside = np.bincount(numbers[mask], minlength=len(sizes))
    return {int(value) for value in np.nonzero(inside[1:] * 2 >= np.maximum(sizes[1:], 1))[0] + 1}


def run(spec, model, folder):
    scene = write_scene(folder / "demo", spec)
    palette, numbers = write_numbers(folder / "demo")
    sizes = np.bincount(numbers.ravel(), minlength=len(scene.objects) + 1)
    scores = defaultdict(list)
    if model is None:

        def readers(frame):
            share = 1.0 if frame == "scene" else spec.block_px / spec.size_px
            return PerfectReader(scene, spec.axes, share, spec.block_px)
    else:
        from processing_rrsis.runtimes.loading import open_pipeline

        pipe = open_pipeline(model)

        def readers(frame):
            return pipe

    for frame in FRAMES:
        source = palette if model is None else folder / "demo" / IMAGE_FILE
        for query, answers, mask in ask(source, scene, frame, readers, spec):
            kind = (query.kind, "several" if query.plural else "one")
            if model is None:
                score = found_numbers(mask, numbers, sizes) == {index + 1 for index in answers}
                if not score and frame == "hybrid":
                    found = sorted(found_numbers(mask, numbers, sizes))
                    print(f"wrong: {query.expression}: {found} for {[index + 1 for index in answers]}")
            else:
                truth = np.isin(numbers, [index + 1 for index in answers])
                score = (mask & truth).sum() / max((mask | truth).sum(), 1)
            scores[frame, kind].append(float(score))
    return scores


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument(
        "--block", type=int, default=480, help="side of a tile, and of the frame of the objects' sizes"
    )
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--turned", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    spec = SceneSpec(
        size_px=options.size,
        block_px=options.block,
        queries=options.queries,
        turned_deg=options.turned,
        seed=options.seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        scores = run(spec, options.model, Path(folder))
    from rich.console import Console

    title = "exactly the right objects, %" if options.model is None else "mIoU, %"
    table = new_table(["kind", "asked for"], ["n", *FRAMES], title=title)
    kinds = list(dict.fromkeys(kind for _, kind in scores))
    for kind in kinds:
        values = [scores[frame, kind] for frame in FRAMES]
        table.add_row(*kind, str(len(values[0])), *(f"{100 * np.mean(value):.1f}" for value in values))
    every = [list(itertools.chain(*(scores[frame, kind] for kind in kinds))) for frame in FRAMES]
    table.add_row("all", "", str(len(every[0])), *(f"{100 * np.mean(value):.1f}" for value in every))
    Console().print(table)
    if options.json is not None:
        rows = [{"frame": frame, "kind": kind, "scores": values} for (frame, kind), values in scores.items()]
        options.json.write_text(json.dumps(rows) + "\n")


if __name__ == "__main__":
    main()
