"""Published checkpoints through the command line: what is read, refused, folded, dropped and written."""

import argparse
import json
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor, BertConfig, BertModel

from modeling_rrsis import FIANetConfig, FIANetForReferringSegmentation, LAVTConfig, LAVTForReferringSegmentation
from modeling_rrsis.convert import convert_checkpoint
from modeling_rrsis.convert.__main__ import main
from modeling_rrsis.convert.conversion import MODELS, fold_two_channels, translate
from modeling_rrsis.convert.sizes import read_sizes, window_of
from modeling_rrsis.swin_rrsis import build_swin
from processing_rrsis.pipeline_rrsis import ReferringSegmentationPipeline

from .parity import Golden, bert_keys, make_tensor, published_keys, published_state, small_published_state
from .test_parity import arch_of

ARCH = {"fianet1_tiny": "fianet", "lavt_one_tiny": "lavt", "rmsin_tiny": "rmsin"}
LAST_STAGE = tuple(
    f"backbone.layers.3.{part}."
    for part in (
        *("res_gate", "context_tanh_gate", "object_position_align_blk", "fc1", "fc2"),
        *("visual_gate", "visual_residual"),
    )
)


@pytest.fixture(scope="module")
def states():
    return {name: small_published_state(name) for name in ARCH}


@pytest.fixture
def save(tmp_path):
    """Write a checkpoint and give back its path."""

    def write(content, **options):
        torch.save(content, tmp_path / "published.pth", **options)
        return tmp_path / "published.pth"

    return write


def run(arch, path, folder, *options, capsys):
    """Exit status and what was printed."""
    status = main(["--arch", arch, str(path), str(folder), *options])
    printed = capsys.readouterr()
    return status, printed.out + printed.err


def logits_of(model):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, model.config.text_config.vocab_size, (1, 6), generator=generator)
    with torch.no_grad():
        return model.eval()(torch.randn(1, 3, 70, 64, generator=generator), ids).logits


@pytest.mark.parametrize("name", ARCH)
def test_training_checkpoint_with_a_namespace_becomes_a_loadable_folder(name, states, save, tmp_path, capsys):
    content = {
        "model": {f"module.{key}": tensor for key, tensor in states[name].items()},
        "optimizer": {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-5}]},
        "epoch": 39,
        "args": argparse.Namespace(swin_type="base", window12=True, lr=3e-5),
    }
    status, printed = run(ARCH[name], save(content), tmp_path / "out", capsys=capsys)
    assert status == 0, printed
    for key, tensor in states[name].items():
        is_dead = tensor.dtype == torch.long and tensor.ndim > 0
        is_dead = is_dead or "go_embedding" in key or key.startswith(LAST_STAGE)
        assert (f" {key}\n" in printed) == is_dead, key
    assert "optimizer, epoch, args" in printed
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["auto_map"]["AutoModel"].startswith(f"modeling_{ARCH[name]}.")
    assert (tmp_path / "out" / "modeling_lavt.py").is_file()
    model = AutoModel.from_pretrained(tmp_path / "out")
    assert type(model) is MODELS[ARCH[name]]
    weight = states[name]["classifier.conv1_1.weight"]
    assert torch.equal(model.head.weight, weight[1:] - weight[:1])
    moved = states[name]["backbone.layers.0.downsample.reduction.weight"]
    assert torch.equal(model.vision.layers[1].downsample.reduction.weight, moved)
    assert logits_of(model).isfinite().all()


