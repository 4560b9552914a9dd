"""The stage `split` on made-up records: copies, groups and the counts of landmarks."""

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tasks.split import Split, split
from waymark.data.records import landmarks_table, records_table, write_table
from waymark.images.shards import INDEX_SCHEMA

NUMBER = 120
PIXELS = 16 * 16
NAMES = {"arch": "The Arch", "dome": "The Dome", "well": "The Well"}


def rows():
    """Records of three landmarks and of none; every tenth has a further landmark."""
    for number in range(NUMBER):
        landmarks = [[], ["arch"], ["arch"], ["dome"]][number % 4] + (["well"] if number % 10 == 4 else [])
        yield {
            "record_id": f"r{number:03}",
            "views": [{"path": f"images/{number}.jpg", "heading_deg": None}],
            "landmarks": landmarks,
            "group": f"clip-{number // 3}" if number < 60 else None,
            "split": ["train", "train", "val", "test", None][number % 5],
        }


def index(same=()):
    """An index in which no picture looks like another, but for pairs of which the second copies the first."""
    rng = np.random.default_rng(1)
    table = [
        {"record_id": f"r{number:03}", "view": 0, "shard": 0, "row": number, "status": "ok",
         "perceptual_hash": f"{int(rng.integers(2**62, 2**63)):016x}", "channel_min": [0] * 3, "channel_max": [255] * 3,
         "channel_sum": [100 * PIXELS] * 3, "channel_sum_squares": [(100**2 + 30**2) * PIXELS] * 3}
        for number in range(NUMBER)
    ]  # fmt: skip
    for source, copy in same:
        table[copy]["perceptual_hash"] = f"{int(table[source]['perceptual_hash'], 16) ^ 0b101:016x}"
    return pa.Table.from_pylist(table, INDEX_SCHEMA).replace_schema_metadata({"size_px": "16"})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("filtered", "shards", "projected"):
        (tmp_path / "data" / name).mkdir(parents=True)
    records = records_table(rows())
    write_table(records, tmp_path / "data/filtered/records.parquet")
    write_table(landmarks_table(records, NAMES), tmp_path / "data/filtered/landmarks.parquet")
    write_table(index(), tmp_path / "data/shards/index.parquet")
    return tmp_path


def divided(by, same=(), **settings):
    """Run the stage; the pairs look alike."""
    write_table(index(same), "data/shards/index.parquet")
    split(Split(by=by, fractions=settings.pop("fractions", (0.7, 0.15, 0.15)), **settings))
    return pd.read_parquet("data/split/records.parquet").set_index("record_id")


def alike(by, **settings):
    """Two training records, the second of which looks like one of test; and one of val that looks like it, too."""
    its = divided(by, **settings)["split"]
    numbers = {name: [int(its_id[1:]) for its_id in its.index[its == name]] for name in ("train", "val", "test")}
    tested, trained = numbers["test"][0], numbers["train"][5]
    return trained, [(tested, trained), (tested, numbers["val"][0]), (numbers["train"][7], numbers["train"][8])]


