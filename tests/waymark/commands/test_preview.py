"""Grids to choose from, as a table and as the command prints them."""

import numpy as np
import pandas as pd
import pytest
from pyproj import Geod

from waymark.commands.grid import grid_preview
from waymark.commands.grid_preview import preview_grids, preview_table
from waymark.errors import GridError, SourceError, WaymarkError
from waymark.geo import assign_cells, build_grid, build_quadtree, load_region, project, unproject

CRS = "EPSG:3765"
SPHERE = Geod(a=6_371_008.8, b=6_371_008.8)


def km(one, other):
    return SPHERE.inv(one[:, 1], one[:, 0], other[:, 1], other[:, 0])[2] / 1000


@pytest.fixture(scope="module")
def croatia():
    return load_region("HRV")


@pytest.fixture(scope="module")
def records():
    rng = np.random.default_rng(6)
    return np.concatenate([rng.normal((45.7, 16.0), 0.2, (150, 2)), rng.normal((43.7, 16.4), 0.2, (150, 2))])


@pytest.fixture(scope="module")
def previews(croatia, records):
    return preview_grids(croatia, records, spacings_km=[20, 40], min_records=[15], crs=CRS)


def test_grids_are_those_that_the_stage_would_build(previews, croatia, records):
    expected = {
        "20 km": build_grid(croatia, spacing_m=20_000, crs=CRS),
        "40 km": build_grid(croatia, spacing_m=40_000, crs=CRS),
        "quadtree 15": build_quadtree(croatia, records, spacing_m=40_000, min_records=15, crs=CRS),
    }
    assert [preview.name for preview in previews] == list(expected)
    for preview in previews:
        assert preview.cells.geometry.to_wkb().tolist() == expected[preview.name].geometry.to_wkb().tolist()


def test_counts_are_those_of_a_plain_count(previews, records):
    table = preview_table(previews, enough=9).set_index("grid")
    for preview in previews:
        images = pd.Series(assign_cells(preview.cells, records)).value_counts()
        row = table.loc[preview.name]
        assert (row["cells"], row["classes"]) == (len(preview.cells), len(images))
        assert (row["images_min"], row["images_median"], row["images_max"]) == (
            images.min(), images.median(), images.max(),
        )  # fmt: skip
        assert row["few"] == pytest.approx((images < 9).mean())
    assert table.loc["quadtree 15", "images_min"] >= 15 > 9 > table.loc["20 km", "images_min"]
    assert table.loc["quadtree 15", "few"] == 0 < table.loc["20 km", "few"]


def test_errors_are_those_of_the_right_cells_centre_and_of_its_training_records_mean(previews, records):
    for preview in previews:
        cell = assign_cells(preview.cells, records)
        centres = preview.cells[["latitude", "longitude"]].to_numpy()[cell]
        np.testing.assert_allclose(preview.centre_km, km(centres, records), atol=1e-6)
        xy_m = pd.DataFrame(project(records, CRS)).groupby(cell).transform("mean")
        np.testing.assert_allclose(preview.training_km, km(unproject(xy_m, CRS), records), atol=1e-6)
        row = preview_table([preview], enough=5).iloc[0]
        assert row["centre_mean_km"] == pytest.approx(km(centres, records).mean())
        assert row["centre_median_km"] == pytest.approx(np.median(km(centres, records)))
        assert row["training_median_km"] == pytest.approx(np.median(preview.training_km))
        assert row["training_mean_km"] == pytest.approx(preview.training_km.mean())
        assert row["training_mean_km"] < row["centre_mean_km"]


def test_others_are_measured_by_cells_that_training_records_filled(croatia, records):
    others = np.array([(45.7, 16.0), (45.4, 18.7)])  # the second where nobody was trained on
    [preview] = preview_grids(croatia, records, spacings_km=[40], crs=CRS, others=others)
    assert preview.images.sum() == len(records)
    cell = assign_cells(preview.cells, others)
    assert preview.images[cell[1]] == 0
    centres = preview.cells[["latitude", "longitude"]].to_numpy()[cell]
    mean = unproject([project(records[assign_cells(preview.cells, records) == cell[0]], CRS).mean(axis=0)], CRS)
    np.testing.assert_allclose(preview.centre_km, km(centres, others), atol=1e-6)
    np.testing.assert_allclose(preview.training_km, km(np.array([mean[0], centres[1]]), others), atol=1e-6)


def test_a_finer_grid_errs_less_and_has_fewer_images(previews):
    table = preview_table(previews[:2], enough=5)
    assert table["centre_mean_km"].is_monotonic_increasing
    assert table["images_median"].is_monotonic_increasing
    assert table["classes"].is_monotonic_decreasing


