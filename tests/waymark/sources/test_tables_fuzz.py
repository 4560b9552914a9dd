"""Tables as nobody should write them: each is read rightly, or refused in one line that names the file."""

import contextlib
import csv
import io
import math
import os
import random
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from waymark.commands.grid import _divided, _places
from waymark.commands.predict import find_queries
from waymark.commands.score_landmarks import _rows, asks_landmarks, gives_landmarks
from waymark.commands.score_places import _places as _scored_places
from waymark.commands.tables import read_rows
from waymark.data.names import one_form
from waymark.errors import WaymarkError
from waymark.sources import QuadsSource, TableSource
from waymark.sources.guessing import guess_source
from waymark.sources.tables import NO_NUMBER, read_table

SEEDS = range(8)
ROUNDS = 40
PATHS = ("a.jpg", "b/é.jpg", "b/ô ç.jpg", "gone.jpg", "ß.jpg")
NAMES = ("Café", "tower, old", "“quoted”", 'a "b" c', "", "NA", "new\nline", "7", "007", " spaces ", "-1,5")
PLAIN = ("Café", "tower", "", "7", "007", "NA")  # which every code page of Europe writes in the same way
CELLS = (
    *(
        "",
        " ",
        "nan",
        "NA",
        "inf",
        "-inf",
        "1_0",
        "٤٥",
        "45,8",
        "1.234,5",
        "1e999",
        "0x1p3",
        "95",
        "-200",
        "1e400",
        "+4.",
    ),
    *(
        "../x.jpg",
        "/etc/passwd",
        "C:\\x.jpg",
        ".",
        "b",
        "b/",
        "a.jpg/x.jpg",
        "pipe.jpg",
        "out.jpg",
        "dir",
        "\\\\host\\x",
    ),
    *("x" * 300, "é" * 200, "/".join("y" * 50 for _ in range(90)), "z" * 140_000, "a\0b", "\ufeff", "\u202e", "a\nb"),
    *('"', '""', "'", ";", ",", "\t", "sep=;", "=1+1", "True", "[1, 2]", "{}", "None", "a.NEF", "~/a.jpg", "CON"),
)
TOKENS = (
    b"\0",
    b"\xff",
    b"\xfe\xff",
    b"\xef\xbb\xbf",
    b'"',
    b",",
    b";",
    b"\t",
    b"\r",
    b"\n",
    b"\xe9",
    b"PAR1",
    b"sep=;\n",
)
VALUES = (None, 1, 1.5, math.nan, math.inf, True, b"\xff", b"a.jpg", [1, 2], ["a"], {"a": 1}, 10**18, "a\0b", "x" * 300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures, what looks like one, and a secret outside."""
    folder = tmp_path_factory.mktemp("fuzz") / "own"
    for number, name in enumerate(PATHS):
        path = folder / unicodedata.normalize("NFD" if number % 2 else "NFC", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if name != "gone.jpg":
            Image.new("RGB", (4 + number, 3)).save(path)
    (folder.parent / "secret.jpg").write_bytes((folder / "a.jpg").read_bytes())
    (folder / "out.jpg").symlink_to(folder.parent / "secret.jpg")
    (folder / "dir").symlink_to(folder.parent)
    os.mkfifo(folder / "pipe.jpg")
    return folder


def rows_of(draw, names):
    """Draw rows of a table of pictures."""
    return [
        {
            "path": path,
            "latitude": round(draw.uniform(-90, 90), draw.randrange(7)),
            "longitude": round(draw.uniform(-180, 180), draw.randrange(7)),
            "landmark": draw.choice(names),
            "group": draw.choice(names),
        }
        for path in draw.sample(PATHS, draw.randint(1, len(PATHS)))
    ]


def expected(rows):
    def text(value):
        return one_form(value.strip()) or None

    return {row["path"]: (row["latitude"], row["longitude"], text(row["landmark"]), text(row["group"])) for row in rows}


def records_of(path):
    found = TableSource(path).find()
    return {
        row["record_id"]: (row["latitude"], row["longitude"], next(iter(row["landmarks"]), None), row["group"])
        for row in found.fetched.records.to_pylist()
    }


def write_csv(draw, path, rows, encoding=None):
    """Write rows as one of the programs of this world does."""
    separator = draw.choice(",;\t")
    comma = separator != "," and draw.random() < 0.5
    columns = list(rows[0])
    draw.shuffle(columns)
    form = draw.choice(["NFC", "NFD"]) if encoding is None else "NFC"
    text = io.StringIO()
    ending = draw.choice(["\n", "\r\n", "\r"])
    quoting = csv.QUOTE_ALL if ending == "\r" else draw.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    writer = csv.writer(text, delimiter=separator, quoting=quoting, lineterminator=ending)
    padding = draw.choice(["", " "])
    extra = draw.choice([[], [""], ["note"]])
    writer.writerow([*(padding + name for name in columns), *extra])
    for row in rows:
        cells = [_shown(row[name], comma) for name in columns]
        writer.writerow([unicodedata.normalize(form, cell) + padding for cell in cells] + [""] * len(extra))
        if draw.random() < 0.1:
            writer.writerow([""] * (len(columns) + len(extra)))
    head = f"sep={separator}\r\n" if draw.random() < 0.3 else ""
    encoding = encoding or draw.choice(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
    path.write_bytes((head + text.getvalue()).encode(encoding))


def _shown(value, comma):
    text = value if isinstance(value, str) else repr(value)
    return text.replace(".", ",") if comma and not isinstance(value, str) else text


@pytest.mark.parametrize("seed", SEEDS)
def test_a_table_is_the_same_however_it_is_written(folder, seed):
    draw = random.Random(seed)
    for _ in range(ROUNDS):
        western = draw.random() < 0.2
        rows = rows_of(draw, PLAIN if western else NAMES)
        write_csv(draw, folder / "table.csv", rows, "cp1252" if western else None)
        assert records_of(folder / "table.csv") == expected(rows)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    pq.write_table(pa.table(columns), folder / "table.parquet")
    assert records_of(folder / "table.parquet") == expected(rows)


def mutated_rows(draw, rows):
    for _ in range(draw.randint(1, 3)):
        row = draw.choice(rows)
        row[draw.choice(list(row))] = draw.choice(CELLS)
    if draw.random() < 0.2:
        rows = [{draw.choice([name, name.upper(), "lat", "uuid", "id", CELLS[draw.randrange(len(CELLS))]]): value
                 for name, value in row.items()} for row in rows[:1]]  # fmt: skip
    return rows


def mutated_bytes(draw, data):
    data = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(5):
            case 0:
                data[at:at] = draw.choice(TOKENS)
            case 1:
                del data[at : at + draw.randint(1, 20)]
            case 2:
                data[at : at + 1] = bytes([draw.randrange(256)])
            case 3:
                data[at:at] = data[draw.randrange(len(data) + 1) :][: draw.randint(1, 60)]
            case _:
                data = data[:at] if draw.random() < 0.3 else data
    return bytes(data)


def write_mutation(draw, path):
    rows = rows_of(draw, NAMES)
    if path.suffix == ".parquet":
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        if draw.random() < 0.5:
            columns[draw.choice(list(columns))] = [draw.choice(VALUES)] * len(rows)
        with contextlib.suppress(pa.ArrowInvalid):
            pq.write_table(pa.table(columns), path)
        if draw.random() < 0.5:
            path.write_bytes(mutated_bytes(draw, path.read_bytes()))
        return
    if draw.random() < 0.5:
        rows = mutated_rows(draw, rows)
    write_csv(draw, path, rows)
    if draw.random() < 0.5:
        path.write_bytes(mutated_bytes(draw, path.read_bytes()))


def read_by_source(path):
    found = TableSource(path).find()
    check_records(found, path.parent)


def read_by_quads(path):
    table = path.parent.with_name("quads") / "data.csv"
    table.parent.mkdir(exist_ok=True)
    table.write_bytes(path.read_bytes())
    check_records(QuadsSource(table.parent).find(), table.parent)


def check_records(found, root):
    records = found.fetched.records.to_pylist()
    ids = [row["record_id"] for row in records]
    assert len(set(ids)) == len(ids)
    assert all(name == one_form(name) and name == name.strip() != "" for name in ids)
    for row in records:
        for name in ("latitude", "longitude"):
            assert row[name] is None or math.isfinite(row[name])
    for view, path in found.pictures.items():
        assert not {"..", "/"} & set(Path(view).parts)
        assert path.is_file()
        assert path.resolve().is_relative_to(root.resolve())


def read_by_check(path):
    assert guess_source(path.parent) in ("table", "photos")


def read_by_grid(path):
    places = _places(path)
    assert np.isfinite(places[["latitude", "longitude"]].to_numpy()).all()
    _divided(places, path, path)


def read_by_score(path):
    rows = read_rows(path)
    for predicted in (False, True):
        with contextlib.suppress(WaymarkError):
            assert not (_scored_places(rows, predicted=predicted)["latitude"].abs() > 90).any()
    if asks_landmarks(rows) and gives_landmarks(rows):
        _rows(rows, rows)


def read_by_predict(path):
    """What stands in a table is no picture."""
    assert {query.name for query in find_queries(path.parent, "photos")} == set(PATHS) - {"gone.jpg"}


def refusal(read, path):
    try:
        read(path)
    except WaymarkError as error:
        return str(error)
    return None


READERS = (read_by_source, read_by_quads, read_by_check, read_by_grid, read_by_score, read_by_predict)


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
@pytest.mark.parametrize("seed", SEEDS)
def test_any_other_table_is_read_or_refused_in_one_line(folder, seed, name):
    draw = random.Random(seed)
    refused = 0
    for _ in range(ROUNDS):
        for left in folder.glob("table.*"):
            left.unlink()
        write_mutation(draw, folder / name)
        for read in READERS:
            if (said := refusal(read, folder / name)) is not None:
                refused += 1
                assert len(said) < 1000
                assert "\n" not in said
                assert str(folder.parent) in said
    assert refused > ROUNDS / 4


@pytest.mark.parametrize("word", [*NO_NUMBER, *(word.upper() for word in NO_NUMBER)])
def test_words_for_nothing_are_no_numbers(tmp_path, word):
    (tmp_path / "t.csv").write_text(f"x\n{word}\n")
    assert np.isnan(read_table(tmp_path / "t.csv").numbers("x")).all()
