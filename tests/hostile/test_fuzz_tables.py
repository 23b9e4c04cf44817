"""1,000 archives and tables: damaged zips, pickles and JSON, texts without an end, masks of any size."""

import base64
import csv
import functools
import io
import json
import pickle
import random
import zipfile

import numpy as np
import pytest
from PIL import Image

from processing_rrsis.data import BENCHMARKS
from processing_rrsis.data.checks.download import check_download
from processing_rrsis.data.file_benchmark import Oddities
from processing_rrsis.data.own_data import OwnData
from processing_rrsis.reports.expressions import read_expressions
from tests.data.fake_downloads import encode, phrase_files, pixels_of, rrsisd_files, runs_of

from .harness import ODD_VALUES, SECRET, WrongResultError, mutated, mutated_json, try_all

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.filterwarnings("ignore")]
COUNT, SEED = 1000, 18


def rows_of(name, path, folder):
    """All rows, as the builder makes them; each with a mask of its image's size in two values."""
    kind = OwnData if name == "own" else BENCHMARKS[name]
    builder = kind(data_dir=str(path), cache_dir=str(folder / "cache"))
    rows = [
        builder.make_row(sample, Oddities())
        for samples in builder.without_missing(builder.read_samples()).values()
        for sample in samples
    ]
    for row in rows:
        mask, image = (Image.open(io.BytesIO(row[part]["bytes"])) for part in ("mask", "image"))
        if mask.size != image.size or not set(np.unique(mask)) <= {0, 255} or not row["expression"].strip():
            raise WrongResultError(f"row {row['sample_id']}")
    return rows


def read(name, data, folder, expected=None):
    (folder / "download.zip").write_bytes(data)
    rows = rows_of(name, folder / "download.zip", folder)
    if expected is not None and rows != expected:
        raise WrongResultError("other rows")


def check(name, data, folder):
    (folder / "download.zip").write_bytes(data)
    check_download(folder / "download.zip", name, progress=False)


class Member(zipfile.ZipInfo):
    """A file in a zip, which may have no name."""

    def is_dir(self):
        return False


def zipped(files, compress_type=zipfile.ZIP_DEFLATED, twice=()):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression=compress_type) as archive:
        for name in (*files, *twice):
            archive.writestr(Member(name), files[name], compress_type=compress_type)
    return buffer.getvalue()


def damaged_files(name, files, generator):
    """A file of a download exchanged for a damaged one, or one that grows when it is read."""
    files, chosen = dict(files), generator.choice(list(files))
    kind = generator.randrange(8)
    if kind <= 2:
        files[chosen] = mutated(files[chosen], generator)
    elif kind == 3 and name == "rrsisd":
        values = mutated_json(pickle.loads(files["rrsisd/refs(unc).p"]), generator)
        files["rrsisd/refs(unc).p"] = pickle.dumps(values, protocol=generator.choice((0, 2, 4)))
    elif kind == 4 and name == "rrsisd":
        values = mutated_json(json.loads(files["rrsisd/instances.json"]), generator)
        files["rrsisd/instances.json"] = json.dumps(values).encode()
    elif kind == 5:
        files[chosen] = generator.choice((b"\n", b"a b\n", b"[],", b"9", b"\0", b"1 ship ")) * 20_000_000
    elif kind == 6:
        files[
            generator.choice(("../x", "/x", "a\\b", "a:b", "x" * 300, "\ud800".encode("utf-8", "replace").decode()))
        ] = b""
    else:
        del files[chosen]
    return files


