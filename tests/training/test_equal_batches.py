"""The effective batch decides, not how it is divided: the same losses on one process, on two and by accumulation.

Without dropout. BatchNorm sees the whole batch on one process and on two. Micro-batches that follow each other can't
see each other's statistics, so accumulation is compared with BatchNorm's statistics frozen.
"""

import json
import math

import pytest

from .killed_runs import run

OPTIONS = ("--max_steps", "8", "--log_every", "1", "--eval_every", "8", "--batch_size", "8", "--augmentation", "flip")
TOLERANCE = 1e-5


def losses(folder, recipe, *options, processes=1):
    folder.parent.mkdir(exist_ok=True)
    (folder.parent / "killed.yaml").write_text(recipe, encoding="utf-8")
    run(folder, processes, *OPTIONS, *options)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def recipe_of(model):
    return f"""
based_on: {model}-synthetic
config:
  backbone_kwargs: {{embed_dim: 16, depths: [1, 1, 1, 1], num_heads: [1, 2, 4, 8], window_size: 5,
                     drop_path_rate: 0.0}}
  text_config: {{hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 64,
                max_position_embeddings: 64, hidden_dropout_prob: 0.0, attention_probs_dropout_prob: 0.0}}
  decoder_hidden_size: 16
"""


def worst(curve, other):
    assert len(curve) == len(other) == 8
    return max(abs(one - two) for one, two in zip(curve, other, strict=True))


@pytest.fixture(
    scope="module",
    params=["lavt", pytest.param("fianet", marks=pytest.mark.slow), pytest.param("danet", marks=pytest.mark.slow)],
)
def recipe(request):
    return recipe_of(request.param)


def test_two_processes_train_as_one(recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("equal")
    one = losses(folder / "one", recipe)
    two = losses(folder / "two", recipe, processes=2)
    assert worst(one, two) <= TOLERANCE, worst(one, two)
    assert all(math.isfinite(loss) for loss in one)
    assert max(one) - min(one) > 100 * TOLERANCE, "the curve moves"


@pytest.mark.slow
def test_accumulation_trains_as_one(recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("equal")
    one = losses(folder / "one", recipe, "--freeze_batch_norm", "true")
    accumulated = losses(
        folder / "accumulated", recipe, "--freeze_batch_norm", "true", "--gradient_accumulation_steps", "2"
    )
    assert worst(one, accumulated) <= TOLERANCE
    assert max(one) - min(one) > 100 * TOLERANCE, "the curve moves"
