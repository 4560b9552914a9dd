"""Challengers against champions in a real registry: tiny models, of which one answers the test as it is."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from contest import LANDMARK, LOCATION, Contest

from tasks.registry import promotion as step
from tasks.registry import versions as champion
from tasks.registry.promotion import decide
from tasks.registry.rescore import find_test
from waymark.errors import ModelError
from waymark.promotion.checks import Gate

pytestmark = pytest.mark.slow

GATE = Gate(resamples=200, latency_s=600)  # a busy machine is no reason for a test to fail
SMOKE = step.smoke_fault


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    yield Contest(tmp_path_factory.mktemp("contest")).make()
    mlflow.set_tracking_uri(None)


@pytest.fixture
def contest(made, tmp_path, monkeypatch):
    """A checkout and a registry of the test's own; the smoke test takes seconds and is passed but where it is asked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(step, "smoke_fault", lambda *arguments: None)
    return made.copy(tmp_path)


def crown(contest, model, name=LOCATION, **about):
    version = contest.add(model, name, **about)
    champion.make_champion(name, version, champion.champion_of(name), "the first")
    return version


def checks(contest, decision):
    document = evidence(contest, decision)
    return {its["name"]: its for its in document["checks"]}


def evidence(contest, decision):
    return json.loads(artifact(contest, decision, "evidence.json").read_text())


def artifact(contest, decision, name):
    place = decision.uri.rsplit("/", 1)[0]
    return Path(mlflow.artifacts.download_artifacts(f"{place}/{name}", tracking_uri=contest.uri))


def test_a_better_challenger_is_promoted_with_its_evidence(contest, monkeypatch):
    monkeypatch.setattr(step, "smoke_fault", SMOKE)
    crown(contest, "wrong")
    contest.add("right")
    decision = decide(gate=GATE)
    assert (decision.outcome, decision.challenger, decision.champion) == ("promoted", "2", "1")
    assert champion.history(LOCATION) == (["1"], "2", [])
    tags = contest.store.get_model_version(LOCATION, "2").tags
    assert tags["waymark.promotion.reason"] == decision.reason
    assert tags["waymark.promotion.evidence"] == decision.uri
    document = evidence(contest, decision)
    assert (document["promoted"], document["test_records"]) == (True, 60)
    assert [its["name"] for its in document["checks"]] == [
        *("exposure", "smoke", "leaks", "records", "better", "slices", "latency")
    ]
    answers = pd.read_parquet(artifact(contest, decision, "answers.parquet"))  # every figure can be computed again
    figures = checks(contest, decision)["better"]["figures"]
    for role in ("challenger", "champion"):
        assert figures[role] == pytest.approx(answers[f"{role}_distance_km"].mean())
    assert figures["challenger"] < 1 < figures["champion"]
    page = artifact(contest, decision, "evidence.html").read_text()
    assert "waymark-location version 2: promoted, against version 1" in page
    assert "Where the challenger errs" in page
    assert "| it is better | passed | mean error 0.1 km against" in decision.markdown
    again = decide(gate=GATE)
    assert again.outcome == "nothing to do"
    assert champion.history(LOCATION) == (["1"], "2", [])


def test_a_worse_challenger_is_refused_with_its_evidence(contest):
    crown(contest, "right")
    contest.add("wrong")
    decision = decide(gate=GATE)
    assert decision.outcome == "refused"
    assert "it is not shown to be better: mean error" in decision.reason
    assert champion.champion_of(LOCATION) == "1"
    assert not evidence(contest, decision)["promoted"]
    version = contest.store.get_model_version(LOCATION, "2")
    assert version.description.startswith("Promotion: refused on ")
    assert version.tags["waymark.promotion.evidence"] == decision.uri
    assert "waymark.promotion.previous_champion" not in version.tags


def test_landmarks_are_judged_by_gap_and_a_joint_model_may_bear_both_names(contest):
    for name in (LOCATION, LANDMARK):
        crown(contest, "wrong", name)
        contest.add("right", name)
    decision = decide(LANDMARK, gate=GATE)
    assert decision.outcome == "promoted"
    assert decision.reason.startswith("GAP 1.000 against 0.")
    assert champion.champion_of(LOCATION) == "1"
    slices = checks(contest, decision)["slices"]["figures"]["slices"]
    assert {its["slice"] for its in slices} <= {"head", "middle", "tail", "unseen"}
    assert decide(LOCATION, gate=GATE).outcome == "promoted"


@pytest.mark.parametrize(
    ("its", "way"),
    [({"record_id": "r07"}, "record"), ({"record_id": "x", "group": "street"}, "group")],
)
def test_a_challenger_that_was_trained_on_its_test_is_refused(contest, its, way):
    records = pd.read_parquet("data/filtered/records.parquet")
    contest.write_groups({"r07": "street"})
    crown(contest, "wrong")
    contest.add("right", exposure=[its])
    decision = decide(gate=GATE)
    assert decision.outcome == "refused"
    assert decision.reason.startswith(f"it leaks: 1 of its own test records were trained or calibrated on (1 by {way})")
    assert "r07" in decision.reason
    assert champion.champion_of(LOCATION) == "1"
    assert len(records) == 60


def test_a_challenger_that_was_trained_on_a_picture_of_its_test_is_refused(contest):
    crown(contest, "wrong")
    contest.add("right", exposure=[{"record_id": "x", **contest.looks(7)}])
    decision = decide(gate=GATE)
    assert decision.outcome == "refused"
    assert "(1 by picture), such as r07 (by picture: x of train)" in decision.reason


