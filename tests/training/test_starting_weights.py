"""What a run starts with: pretrained parts are in the network bit by bit, and what is missing is said."""

import huggingface_hub.constants
import pytest
import timm
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from modeling_rrsis import MODELS
from processing_rrsis.data import build_synthetic_tokenizer
from processing_rrsis.data.inputs.word_tokenizer import learn_expression_tokenizer
from processing_rrsis.processor_rrsis import RRSISProcessor
from processing_rrsis.training.recipes.config import model_config
from processing_rrsis.training.recipes.shipped import get_recipe
from processing_rrsis.training.starting_weights import (
    build_model,
    build_processor,
    data_categories,
    load_finetuned,
    words_in_letters,
)
from processing_rrsis.training.weight_files import MissingWeightsError
from tests.modeling.tiny import TINY
from tests.tiny import build_tiny_processor

BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SWIN_NAME = "swin_tiny_patch4_window7_224.ms_in22k"
COMMIT = "0" * 40


@pytest.fixture(scope="module")
def tokenizer():
    return build_synthetic_tokenizer()


@pytest.fixture
def recipe():
    """A small LAVT that names pretrained parts."""
    fields = {key: TINY[key] for key in ("backbone", "backbone_kwargs")}
    return get_recipe("lavt-synthetic").changed(
        "test", vision=SWIN_NAME, text="some/bert", config=fields, image_size_px=64
    )


@pytest.fixture
def swin(tmp_path):
    """A folder with a Swin as timm saves it, with its classifier."""
    torch.manual_seed(1)
    # Windows as large on every stage, as they are in the pretrained Swins, whose last map is a window.
    options = {"img_size": 64, "num_classes": 3, "always_partition": True, **TINY["backbone_kwargs"]}
    model = timm.create_model(TINY["backbone"], **options)
    (tmp_path / "swin").mkdir()
    save_file(model.state_dict(), tmp_path / "swin" / "model.safetensors")
    return tmp_path / "swin"


@pytest.fixture
def bert(tmp_path, tokenizer):
    """A folder with a BERT and its tokenizer."""
    torch.manual_seed(2)
    BertModel(BertConfig(vocab_size=len(tokenizer), **BERT)).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of the Hub, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def add(repository, folder):
        """Put a folder into the cache, as a download does."""
        home = tmp_path / "cache" / f"models--{repository.replace('/', '--')}"
        (home / "refs").mkdir(parents=True)
        (home / "refs" / "main").write_text(COMMIT)
        (home / "snapshots").mkdir()
        (home / "snapshots" / COMMIT).symlink_to(folder)

    return add


def check_parts(model, swin, bert):
    """Every tensor of both files is in the network, and nothing else in these parts."""
    vision, text = load_file(swin / "model.safetensors"), load_file(bert / "model.safetensors")
    state = model.state_dict()
    expected = {f"vision.{key}": value for key, value in vision.items() if key.startswith(("patch_embed", "layers"))}
    expected |= {f"text_encoder.{key}": value for key, value in text.items() if not key.startswith("pooler.")}
    assert {key for key in state if key.startswith(("vision.", "text_encoder."))} == set(expected)
    assert len(expected) > 80
    for key, value in expected.items():
        assert torch.equal(state[key], value), key


@pytest.mark.parametrize("name", MODELS)
def test_pretrained_parts_are_in_the_network(recipe, swin, bert, name):
    recipe = recipe.changed("test", model=name)
    processor = build_processor(recipe, text=str(bert))
    model = build_model(recipe, processor, vision=str(swin), text=str(bert))
    check_parts(model, swin, bert)
    assert type(model) is MODELS[name]
    assert model.training
    assert model.config.text_config.hidden_size == 16  # BERT's own configuration, not the recipe's 128
    inputs = processor(images=torch.zeros(3, 64, 64), text="the red ship", return_tensors="pt")
    assert model(**inputs).logits.shape == (1, 64, 64)


