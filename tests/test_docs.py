"""Every command and snippet of README and docs runs, or says above itself why it can't: `<!-- not run: REASON -->`.

A page's fences run in its own folder, which holds a run of four updates, pictures, and what the page itself says to
write (`<!-- file: NAME -->`): first its commands, in order, then its Python, in one process. Training is cut short.
What is not run is parsed all the same, inline code included.
"""

import importlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import typer
from PIL import Image
from transformers import HfArgumentParser
from typer.testing import CliRunner

import modeling_rrsis
import processing_rrsis
from processing_rrsis.cli.app import app
from processing_rrsis.training.arguments import TrainingArguments, build_parser

ROOT = Path(__file__).parents[1]
PAGES = {page.relative_to(ROOT).as_posix(): page for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")))}
FENCE = re.compile(
    r"(?:^<!-- (?P<note>[^\n]+) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
NOT_RUN = "not run: "
FILE = "file: "
BY_OTHERS = ("main-job", "tests")  # the README's, which .ci/run and a newcomer run
LONG = [pytest.mark.slow, pytest.mark.timeout(1200)]
LONG_PAGES = ("docs/own-data.md", "docs/training.md", "docs/ablations.md", "docs/runtimes.md")
SHORT = (
    "--max_steps 2 --warmup_steps 1 --eval_every 2 --max_samples 4 --batch_size 2 --num_workers 0 --panel_samples 0"
)


@dataclass
class Fence:
    """A block of code, and the comment above it."""

    note: str
    language: str
    code: str

    @property
    def is_run(self):
        return not self.note.startswith(NOT_RUN) and self.note not in BY_OTHERS

    @property
    def commands(self):
        """Words of each command, its lines joined."""
        lines = self.code.replace("\\\n", " ").splitlines()
        return [shlex.split(part, comments=True) for line in lines for part in line.split(" && ") if part.strip()]


@cache
def fences(page):
    return [Fence(match["note"] or "", match["language"], match["code"]) for match in FENCE.finditer(text_of(page))]


def text_of(page):
    return PAGES[page].read_text(encoding="utf-8")


def parse(words):
    """Have the command's own parser read a line; options it does not have are errors, missing arguments too."""
    if words[:2] == ["rrsis", "train"] or "train_accelerate.py" in words:
        first = words.index("train_accelerate.py") + 1 if "train_accelerate.py" in words else 2
        options, others = build_parser("").parse_known_args(words[first:])
        assert isinstance(options.seed, int)
        assert set(others[::2]) <= {"--config_file", "--num_processes", "--cpu"}, f"no option of training: {others}"
    elif words[0] == "rrsis":
        context = typer.main.get_command(app).make_context("rrsis", words[1:])
        while hasattr(context.command, "resolve_command"):
            words = [*getattr(context, "_protected_args", []), *context.args]
            if not words:  # `rrsis benchmark` is a command beside its sub-commands
                break
            name, command, rest = context.command.resolve_command(context, words)
            context = command.make_context(name, rest, parent=context)
    elif words[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        wanted = re.findall(r"\.\[(.+?)\]", " ".join(words))
        assert {extra for group in wanted for extra in group.split(",")} <= set(extras)


@pytest.mark.parametrize("page", PAGES)
def test_every_fence_runs_or_says_why_not(page):
    assert text_of(page).count("```") == 2 * len(fences(page)), "a fence that is indented or has words behind its name"
    for fence in fences(page):
        known = not fence.note or fence.note in BY_OTHERS or fence.note.startswith(FILE)
        assert known or len(fence.note) > len(NOT_RUN) + 10, f"not a note: {fence.note}"
        assert fence.language, f"a fence of {page} has no language: {fence.code}"
        if fence.is_run and fence.language == "bash":
            assert {words[0] for words in fence.commands} <= {"rrsis", "pip"}, "only these run; say why not"


@pytest.mark.parametrize("page", PAGES)
def test_commands_have_the_options_that_are_written(page):
    for fence in fences(page):
        if fence.language == "bash":
            for words in fence.commands:
                parse(words)


@pytest.mark.parametrize("page", PAGES)
def test_inline_commands_have_the_options_that_are_written(page):
    prose = FENCE.sub("", text_of(page)).replace("\n", " ")
    for code in re.findall(r"`((?:rrsis|accelerate launch) [^`]+)`", prose):
        words = shlex.split(code.replace(r"\|", "|"))
        if "MODEL" not in code and not {"--help", "--version"} & set(words):
            try:
                parse(words)
            except Exception as error:  # a command may be named without its arguments
                if type(error).__name__ not in ("MissingParameter", "NoArgsIsHelpError", "BadOptionUsage"):
                    raise


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    folder = PAGES[page].parent
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text_of(page))):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        file = folder / path if path else PAGES[page]
        assert file.exists(), f"{page} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {
                re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
            }