def test_golden_logits_come_out_of_the_converted_folder(save, tmp_path, capsys):
    golden = Golden("fianet1_tiny")
    path = save({"model": published_state("fianet1_tiny", golden.rows), "args": argparse.Namespace(num_tmem=1)})
    try:
        status, printed = run("fianet", path, tmp_path / "out", capsys=capsys)
        assert status == 0, printed
        model = AutoModel.from_pretrained(tmp_path / "out").eval()
        case = golden.case("B_sq160_b2")
        with torch.no_grad():
            logits = model(**case.inputs).logits
        maps = golden["B_sq160_b2/decoder"].unsqueeze(1)
        size = (case.height, case.width)
        expected = torch.nn.functional.interpolate(maps, size=size, mode="bilinear", align_corners=True).squeeze(1)
        assert (logits - expected).abs().max() <= 4 * golden.noise("B_sq160_b2", "logits")
    finally:
        shutil.rmtree(tmp_path)  # half a gigabyte twice, which pytest would keep


def test_both_forms_of_lavt_give_the_same_model(states, save):
    state = states["lavt_one_tiny"]
    inside, _ = convert_checkpoint(save({"model": state}), "lavt")
    inside = {key: tensor.clone() for key, tensor in inside.state_dict().items()}
    prefix = "text_encoder."
    bert = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
    bert["pooler.dense.weight"], bert["embeddings.position_ids"] = torch.zeros(64, 64), torch.arange(32)[None]
    network = {key: tensor for key, tensor in state.items() if not key.startswith(prefix)}
    model, conversion = convert_checkpoint(save({"model": network, "bert_model": bert, "epoch": 1}), "lavt")
    dropped = [key for keys in conversion.dropped.values() for key in keys]
    assert {"text_encoder.pooler.dense.weight", "text_encoder.embeddings.position_ids"} <= set(dropped)
    assert set(inside) == set(model.state_dict())
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, inside[key]), key
    with pytest.raises(ValueError, match="found neither"):
        convert_checkpoint(save({"model": network}), "lavt")
    with pytest.raises(ValueError, match="found both"):
        convert_checkpoint(save({"model": state, "bert_model": bert}), "lavt")


def test_unexpected_and_missing_keys_are_listed_and_nothing_is_written(states, save, tmp_path, capsys):
    state = dict(states["fianet1_tiny"])
    state["backbone.layers.1.surprise.weight"] = torch.zeros(3)
    del state["backbone.norm2.bias"]
    state["classifier.bn1_3.weight"] = torch.zeros(5)
    status, printed = run("fianet", save({"model": state}), tmp_path / "out", capsys=capsys)
    assert status == 1
    assert printed.count("\n") == 1
    assert f"convert: {tmp_path / 'published.pth'}: expected exactly the tensors of a published fianet" in printed
    assert "1 unexpected: backbone.layers.1.surprise.weight; " in printed
    assert "1 missing (our names): fusion.2.norm.bias; " in printed
    assert "1 of another size or type: classifier.bn1_3.weight (5,) float32, expected (32,)" in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "key",
    [
        "backbone.layers.3.object_position_align_blk.unknown.weight",
        "backbone.layers.1.object_position_align_blk.go_embedding.extra",
        "backbone.layers.3.fc1.scale",
        "text_encoder.pooler.foo",
    ],
)
def test_a_key_beside_the_dead_ones_is_unexpected(key, states, save):
    with pytest.raises(ValueError, match=rf"1 unexpected: {re.escape(key)}\.$"):
        convert_checkpoint(save({"model": {**states["fianet1_tiny"], key: torch.zeros(1)}}), "fianet")


def test_a_file_without_its_dead_tensors_is_as_good(states, save):
    state = {key: tensor for key, tensor in states["fianet1_tiny"].items() if "go_embedding" not in key}
    assert len(state) == len(states["fianet1_tiny"]) - 4
    convert_checkpoint(save({"model": state}), "fianet")