def test_a_file_of_the_swin_is_as_good_as_its_folder(recipe, swin, bert):
    processor = build_processor(recipe, text=str(bert))
    model = build_model(recipe, processor, vision=str(swin / "model.safetensors"), text=str(bert))
    check_parts(model, swin, bert)


def test_names_are_read_from_the_cache_of_the_hub(recipe, swin, bert, hub):
    hub(f"timm/{SWIN_NAME}", swin)
    hub("some/bert", bert)
    processor = build_processor(recipe)
    assert processor.tokenizer.get_vocab() == build_synthetic_tokenizer().get_vocab()
    check_parts(build_model(recipe, processor), swin, bert)


def test_missing_weights_say_which_and_how_to_get_them(recipe, bert, hub, tokenizer):
    processor = build_processor(recipe, text=str(bert))
    with pytest.raises(MissingWeightsError) as caught:
        build_model(recipe, processor)
    message = str(caught.value)
    swin_repository = f"timm/{SWIN_NAME}"
    for line in (
        f"not on this machine ({swin_repository}, some/bert)",
        f"  hf download {swin_repository} model.safetensors config.json --local-dir weights/swin",
        "  hf download some/bert config.json model.safetensors tokenizer.json vocab.txt tokenizer_config.json "
        "--local-dir weights/bert",
        "add: --vision_weights weights/swin --text_weights weights/bert",
        "--from_scratch",
    ):
        assert line in message


def test_what_is_here_already_is_not_asked_for(recipe, swin, bert, hub):
    hub(f"timm/{SWIN_NAME}", swin)
    with pytest.raises(MissingWeightsError) as caught:
        build_model(recipe, build_processor(recipe, text=str(bert)))
    assert "some/bert" in str(caught.value)
    assert "weights/swin" not in str(caught.value)


def test_one_failure_is_not_repeated_for_every_file(recipe, hub, bert, monkeypatch):
    """Without a network each try takes as long as its retries."""
    asked = []

    def no_network(name, **options):
        asked.append(name)
        raise OSError("no network\nat all")

    processor = build_processor(recipe, text=str(bert))
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", no_network)
    with pytest.raises(MissingWeightsError, match="could not be fetched: no network\n"):
        build_model(recipe, processor)
    assert asked == ["some/bert"]


def test_a_missing_tokenizer_says_how_to_get_it(recipe, hub):
    with pytest.raises(MissingWeightsError, match=r"hf download some/bert config\.json .*tokenizer\.json"):
        build_processor(recipe)


def test_from_scratch_learns_a_tokenizer_where_there_is_none(recipe, hub):
    expressions = ["The red roof", "a silo near the red barn"]
    processor = build_processor(recipe, train_expressions=expressions)
    again = build_processor(recipe, train_expressions=list(reversed(expressions)))
    assert processor.tokenizer.get_vocab() == again.tokenizer.get_vocab()
    assert processor.tokenizer.tokenize("a red silo, the roof") == ["a", "red", "silo", ",", "the", "roof"]
    assert processor.tokenizer.tokenize("bar") == ["b", "##a", "##r"]
    model = build_model(recipe, processor, from_scratch=True)
    assert model.config.text_config.vocab_size == len(processor.tokenizer)
    assert model.config.text_config.pad_token_id == processor.tokenizer.pad_token_id


def test_from_scratch_takes_a_tokenizer_that_is_here(recipe, bert, hub, tokenizer):
    processor = build_processor(recipe, text=str(bert), train_expressions=["a silo"])
    assert processor.tokenizer.get_vocab() == tokenizer.get_vocab()
    hub("some/bert", bert)
    processor = build_processor(recipe, train_expressions=["a silo"])
    assert processor.tokenizer.get_vocab() == tokenizer.get_vocab()


