"""Folders of quadruplets and of photos through the stages that read them."""

import json
import logging
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from closure import ROOT
from PIL import Image
from ruamel.yaml import YAML
from small import run, write_params

from tasks.download import STAGE, choose_source, download
from waymark.errors import ParameterError, SourceError
from waymark.sources import PhotosSource, QuadsSource
from waymark.sources.guessing import guess_source


def settings(**download):
    document = YAML(typ="safe").load(ROOT / "params.yaml")
    document["download"].update(download)
    return STAGE.read(document)


def paint(path, seed, **save):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(path, **save)


def quads(folder, count, first=0):
    numbers = range(first, first + count)
    rows = [f"place{number},{45.4 + number / 100},{16 + number / 50},pano{number}" for number in numbers]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.csv").write_text("\n".join(["uuid,latitude,longitude,panorama_id", *rows]))
    for number in numbers:
        for heading in (0, 90, 180, 270):
            paint(folder / f"images/place{number}/{heading}.jpg", 1000 * number + heading)


def photos(folder, count):
    for number in range(count):
        exif = Image.Exif()
        exif.get_ifd(0x8825).update({1: "N", 2: (45.0, 24.0 + number, 0.0), 3: "E", 4: (16.0, number, 0.0)})
        paint(folder / f"trip{number % 2}/{number}.jpg", number, exif=exif)


def test_the_settings_reach_the_source(tmp_path):
    quads(tmp_path / "b", 1)
    section = {"folders": ["b"], "missing_views": "drop"}
    chosen = choose_source(settings(source="quads", path=str(tmp_path), quads=section))
    assert chosen == QuadsSource(tmp_path, folders=("b",), missing_views="drop")
    section = {"label": "folder", "group": "none", "heading": True}
    photos(tmp_path / "c", 1)
    chosen = choose_source(settings(source="photos", path=str(tmp_path / "c"), photos=section))
    assert chosen == PhotosSource(tmp_path / "c", label="folder", group="none", heading=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"source": "quads", "path": "nowhere"},
            r"nowhere does not exist; set download\.path to the folder .*data\.csv",
        ),
        (
            {"source": "photos", "path": "nowhere"},
            r"nowhere does not exist; set download\.path to the folder of your ph",
        ),
        ({"source": "quads", "path": "docs"}, r"docs has no data\.csv, nor has a folder in it"),
        ({"source": "quads", "path": "docs", "quads": {"folders": ["x"]}}, r"download\.quads\.folders: docs/x has no"),
        ({"path": "~/photos"}, r"download\.path ~/photos begins with ~, which DVC does not expand; write /.*/photos$"),
        (
            {"source": "photos", "path": "x" * 5000},
            r"download\.path: .* is no path that a disk can hold; give that of a file or folder",
        ),
        ({"path": ["a", "b"]}, r"download\.path: DVC watches one path; .*name them in download\.quads\.folders"),
        ({"quads": {"folders": []}}, r"download\.quads\.folders: must name each folder once, or be null"),
        ({"quads": {"folders": ["a", "a"]}}, r"download\.quads\.folders: must name each folder once"),
        ({"quads": {"missing": "keep"}}, r"unknown key download\.quads\.missing; did you mean 'missing_views'"),
        ({"quads": {"missing_views": "mask"}}, r"download\.quads\.missing_views: .*'keep' or 'drop'"),
        ({"photos": {"label": "file"}}, r"download\.photos\.label: .*'none' or 'folder'"),
        ({"photos": {"group": "day"}}, r"download\.photos\.group: .*'folder_day', 'folder' or 'none'"),
        ({"photos": {"heading": 1}}, r"download\.photos\.heading: must be true or false"),
    ],
)
def test_what_is_wrong_is_named_before_anything_runs(monkeypatch, changes, said):
    monkeypatch.chdir(ROOT)
    with pytest.raises((ParameterError, SourceError), match=said):
        settings(**changes)


def test_a_path_in_another_form_than_on_the_disk_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    composed, decomposed = (unicodedata.normalize(form, "Café/é") for form in ("NFC", "NFD"))
    photos(tmp_path / decomposed, 1)
    for path in (composed, f"{tmp_path}/{composed}"):
        with pytest.raises(SourceError, match="has another Unicode form on the disk; rename it"):
            settings(source="photos", path=path)
    settings(source="photos", path=decomposed)


def test_a_folder_is_read_in_one_way_by_check_and_by_the_pipeline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "input", 2)
    assert guess_source(Path("input")) == "photos"
    settings(source="photos", path="input")
    (tmp_path / "input/list.csv").write_text("path;latitude;longitude\ntrip0/0.jpg;45,5;16,5\n")
    assert guess_source(Path("input")) == "table"
    with pytest.raises(SourceError, match=r"input/list\.csv lists pictures, .*set download\.source to table"):
        settings(source="photos", path="input")
    chosen = settings(source="table", path="input")
    (record,) = choose_source(chosen).fetch(tmp_path / "raw").records.to_pylist()
    assert (record["latitude"], record["longitude"]) == (45.5, 16.5)


def stages(folder, **changes):
    write_params(folder, region=None, crs="auto", download__path="input", **changes)
    for stage in ("download", "filter", "resize"):
        result = run(folder, stage)
        assert result.returncode == 0, result.stderr
    return result


def test_quads_run_up_to_the_shards(tmp_path):
    quads(tmp_path / "input/2023", 5)
    quads(tmp_path / "input/2024", 4, first=3)
    (tmp_path / "input/2023/images/place1/180.jpg").unlink()
    stages(tmp_path, download__source="quads")
    counts = json.loads((tmp_path / "data/raw/source.json").read_text())["counts"]
    assert counts == {
        "records": 7,
        "pictures": 27,
        "landmarks": 0,
        "folders": 2,
        "duplicates_by_uuid": 2,
        "duplicates_by_panorama": 0,
        "missing_views": 1,
        "incomplete_places": 1,
        "dropped_places": 0,
        "folders_without_row": 0,
    }
    index = pd.read_parquet(tmp_path / "data/shards/index.parquet")
    assert index.groupby("record_id").size().to_dict() == {f"place{n}": 3 if n == 1 else 4 for n in range(7)}
    assert set(index["status"]) == {"ok"}


def test_photos_run_up_to_the_shards(tmp_path):
    photos(tmp_path / "input", 6)
    (tmp_path / "input/README.md").write_text("my photos")
    stages(tmp_path, download__source="photos", download__photos={"label": "folder"})
    counts = json.loads((tmp_path / "data/raw/source.json").read_text())["counts"]
    assert counts == {"records": 6, "pictures": 6, "landmarks": 2, "skipped_others": 1, "with_gps": 6}
    records = pq.read_table(tmp_path / "data/filtered/records.parquet").to_pylist()
    assert [row["latitude"] for row in records] == pytest.approx([45 + (24 + n) / 60 for n in (0, 2, 4, 1, 3, 5)])
    assert pd.read_parquet(tmp_path / "data/shards/index.parquet")["status"].tolist() == ["ok"] * 6


def test_a_table_that_fails_leaves_the_last_download(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quads(tmp_path / "input", 2)
    chosen = settings(source="quads", path="input")
    logging.disable(logging.INFO)
    download(chosen)
    logging.disable(logging.NOTSET)
    before = (tmp_path / "data/raw/source.json").read_bytes()
    (tmp_path / "input/data.csv").write_text("uuid,latitude,longitude\n../secret,45,16\n")
    with pytest.raises(SourceError, match="leads out of the folder"):
        download(chosen)
    assert (tmp_path / "data/raw/source.json").read_bytes() == before
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["raw"]
