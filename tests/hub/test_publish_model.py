"""What goes up, what is refused, and what a push that breaks leaves behind."""

import json
import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModel

from processing_rrsis.hub.publish_model import complete_card, publish_model
from processing_rrsis.hub.push import PublishError, PushOptions
from processing_rrsis.training.arguments import check_push
from processing_rrsis.training.main import push

from .conftest import DRY_RUN, run_publish, write_run
from .loopback import READ_TOKEN, USER, WRITE_TOKEN, Handler

REPO = f"{USER}/lavt"


def test_a_dry_run_lists_every_file_and_asks_nobody(hub, best, tmp_path):
    (best / "notes.txt").write_text("mine")
    done = run_publish(hub, tmp_path, "model", best, REPO, "--dry-run", token=None, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    listed = dict(re.findall(r"^ *(\S+) +([\d.]+ (?:bytes|[kM]B)) *$", done.stdout, flags=re.MULTILINE))
    assert set(listed) == {path.name for path in best.iterdir()} - {"notes.txt"} | {"contact_sheet.png"}
    assert listed["contact_sheet.png"] == f"{(best.parent / 'contact_sheet.png').stat().st_size} bytes"
    assert "left out: notes.txt" in done.stdout
    assert "nothing was sent" in done.stdout
    assert not hub.requests


def test_what_is_published(online, best):
    done = publish_model(best, REPO)
    published = online.repository(REPO)
    assert published.titles() == ["Publish the model with rrsis", "initial commit"]
    assert done.commit == published.refs["main"]
    assert done.url == f"{online.url}/{REPO}"
    files = published.files()
    for path in best.iterdir():
        if path.name != "README.md":
            assert files[path.name].content == path.read_bytes()
    assert dict(done.files) == {name: len(blob.content) for name, blob in files.items() if name != ".gitattributes"}
    card = files["README.md"].content.decode()
    assert f'pipeline("referring-image-segmentation", model="{REPO}"' in card
    assert str(best) not in card
    limits = card.split("## Limits")[1].split("## Citation")[0]
    assert "(contact_sheet.png)" in limits
    assert "Scenes rendered by this project." in limits
    assert {result.metric_name: result.metric_value for result in ModelCard(card).data.eval_results}["mIoU"] == 61.5


def test_publishing_the_same_again_says_that_nothing_changed(online, best, tmp_path):
    first = publish_model(best, REPO)
    assert not first.is_unchanged
    for options in (PushOptions(), PushOptions(create_pr=True)):
        again = publish_model(best, REPO, options)
        assert (again.is_unchanged, again.commit) == (True, first.commit)
    assert set(online.repository(REPO).refs) == {"main"}
    done = run_publish(online, tmp_path, "model", best, REPO)
    assert "nothing was committed" in done.stdout
    assert "Published" not in done.stdout


def test_training_pushes_what_it_selected(online, best):
    lines = []
    run = SimpleNamespace(
        args=SimpleNamespace(push_to_hub=REPO, hub_private=True),
        accelerator=SimpleNamespace(is_main_process=True),
        output_dir=best.parent,
        watch=SimpleNamespace(say=lines.append),
    )
    push(run)
    assert lines == [f"Published: {online.url}/{REPO}"]
    assert "model.safetensors" in online.repository(REPO).files()
    assert online.repository(REPO).private
    push(run)
    assert lines[1:] == [f"Unchanged: {online.url}/{REPO}"]
    run.args.push_to_hub = None
    push(run)
    assert len(lines) == 2


def test_what_would_stop_the_push_stops_the_training(online, monkeypatch):
    check_push(REPO)
    check_push(None)
    with pytest.raises(ValueError, match="expected user/name or organization/name, got 'lavt'"):
        check_push("lavt")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ValueError, match=r"--push_to_hub: not logged in.*before the training"):
        check_push(REPO)


def test_the_card_is_completed_once():
    text = "---\n---\n## Limits\n- one\n\n## Citation\nx\n"
    once = complete_card(text, "a/b", "Mine.")
    assert complete_card(once, "a/b", "Mine.") == once
    assert once.index("- one") < once.index("contact_sheet.png") < once.index("## Citation")
    assert complete_card(text, "a/b", None) == text


