"""What is refused before a model goes to the Hub, with the file and the line."""

import base64
import gzip
import json
import re
import zlib

import pytest

from processing_rrsis.hub.publish_model import publish_model
from processing_rrsis.hub.push import PushOptions, RepoFile
from processing_rrsis.hub.secret_search import find_secrets

from .conftest import DRY_RUN
from .loopback import USER

REPO = f"{USER}/lavt"


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new", "finding"),
    [
        ("README.md", "## Limits", "In /scratch/me/run7.\n## Limits", r"README\.md:\d+: a path of this machine"),
        ("README.md", "## Limits", "hf_abcdefghijklmnop\n## Limits", r"README\.md:\d+: looks like a token"),
        ("config.json", "{", '{"vision": "/data/swin/base.pth",', r"config\.json:1: a path .* '/data/swin/base.pth'"),
        ("metrics.json", "{", '{"host": "C:\\\\Users\\\\me",', r"metrics\.json:1: a path"),
        ("modeling_lavt.py", '"""', '"""See /home/me/notes.txt ', r"modeling_lavt\.py:1: a path"),
        ("tokenizer_config.json", "{", '{"api_key": "0123456789abcdef0123",', "json:1: looks like a token"),
    ],
)  # fmt: skip
def test_secrets_and_paths_are_refused_with_file_and_line(online, best, file, old, new, finding):
    edit(best / file, old, new)
    with pytest.raises(ValueError, match=finding) as caught:
        publish_model(best, REPO)
    assert "hf_abc" not in str(caught.value)
    assert "0123456789abcdef" not in str(caught.value)
    assert not online.requests


def test_the_token_in_use_is_found_whatever_it_looks_like(online, best):
    edit(best / "metrics.json", "{", '{"note": "correct horse battery",')
    with pytest.raises(ValueError, match=r"metrics\.json:1: looks like a token"):
        publish_model(best, REPO, PushOptions(token="correct horse battery"))
    assert not online.requests


@pytest.mark.parametrize(
    ("file", "finding"),
    [
        ("config.json", r"config\.json: missing"),
        ("model.safetensors", r"model\.safetensors: missing"),
        ("processor_config.json", r"processor_config\.json: missing"),
        ("tokenizer.json", r"tokenizer\.json: missing"),
        ("README.md", r"README\.md: missing"),
        ("modeling_lavt.py", r"points to modeling_lavt\.py, which is missing"),
        ("pipeline_rrsis.py", r"points to pipeline_rrsis\.py, which is missing"),
        ("loss_rrsis.py", r"loss_rrsis\.py: missing, and another file imports it"),
    ],
)
def test_incomplete_folders_are_refused(online, best, file, finding):
    (best / file).unlink()
    with pytest.raises(ValueError, match=finding):
        publish_model(best, REPO)
    assert not online.requests


@pytest.mark.parametrize(
    ("file", "old", "new", "finding"),
    [
        ("config.json", '"custom_pipelines"', '"other"', "custom_pipelines is missing"),
        ("config.json", '"modeling_lavt.LAVT', '"modeling_lavt.NotLAVT', "modeling_lavt.py has no class NotLAVT"),
        ("config.json", '"AutoConfig": "', '"AutoConfig": "other/repo--', "loads code of another repository"),
        ("tokenizer_config.json", "{", '{"auto_map": {"AutoTokenizer": ["o/r--t.T", null]},', "code of another"),
        ("processor_config.json", "{", '{"tokenizer": {"auto_map": {"A": "o/r--x.Y"}},', "code of another"),
        ("processor_config.json", '"image_processing_rrsis', '"o/r--image_processing_rrsis', "code of another"),
        ("processor_config.json", '"AutoProcessor"', '"Other"', "auto_map lacks AutoProcessor"),
        ("config.json", "{", "{,", r"config\.json:1: expected JSON"),
        ("loss_rrsis.py", "import torch\n", "import torch, processing_rrsis.data\n", r"\d+: imports processing_rrsis"),
        ("config.json", '"auto_map": {', '"auto_map": [], "other": {', "expected an object as auto_map, got list"),
        ("config.json", '"embed_dim": ', '"embed_dim": 2', r"model\.safetensors: \d+ of \d+ tensors .* another size"),
        ("README.md", "license: apache-2.0\n", "", "the metadata lacks `license`"),
        ("README.md", "pipeline_tag: ", "pipeline_tag: [", "expected metadata that the Hub reads"),
        ("README.md", "## Limits", "$limits", r"\$limits was not filled in"),
        ("README.md", "value: 61.5", "value: about 60", "expected a number"),
    ],
)  # fmt: skip
def test_folders_that_would_not_load_are_refused(online, best, file, old, new, finding):
    edit(best / file, old, new)
    with pytest.raises(ValueError, match=finding):
        publish_model(best, REPO)
    assert not online.requests