def test_from_scratch_reads_no_weights(recipe, swin, bert, hub):
    processor = build_processor(recipe, text=str(bert), train_expressions=["a silo"])
    torch.manual_seed(3)
    model = build_model(recipe, processor, text=str(bert), from_scratch=True)
    torch.manual_seed(3)
    config = model_config(recipe, vocab_size=len(processor.tokenizer), pad_token_id=0)
    for key, value in MODELS["lavt"](config).state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    assert model.config.text_config.hidden_size == 128  # the recipe's
    with pytest.raises(ValueError, match="either pretrained vision weights or --from_scratch, got both"):
        build_model(recipe, processor, vision=str(swin), from_scratch=True)


def test_learning_needs_expressions():
    with pytest.raises(ValueError, match="expected expressions to learn a tokenizer from, got none"):
        learn_expression_tokenizer([])
    own = get_recipe("lavt-synthetic").changed("test", dataset="own")
    with pytest.raises(ValueError, match="or expressions to learn one from, got neither"):
        build_processor(own)
    assert build_processor(own, train_expressions=["a silo"]).tokenizer.tokenize("silo") == ["silo"]


@pytest.mark.parametrize("name", MODELS)
def test_small_recipes_start_from_random_weights_of_their_own(name, tokenizer):
    recipe = get_recipe(f"{name}-synthetic")
    processor = build_processor(recipe)
    assert processor.tokenizer.get_vocab() == tokenizer.get_vocab()
    assert (processor.categories, processor.max_length) == ("synthetic", 24)
    assert processor.image_processor.size == {"height": 80, "width": 80}
    model = build_model(recipe, processor)
    assert model.config.text_config.vocab_size == len(tokenizer)
    assert model.config.text_config.hidden_size == 128
    assert model.config.image_size == 80


def test_pretrained_parts_come_in_pairs(swin, bert):
    recipe = get_recipe("lavt-synthetic")
    processor = build_processor(recipe)
    with pytest.raises(ValueError, match="got vision alone; add --text_weights"):
        build_model(recipe, processor, vision=str(swin))
    with pytest.raises(ValueError, match="got text alone; add --vision_weights"):
        build_model(recipe, processor, text=str(bert))


def test_a_tokenizer_of_another_vocabulary_is_refused(recipe, swin, bert):
    other = build_processor(recipe.changed("test", dataset="own", text=None, vision=None), train_expressions=["silo"])
    with pytest.raises(ValueError, match=rf"expected the {len(other.tokenizer)} tokens of the tokenizer, .* has 163"):
        build_model(recipe, other, vision=str(swin), text=str(bert))


def test_an_incomplete_bert_is_refused(recipe, swin, bert):
    path = bert / "model.safetensors"
    state = load_file(path)
    del state["encoder.layer.1.output.dense.weight"]
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 tensors, first encoder\.layer\.1\.output\.dense\.weight"):
        build_model(recipe, build_processor(recipe, text=str(bert)), vision=str(swin), text=str(bert))


def test_an_incomplete_swin_is_refused(recipe, swin, bert):
    path = swin / "model.safetensors"
    state = load_file(path)
    del state["layers.2.downsample.reduction.weight"]
    save_file(state, path)
    with pytest.raises(ValueError, match=r"lacks 1 of the weights.*layers\.2\.downsample\.reduction\.weight"):
        build_model(recipe, build_processor(recipe, text=str(bert)), vision=str(swin), text=str(bert))


def test_another_text_encoder_is_refused(recipe, swin, bert):
    processor = build_processor(recipe, text=str(bert))
    RobertaModel(RobertaConfig(vocab_size=len(processor.tokenizer), **BERT)).save_pretrained(bert)
    with pytest.raises(ValueError, match=r"expected a BERT, .* is of the type 'roberta'"):
        build_model(recipe, processor, vision=str(swin), text=str(bert))


