"""`rrsis convert`: from a file or from the Hub to a folder that the other commands take, with a card."""

import re

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoModel, AutoProcessor
from typer.testing import CliRunner

from modeling_rrsis import RMSINForReferringSegmentation
from processing_rrsis.cli.app import app
from processing_rrsis.cli.segment import category_questions
from processing_rrsis.hub.checkpoint_source import choose_checkpoint, find_checkpoint
from processing_rrsis.hub.checks import check_model_folder
from processing_rrsis.hub.publish_model import publish_model
from processing_rrsis.hub.push import PushOptions
from processing_rrsis.training.starting_weights import load_finetuned
from tests.modeling.parity import small_published_state

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "in", "image", *LETTERS, *"012345"]


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "120"})


def remotesam():
    """RMSIN's tensors with RemoteSAM's grid of 28×28, narrow."""
    state = dict(small_published_state("rmsin_tiny"))
    for number in (1, 2):
        name = f"backbone.cim.block.0.csa{number}.m.attention.proj"
        state[f"{name}.weight"], state[f"{name}.bias"] = torch.randn(784, 1080) / 33, torch.zeros(784)
    return state


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A checkpoint, a vocabulary and the folder that they become."""
    folder = tmp_path_factory.mktemp("convert")
    torch.save({"model": remotesam(), "epoch": 3}, folder / "RemoteSAM.pth")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    done = run("convert", folder / "RemoteSAM.pth", folder / "out", "--tokenizer", folder / "vocab.txt")
    assert done.exit_code == 0, done.output
    return folder, done.output


def test_the_folder_is_whole_and_says_whose_weights_these_are(shared):
    folder, output = shared
    assert check_model_folder(folder / "out") == []
    model = AutoModel.from_pretrained(folder / "out")
    assert type(model) is RMSINForReferringSegmentation
    assert (model.config.image_size, model.config.grid_size) == (896, 28)
    processor = AutoProcessor.from_pretrained(folder / "out")
    assert (processor.max_length, processor.image_processor.size["height"]) == (20, 896)
    card = (folder / "out" / "README.md").read_text()
    for words in ("RemoteSAM, converted", "RemoteSAM.pth", "CC-BY-NC-4.0", "to find out and to decide", "visual_gate"):
        assert words in card
    assert str(folder) not in card
    assert "vehicle in the image" in output


def test_categories_give_a_mask_each_in_one_call(shared, tmp_path):
    folder, _ = shared
    Image.new("RGB", (70, 50), "gray").save(tmp_path / "town.png")
    config = folder / "out" / "processor_config.json"
    settings = config.read_text()
    config.write_text(re.sub(r'"(height|width)": 896', r'"\1": 64', settings))
    try:
        output = ("--model", folder / "out", "-o", tmp_path / "m.png")
        done = run("segment", tmp_path / "town.png", "--categories", "vehicle, building", *output)
    finally:
        config.write_text(settings)
    assert done.exit_code == 0, done.output
    assert '"vehicle in the image"' in done.output
    assert '"building in the image"' in done.output
    for number in (1, 2):
        assert Image.open(tmp_path / f"m-{number}.png").size == (70, 50)
    done = run("segment", tmp_path / "town.png", "--model", folder / "out")
    assert "expected an EXPRESSION or --categories" in done.output


def test_publishing_needs_a_word(shared, tmp_path):
    folder, _ = shared
    with pytest.raises(ValueError, match=r"weights that others trained \(RemoteSAM, from RemoteSAM\.pth\)"):
        publish_model(folder / "out", "you/name", PushOptions(dry_run=True))
    done = publish_model(folder / "out", "you/name", PushOptions(dry_run=True), may_publish_weights=True)
    assert "model.safetensors" in dict(done.files)
    network, processor = load_finetuned(str(folder / "out"))
    network.save_pretrained(tmp_path / "copy")  # what is saved, trained or exported from it says so, too
    processor.save_pretrained(tmp_path / "copy")
    with pytest.raises(ValueError, match="or what was trained from them"):
        publish_model(tmp_path / "copy", "you/name", PushOptions(dry_run=True))


@pytest.mark.parametrize("names", ["vehicle,", ",ship", "vehicle;building", "vehicle in the image"])
def test_categories_that_are_none_are_told(names):
    with pytest.raises(ValueError, match="--categories: expected names with commas"):
        category_questions([names])


def test_categories_are_asked_once_each():
    expected = [f"{name} in the image" for name in ("storage tank", "ship", "dam")]
    assert category_questions(["storage tank, ship", "ship", "dam"]) == expected


def test_a_folder_and_safetensors_are_checkpoints(shared, tmp_path):
    folder, _ = shared
    (tmp_path / "here").mkdir()
    save_file({key: value.contiguous() for key, value in remotesam().items()}, tmp_path / "here" / "x.safetensors")
    done = run("convert", tmp_path / "here", tmp_path / "out", "--tokenizer", folder / "vocab.txt")
    assert done.exit_code == 0, done.output
    weights = [(path / "model.safetensors").stat().st_size for path in (folder / "out", tmp_path / "out")]
    assert weights[0] == weights[1]


def test_damaged_checkpoints_are_told_in_a_line_with_the_files_name(shared, tmp_path):
    folder, _ = shared
    state = dict(remotesam())
    del state["backbone.cim.bn.weight"]
    torch.save({"model": state}, tmp_path / "cut.pth")
    done = run("convert", tmp_path / "cut.pth", tmp_path / "out", "--tokenizer", folder / "vocab.txt")
    assert done.exit_code == 1
    assert done.output.count("\n") == 1
    assert (
        "cut.pth: expected exactly the tensors of a published rmsin, but found 1 missing (our names): cim.norm.weight"
        in done.output
    )
    (tmp_path / "half.pth").write_bytes((folder / "RemoteSAM.pth").read_bytes()[:9000])
    done = run("convert", tmp_path / "half.pth", tmp_path / "out", "--tokenizer", folder / "vocab.txt")
    assert "half.pth: expected a PyTorch checkpoint" in done.output
    assert not (tmp_path / "out").exists()


def test_a_folder_of_other_things_is_refused_before_the_work(tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    done = run("convert", tmp_path / "nothing.pth", tmp_path)
    assert "holds other things" in done.output


def test_the_checkpoint_is_found_among_a_repositorys_files():
    assert choose_checkpoint("hf://a/b", ["README.md", "weights/best.pth", "x.json"]) == "weights/best.pth"
    with pytest.raises(ValueError, match=r"found 2; choose one: hf://a/b/one\.pth, hf://a/b/two\.pt"):
        choose_checkpoint("hf://a/b", ["two.pt", "one.pth"])
    with pytest.raises(ValueError, match="found none"):
        choose_checkpoint("a/b", ["README.md"])
    with pytest.raises(ValueError, match="expected hf://owner/name, got 'hf://name'"):
        find_checkpoint("hf://name")


def test_offline_it_says_what_to_fetch_and_takes_what_is_there(monkeypatch, tmp_path):
    def offline(*arguments, **options):
        raise ConnectionError("no network")

    def cached(repo_id, local_files_only):
        assert local_files_only
        if repo_id == "a/none":
            from huggingface_hub.errors import LocalEntryNotFoundError

            raise LocalEntryNotFoundError("nothing")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", offline)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    monkeypatch.setattr("huggingface_hub.snapshot_download", cached)
    with pytest.raises(OSError, match="run `hf download a/none`, and give what"):
        find_checkpoint("hf://a/none")
    (tmp_path / "b.pth").touch()
    assert find_checkpoint("hf://a/there") == (tmp_path / "b.pth", "hf://a/there/b.pth")
    with pytest.raises(OSError, match=r"the cache has no c\.pth; .*run `hf download a/there c\.pth`"):
        find_checkpoint("hf://a/there/c.pth")
