"""MLflow follows a training; a training outlives MLflow, which has all of it afterwards. Real servers, real kills."""

import getpass
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import warm
from closure import ROOT
from mlflow.tracking import MlflowClient
from small import run, write_params

from waymark.system.processes import die_with_parent

pytestmark = pytest.mark.slow

EPOCHS = 12
LONG = 150  # epochs, of which the publisher sees some before the training is over
COULD_NOT = "could not log {} to MLflow; will retry"
FILES = ("training.json", "exposure.parquet", "evaluation/predictions.parquet")
SAMPLES = {"MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.2"}  # seconds: the training is short
PLAIN = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # its own language models: more processes


class Server:
    """MLflow's own server over a store in a folder."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.uri, self.process = folder, f"http://127.0.0.1:{self.port}", None

    def start(self):
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/server.db", "--workers", "1"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                command, env=PLAIN, stdout=log, stderr=log, start_new_session=True, preexec_fn=die_with_parent
            )
        deadline = time.monotonic() + 180
        while True:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except OSError:
                assert self.process.poll() is None, (self.folder / "server.log").read_text()[-3000:]
                assert time.monotonic() < deadline
                time.sleep(0.2)

    def kill(self):
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path):
    (tmp_path / "server").mkdir()
    server = Server(tmp_path / "server")
    yield server
    server.kill()


@pytest.fixture
def project(data_stages, tmp_path):
    folder = data_stages(tmp_path / "project")
    write_params(folder, models__cells__epochs=EPOCHS)
    return folder


def environment(uri):
    return {**os.environ, **SAMPLES, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "MLFLOW_TRACKING_URI": uri}


def python(folder, uri, *arguments):
    result = subprocess.run(
        [warm.path() / "python", *arguments],
        cwd=folder, env=environment(uri), capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def runs(uri):
    store = MlflowClient(uri)
    return store.search_runs([store.get_experiment_by_name("waymark").experiment_id])


def logged_epochs(uri, run):
    return [metric.step for metric in MlflowClient(uri).get_metric_history(run.info.run_id, "val/loss")]


def is_followed(uri):
    """Whether MLflow shows curves and load of a training that is at work."""
    wanted = {"val/loss", "system/cpu_utilization_percentage"}
    return MlflowClient(uri).get_experiment_by_name("waymark") and any(
        wanted <= {*run.data.metrics} for run in runs(uri)
    )


def test_a_server_that_dies_stops_no_training_and_learns_of_it_afterwards(project, server):
    server.start()
    write_params(project, models__cells__epochs=LONG)
    training = subprocess.Popen(
        [sys.executable, "-m", "tasks.train", "cells"],
        cwd=project, env=environment(server.uri), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    printed = []
    for line in training.stdout:
        printed.append(line)
        if server.process is not None and line.startswith("epoch ") and is_followed(server.uri):
            server.kill()
            died = len(printed)
    assert training.wait() == 0, printed[-20:]
    assert any(COULD_NOT.format("the training of cells") in line for line in printed[died:])
    assert not any("could not log" in line for line in printed[:died])
    python(project, server.uri, "-m", "tasks.calibrate", "cells")
    evaluated = python(project, server.uri, "-m", "tasks.evaluate", "cells")  # the server is still gone
    assert COULD_NOT.format("the outputs of cells") in evaluated
    server.start()
    (cut_off,) = runs(server.uri)
    assert cut_off.info.status == "RUNNING"
    assert 0 < len(set(logged_epochs(server.uri, cut_off))) < LONG
    kept = server.folder / "artifacts" / cut_off.info.experiment_id / cut_off.info.run_id / "artifacts"
    tell = ("-c", "from tasks.registry.runs import run_of; run_of('cells')")
    python(project, server.uri, *tell)
    for name in FILES:  # as where another machine has put them on a disk of its own
        (kept / name).rename(server.folder / Path(name).name)
    python(project, server.uri, *tell)  # finds the rest logged
    for name in FILES:
        assert (kept / name).read_bytes() == (server.folder / Path(name).name).read_bytes()
    (whole,) = runs(server.uri)
    assert (whole.info.run_id, whole.info.status) == (cut_off.info.run_id, "FINISHED")
    assert sorted(logged_epochs(server.uri, whole)) == list(range(LONG))
    assert whole.data.tags["waymark.hardware"] == cut_off.data.tags["waymark.hardware"]
    assert "waymark.logged_anew" not in whole.data.tags
    assert "system/cpu_utilization_percentage" in whole.data.metrics
    assert whole.info.run_name.startswith("cells 20")
    assert whole.data.tags["mlflow.source.name"] == "tasks/train.py cells"
    assert whole.data.tags["mlflow.user"] == getpass.getuser()
    test = json.loads((project / "reports/models/cells/metrics.json").read_text())["test"]
    assert whole.data.metrics["test.mean_km"] == test["mean_km"]
    assert {item.dataset.name for item in whole.inputs.dataset_inputs} == {"train records", "val records"}
    assert {"training.json", "evaluation"} <= {item.path for item in MlflowClient(server.uri).list_artifacts(
        whole.info.run_id)}  # fmt: skip
    assert not list((project / ".work/runs").iterdir())
    assert not list((project / ".work/train").iterdir())


def test_a_server_that_was_never_there_changes_no_byte(project, tmp_path):
    """What a training leaves behind for DVC does not tell how it was logged."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    python(project, "http://127.0.0.1:1", "-m", "tasks.train", "cells")
    without = {path.name: path.read_bytes() for path in (project / "trained/cells").iterdir()}
    python(project, uri, "-c", "from tasks.registry.runs import run_of; run_of('cells')")
    (late,) = runs(uri)
    assert sorted(logged_epochs(uri, late)) == list(range(EPOCHS))
    assert late.data.tags["waymark.hardware"]  # from the record that the training left
    python(project, uri, "-m", "tasks.train", "cells")
    assert {path.name: path.read_bytes() for path in (project / "trained/cells").iterdir()} == without


