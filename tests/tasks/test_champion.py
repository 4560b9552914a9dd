"""The alias and its history in a real registry."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import mlflow
import pytest
from closure import ROOT
from mlflow.tracking import MlflowClient

from tasks.registry import versions as champion
from tasks.registry.store import only_one
from waymark.errors import ModelError

pytestmark = pytest.mark.slow

NAME = "waymark-location"


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("champion")
    yield folder, MlflowClient(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_tracking_uri(None)


@pytest.fixture
def store(registry, monkeypatch):
    """A registry with five versions, of which the first is champion."""
    folder, store = registry
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    store.create_registered_model(NAME)
    for _ in range(5):
        store.create_model_version(NAME, "file:///nowhere", run_id=None)
    champion.make_champion(NAME, "1", None, "the first")
    yield store
    store.delete_registered_model(NAME)


def promote(*versions):
    for version in versions:
        champion.make_champion(NAME, version, champion.champion_of(NAME), f"better: {version}", f"runs:/{version}")


def line(store, version):
    return store.get_model_version(NAME, version).description.splitlines()[0]


def test_a_promotion_says_why_and_over_whom(store):
    promote("2")
    tags = store.get_model_version(NAME, "2").tags
    assert champion.history(NAME) == (["1"], "2", [])
    assert tags["waymark.promotion.previous_champion"] == "1"
    assert tags["waymark.promotion.reason"] == "better: 2"
    assert tags["waymark.promotion.evidence"] == "runs:/2"
    assert tags["waymark.promotion.at"].endswith("+00:00")
    assert line(store, "2").startswith("Promotion: champion since ")
    assert line(store, "2").endswith(": better: 2")
    assert "when version 2 was promoted" in line(store, "1")
    assert store.get_model_version(NAME, "1").tags["waymark.promotion.reason"] == "the first"


def test_back_along_the_history_and_forward_again(store):
    promote("2", "3")
    assert champion.roll_back(NAME, "it dreams") == (NAME, "3", "2")
    assert champion.history(NAME) == (["1"], "2", ["3"])
    assert champion.roll_back(NAME) == (NAME, "2", "1")
    assert champion.history(NAME) == ([], "1", ["2", "3"])
    tags = store.get_model_version(NAME, "1").tags
    assert tags["waymark.promotion.next_champion"] == "2"
    assert "waymark.promotion.previous_champion" not in tags
    with pytest.raises(ModelError, match="version 1 of waymark-location is the first of its history"):
        champion.roll_back(NAME)
    assert champion.roll_back(NAME, forward=True).after == "2"
    assert champion.roll_back(NAME, forward=True).after == "3"
    assert champion.history(NAME) == (["1", "2"], "3", [])
    with pytest.raises(ModelError, match="is the newest of its history: nothing was rolled back"):
        champion.roll_back(NAME, forward=True)


def test_a_rollback_can_be_read_in_the_registry(store):
    promote("2")
    champion.roll_back(NAME, "it dreams")
    assert "rolled back from version 2: it dreams" in line(store, "1")
    assert "rolled back on " in line(store, "2")
    assert line(store, "2").endswith(" to version 1: it dreams")
    assert store.get_model_version(NAME, "2").tags[champion.LEFT].endswith("for version 1: it dreams")
    assert store.get_model_version(NAME, "1").tags["waymark.rollback.reason"] == "rolled back from version 2: it dreams"
    champion.roll_back(NAME, forward=True)
    assert champion.LEFT not in store.get_model_version(NAME, "2").tags


def test_a_promotion_after_a_rollback_begins_a_new_history(store):
    promote("2", "3")
    champion.roll_back(NAME)
    promote("4")
    assert champion.history(NAME) == (["1", "2"], "4", [])
    with pytest.raises(ModelError, match="newest"):
        champion.roll_back(NAME, forward=True)
    champion.roll_back(NAME)
    assert champion.history(NAME) == (["1"], "2", ["4"])


def test_a_version_may_be_champion_twice(store):
    promote("2", "3", "1")  # the first model is the best again
    seen = ["1"]
    while champion.history(NAME)[0]:
        seen.append(champion.roll_back(NAME).after)
    assert seen == ["1", "3", "2", "1"]
    while champion.history(NAME)[2]:
        seen.append(champion.roll_back(NAME, forward=True).after)
    assert seen == ["1", "3", "2", "1", "2", "3", "1"]


def test_what_is_no_longer_in_the_registry_is_passed_over(store):
    promote("2", "3")
    store.delete_model_version(NAME, "2")
    assert champion.roll_back(NAME).after == "1"


def test_a_refusal_leaves_champion_and_history_alone(store):
    promote("2")
    champion.refuse(NAME, "1", "not better", "runs:/x")
    champion.refuse(NAME, "3", "worse")
    assert champion.history(NAME) == (["1"], "2", [])
    assert line(store, "3").startswith("Promotion: refused on ")
    assert store.get_model_version(NAME, "3").tags["waymark.promotion.verdict"] == "refused"
    assert champion.roll_back(NAME).after == "1"


def test_what_people_wrote_stays_below_our_line(store):
    store.update_model_version(NAME, "2", "trained on the islands\nsecond line")
    promote("2")
    champion.roll_back(NAME)
    description = store.get_model_version(NAME, "2").description.splitlines()
    assert description[1:] == ["trained on the islands", "second line"]
    assert len(description) == 3


def test_a_champion_that_moved_meanwhile_is_not_overrun(store):
    promote("2")
    with pytest.raises(ModelError, match="the champion of waymark-location is version 2 by now"):
        champion.make_champion(NAME, "3", "1", "better")
    assert champion.history(NAME) == (["1"], "2", [])
    assert "waymark.promotion.reason" not in store.get_model_version(NAME, "3").tags


def waiting_for(lock):
    inode = f":{lock.stat().st_ino} "
    return any("->" in its and inode in its for its in Path("/proc/locks").read_text().splitlines())


def test_two_movers_wait_for_each_other(store):
    failed = []

    def mover():
        try:
            champion.make_champion(NAME, "3", "1", "better")
        except ModelError as error:
            failed.append(str(error))

    with only_one(f"champion-{NAME}"):
        thread = threading.Thread(target=mover)
        thread.start()
        while thread.is_alive() and not waiting_for(Path(f".work/locks/champion-{NAME}.lock")):
            thread.join(0.01)
        store.set_registered_model_alias(NAME, "champion", "2")
    thread.join()
    assert "version 2 by now" in failed[0]


KILLED = """
import os, signal, sys
from mlflow.tracking import MlflowClient
from tasks.registry import versions as champion

