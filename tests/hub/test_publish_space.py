"""Spaces: the metric with its page, and the demo of a model; their cards."""

import importlib.util
import json
import os
import re

import numpy as np
import pytest
from huggingface_hub import SpaceCard
from PIL import Image

from processing_rrsis.hub.checks import check_card
from processing_rrsis.hub.publish_space import metric_files, publish_metric, publish_space, space_files
from processing_rrsis.hub.push import PublishError

from .conftest import DRY_RUN, run_publish
from .loopback import USER
from .repositories import Repository

MODEL = f"{USER}/lavt"


@pytest.fixture(autouse=True)
def published(hub):
    """The model of the demos is on the Hub."""
    repository = hub.repositories["models", MODEL] = Repository(private=False)
    repository.commit("main", {}, "initial commit")


def test_the_demo_with_its_model_and_examples(online, tmp_path):
    publish_space(MODEL, f"{USER}/demo", title="Find it")
    folder = online.repository(f"{USER}/demo", "space").write(tmp_path / "space")
    assert {path.name for path in folder.iterdir()} == {
        ".gitattributes",
        "README.md",
        "app.py",
        "requirements.txt",
        "examples",
    }
    app = (folder / "app.py").read_text()
    compile(app, "app.py", "exec")
    asked = re.findall(r"os\.environ\.get\(\"MODEL_ID\".*?\)", app)
    assert asked == [f'os.environ.get("MODEL_ID", "{MODEL}")']
    assert eval(asked[0], {"os": os}) == os.environ.get("MODEL_ID", MODEL)
    for example in json.loads((folder / "examples" / "examples.json").read_text()):
        assert Image.open(folder / "examples" / example["image"]).mode == "RGB"
        assert example["expressions"]
    card = SpaceCard((folder / "README.md").read_text())
    assert (card.data.title, card.data.sdk, card.data.app_file) == ("Find it", "gradio", "app.py")
    assert card.data.models == [MODEL]


def test_a_demo_of_a_model_that_is_not_there(online):
    with pytest.raises(PublishError, match=r"has no such model.*publish it first: rrsis publish model"):
        publish_space(f"{USER}/nowhere", f"{USER}/demo")
    assert ("spaces", f"{USER}/demo") not in online.repositories
    publish_space(f"{USER}/nowhere", f"{USER}/demo", DRY_RUN)


@pytest.mark.parametrize("title", ["Find: it", "# 1", 'the "dam"', "yes"])
def test_titles_that_yaml_would_read_otherwise(title):
    (text,) = (file.read().decode() for file in space_files(MODEL, title) if file.path == "README.md")
    assert SpaceCard(text).data.title == title
    assert f"\n# {title}\n" in text


@pytest.mark.parametrize("name", ["app", "my.metric"])
def test_names_under_which_a_metric_does_not_load(name):
    with pytest.raises(ValueError, match="expected a name without a dot and other than `app`"):
        publish_metric(f"{USER}/{name}", DRY_RUN)


def test_the_demos_older_examples_go_with_the_same_commit(online):
    publish_space(MODEL, f"{USER}/demo")
    published = online.repository(f"{USER}/demo", "space")
    older = {**published.files(), "examples/old.png": published.files()["README.md"]}
    published.commit("main", older, "by hand", parent=published.refs["main"])
    assert publish_space(MODEL, f"{USER}/demo").removed == ("examples/old.png",)


@pytest.mark.parametrize("kind", ["metric", "space"])
def test_cards_of_spaces_are_what_the_hub_reads(kind):
    repo_id = f"{USER}/{kind}"
    files = metric_files(repo_id) if kind == "metric" else space_files(MODEL, "Find it")
    (text,) = (file.read().decode() for file in files if file.path == "README.md")
    card = SpaceCard(text)
    (lacking,) = check_card(text.replace("sdk: gradio\n", ""), fields=("title", "sdk"))
    assert "lacks `sdk`" in lacking
    assert card.data.license == "apache-2.0"
    assert card.data.colorFrom in ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
    assert len(card.data.get("short_description") or "") <= 60
    assert not check_card(text, fields=("title", "emoji", "sdk", "sdk_version", "app_file"))


def test_the_metrics_page_scores_two_masks(online, tmp_path):
    """One pixel of two is right: IoU 50."""
    gradio = pytest.importorskip("gradio")
    publish_metric(f"{USER}/referring-iou")
    folder = online.repository(f"{USER}/referring-iou", "space").write(tmp_path / "space")
    card = (folder / "README.md").read_text()
    assert f'evaluate.load("{USER}/referring-iou")' in card
    assert "processing_rrsis/" not in card
    spec = importlib.util.spec_from_file_location("metric_app", folder / "app.py")
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    prediction, reference = np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8)
    prediction[0], reference[0, 0] = 255, 255
    scores = page.score(prediction, reference)
    assert (scores["mIoU"], scores["oIoU"], scores["Pr@0.6"]) == (50.0, 50.0, 0.0)
    with pytest.raises(gradio.Error, match="differ in size: \\(2, 2\\) and \\(3, 2\\)"):
        page.score(prediction, np.zeros((2, 3), np.uint8))
    with pytest.raises(gradio.Error, match="Two masks are needed"):
        page.score(None, reference)
    assert isinstance(page.build_app(), gradio.Interface)


@pytest.mark.slow
def test_the_command(hub, tmp_path):
    done = run_publish(hub, tmp_path, "space", MODEL, f"{USER}/demo", "--preset", "refsegrs", "--private")
    assert done.returncode == 0, done.stderr
    assert hub.repository(f"{USER}/demo", "space").private
    assert f"{hub.url}/spaces/{USER}/demo" in done.stdout
    assert run_publish(hub, tmp_path, "space", "lavt", f"{USER}/demo").stderr.startswith("rrsis: repository: expected")