@pytest.mark.parametrize("dataset", ["rrsisd", "own"])
def test_pictures_of_others_stay_behind_unless_told(online, tmp_path, dataset):
    best = write_run(tmp_path / "run", "lavt", dataset=dataset)
    held = publish_model(best, REPO)
    assert "contact_sheet.png" not in dict(held.files)
    assert any("--i-have-the-right-to" in line for line in held.left_out)
    assert "contact_sheet.png" not in online.repository(REPO).files()["README.md"].content.decode()
    assert "contact_sheet.png" in dict(publish_model(best, REPO, may_show_images=True).files)


def test_large_weights_are_cut_and_load(online, best, tmp_path):
    publish_model(best, REPO)
    done = publish_model(best, REPO, max_shard_size="1MB")
    assert done.removed == ("model.safetensors",)
    folder = online.repository(REPO).write(tmp_path / "fetched")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    expected, loaded = (AutoModel.from_pretrained(place).state_dict() for place in (best, folder))
    assert all(torch.equal(loaded[name], value) for name, value in expected.items())
    assert publish_model(folder, REPO, max_shard_size="1MB").removed == ()
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    shutil.move(folder / min(set(index["weight_map"].values())), tmp_path / "lost")
    with pytest.raises(ValueError, match=r"model-00001-of-\d+\.safetensors: missing"):
        publish_model(folder, REPO)


def test_no_room_to_cut_the_weights(best, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r"cutting the weights needs .* set TMPDIR"):
        publish_model(best, REPO, DRY_RUN, max_shard_size="1MB")


def test_files_that_others_added_stay(online, best):
    publish_model(best, REPO)
    published = online.repository(REPO)
    blob = published.files()["README.md"]
    files = {**published.files(), "docs/guide.md": blob, "NOTICE": blob, "modeling_old.py": blob, "train.py": blob}
    published.commit("main", files, "by hand", parent=published.refs["main"])
    assert publish_model(best, REPO).removed == ("modeling_old.py",)
    assert {"docs/guide.md", "NOTICE", "train.py"} <= set(published.files())


def test_private_branch_and_pull_request(online, best):
    publish_model(best, REPO, PushOptions(private=True))
    published = online.repository(REPO)
    assert published.private
    first = published.refs["main"]
    (best / "metrics.json").write_text("{}")
    publish_model(best, REPO, PushOptions(revision="v2"))
    assert published.refs["main"] == first
    assert published.files("v2")["metrics.json"].content == b"{}"
    done = publish_model(best, REPO, PushOptions(create_pr=True))
    assert published.refs["main"] == first
    assert done.url == f"{online.url}/{REPO}/discussions/1"
    assert published.files("refs/pr/1")["metrics.json"].content == b"{}"


def test_never_private_into_a_public_repository(online, best):
    publish_model(best, REPO)
    commits = len(online.repository(REPO).commits)
    with pytest.raises(PublishError, match=r"--private, but the repository exists and is public.*/settings"):
        publish_model(best, REPO, PushOptions(private=True))
    with pytest.raises(PublishError, match="a pull request needs an existing repository"):
        publish_model(best, f"{USER}/nowhere", PushOptions(create_pr=True))
    assert len(online.repository(REPO).commits) == commits


@pytest.mark.parametrize("moment", ["upload", "commit"])
def test_a_push_that_breaks_leaves_the_published_revision(online, best, tmp_path, moment):
    publish_model(best, REPO)
    published = online.repository(REPO)
    before, files = published.refs["main"], dict(published.files())
    changed = AutoModel.from_pretrained(best)
    with torch.no_grad():
        next(changed.parameters()).add_(1.0)
    changed.save_pretrained(tmp_path / "changed")
    shutil.copyfile(tmp_path / "changed" / "model.safetensors", best / "model.safetensors")
    online.die_at = moment
    with pytest.raises(PublishError, match=r"was not reached.*is as before.*run the same command again"):
        publish_model(best, REPO)
    assert published.refs["main"] == before
    assert published.files() == files
    AutoModel.from_pretrained(published.write(tmp_path / "old"))
    online.restart()
    online.requests.clear()
    done = publish_model(best, REPO)
    assert published.refs["main"] == done.commit != before
    assert published.files()["model.safetensors"].content == (best / "model.safetensors").read_bytes()
    uploads = [path for method, path, _ in online.requests if method == "PUT"]
    assert len(uploads) == (1 if moment == "upload" else 0)  # what arrived is not uploaded twice


