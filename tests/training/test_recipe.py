"""The recipes: every number has a source, the papers' numbers are the papers', and files say what is wrong."""

import dataclasses
import importlib.resources
import io

import pytest
from rich.console import Console

from modeling_rrsis import MODELS, DANetConfig, FIANetConfig
from processing_rrsis.training.recipes.config import model_config
from processing_rrsis.training.recipes.files import read_recipe_file, recipe_yaml
from processing_rrsis.training.recipes.presets import ABLATIONS
from processing_rrsis.training.recipes.recipe import SOURCED
from processing_rrsis.training.recipes.shipped import (
    Recipe,
    check_recipe,
    default_recipe,
    get_recipe,
    recipe_names,
    recipe_text,
    write_recipe,
)

NAMES = recipe_names()
TRAIN_SAMPLES = {"refsegrs": 2_172, "rrsisd": 12_181}  # published


def own_file(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_there_is_one_for_every_model_and_benchmark_and_the_papers_where_they_differ():
    expected = {f"{model}-{data}" for model in MODELS for data in ("refsegrs", "risbench", "rrsisd", "synthetic")}
    expected |= {f"{model}-{data}-paper" for model in ("danet", "fianet") for data in ("refsegrs", "rrsisd")}
    assert set(NAMES) == expected
    for name in NAMES:
        recipe = get_recipe(name)
        assert recipe.name == name
        assert [recipe.model, recipe.dataset] == name.split("-")[:2]


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_a_source(name):
    recipe = get_recipe(name)
    length = "max_steps" if recipe.max_epochs is None else "max_epochs"
    expected = {*SOURCED} - {"max_steps", "max_epochs"} | {length} | {f"config.{field}" for field in recipe.config}
    assert set(recipe.sources) == expected
    assert all(len(source) > 10 for source in recipe.sources.values())


@pytest.mark.parametrize("name", NAMES)
def test_the_model_takes_every_field_and_the_data_the_augmentation(name):
    recipe = get_recipe(name)
    check_recipe(recipe)
    config = model_config(recipe)
    assert config.image_size == recipe.image_size_px
    for field, value in recipe.config.items():
        if field not in ("text_config", "attn_implementation"):
            assert getattr(config, field) == value
    if recipe.vision is not None:
        assert config.backbone == "swin_base_patch4_window12_384"
        assert config.backbone_kwargs == {"drop_path_rate": 0.3}


def test_shipped_files_hold_nothing_that_their_base_has_already():
    folder = importlib.resources.files("processing_rrsis.training.recipes")
    for name in NAMES:
        file = read_recipe_file((folder / f"{name}.yaml").read_text(encoding="utf-8"), origin=name)
        if file.based_on is not None:
            base = get_recipe(file.based_on)
            for key in set(file.values) - {"config"}:
                assert file.values[key] != getattr(base, key), (name, key)


# FIANet III-D (epochs, rates, batch, decay of the paper) and its released code; LAVT as published; DANet 4.2
PUBLISHED = {
    "lavt-refsegrs": (60, 32, 5e-5, 0.01, 20, "none"),
    "lavt-rrsisd": (40, 32, 5e-5, 0.01, 20, "none"),
    "danet-refsegrs": (60, 16, 5e-4, 0.01, 20, "none"),
    "danet-refsegrs-paper": (60, 16, 5e-4, 0.01, 20, "none"),
    "danet-rrsisd": (40, 16, 5e-4, 0.01, 20, "none"),
    "danet-rrsisd-paper": (40, 16, 5e-4, 0.01, 20, "none"),
    "fianet-refsegrs": (60, 8, 5e-5, 0.01, 20, "none"),
    "fianet-refsegrs-paper": (60, 8, 5e-5, 0.1, 20, "none"),
    "fianet-rrsisd": (40, 8, 3e-5, 0.01, 22, "boxes"),
    "fianet-rrsisd-paper": (40, 8, 3e-5, 0.1, 22, "none"),
    "rmsin-refsegrs": (60, 8, 5e-5, 0.01, 20, "none"),
    "rmsin-rrsisd": (40, 8, 3e-5, 0.01, 20, "boxes"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers(name):
    recipe = get_recipe(name)
    fields = ("max_epochs", "batch_size", "learning_rate", "weight_decay", "max_length", "augmentation")
    assert tuple(getattr(recipe, field) for field in fields) == PUBLISHED[name]
    assert recipe.text_learning_rate == recipe.learning_rate
    assert (recipe.image_size_px, recipe.schedule_power, recipe.trained_text_layers) == (480, 0.9, 10)
    assert (recipe.warmup_steps, recipe.max_grad_norm, recipe.eval_every) == (0, None, None)
    assert (recipe.vision, recipe.text) == ("swin_base_patch4_window12_384.ms_in22k", "bert-base-uncased")


@pytest.mark.parametrize(("data", "layers"), [("refsegrs", 1), ("rrsisd", 3)])
def test_the_forms_of_fianet_are_those_of_its_configuration(data, layers):
    fields = {"num_tmem_layers": layers, "backbone_kwargs": {"drop_path_rate": 0.3}}
    assert model_config(get_recipe(f"fianet-{data}")) == FIANetConfig(**fields)
    assert model_config(get_recipe(f"fianet-{data}-paper")) == FIANetConfig.paper(**fields)


@pytest.mark.parametrize("data", ["refsegrs", "rrsisd"])
def test_the_forms_of_danet_are_those_of_its_configuration(data):
    fields = {"backbone_kwargs": {"drop_path_rate": 0.3}}
    assert model_config(get_recipe(f"danet-{data}")) == DANetConfig(**fields)
    assert model_config(get_recipe(f"danet-{data}-paper")) == DANetConfig.paper(**fields)


def test_the_small_recipes_differ_in_the_affinity_weight_alone():
    lavt, danet, fianet, rmsin = (get_recipe(f"{model}-synthetic") for model in ("lavt", "danet", "fianet", "rmsin"))
    assert danet.config == {**lavt.config, "affinity_weight": 0.05}
    same = dataclasses.asdict(lavt)
    for other in (danet, fianet, rmsin):
        for key, value in dataclasses.asdict(other).items():
            if key not in ("name", "model", "config", "sources"):
                assert value == same[key], key
    assert fianet.config == rmsin.config == lavt.config
    assert (lavt.max_steps, lavt.batch_size, lavt.learning_rate, lavt.text_learning_rate) == (1000, 32, 8e-4, 5e-4)
    assert (lavt.warmup_steps, lavt.eval_every, lavt.max_grad_norm, lavt.weight_decay) == (120, 250, 1.0, 0.01)
    assert (lavt.image_size_px, lavt.max_length, lavt.trained_text_layers, lavt.vision) == (80, 24, None, None)


def test_epochs_become_updates():
    # 2,172 = 271 · 8 + 4 and 12,181 = 1,522 · 8 + 5 = 380 · 32 + 21
    refsegrs = get_recipe("fianet-refsegrs")
    assert refsegrs.updates(TRAIN_SAMPLES["refsegrs"]) == 60 * 271
    assert refsegrs.evaluation_interval(TRAIN_SAMPLES["refsegrs"]) == 271
    assert get_recipe("fianet-rrsisd").updates(TRAIN_SAMPLES["rrsisd"]) == 60_880
    assert get_recipe("lavt-rrsisd").updates(TRAIN_SAMPLES["rrsisd"]) == 15_200
    small = get_recipe("lavt-synthetic")
    assert (small.updates(4_000), small.evaluation_interval(4_000)) == (1000, 250)
    with pytest.raises(ValueError, match="at most the 7 samples of the training split, got 8"):
        refsegrs.updates(7)


def test_a_change_has_its_source():
    recipe = get_recipe("fianet-rrsisd").changed(
        "--options", batch_size=4, max_steps=7, eval_every=None, config={"num_tmem_layers": 2}
    )
    assert (recipe.batch_size, recipe.max_steps, recipe.max_epochs) == (4, 7, None)
    assert "max_epochs" not in recipe.sources
    changed = ("batch_size", "max_steps", "eval_every", "config.num_tmem_layers")
    assert [recipe.sources[key] for key in changed] == ["--options"] * 4
    assert recipe.sources["learning_rate"] == get_recipe("fianet-rrsisd").sources["learning_rate"]
    assert recipe.config["dice_weight"] == 0.1
    back = recipe.changed("--max_epochs", max_epochs=2)
    assert (back.max_steps, back.max_epochs) == (None, 2)
    with pytest.raises(ValueError, match="batchsize: no such field"):
        recipe.changed("--options", batchsize=4)


def test_recipes_are_not_shared():
    get_recipe("lavt-synthetic").config["backbone_kwargs"]["embed_dim"] = 1
    assert get_recipe("lavt-synthetic").config["backbone_kwargs"]["embed_dim"] == 32


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_reads_back_equal(name, tmp_path):
    recipe = get_recipe(name)
    assert get_recipe(str(write_recipe(recipe, tmp_path / "recipe.yaml"))) == recipe


@pytest.mark.parametrize("ablation", ABLATIONS.values(), ids=lambda ablation: ablation.name)
def test_an_ablation_reads_back_equal(ablation, tmp_path):
    recipe = get_recipe(f"{ablation.model}-synthetic")
    recipe = recipe.changed(ablation.table, config=dict(ablation.fields), ablation=ablation.name, mixed_precision="no")
    written = write_recipe(recipe, tmp_path / "recipe.yaml")
    assert get_recipe(str(written)) == recipe
    assert get_recipe(str(written)).mixed_precision == "no"


def test_texts_that_look_like_something_else_read_back_equal(tmp_path):
    recipe = get_recipe("lavt-synthetic").changed("no: 5e-5 # {", name="1e5", source="true", dataset="null")
    assert get_recipe(str(write_recipe(recipe, tmp_path / "recipe.yaml"))) == recipe


def test_own_files_build_on_a_shipped_recipe(tmp_path):
    recipe = get_recipe(
        own_file(
            tmp_path,
            "based_on: fianet-rrsisd\nlearning_rate: 1e-5\nmixed_precision: no\nmax_steps: 500\n"
            "weight_decay: {value: 0, source: a sweep}\nconfig:\n  num_tmem_layers: 2\n",
        )
    )
    assert recipe.name == "mine"
    assert (recipe.learning_rate, recipe.mixed_precision, recipe.weight_decay) == (1e-5, "no", 0)
    assert (recipe.max_steps, recipe.max_epochs, recipe.batch_size) == (500, None, 8)
    assert recipe.config == {**get_recipe("fianet-rrsisd").config, "num_tmem_layers": 2}
    # A value without a source does not keep that of the value it replaced.
    assert {"learning_rate", "max_epochs", "max_steps", "config.num_tmem_layers"}.isdisjoint(recipe.sources)
    assert recipe.sources["weight_decay"] == "a sweep"
    assert recipe.sources["batch_size"] == "FIANet III-D: one GPU with a batch size of 8"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("based_on: fianet-rrsisd\nlearning_rat: 1", r"mine\.yaml: learning_rat: .*Near it: learning_rate"),
        ("based_on: fianet-rrsid", r"mine\.yaml: based_on: .*got 'fianet-rrsid'\. Near it: fianet-rrsisd"),
        (
            "based_on: lavt-rrsisd\nbatch_size: 2.5",
            r"mine\.yaml: batch_size: expected an integer of at least 1, got 2",
        ),
        ("based_on: lavt-rrsisd\nbatch_size: true", r"batch_size: expected an integer of at least 1, got True"),
        ("based_on: lavt-rrsisd\nlearning_rate: fast", r"learning_rate: expected a number above 0, got 'fast'"),
        ("based_on: lavt-rrsisd\nmax_grad_norm: 0", r"max_grad_norm: expected a number above 0, or null, got 0"),
        ("based_on: lavt-rrsisd\nmodel: unet", r"model: expected one of lavt, danet, fianet, rmsin, got 'unet'"),
        ("based_on: lavt-rrsisd\nmax_steps: 5\nmax_epochs: 5", r"expected exactly one of them, got max_epochs=5"),
        ("based_on: lavt-rrsisd\nvision: null", r"vision, text: expected pretrained weights for both or for neither"),
        ("based_on: lavt-rrsisd\nbatch_size: {valu: 3}", r"batch_size: expected a value or .*got the keys valu"),
        ("based_on: lavt-rrsisd\nbatch_size: {value: 3, source: 4}", r"batch_size: expected the source as a text"),
        ("based_on: lavt-rrsisd\nbatch_size: 3\nbatch_size: 4", r"mine\.yaml: .*'batch_size' stands here twice"),
        ("based_on: lavt-rrsisd\naugmentation: flop", r"mine\.yaml: augmentation: .*got 'flop'"),
        ("based_on: lavt-rrsisd\nconfig: 3", r"mine\.yaml: config: expected fields of the model's configuration"),
        ("based_on: lavt-rrsisd\nconfig: {fusion_drop: 0}", r"config\.fusion_drop: .*Near it: fusion_dropout"),
        ("based_on: lavt-rrsisd\nconfig: {num_agents: 3}", r"config\.num_agents: expected a field of the model's"),
        (
            "based_on: lavt-rrsisd\nconfig: {fusion_dropout: 2}",
            r"config: .*`fusion_dropout` must be between 0 and 1, got 2",
        ),
        ("based_on: lavt-rrsisd\nconfig: {image_size: 96}", r"config\.image_size: expected as image_size_px"),
        ("based_on: lavt-rrsisd\nconfig: {text_config: {hidden: 3}}", r"config\.text_config\.hidden: "),
        ("model: lavt", r"missing: dataset, source, vision.* begin the file with `based_on: NAME`"),
        ("- 3", r"mine\.yaml: expected lines `key: value`, got list"),
        ("a: [", r"mine\.yaml: expected YAML"),
    ],
)
def test_a_wrong_file_says_what_was_expected(tmp_path, text, message):
    with pytest.raises(ValueError, match="(?s)" + message):
        get_recipe(own_file(tmp_path, text))


def test_unknown_names_and_files():
    with pytest.raises(ValueError, match=r"got 'fianet-rsisd'\. Near it: fianet-rrsisd, .*There is: lavt-refsegrs"):
        get_recipe("fianet-rsisd")
    with pytest.raises(FileNotFoundError, match=r"there is none at nowhere\.yaml"):
        get_recipe("nowhere.yaml")


@pytest.mark.parametrize(("dataset", "name"), [("own", "own"), ("my/Roofs.CSV", "own"), ("a.jsonl", "own")])
def test_other_data_gets_the_numbers_of_rrsisd_and_says_so(dataset, name):
    recipe, base = default_recipe("fianet", dataset), get_recipe("fianet-rrsisd")
    assert (recipe.name, recipe.dataset) == (f"fianet-{name}", name)
    assert recipe.source.startswith(f"the numbers for RRSIS-D, not tuned on this data ({name}); FIANet's paper")
    for field in (*SOURCED, "config", "sources"):
        assert getattr(recipe, field) == getattr(base, field)


def test_the_default_is_the_released_form():
    assert default_recipe("fianet", "refsegrs") == get_recipe("fianet-refsegrs")
    with pytest.raises(
        ValueError, match=r"'imagenet'\. Models: .*Datasets: refsegrs, risbench, rrsisd, synthetic, own"
    ):
        default_recipe("fianet", "imagenet")
    with pytest.raises(ValueError, match="No recipe for model 'unet'"):
        default_recipe("unet", "rrsisd")


@pytest.mark.parametrize("name", NAMES)
def test_the_text_for_the_terminal_has_every_source(name):
    recipe = get_recipe(name)
    output = io.StringIO()
    Console(width=400, file=output).print(recipe_text(recipe))
    shown = " ".join(output.getvalue().split())
    for key, source in recipe.sources.items():
        assert key.removeprefix("config.") in shown
        assert source in shown
    assert recipe.source in shown


def test_a_recipe_is_plain_values():
    recipe = get_recipe("fianet-rrsisd-paper")
    plain = recipe.to_dict()
    assert Recipe(**plain) == recipe
    assert plain["config"]["class_weights"] == [1.0, 1.0]
    assert recipe_yaml(Recipe(**plain)) == recipe_yaml(recipe)
