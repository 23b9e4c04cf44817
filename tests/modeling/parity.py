"""Published networks from numbers alone: weights and inputs by generator, key lists and golden values from files.

The goldens were measured from the authors' code; `write_parity_golden.py` cut them to what the tests need. Weights and
images come from a 64-bit generator that is seeded by their name, so that no file carries them.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parents[1] / "golden" / "parity"
CHUNK = 1 << 17  # numbers at a time: stays in the processor's cache
WORD_EMBEDDINGS = "text_encoder.embeddings.word_embeddings.weight"


def raw(key, start, count):
    """Numbers start … start + count − 1 of the key's stream, uint64: splitmix64 seeded by SHA-256."""
    seed = np.uint64(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little"))
    z = np.arange(start + 1, start + count + 1, dtype=np.uint64)
    shifted = np.empty_like(z)
    with np.errstate(over="ignore"):
        z *= np.uint64(0x9E3779B97F4A7C15)
        z += seed
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            np.right_shift(z, np.uint64(shift), out=shifted)
            z ^= shifted
            z *= np.uint64(factor)
        np.right_shift(z, np.uint64(31), out=shifted)
        z ^= shifted
    return z


def uniform(key, start, count):
    """Uniform numbers with mean 0 and variance 1, float64."""
    z = raw(key, start, count)
    z >>= np.uint64(11)
    numbers = z.astype(np.float64)
    numbers *= 2.0**-52
    numbers -= 1.0
    numbers *= math.sqrt(3.0)
    return numbers


def gain_of(key):
    """Scale of a weight matrix; larger for keys and queries, so that attention is not flat."""
    if key.endswith("f_key.0.weight"):
        return 4.0
    if key.endswith("output.dense.weight"):
        return 0.25
    return 2.0 if key.endswith(("self.query.weight", "self.key.weight")) else 1.0


def numbers_of(key, shape, start, count):
    """Consecutive values of a tensor as float32; each step in double precision and in the order of the recipe."""
    out = np.empty(count, dtype=np.float32)
    for first in range(0, count, CHUNK):
        part = uniform(key, start + first, min(CHUNK, count - first))
        if key.endswith(".running_var"):
            part = 1 + 0.5 * np.abs(part)
        elif key.endswith(".running_mean"):
            part *= 0.1
        elif len(shape) == 1 and key.endswith(".weight"):
            part = 1 + 0.1 * part
        elif len(shape) <= 1:
            part *= 0.1
        else:
            part *= gain_of(key)
            part /= math.sqrt(math.prod(shape[2:] if len(shape) == 5 else shape[1:]))
        out[first : first + len(part)] = part
    return out


def make_tensor(key, shape, rows=None):
    """A tensor of a published checkpoint; `rows` keeps only these of its first dimension (of the whole's numbers)."""
    if key.endswith(("relative_position_index", "num_batches_tracked")):
        return torch.zeros(shape, dtype=torch.long)
    if rows is None:
        return torch.from_numpy(numbers_of(key, shape, 0, math.prod(shape))).reshape(shape)
    width = math.prod(shape[1:])
    return torch.from_numpy(np.stack([numbers_of(key, shape, int(row) * width, width) for row in rows]))


def expand(tree, prefix=""):
    """Key lists are stored as trees in which `"0-2"` stands for three equal branches, leaves are shapes."""
    for name, branch in tree.items():
        first, _, last = name.partition("-")
        indices = [name] if not (first.isdigit() and last.isdigit()) else map(str, range(int(first), int(last) + 1))
        for index in indices:
            if isinstance(branch, list):
                yield prefix + index, tuple(branch)
            else:
                yield from expand(branch, f"{prefix}{index}.")


@lru_cache
def published_keys(name):
    """Shapes of a published checkpoint by key; of `lavt_base`, without its BERT."""
    trees = json.loads((GOLDEN / "keys.json").read_text())
    tree = trees[name]
    if "text_encoder" in tree:
        tree = {**tree, "text_encoder": trees["bert"]}
    return dict(expand(tree))


@lru_cache
def bert_keys():
    """Shapes of the published BERT by bare key."""
    return dict(expand(json.loads((GOLDEN / "keys.json").read_text())["bert"]))


@lru_cache(maxsize=1)
def bert_state(rows):
    """BERT's tensors, the same in every published network, with only the given rows of its vocabulary."""
    keys = {f"text_encoder.{key}": shape for key, shape in bert_keys().items()}
    return {key: make_tensor(key, shape, rows if key == WORD_EMBEDDINGS else None) for key, shape in keys.items()}


def published_state(name, rows=None):
    """Tensors of a published checkpoint with generated weights; `rows` are the words of the vocabulary to keep."""
    keys = published_keys(name)
    bert = bert_state(rows) if WORD_EMBEDDINGS in keys else {}
    return {key: bert[key] if key in bert else make_tensor(key, shape) for key, shape in keys.items()}


@dataclass(frozen=True)
class Case:
    """Inputs of one golden case; token indices refer to the small vocabulary `rows`."""

    name: str
    height: int
    width: int
    inputs: dict


class Golden:
    """Golden values of one published network."""

    def __init__(self, name):
        self.name = name
        with np.load(GOLDEN / f"{name}.npz") as file:
            self.arrays = dict(file)
        self.info = json.loads(str(self.arrays["info"]))
        self.rows = tuple(np.unique(np.concatenate([self.arrays[f"{case}/ids"].ravel() for case in self.cases])))

    @property
    def cases(self):
        return list(self.info["cases"])

    def __getitem__(self, key):
        return torch.from_numpy(self.arrays[key])

    def case(self, name):
        """Inputs as the model takes them, the image float32."""
        height, width = self.info["cases"][name]["size"]
        ids = np.searchsorted(self.rows, self.arrays[f"{name}/ids"])
        masks = {ours: self[f"{name}/{theirs}"].long() for ours, theirs in MASKS.items()}
        shape = (len(ids), 3, height, width)
        pixels = uniform(f"input:{name}:image", 0, math.prod(shape)).astype(np.float32).reshape(shape)
        inputs = {"pixel_values": torch.from_numpy(pixels), "input_ids": torch.from_numpy(ids), **masks}
        return Case(name, height, width, inputs)

    def noise(self, case, tensor):
        """Largest difference of the authors' float32 and float64 runs."""
        return self.info["cases"][case]["noise"][tensor]


MASKS = {"attention_mask": "l_mask", "ground_object_mask": "t_mask", "spatial_position_mask": "p_mask"}


def sample_positions(case, tensor, size, count):
    """Flat positions at which a tensor was stored."""
    return torch.from_numpy((raw(f"sample:{case}/{tensor}", 0, count) % np.uint64(size)).astype(np.int64))


def target_of(case, batch):
    """Labels of the golden losses: one box a sample."""
    labels = torch.zeros(batch, case.height, case.width, dtype=torch.long)
    for b in range(batch):
        top, bottom = case.height * (b + 1) // 6, case.height * (b + 3) // 6
        labels[b, top:bottom, case.width // 5 : case.width * (3 + b) // 5] = 1
    return labels


def small_shape(key, shape):
    """Shape of a published tensor (tiny variant) in a network of a twelfth of its width; windows stay."""
    if key.startswith("text_encoder."):
        sizes = {768: 64, 3072: 128, 30522: 40, 512: 32}
        return tuple(sizes.get(size, size) for size in shape)
    if key.endswith("relative_position_bias_table"):
        return shape[0], {3: 1, 6: 2, 12: 4, 24: 8}[shape[1]]
    if "f_key" in key or "f_value" in key:
        return tuple(64 if i == 1 else size // 12 for i, size in enumerate(shape[:2])) + shape[2:]
    return tuple(size // 12 if size % 12 == 0 else size for size in shape)


@lru_cache
def small_published_state(name):
    """Tensors of a published tiny checkpoint, narrow and with two BERT layers."""
    keys = {key: small_shape(key, shape) for key, shape in published_keys(name).items()}
    shallow = {key for key in keys if not key.startswith("text_encoder.encoder.") or key.split(".")[3] in "01"}
    return {key: make_tensor(key, keys[key]) for key in keys if key in shallow}
