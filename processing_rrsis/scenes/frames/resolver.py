"""Which objects a place means: pure functions on objects with their geometry, of the whole scene.

Each says how well an object fits, from 0 to 1: at least 0.5 is "there". Where one object is meant the best fit is
taken, weighted by how sure the network is of the object, if the fit is not below 0.25; where several are meant, all
that are there.

Positions count from the frame's middle: the left third is "left", its upper end "upper left". A direction from an
anchor is the mean of two: from the anchor's middle, and from its nearest point, so that a long road and a small
building both have a north; within 45° is there. "Next to" is a gap no larger than target and anchor are on average.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from .ground import Ground
from .places import Direction, Place, Relation

THERE = 0.5
BEST_AT_LEAST = 0.25
THIRD = 1 / 3
SAME_SHARE = 0.5
"""Share of a target inside an anchor from which on the two are one thing."""

Bounds = tuple[float, float, float, float]


@dataclass(frozen=True)
class Placed:
    """An object as the resolver sees it.

    Attributes:
        image: Outline in pixels, x to the right and y up.
        ground: Outline in metres, x east and y north.
        score: Mean probability inside, in [0, 1].
    """

    image: Any
    ground: Any
    score: float = 1.0

    def outline(self, frame: str) -> Any:
        """The outline in the frame of a direction."""
        return self.image if frame == "image" else self.ground


@dataclass(frozen=True)
class Frames:
    """Borders of the scene in both frames: (x low, y low, x high, y high)."""

    image: Bounds
    ground: Bounds


def frames_of(ground: Ground) -> Frames:
    """The borders of a raster's frame."""
    corners = shapely.box(0, 0, ground.width_px, ground.height_px)
    placed = placed_object(corners, ground)
    return Frames(image=placed.image.bounds, ground=placed.ground.bounds)


def placed_object(outline_px: Any, ground: Ground, score: float = 1.0) -> Placed:
    """An object from its outline in pixels, y down, and its score."""
    return Placed(
        image=shapely.transform(outline_px, lambda points: points * [1.0, -1.0]),
        ground=shapely.transform(outline_px, ground.to_metres),
        score=score,
    )


def resolve(place: Place, objects: Mapping[str, Sequence[Placed]], frames: Frames) -> list[int]:
    """Find the objects that a place means.

    Args:
        place: What was read.
        objects: Of every phrase of the place, see `Place.phrases`.
        frames: Borders of the scene.

    Returns:
        Indices among the objects of `place.phrase`, in their order.
    """
    candidates = list(objects[place.phrase])
    # Superlatives compare those that are there by all else: "the leftmost ship north of the harbour".
    compares = any(item.extreme for item in place.positions) or any(item.kind == "nearest" for item in place.relations)
    single = place.count is not None
    fits = np.ones(len(candidates))
    groups = [[_anchors(anchor, objects, frames) for anchor in relation.anchors] for relation in place.relations]
    for direction in place.positions:
        if not direction.extreme:
            fits = np.minimum(fits, _position_fits(direction, candidates, frames, single=single and not compares))
    for relation, anchors in zip(place.relations, groups, strict=True):
        if relation.kind != "nearest":
            fits = np.minimum(fits, [relation_fit(relation, item, anchors) for item in candidates])
    if not compares:
        return _chosen(place, fits, candidates)
    kept = [index for index, fit in enumerate(fits) if fit >= THERE]
    among = [candidates[index] for index in kept]
    for direction in place.positions:
        if direction.extreme:
            fits = _spread(fits, kept, _extreme_fits(direction, among, frames, single=single))
    for relation, anchors in zip(place.relations, groups, strict=True):
        if relation.kind == "nearest":
            fits = _spread(fits, kept, nearest_fits(among, anchors[0], place.count or 1))
    return _chosen(place, fits, candidates)


