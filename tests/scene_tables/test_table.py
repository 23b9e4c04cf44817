"""Tables and collections of scenes, shards that need no coordination, manifests joined."""

import json
import os

import pyarrow as pa
import pytest
from pyarrow import parquet

from processing_rrsis.errors import RRSISError
from processing_rrsis.scene_tables.manifest import make_manifest, merge_manifests, shard_file, write_manifest
from processing_rrsis.scene_tables.records import Finding, Record, read_record
from processing_rrsis.scene_tables.table import groups_of, read_scene_table, shard_of

HEAD = "id,scene,expression\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "id,raster,expression\n1,a.tif,the ship\n", "scene is missing; it has id, raster, expression"),
        ("t.csv", HEAD + "1,a.tif,the ship\n2,b.tif, \n", "every cell of expression, row 2 has none"),
        ("t.csv", HEAD + "1,a.tif,the ship\n1,b.tif,the ship\n", "expected every id once, 1 is there"),
        ("t.csv", HEAD + "1,a.tif\n", "expected a table of scenes, got"),
        ("t.csv", HEAD + '1,a.tif,"the ship\n2,b.tif,the dam\n', "expected every quoted cell to end"),
        ("t.csv", HEAD + '1,a.tif,"the ship\n2,b.tif,the ""dam"\n', "one line in every cell of expression, row 1 has"),
        ("t.json", '{"features": [], "links": [{"rel": "next"}]}', "this is a page of one"),
        ("t.parquet", "no parquet", "expected a table of scenes, got"),
        ("t.xlsx", "", r"expected a \.csv, a \.parquet or a STAC"),
        ("t.json", "{", "expected a STAC item collection"),
        ("t.json", '{"features": [1]}', "a FeatureCollection of items with id and assets"),
    ],
)
def test_a_wrong_table_is_told_in_a_sentence(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_scene_table(tmp_path / name)


def test_csv_and_parquet_give_the_same_rows_what_is_text_stays_text(tmp_path):
    (tmp_path / "t.csv").write_text("id,scene,expression,note\n007,a.tif,the ship,5\n")
    rows = read_scene_table(tmp_path / "t.csv")
    assert rows.to_pylist() == [{"id": "007", "scene": "a.tif", "expression": "the ship", "note": "5"}]
    parquet.write_table(rows, tmp_path / "t.parquet")
    assert read_scene_table(tmp_path / "t.parquet").equals(rows)


def test_columns_of_a_csv_stay_as_they_are(tmp_path):
    (tmp_path / "t.csv").write_text(
        "id,scene,expression,owner\n1,~nobody-of-this-name/a.tif,the ship,007\n2,b.tif,a,NA\n"
    )
    rows = read_scene_table(tmp_path / "t.csv")
    assert rows["owner"].to_pylist() == ["007", "NA"]
    assert groups_of(rows, tmp_path)[0].address == str(tmp_path / "~nobody-of-this-name" / "a.tif")
    (tmp_path / "t.csv").write_text("id,scene,expression\n1,https://[x/s.tif,the ship\n")
    with pytest.raises(ValueError, match="address in scene, row 1"):
        read_scene_table(tmp_path / "t.csv")
    (tmp_path / "t.json").write_text('{"features": [{"assets": {}}]}')
    with pytest.raises(ValueError, match="items with id and assets"):
        read_scene_table(tmp_path / "t.json", ["the ship"])


def test_columns_that_are_there_twice_or_hold_lists_are_told(tmp_path):
    (tmp_path / "t.csv").write_text("id,id,scene,expression\n1,2,a.tif,the ship\n")
    with pytest.raises(ValueError, match="every column once, id is there more than once"):
        read_scene_table(tmp_path / "t.csv")
    rows = pa.table({"id": [[1]], "scene": ["a.tif"], "expression": ["the ship"]})
    parquet.write_table(rows, tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="expected a table of scenes"):
        read_scene_table(tmp_path / "t.parquet")


def repeated(text, count, column="note"):
    """A table of kilobytes: every row has the same text, which its file holds once."""
    texts = pa.array([text])
    rows = {name: pa.array([str(number) for number in range(count)]) for name in ("id", "scene", "expression")}
    return pa.table({**rows, column: pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), texts)})


