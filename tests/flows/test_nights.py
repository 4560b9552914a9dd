"""Four nights as an operator has them: real servers, scheduled runs, and a GPU on another machine.

That machine has a clone of a bare origin, which nobody pushes to meanwhile, sees nothing of the operator's checkout,
and reaches its servers over the network alone. Models travel through a DVC remote.
"""

import socket
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from operator_checkout import Operator
from PIL import Image
from PIL.ExifTags import IFD
from second_machine import NAME, SecondMachine, needs_namespaces
from servers import Services, until
from tiny import git
from toy import clone

pytestmark = [pytest.mark.slow, needs_namespaces, pytest.mark.timeout(1800)]  # of many stages, on a busy machine

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
    top = project.folder.parent
    git(top, "clone", "--quiet", "--bare", str(project.folder), str(top / "origin.git"))
    git(project.folder, "remote", "set-url", "origin", str(top / "origin.git"))
    listening = {"PREFECT_SERVER_API_HOST": "0.0.0.0", "MLFLOW_HOST": "0.0.0.0"}
    with SecondMachine(top / "second", project.folder) as second:
        second.clone(top / "origin.git")
        with Services(project, **listening, WAYMARK_ALLOWED_HOSTS=second.first, WAYMARK_POOLS="default") as running:
            user, password = running.auth
            second.start(
                *(sys.executable, "-m", "flows.worker", "gpu"),
                PREFECT_API_URL=f"http://{second.first}:{running.prefect_port}/api",
                PREFECT_API_AUTH_STRING=f"{user}:{password}",
                MLFLOW_TRACKING_URI=f"http://{second.first}:{running.mlflow_port}",
                MLFLOW_TRACKING_USERNAME=user,
                MLFLOW_TRACKING_PASSWORD=password,
            )
            until(lambda: running.ask("POST", "/work_pools/gpu/workers/filter"), 120, second.log.read_text)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MLFLOW_TRACKING_USERNAME", user)
                patch.setenv("MLFLOW_TRACKING_PASSWORD", password)
                yield running


def theirs(folder):
    """Read the operator's files, without what services and nights write."""
    contents = Operator(folder).contents()
    return {path: each for path, each in contents.items() if Path(path).relative_to(folder).parts[0] not in STATE}


def night(services, **parameters):
    """Have a night begin in a few seconds, and wait until it is over."""
    run = services.deploy_run("nightly/nightly", parameters, at=datetime.now(UTC) + timedelta(seconds=3))
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
        store = MlflowClient(services.mlflow_uri)
        self.artifacts = {
            version.version: {each.path for each in store.list_artifacts(version.run_id)}
            for version in store.search_model_versions(f"name = '{LOCATION}'")
        }
        self.versions = {version.version: version for version in store.search_model_versions(f"name = '{LOCATION}'")}
        self.champion = store.get_model_version_by_alias(LOCATION, "champion").version

    @property
    def ran(self):
        """The stages that ran."""
        return {stage for stage, state in self.stages.items() if state == "Completed" and stage in STAGES}


def trainings(services):
    found = services.flow_runs(flows={"name": {"any_": ["train"]}})
    return [(each["work_pool_name"], each["state"]["name"], each["state"]["message"]) for each in found]


def test_four_nights(services):
    folder = services.folder
    before = theirs(folder)
    first = night(services)
    assert first.ran == STAGES
    assert trainings(services) == []  # without a remote it trains here: the only worker could not see the data
    assert list(first.versions) == ["1"]
    assert first.champion == "1"
    made = git(folder, "rev-parse", "nights")
    assert first.versions["1"].tags["waymark.git.locked_revision"] == made
    assert first.versions["1"].tags["waymark.git.revision"] == git(folder, "rev-parse", "HEAD")
    assert first.versions["1"].tags["waymark.git.dirty"] == "false"

    share = {"remote": str(folder.parent / "remote"), "gate": {"least_records": 2}}
    second = night(services, **share)
    assert second.state.name == "Unchanged"
    assert second.ran == set()
    assert git(folder, "rev-parse", "nights") == made
    now = theirs(folder)
    assert {path: now.get(path) for path in before} == before
    assert git(folder, "status", "--porcelain") == ""
    assert (list(second.versions), second.champion) == (["1"], "1")

    services.project.change(models__cells__optimizer__lr=0.0015)
    services.project.commit("Learn more slowly")
    third = night(services, **share)
    assert third.ran == {*OF_CELLS, "ensemble", "compare"}
    assert set(third.versions) == {"1", "2"}
    assert "was trained on" not in third.versions["2"].tags["waymark.promotion.reason"]  # what it has seen is known
    assert third.artifacts["2"] >= {"training.json", "exposure.parquet", "lineage.json", "report"}
    page = f"]({services.mlflow_url.replace('127.0.0.1', socket.gethostname())}/#/experiments/"
    assert page in services.artifacts("report")[-1]["data"]  # as people elsewhere reach it
    shown = {name for name, _ in services.task_runs()}
    assert {f"drift of {LOCATION}", "smoke test of version 2", "score the champion, version 1"} <= shown
    head = third.versions["2"].tags["waymark.git.revision"]
    assert len(git(folder, "log", "-1", "--format=%P", head).split()) == 2  # a merge that no origin has
    assert git(folder, "log", "-1", "--format=%s", "nights").endswith(
        ": train@cells, calibrate@cells, evaluate@cells and 2 more ran"
    )
    assert git(folder, "log", "-1", "--format=%b", "nights") == "- models.cells.optimizer.lr: 0.002 -> 0.0015"
    assert "models.cells.optimizer.lr: 0.002 -> 0.0015" in services.artifacts("night")[-1]["data"]

    assert trainings(services) == [("gpu", "Pushed", f"trained on {NAME}")]

    take_photos(services.folder / "input", range(80, 110))
    fourth = night(services, remote=str(folder / "unseen"))  # by that machine, which cannot do it, and hands it back
    assert fourth.ran == STAGES
    (_, back) = trainings(services)
    assert back[:2] == ("gpu", "Handed back")
    assert back[2].startswith(f"{NAME} cannot reach the remote {folder}/unseen: ")
    assert len(fourth.split) == len(third.split) + 30
    assert fourth.split[third.split.index].equals(third.split)
    drifted = services.command(sys.executable, "-m", "flows.drift", LOCATION)
    assert f"{LOCATION}: the data in {folder}/.nights/checkout against those of the champion" in drifted
