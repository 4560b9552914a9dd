"""Bad input gets one clear line and exit code 1, and outputs stay as they were."""

import hashlib
import shutil

import pandas as pd
import pytest
from PIL import Image
from small import DATA_STAGES, RECORDS, run, write_params, write_table

pytestmark = pytest.mark.slow


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for top in ("data", "trained", "reports")
        for path in sorted((folder / top).rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A project whose data stages went well."""
    folder = tmp_path_factory.mktemp("good")
    write_table(folder)
    write_params(folder)
    for stage in DATA_STAGES:
        result = run(folder, stage)
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
    return folder


@pytest.fixture
def project(good, tmp_path):
    shutil.copytree(good, tmp_path / "project")
    return tmp_path / "project"


def refuses(folder, *stage, message):
    """Run a stage that must fail: one line, exit code 1, nothing changed."""
    before = contents(folder)
    result = run(folder, *stage)
    assert result.returncode == 1, result.stdout + result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith(f"{stage[0]}: ")
    for part in [message] if isinstance(message, str) else message:
        assert part in result.stderr
    assert contents(folder) == before
    assert not list((folder / "data").glob(".*"))


@pytest.mark.parametrize(
    ("stage", "changes", "message"),
    [
        (
            "download",
            {"download__source": "flikr"},
            ("download.source", "'gldv2', 'photos', 'quads', 'synthetic' or 'table'", "'flikr'"),
        ),
        ("download", {"download__path": "inptu"}, ("inptu does not exist", "set download.path")),
        ("filter", {"filter__region": "ITA"}, "unknown key filter.region; region is a top-level key"),
        ("download", {"download__pth": "x"}, "unknown key download.pth; did you mean 'path'?"),
        ("filter", {"region": "Croatia"}, ("Croatia", "HRV")),
        ("filter", {"region": "borders.gpkg"}, "borders.gpkg"),
        ("filter", {"region": "JPN"}, ("no record is left of 12", "outside the region: 12")),
        ("filter", {"filter__min_images": "many"}, ("filter.min_images", "'many'")),
        ("resize", {"resize__size_px": 2}, "resize.size_px"),
        ("project", {"crs": "EPSG:4326"}, "EPSG:4326"),
        ("project", {"crs": "EPSG:99999999"}, "EPSG:99999999"),
        ("project", {"crs": "EPSG:32601"}, ("EPSG:32601", "crs: auto")),
        ("grid", {"grid__spacing_deg": 0.2}, ("spacing_m", "spacing_deg", "cells")),
        ("grid", {"grid__spacing_m": 10.0}, "spacing_m"),
        ("split", {"split__fractions": [0.8, 0.1, 0.2]}, "add up to 1.1"),
        ("split", {"split__by": "hsah"}, ("split.by", "'hsah'")),
        ("split", {"split__by": "column"}, "no record brings a split along"),
    ],
)
def test_wrong_parameter(project, stage, changes, message):
    write_params(project, **changes)
    refuses(project, stage, message=message)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": None}, "has no column path"),
        ({"longitude": None}, "has a column latitude but no longitude"),
        ({"latitude": ["45,5"] * RECORDS}, "has a comma"),
        ({"path": ["../secret.jpg"] * RECORDS}, "leads out of the folder"),
    ],
)
def test_wrong_table(project, columns, message):
    write_table(project, **columns)
    refuses(project, "download", message=message)


def test_swapped_coordinates(project):
    table = pd.read_csv(project / "input" / "photos.csv")
    write_table(project, latitude=table["longitude"], longitude=table["latitude"])
    assert run(project, "download").returncode == 0
    refuses(project, "filter", message=("look swapped", "exchange the two columns"))


def test_absent_coordinates(project):
    write_table(project, latitude=None, longitude=None)
    for stage in DATA_STAGES:
        assert run(project, stage).returncode == 0
    assert len(pd.read_parquet(project / "data/projected/places.parquet")) == 0
    assert len(pd.read_parquet(project / "data/grid/places.parquet")) == 0
    refuses(project, "train", "coordinates", message=("no train record has coordinates", "add coordinates"))


def test_no_coordinates_anywhere_leave_empty_tables(project):
    write_table(project, latitude=None, longitude=None)
    write_params(project, region=None, crs="auto")
    for stage in DATA_STAGES:
        result = run(project, stage)
        assert result.returncode == 0, result.stderr
    assert len(pd.read_parquet(project / "data/grid/cells.parquet")) == 0
    refuses(project, "train", "cells", message="no train record has coordinates")


def test_auto_serves_the_whole_region_and_not_the_data_alone(project):
    write_table(project, latitude=[43.5 + n / 100 for n in range(RECORDS)], longitude=[16.4] * RECORDS)
    write_params(project, crs="auto")
    for stage in DATA_STAGES:
        result = run(project, stage)
        assert result.returncode == 0, result.stderr


def test_a_stage_without_its_inputs_names_the_missing_file(tmp_path):
    write_params(tmp_path)
    refuses(tmp_path, "filter", message=("data/raw/records.parquet is missing", "dvc repro"))


def test_all_records_in_one_cell(project):
    write_table(project, latitude=[45.4 + n / 10_000 for n in range(RECORDS)], longitude=[16.0] * RECORDS)
    for stage in DATA_STAGES:
        assert run(project, stage).returncode == 0
    refuses(project, "train", "cells", message=("one cell", "grid.spacing_m"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models__cells__backbone": "resnet81"}, ("unknown backbone 'resnet81'", "did you mean 'resnet18'?")),
        ({"models__cells__weights": "lost.pt"}, ("lost.pt do not exist", "set weights to")),
        ({"models__cells__target": "data/projected"}, ("the head cells learns from data/grid", "set the target")),
    ],
)
def test_wrong_model(project, changes, message):
    write_params(project, **changes)
    refuses(project, "train", "cells", message=message)


def break_pictures(folder):
    """Break four pictures in four ways, and give the status that each must get."""
    pictures = folder / "data/raw/images"
    whole = (pictures / "0.jpg").read_bytes()
    (pictures / "0.jpg").write_bytes(whole[: len(whole) // 2])
    (pictures / "1.jpg").write_bytes(b"this is no picture")
    Image.new("1", (20_000, 20_000)).save(pictures / "2.jpg", "PNG")
    (pictures / "3.jpg").unlink()
    return {"0.jpg": "truncated", "1.jpg": "unreadable", "2.jpg": "giant", "3.jpg": "missing"}


def test_broken_pictures_are_quarantined(project):
    expected = break_pictures(project)
    write_params(project, resize__max_quarantined=0.5)
    assert run(project, "resize").returncode == 0
    quarantine = pd.read_parquet(project / "data/shards/quarantine.parquet")
    assert dict(zip(quarantine["record_id"], quarantine["status"], strict=True)) == expected
    assert run(project, "split").returncode == 0
    split = pd.read_parquet(project / "data/split/records.parquet").set_index("record_id")
    assert set(split.loc[list(expected), "reason"]) == {"no picture"}
    assert set(split.loc[list(expected), "split"]) == {"unused"}


def test_too_many_broken_pictures(project):
    break_pictures(project)
    write_params(project, resize__max_quarantined=0.3)
    refuses(project, "resize", message=("4 of 12 pictures cannot be decoded", "0.jpg", "resize.max_quarantined"))


def test_missing_params_file(project):
    (project / "params.yaml").unlink()
    refuses(project, "grid", message="run from the root")


def test_debug_shows_the_traceback(project):
    write_params(project, grid__spacing_km=4)
    result = run(project, "grid", "--debug")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
