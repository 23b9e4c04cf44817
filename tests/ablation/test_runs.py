"""The ablation runner: plans, runs that fail, stop and go on, and reports worked out by hand."""

import json
import math
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from processing_rrsis.ablation.plan import budget_warning, plan_runs
from processing_rrsis.ablation.report import AblationReport, difference_text, spread_text
from processing_rrsis.ablation.runs import end_of_log, launch_words
from processing_rrsis.ablation.scores import expand_presets, paper_rows, read_runs
from processing_rrsis.ablation.spread import T_QUANTILES, PairedDifference, Spread, t_quantile
from processing_rrsis.cli.app import app
from processing_rrsis.metrics import CONTROLS
from processing_rrsis.training.recipes.presets import ABLATIONS

ROOT = Path(__file__).parents[2]
invoke = CliRunner().invoke

# In place of training: notes its start, does what FAKE_DOES says, leaves a record with the settings of FAKE_SETTINGS.
FAKE = """
import json, os, signal, sys, time
from pathlib import Path

assert sys.argv[1:3] == ["-m", "processing_rrsis.training"]
options = dict(zip(sys.argv[3::2], sys.argv[4::2]))
preset, seed = options.get("--model") or options["--ablation"], options["--seed"]
with open(os.environ["FAKE_STARTS"], "a") as file:
    file.write(f"{preset} {seed} {options['--resume']}\\n")
does = json.loads(os.environ.get("FAKE_DOES", "{}")).get(f"{preset} {seed}")
folder = Path(options["--output_dir"])
folder.mkdir(parents=True, exist_ok=True)
if does == "fail":
    print("a long story", flush=True)
    print("error: no space left on device", file=sys.stderr)
    print("Traceback (most recent call last):\\n  File x\\nsubprocess.CalledProcessError: x", file=sys.stderr)
    sys.exit(1)
if does == "wait":
    def stop(number, frame):
        time.sleep(0.5)
        (folder / "saved").touch()
        sys.exit(0)
    signal.signal(signal.SIGTERM, stop)
    (folder / "waiting").touch()
    time.sleep(60)
settings = json.loads(os.environ["FAKE_SETTINGS"])[f"{preset} {seed}"]
settings |= {"num_updates": settings["max_steps"], "train_samples": 24, "train_sha256": "0"}
results = {"test": {"expression": {"overall": {"mIoU": 50.0 + int(seed), "oIoU": 40.0, "n": 8}, "by_kind": {}}}}
record = {"settings": settings, "results": results, "selection": "on validation"}
(folder / "metrics.json").write_text(json.dumps(record))
"""


def write_run(folder, preset, seed, *, miou, oiou=40.0, compositional=None, kinds=None, **settings):
    """A finished run's metrics.json; `miou` by text, `kinds` mIoU by kind and text."""
    miou = miou if isinstance(miou, dict) else {"expression": miou}
    test = {
        text: {
            "overall": {"mIoU": value, "oIoU": oiou, "n": 24},
            "by_kind": {kind: {"mIoU": values[text], "n": 3} for kind, values in (kinds or {}).items()},
        }
        for text, value in miou.items()
    }
    results = {"test": test}
    if compositional is not None:
        results["test_compositional"] = {
            "expression": {"overall": {"mIoU": compositional, "oIoU": 1.0, "n": 8}, "by_kind": {}}
        }
    budget = {"num_updates": 100, "batch_size": 8, "train_samples": 24, "image_size_px": 80, "dataset": "synthetic"}
    path = folder / preset / f"seed-{seed}" / "metrics.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"settings": {**budget, **settings}, "selection": "on validation", "results": results}))


@pytest.fixture
def finished(tmp_path):
    """LAVT with three seeds, DANet with two of them, FIANet with one."""
    for seed, lavt in enumerate((50.0, 52.0, 57.0)):
        write_run(
            tmp_path,
            "lavt",
            seed,
            miou={"expression": lavt, "shuffled": 5.0 + seed, "category": 20.0, "blank": 1.0},
            compositional=30.0 + seed,
            kinds={
                "size": {"expression": lavt, "shuffled": 5.0, "category": 20.0, "blank": None},
                "position": {"expression": lavt + 1, "shuffled": 5.0, "category": 20.0, "blank": 1.0},
            },
        )
    write_run(tmp_path, "danet", 0, miou=53.0, compositional=31.0)
    write_run(tmp_path, "danet", 2, miou=61.0, compositional=35.0)
    write_run(tmp_path, "fianet", 1, miou=49.0)
    return tmp_path


