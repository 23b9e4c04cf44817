"""`rrsis parse-report`: counts worked out by hand, every kind of file, one-sentence errors."""

import json

import pytest
from typer.testing import CliRunner

from processing_rrsis.cli.app import app
from processing_rrsis.reports import expressions
from processing_rrsis.reports.expressions import read_expressions, report_expressions

ROWS = [
    ("The ship on the far right", "ship"),  # the released grammar reads no position here
    ("The baseball field on the left", "baseballfield"),
    ("A large bridge", "bridge"),
    ("Two dams in the middle", "dam"),
    ("The vehicle above the ship", "ship"),  # wrongly labelled on purpose
    ("The bridge has a car running on it", "bridge"),
    ("A large bridge", "bridge"),
]


def test_counts():
    report = report_expressions([text for text, _ in ROWS], "rrsisd", labels=[label for _, label in ROWS])
    assert (report.expressions, report.distinct, report.labelled) == (7, 6, 7)
    assert report.target_right == 6
    assert report.wrong_targets == [("The vehicle above the ship", "ship", "vehicle")]
    assert report.object_found == 7
    assert report.one_word_objects == 6
    assert report.position_found == 4
    assert report.position_found_word == 3
    assert report.place_words_unread == 1
    assert report.unread_places == ["The bridge has a car running on it"]
    assert report.without_position == {"A large bridge": 2, "The bridge has a car running on it": 1}
    assert report.unread_words["large"] == 2


def test_taggers_are_compared_where_nltk_is(monkeypatch):
    """NLTK's tagger is stood in for by one that calls every word a noun: it finds no position."""
    monkeypatch.setattr(expressions, "nltk_tagger_available", lambda: True)
    monkeypatch.setattr(
        "processing_rrsis.expression_rrsis.tag_words",
        lambda words, use_nltk: ["NN"] * len(words) if use_nltk else ["IN", "DT", "NN"][: len(words)],
    )
    report = report_expressions(["on the left", "near the dam", "dam"], "rrsisd")
    assert (report.position_found_word, report.position_found_nltk, report.taggers_agree) == (2, 0, 1)
    assert report.taggers_differ == ["on the left", "near the dam"]


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl", "txt"])
def test_files(tmp_path, ending):
    path = tmp_path / f"expressions.{ending}"
    if ending == "jsonl":
        lines = [json.dumps({"expression": text, "category": label}) for text, label in ROWS]
    elif ending == "txt":
        lines = [*(text for text, _ in ROWS), ""]
    else:
        separator = "\t" if ending == "tsv" else ","
        lines = [separator.join(("expression", "category")), *(separator.join(row) for row in ROWS)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    texts, labels = read_expressions(path)
    assert texts == [text for text, _ in ROWS]
    assert labels == (None if ending == "txt" else [label for _, label in ROWS])
    result = CliRunner().invoke(app, ["parse-report", str(path), "--json", str(tmp_path / "report.json")])
    assert result.exit_code == 0, result.output
    assert '"wordpiece"' in result.output
    assert ("no labels" in result.output) == (ending == "txt")
    assert json.loads((tmp_path / "report.json").read_text())["position_found"] == 4


def test_own_categories(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("the silo near the pier\n", encoding="utf-8")
    result = CliRunner().invoke(app, ["parse-report", str(path), "--categories", "pier, silo"])
    assert result.exit_code == 0
    assert "place words unread" not in result.output
    assert "no labels: without a column category" in result.output
    assert "target is the labelled category" not in result.output


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.txt", None, "found none"),
        ("a.pdf", b"x", "expected a file ending in"),
        ("a.txt", b"\n", "at least one expression"),
        ("a.csv", b"text\na ship\n", "row 1: expected a text in the column 'expression', got ['text']"),
        ("a.jsonl", b"{", "it can't be read"),
        ("a.jsonl", b"[1]", "got list"),
        ("a.jsonl", b'{"expression": "a ship"}\n\n{x\n', "it can't be read, line 3: expected complete JSON"),
        ("a.txt", b"\xff\xfe", "expected UTF-8 text"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    result = CliRunner().invoke(app, ["parse-report", str(path)])
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())
    assert name in result.output
