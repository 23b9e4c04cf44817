"""The loopback Hub, tiny model folders as a run leaves them, and processes that talk to the Hub."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import huggingface_hub
import pytest
import torch
import transformers
from PIL import Image

from processing_rrsis.hub.model_card import ModelCardFacts, render_model_card
from processing_rrsis.hub.model_folder import save_hub_folder
from processing_rrsis.hub.push import PushOptions
from tests.tiny import build_tiny_model, build_tiny_processor

from .loopback import WRITE_TOKEN, LoopbackHub

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DRY_RUN = PushOptions(dry_run=True)
SCORES = {"mIoU": 61.5, "oIoU": 59.25, "Pr@0.5": 70.0, "Pr@0.6": 60.0, "Pr@0.7": 50.0, "Pr@0.8": 40.0, "Pr@0.9": 9.0}


@pytest.fixture
def hub():
    server = LoopbackHub()
    yield server
    server.stop()


@pytest.fixture
def online(hub, monkeypatch, tmp_path):
    """This process talks to the loopback Hub, with a token that may write, and does not wait between retries."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
    return hub


def make_results(**scores):
    """Results of a split as metrics.json holds them."""
    overall = {**SCORES, **scores, "n": 40}
    empty = {"by_kind": {}, "by_category": {}, "native": None, "absent": None}
    return {"overall": overall, **empty, "threshold": 0.5, "resolution": "64×64 px (model input)", "seconds": 1.0}


def write_run(folder, name, dataset="synthetic"):
    """A run's folder with `best/` of a tiny random model, its card, metrics.json and contact sheet."""
    model, processor = build_tiny_model(name), build_tiny_processor(categories=["ship", "dam"], max_length=16)
    results = {"test": {"expression": make_results(), "shuffled": make_results(mIoU=5.0)}}
    facts = ModelCardFacts(architecture=name, dataset=dataset, repo_id=str(folder / "best"), seed=0, results=results)
    metrics = {"recipe": {"model": name, "dataset": dataset}, "seed": 0, "results": results}
    folder.mkdir(parents=True)
    save_hub_folder(model, processor, folder / "best", model_card=render_model_card(facts), metrics=metrics)
    Image.new("RGB", (32, 16), "white").save(folder / "contact_sheet.png")
    return folder / "best"


@pytest.fixture(scope="session")
def lavt_run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "lavt", "lavt").parent


@pytest.fixture
def best(lavt_run, tmp_path):
    """A run's `best/` with a tiny LAVT, to be changed at will."""
    shutil.copytree(lavt_run, tmp_path / "run")
    card = tmp_path / "run" / "best" / "README.md"
    card.write_text(card.read_text().replace(str(lavt_run), str(tmp_path / "run")))
    return card.parent


def run_publish(hub, home, *arguments, token=WRITE_TOKEN, **environment):
    """`rrsis publish ...` in its own process, talking to the Hub."""
    return subprocess.run(
        [sys.executable, "-m", "processing_rrsis.cli.app", "publish", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=home,
        env={**hub.environment(home, token), "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environment},
        timeout=240,
        check=False,
    )


def run_stranger(hub, home, task, *arguments, token=None):
    """A function of stranger.py where our packages can't be imported; what it reports as JSON.

    Set RRSIS_STRANGER_PATHS to folders, separated like PATH, that go first: another transformers, say.
    """
    homes = tuple(Path(package.__file__).parents[1] for package in (transformers, torch))
    more = [path for path in os.environ.get("RRSIS_STRANGER_PATHS", "").split(os.pathsep) if path]
    paths = map(str, (*more, *homes, *map(sysconfig.get_path, ("purelib", "platlib"))))
    # -I: no PYTHONPATH, no working directory; -S: no .pth file, so no editable install
    run = subprocess.run(
        [sys.executable, "-I", "-S", HERE / "stranger.py", os.pathsep.join(paths), task, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=home,
        env=hub.environment(home, token),
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    assert token is None or token not in run.stdout + run.stderr
    expected = next(importlib.metadata.distributions(name="transformers", path=[*more, *map(str, homes)])).version
    line = next(line for line in run.stdout.splitlines() if line.startswith("REPORT "))
    report = json.loads(line.removeprefix("REPORT "))
    assert report["transformers"] == expected, "the stranger ran with another transformers than asked for"
    return report
