"""Four nights as an operator has them: real servers, both workers, scheduled runs."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from operator_checkout import Operator
from PIL import Image
from PIL.ExifTags import IFD
from servers import Services
from tiny import git
from toy import clone

pytestmark = pytest.mark.slow

OF_CELLS = ("train@cells", "calibrate@cells", "evaluate@cells")
STAGES = {"download", "filter", "resize", "project", "grid", "split", *OF_CELLS, "ensemble", "compare"}
LOCATION = "waymark-location"
STATE = (".prefect", ".services", "mlflow.db", "mlruns", ".dvc")  # which the services and the nights' cache write
TOWNS = [(43.51, 16.44), (45.81, 15.98), (45.33, 14.44), (42.65, 18.09)]


def take_photos(folder, names):
    """Put photos with coordinates into a folder; each town has a colour of its own."""
    for number in names:
        rng = np.random.default_rng(number)
        latitude, longitude = TOWNS[number % len(TOWNS)] + rng.normal(0, 0.05, 2)
        exif = Image.Exif()
        gps = exif.get_ifd(IFD.GPSInfo)
        gps[1], gps[2], gps[3], gps[4] = "N", degrees(latitude), "E", degrees(longitude)
        pixels = rng.integers(0, 120, (24, 24, 3)) + np.eye(4, 3)[number % len(TOWNS)] * 120
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:04}.jpg", exif=exif)


def degrees(value):
    whole, rest = divmod(value, 1)
    return (whole, round(rest * 60, 4), 0)


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    """A project of one small model over photos of its own, committed, and its services."""
    project = clone(tmp_path_factory.mktemp("nights") / "project", region=None, crs="auto")
    entry = {**project.params()["models"]["cells"], "views": "mean", "augmentation": {}}
    project.change(
        download__source="photos",
        download__photos__group="none",
        filter__min_images=None,
        grid__spacing_m=200000,
        models={"cells": entry},
        split__duplicates="keep",
    )
    take_photos(project.folder / "input", range(80))
    project.commit("Photos of four towns")
    with Services(project) as running:
        yield running


def theirs(folder):
    """Read the operator's files, without what services and nights write."""
    contents = Operator(folder).contents()
    return {path: its for path, its in contents.items() if Path(path).relative_to(folder).parts[0] not in STATE}


def night(services):
    """Have a night begin in a few seconds, and wait until it is over."""
    run = services.deploy_run("nightly/nightly", at=datetime.now(UTC) + timedelta(seconds=3))
    state = services.wait(run, timeout=600)
    assert state.type == "COMPLETED", f"{state}\n{services.logs(run)}"
    return Night(services, state)


class Night:
    """What one night left behind."""

    def __init__(self, services, state):
        self.state = state
        pipelines = services.flow_runs(flows={"name": {"any_": ["pipeline"]}})
        self.stages = dict(services.task_runs(pipelines[-1]["id"]))
        folder = services.folder / ".nights/checkout"
        self.split = pd.read_parquet(folder / "data/split/records.parquet").set_index("record_id")["split"]
        store = MlflowClient(services.mlflow_url)
        self.versions = {version.version: version for version in store.search_model_versions(f"name = '{LOCATION}'")}
        self.champion = store.get_model_version_by_alias(LOCATION, "champion").version

    @property
    def ran(self):
        """The stages that ran."""
        return {stage for stage, state in self.stages.items() if state == "Completed" and stage in STAGES}


def test_four_nights(services):
    folder = services.folder
    before = theirs(folder)
    first = night(services)
    assert first.ran == STAGES
    trained = services.flow_runs(flows={"name": {"any_": ["train"]}})
    assert [(its["work_pool_name"], its["state"]["type"]) for its in trained] == [("gpu", "COMPLETED")]
    assert list(first.versions) == ["1"]
    assert first.champion == "1"
    made = git(folder, "rev-parse", "nights")
    assert first.versions["1"].tags["waymark.git.locked_revision"] == made
    assert first.versions["1"].tags["waymark.git.revision"] == git(folder, "rev-parse", "HEAD")
    assert first.versions["1"].tags["waymark.git.dirty"] == "false"

    second = night(services)
    assert second.state.name == "Unchanged"
    assert second.ran == set()
    assert git(folder, "rev-parse", "nights") == made
    now = theirs(folder)
    assert {path: now.get(path) for path in before} == before
    assert git(folder, "status", "--porcelain") == ""
    assert (list(second.versions), second.champion) == (["1"], "1")

    services.project.change(models__cells__optimizer__lr=0.0015)
    services.project.commit("Learn more slowly")
    third = night(services)
    assert third.ran == {*OF_CELLS, "ensemble", "compare"}
    assert set(third.versions) == {"1", "2"}
    assert third.versions["2"].tags["waymark.promotion.reason"]
    assert git(folder, "log", "-1", "--format=%s", "nights").endswith(
        ": train@cells, calibrate@cells, evaluate@cells and 2 more ran"
    )
    assert git(folder, "log", "-1", "--format=%b", "nights") == "- models.cells.optimizer.lr: 0.002 -> 0.0015"
    assert "models.cells.optimizer.lr: 0.002 -> 0.0015" in services.artifacts("night")[-1]["data"]

    take_photos(services.folder / "input", range(80, 110))
    fourth = night(services)
    assert fourth.ran == STAGES
    assert len(fourth.split) == len(third.split) + 30
    assert fourth.split[third.split.index].equals(third.split)
