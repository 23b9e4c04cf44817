"""`rrsis prepare` as people call it: writes demos, reports, ends with an exit code."""

import inspect
import json

import pytest
from typer.testing import CliRunner

from processing_rrsis.cli.app import app
from processing_rrsis.data.checks.findings import CHECKS, CheckReport, Finding, FindingItem
from processing_rrsis.data.writing.damage import DAMAGE_KINDS
from processing_rrsis.reports.download import FIRST_NAMES, counted, printable, verdict_lines

SMALL = ["--num-train", "6", "--num-validation", "2", "--num-test", "3", "--image-size", "40"]


def prepare(*arguments):
    return CliRunner().invoke(app, ["prepare", *map(str, arguments)], env={"COLUMNS": "160"})


@pytest.mark.parametrize("style", ["rrsisd", "refsegrs", "risbench"])
def test_a_written_demo_is_clean(style, tmp_path):
    written = prepare("--demo", tmp_path / "demo", "--style", style, *SMALL)
    assert written.exit_code == 0, written.output
    assert f"6 train, 2 validation, 3 test references, 11 images in the layout of {style}" in written.stderr
    assert written.stdout == ""
    result = prepare(tmp_path / "demo", "--dataset", style, "--report", tmp_path / "report.json")
    assert result.exit_code == 0, result.output
    assert "ready: 11 references can be built" in result.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["dataset"], report["exit_code"], report["findings"]) == (style, 0, [])
    assert report["splits"]["train"] == {"references": 6, "expected": 6, "left_out": 0}


def test_damage_is_printed_and_reported(tmp_path):
    arguments = ["--demo", tmp_path / "demo", *SMALL, "--damage", "mask-size", "--damage", "truncated-image"]
    damage = json.loads(prepare(*arguments).stdout)
    assert [item["kind"] for item in damage] == ["truncated-image", "mask-size"]
    result = prepare(tmp_path / "demo", "--report", tmp_path / "report.json", "--num-proc", "2")
    assert result.exit_code == 1
    for item in damage:
        assert item["names"][0] in result.stdout
        assert CHECKS[item["kind"]].severity in result.stdout
    assert "damaged, stopped: truncated-image (1); all names are in" in result.stdout.replace("\n", " ")
    report = json.loads((tmp_path / "report.json").read_text())
    found = [
        {"kind": finding["check"], "names": [item["name"] for item in finding["items"]]}
        for finding in report["findings"]
    ]
    assert found == [{"kind": item["kind"], "names": item["names"]} for item in damage]
    assert report["blocking"] == ["truncated-image"]


def test_oddities_alone_do_not_stop(tmp_path):
    prepare("--demo", tmp_path / "demo", *SMALL, "--damage", "mask-size", "--damage", "bad-box")
    result = prepare(tmp_path / "demo")
    assert result.exit_code == 0
    assert "ready: 11 references can be built, 2 oddities counted above" in result.output


def test_allow_missing_says_what_is_left_out(tmp_path):
    (damage,) = json.loads(prepare("--demo", tmp_path / "demo", *SMALL, "--damage", "missing-image").stdout)
    stopped = prepare(tmp_path / "demo")
    assert stopped.exit_code == 1
    assert "--allow-missing goes on without this reference" in stopped.output
    result = prepare(tmp_path / "demo", "--allow-missing")
    assert result.exit_code == 0
    assert f"left out: 1 reference: {damage['names'][0]}: reference" in result.output
    assert "ready: 10 references can be built" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "got neither"),
        (["folder", "--demo", "other"], "got both"),
        (["nowhere"], "expected the folder or the .zip of a downloaded benchmark, found nothing"),
        (["--demo", "d", "--damage", "rust"], "got ['rust']"),
        (["--demo", "d", "--style", "risbench", "--full-size"], "--full-size: published counts are known of"),
        ([".", "--report", "no/such/report.json"], "--report: expected an existing folder"),
        ([".", "--report", "."], "--report: expected a file to write, got the folder ."),
        ([".", "--damage", "leak"], "--damage: expected options of checking a download, these belong to --demo"),
        ([".", "--num-train", "60", "--seed", "0"], "--num-train, --seed: expected options of checking a download"),
        (
            ["--demo", "d", "--report", "x.json", "--allow-missing"],
            "--allow-missing, --report: expected options of writing a demo, these belong to checking a download",
        ),
        (["my.csv"], 'own data are checked when they are read: load_benchmark("my.csv")'),
    ],
)
def test_errors_are_one_sentence(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = prepare(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_every_option_belongs_to_a_mode():
    """No option is ignored in silence: all but those of both modes are refused in the other one."""
    from processing_rrsis.cli import prepare

    options = set(inspect.signature(prepare.prepare).parameters)
    both = {"context", "data_dir", "demo", "num_proc"}
    assert {*prepare._CHECK_OPTIONS, *prepare._DEMO_OPTIONS} == options - both


def test_values_of_options_are_shown_plainly(tmp_path):
    prepare("--demo", tmp_path / "demo", *SMALL)
    result = prepare(tmp_path / "demo", "--dataset", "refsegrs")
    assert result.exit_code == 1
    assert "demo.json says that this folder is 'rrsisd', got 'refsegrs'" in result.stderr


def test_an_existing_folder_is_kept(tmp_path):
    prepare("--demo", tmp_path / "demo", *SMALL)
    before = (tmp_path / "demo" / "demo.json").read_text()
    assert prepare("--demo", tmp_path / "demo", *SMALL, "--seed", "1").exit_code == 1
    assert (tmp_path / "demo" / "demo.json").read_text() == before
    assert prepare("--demo", tmp_path / "demo", *SMALL, "--seed", "1", "--overwrite").exit_code == 0
    assert json.loads((tmp_path / "demo" / "demo.json").read_text())["origin"]["seed"] == 1


def test_help_names_every_kind_of_damage():
    text = prepare("--help").output
    assert [kind for kind in DAMAGE_KINDS if kind not in text] == []


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
