"""`waymark probe` on drawn pictures, through a small network without pretrained weights."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pydantic import TypeAdapter
from ruamel.yaml import YAML
from typer.testing import CliRunner

from tasks.common.validation import validate
from tasks.training.models import ModelEntry, check_entry
from waymark.cli import app
from waymark.errors import ParameterError
from waymark.models.embedding import EmbeddingOptions
from waymark.models.heads import Cells, Neighbours, Prototypes, Softmax
from waymark.models.pooling import Levels
from waymark.probe.entry import apply, entry_of
from waymark.probe.pictures import colour_histogram
from waymark.probe.trial import Fold, Row, Task, divide, interval_of

TOWNS = {"red": (45.0, 16.0), "blue": (45.5, 16.5), "green": (46.0, 17.0)}
SMALL = ("--backbone", "test_resnet", "--weights", "none", "--size", "32")
PARAMS = "# mine\nregion: HRV  # where\nmodels:\n  cells: {epochs: 3}  # short\n"


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["probe", *map(str, arguments)])
    assert result.exit_code == code, (result.stdout, result.stderr)
    return result


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Six pictures of each of three towns, of which each has a colour, in groups of two."""
    folder, rng = tmp_path_factory.mktemp("drawn"), np.random.default_rng(0)
    lines = ["path,latitude,longitude,landmark,group,split"]
    for town, (latitude, longitude) in TOWNS.items():
        for number in range(6):
            picture = Image.new("RGB", (60, 40), town)
            left, top = rng.integers(0, 20, 2).tolist()
            ImageDraw.Draw(picture).rectangle((left, top, left + 12, top + 12), "white")
            picture.save(folder / f"{town}{number}.png")
            moved = latitude + number / 1000, longitude + number / 1000
            side = "test" if number > 3 else "train"
            lines.append(f"{town}{number}.png,{moved[0]},{moved[1]},{town},{town}-{number // 2},{side}")
    (folder / "list.csv").write_text("\n".join(lines))
    return folder


def without(drawn, tmp_path, *columns):
    """Copy the pictures, and the table without some columns."""
    folder = tmp_path / "pictures"
    shutil.copytree(drawn, folder)
    rows = [line.split(",") for line in (folder / "list.csv").read_text().splitlines()]
    kept = [place for place, name in enumerate(rows[0]) if name not in columns]
    (folder / "list.csv").write_text("\n".join(",".join(row[place] for place in kept) for row in rows))
    return folder


@pytest.mark.slow
def test_places_and_landmarks_of_a_table_are_told_by_what_is_seen(drawn):
    found = json.loads(run(drawn, *SMALL, "--json").stdout)
    places, landmarks = found["tasks"]
    assert (places["kind"], landmarks["kind"], found["pictures"]) == ("places", "landmarks", {"ok": 18})
    assert (places["records"], places["folds"]) == (6, 1)  # those of test
    rows = {(row["features"], row["head"]): row for row in places["rows"]}
    assert {features for features, _ in rows} == {
        "resnet",
        "resnet-levels",
        "resnet + resnet-levels",
        "colours",
        "constant",
    }
    assert {head for _, head in rows} == {"neighbours", "cells", "neighbours and cells", ""}
    best, constant = places["rows"][0], rows["constant", ""]
    assert best["mean_km"] < 1 < 30 < constant["mean_km"]
    assert best["low"] <= best["mean_km"] <= best["high"] < constant["low"]
    assert landmarks["rows"][0]["top1"] == 1
    assert rows["colours", "neighbours"]["mean_km"] < 1
    assert (
        "beats always the same answer by more than chance, but does not beat the nearest by colours"
        in places["verdict"]
    )
    assert set(landmarks["entry"]["models"]) == {"probe-landmarks"}


@pytest.mark.slow
def test_without_a_split_groups_are_held_out(drawn, tmp_path):
    result = run(without(drawn, tmp_path, "split", "landmark"), *SMALL)
    assert "18 records in 9 groups, 9-fold cross-validation by group" in result.stdout
    lines = [line.split("  ") for line in result.stdout.splitlines() if line.startswith("resnet")]
    assert any(" m" in line for line in lines[0])  # not km
    assert "target: data/" in result.stdout


@pytest.mark.slow
def test_folders_are_landmarks_where_no_photo_has_a_place(drawn, tmp_path):
    for town in TOWNS:
        (tmp_path / "photos" / town).mkdir(parents=True)
        for number in range(4):
            shutil.copy(drawn / f"{town}{number}.png", tmp_path / "photos" / town / f"{number}.png")
    (tmp_path / "photos/red/broken.png").write_bytes(b"none")
    result = run(tmp_path / "photos", *SMALL)
    assert "landmarks of" in result.stdout
    assert "12 records" in result.stdout
    refused = run(tmp_path / "photos", *SMALL, "--label", "none", code=1)
    assert "has nothing to learn from" in refused.stderr


@pytest.mark.slow
def test_broken_pictures_are_counted(drawn, tmp_path):
    folder = without(drawn, tmp_path, "split", "landmark")
    (folder / "red0.png").write_bytes((folder / "red0.png").read_bytes()[:60])
    result = run(folder, *SMALL)
    assert "1 of 18 pictures cannot be read" in result.stderr
    assert "17 records" in result.stdout