def test_a_folder_without_a_tokenizer_is_refused(recipe, bert):
    """transformers makes a tokenizer of five special tokens there."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (bert / name).unlink()
    with pytest.raises(FileNotFoundError, match=r"expected a tokenizer \(tokenizer\.json or vocab\.txt\)"):
        build_processor(recipe, text=str(bert))


@pytest.mark.parametrize(
    ("vision", "message"),
    [
        ("empty", r"expected a file, a folder with model\.safetensors or pytorch_model\.bin, or .*, got 'empty'"),
        ("nowhere/model.safetensors", "got 'nowhere/model.safetensors', which is none"),
        ("swin_tiny_patch4_window7_224.ms_in22", rf"Near it: .*{SWIN_NAME}"),
        ("resnet", "timm's name of a pretrained Swin, got 'resnet'"),
        ("swin_base_patch4_window12_384.ms_in22k", f"expected vision weights of {TINY['backbone']}"),
    ],
)
def test_wrong_vision_weights(recipe, bert, tmp_path, monkeypatch, vision, message):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        build_model(recipe, build_processor(recipe, text=str(bert)), vision=vision, text=str(bert))


@pytest.mark.parametrize(
    "text",
    ["empty", "/nowhere/bert", "~/no/bert", "bert/config.json"],
)
def test_wrong_text_weights(recipe, bert, tmp_path, monkeypatch, text):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"expected a folder with config\.json, .* got '{text}', which is neither"):
        build_processor(recipe, text=text)


def test_categories_are_the_benchmarks_or_those_of_the_data():
    rows = Dataset.from_dict({"category": ["silo", "", "red roof", "silo", "7"]})
    assert data_categories(rows) == ["red roof", "silo"]
    assert data_categories(rows.remove_columns("category")) == []
    small = get_recipe("lavt-synthetic")
    own = small.changed("test", dataset="own")
    assert build_processor(small, categories=["silo"]).categories == "synthetic"
    assert build_processor(own, categories=["silo"], train_expressions=["a silo"]).categories == ["silo"]
    free = build_processor(own, train_expressions=["a silo"])
    assert free.expression_parser.parse("the red silo on the left").words_of("ground_object") == ["silo"]


def test_a_finished_model_goes_on(tmp_path):
    recipe = get_recipe("danet-synthetic")
    processor = build_processor(recipe)
    saved = build_model(recipe, processor).to(torch.bfloat16)
    saved.save_pretrained(tmp_path / "best")
    processor.save_pretrained(tmp_path / "best")
    model, loaded = load_finetuned(str(tmp_path / "best"))
    assert model.training
    assert model.dtype == torch.float32
    assert type(model) is MODELS["danet"]
    assert loaded.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    for key, value in saved.state_dict().items():
        assert torch.equal(model.state_dict()[key], value.to(model.state_dict()[key].dtype)), key


def test_an_unfit_model_is_refused(tmp_path, bert):
    with pytest.raises(ValueError, match=r"expected a model of this package .* holds a BertModel"):
        load_finetuned(str(bert))
    recipe = get_recipe("lavt-synthetic")
    build_model(recipe, build_processor(recipe)).save_pretrained(tmp_path / "best")
    path = tmp_path / "best" / "model.safetensors"
    state = load_file(path)
    del state["head.weight"]
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(
        ValueError,
        match=r"1 of 215 tensors .* missing or of another size, such as head\.weight",
    ):
        load_finetuned(str(tmp_path / "best"))


def test_words_that_were_trained_on_in_letters_are_not_warned_of(caplog, tmp_path):
    processor = build_tiny_processor()
    processor.trained_words = words_in_letters(processor, ["The Pond", "a ship"])
    assert processor.trained_words == ["pond"]
    assert words_in_letters(processor, ["the zebra"]) == ["pond", "zebra"]  # of the training before, too
    processor(text=["the pond"])
    assert "never saw whole" not in caplog.text
    processor(text=["the pond the zebra"])
    assert "never saw whole: 'zebra'" in caplog.text
    processor.save_pretrained(tmp_path)
    assert RRSISProcessor.from_pretrained(tmp_path).trained_words == ["pond"]
