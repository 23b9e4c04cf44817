"""Result tables from results and from their JSON form."""

import json
import math

import numpy as np
import pytest
from rich.console import Console

from processing_rrsis.metrics.evaluation_result import COUNT_NAMES, score_counts
from processing_rrsis.reports.tables import group_table, overall_table, print_tables


def make_result(intersections, unions, kinds=None):
    counts = {name: np.zeros(len(unions), dtype=np.int64) for name in COUNT_NAMES}
    counts["index"] = np.arange(len(unions))
    counts["intersection"] = counts["native_intersection"] = np.array(intersections)
    counts["union"] = counts["native_union"] = counts["reference_px"] = np.array(unions)
    return score_counts(counts, kinds=kinds, categories=None, threshold=0.5, seconds=1.0)


@pytest.fixture
def results():
    return {
        "expression": make_result([5, 10], [10, 10], kinds=["size", "relation"]),
        "shuffled": make_result([0, 1], [10, 10], kinds=["size", "relation"]),
    }


def test_overall_table_with_ceilings(results):
    table = overall_table(results, title="test", ceilings={"category only": 49.0})
    assert table.title == "test (n = 2)"
    assert table.rows[0] == ("expression", "75.0", "75.0", "100.0", "50.0", "50.0", "50.0", "50.0")
    assert table.rows[1][:3] == ("shuffled", "5.0", "5.0")
    assert table.rows[2] == ("ceiling: category only", "49.0", "", "", "", "", "", "")


def test_group_table_puts_the_texts_side_by_side(results):
    table = group_table(results, "by_kind", title="kinds")
    assert table.columns == ("kind of expression", "n", "expression", "shuffled")
    assert table.rows == (("relation", "1", "100.0", "10.0"), ("size", "1", "50.0", "0.0"))


def test_json_gives_the_same_table(results):
    stored = json.loads(json.dumps({name: result.to_dict() for name, result in results.items()}))
    assert overall_table(stored, title="test") == overall_table(results, title="test")


def test_undefined_is_not_the_same_as_not_measured():
    empty = make_result([0], [0])
    assert math.isnan(empty.overall["oIoU"])
    assert overall_table({"expression": empty}, title="t").rows[0][2] == "undefined"
    del empty.overall["oIoU"]
    assert overall_table({"expression": empty}, title="t").rows[0][2] == "not measured"


def test_markdown_shows_every_cell(results):
    table = overall_table(results, title="test | split")
    markdown = table.to_markdown().splitlines()
    assert markdown[0] == "| text | mIoU | oIoU | Pr@0.5 | Pr@0.6 | Pr@0.7 | Pr@0.8 | Pr@0.9 |"
    assert markdown[1].count("---:") == 7
    assert markdown[2] == "| expression | 75.0 | 75.0 | 100.0 | 50.0 | 50.0 | 50.0 | 50.0 |"


def test_markdown_shows_names_and_does_nothing_else():
    table = group_table({"expression": make_result([1], [2], kinds=["a|b <img src=x>"])}, "by_kind", title="kinds")
    assert "| a\\|b &lt;img src=x&gt; |" in table.to_markdown()


def test_numbers_are_never_cut_in_80_columns(results, capsys):
    kinds = group_table(results, "by_kind", title="kinds")
    without = group_table({"expression": make_result([1], [2])}, "by_kind", title="not shown")
    print_tables([overall_table(results, title="test"), kinds, without], console=Console(width=80))
    text = capsys.readouterr().out
    assert "…" not in text
    assert "not shown" not in text
    for cells in (("expression", "75.0", "75.0", "100.0"), ("relation", "1", "100.0", "10.0")):
        assert any(line.split()[: len(cells)] == list(cells) for line in text.splitlines())


def test_bad_input_is_named(results):
    with pytest.raises(ValueError, match="at least one result"):
        overall_table({}, title="t")
    with pytest.raises(ValueError, match="'by_kind' or 'by_category'"):
        group_table(results, "by_colour", title="t")