@pytest.mark.parametrize("dictionary", [True, False])
def test_a_table_that_unpacks_to_gigabytes_is_refused(tmp_path, dictionary):
    path = tmp_path / "t.parquet"
    good = repeated("x" * 1000, 1000)
    good = good if dictionary else good.cast(pa.schema([(name, pa.string()) for name in good.column_names]))
    parquet.write_table(good, path)
    assert read_scene_table(path).equals(good)
    parquet.write_table(repeated("x" * 1_000_000, 3000), path, store_schema=dictionary)  # 3 GB in 300 KB
    assert path.stat().st_size < 1 << 20
    with pytest.raises(ValueError, match="expected at most 1,000,000 rows"):
        read_scene_table(path)
    table = repeated("x" * 1_000_000, 3000)
    lists = pa.ListArray.from_arrays(pa.array(range(3001), pa.int32()), table["note"].combine_chunks())
    parquet.write_table(table.set_column(3, "note", lists), path, store_schema=dictionary)
    with pytest.raises(ValueError, match="expected at most 1,000,000 rows"):
        read_scene_table(path)
    ones = pa.array([1] * 1_000_001, pa.int8())
    parquet.write_table(pa.table({"id": ones, "scene": ones, "expression": ones}), path)
    with pytest.raises(ValueError, match="expected at most 1,000,000 rows"):
        read_scene_table(path)
    short = pa.array([1] * 700_000, pa.int8())
    names = ["id", "scene", "expression", *map(str, range(30))]
    parquet.write_table(pa.table(dict.fromkeys(names, short)), path)
    with pytest.raises(ValueError, match="20,000,000 cells"):
        read_scene_table(path)


def test_a_csv_of_gigabytes_or_without_an_end_is_refused(tmp_path):
    with (tmp_path / "t.csv").open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(ValueError, match="expected at most 128 MiB, got 3072 MiB"):
        read_scene_table(tmp_path / "t.csv")
    for name in ("p.csv", "p.parquet"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(OSError, match="expected a file, got a folder, a pipe or a device"):
            read_scene_table(tmp_path / name)
    (tmp_path / "t.csv").write_text(HEAD + "1,a.tif,x\n" * 1_000_001)
    with pytest.raises(ValueError, match="1,000,000 lines, got more"):
        read_scene_table(tmp_path / "t.csv")


def test_items_of_a_collection_are_asked_every_expression(tmp_path):
    assets = {"visual": {"href": "a.tif", "type": "image/tiff"}, "nir": {"href": "/n.tif", "type": "image/tiff"}}
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"features": [{"id": "x", "assets": assets}, {"id": "y", "assets": assets}]}))
    rows = read_scene_table(path, ["the ship", "the dam"])
    assert rows["id"].to_pylist() == ["x/1", "x/2", "y/1", "y/2"]
    assert set(rows["scene"].to_pylist()) == {"a.tif"}
    assert read_scene_table(path, ["the ship"], "nir")["scene"][0].as_py() == "/n.tif"
    with pytest.raises(ValueError, match="--expression"):
        read_scene_table(path)
    with pytest.raises(ValueError, match="name of one asset"):
        read_scene_table(path, ["the ship"], "red")


def rows_of(count):
    rows = [{"id": str(n), "scene": f"s{n // 2}.tif", "expression": f"phrase {n % 2}"} for n in range(count)]
    return pa.Table.from_pylist(rows)


def test_shards_hold_every_row_once_and_a_scene_as_a_whole(tmp_path):
    rows = rows_of(200)
    shards = [shard_of(rows, index, 7) for index in range(1, 8)]
    assert sorted(name for shard in shards for name in shard["id"].to_pylist()) == sorted(rows["id"].to_pylist())
    scenes = [set(shard["scene"].to_pylist()) for shard in shards]
    assert sum(map(len, scenes)) == 100
    assert shard_of(rows.slice(50), 3, 7)["id"].to_pylist() == [
        name for name in shards[2]["id"].to_pylist() if int(name) >= 50
    ]
    groups = groups_of(rows, tmp_path)
    assert len({group.key for group in groups}) == len(groups) == 100
    assert groups[1].expressions == ("phrase 0", "phrase 1")
    assert groups[1].address == str(tmp_path / "s1.tif")


