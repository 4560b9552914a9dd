import hashlib
import math
import os
import unicodedata

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from waymark.errors import SourceError
from waymark.sources import TableSource

HEADER = "path,latitude,longitude,landmark,group,split\n"
ROWS = [
    ("a/one.jpg", 45.815, 15.982, "Sveti Marko", "g1", "train"),
    ("a/two.png", -43.508133, 0.1, None, "g1", "val"),
    ("b c/đak ž.jpg", None, None, "12", None, None),
    ("gone.jpg", 44.1, 15.2, None, None, "test"),
]


def paint(path, size=(24, 16), seed=0, **save):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **save)


@pytest.fixture
def folder(tmp_path):
    """Three pictures, in folders and with names that are not plain ASCII; a fourth is missing."""
    for seed, (path, *_) in enumerate(ROWS[:3]):
        paint(tmp_path / "own" / path, seed=seed)
    return tmp_path / "own"


def write_csv(folder, text, name="photos.csv"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def write_bytes(folder, data):
    (folder / "photos.csv").write_bytes(data)
    return folder / "photos.csv"


def fetch(path, tmp_path, **options):
    return TableSource(path, **options).fetch(tmp_path / "raw")


def snapshot(folder):
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            path.stat().st_mode,
            path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in sorted([folder, *folder.rglob("*")])
    }


def test_csv_and_parquet_give_the_same_records(folder, tmp_path):
    frame = pd.DataFrame(ROWS, columns=HEADER.strip().split(","))
    frame.to_csv(folder / "photos.csv", index=False)
    frame.to_parquet(folder / "photos.parquet")
    of_csv = fetch(folder / "photos.csv", tmp_path).records
    assert of_csv.equals(fetch(folder / "photos.parquet", tmp_path).records)
    assert of_csv.select(["record_id", "latitude", "longitude", "group", "split"]).to_pylist() == [
        {"record_id": path, "latitude": latitude, "longitude": longitude, "group": group, "split": split}
        for path, latitude, longitude, _, group, split in ROWS
    ]
    assert of_csv["landmarks"].to_pylist() == [["Sveti Marko"], [], ["12"], []]


def test_whole_numbers_in_parquet_stay_whole_beside_empty_cells(folder, tmp_path):
    table = pa.table({"path": ["a/one.jpg", "a/two.png"], "landmark": pa.array([7, None], pa.int64())})
    pq.write_table(table, folder / "photos.parquet")  # without what pandas notes for itself
    (folder / "photos.csv").write_text("path,landmark\na/one.jpg,7\na/two.png,\n")
    for name in ("photos.parquet", "photos.csv"):
        assert fetch(folder / name, tmp_path).records["landmarks"].to_pylist() == [["7"], []]


def test_words_that_pandas_takes_for_nothing_are_names(folder, tmp_path):
    table = write_csv(folder, "path,landmark,group\na/one.jpg,NA,None\na/two.png,null,nan\n")
    records = fetch(table, tmp_path).records
    assert records["landmarks"].to_pylist() == [["NA"], ["null"]]
    assert records["group"].to_pylist() == ["None", "nan"]


def test_pictures_are_copied_and_measured(folder, tmp_path):
    write_csv(folder, HEADER + "a/one.jpg,45,16,,,\nb c/đak ž.jpg,,,,,\n")
    fetched = fetch(folder, tmp_path)
    for record in fetched.records.to_pylist():
        copy = tmp_path / "raw" / record["views"][0]["path"]
        assert copy.read_bytes() == (folder / record["record_id"]).read_bytes()
        assert (record["width"], record["height"]) == (24, 16)
    assert fetched.origin["name"] == "table"
    assert fetched.origin["description"] == "2 pictures listed in photos.csv"


def test_no_original_is_touched(folder, tmp_path):
    write_csv(folder, HEADER + "a/one.jpg,45,16,,,\na/two.png,45,16,,,\ngone.jpg,45,16,,,\n")
    (folder / "a/one.jpg").chmod(0o400)
    before = snapshot(folder)
    fetch(folder, tmp_path)
    assert snapshot(folder) == before
    copy = tmp_path / "raw/images/a/one.jpg"
    copy.write_bytes(b"changed")  # the copy is no link to the original
    assert snapshot(folder) == before