@pytest.mark.parametrize(
    ("key", "change", "said"),
    [
        (
            "classifier.conv1_1.weight",
            lambda t: t[:1],
            r"\(1, 32, 1, 1\) float32, expected two channels.*\(2, 32, 1, 1\)",
        ),
        ("classifier.conv1_1.bias", lambda t: t.repeat(2)[:3], r"\(3,\) float32, expected two channels"),
        ("backbone.norm2.weight", lambda t: t.long(), r"\(384,\) int64, expected \(384,\) floating-point numbers"),
    ],
)
def test_another_size_or_type_is_told(key, change, said, states, save):
    state = states["fianet1_tiny"]
    width = state["backbone.norm2.weight"].numel()
    with pytest.raises(ValueError, match=said.replace("384", str(width))):
        convert_checkpoint(save({"model": {**state, key: change(state[key]).clone()}}), "fianet")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(value, states, save):
    weight = states["rmsin_tiny"]["backbone.cim.down_channel.weight"].clone()
    weight[0, 3] = value
    path = save({"model": {**states["rmsin_tiny"], "backbone.cim.down_channel.weight": weight}})
    with pytest.raises(ValueError, match=r"pth: expected finite numbers, 1 tensors hold others: backbone\.cim\.down_"):
        convert_checkpoint(path)


def test_a_variance_below_zero_is_refused(states, save):
    (key,) = (key for key in states["rmsin_tiny"] if key.endswith("classifier.bn1_4.running_var"))
    damaged = states["rmsin_tiny"][key].clone()
    damaged[1] = -1e-3
    with pytest.raises(ValueError, match=r"expected variances of at least 0, 1 tensors hold others: .*running_var"):
        convert_checkpoint(save({"model": {**states["rmsin_tiny"], key: damaged}}))


def test_wrappers_leave_prefixes(states, save):
    wrapped = {f"_orig_mod.module.{key}": tensor for key, tensor in states["lavt_one_tiny"].items()}
    assert convert_checkpoint(save({"model": wrapped}))[1].arch == "lavt"


@pytest.mark.parametrize("name", ARCH)
def test_the_network_is_found_from_the_keys(name, states, save):
    assert convert_checkpoint(save({"model": states[name]}))[1].arch == ARCH[name]