@pytest.mark.slow
def test_the_best_entry_is_written_into_the_params_file(drawn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    folder = without(drawn, tmp_path, "split", "latitude", "longitude")
    run(folder, *SMALL, "--apply", "--name", "towns", "--fit", "crop")
    text = Path("params.yaml").read_text()
    assert text.startswith("# mine\nregion: HRV  # where\nmodels:\n  cells: {epochs: 3}  # short\n")
    written = YAML(typ="safe").load(text)
    name = next(iter(written["embeddings"]))
    TypeAdapter(EmbeddingOptions).validate_json(json.dumps(written["embeddings"][name]))
    assert written["models"]["towns"]["target"] == "data/filtered/landmarks.parquet"
    again = run(folder, *SMALL, "--apply", "--name", "towns", code=1)
    assert "params.yaml has models.towns already" in again.stderr
    assert Path("params.yaml").read_text() == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "nowhere does not exist"),
        ((), "data/filtered/records.parquet does not exist; name a folder or a table of pictures"),
        ((".",), "holds no photo"),
    ],
)
def test_errors_are_one_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments, code=1)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_split_is_kept_and_its_shared_groups_are_noticed():
    groups = np.array([0, 0, 1, 1])
    folds, by_record = divide(groups, ["train", "val", "train", "test"], 1)
    assert [part.tolist() for part in folds[0]] == [[0, 1, 2], [3]]
    assert by_record
    assert not divide(groups, ["train", "val", "test", "test"], 1)[1]


@pytest.mark.parametrize(("units", "folds"), [(12, 12), (40, 5)])
def test_groups_are_never_divided(units, folds):
    groups = np.repeat(np.arange(units), 3)
    found, _ = divide(groups, [None] * len(groups), 1)
    assert len(found) == folds
    for fold in found:
        assert not set(groups[fold.train]) & set(groups[fold.test])
    assert sorted(np.concatenate([fold.test for fold in found])) == list(range(3 * units))
    other = divide(groups, [None] * len(groups), 2)[0]
    assert any(a.test.tolist() != b.test.tolist() for a, b in zip(found, other, strict=True))


def test_an_interval_of_few_groups_is_wider_than_of_as_many_records():
    errors = np.repeat([0.0, 1.0, 0.0, 1.0, 1.0, 0.0], 20)
    of_groups = interval_of(errors, np.repeat(np.arange(6), 20))
    of_records = interval_of(errors, np.arange(120))
    assert of_groups.high - of_groups.low > 2 * (of_records.high - of_records.low)
    assert interval_of(errors, np.zeros(120, int)) is None


def test_a_histogram_counts_colours():
    red, half = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    half[:2, :, 0] = half[2:, :, 2] = 255
    assert np.linalg.norm(colour_histogram(half)) == pytest.approx(1)
    assert colour_histogram(red) @ colour_histogram(half) == pytest.approx(0.5**0.5)


def an_entry(name="probe", head="nearest", kind="landmarks", settings=None):
    target = np.zeros(2, int) if kind == "landmarks" else np.zeros((2, 2))
    task = Task(kind, target, np.arange(2), [Fold(np.array([0]), np.array([1]))])
    options = {"a": EmbeddingOptions(backbone="resnet18", weights="none", pooling=Levels())}
    row = Row("a", head, np.zeros(1), {"whitening": 0.1} if settings is None else settings, 0.0, 0.0)
    return entry_of(task, row, options, name)


@pytest.mark.parametrize(
    ("head", "kind", "settings", "model"),
    [
        ("nearest", "landmarks", {"whitening": 0.1}, Prototypes(whitening=0.1)),
        ("prototypes", "landmarks", {}, Prototypes()),
        ("softmax", "landmarks", {"whitening": 0.1, "C": 3.0}, Softmax(dropout=0.2, label_smoothing=0.1)),
        ("neighbours", "places", {"neighbours": 5, "temperature": 0.2, "whitening": 1.0},
         Neighbours(neighbours=5, temperature=0.2, whitening=1.0)),
        ("neighbours and cells", "places", {"cells": 0.3}, Neighbours()),
        ("cells", "places", {"records_in_cell": 8, "C": 10.0}, Cells()),
    ],
)  # fmt: skip
def test_every_head_of_the_table_is_an_entry_that_the_stages_take(tmp_path, head, kind, settings, model):
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS)
    apply(an_entry(head=head, kind=kind, settings=settings), path)
    written = YAML(typ="safe").load(path)
    assert written["embeddings"]["a"]["pooling"] == {"name": "levels"}
    entry = validate(ModelEntry, {**written["models"]["probe"], "region": None}, "models.probe", ("region",))
    check_entry(entry)
    assert entry.head == model
    apply(an_entry("another", head, kind, settings), path)  # its embeddings are there


@pytest.mark.parametrize(
    ("content", "entry", "message"),
    [
        (PARAMS, an_entry("cells"), "models.cells already"),
        (PARAMS + "embeddings:\n  a: {backbone: vgg16}\n", an_entry(), "embeddings.a already"),
        ("region: HRV\n", an_entry(), "has no section models"),
        ("a: [", an_entry(), "is not valid YAML"),
    ],
)
def test_what_is_there_is_never_replaced(tmp_path, content, entry, message):
    path = tmp_path / "params.yaml"
    path.write_text(content)
    with pytest.raises(ParameterError, match=message):
        apply(entry, path)
    assert path.read_text() == content