def test_a_missing_picture_stays_a_record(folder, tmp_path):
    write_csv(folder, HEADER + "gone.jpg,44.1,15.2,tower,,\na/one.jpg,45,16,,,\n")
    missing = fetch(folder, tmp_path).records.to_pylist()[1]
    assert missing["record_id"] == "gone.jpg"
    assert (missing["latitude"], missing["landmarks"], missing["width"]) == (44.1, ["tower"], None)
    assert not (tmp_path / "raw" / missing["views"][0]["path"]).exists()


@pytest.mark.parametrize(("orientation", "dimensions"), [(1, (24, 16)), (3, (24, 16)), (6, (16, 24)), (8, (16, 24))])
def test_width_and_height_are_as_seen(tmp_path, orientation, dimensions):
    exif = Image.Exif()
    exif[0x0112] = orientation
    paint(tmp_path / "own/turned.jpg", exif=exif)
    write_csv(tmp_path / "own", "path\nturned.jpg\n")
    (record,) = fetch(tmp_path / "own", tmp_path).records.to_pylist()
    assert (record["width"], record["height"]) == dimensions


def test_a_picture_that_is_none_stays_a_record_without_dimensions(tmp_path):
    table = write_csv(tmp_path / "own", "path\nnotes.jpg\n")
    (tmp_path / "own/notes.jpg").write_text("no picture")
    (record,) = fetch(table, tmp_path).records.to_pylist()
    assert record["width"] is None
    assert (tmp_path / "raw/images/notes.jpg").read_text() == "no picture"


def test_only_the_path_is_needed(folder, tmp_path):
    write_csv(folder, "path\na/one.jpg\n")
    (record,) = fetch(folder, tmp_path).records.to_pylist()
    assert record["views"] == [{"path": "images/a/one.jpg", "heading_deg": None}]
    assert [record[name] for name in ("latitude", "longitude", "group", "split")] == [None] * 4


def test_a_table_of_a_spreadsheet_is_read(folder, tmp_path):
    """With a byte-order mark, spaces around cells, Windows paths and a column without a name."""
    table = folder / "photos.csv"
    table.write_bytes(b"\xef\xbb\xbfpath,latitude,longitude,\r\n a\\one.jpg , 45.5 ,16,\r\n./a//two.png,44,15,\r\n")
    records = fetch(table, tmp_path).records
    assert records["record_id"].to_pylist() == ["a/one.jpg", "a/two.png"]
    assert records["latitude"].to_pylist() == [45.5, 44]
    assert records["width"].to_pylist() == [24, 24]


def test_a_word_for_nothing_is_an_empty_cell(folder, tmp_path):
    write_csv(folder, "path,latitude,longitude\na/one.jpg,,16\na/two.png,NaN,n/a\n")
    one, two = fetch(folder, tmp_path).records.to_pylist()
    assert (one["latitude"], one["longitude"]) == (None, 16)
    assert (two["latitude"], two["longitude"]) == (None, None)


def test_the_table_of_a_european_excel_is_read(folder, tmp_path):
    """With semicolons, decimal commas, `sep=` and another encoding; paths on the disk may be in another form."""
    paint(folder / unicodedata.normalize("NFD", "Café/één.jpg"))
    text = "sep=;\r\npath;latitude;longitude;landmark\r\nCafé/één.jpg;45,5;-16;Café\r\na/one.jpg;44,25;15,5;\r\n"
    records = [
        fetch(write_bytes(folder, text.encode(encoding)), tmp_path).records
        for encoding in ("utf-8-sig", "utf-16", "cp1252")
    ]
    assert records[0].equals(records[1])
    assert records[0].equals(records[2])
    cafe, one = records[0].to_pylist()
    assert (cafe["record_id"], cafe["latitude"], cafe["longitude"]) == ("Café/één.jpg", 45.5, -16)
    assert (cafe["landmarks"], cafe["width"]) == (["Café"], 24)
    assert (one["latitude"], one["longitude"], one["width"]) == (44.25, 15.5, 24)


def test_what_is_missing_is_counted(folder, tmp_path):
    (folder / "broken.jpg").symlink_to("nowhere.jpg")
    table = write_csv(folder, "path\ngone.jpg\na/one.jpg\nbroken.jpg\nnowhere/x.jpg\n")
    assert fetch(table, tmp_path).counts == {"missing_pictures": 3}


