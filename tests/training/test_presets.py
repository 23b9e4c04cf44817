"""The ablations of the papers: complete against their tables, each trains, and each row is a network of its own."""

import json
from collections import Counter

import pytest
import torch
from typer.testing import CliRunner

from modeling_rrsis import MODELS
from processing_rrsis.cli.app import app
from processing_rrsis.training.recipes.presets import ABLATIONS, get_ablation
from processing_rrsis.training.recipes.shipped import get_recipe
from tests.modeling.tiny import tiny_inputs, tiny_labels, tiny_model
from train_accelerate import TrainingArguments, resolve_recipe

run = CliRunner().invoke


def ablations_of(table):
    return [ablation for ablation in ABLATIONS.values() if ablation.table == table]


# Rows of the papers' tables, and ticks on the axes of DANet's figure 4 (three of K, four of λ).
ROWS = {
    "table 3": 4,
    "table 4": 4,
    "table 5": 3,
    "table 6": 4,
    "figure 4": 7,
    "table V": 4,
    "table VI": 4,
    "figure 9": 3,
    "parts": 6,  # of RMSIN, its contributions; the tables of its paper are not at hand
}


def test_every_row_of_the_papers_has_a_preset():
    assert Counter(ablation.table for ablation in ABLATIONS.values()) == ROWS
    assert sum(ROWS.values()) == len(ABLATIONS)  # no name twice
    for name, ablation in ABLATIONS.items():
        assert name.startswith(f"{ablation.paper}-")
        assert ablation.paper == ablation.model


@pytest.mark.parametrize("table", ROWS)
def test_the_rows_of_a_table_vary_the_same_fields(table):
    ablations = ablations_of(table)
    if table == "figure 4":  # two panels
        assert {tuple(one.fields) for one in ablations} == {("num_agents",), ("affinity_weight",)}
    else:
        assert len({tuple(sorted(one.fields)) for one in ablations}) == 1
    assert len({str(one.fields) for one in ablations}) == len(ablations)
    for one in ablations:
        defaults = vars(MODELS[one.model].config_class())
        assert set(one.fields) <= set(defaults)


def test_one_row_of_every_table_is_the_whole_network():
    """Its published numbers are those of the comparison with other methods: tables 1 and 2, and table I."""
    whole = {
        "danet": {"refsegrs": {"mIoU": 62.14}, "rrsisd": {"mIoU": 66.07}},
        "fianet": {"refsegrs": {"Pr@0.5": 84.09, "Pr@0.7": 61.86, "Pr@0.9": 7.10, "oIoU": 78.32, "mIoU": 68.67}},
        "rmsin": None,
    }
    for table in ROWS:
        ablations = ablations_of(table)
        defaults = vars(MODELS[ablations[0].model].config_class())
        same = [one for one in ablations if all(defaults[field] == value for field, value in one.fields.items())]
        assert len(same) == (2 if table == "figure 4" else 1), table
        for one in ablations:
            if one in same:
                assert one.published == whole[one.model]
            else:
                assert one.published is None or one.published != whole[one.model]
                assert (one.published is None) == (table.startswith("figure") or one.paper == "rmsin")


def test_published_numbers_are_the_papers():
    """Read from the tables, one row of each."""
    expected = {
        "danet-table3-none": (57.74, 61.46),
        "danet-table3-agents": (59.95, 64.02),
        "danet-table4-f34": (61.88, 65.73),
        "danet-table5-masked-attention": (61.45, 64.73),
        "danet-table6-alpha0.90": (61.63, 65.72),
    }
    for name, numbers in expected.items():
        published = get_ablation(name).published
        assert (published["refsegrs"]["mIoU"], published["rrsisd"]["mIoU"]) == numbers
    assert list(get_ablation("fianet-table5-baseline").published["refsegrs"].values()) == [
        78.37,
        43.04,
        2.86,
        74.90,
        62.24,
    ]
    assert get_ablation("fianet-table6-cm-gob").published["refsegrs"]["mIoU"] == 67.01


