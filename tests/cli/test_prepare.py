"""`rrsis prepare` as people call it: writes demos, reports, ends with an exit code."""

import json

import pytest
from typer.testing import CliRunner

from processing_rrsis.cli.app import app
from processing_rrsis.data.checks.findings import CHECKS, CheckReport, Finding, FindingItem
from processing_rrsis.data.writing.demo import DemoSpec
from processing_rrsis.errors import printable
from processing_rrsis.reports.download import FIRST_NAMES, counted, verdict_lines
from tests.data.damage import write_damaged_demo

SMALL = ["--num-train", "6", "--num-validation", "2", "--num-test", "3", "--image-size", "40"]


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "160"})


def prepare(*arguments):
    return run("prepare", *arguments)


def damaged(folder, *kinds):
    """A small demo with damage."""
    spec = DemoSpec("rrsisd", counts={"train": 6, "validation": 2, "test": 3}, image_size_px=40)
    return write_damaged_demo(spec, folder, kinds)


@pytest.mark.parametrize("style", ["rrsisd", "refsegrs", "risbench"])
def test_a_written_demo_is_clean(style, tmp_path):
    written = run("write-demo", tmp_path / "demo", "--style", style, *SMALL)
    assert written.exit_code == 0, written.output
    assert f"6 train, 2 validation, 3 test references, 11 images in the layout of {style}" in written.stdout
    result = prepare(tmp_path / "demo", "--dataset", style, "--json", tmp_path / "report.json")
    assert result.exit_code == 0, result.output
    assert "ready: 11 references can be built" in result.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["dataset"], report["exit_code"], report["findings"]) == (style, 0, [])
    assert report["splits"]["train"] == {"references": 6, "expected": 6, "left_out": 0}


def test_damage_is_printed_and_reported(tmp_path):
    damage = damaged(tmp_path / "demo", "mask-size", "truncated-image")
    assert [item.kind for item in damage] == ["truncated-image", "mask-size"]
    result = prepare(tmp_path / "demo", "--json", tmp_path / "report.json", "--num-workers", "2")
    assert result.exit_code == 1
    for item in damage:
        assert item.names[0] in result.stdout
        assert CHECKS[item.kind].severity in result.stdout
    assert "damaged, stopped: truncated-image (1); all names are in" in result.stdout.replace("\n", " ")
    report = json.loads((tmp_path / "report.json").read_text())
    found = [
        {"kind": finding["check"], "names": [item["name"] for item in finding["items"]]}
        for finding in report["findings"]
    ]
    assert found == [{"kind": item.kind, "names": list(item.names)} for item in damage]
    assert report["blocking"] == ["truncated-image"]


def test_oddities_alone_do_not_stop(tmp_path):
    damaged(tmp_path / "demo", "mask-size", "bad-box")
    result = prepare(tmp_path / "demo")
    assert result.exit_code == 0
    assert "ready: 11 references can be built, 2 oddities counted above" in result.output


def test_allow_missing_says_what_is_left_out(tmp_path):
    (damage,) = damaged(tmp_path / "demo", "missing-image")
    stopped = prepare(tmp_path / "demo")
    assert stopped.exit_code == 1
    assert "--allow-missing goes on without this reference" in stopped.output
    result = prepare(tmp_path / "demo", "--allow-missing")
    assert result.exit_code == 0
    assert f"left out: 1 reference: {damage.names[0]}: reference" in result.output
    assert "ready: 10 references can be built" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "nowhere"], "expected the folder or the .zip of a downloaded benchmark, found nothing"),
        (["prepare", ".", "--json", "no/such/report.json"], "--json: expected a name in an existing folder"),
        (["prepare", ".", "--json", "."], "--json: expected a file name in an existing folder, got the folder ."),
        (["prepare", "my.csv"], 'own data are checked when they are read: load_benchmark("my.csv")'),
        (["write-demo", "d", "--style", "risbench", "--full-size"], "--full-size: published counts are known of"),
        (["write-demo", "d", "--image-size", "4"], "image_size_px: expected"),
    ],
)
def test_errors_are_one_sentence(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_values_of_options_are_shown_plainly(tmp_path):
    run("write-demo", tmp_path / "demo", *SMALL)
    result = prepare(tmp_path / "demo", "--dataset", "refsegrs")
    assert result.exit_code == 1
    assert "demo.json says that this folder is 'rrsisd', got 'refsegrs'" in result.stderr


def test_an_existing_folder_is_kept(tmp_path):
    run("write-demo", tmp_path / "demo", *SMALL)
    before = (tmp_path / "demo" / "demo.json").read_text()
    assert run("write-demo", tmp_path / "demo", *SMALL, "--seed", "1").exit_code == 1
    assert (tmp_path / "demo" / "demo.json").read_text() == before
    assert run("write-demo", tmp_path / "demo", *SMALL, "--seed", "1", "--overwrite").exit_code == 0
    assert json.loads((tmp_path / "demo" / "demo.json").read_text())["origin"]["seed"] == 1


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 oddities"), (1, "1 oddity"), (2, "2 oddities")], ids=["none", "one", "two"]
)
def test_numbers_and_nouns_agree(number, text):
    assert counted(number, "oddity", "oddities") == text
    assert counted(number, "reference") == f"{number} reference{'' if number == 1 else 's'}"


def test_names_from_a_download_cannot_steer_the_terminal():
    assert printable("a\x1b[2Jb\u202ec\n é") == "a\\x1b[2Jb\\u202ec\\n é"
    items = tuple(FindingItem(name=f"[red]{number}[/]") for number in range(FIRST_NAMES + 2))
    report = CheckReport(
        dataset="refsegrs",
        source="x",
        expected_from="none",
        counts={"train": 9},
        expected={},
        images=9,
        findings=(Finding(check="missing-image", items=items),),
        left_out=items,
        allow_missing=True,
    )
    assert verdict_lines(report)[0].plain.startswith("left out: 5 references: [red]0[/], [red]1[/], ")