@pytest.mark.parametrize(
    ("by", "duplicates", "yields"),
    [
        ("hash", None, True),
        ("stratified", None, True),
        ("column", None, False),
        ("hash", "keep", False),
        ("column", "yield", True),
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_training_copy_yields_where_it_is_wanted_and_nobody_else(by, duplicates, yields, caplog):
    before = divided(by)
    trained, same = alike(by)
    caplog.clear()
    after = divided(by, same, duplicates=duplicates)
    changed = after.index[(after["split"] != before["split"])].tolist()
    assert changed == ([f"r{trained:03}"] if yields else [])
    said = [message for message in caplog.messages if "train has 1 near-duplicates of val or test" in message]
    assert len(said) == (not yields)
    if yields:
        assert after.loc[f"r{trained:03}"].tolist() == ["unused", "near-duplicate of a record in val or test"]


@pytest.mark.usefixtures("folder")
def test_statistics_are_those_of_what_is_trained_on():
    _, same = alike("hash")
    for duplicates in ("yield", "keep"):
        its = divided("hash", same, duplicates=duplicates)
        statistics = json.loads(Path("data/split/statistics.json").read_text())
        assert statistics["pictures"] == (its["split"] == "train").sum()
        assert statistics["mean"] == [100.0] * 3


@pytest.mark.usefixtures("folder")
def test_groups_on_both_sides_are_named_under_column_only(caplog):
    its = divided("column")
    records = pd.DataFrame(rows()).set_index("record_id").dropna(subset="group")
    used = its.loc[records.index, "split"].replace("unused", None).dropna()
    sides = used.groupby(records["group"][used.index]).nunique()
    shared = records["group"].isin(sides.index[sides > 1])
    held_out = its.loc[records.index, "split"].isin(["val", "test"]) & shared
    assert f"{(sides > 1).sum()} groups are in several splits, with {held_out.sum()} records" in caplog.text
    assert 0 < (sides > 1).sum() < len(sides)
    for by in ("hash", "stratified"):
        caplog.clear()
        its = divided(by)
        assert its.loc[records.index, "split"].groupby(records["group"]).nunique().max() == 1
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("by", ["hash", "stratified", "column"])
@pytest.mark.usefixtures("folder")
def test_landmarks_are_counted_by_split_and_by_the_first_label(by):
    its = divided(by)
    table = pd.read_parquet("data/split/landmarks.parquet")
    assert table.columns.tolist() == ["landmark", "name", "train", "val", "test"]
    first = {row["record_id"]: row["landmarks"][0] if row["landmarks"] else None for row in rows()}
    expected = []
    for landmark in sorted({name for name in first.values() if name}):
        splits = [its.loc[record_id, "split"] for record_id, name in first.items() if name == landmark]
        expected.append([landmark, NAMES[landmark], *(splits.count(name) for name in ("train", "val", "test"))])
    assert table.to_numpy().tolist() == [row for row in expected if sum(row[2:])]
    assert len(table) == (2 if by == "column" else 3)  # the column says nothing of the well


@pytest.mark.usefixtures("folder")
def test_records_without_any_landmark_leave_an_empty_table():
    records = records_table([{**row, "landmarks": []} for row in rows()])
    write_table(records, "data/filtered/records.parquet")
    write_table(landmarks_table(records), "data/filtered/landmarks.parquet")
    for by in ("hash", "stratified"):
        divided(by)
        table = pd.read_parquet("data/split/landmarks.parquet")
        assert (len(table), table.columns.tolist()) == (0, ["landmark", "name", "train", "val", "test"])


@pytest.mark.usefixtures("folder")
def test_stratified_gives_each_landmark_its_share_and_training_first():
    its = divided("stratified", fractions=(0.8, 0.1, 0.1))
    table = pd.read_parquet("data/split/landmarks.parquet").set_index("landmark")
    for landmark in ("arch", "dome"):
        train, val, test = table.loc[landmark, ["train", "val", "test"]]
        assert abs(val + test - 0.2 * (train + val + test)) <= 3  # clips of three
    assert (its["split"] == "train").sum() == pytest.approx(0.8 * NUMBER, abs=2)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("torn", [True, False])
def test_val_is_drawn_from_train_as_the_datas_own_test_was(torn, caplog):
    """By record where groups stand on both sides, else by group; test stays as it is."""
    made = [{**row, "group": f"clip-{number // 3}"} for number, row in enumerate(rows())]
    for number, row in enumerate(made):
        row["split"] = "test" if (number % 5 == 0 if torn else number // 3 % 5 == 0) else "train"
    write_table(records_table(made), "data/filtered/records.parquet")
    its = divided("column", fractions=(0.8, 0.2, 0.0))
    given = pd.DataFrame(made).set_index("record_id")
    assert its.index[its["split"] == "test"].tolist() == given.index[given["split"] == "test"].tolist()
    val = its["split"] == "val"
    assert 0.1 < val.sum() / (given["split"] == "train").sum() < 0.3
    assert set(its.loc[val, "reason"]) == {"column: drawn from train"}
    used = its["split"][given["split"] == "train"]
    assert (used.groupby(given["group"][used.index]).nunique().max() == 1) != torn
    assert f"the data has no val; {val.sum()} records of train become val" in caplog.text
    assert "val" not in set(divided("column", fractions=(1.0, 0.0, 0.0))["split"])
