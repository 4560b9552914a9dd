"""Answers of `mlflow models serve`, as docs/serving.md starts and asks it, read by a parser that knows JSON alone."""

import base64
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

import mlflow
import pandas as pd
import pytest
from closure import ROOT
from mlflow.tracking import MlflowClient
from tiny_model import HEADINGS, SHARD_PX, make_tiny_model, write_picture, write_quads

from tasks.registry.smoke import smoke_fault
from waymark.inference.answering import COLUMNS
from waymark.inference.lookup import trained_files
from waymark.inference.mlflow_model import log_registered_model

pytestmark = pytest.mark.slow

NAME = "waymark-location"
PORT = 5931
URL = f"http://127.0.0.1:{PORT}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def views(folder):
    write_quads(folder / "quads", 1)
    return [(folder / f"quads/place-0/{heading:g}.jpg").read_bytes() for heading in HEADINGS]


@pytest.fixture(scope="module")
def uri(folder, views):
    """A store whose champion for places knows no landmarks."""
    make_tiny_model(folder / "trained")
    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    store = MlflowClient(uri)
    experiment = store.create_experiment("tiny", artifact_location=(folder / "mlruns").as_uri())
    example = pd.DataFrame({"views": [views], "headings_deg": [list(HEADINGS)]})
    with mlflow.start_run(experiment_id=experiment):
        log_registered_model(trained_files(folder / "trained/tiny"), example, NAME)
    store.set_registered_model_alias(NAME, "champion", "1")
    yield uri
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def server(uri, folder):
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", f"models:/{NAME}@champion"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--env-manager", "local", "--host", "127.0.0.1", "--port", str(PORT)],
            env={**os.environ, "MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(ROOT)},
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        for _ in range(600):
            assert process.poll() is None, (folder / "log").read_text()
            try:
                urllib.request.urlopen(f"{URL}/ping", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield URL
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def no_json(constant):
    raise AssertionError(f"{constant} is no JSON")


def ask(server, rows):
    body = json.dumps({"dataframe_records": rows}).encode()
    request = urllib.request.Request(f"{server}/invocations", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read(), parse_constant=no_json)["predictions"]


def encoded(data):
    return base64.b64encode(data).decode()


def test_each_row_has_an_answer_and_what_is_unknown_is_null(server, views, folder):
    good = {"views": list(map(encoded, views)), "headings_deg": list(HEADINGS)}
    bad = {"views": [encoded(b"no picture")], "headings_deg": [0.0]}
    half = {"views": [encoded(b"\xff\xd8 no more"), *map(encoded, views[1:])], "headings_deg": list(HEADINGS)}
    picture = write_picture(folder / "alone.png", 7, size=(SHARD_PX, SHARD_PX)).read_bytes()
    alone = {"views": [encoded(picture)], "headings_deg": None}
    first, broken, partly, last = ask(server, [good, bad, half, alone])
    for row in (first, partly, last):
        assert -90 <= row["latitude"] <= 90
        assert row["radius_50_km"] > 0
        assert (row["landmark"], row["landmark_name"], row["landmark_score"], row["landmark_confidence"]) == (None,) * 4
    assert first["error"] is last["error"] is None
    assert partly["error"].startswith("view 0: ")
    assert broken.pop("error") == "view 0: no known picture format"
    assert broken.pop("cell") == -1
    assert set(broken.values()) == {None}
    assert list(first) == [*COLUMNS, "error"]


def test_a_request_of_another_form_is_refused(server):
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(server, [{"pictures": []}])
    assert caught.value.code == 400


def test_the_served_version_passes_the_test_that_promotion_asks_of_it(uri):
    assert smoke_fault(NAME, "1", uri, ("latitude", "longitude")) is None
    fault = smoke_fault(NAME, "1", uri, ("landmark_score",))
    assert fault == "its answer has no number for landmark_score"