@pytest.mark.parametrize("name", ABLATIONS)
def test_a_preset_builds_and_trains_whole(name):
    ablation = get_ablation(name)
    model = tiny_model(ablation.model, **ablation.fields).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    inputs, labels = tiny_inputs(), tiny_labels()
    for _ in range(2):
        optimizer.zero_grad()
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        assert loss.isfinite()
        assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []
        optimizer.step()
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("table", ROWS)
def test_every_row_is_another_network_or_another_loss(table):
    """On an image whose last stage has 64 pixels, so that 64 agents are more than 32; new weights differ by little."""
    inputs, labels = tiny_inputs(batch_size=1, height=256, width=256), tiny_labels(1, height=256, width=256)
    inputs["pixel_values"] = inputs["pixel_values"].double()
    losses = []
    for ablation in ablations_of(table):
        model = tiny_model(ablation.model, **ablation.fields).double().train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        with torch.no_grad():
            losses.append(model(**inputs, labels=labels).loss.item())
    # Both panels of figure 4 hold the whole network.
    assert len(set(losses)) == len(losses) - (table == "figure 4")


def test_the_baselines_of_both_papers_have_the_parameters_of_lavt():
    """ "The baseline … leverages a traditional image-text alignment used in LAVT", and "LAVT as our baseline"."""
    shapes = []
    for model, fields in (
        ("lavt", {}),
        ("danet", get_ablation("danet-table3-none").fields),
        ("fianet", get_ablation("fianet-table5-baseline").fields),
    ):
        shapes.append({key: value.shape for key, value in tiny_model(model, **fields).state_dict().items()})
    assert shapes[0] == shapes[1] == shapes[2]


def test_unknown_names_and_tables_say_what_is_near():
    with pytest.raises(ValueError, match=r"'fianet-fig9-cmi'. Near it: fianet-fig9-cim.*lists all 39"):
        get_ablation("fianet-fig9-cmi")
    with pytest.raises(ValueError, match="A name reads like danet-table3-both"):
        get_ablation("xyz")


def test_the_command_lists_them(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    everything = run(app, ["ablations"])
    assert everything.exit_code == 0
    for name in ABLATIONS:
        assert name in everything.output
    assert "predictor='masked_attention'" in everything.output
    assert "RRSIS-D  66.07" in everything.output
    assert "danet" not in run(app, ["ablations", "--paper", "fianet"]).output
    assert run(app, ["ablations", "--paper", "lavt"]).exit_code == 2


def test_the_command_writes_json():
    rows = json.loads(run(app, ["ablations", "--paper", "danet", "--json", "-"]).output)
    assert [row["name"] for row in rows] == [name for name in ABLATIONS if name.startswith("danet")]
    assert rows[0]["fields"] == {"affinity_weight": 0.0, "predictor": "conv"}
    assert rows[0]["published"] == {"refsegrs": {"mIoU": 57.74}, "rrsisd": {"mIoU": 61.46}}


def test_training_applies_a_preset_on_top_of_the_recipe():
    arguments = TrainingArguments(ablation="danet-table3-affinity", max_steps=7)
    recipe = resolve_recipe(arguments)
    assert (arguments.model, arguments.output_dir) == ("danet", "runs/danet-table3-affinity")
    assert recipe.config == {
        **get_recipe("danet-synthetic").config,
        "affinity_weight": 0.5,
        "predictor": "conv",
    }
    assert recipe.max_steps == 7
    assert recipe.to_dict()["ablation"] == "danet-table3-affinity"
    assert resolve_recipe(TrainingArguments()).ablation is None


def test_training_refuses_a_model_that_contradicts_the_preset():
    with pytest.raises(ValueError, match=r"is one of danet, got --model fianet\. Leave --model out"):
        resolve_recipe(TrainingArguments(model="fianet", ablation="danet-table3-none"))
    assert resolve_recipe(TrainingArguments(model="danet", ablation="danet-table3-none")).model == "danet"
