"""The tables of the dataset, against the csv module and made-up ones of the real size."""

import csv
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from closure import ROOT
from gldv2_server import make_dataset

from waymark.errors import SourceError
from waymark.sources.gldv2.metadata import (
    category_name,
    read_attributions,
    read_clean,
    read_ids,
    read_labels,
    read_names,
)

TRAIN, ATTRIBUTION = "metadata/train.csv", "metadata/train_attribution.csv"
SOLUTION = "ground_truth/recognition_solution_v2.1.csv"
CATEGORIES = "metadata/train_label_to_category.csv"

CLASSES, IMAGES = 81_313, 1_580_470  # of the real train_clean.csv
MEASURED = """
import json, sys, time
from pathlib import Path
from waymark.sources.gldv2.choice import Choice
from waymark.sources.gldv2.metadata import read_clean
start = time.perf_counter()
labels = read_clean(Path(sys.argv[1]))
wall_s = time.perf_counter() - start
largest = Choice(largest=27).choose(labels).num_rows
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
peak_gb = int(status["VmHWM"].split()[0]) * 1024 / 1e9  # ru_maxrss would count the parent that forked
first, last = labels.slice(0, 1).to_pylist()[0], labels.slice(labels.num_rows - 1).to_pylist()[0]
print(json.dumps([wall_s, peak_gb, labels.num_rows, largest, first, last]))
"""


@pytest.fixture
def folder(tmp_path):
    for path, content in make_dataset().files.items():
        if path.endswith(".csv"):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_bytes(content)
    return tmp_path


def as_dict(table):
    return {row["id"]: row["landmarks"] for row in table.to_pylist()}


def test_labels_are_those_that_the_csv_module_reads(folder):
    with (folder / TRAIN).open(newline="") as file:
        expected = {row["id"]: [row["landmark_id"]] for row in csv.DictReader(file)}
    assert as_dict(read_labels(folder / TRAIN, TRAIN)) == expected
    with (folder / SOLUTION).open(newline="") as file:
        expected = {row["id"]: row["landmarks"].split() for row in csv.DictReader(file)}
    assert as_dict(read_labels(folder / SOLUTION, SOLUTION)) == expected
    assert sorted(map(len, expected.values())) == [0, 0, 1, 2]
    assert list(as_dict(read_ids(folder / "metadata/test.csv", "metadata/index.csv")).values()) == [[]] * 4


def test_clean_labels_are_those_of_each_row(folder):
    frame = pd.read_csv(folder / "metadata/train_clean.csv", dtype=str)
    expected = {its: [row.landmark_id] for row in frame.itertuples() for its in row.images.split()}
    assert as_dict(read_clean(folder / "metadata/train_clean.csv")) == expected
    assert len(expected) == 9


def test_attributions_survive_commas_quotes_and_line_ends(folder):
    with (folder / ATTRIBUTION).open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    wanted = sorted(rows)[::2]
    found = {row["id"]: row for row in read_attributions(folder / ATTRIBUTION, pa.chunked_array([wanted])).to_pylist()}
    assert sorted(found) == wanted
    for its, row in found.items():
        assert (row["author"], row["licence"], row["source_url"]) == tuple(
            rows[its][name] for name in ("author", "license", "url")
        )


def test_an_author_who_is_not_named_is_null(tmp_path):
    (tmp_path / "a.csv").write_text(f"id,url,author,license,title\n{'a' * 16},u, ,,t\n")
    (row,) = read_attributions(tmp_path / "a.csv", pa.chunked_array([["a" * 16]])).to_pylist()
    assert row == {"id": "a" * 16, "author": None, "licence": None, "source_url": "u"}


def test_names_are_read_from_addresses(folder):
    assert read_names(folder / CATEGORIES, CATEGORIES) == {"10": "Stari Most (Mostar)", "27": "Crkva svetog Đorđa"}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://commons.wikimedia.org/wiki/Category:%C3%89glise_Saint-L%C3%A9ger", "Église Saint-Léger"),
        ("https://commons.wikimedia.org/wiki/Category:AC/DC_Lane", "AC/DC Lane"),
        ("http://commons.wikimedia.org/wiki/Category:St._John%27s:_The_Category:_X", "St. John's: The Category: X"),
        ("Category:50%_off", "50% off"),
        ("", ""),
    ],
)
def test_a_name_is_decoded(url, name):
    assert category_name(url) == name


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("id,url\n0123456789abcdef,u\n", "no table with columns id, landmark_id"),
        ("id,url,landmark_id\n0123456789abcdef,u\n", "no table"),
        ("id,url,landmark_id\n", "lists no image"),
        ("id,url,landmark_id\n0123456789ABCDEF,u,1\n", "'0123456789ABCDEF', which is no id"),
        ("id,url,landmark_id\n../../etc/passwd,u,1\n", "no id of 16 hex digits"),
        ("", "no table"),
    ],
)
def test_what_is_no_table_is_named(tmp_path, content, said):
    (tmp_path / "train.csv").write_text(content)
    with pytest.raises(SourceError, match=said):
        read_labels(tmp_path / "train.csv", TRAIN)


def test_the_real_size_is_read_within_20_seconds_and_2_gb(tmp_path):
    rng = np.random.default_rng(1)
    counts = np.ones(CLASSES, int)
    counts[:5] += 20_000  # beyond any real class
    np.add.at(counts, rng.integers(0, CLASSES, IMAGES - counts.sum()), 1)
    text = rng.bytes(8 * IMAGES).hex()
    ids = [text[start : start + 16] for start in range(0, len(text), 16)]
    ends = counts.cumsum().tolist()
    with (tmp_path / "train_clean.csv").open("w") as file:
        file.write("landmark_id,images\n")
        for landmark, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
            file.write(f"{landmark},{' '.join(ids[begin:end])}\n")
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "train_clean.csv")]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    wall_s, peak_gb, rows, largest, first, last = json.loads(printed)
    assert wall_s < 20
    assert peak_gb < 2
    assert rows == IMAGES
    assert largest == np.sort(counts)[-27:].sum()
    assert first == {"id": ids[0], "landmarks": ["0"]}
    assert last == {"id": ids[-1], "landmarks": [str(CLASSES - 1)]}