def test_a_link_is_followed_within_the_folder_only(folder, tmp_path):
    paint(tmp_path / "secret.jpg")
    (folder / "in.jpg").symlink_to("a/one.jpg")
    (folder / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "elsewhere").symlink_to(tmp_path)
    assert fetch(write_csv(folder, "path\nin.jpg\n"), tmp_path).records["width"].to_pylist() == [24]
    for name in ("out.jpg", "elsewhere/secret.jpg"):
        with pytest.raises(SourceError, match=f"row 2: path '{name}' leads out of the folder by a link; copy"):
            fetch(write_csv(folder, f"path\n{name}\n"), tmp_path)
    table = write_csv(tmp_path, "path\nx\n", "else.csv")
    (folder / "linked.csv").symlink_to(table)
    with pytest.raises(SourceError, match=r"linked\.csv leads out of .*own"):
        fetch(folder, tmp_path, file="linked.csv")
    assert not list(tmp_path.rglob("raw/**/secret.jpg"))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("a", "is a folder; name one picture"),
        (".", "is a folder"),
        ("a/one.jpg/x.jpg", "goes through 'a/one.jpg', which is no folder"),
        ("x" * 256 + ".jpg", "is too long; a name has at most 255 bytes"),
        ("đ" * 128, "is too long"),
        ("/".join(["x" * 200] * 20), "is too long; .* a path 3500"),
        ("C:\\own\\a.jpg", "leads out of the folder"),
        ("pipe.jpg", "is a pipe, socket or device"),
        ("a/one.NEF", "is one of the raw files, which are not decoded; name a JPEG"),
        ("a/one.mp4", "is one of the videos files"),
    ],
)
def test_a_path_that_names_no_picture_is_refused_by_its_row(folder, tmp_path, path, said):
    os.mkfifo(folder / "pipe.jpg")
    with pytest.raises(SourceError, match=f"photos.csv, row 3: path '.*{said}") as raised:
        fetch(write_csv(folder, f'path\na/one.jpg\n"{path}"\n'), tmp_path)
    assert len(str(raised.value)) < 400
    assert not (tmp_path / "raw").exists()