def rows_of(table):
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


def test_quantiles_leave_95_percent_inside():
    """Simpson's rule over the density of Student's t, for every row of the table; closed forms for 1 and 2."""
    assert t_quantile(1) == pytest.approx(math.tan(0.475 * math.pi), abs=5e-4)
    assert t_quantile(2) == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)), abs=5e-4)
    for degrees, bound in enumerate(T_QUANTILES, start=1):
        constant = math.gamma((degrees + 1) / 2) / math.sqrt(degrees * math.pi) / math.gamma(degrees / 2)
        steps = 2000
        width = bound / steps
        density = [(1 + (number * width) ** 2 / degrees) ** (-(degrees + 1) / 2) for number in range(steps + 1)]
        half = width / 3 * (density[0] + density[-1] + 4 * sum(density[1:-1:2]) + 2 * sum(density[2:-1:2]))
        assert 2 * constant * half == pytest.approx(0.95, abs=1e-4), degrees
    assert len(T_QUANTILES) == 30
    assert t_quantile(500) == 2.042
    with pytest.raises(ValueError, match="at least 1 degree of freedom, got 0"):
        t_quantile(0)


def test_spread_divides_by_n_minus_1():
    """50, 52, 57: mean 53, squares 9 + 1 + 16 = 26, √(26 / 2) = 3.606."""
    spread = Spread.of([50.0, 52.0, 57.0])
    assert (spread.mean, spread.deviation, spread.n) == (53.0, pytest.approx(math.sqrt(13)), 3)
    assert spread_text(spread) == "53.0 ± 3.6"
    assert spread_text(Spread.of([50.04])) == "50.0"
    assert spread_text(Spread.of([])) == "not measured"
    assert spread_text(Spread.of([50.0, math.nan])) == "undefined"


def test_differences_are_paired_by_seed():
    """+3 and +4 at the common seeds: mean 3.5, deviation √0.5, half width 12.706 × √0.5 / √2 = 6.353."""
    difference = PairedDifference.of({0: 53.0, 2: 61.0, 7: 1.0}, {0: 50.0, 1: 52.0, 2: 57.0})
    assert difference.seeds == (0, 2)
    assert difference.mean == 3.5
    assert difference.interval == pytest.approx((3.5 - 6.353, 3.5 + 6.353))
    assert difference_text(difference) == "+3.5 [-2.9, +9.9]"
    # 1, 2, 3: mean 2, deviation 1, half width 4.303 / √3 = 2.484; a normal interval would have 1.96 / √3 = 1.132.
    three = PairedDifference.of({0: 1.0, 1: 2.0, 2: 3.0}, {0: 0.0, 1: 0.0, 2: 0.0})
    assert three.interval == pytest.approx((-0.4843, 4.4843), abs=1e-4)


def test_one_pair_has_no_interval_and_none_no_difference():
    assert difference_text(PairedDifference.of({1: 49.0}, {0: 50.0, 1: 52.0})) == "-3.0 (one pair)"
    assert PairedDifference.of({1: 49.0}, {0: 50.0}) is None
    assert PairedDifference.of({1: math.nan}, {1: 50.0}) is None
    assert difference_text(None) == "not measured"


def test_table_of_the_test_split(finished):
    rows = rows_of(
        AblationReport(tuple(read_runs(finished, ["lavt", "danet", "fianet", "danet-fig4-k16"], 3))).tables()[0]
    )
    assert rows["lavt"] == {
        "preset": "lavt",
        "seeds": "3",
        "mIoU": "53.0 ± 3.6",
        "oIoU": "40.0 ± 0.0",
        "mIoU, shuffled": "6.0 ± 1.0",
        "mIoU − first": "–",
    }
    assert rows["danet"]["seeds"] == "2 of 3"
    assert rows["danet"]["mIoU"] == "57.0 ± 5.7"  # 53, 61: √(16 + 16)
    assert rows["danet"]["mIoU, shuffled"] == "not measured"
    assert rows["danet"]["mIoU − first"] == "+3.5 [-2.9, +9.9]"
    assert rows["fianet"]["mIoU"] == "49.0"
    assert rows["fianet"]["mIoU − first"] == "-3.0 (one pair)"
    assert set(list(rows["danet-fig4-k16"].values())[2:]) == {"not measured"}


