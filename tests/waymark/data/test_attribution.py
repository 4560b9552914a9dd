"""The list of authors and licences that goes with a model."""

import csv

import pytest

from waymark.data.attribution import attribution_table, write_attribution
from waymark.data.records import records_table
from waymark.errors import SourceError


def record(record_id, **known):
    return {"record_id": record_id, "views": [{"path": f"{record_id}.jpg"}], **known}


RECORDS = records_table(
    [
        record("b", author='Đuro "D", the second\nline', licence="CC BY 4.0", source_url="http://page/b"),
        record("a", licence="CC0"),
        record("c", author="not asked for"),
        record("d", latitude=45.0, longitude=16.0),
    ]
)


def test_what_is_known_of_the_records_is_listed():
    assert attribution_table(RECORDS, ["d", "b", "a", "b"]).to_pylist() == [
        {"record_id": "a", "author": None, "licence": "CC0", "source_url": None},
        {
            "record_id": "b",
            "author": 'Đuro "D", the second\nline',
            "licence": "CC BY 4.0",
            "source_url": "http://page/b",
        },
    ]
    assert attribution_table(RECORDS, ["d"]).num_rows == 0
    assert attribution_table(RECORDS, []).column_names == ["record_id", "author", "licence", "source_url"]


def test_a_record_that_is_not_there_is_named():
    with pytest.raises(SourceError, match="record x is not in the table"):
        attribution_table(RECORDS, ["a", "x"])


def test_the_file_is_read_back_by_anybody(tmp_path):
    table = attribution_table(RECORDS, ["a", "b", "c"])
    write_attribution(table, tmp_path / "attribution.csv")
    with (tmp_path / "attribution.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{name: value or "" for name, value in row.items()} for row in table.to_pylist()]
    write_attribution(attribution_table(RECORDS, []), tmp_path / "none.csv")
    assert (tmp_path / "none.csv").read_text().replace('"', "") == "record_id,author,licence,source_url\n"