def test_a_commit_of_somebody_else_meanwhile_is_not_overwritten(online, best):
    publish_model(best, REPO)
    published = online.repository(REPO)
    (best / "metrics.json").write_text("{}")
    online.before_commit = lambda: published.commit("main", published.files(), "theirs", published.refs["main"])
    with pytest.raises(PublishError, match=r"A commit has happened since"):
        publish_model(best, REPO)
    assert published.titles()[0] == "theirs"


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("hf_nobodyKNOWSthisTOKENatALL", r"refuses \(.*Invalid.*hf auth login"),
        (READ_TOKEN, r"refuses \(.*must use a write token.*role `write`.*/settings/tokens"),
    ],
)
def test_tokens_that_may_not_write(online, best, token, message):
    with pytest.raises(PublishError, match=message) as caught:
        publish_model(best, REPO, PushOptions(token=token))
    assert token not in str(caught.value)
    assert not online.repositories


@pytest.mark.parametrize("token", ["", "hf_abcdefgh ijkl", "hf_abcdefgh\nijkl", "hf_abcdéfghijkl"])
def test_tokens_that_can_not_be_sent_are_not_repeated(online, best, monkeypatch, token):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: token)  # as from a file that was edited by hand
    for given in (token, None):
        with pytest.raises(PublishError, match="expected visible ASCII characters") as caught:
            publish_model(best, REPO, PushOptions(token=given))
        assert not token or not {"abcd", "ijkl"} & {str(caught.value)[at : at + 4] for at in range(300)}
    assert not online.requests


def test_a_repository_of_others(online, best):
    with pytest.raises(PublishError, match=r"refuses \(.*You don't have the rights.*--create-pr"):
        publish_model(best, "somebody-else/lavt")


def test_nobody_logged_in(online, best, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(PublishError, match=r"not logged in.*hf auth login"):
        publish_model(best, REPO)
    assert not online.requests


def test_the_hub_is_down_or_we_are_offline(online, best, monkeypatch):
    online.stop()
    with pytest.raises(PublishError, match=r"was not reached.*Check the network"):
        publish_model(best, REPO)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PublishError, match=r"HF_HUB_OFFLINE is set.*unset it"):
        publish_model(best, REPO)


@pytest.mark.parametrize("body", [b"[]", b"<html>maintenance</html>", b"", b"null"])
def test_answers_that_are_no_hubs(online, best, monkeypatch, body):
    answer = Handler.answer
    monkeypatch.setattr(Handler, "answer", lambda self, *_, **__: answer(self, 200, raw=body))
    with pytest.raises(PublishError, match=r"did not answer as expected \(.*run the same command again"):
        publish_model(best, REPO)


def test_the_command_says_it_in_one_sentence(hub, best, tmp_path):
    done = run_publish(hub, tmp_path, "model", best, REPO, "--token", "hf_unknownUNKNOWNunknown", token=None)
    assert done.returncode == 1
    assert done.stderr.startswith(f"rrsis: tester/lavt: {hub.url} refuses (")
    assert "hf_unknown" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["lavt", "a/b/c", "/lavt", "me/", "me/../x", "me/x y"])
def test_names_that_can_not_be_right(best, name):
    with pytest.raises(ValueError, match="[Rr]epo.*" + re.escape(repr(name))):
        publish_model(best, name, DRY_RUN)


def test_a_folder_of_another_kind(best, tmp_path):
    with pytest.raises(ValueError, match=r"is a run's; did you mean .*best\?"):
        publish_model(best.parent, REPO, DRY_RUN)
    with pytest.raises(FileNotFoundError, match="expected a folder"):
        publish_model(tmp_path / "nowhere", REPO)


def test_no_token_goes_anywhere(online, best):
    publish_model(best, REPO)
    for _, path, body in online.requests:
        assert WRITE_TOKEN not in path
        assert WRITE_TOKEN.encode() not in body