def test_compositional_and_kinds_with_controls(finished):
    tables = AblationReport(tuple(read_runs(finished, ["lavt", "danet"], 3))).tables()
    compositional = next(table for table in tables if "test_compositional" in table.title)
    assert rows_of(compositional)["danet"]["mIoU − first"] == "+2.0 [-10.7, +14.7]"  # 1, 3: 12.706 × √2 / √2
    (kinds,) = [table for table in tables if "by kind" in table.title]
    assert kinds.title.startswith("lavt")
    assert kinds.columns == ("kind", "n", "expression", "shuffled", "category only", "blank")
    assert rows_of(kinds)["position"]["expression"] == "54.0 ± 3.6"
    assert rows_of(kinds)["size"]["blank"] == "undefined"
    assert len(kinds.columns) == 2 + len(CONTROLS)


def test_the_papers_rows_stand_beside_ours(finished):
    report = AblationReport(tuple(read_runs(finished, ["lavt", "danet", "fianet"], 3)))
    table = next(table for table in report.tables() if "DANet's paper on RRSIS-D validation" in table.title)
    assert table.title.startswith("mIoU: ours on SyntheticRS test")
    assert rows_of(table)["lavt"]["paper"] == "61.46"
    assert tuple(rows_of(table)["danet"].values()) == ("danet", "57.0 ± 5.7", "+3.5", "66.07", "+4.61", "table 2")
    assert "fianet" not in rows_of(table)
    assert any(
        "FIANet, table I, test: FIANet's checkpoint is the epoch with the best" in note for note in report.notes()
    )


def test_a_preset_is_compared_with_its_papers_whole_network(finished):
    report = AblationReport(tuple(read_runs(finished, ["danet", "danet-table3-affinity", "danet-fig4-k16"], 1)))
    table = next(table for table in report.tables() if "DANet's paper on RefSegRS test" in table.title)
    row = rows_of(table)["danet-table3-affinity"]
    assert (row["paper"], row["paper − first"], row["in the paper"]) == ("59.84", "-2.30", "table 3")
    assert "Without a number in the paper, which only plots it: danet-fig4-k16." in report.warnings()
    assert paper_rows("danet-fig4-k16") == []


def test_unequal_budgets_and_missing_runs_are_said(tmp_path):
    write_run(tmp_path, "lavt", 0, miou=50.0)
    write_run(tmp_path, "danet", 0, miou=50.0, num_updates=200)
    warnings = AblationReport(tuple(read_runs(tmp_path, ["lavt", "danet"], 2))).warnings()
    assert warnings == [
        "Not one budget: updates differ: lavt 100; danet 200.",
        "Not finished: lavt, seed 1.",
        "Not finished: danet, seed 1.",
    ]


