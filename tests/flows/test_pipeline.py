"""The pipeline as a flow: DVC's graph through Prefect into the registry, all of them real."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toy import clone

from flows.graph import read_graph
from flows.pipeline import check_params
from waymark.errors import WaymarkError

STAGES = {"download", "filter", "resize", "project", "grid", "split", "compare"}
OF_MODELS = {f"{stage}@{model}" for stage in ("train", "calibrate", "evaluate") for model in ("cells", "coordinates")}


def task_runs(project):
    """Read name and state of each task run, in the order of their start, from Prefect's own database."""
    with sqlite3.connect(project.folder / ".prefect" / "prefect.db") as database:
        return database.execute("select name, state_name from task_run order by start_time").fetchall()


def test_each_stage_is_a_task_run(finished):
    first = [name for name, _ in task_runs(finished)[: len(STAGES | OF_MODELS)]]
    assert set(first) == STAGES | OF_MODELS
    assert first[0] == "download"
    assert first[-1] == "compare"
    assert first.index("train@cells") < first.index("calibrate@cells") < first.index("evaluate@cells")


def test_the_run_ends_with_figures_and_the_report(finished):
    lines = finished.printed.splitlines()
    assert any(line.startswith("| cells | test |") for line in lines)
    assert "report: reports/index.html" in lines
    assert (finished.folder / "reports/index.html").exists()


def test_what_did_not_change_shows_as_skipped_and_is_registered_once(finished):
    before = len(task_runs(finished))
    printed = finished.run("python", "-m", "flows.pipeline").stdout
    again = dict(task_runs(finished)[before:])
    assert {again[stage] for stage in STAGES | OF_MODELS} == {"Skipped"}
    assert "is version 1 of waymark-location, champion and challenger" in printed


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
    evaluated = pd.read_parquet(finished.folder / f"reports/models/{best}/predictions.parquet").head(3)
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
    assert {run["tags"]["waymark.model"] for run in runs} == {"cells", "coordinates"}
    for run in runs:
        metrics = json.loads(
            (finished.folder / f"reports/models/{run['tags']['waymark.model']}/metrics.json").read_text()
        )
        assert run["status"] == "FINISHED"
        assert run["metrics"]["test.mean_km"] == metrics["test"]["mean_km"]
        assert {"train/loss", "val/loss", "val/mean_km"} <= set(run["metrics"])
        assert run["params"]["optimizer.name"] == "adamw"
        assert sorted(run["inputs"]) == ["train records", "val records"]
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=finished.folder, capture_output=True, text=True, check=True
        )
        assert run["tags"]["waymark.git.revision"] == head.stdout.strip()
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
    result = project.run("python", "-m", "flows.pipeline", code=1)
    own = [line for line in result.stderr.splitlines() if line.startswith("filter: ")]
    assert own == ["filter: no record is left of 60 (outside the region: 60); relax filter or region in params.yaml"]
    assert "Traceback" not in result.stdout + result.stderr
    assert dict(task_runs(project))["download"] == "Completed"
    assert dict(task_runs(project))["filter"] == "Failed"


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
    ],
)
def test_parameters_are_checked_together(tmp_path, monkeypatch, changes, message):
    project = clone(tmp_path / "project", **changes)
    monkeypatch.chdir(project.folder)
    with pytest.raises(WaymarkError, match=re.escape(message)):
        check_params()


def test_the_graph_is_dvcs_own():
    nodes = {node.stage: set(node.after) for node in read_graph()}
    assert set(nodes) == STAGES | OF_MODELS
    assert nodes["download"] == set()
    assert nodes["resize"] == {"download", "filter"}
    assert nodes["split"] == {"filter", "resize", "project"}
    assert nodes["train@cells"] == {"filter", "resize", "split", "grid"}
    assert nodes["train@coordinates"] == {"filter", "resize", "split", "project"}
    order = [node.stage for node in read_graph()]
    assert all(order.index(before) < order.index(stage) for stage in nodes for before in nodes[stage])


def running(folder):
    """List the processes that work in a folder."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    pids = [line.split(None, 1) for line in listed.splitlines()[1:]]
    inside = subprocess.run(
        ["sh", "-c", "ls -l /proc/[0-9]*/cwd 2>/dev/null"], capture_output=True, text=True, check=False
    ).stdout
    here = {line.split("/proc/")[1].split("/")[0] for line in inside.splitlines() if line.endswith(f"-> {folder}")}
    return {pid: args for pid, args in pids if pid in here}


def at_work(project):
    """List the processes of a project without Prefect's server."""
    return {pid: args for pid, args in running(project.folder).items() if "uvicorn" not in args}


def alive(pids):
    """Keep the processes that are there, the dead among them whom nobody has buried yet: DVC counts these, too."""
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
    while not any("tasks.download" in args for args in at_work(project).values()):
        assert flow.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    started = set(at_work(project))
    subprocess.run(["kill", f"-{number}", str(flow.pid)], check=True)
    flow.wait(60)
    deadline = time.monotonic() + 60
    while (left := alive(started) | set(at_work(project))) and time.monotonic() < deadline:
        time.sleep(0.2)
    servers = list(running(project.folder))  # Prefect's own, which a flow killed outright leaves behind
    subprocess.run(["kill", "-9", *servers], check=False)
    assert left == set()
    assert not (project.folder / "data/raw").exists()
    project.change(download__synthetic__places=10)
    assert project.repro("download") == ["download"]