def test_merging_finds_gaps_and_doubles(tmp_path):
    rows = rows_of(20)
    groups = {group.scene: group for group in groups_of(rows, tmp_path)}
    shards = {index: make_manifest(shard_of(rows, index, 2), groups, {}) for index in (1, 2)}
    with pytest.raises(RRSISError, match="got splits into none"):
        merge_manifests(rows, tmp_path)
    write_manifest(shards[1], tmp_path / shard_file(1, 2))
    with pytest.raises(RRSISError, match="those of 2 are missing; run --shard 2/2"):
        merge_manifests(rows, tmp_path)
    write_manifest(shards[2].slice(1), tmp_path / shard_file(2, 2))
    with pytest.raises(RRSISError, match=r"once, .* is in no shard"):
        merge_manifests(rows, tmp_path)
    write_manifest(pa.concat_tables([shards[2], shards[1].slice(0, 1)]), tmp_path / shard_file(2, 2))
    with pytest.raises(RRSISError, match="more than once"):
        merge_manifests(rows, tmp_path)
    write_manifest(shards[2], tmp_path / shard_file(2, 2))
    joined = merge_manifests(rows, tmp_path)
    assert joined.select(rows.column_names).equals(rows)
    assert set(joined["status"].to_pylist()) == {"skipped"}


WRONG_RESULTS = {
    "status": ["fuond", None],
    "objects": [-5, None],
    "band": [0, None],
    "area_m2": [float("nan"), -1.0],
    "mask": ["../../etc/mask.tif", "mask.tif", None],
}


@pytest.mark.parametrize(
    ("column", "value"), [(name, one) for name, values in WRONG_RESULTS.items() for one in values]
)
def test_a_shard_that_no_run_wrote_is_refused(tmp_path, column, value):
    rows = rows_of(1)
    (group,) = groups_of(rows, tmp_path)
    found = Record("s", {}, list(group.expressions), {group.expressions[0]: Finding(2, 5.0)}, {}, "", 1.0, "r", {})
    whole = make_manifest(rows, {group.scene: group}, {group.scene: found})
    write_manifest(whole, tmp_path / shard_file(1, 1))
    assert merge_manifests(rows, tmp_path)["objects"].to_pylist() == [2]
    place = whole.column_names.index(column)
    spoiled = whole.set_column(place, column, pa.array([value], whole.schema.field(column).type))
    for table, message in ((spoiled, "no result of a run for"), (whole.drop_columns([column]), column)):
        write_manifest(table, tmp_path / shard_file(1, 1))
        with pytest.raises(RRSISError, match=message):
            merge_manifests(rows, tmp_path)


def test_shards_without_number(tmp_path):
    (tmp_path / "manifest-1-of-999999999999.parquet").touch()
    with pytest.raises(RRSISError, match="expected at most 1,000,000 shards"):
        merge_manifests(rows_of(1), tmp_path)


SOUND = {
    "version": 1,
    "settings": "s",
    "source": {"a.tif": [1, 2]},
    "expressions": ["the ship"],
    "findings": {"the ship": {"objects": 1, "area_m2": 2.5}},
    "refused": {},
    "error": "",
    "seconds": 0.5,
    "receipt": "r",
    "files": {"mask.tif": 5},
}


@pytest.mark.parametrize(
    "change",
    [
        {"findings": {"the ship": {"objects": -7, "area_m2": 1.0}}},
        {"findings": {"the ship": {"objects": 1, "area_m2": float("nan")}}},
        {"findings": {"the ship": {"objects": 10**30, "area_m2": None}}},
        {"files": {}},
        {"files": {"../../s.tif": 5, "mask.tif": 5}},
        {"files": {"mask.tif": None}},
        {"files": ["mask.tif"]},
        {"files": 5},
        {"source": 5},
        {"refused": {"the ship": ""}},
        {"refused": 5},
        {"error": 5},
        {"receipt": 5},
        {"seconds": "x"},
    ],
)
def test_a_record_that_no_run_wrote_is_none(tmp_path, change):
    (tmp_path / "result.json").write_text(json.dumps(SOUND))
    assert read_record(tmp_path).findings == {"the ship": Finding(1, 2.5)}
    (tmp_path / "result.json").write_text(json.dumps(SOUND | change))
    assert read_record(tmp_path) is None


def test_a_manifest_is_no_table():
    taken = rows_of(2).append_column("status", pa.array(["found", "found"]))
    with pytest.raises(RRSISError, match="it has status; name them otherwise"):
        make_manifest(taken, {}, {})