def test_report_only_writes_json_and_markdown(finished, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = invoke(app, ["ablate", "lavt", "danet", "-o", str(finished), "--report-only"])
    assert done.exit_code == 0, done.output
    words = " ".join(done.output.split())
    assert "selected on the validation split alone" in words
    assert "+3.5 [-2.9, +9.9]" in words
    page = (finished / "ablate.md").read_text(encoding="utf-8")
    assert "| danet | 2 of 3 | 57.0 ± 5.7 | 40.0 ± 0.0 | not measured | +3.5 [-2.9, +9.9] |" in page
    report = json.loads((finished / "ablate.json").read_text(encoding="utf-8"))
    lavt, danet = report["presets"]
    assert "validation" in report["selection"]
    overall = danet["results"]["test"]["expression"]["overall"]["mIoU"]
    assert overall["by_seed"] == {"0": 53.0, "2": 61.0}
    assert (overall["mean"], overall["n"]) == (57.0, 2)
    assert overall["standard_deviation"] == pytest.approx(math.sqrt(32))
    assert danet["missing_seeds"] == [1]
    assert danet["mIoU_difference"]["test"]["interval"] == pytest.approx([-2.853, 9.853])
    assert lavt["results"]["test"]["blank"]["mIoU_by_kind"]["size"]["mean"] is None
    assert [row["scores"]["mIoU"] for row in danet["published"]] == [62.14, 66.07]


def test_report_only_without_a_folder_or_with_a_damaged_record(tmp_path):
    done = invoke(app, ["ablate", "lavt", "-o", str(tmp_path / "none"), "--report-only"])
    assert (done.exit_code, "there is none at" in done.output) == (1, True)
    write_run(tmp_path, "lavt", 0, miou=50.0)
    (tmp_path / "lavt" / "seed-0" / "metrics.json").write_text('{"results": ')
    done = invoke(app, ["ablate", "lavt", "-o", str(tmp_path), "--report-only"])
    assert done.exit_code == 1
    assert "seed-0/metrics.json: expected the record of a finished run" in done.output


RESULT = {"overall": {"mIoU": 50.0, "n": 8}, "by_kind": {}}
DAMAGES = {
    "deep": '{"results": ' + "[" * 100_000,
    "a long number": '{"settings": {}, "results": {}, "x": ' + "9" * 5000 + "}",
    "no settings": {"results": {"test": {"expression": RESULT}}},
    "test": {"settings": {}, "results": {"test": []}},
    "no test": {"settings": {}, "results": {"test": None}},
    "no groups": {"settings": {}, "results": {"test": {"expression": {"overall": {}}}}},
    "a score": {"settings": {}, "results": {"test": {"expression": {**RESULT, "overall": {"mIoU": []}}}}},
    "an endless score": {
        "settings": {},
        "results": {"test": {"expression": {**RESULT, "overall": {"oIoU": math.inf}}}},
    },
    "a score of 4,000 %": {"settings": {}, "results": {"test": {"expression": {**RESULT, "overall": {"mIoU": 4000}}}}},
    "a count": {"settings": {}, "results": {"test": {"expression": {**RESULT, "by_kind": {"x": {"n": "q"}}}}}},
    "a setting": {"settings": {"dataset": [1]}, "results": {"test": {"expression": RESULT}}},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_told_in_a_sentence(damage, tmp_path):
    write_run(tmp_path, "lavt", 0, miou=50.0)
    text = DAMAGES[damage]
    path = tmp_path / "lavt" / "seed-0" / "metrics.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    done = invoke(app, ["ablate", "lavt", "-o", str(tmp_path), "--report-only"])
    assert isinstance(done.exception, SystemExit), done.exception
    assert "seed-0/metrics.json: expected the record of a finished run" in done.output.replace("\n", "")


def test_prefixes_become_the_rows_of_their_table():
    assert expand_presets(["danet-table5"]) == [
        "danet-table5-cross-attention",
        "danet-table5-masked-attention",
        "danet-table5-agents",
    ]
    assert expand_presets(["fianet", "fianet-fig9", "fianet", "fianet-fig9-cim"]) == [
        "fianet",
        "fianet-fig9-tmem",
        "fianet-fig9-cim",
        "fianet-fig9-lgce",
    ]
    assert len(expand_presets(sorted({"-".join(name.split("-")[:2]) for name in ABLATIONS}))) == len(ABLATIONS)
    with pytest.raises(
        ValueError, match=r"network \(lavt, danet, fianet, rmsin\).*got 'danet-tabel5'\. Near it: danet-table5"
    ):
        expand_presets(["danet-tabel5"])
    with pytest.raises(ValueError, match="got 'danet-table'"):
        expand_presets(["danet-table"])


def test_every_run_has_the_same_options_and_its_seed(tmp_path):
    runs = plan_runs(["lavt", "danet-fig4-k16"], seeds=2, output_dir=tmp_path, options=["--max_steps", "7"])
    assert [run.name for run in runs] == [
        "lavt, seed 0",
        "lavt, seed 1",
        "danet-fig4-k16, seed 0",
        "danet-fig4-k16, seed 1",
    ]
    folder = str(tmp_path / "danet-fig4-k16" / "seed-1")
    own = ("--ablation", "danet-fig4-k16", "--seed", "1", "--output_dir", folder, "--resume", "latest")
    assert runs[3].options == ("--max_steps", "7", *own)
    assert {run.budget for run in runs} == {"7 updates of 32 samples at 80 px"}
    assert budget_warning(runs) is None


def test_recipes_with_other_budgets_are_said(tmp_path):
    runs = plan_runs(["lavt", "fianet"], seeds=1, output_dir=tmp_path, dataset="rrsisd", data_dir=tmp_path)
    warning = budget_warning(runs)
    different = len({run.budget for run in runs}) > 1
    assert different == (warning is not None)
    first, second = (
        plan_runs(["lavt"], seeds=1, output_dir=tmp_path),
        plan_runs(["danet"], seeds=1, output_dir=tmp_path, options=["--max_steps", "9"]),
    )
    assert budget_warning([*first, *second]) == (
        "Not one budget: lavt 1,000 updates of 32 samples at 80 px; danet 9 updates of 32 samples at 80 px. Give "
        "--max_steps and --batch_size in --train to make them equal."
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", "0"], "sets --seed itself; give --seeds"),
        (["--output_dir=x"], "sets --output_dir itself; give --output-dir"),
        (["--ablation", "danet-fig4-k16"], "sets --ablation itself; give a PRESET"),
        (["--max_stepps", "3"], "unrecognized arguments: --max_stepps"),
        (["--max_steps", "many"], "invalid int value: 'many'"),
        (["--max_steps", "0"], "max_steps: expected an integer of at least 1, or null, got 0"),
        (["--recipe", "danet-synthetic"], "is one of danet, got --model lavt"),
    ],
)
def test_wrong_training_options_are_refused_before_the_first_run(tmp_path, options, message):
    done = invoke(app, ["ablate", "lavt", "-o", str(tmp_path / "out"), "--train", shlex.join(options)])
    assert done.exit_code == 1
    assert message in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()


def test_options_of_training_are_nothing_for_a_report(tmp_path):
    done = invoke(app, ["ablate", "lavt", "-o", str(tmp_path), "--report-only", "--train", "--max_steps 3"])
    assert (done.exit_code, "leave out --train '--max_steps 3'" in done.output) == (1, True)


def test_launch_words():
    assert launch_words("accelerate launch --num_processes 2") == [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--num_processes",
        "2",
    ]
    assert launch_words(f"{shlex.quote(sys.executable)} -X dev") == [sys.executable, "-X", "dev"]
    for wrong in ("", "no-such-program run"):
        with pytest.raises(ValueError, match="--launch: expected the command"):
            launch_words(wrong)


def test_the_end_of_a_log_says_why():
    launcher = "Traceback (most recent call last):\n  File launch.py\nsubprocess.CalledProcessError: Command [...]\n"
    assert end_of_log(f"loading\nerror: no space\nleft\n{launcher}") == "  error: no space\n  left"
    crash = "".join(f"line {number}\n" for number in range(20)) + "KeyError: 'x'\n"
    assert end_of_log(crash).splitlines() == [*(f"  line {number}" for number in range(9, 20)), "  KeyError: 'x'"]
    assert end_of_log("") == "  (nothing was printed)"


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A launcher that trains nothing, the starts it has noted, and the folder of the runs."""
    script, starts = tmp_path / "fake.py", tmp_path / "starts.txt"
    script.write_text(FAKE)
    starts.touch()
    runs = plan_runs(["lavt", "danet-fig4-k16"], seeds=2, output_dir=tmp_path / "out", options=["--max_steps", "5"])
    settings = {f"{run.preset} {run.seed}": run.settings for run in runs}
    monkeypatch.setenv("FAKE_SETTINGS", json.dumps(settings))
    monkeypatch.setenv("FAKE_STARTS", str(starts))
    monkeypatch.setenv("COLUMNS", "200")
    return ["-o", str(tmp_path / "out"), "--launch", f"{sys.executable} {script}"], starts, tmp_path / "out"


def test_a_failed_run_is_shown_and_the_others_go_on(fake, monkeypatch):
    options, starts, out = fake
    monkeypatch.setenv("FAKE_DOES", json.dumps({"lavt 1": "fail"}))
    command = ["ablate", "lavt", "danet-fig4-k16", "--seeds", "2", *options, "--train", "--max_steps 5"]
    done = invoke(app, command)
    assert done.exit_code == 1
    assert starts.read_text().splitlines() == [
        "lavt 0 latest",
        "lavt 1 latest",
        "danet-fig4-k16 0 latest",
        "danet-fig4-k16 1 latest",
    ]
    assert "failed: [2/4] lavt, seed 1, exit code 1" in done.output
    assert "  error: no space left on device\n" in done.output
    assert "CalledProcessError" not in done.output
    assert "a long story" in (out / "lavt" / "seed-1.log").read_text()
    assert "[3/4] danet-fig4-k16, seed 0: training\n" in done.output
    assert "test mIoU 51.0" in done.output
    assert json.loads((out / "ablate.json").read_text())["presets"][0]["missing_seeds"] == [1]

    # Called again, only the failed one starts.
    monkeypatch.delenv("FAKE_DOES")
    starts.write_text("")
    done = invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "Finished already: 3 of 4 runs." in done.output
    assert starts.read_text().splitlines() == ["lavt 1 latest"]
    (test,) = [table for table in json.loads((out / "ablate.json").read_text())["presets"] if table["name"] == "lavt"]
    assert test["results"]["test"]["expression"]["overall"]["mIoU"]["mean"] == 50.5

    # Other options would mix two experiments.
    done = invoke(app, [*command[:-1], "--max_steps 6"])
    assert done.exit_code == 1
    assert "holds a finished run with other settings: max_steps was 5, is 6" in " ".join(done.output.split())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_stopped_call_lets_the_run_save_and_says_how_to_go_on(fake, monkeypatch, number, code):
    options, starts, out = fake
    monkeypatch.setenv("FAKE_DOES", json.dumps({"lavt 0": "wait"}))
    command = ["ablate", "lavt", "--seeds", "2", *options, "--train", "--max_steps 5"]
    monkeypatch.setattr(sys, "argv", ["rrsis", *command])
    run = out / "lavt" / "seed-0"

    def stop():
        while not (run / "waiting").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    stopper = threading.Thread(target=stop, daemon=True)
    stopper.start()
    done = invoke(app, command)
    assert done.exit_code == code
    assert (run / "saved").exists()  # waited for
    assert starts.read_text().splitlines() == ["lavt 0 latest"]
    assert f"stopped: go on with the same command: rrsis {shlex.join(command)}" in done.output
    assert "failed" not in done.output
    assert not (out / "ablate.json").exists()


def test_a_run_that_ends_before_its_end_has_failed(fake, monkeypatch):
    """A scheduler that stops only the run: exit code 0, no result."""
    options, _, out = fake
    monkeypatch.setenv("FAKE_DOES", json.dumps({"lavt 0": "wait"}))
    run = out / "lavt" / "seed-0"

    def stop():
        while not (run / "waiting").exists():
            time.sleep(0.05)
        for process in psutil.Process().children():
            process.terminate()

    threading.Thread(target=stop, daemon=True).start()
    done = invoke(app, ["ablate", "lavt", "--seeds", "1", *options, "--train", "--max_steps 5"])
    assert done.exit_code == 1
    assert "failed: [1/1] lavt, seed 0, exit code 0" in done.output
    assert "(nothing was printed)" in done.output


@pytest.mark.slow
def test_two_presets_are_trained_and_compared(tmp_path):
    """The whole of it, by `accelerate launch`; a second call trains nothing."""
    command = [sys.executable, "-m", "processing_rrsis.cli.app", "ablate", "danet-table3-none", "danet"]
    command += ["--seeds", "1", "-o", str(tmp_path / "out"), "--train"]
    command += ["--max_steps 2 --max_samples 24 --batch_size 8 --warmup_steps 1 --num_workers 0 --cpu_threads 1"]
    environment = {
        **os.environ,
        "HF_DATASETS_CACHE": str(tmp_path / "cache"),
        "ACCELERATE_USE_CPU": "true",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "120",
    }
    outputs = []
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        outputs.append(done.stdout)
    assert "[2/2] danet, seed 0: training" in outputs[0]
    assert "Finished already: 2 of 2 runs." in outputs[1]
    assert "training" not in outputs[1].split("SyntheticRS")[0]
    report = json.loads((tmp_path / "out" / "ablate.json").read_text())
    for preset in report["presets"]:
        assert preset["seeds"] == [0]
        assert set(preset["results"]["test"]) == set(CONTROLS)
        assert preset["results"]["test_compositional"]["expression"]["overall"]["mIoU"]["n"] == 1
        assert preset["budgets"][0]["num_updates"] == 2
        assert len(preset["results"]["test"]["expression"]["mIoU_by_kind"]) == 8
    assert report["warnings"] == []
    assert report["presets"][1]["mIoU_difference"]["test"]["interval"] is None
