import hashlib
import unicodedata

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from waymark.data.records import (
    LANDMARK_SCHEMA,
    RECORD_SCHEMA,
    landmarks_table,
    read_records,
    records_table,
    write_table,
)
from waymark.errors import SourceError


def row(record_id, **more):
    return {"record_id": record_id, "views": [{"path": f"images/{record_id}.jpg", "heading_deg": None}], **more}


def test_records_are_in_the_order_of_their_ids_with_null_for_what_is_unknown():
    table = records_table([row("b", latitude=45.5, longitude=16.0), row("a"), row("č", landmarks=["x"])])
    assert table.schema == RECORD_SCHEMA
    assert table["record_id"].to_pylist() == ["a", "b", "č"]
    assert table["latitude"].to_pylist() == [None, 45.5, None]
    assert table["landmarks"].to_pylist() == [[], [], ["x"]]
    assert table["views"].to_pylist()[1] == [{"path": "images/b.jpg", "heading_deg": None}]


def test_names_are_in_one_form_and_paths_open_what_they_name():
    decomposed = unicodedata.normalize("NFD", "Café")
    given = row(decomposed, landmarks=[decomposed], group=decomposed, split="tést")
    (record,) = records_table([given]).to_pylist()
    assert (record["record_id"], record["landmarks"], record["group"]) == ("Café", ["Café"], "Café")
    assert record["views"][0]["path"] == f"images/{decomposed}.jpg"
    assert landmarks_table(records_table([given]), {"Café": decomposed}).to_pylist() == [
        {"landmark": "Café", "name": "Café", "images": 1}
    ]
    with pytest.raises(SourceError, match="duplicate record_id 'Café'"):
        records_table([given, row("Café")])


def test_records_do_not_depend_on_the_order_of_the_rows():
    rows = [row(str(number), latitude=float(number)) for number in range(20)]
    assert records_table(rows).equals(records_table(reversed(rows)))


def test_building_records_leaves_the_rows_as_they_were():
    rows = [row("b"), row("a")]
    records_table(rows)
    assert rows == [row("b"), row("a")]


def test_two_records_of_one_id_are_refused():
    with pytest.raises(SourceError, match="duplicate record_id 'a'"):
        records_table([row("a"), row("b"), row("a")])


def test_a_record_without_a_view_is_refused():
    with pytest.raises(SourceError, match="record 'b' has no view"):
        records_table([row("a"), {**row("b"), "views": []}])


def test_no_rows_give_an_empty_table_of_the_schema():
    assert records_table([]).schema == RECORD_SCHEMA


def test_landmarks_are_counted_over_all_that_a_record_shows():
    records = records_table(
        [row("a", landmarks=["tower", "bridge"]), row("b", landmarks=["tower"]), row("c"), row("d", landmarks=["arch"])]
    )
    table = landmarks_table(records, {"tower": "The Tower"})
    assert table.schema == LANDMARK_SCHEMA
    assert table.to_pylist() == [
        {"landmark": "arch", "name": "arch", "images": 1},
        {"landmark": "bridge", "name": "bridge", "images": 1},
        {"landmark": "tower", "name": "The Tower", "images": 2},
    ]


def test_the_same_records_are_the_same_bytes(tmp_path):
    rows = [row(f"{number:04}", latitude=number / 7, longitude=-number / 3, landmarks=["x"]) for number in range(500)]
    digests = set()
    for name, its_rows in (("one", rows), ("two", rows[::-1])):
        write_table(records_table(its_rows), tmp_path / name)
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1


def test_records_come_back_from_their_file_as_they_were(tmp_path):
    table = records_table([row("a", latitude=0.1, longitude=float("nan"), width=3, group="ž"), row("b")])
    write_table(table, tmp_path / "records.parquet")
    back = read_records(tmp_path / "records.parquet")
    assert back.schema.equals(RECORD_SCHEMA)
    assert str(back.to_pylist()) == str(table.to_pylist())


def test_a_file_with_further_columns_is_read_and_one_with_fewer_refused(tmp_path):
    table = records_table([row("a")])
    pq.write_table(table.append_column("extra", pa.array([1])), tmp_path / "more.parquet")
    assert read_records(tmp_path / "more.parquet").schema.names == RECORD_SCHEMA.names
    pq.write_table(table.drop_columns(["group", "views"]), tmp_path / "fewer.parquet")
    with pytest.raises(SourceError, match=r"fewer\.parquet has no column views, group; run the stage"):
        read_records(tmp_path / "fewer.parquet")