def test_cells_of_parquet_that_are_no_text_are_refused_by_their_row(folder, tmp_path):
    for column, cells, said in (
        ("landmark", [["a"], ["b"]], "row 1: landmark is a list"),
        ("path", [b"a/one.jpg", b"\xff"], "row 2: path is no text but bytes"),
        ("path", ["a/one.jpg", "a\0b"], "row 2: path .* holds a NUL"),
        ("latitude", [True, False], "row 1: latitude is 'True', no number"),
        ("latitude", [1.0, math.inf], "row 2: latitude is infinite, no number"),
    ):
        columns = {"path": ["a/one.jpg", "a/two.png"], "latitude": [1.0, 2.0], "longitude": [1, 2], column: cells}
        pq.write_table(pa.table(columns), folder / "photos.parquet")
        with pytest.raises(SourceError, match=rf"photos\.parquet, {said}"):
            fetch(folder / "photos.parquet", tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,latitude,longitude\nx,1,2\n", "has no column path .*it must name each picture"),
        ("paths\nx\n", "has no column path .did you mean 'paths'"),
        ("path;latitude;longitude\nx;1,5;2\ny;1.5;2", "row 2: latitude has a decimal comma, and row 3 a point"),
        ("path;latitude;longitude\nx;1.234,5;2\n", "row 2: latitude is '1.234,5', no number"),
        ("path,latitude;longitude\nx,1;2\n", "may be separated by commas or semicolons; write sep=; or sep=,"),
        ("path,latitude,longitude\nx,somewhere,2\n", "row 2: latitude is 'somewhere', no number"),
        ("path,latitude,longitude\nx,1_0,2\n", "row 2: latitude is '1_0', no number"),
        ("path,latitude,longitude\nx,1,\u0664\u0665\n", "row 2: longitude is '\u0664\u0665', no number"),
        ("path,latitude,longitude\nx,1,-inf\n", "row 2: longitude is '-inf', no number"),
        ("path,latitude,longitude\nx,1,1e999\n", "row 2: longitude is '1e999', no number"),
        ("path,latitude,longitude\n\nx,1,0x10\n", "row 3: longitude is '0x10', no number"),
        ("path,Latitude,latitude,longitude\nx,1,1,2\n", "columns 'Latitude' and 'latitude', which differ in capitals"),
        ("path,latitude,longitude, latitude\nx,1,2,1\n", "has the column 'latitude' twice"),
        ("path,latitude,longitude\nx,1\n", "rows with fewer cells than its header"),
        ('path,landmark\nx,"tower\n', "a quote that is never closed"),
        ("path,landmark\nx," + "y" * 140_000, "field larger than field limit"),
        ("path\na\0.jpg\n", "line 2 holds a NUL"),
        ("\n\npath\nx\n", "its first row names no column"),
        ("path\nCaf\u00e9\nCafe\u0301\n", "row 3: duplicate record_id 'Café', as in row 2"),
        ("Path,latitude,longitude\nx,1,2\n", "has a column 'Path', which is not read; call it path"),
        ("path,latitude\nx,1\n", "has a column latitude but no longitude"),
        ("path,longitude\nx,1\n", "has a column longitude but no latitude"),
        ("path,lat\nx,1\n", "has a column 'lat', which is not read; call it latitude"),
        ("path,lat,lon\nx,1,2\n", "has a column 'lat', which is not read; call it latitude"),
        ("path,latitude,Lng\nx,1,2\n", "has a column 'Lng', which is not read; call it longitude"),
        ("path,latitude,longitude\n", "lists no picture"),
        ("", "cannot be read as a table"),
        ('path,latitude,longitude\nx,"45,8",16\n', "row 2: latitude '45,8' has a comma; write decimals with a point"),
        ('path,latitude,longitude\nx,45,16\ny,45,"16,2"\n', "row 3: longitude '16,2' has a comma"),
        (
            "path,latitude,longitude\nx,45,8,15,9\n",
            "rows with more cells than its header; quote .* decimals",
        ),
        ("path,latitude,longitude\nx,45,8\ny,45,8,15,9\n", "cannot be read as a table: .*line 3"),
        ("path\n../secret.jpg\n", r"row 2: path '\.\./secret\.jpg' leads out of the folder"),
        ("path\na/../../secret.jpg\n", "row 2: .* leads out of the folder"),
        ("path\n..\\secret.jpg\n", "row 2: .* leads out of the folder"),
        ("path\nx\n/etc/hostname\n", "row 3: path '/etc/hostname' leads out of the folder"),
        ("path,group\n,g\n", "row 2: path is empty"),
        ("path\nx\nx\n", "duplicate record_id 'x'"),
        ("path\nx/y\n./x//y\n", "duplicate record_id 'x/y'"),
    ],
)
def test_a_table_that_is_wrong_gets_one_clear_line(tmp_path, text, said):
    table = write_csv(tmp_path / "own", text)
    (tmp_path / "secret.jpg").write_bytes(b"not yours")
    with pytest.raises(SourceError, match=said) as raised:
        fetch(table, tmp_path)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.rglob("raw/**/secret.jpg"))


def test_bytes_that_are_no_table_are_refused(tmp_path):
    for name in ("photos.csv", "photos.parquet"):
        (tmp_path / name).write_bytes(b"\xff\xfe\x00PAR1" * 50)
        with pytest.raises(SourceError, match=f"{name} cannot be read as a table"):
            fetch(tmp_path / name, tmp_path)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"nowhere does not exist; set download.path"):
        fetch(tmp_path / "nowhere", tmp_path)


def test_a_folder_with_no_table_or_several_says_what_it_holds(folder, tmp_path):
    with pytest.raises(SourceError, match=r"it holds none; name it in download.table.file"):
        fetch(folder, tmp_path)
    write_csv(folder, "path\na/one.jpg\n", "b.csv")
    write_csv(folder, "path\na/two.png\n", "a.CSV")
    with pytest.raises(SourceError, match=r"it holds a\.CSV, b\.csv; name it"):
        fetch(folder, tmp_path)
    assert fetch(folder, tmp_path, file="b.csv").records["record_id"].to_pylist() == ["a/one.jpg"]
    with pytest.raises(SourceError, match=r"has no c\.csv; set download.table.file"):
        fetch(folder, tmp_path, file="c.csv")
