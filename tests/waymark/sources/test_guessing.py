import os

import pytest

from waymark.errors import SourceError
from waymark.sources.guessing import check_source, guess_source


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own/a.jpg").write_bytes(b"?")
    return tmp_path / "own"


@pytest.mark.parametrize(
    ("name", "data", "source"),
    [
        ("list.csv", "path,latitude\n", "table"),
        ("list.csv", "Path;latitude\n", "table"),
        ("list.csv", 'sep=;\n"path";x\n', "table"),
        ("list.csv", "path,broken\na,b,c\n", "table"),
        ("list.tsv", "x\tpath\n", "table"),
        ("list.csv", "paths,latitude\n", "photos"),
        ("._list.csv", "path,latitude\n", "photos"),
        ("list.csv", "", "photos"),
        ("list.parquet", "path,latitude\n", "photos"),
        ("data.csv", "uuid,latitude,longitude,path\n", "quads"),
        ("data.csv", "path,latitude,longitude\n", "table"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_what_lies_there_says_which_source_it_is(folder, name, data, source, encoding):
    (folder / name).write_text(data, encoding=encoding)
    assert guess_source(folder) == source


def test_a_table_that_is_no_file_is_not_opened(folder):
    os.mkfifo(folder / "list.csv")
    assert guess_source(folder) == "photos"


def test_a_folder_is_not_read_in_two_ways(folder):
    """What check takes for a table, the pipeline does not read by EXIF."""
    check_source(folder, "photos")
    (folder / "data.csv").write_text("uuid,latitude,longitude\n")
    check_source(folder, "quads")
    with pytest.raises(SourceError, match=r"own holds data\.csv of quadruplets.*set download\.source to quads"):
        check_source(folder, "photos")
    (folder / "list.csv").write_text("path;latitude\n", encoding="utf-16")
    for source in ("photos", "quads"):
        with pytest.raises(
            SourceError, match=rf"list\.csv lists pictures, which the source {source} would not read; se"
        ):
            check_source(folder, source)