@pytest.fixture
def folder(run_dir, tmp_path, monkeypatch):
    """Where a page's commands find what pages take for granted."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "fianet").symlink_to(run_dir)
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("*.ipynb", "*.md"))
    for kind, colour in (("images", (90, 120, 70)), ("masks", 255)):
        (tmp_path / kind).mkdir()
        for number in range(1, 5):
            Image.new("RGB" if kind == "images" else "L", (90, 60), colour).save(tmp_path / kind / f"{number}.png")
    shutil.copy(ROOT / "docs" / "sample.png", tmp_path / "image.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "80"}


def run_command(words, folder):
    if words[:2] == ["rrsis", "train"]:
        command = [sys.executable, "-m", "processing_rrsis.cli.app", *words[1:], *SHORT.split()]
        environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT), "HF_DATASETS_CACHE": str(folder / "data")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    elif words[0] == "rrsis":
        result = CliRunner().invoke(app, words[1:], catch_exceptions=False)
        assert result.exit_code == 0, f"{shlex.join(words)}\n{result.output[-3000:]}"


def run_python(codes, folder):
    """Snippets of a page, in order, in one process and one namespace."""
    folders = {"HF_MODULES_CACHE": str(folder / "modules"), "HF_DATASETS_CACHE": str(folder / "data")}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(codes)],
        env={**os.environ, **ENVIRONMENT, **folders, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("page", [pytest.param(page, marks=LONG if page in LONG_PAGES else []) for page in PAGES])
def test_a_page_runs_as_printed(page, folder):
    for fence in fences(page):
        if fence.note.startswith(FILE):
            (folder / fence.note.removeprefix(FILE)).write_text(fence.code, encoding="utf-8")
        if fence.is_run and fence.language == "bash":
            for words in fence.commands:
                run_command(words, folder)
    codes = [fence.code for fence in fences(page) if fence.is_run and fence.language == "python"]
    if importlib.util.find_spec("torchao") is None:
        codes = [code for code in codes if "torchao" not in code]
    if codes and page != "README.md":  # test_readme.py runs the README's
        run_python(codes, folder)


def test_the_api_page_names_all_that_can_be_imported():
    targets = re.findall(r"^::: (\S+)\.(\w+)$", text_of("docs/api.md"), re.MULTILINE)
    assert all(hasattr(importlib.import_module(module), name) for module, name in targets)
    public = {*modeling_rrsis.__all__, *processing_rrsis.__all__} - {"MODELS", "CATEGORY_SETS"}  # tables of names
    assert public <= {name for _, name in targets}


def test_every_option_of_training_that_the_pages_name_exists():
    names = {f"--{name}" for name in TrainingArguments.__dataclass_fields__}
    written = set(re.findall(r"`(--[a-z]+(?:_[a-z]+)+)\b", text_of("docs/training.md")))
    assert written <= names
    assert isinstance(build_parser(""), HfArgumentParser)