def test_weights_with_a_gap_are_refused(best):
    from safetensors.numpy import load_file, save_file

    weights = load_file(best / "model.safetensors")
    name = next(iter(weights))
    save_file({key: value for key, value in weights.items() if key != name}, best / "model.safetensors")
    with pytest.raises(ValueError, match=rf"1 of {len(weights)} tensors .* such as {re.escape(name)}"):
        publish_model(best, REPO, DRY_RUN)


@pytest.mark.parametrize("name", ["head.weight", "running_var"])
@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e38])
def test_weights_and_buffers_that_are_no_numbers_are_refused(best, name, number):
    from safetensors.torch import load_file, save_file

    weights = load_file(best / "model.safetensors")
    name = next(key for key in weights if key.endswith(name))
    weights[name].view(-1)[0] = number
    save_file(weights, best / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"1 tensors hold no finite numbers.*{re.escape(name)}"):
        publish_model(best, REPO, DRY_RUN)


@pytest.mark.parametrize(
    ("index", "finding"),
    [
        ({}, "expected a weight_map"),
        ({"weight_map": []}, "expected a weight_map"),
        ({"weight_map": {"a": "../model.safetensors"}}, r"expected files such as .*, got '\.\./model\.safetensors'"),
    ],
)
def test_an_index_that_leads_elsewhere_is_refused(best, index, finding):
    (best / "model.safetensors").rename(best.parent / "model.safetensors")
    (best / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=finding):
        publish_model(best, REPO, DRY_RUN)


@pytest.mark.parametrize(
    ("file", "finding"),
    [("README.md", "expected UTF-8 text"), ("loss_rrsis.py", r"loss_rrsis\.py:\d+: expected Python")],
)
def test_files_in_another_encoding_are_refused(best, file, finding):
    (best / file).write_bytes((best / file).read_bytes() + b"\n# \xff\n")
    with pytest.raises(ValueError, match=finding):
        publish_model(best, REPO, DRY_RUN)


def test_cut_weights_are_refused(online, best):
    weights = (best / "model.safetensors").read_bytes()
    (best / "model.safetensors").write_bytes(weights[:-100])
    with pytest.raises(ValueError, match="expected readable weights, got damaged or cut ones"):
        publish_model(best, REPO)


@pytest.mark.parametrize(
    "line",
    [
        "see https://huggingface.co/user/name/tree/main and 0/255, km/h, a/b/c",
        "|P∧G| / |P∨G| (1 − t/T)^0.9 docs/danet_readings.md",
        '"impl": "pipeline_rrsis.ReferringSegmentationPipeline"',
        "the token limit = 22; token: [CLS]; [secret](https://a.b/c/d)",
        "<image>/</image> and/or ./relative/path.png",
    ],
)
def test_what_is_no_secret_and_no_path(line):
    assert find_secrets([RepoFile("README.md", line.encode())]) == []


@pytest.mark.parametrize(
    "line",
    [
        "file:///srv/x",
        "~/runs/best",
        "D:\\data",
        "(/srv/data/rrsisd)",
        "ghp_0123456789abcdefghijABCDEFGHIJ",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "AKIAABCDEFGHIJKLMNOP",
        "Authorization: Bearer abcdefghijklmnopqrst",
        "api_key: 0123456789abcdef0123",
        "WANDB_API_KEY=0123456789abcdef0123456789abcdef01234567",
        "password: hunter2hunter",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
        "https://me:s3cret@example.org/x.git",
        "https://a.org/x.tif?X-Amz-Signature=0123456789abcdef",
        "my_hf_abcdefghijklmnopqrstuvwx",
        r"\u0068f_abcdefghijklmnopqrstuvwx",
        "%68f_abcdefghijklmnopqrstuvwx",
        "aGZfYWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4",
        "AIzaSyA0123456789abcdefghijklmnopqrstuv",
        'password = "hunter22x"',
        '"password": "hunter22x"',
        '"api_key": "a1b2c3d4e5f6"',
        '"hf_" + "abcdefghijklmnopqrstuvwx"',
        r"hf\_abcdefghijklmnopqrstuvwx",
        "hf&amp;#95;abcdefghijklmnopqrstuvwx",
        "https://hooks.slack.com/services/T0ABCDEFG/B0ABCDEFG/abcdefghijklmnopqrstuvwx",
        "SG.abcdefghijklmnopqrstuv.abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG",
        base64.b64encode(b'{"aws_secret_access_key": "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY1"}').decode(),
        base64.b64encode(b"https://user:passw0rd@host").decode(),
        base64.b64encode("hf_abcdefghijklmnopqrstuvwx".encode("utf-16-le")).decode(),
        base64.b64encode(gzip.compress(b"hf_abcdefghijklmnopqrstuvwx", mtime=0)).decode(),
        b"hf_abcdefghijklmnopqrstuvwx".hex(),
    ],
)
def test_what_is_one(line):
    (finding,) = find_secrets([RepoFile("README.md", f"fine\n{line}".encode())])
    assert finding.startswith("README.md:2: ")
    assert find_secrets([RepoFile("LICENSE", f"fine\n{line}".encode("utf-16"))])


