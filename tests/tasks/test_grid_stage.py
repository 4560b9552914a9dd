"""The stages `grid` and `grids`: squares or a quadtree, learnt from training records alone."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from small import run

from tasks.grid import STAGE, grid_places
from tasks.grids import STAGE as GRIDS
from tasks.grids import grids
from waymark.data.records import write_table
from waymark.errors import ParameterError
from waymark.geo import build_grid, build_quadtree, load_region

CRS = "EPSG:3765"
SQUARES = {"spacing_m": 40_000, "spacing_deg": None, "cells": None}
QUADTREE = {**SQUARES, "kind": "quadtree", "min_records": 4, "max_records": 9, "min_spacing_m": 2_000}


@pytest.fixture
def records():
    """Training records around Zagreb, others around Split."""
    rng = np.random.default_rng(8)
    lat_lon = np.concatenate([rng.normal((45.8, 16.0), 0.1, (80, 2)), rng.normal((43.6, 16.5), 0.1, (80, 2))])
    ids = [f"place-{number:03d}" for number in range(160)]
    split = ["train"] * 80 + ["val", "test", "unused", "test"] * 20
    return pd.DataFrame({"record_id": ids, "latitude": lat_lon[:, 0], "longitude": lat_lon[:, 1], "split": split})


@pytest.fixture
def folder(records, tmp_path, monkeypatch):
    """A checkout with what the stages before have written; the split's rows are in another order."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "projected").mkdir(parents=True)
    (tmp_path / "data" / "split").mkdir()
    places = pa.Table.from_pandas(records.drop(columns="split"), preserve_index=False)
    write_table(places.replace_schema_metadata({"crs": CRS}), tmp_path / "data/projected/places.parquet")
    records.iloc[::-1][["record_id", "split"]].to_parquet(tmp_path / "data/split/records.parquet")
    return tmp_path


def settings(section, region="HRV"):
    return STAGE.read({"region": region, "grid": section})


def written(at="data/grid"):
    cells = gpd.read_parquet(f"{at}/cells.parquet")
    return cells, pd.read_parquet(f"{at}/places.parquet").set_index("record_id")["cell"]


def test_squares_need_no_split(folder):
    (folder / "data/split/records.parquet").unlink()
    grid_places(settings(SQUARES))
    cells, cell = written()
    assert len(cells) == len(build_grid(load_region("HRV"), spacing_m=40_000, crs=CRS)) == 75
    assert len(cell) == 160


def test_a_quadtree_is_learnt_from_the_training_records_alone(folder, records):
    grid_places(settings(QUADTREE))
    cells, cell = written()
    training = records[records["split"] == "train"]
    expected = build_quadtree(
        load_region("HRV"), training[["latitude", "longitude"]], spacing_m=40_000, min_records=4, max_records=9,
        min_spacing_m=2_000, crs=CRS,
    )  # fmt: skip
    assert [shape.wkb for shape in cells.geometry] == [shape.wkb for shape in expected.geometry]
    counts = cell[training["record_id"]].value_counts()
    assert counts.min() >= 4
    assert len(counts) > 5
    others = cells.loc[np.unique(cell[records.loc[records["split"] != "train", "record_id"]])]
    assert (others.length == 4 * 40_000).all()  # no square is cut for records of val and test
    assert len(cell) == len(records)


@pytest.mark.parametrize("key", ["min_records", "max_records", "min_spacing_m", "spacing_m"])
def test_each_key_of_a_quadtree_changes_it(folder, key):
    grid_places(settings(QUADTREE))
    before, _ = written()
    grid_places(settings(QUADTREE | {key: {"min_records": 9, "max_records": 30}.get(key, 10_000)}))
    after, _ = written()
    assert set(before.geometry.to_wkb()) != set(after.geometry.to_wkb())


def test_the_kind_alone_makes_a_quadtree_of_the_squares(folder):
    grid_places(settings(SQUARES | {"kind": "quadtree"}))
    cells, cell = written()
    counts = cell[[f"place-{number:03d}" for number in range(80)]].value_counts()
    assert counts.min() >= 20
    assert len(counts) > 1
    assert (cells.length == 4 * 40_000).sum() > 60
    assert cells.length.min() < 4 * 40_000


def test_a_spacing_below_the_smallest_side_is_the_smallest_side(folder):
    grid_places(settings(SQUARES | {"kind": "quadtree", "spacing_m": 900, "min_records": 1}, region=None))
    assert written()[0].length.min() == 4 * 900


@pytest.mark.parametrize("section", [SQUARES, QUADTREE], ids=["squares", "quadtree"])
def test_without_a_region_only_squares_with_a_record_are_laid(folder, records, section):
    grid_places(settings(section, region=None))
    cells, cell = written()
    assert len(cell) == len(records)
    if section is SQUARES:
        assert sorted(cell.unique()) == cells["cell"].tolist()
    assert cells.area.sum() < 30 * 40_000**2  # the extent has about 100 such squares


def test_further_grids_have_folders_of_their_own(folder):
    (folder / "params.yaml").write_text(
        "region: HRV\ngrids:\n  fine: {spacing_m: 20000}\n  tree: {kind: quadtree, spacing_m: 40000, min_records: 5}\n"
    )
    result = run(folder, "grids", "fine")
    assert result.returncode == 0, result.stderr
    grids("tree", GRIDS.read({"region": "HRV", "grids": {"tree": QUADTREE}}, "tree"))
    assert len(written("data/grids/fine")[0]) > 200
    assert written("data/grids/tree")[0].length.min() < 4 * 20_000
    result = run(folder, "grids", "fien")
    assert result.returncode == 1
    assert "params.yaml has no grids.fien; did you mean 'fine'?" in result.stderr


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "one of spacing_m, spacing_deg and cells must be set, not none of them"),
        ({"spacing_m": 1_000, "cells": 5}, "not spacing_m and cells"),
        ({"kind": "quadtree", "cells": 5}, "cells is for kind: squares; kind: quadtree uses spacing_m"),
        ({"kind": "quadtree", "spacing_deg": 0.5}, "spacing_deg is for kind: squares"),
        ({"kind": "quadtrees", "spacing_m": 1_000}, r"grid\.kind: .*'squares' or 'quadtree'"),
        ({"spacing_m": 1_000, "min_records": 0}, r"grid\.min_records"),
        ({"spacing_m": 1_000, "min_recrods": 5}, "did you mean 'min_records'"),
    ],
)
def test_keys_that_do_not_fit_are_named(section, message):
    with pytest.raises(ParameterError, match=message):
        settings(section)