def test_what_the_champion_was_trained_on_is_left_out(contest):
    contest.write_groups({"r01": "street", "r02": "street"})
    looks = {"record_id": "y", "split": "val", **contest.looks(3)}
    crown(contest, "wrong", exposure=[{"record_id": "r00"}, {"record_id": "x", "group": "street"}, looks])
    contest.add("right")
    decision = decide(gate=GATE)
    assert decision.outcome == "promoted"
    document = evidence(contest, decision)
    assert document["seen"]["champion"] == {"record": 1, "group": 2, "picture": 1}
    assert checks(contest, decision)["records"]["figures"]["records"] == 56
    answers = pd.read_parquet(artifact(contest, decision, "answers.parquet"))
    assert set(contest.ids) - set(answers["record_id"]) == {"r00", "r01", "r02", "r03"}
    few = decide(challenger="1", gate=replace(GATE, least_records=57))  # the other way round: seen by the challenger
    assert few.outcome == "refused"


def test_too_few_records_refuse(contest):
    crown(contest, "wrong", exposure=[{"record_id": record_id} for record_id in contest.ids[:20]])
    contest.add("right")
    decision = decide(gate=GATE)
    assert decision.outcome == "refused"
    assert "40 test records are left" in decision.reason
    assert "20 seen by the champion (by record)" in decision.reason
    assert champion.champion_of(LOCATION) == "1"


def test_latency_and_a_dry_run(contest):
    crown(contest, "wrong")
    contest.add("right")
    before = contest.store.get_model_version(LOCATION, "2").tags
    decision = decide(gate=replace(GATE, latency_s=1e-6), dry_run=True)
    assert decision.outcome == "refused"
    assert "s for a record" in decision.reason
    assert "more than 1e-06 s" in decision.reason
    assert "| fast enough | failed |" in decision.markdown
    assert contest.store.get_model_version(LOCATION, "2").tags == before
    assert decision.uri == ""


def test_a_damaged_model_is_refused(contest, monkeypatch, tmp_path):
    monkeypatch.setattr(step, "smoke_fault", SMOKE)
    crown(contest, "wrong")
    whole = mlflow.artifacts.download_artifacts(contest.sources["right"], tracking_uri=contest.uri)
    damaged = tmp_path / "damaged"
    shutil.copytree(whole, damaged)
    (checkpoint,) = damaged.rglob("model.ckpt")
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    contest.add("right", source=damaged.as_uri())
    decision = decide(gate=GATE)
    assert decision.outcome == "refused"
    assert decision.reason.startswith("the registered model does not work: ")
    assert champion.champion_of(LOCATION) == "1"


def test_models_of_which_nobody_knows_what_they_saw_are_refused(contest):
    crown(contest, "wrong", kept=False)
    contest.add("right")
    decision = decide(gate=GATE)
    assert decision.outcome == "refused"
    assert "nobody knows what the champion (version 1) was trained on" in decision.reason
    assert "dvc repro --force train@MODEL" in decision.reason


def test_no_night_undoes_a_rollback_but_an_operator_may(contest):
    crown(contest, "wrong")
    contest.add("right")
    champion.make_champion(LOCATION, "2", "1", "better")
    champion.roll_back(LOCATION, "it dreams")
    decision = decide(gate=GATE)
    assert decision.outcome == "refused"
    assert "version 2 was rolled back on" in decision.reason
    assert "it dreams" in decision.reason
    assert "--forward brings it back, --challenger 2 judges it again" in decision.reason
    assert decide(challenger="2", gate=GATE).outcome == "promoted"
    assert champion.history(LOCATION) == (["1"], "2", [])


def test_without_a_champion_the_smoke_test_decides(contest):
    contest.add("right")
    decision = decide(gate=GATE)
    assert (decision.outcome, decision.champion) == ("promoted", None)
    assert champion.history(LOCATION) == ([], "1", [])


def test_another_split_is_an_error_that_names_the_remedy(contest):
    crown(contest, "wrong")
    contest.add("right")
    split = pd.read_parquet("data/split/records.parquet")
    split.assign(split=np.where(split["record_id"] == "r00", "train", "test")).to_parquet("data/split/records.parquet")
    with pytest.raises(
        ModelError, match=r"has another test than the one that the challenger was evaluated on .*; run dvc"
    ):
        decide(gate=GATE)
    night = Path(".nights/checkout/data")
    shutil.copytree("data", night)
    split.to_parquet(night / "split/records.parquet")
    digest = contest.store.get_model_version(LOCATION, "2").tags["waymark.split.test_sha256"]
    assert find_test(digest).folder == Path.cwd() / ".nights/checkout"
    shutil.rmtree("data")
    shutil.rmtree(night)
    with pytest.raises(ModelError, match=r"there is no test to score on: .* is missing; run the stages"):
        decide(gate=GATE)


def test_unknown_names_are_errors(contest):
    with pytest.raises(
        ModelError, match="no challenger of waymark-location; it has the models spare-right, spare-wrong"
    ):
        decide(gate=GATE)
    contest.add("right")
    with pytest.raises(ModelError, match="no 7 of waymark-location; it has challenger and the versions 1"):
        decide(challenger="7", gate=GATE)