@pytest.mark.parametrize("heads", ["0", "-2", "two"])
def test_heads_are_counted_from_one(heads, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run("lavt", tmp_path / "a.pth", tmp_path / "out", "--text-heads", heads, capsys=capsys)
    assert "expected a whole number of at least 1" in capsys.readouterr().err


def test_another_kind_of_checkpoint_is_recognised(states, save, tmp_path, capsys):
    _, printed = run("lavt", save({"model": states["fianet1_tiny"]}), tmp_path / "out", capsys=capsys)
    assert "this looks like fianet" in printed
    _, printed = run("fianet", save({"model": states["lavt_one_tiny"]}), tmp_path / "out", capsys=capsys)
    assert "this looks like lavt" in printed
    _, printed = run("fianet", save({"model": {"a.weight": torch.zeros(1)}}), tmp_path / "out", capsys=capsys)
    assert "its keys begin with a.weight" in printed


def test_used_folder_is_refused_before_the_work(states, save, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years")
    status, printed = run("lavt", tmp_path / "nothing.pth", tmp_path / "out", capsys=capsys)
    assert status == 1
    assert "new or an empty folder" in printed
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years"


TINY_SWIN = {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "window_size": 7, "patch_size": 4}
BASE_SWIN = {
    "embed_dim": 128,
    "depths": [2, 2, 18, 2],
    "num_heads": [4, 8, 16, 32],
    "window_size": 12,
    "patch_size": 4,
}


@pytest.mark.parametrize(
    "name",
    [
        *("fianet1_tiny", "fianet1_base", "fianet3_base", "lavt_one_tiny", "lavt_one_base"),
        *("rmsin_tiny", "remotesam_tiny"),
    ],
)
def test_sizes_are_read_and_every_key_is_accounted_for(name):
    check_sizes(name, {key: torch.empty(shape, device="meta") for key, shape in published_keys(name).items()})


def test_sizes_of_lavt_with_its_bert_outside():
    shapes = {**published_keys("lavt_base"), **{f"text_encoder.{key}": shape for key, shape in bert_keys().items()}}
    check_sizes("lavt_base", {key: torch.empty(shape, device="meta") for key, shape in shapes.items()})


def check_sizes(name, published):
    arch = arch_of(name)
    sizes = read_sizes(arch, published)
    variant = {"tiny": (TINY_SWIN, "swin_tiny_patch4_window7_224", 384)}
    variant["base"] = (BASE_SWIN, "swin_base_patch4_window12_384", 512)
    swin, timm_name, decoder = variant[name.split("_")[-1]]
    assert sizes["backbone"] == timm_name
    assert sizes["backbone_kwargs"] == {**swin, "drop_path_rate": 0.3}
    assert sizes["decoder_hidden_size"] == decoder
    text = sizes["text_config"]
    assert (text["num_hidden_layers"], text["hidden_size"], text["num_attention_heads"]) == (12, 768, 12)
    assert (text["vocab_size"], text["intermediate_size"], text["max_position_embeddings"]) == (30522, 3072, 512)
    if arch == "fianet":
        assert sizes["num_tmem_layers"] == int(name[6])
        assert (sizes["tmem_bottleneck"], sizes["tmem_mlp_ratio"]) == (4, 2.0)
        assert (sizes["channel_modulation_reduction"], sizes["position_conv_kernel"]) == (8, 3)
    if arch == "rmsin":
        assert sizes["num_cim_layers"] == 1
        assert (sizes["grid_size"], sizes["image_size"]) == {"rmsin": (15, 480), "remotesam": (28, 896)}[name[:-5]]
    with torch.device("meta"):
        model = MODELS[arch](MODELS[arch].config_class(**sizes))
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    conversion = translate(published, arch, shapes=shapes, sizes=sizes)
    dropped = [key for keys in conversion.dropped.values() for key in keys]
    assert sorted([*conversion.taken, *dropped]) == sorted(published)
    dead = [key for key in dropped if not key.endswith("relative_position_index")]
    assert len(dead) == {"fianet": 29, "lavt": 2, "rmsin": 50}[arch]  # as many as feed nothing in the authors' code


def test_sizes_that_no_tensor_tells_can_be_given(states, save, tmp_path, capsys):
    narrow = {key: t for key, t in states["lavt_one_tiny"].items() if not key.startswith("text_encoder.")}
    bert = BertModel(
        BertConfig(vocab_size=40, hidden_size=48, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64),
        add_pooling_layer=False,
    ).state_dict()
    narrow = {key: t[:, :48].clone() if "f_key.0.w" in key or "f_value.0.w" in key else t for key, t in narrow.items()}
    path = save({"model": narrow, "bert_model": dict(bert)})
    _, printed = run("lavt", path, tmp_path / "out", capsys=capsys)
    assert "width 48 is no multiple of 64" in printed
    options = ("--text-heads", "4", "--fusion-heads", "1", "2", "2", "4")
    status, printed = run("lavt", path, tmp_path / "out", *options, capsys=capsys)
    assert status == 0, printed
    config = LAVTConfig.from_pretrained(tmp_path / "out")
    assert config.text_config.num_attention_heads == 4
    assert config.fusion_num_heads == [1, 2, 2, 4]
    with pytest.raises(ValueError, match="relative positions"):
        window_of(170)


def test_folded_head_is_the_softmax_of_two_channels():
    weight = make_tensor("classifier.conv1_1.weight", (2, 7, 1, 1))
    x = torch.randn(3, 7, 4, 4, generator=torch.Generator().manual_seed(0))
    two = torch.nn.functional.conv2d(x, weight).softmax(1)[:, 1]
    one = torch.nn.functional.conv2d(x, fold_two_channels(weight)).sigmoid()[:, 0]
    torch.testing.assert_close(one, two)


def test_tokenizer_adds_a_processor_and_the_pipeline_loads(states, save, tmp_path, capsys):
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "dam", "on", "left", *letters, *"12345"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    options = ("--tokenizer", str(tmp_path / "vocab.txt"))
    path = save({"model": states["fianet1_tiny"]})
    status, printed = run("fianet", path, tmp_path / "out", *options, capsys=capsys)
    assert status == 0, printed
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    assert (processor.alignment, processor.max_length, processor.categories) == ("word", 20, "refsegrs")
    model = FIANetForReferringSegmentation.from_pretrained(tmp_path / "out").eval()
    result = ReferringSegmentationPipeline(model=model, processor=processor)(
        np.zeros((40, 50, 3), dtype=np.uint8), text="the dam on the left"
    )
    assert result["mask"].size == (50, 40)
    assert (tmp_path / "out" / "pipeline_rrsis.py").is_file()
    (tmp_path / "vocab.txt").write_text("\n".join([*words, *map(str, range(10))]))
    status, printed = run("fianet", path, tmp_path / "more", *options, capsys=capsys)
    assert status == 1
    assert "expected the 40 tokens" in printed
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    status, printed = run("fianet", path, tmp_path / "more", *options, capsys=capsys)
    assert "expected a BERT vocabulary" in printed


def published_swin(config):
    """A Swin in Microsoft's layout: patches merged at the end of a stage, buffers, a classification head."""
    state = build_swin(config).state_dict()
    published = {"head.weight": torch.zeros(5, state["norm.weight"].numel()), "head.bias": torch.zeros(5)}
    for key, tensor in state.items():
        parts = key.split(".")
        if "downsample" in key:
            parts[1] = str(int(parts[1]) - 1)
        published[".".join(parts)] = tensor
        if key.endswith("relative_position_bias_table"):
            published[".".join([*parts[:-1], "relative_position_index"])] = torch.zeros(49, 49, dtype=torch.long)
    published["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 49, 49)
    return published


def test_plain_swin_file_starts_a_model(save, tmp_path, capsys):
    sizes = {"embed_dim": 12, "depths": [2, 1, 1, 1], "num_heads": [1, 2, 3, 4], "window_size": 7}
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    text["vocab_size"] = 30
    config = LAVTConfig(backbone_kwargs=sizes, text_config=text, image_size=64)
    torch.manual_seed(3)
    published = published_swin(config)
    status, printed = run("swin", save({"model": published}), tmp_path / "swin", capsys=capsys)
    assert status == 0, printed
    assert "head.weight" in printed
    assert "'embed_dim': 12" in printed
    file = tmp_path / "swin" / "model.safetensors"
    assert len(load_file(file)) == len(published) - 2 - 5 - 1
    BertModel(BertConfig(**text)).save_pretrained(tmp_path / "bert")
    model = LAVTForReferringSegmentation.from_backbones(config, vision=str(file), text=str(tmp_path / "bert"))
    for key, tensor in model.vision.state_dict().items():
        parts = key.split(".")
        if "downsample" in key:
            parts[1] = str(int(parts[1]) - 1)
        assert torch.equal(tensor, published[".".join(parts)]), key
    status, printed = run("swin", save(load_file(file)), tmp_path / "again", capsys=capsys)
    assert status == 1
    assert "in timm's layout already" in printed


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    for words in ("target - background", "examples:", "--arch fianet", "bert_model", "from_backbones"):
        assert words in printed


def test_base_configuration_equals_the_default():
    published = {key: torch.empty(shape, device="meta") for key, shape in published_keys("fianet1_base").items()}
    sizes = read_sizes("fianet", published)
    with torch.device("meta"):
        ours = FIANetForReferringSegmentation(FIANetConfig()).state_dict()
        converted = FIANetForReferringSegmentation(FIANetConfig(**sizes)).state_dict()
    assert {key: tensor.shape for key, tensor in ours.items()} == {key: t.shape for key, t in converted.items()}