def _spread(fits: NDArray[np.float64], kept: Sequence[int], found: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fits of some candidates in the place of theirs; the others are not meant."""
    spread = np.zeros(len(fits))
    spread[list(kept)] = found
    return spread


def _anchors(place: Place, objects: Mapping[str, Sequence[Placed]], frames: Frames) -> list[Placed]:
    """Objects that an anchor's words mean: all of its kind where they tell no place of it."""
    found = objects[place.phrase]
    return [found[index] for index in resolve(place, objects, frames)] if place.has_place else list(found)


def _chosen(place: Place, fits: NDArray[np.float64], candidates: Sequence[Placed]) -> list[int]:
    """All that are there, the best ones, or the largest of those that are there."""
    there = [index for index, fit in enumerate(fits) if fit >= THERE]
    if place.choice is not None:
        sign = -1 if place.choice == "largest" else 1
        return sorted(sorted(there, key=lambda index: sign * candidates[index].ground.area)[: place.count or 1])
    if place.count is None:
        return there
    # what the network is hardly sure of is a false alarm sooner than the one that is meant
    worth = [fit * max(0.0, 2.0 * item.score - 1.0) for fit, item in zip(fits, candidates, strict=True)]
    ranked = sorted((index for index, fit in enumerate(fits) if fit >= BEST_AT_LEAST), key=lambda index: -worth[index])
    return sorted(ranked[: place.count])


def _position_fits(
    direction: Direction, candidates: Sequence[Placed], frames: Frames, *, single: bool
) -> NDArray[np.float64]:
    """Fits of a position in the scene, (N,)."""
    if not candidates:
        return np.ones(0)
    return np.array([position_fit(direction, x, y, single=single) for x, y in _shares(direction, candidates, frames)])


def _extreme_fits(
    direction: Direction, candidates: Sequence[Placed], frames: Frames, *, single: bool
) -> NDArray[np.float64]:
    """Fits of how far some objects lie in a direction, (N,): 1 for the farthest."""
    if not candidates:
        return np.ones(0)
    along = _shares(direction, candidates, frames) @ [direction.x, direction.y]
    behind = along.max() - along
    return 1.0 - behind / 4 if single else np.where(behind <= THIRD, 1.0, 0.0)


def _shares(direction: Direction, candidates: Sequence[Placed], frames: Frames) -> NDArray[np.float64]:
    """Where objects' middles lie in a frame, (N, 2), from -1 to 1."""
    bounds = frames.image if direction.frame == "image" else frames.ground
    points = np.array([item.outline(direction.frame).centroid.coords[0] for item in candidates])
    low, high = np.array(bounds[:2]), np.array(bounds[2:])
    return 2.0 * (points - low) / (high - low) - 1.0


def position_fit(direction: Direction, x: float, y: float, *, single: bool = False) -> float:
    """How well a point lies in a part of the frame.

    Args:
        direction: The part; (0, 0) is the middle.
        x: Of the point, from -1 at the frame's left (west) to 1.
        y: From -1 at its lower (southern) end to 1.
        single: Whether one object is meant: then "left" prefers what is in the middle of the left side, since a corner
            would have been called one.
    """
    if (direction.x, direction.y) == (0, 0):
        return _clipped(1.0 - 1.5 * max(abs(x), abs(y)))
    begins = 0.0 if direction.half else THIRD
    fits = []
    for step, at, other in ((direction.x, x, y), (direction.y, y, x)):
        if step:
            fits.append(_clipped(THERE + 0.75 * (step * at - begins)))
            if direction.middle:
                fits.append(_clipped(1.0 - 1.5 * abs(other)))
            elif single and not (direction.x and direction.y):
                fits.append(1.0 - 0.75 * abs(other))
    return min(fits)


def relation_fit(relation: Relation, target: Placed, groups: Sequence[Sequence[Placed]]) -> float:
    """How well a target lies as a relation says, from the anchor for which it does so best; 0 without an anchor.

    Args:
        relation: Any but `"nearest"`, which needs all targets.
        target: The object.
        groups: The anchors; two groups for "between" of two phrases.
    """
    if relation.kind == "between":
        return between_fit(target, groups)
    # something inside of its anchor is not the same thing
    anchors = groups[0] if relation.kind == "inside" else _others(target, groups[0])
    if relation.direction is not None:
        fits = direction_fits(relation.direction, target, anchors)
    else:
        fits = {"near": near_fits, "inside": inside_fits}[relation.kind](target, anchors)
    if relation.every:
        return float(fits.min()) if len(fits) else 0.0
    return float(fits.max(initial=0.0))


def _others(target: Placed, anchors: Sequence[Placed]) -> list[Placed]:
    """Anchors without those whose mask shows the target itself, found by both phrases."""
    shared = _shared_areas(target.image, _array(item.image for item in anchors))
    limit = SAME_SHARE * target.image.area
    return [item for item, area in zip(anchors, shared, strict=True) if area <= limit]


def direction_fits(direction: Direction, target: Placed, anchors: Sequence[Placed]) -> NDArray[np.float64]:
    """1 straight in the direction, 0.5 at 45°, 0 at 90° and beyond, (N,) for N anchors."""
    here = target.outline(direction.frame).centroid
    shapes = _array(item.outline(direction.frame) for item in anchors)
    along = _unit_vectors(shapely.centroid(shapes), here) + _unit_vectors(_nearest_points(shapes, here), here)
    lengths = np.linalg.norm(along, axis=1) * math.hypot(direction.x, direction.y)
    cosines = np.divide(
        along @ [direction.x, direction.y], lengths, out=np.full(len(lengths), -1.0), where=lengths > 0
    )
    return np.clip(1.0 - np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0))) / 90.0, 0.0, 1.0)


