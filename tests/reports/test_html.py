"""The report of a run is one file that a browser shows without fetching anything."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from processing_rrsis.cli.app import app
from processing_rrsis.reports.html import Section, html_page
from processing_rrsis.reports.tables import ResultTable

CHROMIUM = Path("/usr/bin/chromium")


def test_texts_never_act_as_markup():
    table = ResultTable("<b>", ("name <i>", "mIoU"), (("a & b", "1.0"),))
    page = html_page("<script>", [Section("h <b>", "t < u", [table, ResultTable("empty", ("a",), ())], [("p", b"1")])])
    assert "<script>" not in page
    assert page.count("<table>") == 1
    for text in ("&lt;script&gt;", "h &lt;b&gt;", "t &lt; u", "name &lt;i&gt;", "a &amp; b", "base64,MQ=="):
        assert text in page


@pytest.fixture
def run_copy(run_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(run_dir.parent / "cache"))
    return Path(shutil.copytree(run_dir, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints")))


def report(*words):
    return CliRunner().invoke(app, ["report", *map(str, words)])


@pytest.mark.slow
def test_a_runs_report_in_a_browser(run_copy):
    done = report(run_copy)
    assert done.exit_code == 0, done.output
    assert report(run_copy).exit_code == 1  # there is one already
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser test needs playwright")
    if not CHROMIUM.is_file():
        pytest.skip(f"the browser test needs {CHROMIUM}")
    asked, problems = [], []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url.split(":")[0]))
        page.on("console", lambda message: problems.append(message.text))
        page.goto((run_copy / "report.html").as_uri())
        pictures = page.locator("img").evaluate_all("all => all.map(one => [one.alt, one.naturalWidth])")
        tables = page.locator("caption").all_inner_texts()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        browser.close()
    assert set(asked) == {"file", "data"}
    assert problems == []
    assert [alt.split()[0] for alt, _ in pictures] == ["curves", "best", "worst", "random"]
    assert all(width > 600 for _, width in pictures)
    assert {"validation (n = 24)", "test (n = 24)", "test, mIoU", "Every number"} <= set(tables)


def test_a_report_without_what_it_needs_is_an_error(run_copy, tmp_path):
    scored = json.loads((run_copy / "samples.json").read_text())
    (run_copy / "samples.json").write_text(json.dumps({**scored, "sample_id": scored["sample_id"][1:]}))
    for words, message in (
        ([tmp_path], "expected the folder of a finished run"),
        ([run_copy, "-o", tmp_path / "r.txt"], "ends with .html"),
        ([run_copy], "its data have changed"),
    ):
        done = report(*words)
        assert done.exit_code == 1
        assert message in done.output
    assert not (run_copy / "report.html").exists()


def edited(name, change):
    """Damage: a file of a run whose values are changed."""

    def damage(folder):
        values = json.loads((folder / name).read_text())
        change(values)
        (folder / name).write_text(json.dumps(values))

    return damage


def written(name, text):
    """Damage: another text in place of a file of a run."""
    return lambda folder: (folder / name).write_text(text)


DAMAGES = {
    "metrics.json is empty": written("metrics.json", "{}"),
    "metrics.json is a list": written("metrics.json", "[]"),
    "metrics.json is deep": written("metrics.json", "[" * 100_000),
    "metrics.json without validation": edited("metrics.json", lambda it: it.pop("validation")),
    "metrics.json, no texts": edited("metrics.json", lambda it: it["results"].update(test={})),
    "metrics.json, results": edited("metrics.json", lambda it: it.update(results="x")),
    "metrics.json, overall": edited(
        "metrics.json", lambda it: it["results"]["test"]["expression"].update(overall=[1])
    ),
    "metrics.json, no groups": edited("metrics.json", lambda it: it["results"]["test"]["expression"].pop("by_kind")),
    "metrics.json, a group": edited(
        "metrics.json", lambda it: it["validation"]["expression"].update(by_kind={"x": 1})
    ),
    "metrics.json, ceilings": edited("metrics.json", lambda it: it.update(ceilings=[1])),
    "metrics.jsonl is a number": written("metrics.jsonl", "5\n"),
    "metrics.jsonl, steps": written("metrics.jsonl", '{"step": null, "loss": 1}\n{"step": [1], "loss": 2}\n'),
    "metrics.jsonl, a long number": written("metrics.jsonl", '{"step": 1, "loss": ' + "9" * 4000 + "}\n{}\n"),
    "metrics.jsonl is deep": written("metrics.jsonl", "[" * 100_000 + "\n{}\n"),
    "options.json is a list": written("options.json", "[]"),
    "options.json, unknown": written("options.json", '{"x": 1}'),
    "samples.json is a list": written("samples.json", "[]"),
    "samples.json, split": edited("samples.json", lambda it: it.update(split=[1])),
    "samples.json, IoU": edited("samples.json", lambda it: it.update(iou=["x"] * len(it["iou"]))),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_told_in_a_sentence(damage, run_copy):
    DAMAGES[damage](run_copy)
    done = report(run_copy)
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit), done.exception
    assert "xpected" in done.output
    assert str(run_copy) in done.output.replace("\n", "")
