"""What follows a training, from files that a test writes in its place; a real store, a real process."""

import json
import subprocess
import time
from collections import Counter

import mlflow
import pytest

from tasks.common import publishing
from tasks.common.publishing import begin_record, keep_record, kept_record, published, write_curves
from tasks.registry.publish import Follower, best_effort
from tasks.registry.runs import TRAINING_TAG
from tasks.registry.store import all_experiments, client

pytestmark = pytest.mark.slow

ROWS = [{"epoch": epoch, "train_loss": 3.0 - epoch, "val_loss": None if epoch else 4.0} for epoch in range(3)]
LINEAGE = {"data_digest": "d1", "test_sha256": "t1"}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    yield
    mlflow.set_tracking_uri(None)


@pytest.fixture
def work(tmp_path):
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def begin(work):
    begin_record(work, "cells", {"optimizer": {"lr": 0.1}}, lineage=LINEAGE, circumstances={"hardware": "CPU"})


def runs():
    return client().search_runs(all_experiments())


def logged(run, name="train/loss"):
    return {metric.step: metric.value for metric in client().get_metric_history(run.info.run_id, name)}


def test_curves_are_in_mlflow_while_the_training_writes_them(work):
    follower = Follower("cells", work)
    follower.look()  # before the training has written anything
    begin(work)
    follower.look()
    (run,) = runs()
    assert (run.info.status, run.data.params) == ("RUNNING", {"optimizer.lr": "0.1"})
    expected = {"waymark.model": "cells", "waymark.hardware": "CPU", "waymark.data.digest": "d1"}
    assert expected.items() <= run.data.tags.items()
    for epochs in (1, 3):
        write_curves(work, ROWS[:epochs])
        follower.look()
        follower.look()
        assert logged(run) == {row["epoch"]: row["train_loss"] for row in ROWS[:epochs]}
    assert logged(run, "val/loss") == {0: 4.0}  # an epoch without a figure has none


def test_a_training_that_goes_on_is_found_by_its_record(work):
    begin(work)
    write_curves(work, ROWS[:2])
    Follower("cells", work).look()
    first = (work / "record.json").read_text()
    begin(work)  # after a kill: the first record stays
    assert (work / "record.json").read_text() == first
    write_curves(work, ROWS)
    Follower("cells", work).look()
    (run,) = runs()
    assert Counter(metric.step for metric in client().get_metric_history(run.info.run_id, "train/loss")) == Counter(
        range(3)
    )
    (work / "record.json").unlink()
    begin(work)  # another training
    Follower("cells", work).look()
    assert len({run.data.tags[TRAINING_TAG] for run in runs()}) == 2


def test_a_store_that_is_away_is_left_alone_for_a_while(work, monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/nowhere/else/mlflow.db")
    (tmp_path / "nowhere").write_text("no folder")
    begin(work)
    follower = Follower("cells", work)
    follower.look()
    assert "could not log the training of cells to MLflow; will retry" in caplog.text
    caplog.clear()
    assert follower.rests_until > time.monotonic() + 1
    follower.look()
    assert not caplog.text
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    follower.rests_until = 0.0
    follower.look()
    assert len(runs()) == 1


def test_a_password_is_in_no_warning(caplog):
    def fail():
        raise OSError("http://me:secret@example.org is away\nand more")

    assert not best_effort("it", fail)
    assert caplog.messages == ["could not log it to MLflow; will retry: http://***@example.org is away"]


@pytest.fixture
def heard(tmp_path, monkeypatch):
    """A publisher that writes down what it is told, in the place of the one that needs seconds to import MLflow."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "listener.py").write_text(
        "import json, sys\njson.dump([sys.argv[1:], sys.stdin.read()], open('heard.json', 'w'))\nsys.exit(7)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(publishing, "PUBLISHER", "listener")
    return lambda: json.loads((tmp_path / "heard.json").read_text())


def test_a_publisher_learns_that_the_stage_ended_well_and_its_failure_is_none_of_the_stage(heard, work):
    with published("cells", work):
        pass
    assert heard() == [["cells", "--follow", str(work)], "ended well\n"]


def test_a_stage_that_failed_ends_its_publisher_at_once(heard, tmp_path):
    began = time.monotonic()
    (tmp_path / "elsewhere/listener.py").write_text("import time; time.sleep(600)")
    with pytest.raises(ValueError, match="the stage"), published("cells"):
        raise ValueError("the stage")
    assert time.monotonic() - began < 60


def test_a_publisher_that_hangs_or_is_gone_holds_no_stage_up(heard, monkeypatch, tmp_path):
    monkeypatch.setattr(publishing, "LEAVE_S", 0.5)
    (tmp_path / "elsewhere/listener.py").write_text("import time; time.sleep(600)")
    with published("cells"):
        pass
    (tmp_path / "elsewhere/listener.py").write_text("raise SystemExit(1)")
    with published("cells"):
        time.sleep(0.5)


def test_a_publisher_that_does_not_start_holds_no_stage_up(monkeypatch, caplog):
    monkeypatch.setattr(publishing.sys, "executable", "/nowhere/python")
    with published("cells"):
        pass
    assert "MLflow gets the run later" in caplog.text


def test_the_record_of_a_training_is_kept_by_its_checkpoint(work, tmp_path):
    begin(work)
    (work / "model.ckpt").write_bytes(b"weights")
    keep_record(work, work / "model.ckpt")
    digest = subprocess.run(["sha256sum", work / "model.ckpt"], capture_output=True, text=True, check=True).stdout[:64]
    assert kept_record(digest).read_text() == (work / "record.json").read_text()
    assert kept_record(digest).parent == tmp_path / ".work/runs"