def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "before":
    MlflowClient.set_registered_model_alias = die
else:
    champion._describe = die
if sys.argv[1] == "promote":
    champion.make_champion("waymark-location", "3", "2", "better")
else:
    champion.roll_back("waymark-location")
"""


@pytest.mark.parametrize(("move", "border"), [("promote", "before"), ("promote", "after"), ("roll back", "before")])
def test_kill_9_leaves_the_old_champion_or_the_new_one(store, move, border):
    promote("2")
    command = [sys.executable, "-c", KILLED, move, border]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    old, new = (["1"], "2", []), (["1", "2"], "3", []) if move == "promote" else ([], "1", ["2"])
    assert champion.history(NAME) == (old if border == "before" else new)
    if border == "before":  # what was cut off goes through when it is done again
        promote("3") if move == "promote" else champion.roll_back(NAME)
        assert champion.history(NAME) == new
    while champion.history(NAME)[0]:
        champion.roll_back(NAME)
    assert champion.champion_of(NAME) == "1"


def test_unknown_names_are_answered_with_what_there_is(store):
    with pytest.raises(ModelError, match="no 9 of waymark-location; it has champion and the versions 1, 2, 3, 4, 5"):
        champion.version_of(NAME, "9")
    with pytest.raises(ModelError, match="no challenger of waymark-location; it has champion and"):
        champion.version_of(NAME, "challenger")
    with pytest.raises(ModelError, match="no challenger of waymark-locaton; it has the models waymark-location"):
        champion.version_of("waymark-locaton", "challenger")
    with pytest.raises(ModelError, match="waymark-landmark has no champion to roll back"):
        champion.roll_back("waymark-landmark")
