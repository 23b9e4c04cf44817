"""Every command that writes: nothing that is there is replaced unasked, and nothing that is read at all."""

import json
import logging
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from processing_rrsis.cli.app import app
from processing_rrsis.hub.model_folder import save_hub_folder
from tests.tiny import build_tiny_model, build_tiny_processor

COMMANDS = {  # form: (arguments, what it writes, what it reads and might be named as the result)
    "segment": ("segment in.png ship -m best -o {}", "m.png", "in.png"),
    "segment --overlay": ("segment in.png ship -m best -o new.png --overlay {}", "m.png", "in.png"),
    "segment --polygons": ("segment in.png ship -m best -o new.png --polygons {}", "m.json", "best/config.json"),
    "segment --probability": ("segment in.png ship -m best -o new.png --probability {}", "m.tif", None),
    "scene": ("scene in.tif ship -m best -o {}", "m.tif", "in.tif"),
    "scene, a part of its source": ("scene in.vrt ship -m best -o {}", "m.tif", "in.tif"),
    "scene --vector": ("scene in.tif ship -m best -o new.tif --vector {}", "m.gpkg", None),
    "evaluate": ("evaluate -m best -d mine.csv -o {}", "m.json", "mine.csv"),
    "evaluate, the model's": ("evaluate -m best -d mine.csv -o {}", "m.json", "best/config.json"),
    "evaluate, a mask": ("evaluate -m best -d mine.csv -o {}", "m.json", "mask.json"),
    "evaluate --html": ("evaluate -m best -d mine.csv --html {}", "m.html", "best/page.html"),
    "report": ("report run -o {}", "m.html", "run/best/page.html"),
    "recipes --json": ("recipes --json {}", "m.json", None),
    "recipes --yaml": ("recipes mine.yaml --yaml {}", "m.json", "mine.yaml"),
    "ablations": ("ablations --json {}", "m.json", None),
    "prepare": ("prepare data --json {}", "m.json", "data/list.txt"),
    "parse-report": ("parse-report mine.csv --json {}", "m.json", "mine.csv"),
    "benchmark": ("benchmark -m ./best --json {}", "m.json", "best/config.json"),
    "benchmark profile": ("benchmark profile -m ./best --trace {}", "m.json", "best/config.json"),
    "benchmark scaling": ("benchmark scaling -m ./best --json {}", "m.json", "best/config.json"),
    "export": ("export best {}", "old", "best"),
    "export, around the model": ("export best {}", "old", "."),
    "export --json": ("export best new --json {}", "m.json", "best/config.json"),
    "convert": ("convert old/weights.pth {} --tokenizer best", "done", "old"),
    "convert, the tokenizer": ("convert old/weights.pth {} --tokenizer best", "done", "best"),
    "write-demo": ("write-demo {}", "old", None),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, an image, a raster and a table, and earlier results."""
    folder = tmp_path_factory.mktemp("results")
    save_hub_folder(build_tiny_model("lavt"), build_tiny_processor(), folder / "best")
    pixels = np.random.default_rng(0).integers(0, 256, size=(30, 44, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "in.png")
    Image.fromarray(pixels).save(folder / "in.tif")
    (folder / "mask.json").write_text(json.dumps([[1, 1], [9, 1], [9, 9]]))
    (folder / "mine.csv").write_text("image,mask,expression,split\nin.png,mask.json,the ship,test\n")
    (folder / "in.vrt").write_text(
        '<VRTDataset rasterXSize="44" rasterYSize="30">'
        + "".join(
            f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource><SourceFilename relativeToVRT="1">in.tif'
            f"</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
            for band in (1, 2, 3)
        )
        + "</VRTDataset>"
    )
    for name in ("old", "data", "done", "run/best"):
        (folder / name).mkdir(parents=True)
    results = ("m.png", "m.tif", "m.json", "m.gpkg", "m.html", "mine.yaml", "best/page.html", "run/best/page.html")
    for name in (*results, "data/list.txt", "old/weights.pth"):
        (folder / name).write_bytes(b"earlier")
    for name in ("old", "done"):  # as an earlier run of these commands leaves them
        (folder / name / "config.json").write_text("{}")
        (folder / name / "runtime.json").write_text("{}")
    return folder


def contents(folder):
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", COMMANDS)
@pytest.mark.parametrize("kind", ["there", "read", "read, by a link"])
def test_results_replace_nothing(kind, form, folder, monkeypatch):
    monkeypatch.chdir(folder)
    arguments, there, read = COMMANDS[form]
    if form.startswith("scene"):
        pytest.importorskip("rasterio")
    target = there if kind == "there" else read
    if target is None:
        pytest.skip("reads nothing that it might write to")
    before = contents(folder)
    name = target
    if kind == "read, by a link":
        name = f"link{os.path.splitext(there)[1]}"
        os.symlink(target, name)
    words = [word.format(name) for word in arguments.split()]
    result = CliRunner().invoke(app, words if kind == "there" else [*words, "--overwrite"])
    if kind == "read, by a link":
        os.unlink(name)
    shutil.rmtree("new", ignore_errors=True)
    logging.getLogger(__name__).info("%-18s %-32s %s", kind, form, "refused" if result.exit_code == 1 else "wrong")
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    assert ("overwrite" if kind == "there" else "expected") in result.output
    assert contents(folder) == before


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("words", "same"),
    [
        ("in.png ship dam -o z.png --overlay z-1.png", "z-1.png"),
        ("in.png ship dam -o z.png --overlay sub/../z-2.png", "z-2.png"),
        ("in.png ship dam -o z-1.tif --probability z.tif --overlay z-2.tif", "z-2.tif"),
        ("in.png ship dam -o z.png --overlay link.png", "z-2.png"),  # a link to it
        ("a.png a-1.png ship dam -o z.png --overlay ./z-a-1.png", None),
        ("a.png b.png ship -o z.png --overlay z-a.png", None),
    ],
)
def test_no_result_of_a_call_replaces_another(words, same, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.symlink(folder / "best", "best")
    os.mkdir("sub")
    os.symlink("z-2.png", "link.png")
    for name in ("in.png", "a.png", "a-1.png", "b.png"):
        shutil.copy(folder / "in.png", name)
    before = set(tmp_path.iterdir())
    result = CliRunner().invoke(app, ["segment", *words.split(), "-m", "best"])
    written = {path.name for path in set(tmp_path.iterdir()) - before}
    if same:
        assert result.exit_code == 1
        assert f"{same};" in result.output.replace("\n", "")
        assert not written
    else:
        named = [name for line in result.output.splitlines() for name in line.partition(" -> ")[2].split(", ") if name]
        assert result.exit_code == 0, result.output
        assert set(named) == written