SECRET = "hf_abcdefghijklmnopqrstuvwx"


def test_names_pictures_tables_code_and_bytes_are_read(tmp_path):
    import pyarrow
    import pyarrow.parquet
    from PIL import Image, PngImagePlugin

    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", SECRET, zip=True)
    Image.new("L", (2, 2)).save(tmp_path / "sheet.png", pnginfo=texts)
    pyarrow.parquet.write_table(pyarrow.table({"expression": ["a ship", SECRET]}), tmp_path / "a.parquet")
    (tmp_path / "model.safetensors").write_bytes(bytes(1000) + SECRET.encode() + bytes(1000))
    (tmp_path / "a.py").write_text('KEY = "\\x68f_" "abcdefghijklmnopqrstuvwx"\nDATA = "/data/me/rrsisd"\n')
    found = [find_secrets([RepoFile(path.name, path)]) for path in sorted(tmp_path.iterdir())]
    assert len(found) == 4
    assert all(found)
    assert find_secrets([RepoFile(f"{SECRET}_config.json", b"{}")])
    assert SECRET not in str(found)


@pytest.mark.parametrize("token", [SECRET, "ghp_0123456789abcdefghijABCDEFGHIJ", "AKIAABCDEFGHIJKLMNOP"])
@pytest.mark.parametrize("start", range(8))
def test_bytes_are_searched_for_every_form_wherever_it_begins(token, start):
    for name, written in (("utf-8", token.encode()), ("utf-16", token.encode("utf-16-le"))):
        assert find_secrets([RepoFile("model.safetensors", bytes([200]) * (2**18 - 12 + start) + written)]), name
    assert not find_secrets([RepoFile("model.safetensors", bytes(1000) + b"hf_hub_download_of_a_file" + bytes(1000))])


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt"])
def test_texts_of_pictures_in_a_table_are_read(tmp_path, kind):
    import pyarrow
    import pyarrow.parquet

    content = b"note\0" + (b"\0" + zlib.compress(SECRET.encode()) if kind == b"zTXt" else SECRET.encode())
    picture = b"\x89PNG\r\n\x1a\n" + len(content).to_bytes(4, "big") + kind + content + bytes(4)
    for number, bytes_of in enumerate((picture, picture.replace(content, b"note" + bytes(len(content) - 4)))):
        table = pyarrow.table({"image": [{"bytes": bytes_of, "path": None}]})
        pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
        assert bool(find_secrets([RepoFile("a.parquet", tmp_path / "a.parquet")])) is (number == 0)


def test_a_packed_licence_stays_behind(best):
    (best / "LICENSE.gz").write_bytes(gzip.compress(SECRET.encode()))
    assert "LICENSE.gz: no part of a model" in publish_model(best, REPO, DRY_RUN).left_out


def test_only_code_that_auto_map_reaches_goes_up(best):
    (best / "notes.py").write_text("x = 1\n")
    publication = publish_model(best, REPO, DRY_RUN)
    assert "notes.py: no code that auto_map reaches" in publication.left_out
    assert "loss_rrsis.py" in dict(publication.files)


def test_deep_metrics_are_refused(best):
    (best / "metrics.json").write_text('{"a": ' + "[" * 10**5 + "]" * 10**5 + "}")
    with pytest.raises(ValueError, match=r"metrics\.json:1: expected JSON"):
        publish_model(best, REPO, DRY_RUN)


def test_links_out_of_the_folder_are_refused(best, tmp_path):
    (tmp_path / "private.txt").write_text("mine")
    (best / "LICENSE").symlink_to(tmp_path / "private.txt")
    with pytest.raises(ValueError, match="LICENSE: a link that leads out of the folder"):
        publish_model(best, REPO, DRY_RUN)


def test_the_weights_own_metadata_is_read(best):
    from safetensors.numpy import load_file, save_file

    weights = load_file(best / "model.safetensors")
    save_file(weights, best / "model.safetensors", metadata={"format": "pt", "made_by": "/home/me/run"})
    with pytest.raises(ValueError, match=r"model\.safetensors \(metadata\)\.json:1: a path"):
        publish_model(best, REPO, DRY_RUN)


def test_weights_that_no_code_reads_stay_behind(best):
    (best / "optimizer.bin").write_bytes(b"\x80\x04")
    (best / "checkpoints").mkdir()
    held = publish_model(best, REPO, DRY_RUN).left_out
    assert [line.split(":")[0] for line in held] == ["checkpoints/", "optimizer.bin"]


def test_every_problem_is_named_at_once(best):
    (best / "tokenizer.json").unlink()
    edit(best / "metrics.json", "{", '{"host": "/srv/me/x",')
    (best / "config.json").write_text(json.dumps([]))
    with pytest.raises(ValueError, match=r"not published, 3 problems:") as caught:
        publish_model(best, REPO, DRY_RUN)
    assert [line.split(": ")[0].strip() for line in str(caught.value).splitlines()[1:]] == [
        "tokenizer.json",
        "config.json:1",
        "metrics.json:1",
    ]