def test_nothing_to_preview_is_refused(croatia):
    with pytest.raises(GridError, match="at least one record with coordinates"):
        preview_grids(croatia, np.empty((0, 2)), spacings_km=[40], crs=CRS)


@pytest.fixture
def table(records):
    frame = pd.DataFrame(records, columns=["latitude", "longitude"])
    return frame.assign(record_id=[f"place-{number}" for number in range(len(frame))])


def test_the_command_prints_a_line_for_each_grid_and_writes_a_page(table, tmp_path, capsys):
    table.loc[len(table)] = [None, None, "nowhere"]
    table.to_csv(tmp_path / "places.csv", index=False)
    grid_preview(
        tmp_path / "places.csv", region="HRV", crs=CRS, spacings_km=[40, 20, 40], min_records=[15], enough=9,
        out=tmp_path / "grids.html",
    )  # fmt: skip
    output = capsys.readouterr()
    head, *lines = output.out.splitlines()
    assert "below 9" in head
    assert [line.split("  ")[0].strip() or line.split()[0] for line in lines][-1] == "quadtree 15"
    assert [line.split()[:2] for line in lines[:2]] == [["20", "km"], ["40", "km"]]
    assert lines[1].split()[2:4] == ["40", "75"]
    assert "the 300 records" in output.err
    page = (tmp_path / "grids.html").read_text()
    assert page.count('class="plotly-graph-div"') == 4  # the curves and three maps


def test_the_command_learns_from_train_and_measures_val(table, tmp_path, capsys):
    table.to_parquet(tmp_path / "records.parquet")
    names = np.array(["train", "train", "val", "test"])[np.arange(len(table)) % 4]
    split = pd.DataFrame({"record_id": table["record_id"], "split": names}).iloc[::-1]
    split.to_parquet(tmp_path / "split.parquet")
    grid_preview(
        tmp_path / "records.parquet", region="HRV", crs=CRS, spacings_km=[40], min_records=[],
        split=tmp_path / "split.parquet",
    )  # fmt: skip
    output = capsys.readouterr()
    assert "75 val records" in output.err
    lat_lon = table[["latitude", "longitude"]].to_numpy()
    [expected] = preview_grids(
        load_region("HRV"), lat_lon[names == "train"], spacings_km=[40], crs=CRS, others=lat_lon[names == "val"]
    )
    assert f"{expected.centre_km.mean():.2f}" in output.out
    assert f"{expected.training_km.mean():.2f}" in output.out


def test_without_a_region_only_squares_with_records_are_shown(table, tmp_path, capsys):
    table.to_csv(tmp_path / "places.csv", index=False)
    grid_preview(tmp_path / "places.csv", spacings_km=[20], min_records=[])
    cells, classes = capsys.readouterr().out.splitlines()[1].split()[3:5]
    assert cells == classes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("north,east\n45,16\n", "has no column latitude; it has north, east"),
        ("latitude,longitude\n,\n", "has no record with coordinates"),
        (
            "latitude,longitude\n95,16\n",
            "row 2: latitude 95, longitude 16 is not a place on Earth; .* look swapped",
        ),
        ("latitude,Latitude,longitude\n45,45,16\n", "'latitude' and 'Latitude', which differ in capitals"),
        ("latitude,longitude\n45,16\n1_0,16\n", "row 3: latitude is '1_0', no number"),
        ('latitude,longitude\n"45,1",16\n', "row 2: latitude '45,1' has a comma; write decimals with a point"),
        ("latitude,longitude\n45,16\n", "has no column record_id to join"),
    ],
)
def test_tables_that_say_no_places_are_refused(tmp_path, text, message):
    (tmp_path / "places.csv").write_text(text)
    with pytest.raises(WaymarkError, match=message):
        grid_preview(tmp_path / "places.csv", split=tmp_path / "split.parquet")


def test_missing_files_are_named(tmp_path, table):
    with pytest.raises(SourceError, match=r"records\.parquet does not exist; give a Parquet or CSV file"):
        grid_preview(tmp_path / "records.parquet")
    table.to_parquet(tmp_path / "records.parquet")
    pd.DataFrame({"record_id": ["other"], "split": ["train"]}).to_parquet(tmp_path / "split.parquet")
    with pytest.raises(SourceError, match="leaves 0 train and 0 val records"):
        grid_preview(tmp_path / "records.parquet", split=tmp_path / "split.parquet")
