"""The pipeline as a flow: DVC's graph through Prefect into the registry, all of them real."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from closure import ROOT
from processes import running
from toy import clone

from flows.stages import results
from flows.stages.explain import plan
from tasks.common.document import check_params
from tasks.common.stage import load_params
from tasks.training.models import LANDMARKS
from waymark.errors import WaymarkError

pytestmark = pytest.mark.slow

BUNDLED = load_params(ROOT / "params.yaml")["models"]
MODELS = {name for name, model in BUNDLED.items() if model["embeddings"] == "none"}  # see tests/support/toy.py
STAGES = {"download", "filter", "resize", "project", "grid", "split", "ensemble", "compare"}
OF_MODELS = {f"{stage}@{model}" for stage in ("train", "calibrate", "evaluate") for model in MODELS}


def outcomes(printed):
    """Read what became of each stage, in the order in which they ended, from the lines of a run."""
    lines = [line.split() for line in printed.splitlines()]
    return {words[0]: words[1] for words in lines if words and words[0] in STAGES | OF_MODELS}


def test_each_stage_is_a_line(finished):
    ended = outcomes(finished.printed)
    assert set(ended) == STAGES | OF_MODELS
    assert set(ended.values()) == {"ran"}
    order = list(ended)
    assert order[0] == "download"
    assert order[-1] == "compare"
    assert order.index("train@cells") < order.index("calibrate@cells") < order.index("evaluate@cells")
    assert re.search(r"^download +ran +[0-9.]+ s$", finished.printed, re.MULTILINE)


def test_the_run_ends_with_figures_and_the_report(finished):
    assert "report: reports/index.html" in finished.printed.splitlines()
    assert (finished.folder / "reports/index.html").exists()


def test_no_server_is_started_and_nothing_of_one_is_left(finished):
    with sqlite3.connect(finished.folder / ".prefect" / "prefect.db") as database:
        assert database.execute("select count(*) from flow_run").fetchone() == (0,)
    assert not [args for args in running(finished.folder).values() if "uvicorn" in args]


def test_pages_show_figures_and_data(finished, monkeypatch):
    monkeypatch.chdir(finished.folder)
    assert "| cells | test |" in results.figures()
    assert "| split: train |" in results.data()


def test_what_did_not_change_shows_as_skipped_and_is_registered_once(finished):
    """Also where an output was deleted: what lies behind it is asked of DVC again, and nothing else is."""
    contents = finished.bytes_of("data", "trained", "reports")
    shutil.rmtree(finished.folder / "trained/cells")
    result = finished.run("python", "-m", "flows.pipeline")
    assert "because of changes in train@cells" in result.stdout
    assert "trained/cells is missing" in (finished.folder / ".work/pipeline.log").read_text()
    again = outcomes(result.stdout)
    assert again.pop("train@cells") == "cached"
    assert again == dict.fromkeys((STAGES | OF_MODELS) - {"train@cells"}, "skipped")
    assert finished.bytes_of("data", "trained", "reports") == contents
    assert "is version 1 of waymark-location, champion and challenger" in result.stdout


PREDICT = """
import json, sys
import mlflow, pandas as pd
sys.path = [path for path in sys.path if path != sys.argv[3]]
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/waymark-location@champion")
rows = [[open(path, "rb").read() for path in views] for views in json.loads(sys.argv[2])]
four = pd.DataFrame({"views": rows, "headings_deg": [[0.0, 90.0, 180.0, 270.0]] * len(rows)})
one = pd.DataFrame({"views": [views[:1] for views in rows]})
print(json.dumps({"four": model.predict(four).to_dict("list"), "one": model.predict(one).to_dict("list")}))
"""


def test_the_champion_predicts_from_the_bytes_of_pictures(finished):
    """The registered model, the stages and the shards must go through one preprocessing: their numbers are equal."""
    best = json.loads((finished.folder / "reports/compare.json").read_text())["best_on_val"]
    predictions = pd.read_parquet(finished.folder / f"reports/models/{best}/predictions.parquet").head(5)
    records = pd.read_parquet(finished.folder / "data/filtered/records.parquet").set_index("record_id")["views"]
    views = [[f"data/raw/{view['path']}" for view in records[its_id]] for its_id in predictions["record_id"]]
    store = f"sqlite:///{finished.folder}/mlflow.db"
    answers = json.loads(
        finished.run(sys.executable, "-c", PREDICT, store, json.dumps(views), str(finished.folder)).stdout.splitlines()[
            -1
        ]
    )
    for name in ("latitude", "longitude"):
        assert np.allclose(answers["four"][name], predictions[f"predicted_{name}"], atol=1e-5)
    assert len(answers["one"]["latitude"]) == len(predictions)
    assert np.isfinite(answers["one"]["latitude"]).all()


def test_a_photo_gets_the_same_answer_from_evaluate_guess_predict_and_the_exported_file(finished, tmp_path):
    best = json.loads((finished.folder / "reports/compare.json").read_text())["best_on_val"]
    evaluated = pd.read_parquet(finished.folder / f"reports/models/{best}/predictions.parquet")
    evaluated = evaluated[evaluated["distance_km"].notna()].head(3)
    records = pd.read_parquet(finished.folder / "data/filtered/records.parquet").set_index("record_id")["views"]
    for record_id in evaluated["record_id"]:  # laid out as a folder of quadruplets
        for view in records[record_id]:
            place = tmp_path / "places" / record_id / f"{view['heading_deg']:g}{Path(view['path']).suffix}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes((finished.folder / "data/raw" / view["path"]).read_bytes())
    exported, table = tmp_path / "model.waymark", tmp_path / "guesses.csv"
    finished.run("waymark", "export", str(exported))
    expected = evaluated.set_index("record_id")[["predicted_latitude", "predicted_longitude"]]
    for model in ([], ["--model", str(exported)]):  # the champion of the registry, and the file
        finished.run("waymark", "predict", str(tmp_path / "places"), "--out", str(table), *model)
        predicted = pd.read_csv(table).set_index("uuid").loc[expected.index, ["latitude", "longitude"]]
        assert np.allclose(predicted, expected, atol=1e-4)
        first = expected.index[0]
        images = sorted(map(str, (tmp_path / "places" / first).iterdir()))
        (answer,) = json.loads(finished.run("waymark", "guess", *images, "--json", *model).stdout)["answers"]
        assert np.allclose([answer["latitude"], answer["longitude"]], expected.loc[first], atol=1e-4)


def test_each_training_is_a_run_with_curves_figures_lineage_and_data(finished):
    code = (
        "import mlflow, json; mlflow.set_tracking_uri('sqlite:///mlflow.db');"
        "runs = mlflow.search_runs(experiment_names=['waymark'], output_format='list');"
        "print(json.dumps([{**r.data.to_dictionary(), 'status': r.info.status,"
        " 'inputs': [i.dataset.name for i in r.inputs.dataset_inputs]} for r in runs]))"
    )
    runs = json.loads(finished.run("python", "-c", code).stdout.splitlines()[-1])
    assert {run["tags"]["waymark.model"] for run in runs} == MODELS
    for run in runs:
        metrics = json.loads(
            (finished.folder / f"reports/models/{run['tags']['waymark.model']}/metrics.json").read_text()
        )
        assert run["status"] == "FINISHED"
        for figure in {"mean_km", "gap"} & set(metrics["test"]):
            assert run["metrics"][f"test.{figure}"] == metrics["test"][figure]
            assert {"train/loss", "val/loss", f"val/{figure}"} <= set(run["metrics"])
        assert run["metrics"]["images_per_second"] > 0
        assert run["params"]["optimizer.name"] == "adamw"
        assert sorted(run["inputs"]) == ["train records", "val records"]
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=finished.folder, capture_output=True, text=True, check=True
        )
        assert run["tags"]["waymark.git.revision"] == head.stdout.strip()
        assert run["tags"]["mlflow.source.git.commit"] == head.stdout.strip()
        assert run["tags"]["waymark.git.dirty"] == "true"
        assert run["tags"]["waymark.data.split.md5"] == finished.output_md5()["split:data/split"]


def test_wrong_parameters_are_refused_before_anything_runs(tmp_path):
    project = clone(tmp_path / "project", grid__spacing_m=-5.0)
    result = project.run("python", "-m", "flows.pipeline", code=1)
    assert len(result.stderr.splitlines()) == 1
    assert "grid.spacing_m" in result.stderr
    assert not (project.folder / "data/raw").exists()


def test_a_failing_stage_ends_the_flow_with_its_own_line(tmp_path):
    project = clone(tmp_path / "project", region="JPN", crs="auto")
    made = project.params()["download"]["synthetic"]
    project.change(download__synthetic={**made, "photos": 0})
    result = project.run("python", "-m", "flows.pipeline", code=1)
    reason = "filter: no record is left of 60 (outside the region: 60); relax filter or region in params.yaml"
    assert result.stderr.splitlines() == [reason]
    assert outcomes(result.stdout) == {"download": "ran", "filter": "failed"}
    (rest,) = [line for line in result.stdout.splitlines() if line.startswith("not reached: ")]
    assert set(rest.removeprefix("not reached: ").split(", ")) == (STAGES | OF_MODELS) - {"download", "filter"}


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    return clone(tmp_path_factory.mktemp("asked") / "project")


@pytest.fixture
def asking(asked):
    """A project whose params.yaml a test may change."""
    before = (asked.folder / "params.yaml").read_text()
    yield asked
    (asked.folder / "params.yaml").write_text(before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gird": {"spacing_m": 1.0}}, "unknown section gird; did you mean 'grid'?"),
        ({"split__fractions": [0.8, 0.1, 0.2]}, "add up to 1.1"),
        ({"models__cells__backbone": "resnet81"}, "did you mean 'resnet18'?"),
        ({"grid__cells": 50}, "one of spacing_m, spacing_deg and cells must be set, not spacing_m and cells"),
        ({"models__cells__unfreeze_epoch": 1}, "the backbone is to learn from epoch 1, and the training ends after 1"),
        ({"models__cells__target": "data/grids/fin", "grids": {"fine": {"cells": 9}}}, "grids; did you mean 'fine'?"),
        ({"region": "HRX"}, "HRX"),
        ({"ensembles": {"both": {"models": ["cells", "coordinate"]}}}, "is no model; did you mean 'coordinates'?"),
        ({"ensembles": None}, "ensembles must be a section with names; leave it empty with ensembles: {}"),
        ({"ensembles": {"a b": {"models": ["cells", "coordinates"]}}}, "ensembles.a b: names consist of letters"),
        (
            {"models__cells__target": LANDMARKS, "models__cells__head": "arcface", "block_split": {"cells": {}}},
            "block_split.cells is a model that answers no places",
        ),
    ],
)
def test_parameters_are_checked_together(asking, monkeypatch, changes, message):
    monkeypatch.chdir(asking.folder)
    asking.change(**changes)
    with pytest.raises(WaymarkError, match=re.escape(message)):
        check_params()


def test_the_graph_is_dvcs_own():
    listed = plan()[0]
    nodes = {node.stage: set(node.after) for node in listed}
    pretrained = {f"{stage}@pretrained" for stage in ("train", "calibrate", "evaluate")}
    assert set(nodes) == STAGES | OF_MODELS | pretrained | {"embed@lite0"}
    assert nodes["embed@lite0"] == {"resize"}
    assert nodes["train@pretrained"] == {"filter", "resize", "split", "grid", "embed@lite0"}
    assert nodes["download"] == set()
    assert nodes["resize"] == {"download", "filter"}
    assert nodes["split"] == {"filter", "resize", "project"}
    assert nodes["train@cells"] == {"filter", "resize", "split", "grid"}
    assert nodes["train@coordinates"] == {"filter", "resize", "split", "project"}
    evaluated = {f"evaluate@{model}" for model in BUNDLED}
    assert nodes["ensemble"] == {"filter", *evaluated}
    assert nodes["compare"] >= {"ensemble", *evaluated}
    order = [node.stage for node in listed]
    assert all(order.index(before) < order.index(stage) for stage in nodes for before in nodes[stage])


def alive(pids):
    """Keep the processes that are there, also zombies, whom DVC counts, too."""
    return {pid for pid in pids if Path("/proc", pid).exists()}


@pytest.mark.parametrize(("number", "shell"), [("TERM", "/bin/bash"), ("KILL", "/bin/sh")])
def test_nothing_outlives_a_flow_that_is_killed_and_the_next_one_goes_on(tmp_path, number, shell):
    project = clone(tmp_path / "project", download__synthetic__places=4000)
    flow = subprocess.Popen(
        [sys.executable, "-m", "flows.pipeline"],
        cwd=project.folder,
        env={**os.environ, "PREFECT_HOME": str(project.folder / ".prefect"), "SHELL": shell},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not any("tasks.download" in args for args in running(project.folder).values()):
        assert flow.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    started = set(running(project.folder))
    subprocess.run(["kill", f"-{number}", str(flow.pid)], check=True)
    flow.wait(60)
    deadline = time.monotonic() + 60
    while (left := alive(started) | set(running(project.folder))) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == set()
    assert not (project.folder / "data/raw").exists()
    project.change(download__synthetic__places=10)
    assert project.repro("download") == ["download"]