def mask_forms(generator):
    """Masks in every form that a table takes, and in forms that ask for much."""
    _, mask = pixels_of(1)
    runs = runs_of(mask)
    large = {"size": [16_000, 16_000], "counts": [0, 256_000_000]}
    forms = [runs, [runs], [[8, 5, 20, 5, 20, 13]], [[8, 5], [20, 5], [20, 13]], "mask.png", large, [large] * 30]
    forms += [{"size": [30, 40], "counts": [2**62] * 4 + [1200]}, {"size": [30, 40], "counts": [1200, 10**15]}]
    forms += [{"size": [30, 40], "counts": "oooooooo0" * 100}, {"size": [1, 2**28], "counts": [0, 2**28]}]
    forms += [
        [[10**400, 1, 2, 3, 4, 5]],
        [[1e308, 1, 2, 3, 4, 1e308]],
        [[float("nan")] * 6],
        [[0, 0, 39, 0, 39, 29]] * 5000,
    ]
    forms += [[[number % 40 for number in range(200_000)]], "x" * 100_000, f"https://me:{SECRET}@a.org/x.png"]
    return mutated_json(generator.choice(forms), generator, odds=0.03)


def table(generator, folder):
    """A table of one or several rows: name and bytes."""
    image, mask = pixels_of(1)
    (folder / "image.png").write_bytes(encode(image, "PNG"))
    (folder / "mask.png").write_bytes(encode(mask * np.uint8(255), "PNG"))
    rows = []
    for number in range(generator.choice((1, 1, 3))):
        expression = generator.choice((f"the ship {number}", "ship " * 100_000, "a\0b", "\ud800", "", "  "))
        form = mask_forms(generator)
        rows.append({"image": "image.png", "mask": form, "expression": expression, "split": "train"})
    rows = mutated_json(rows, generator, odds=0.02)
    if generator.random() < 0.5:
        return "a.jsonl", "\n".join(map(json.dumps, rows if isinstance(rows, list) else [rows])).encode()
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("image", "mask", "expression", "split"))
    for row in rows if isinstance(rows, list) else []:
        values = row.values() if isinstance(row, dict) else [row]
        writer.writerow([value if isinstance(value, str) else json.dumps(value) for value in values])
    return "a.csv", text.getvalue().encode("utf-8", "surrogatepass")


def own(name, data, folder):
    (folder / name).write_bytes(data)
    rows_of("own", folder / name, folder)


def expressions(name, data, folder):
    (folder / name).write_bytes(data)
    texts, labels = read_expressions(folder / name)
    if not texts or (labels and len(labels) != len(texts)):
        raise WrongResultError("no expressions")


def cases(folder):
    generator = random.Random(SEED)
    downloads = {"rrsisd": rrsisd_files(), "refsegrs": phrase_files(), "risbench": phrase_files(layout="risbench")}
    for name, files in downloads.items():
        (folder / "whole.zip").write_bytes(zipped(files))
        expected = rows_of(name, folder / "whole.zip", folder)
        yield f"whole {name}", functools.partial(read, name, zipped(files), folder, expected)
        yield f"twice {name}", functools.partial(read, name, zipped(files, twice=[next(iter(files))]), folder)
        yield f"nameless {name}", functools.partial(read, name, zipped({**files, "": b"x"}), folder)
        for number in range(100):
            data = mutated(zipped(files), generator)
            yield f"zip {name} {number}", functools.partial(read, name, data, folder)
        for number in range(100):
            data = zipped(damaged_files(name, files, generator))
            function = check if generator.random() < 0.3 else read
            yield f"files {name} {number}", functools.partial(function, name, data, folder)
    for number in range(COUNT - 709):
        name, data = table(generator, folder)
        data = mutated(data, generator) if generator.random() < 0.3 else data
        yield f"table {number} {base64.b85encode(data[:60])}", functools.partial(own, name, data, folder)
    for number in range(100):
        text = generator.choice(
            (b"a ship\n", b'{"expression": "a ship"}\n', b"expression,category\na ship,ship\n", b"\xff")
        )
        data = mutated(text * generator.choice((1, 3)), generator)
        if generator.random() < 0.2:
            data = generator.choice((b"\n", b"ship", b'{"a":')) * 30_000_000
        if generator.random() < 0.3:
            data += json.dumps({"expression": generator.choice(ODD_VALUES)}).encode()
        ending = generator.choice(("txt", "csv", "jsonl", "tsv"))
        yield f"expressions {number}", functools.partial(expressions, f"e.{ending}", data, folder)


def test_archives_and_tables(tmp_path, capfd):
    try_all("archives and tables", cases(tmp_path), capfd)
