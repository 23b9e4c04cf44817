"""A small model's folder, and tables of small scenes."""

import pytest

from ..runtimes.conftest import save_model
from ..scenes.rasters import noise, write_raster

PHRASES = ("the ship", "a large red vehicle")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    return save_model("lavt", tmp_path_factory.mktemp("model"))


def write_table(folder, scenes, expressions=PHRASES):
    """`scenes.csv` with a row for each scene and expression, and its scenes of 90 × 100 px."""
    (folder / "rasters").mkdir(parents=True)
    lines = ["id,scene,expression,owner"]
    for number in range(scenes):
        write_raster(folder / "rasters" / f"s{number}.tif", noise(90, 100, number))
        lines += [f"{number}-{place},rasters/s{number}.tif,{text},us" for place, text in enumerate(expressions)]
    path = folder / "scenes.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def table(tmp_path):
    return write_table(tmp_path, 3)


def layers(out):
    """Bytes of every result but the records and manifests, which hold times."""
    kinds = (".tif", ".gpkg", ".png")
    return {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*")) if path.suffix in kinds}
