"""MLflow's database is there whole or not at all, however many want it at once and whoever is killed."""

import os
import subprocess
import sys
import time

import pytest
from closure import ROOT

pytestmark = pytest.mark.slow

OPEN = """
import sys, time
from pathlib import Path
from tasks.registry.store import experiment_id
Path(sys.argv[1]).touch()
while not Path("go").exists():
    time.sleep(0.001)
print(experiment_id())
"""


def opening(folder, *names):
    """Start processes that open the store, each as soon as all have imported MLflow."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    (folder / "go").unlink(missing_ok=True)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, name], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
        )
        for name in names
    ]
    while not all((folder / name).exists() for name in names):
        assert all(its.poll() is None for its in started)
        time.sleep(0.05)
    (folder / "go").touch()
    return started


def test_trainings_that_begin_at_once_share_one_store(tmp_path):
    started = opening(tmp_path, "a", "b", "c")
    assert [its.communicate(timeout=120)[0] for its in started] == ["1\n"] * 3
    assert [its.returncode for its in started] == [0] * 3


def test_a_store_that_was_being_made_when_its_maker_was_killed_is_made_anew(tmp_path):
    (killed,) = opening(tmp_path, "a")
    half = tmp_path / ".mlflow.db.new"
    while not half.exists() or half.stat().st_size < 20_000:
        assert not (tmp_path / "mlflow.db").exists()
    killed.kill()
    killed.wait()
    assert half.exists()
    assert not (tmp_path / "mlflow.db").exists()
    (after,) = opening(tmp_path, "b")
    assert after.communicate(timeout=120)[0] == "1\n"
    assert not list(tmp_path.glob(".mlflow.db.new*"))


LOG = """
from pathlib import Path
from tasks.registry.store import client, experiment_id
store = client()
run = store.create_run(experiment_id()).info.run_id
Path("text.txt").write_text("x")
store.log_artifact(run, "text.txt")
print([its.path for its in store.list_artifacts(run)])
"""


def test_database_and_artifacts_lie_in_a_checkout_whatever_its_path_holds(tmp_path):
    folder = tmp_path / "what? 50% #1 ü" / "waymark"
    folder.mkdir(parents=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": ""}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", LOG], cwd=folder, env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout == "['text.txt']\n"
    assert sorted(path.name for path in folder.iterdir()) == [".work", "mlflow.db", "mlruns", "text.txt"]
    assert len(list((folder / "mlruns").rglob("text.txt"))) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["what? 50% #1 ü"]


NAMES = """
from tasks.registry import store
from waymark.inference.lookup import BEST
print(store.EXPERIMENT, store.ELSEWHERE, *BEST)
"""


@pytest.mark.parametrize(("environment", "after"), [("", ""), ("staging", "-staging")])
def test_two_environments_that_share_a_server_have_experiments_and_models_of_their_own(environment, after):
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "WAYMARK_ENVIRONMENT": environment}
    done = subprocess.run([sys.executable, "-c", NAMES], env=variables, capture_output=True, text=True, check=True)
    plain = ["waymark", "waymark-elsewhere", "waymark-location", "waymark-landmark"]
    assert done.stdout.split() == [f"{name}{after}" for name in plain]
