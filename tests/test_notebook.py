"""The quickstart notebook runs from the first cell to the last, and its pictures are stored in it.

`RRSIS_WRITE_NOTEBOOK=1` stores what this run gave.
"""

import os
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "notebooks" / "quickstart.ipynb"


def pictures(notebook):
    """Numbers of the cells that show a picture."""
    forms = {"image/png", "image/jpeg"}
    outputs = {number: cell.get("outputs", []) for number, cell in enumerate(notebook.cells)}
    return [number for number, shown in outputs.items() if any(forms & set(one.get("data", {})) for one in shown)]


def store(notebook, path):
    """Write a notebook without times and warnings, and of each picture the smaller form alone."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        cell.outputs = [one for one in cell.get("outputs", []) if one.get("name") != "stderr"]
        for output in cell.outputs:
            if "image/jpeg" in output.get("data", {}):
                output.data.pop("image/png")
        if cell.cell_type != "code":
            del cell["outputs"]
    nbformat.write(notebook, path)


def test_pictures_are_stored():
    assert len(pictures(nbformat.read(NOTEBOOK, as_version=4))) == 2
    assert NOTEBOOK.stat().st_size < 1_000_000


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_runs_from_first_to_last(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for name, folder in (("HF_MODULES_CACHE", "modules"), ("HF_DATASETS_CACHE", "data")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    shutil.copy(ROOT / "docs" / "sample.png", tmp_path)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    stored = pictures(notebook)
    client = NotebookClient(
        notebook, timeout=1500, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    if os.environ.get("RRSIS_WRITE_NOTEBOOK"):
        store(notebook, NOTEBOOK)
    else:
        assert pictures(notebook) == stored
    scores = {}
    for line in notebook.cells[4].outputs[0].text.splitlines():
        *words, value = line.split()
        scores[words[0]] = float(value)
    assert scores["expression"] > scores["shuffled"] + 5