def near_fits(target: Placed, anchors: Sequence[Placed]) -> NDArray[np.float64]:
    """1 where they touch, 0.5 at a gap as wide as the two are on average, less beyond, (N,) for N anchors."""
    shapes = _array(item.ground for item in anchors)
    reach = (math.sqrt(target.ground.area) + np.sqrt(shapely.area(shapes))) / 2
    gaps = shapely.distance(target.ground.envelope, shapely.envelope(shapes))
    close = reach / (reach + gaps) >= BEST_AT_LEAST  # the others are never chosen, whatever their outlines
    gaps[close] = shapely.distance(target.ground, shapes[close])
    return reach / (reach + gaps)


def inside_fits(target: Placed, anchors: Sequence[Placed]) -> NDArray[np.float64]:
    """Share of the target inside the hull of each of N anchors, (N,)."""
    shapes = _array(item.ground for item in anchors)
    area = target.ground.area
    return _shared_areas(target.ground, shapes, hulls=True) / area if area else np.zeros(len(shapes))


def between_fit(target: Placed, groups: Sequence[Sequence[Placed]]) -> float:
    """1 on the line between two anchors, 0.5 where they are seen 120° apart, 0.25 at a right angle; 0 without a pair.

    The widest pair counts. It is found among directions, so that time grows with the anchors and not with their pairs'
    geometry.

    Args:
        target: The object.
        groups: Anchors of one phrase ("between the two buildings"), or of each of two.
    """
    here = target.ground.centroid
    sides = [_directions(here, _others(target, group)) for group in groups]
    cosines = sides[0] @ sides[-1].T
    if len(sides) == 1:
        np.fill_diagonal(cosines, 1.0)  # an anchor and itself are no pair
    widest = math.degrees(math.acos(np.clip(cosines.min(initial=1.0), -1.0, 1.0)))
    return _clipped(1.0 - (180.0 - widest) / 120.0)


def _directions(here: Any, anchors: Sequence[Placed]) -> NDArray[np.float64]:
    """Unit vectors (N, 2) from a point to the nearest of each anchor, to its middle from inside; 0 at the middle."""
    shapes = _array(item.ground for item in anchors)
    outside = _unit_vectors(_nearest_points(shapes, here), here)  # 0 inside
    return -np.where(outside.any(axis=1, keepdims=True), outside, _unit_vectors(shapely.centroid(shapes), here))


def nearest_fits(candidates: Sequence[Placed], anchors: Sequence[Placed], count: int = 1) -> NDArray[np.float64]:
    """1 for the candidates with the smallest gaps to an anchor, as many as counted, 0 for all others, (N,)."""
    gaps = np.full(len(candidates), np.inf)
    for index, item in enumerate(candidates):
        tree = shapely.STRtree([other.ground for other in _others(item, anchors)])
        gaps[index] = tree.query_nearest(item.ground, return_distance=True)[1].min(initial=np.inf)
    limit = np.sort(gaps)[:count].max(initial=-np.inf)
    return np.where(np.isfinite(gaps) & (gaps <= limit), 1.0, 0.0)


def _array(shapes: Iterable[Any]) -> NDArray[np.object_]:
    return np.array(list(shapes), dtype=object)


def _shared_areas(shape: Any, others: NDArray[np.object_], *, hulls: bool = False) -> NDArray[np.float64]:
    """Area that a shape shares with each of N others, or with their hulls, (N,)."""
    near = np.nonzero(shapely.intersects(shapely.envelope(others), shape.envelope))[0]  # most are far away, at no cost
    shapes = shapely.convex_hull(others[near]) if hulls else others[near]
    shared = np.zeros(len(others))
    shared[near] = shapely.area(shapely.intersection(shape, shapes))
    return shared


def _nearest_points(shapes: NDArray[np.object_], here: Any) -> NDArray[np.object_]:
    """The point of each shape that is nearest to a point."""
    return shapely.get_point(shapely.shortest_line(shapes, here), 0)


def _unit_vectors(starts: NDArray[np.object_], here: Any) -> NDArray[np.float64]:
    """Directions from N points to one, (N, 2); (0, 0) where they are the same."""
    vectors = np.array([here.x, here.y]) - shapely.get_coordinates(starts).reshape(-1, 2)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def _clipped(value: float) -> float:
    return max(0.0, min(1.0, float(value)))