def test_a_model_without_a_run_is_logged_anew_with_the_lineage_of_its_training(project, tmp_path):
    write_params(project)
    assert run(project, "train", "coordinates").returncode == 0
    (trained,) = runs(f"sqlite:///{project}/mlflow.db")
    document = json.loads((project / "trained/coordinates/training.json").read_text())
    document["lineage"]["requirements_sha256"] = "of then"
    (project / "trained/coordinates/training.json").write_text(json.dumps(document))
    other = f"sqlite:///{tmp_path}/other.db"
    python(project, other, "-c", "from tasks.registry.runs import run_of; run_of('coordinates')")
    (anew,) = runs(other)
    for tag in ("waymark.data.digest", "waymark.params.sha256", "waymark.split.test_sha256"):
        assert anew.data.tags[tag] == trained.data.tags[tag]
    assert anew.data.tags["waymark.requirements.lock.sha256"] == "of then"
    assert anew.data.tags["waymark.logged_anew"] == "true"
    assert "waymark.hardware" not in anew.data.tags  # nobody knows it any more
    assert {item.dataset.digest for item in anew.inputs.dataset_inputs} == {anew.data.tags["waymark.data.digest"]}


def test_a_training_that_goes_on_after_a_kill_goes_on_in_the_same_run(project, tmp_path):
    """Nobody but the training is killed: its publisher ends with it."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    write_params(project, models__cells__epochs=LONG)
    command = [sys.executable, "-m", "tasks.train", "cells"]
    training = subprocess.Popen(
        command, cwd=project, env=environment(uri), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    for line in training.stdout:
        if line.startswith("epoch ") and (tmp_path / "mlflow.db").exists() and is_followed(uri):
            training.kill()
            break
    training.communicate(timeout=60)  # ends only when nobody writes there any more
    (cut_off,) = runs(uri)
    said = python(project, uri, "-m", "tasks.train", "cells")
    assert "training from epoch " in said
    assert "training from epoch 1 of" not in said
    (whole,) = runs(uri)
    assert (whole.info.run_id, whole.info.status) == (cut_off.info.run_id, "FINISHED")
    assert sorted(logged_epochs(uri, whole)) == list(range(LONG))


def test_whatever_is_wrong_with_mlflow_no_training_fails_of_it(project, tmp_path):
    (tmp_path / "broken.db").write_text("no database")
    said = python(project, f"sqlite:///{tmp_path}/broken.db", "-m", "tasks.train", "cells")
    assert COULD_NOT.format("the outputs of cells") in said
    assert "Traceback" not in said
    assert len(list((project / ".work/runs").iterdir())) == 1  # for the next run_of


WHERE = """
from pathlib import Path
from tasks.registry.store import all_experiments, client, experiment_id
store, experiment = client(), experiment_id()
run = store.create_run(experiment).info.run_id
Path("text.txt").write_text("x")
store.log_artifact(run, "text.txt")
print(store.get_experiment(experiment).name, [item.path for item in store.list_artifacts(run)], len(all_experiments()))
"""


def test_artifacts_of_another_machine_go_through_the_server_and_never_to_the_same_path_on_its_own_disk(
    server, tmp_path
):
    """The experiment was made by a run without a server, so that MLflow's clients write to a path of their own disk."""
    server.start()
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    MlflowClient(server.uri).create_experiment("waymark", artifact_location=(here / "mlruns").as_uri())
    clients = {"MLFLOW_TRACKING_URI": server.uri, "MLFLOW_TRACKING_USERNAME": "", "MLFLOW_TRACKING_PASSWORD": ""}
    (here / ".services").mkdir()
    (here / ".services/clients.json").write_text(json.dumps(clients))  # whose own server it is
    assert python(here, server.uri, "-c", WHERE) == "waymark ['text.txt'] 1\n"
    assert len(list((here / "mlruns").rglob("text.txt"))) == 1
    for _ in range(2):
        assert python(there, server.uri, "-c", WHERE) == "waymark-elsewhere ['text.txt'] 2\n"
    assert len(list((server.folder / "artifacts").rglob("text.txt"))) == 2
    assert len(list((here / "mlruns").rglob("text.txt"))) == 1


def test_artifacts_that_a_server_was_given_are_read_and_written_without_it_on_its_own_disk(tmp_path):
    store = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    store.create_experiment("waymark", artifact_location="mlflow-artifacts:/1")
    assert python(tmp_path, f"sqlite:///{tmp_path}/mlflow.db", "-c", WHERE) == "waymark ['text.txt'] 1\n"
    assert len(list((tmp_path / "mlruns/1").rglob("text.txt"))) == 1
