"""Every card renders, its metadata is what the Hub reads, and nothing is invented."""

import re

import pytest
from huggingface_hub import ModelCard

from processing_rrsis.data.facts import FACTS
from processing_rrsis.hub.checks import check_card
from processing_rrsis.hub.model_card import ARCHITECTURES, ModelCardFacts, render_model_card

SCORES = {"mIoU": 61.256, "oIoU": 63.5, "Pr@0.5": 70.0, "Pr@0.6": 60.0, "Pr@0.7": 50.0, "Pr@0.8": 40.0, "Pr@0.9": 9.0}


def make_result(absent=None, native=None, **scores):
    overall = {**SCORES, **scores, "n": 1600}
    kinds = {"relation": {**overall, "n": 200}}
    return {
        "overall": overall,
        "by_kind": kinds,
        "by_category": {"ship": {**overall, "n": 1400}},
        "native": native,
        "absent": absent,
        "threshold": 0.5,
        "resolution": "96×96 px (model input)",
        "seconds": 1.0,
    }


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
@pytest.mark.parametrize("dataset", sorted(FACTS))
def test_every_card_renders_before_anything_is_measured(architecture, dataset):
    text = render_model_card(ModelCardFacts(architecture=architecture, dataset=dataset, repo_id="someone/model"))
    card = ModelCard(text)
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "image-segmentation"
    assert architecture in card.data.tags
    assert card.data.eval_results is None
    for split in FACTS[dataset].model_card.splits:
        assert f"### Split `{split}`\nNot measured." in text
    assert not re.search(r"\$\w+|\bNone\b|\bnan\b", text)
    assert not check_card(text)


def test_card_of_a_measured_run():
    facts = ModelCardFacts(
        architecture="fianet",
        dataset="synthetic",
        repo_id="someone/rrsis-fianet-synthetic",
        parameters=2_345_678,
        image_size_px=96,
        seed=0,
        selection="highest mIoU on `validation`, step 2,500",
        software={"torch": "2.15.0"},
        recipe={"learning_rate": 5e-4},
        results={
            "test": {
                "expression": make_result(native={"mIoU": 60.0, "oIoU": 62.0}),
                "shuffled": make_result(mIoU=18.04),
            },
            "test_absent": {"expression": make_result({"n": 1600, "empty_prediction": 12.5, "predicted_area": 3.25})},
        },
        ceilings={"category only": 49.0},
        limits=("Relations stay at the level of the category.",),
    )
    text = render_model_card(facts)
    assert not check_card(text)
    card = ModelCard(text)
    measured = {(r.dataset_split, r.metric_name): r.metric_value for r in card.data.eval_results}
    assert measured["test", "mIoU"] == 61.26
    assert "test_absent" not in {split for split, _ in measured}  # IoU is 0 there whatever the model does
    assert measured["test", "Pr@0.9"] == 9.0
    assert {r.metric_type for r in card.data.eval_results} >= {"mean_iou", "overall_iou", "precision_at_0.5"}
    assert all(r.dataset_name == "SyntheticRS" for r in card.data.eval_results)
    assert card.data.license == "apache-2.0"
    assert "| shuffled | 18.0 |" in text
    assert "| ceiling: category only | 49.0 |" in text
    assert "| relation | 200 | 61.3 | 18.0 |" not in text.split("### Split `test_compositional`")[1]
    assert "| relation | 200 | 61.3 | 18.0 |" in text
    assert "### Split `test_compositional`\nNot measured." in text
    assert "12.5 % got an empty mask; on average 3.2 % of the image was marked" in text
    assert "At each mask's own size, with the expressions: mIoU 60.0, oIoU 62.0." in text
    assert "| parameters | 2,345,678 |" in text
    assert "| seed | 0; one run, its spread over seeds not measured |" in text
    assert "- Relations stay at the level of the category." in text
    assert 'model="someone/rrsis-fianet-synthetic"' in text


def test_undefined_scores_stay_out_of_the_metadata():
    facts = ModelCardFacts(
        architecture="lavt",
        dataset="refsegrs",
        repo_id="a/b",
        results={"test": {"expression": make_result(oIoU=None)}},
        base_models=("google-bert/bert-base-uncased",),
    )
    card = ModelCard(render_model_card(facts))
    assert "oIoU" not in {result.metric_name for result in card.data.eval_results}
    assert card.data.datasets == ["JessicaYuan/RefSegRS"]
    assert card.data.base_model == ["google-bert/bert-base-uncased"]


def test_the_data_licence_is_said():
    text = render_model_card(ModelCardFacts(architecture="danet", dataset="rrsisd", repo_id="a/b"))
    card = ModelCard(text)
    assert (card.data.license, card.data.license_name) == ("other", "non-commercial-training-data")
    assert "DIOR, which is for non-commercial use" in text
    assert card.data.datasets is None


@pytest.mark.parametrize(
    ("licence", "expected"), [(None, ("unknown", None)), ("mit", ("mit", None)), ("other", ("other", "own-terms"))]
)
def test_own_data_has_the_licence_that_its_owner_gives(licence, expected):
    facts = ModelCardFacts(architecture="lavt", dataset="own", repo_id="a/b", licence=licence)
    text = render_model_card(facts)
    assert not check_card(text)
    data = ModelCard(text).data
    assert (data.license, data.license_name) == expected
    assert ("as the trainer says" in text) == (licence is not None)


def test_both_papers_are_cited():
    text = render_model_card(ModelCardFacts(architecture="danet", dataset="synthetic", repo_id="a/b"))
    assert "10.1145/3664647.3681318" in text
    assert "arXiv:2409.13637" in text


def test_the_usage_example_compiles():
    text = render_model_card(ModelCardFacts(architecture="danet", dataset="synthetic", repo_id="a/b"))
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    compile(code, "card", "exec")
    assert len(code.strip().splitlines()) <= 8


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="`architecture` to be one of lavt, danet, fianet, rmsin, got 'unet'"):
        ModelCardFacts(architecture="unet", dataset="synthetic", repo_id="a/b")
    with pytest.raises(ValueError, match="`dataset` to be one of"):
        ModelCardFacts(architecture="lavt", dataset="coco", repo_id="a/b")
