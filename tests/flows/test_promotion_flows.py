"""Promotion and rollback as flows and as commands, on a real Prefect server and a real registry."""

import json
import os
import subprocess
import sys

import mlflow
import pytest
import warm
from closure import ROOT
from contest import LANDMARK, LOCATION, Contest
from prefect.exceptions import ParameterTypeError
from prefect.utilities.callables import parameter_schema
from test_notify import prefect_server
from toy import prefect_home

from flows.promote import promote
from flows.rollback import rollback
from tasks.registry import versions as champion
from waymark.promotion.checks import Gate

pytestmark = pytest.mark.slow

COMMANDS = """
import contextlib, io, json, sys
from flows import promote, rollback
from prefect.client.orchestration import get_client

def run(module, *arguments):
    sys.argv = [module.__name__, *arguments]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            module.main()
    except SystemExit as ended:
        print("exit", ended.code, said.getvalue().strip().splitlines()[-1])
    sys.stderr.write(said.getvalue())

gate = ("--resamples", "200", "--latency-s", "600")
run(promote, *gate)
run(promote, *gate)
run(rollback, "waymark-location", "--reason", "it dreams")
run(promote, *gate)
run(rollback, "waymark-location")
run(rollback, "waymark-location", "--forward")
run(promote, "--model", "waymark-landmark", "--challenger", "9")
run(promote, "--model", "waymark-landmark", "--dry-run", *gate)
with get_client(sync_client=True) as client:
    artifacts = client.read_latest_artifacts()
    runs = client.read_flow_runs()
    tasks = client.read_task_runs(limit=200)
    logs = client.read_logs()
print(json.dumps({
    "artifacts": {each.key: each.data for each in artifacts}, "states": sorted(each.state.name for each in runs),
    "runs": [each.name for each in runs], "tasks": [each.name for each in tasks],
    "logs": [each.message for each in logs if each.name.startswith("tasks.") and each.task_run_id],
}))
"""


STARTS = ("Promoted", "Refused", "Nothing", "Rolled", "Forward", "exit", "{")
SAID = [
    *("Promoted", "Nothing to do", "Rolled back", "Refused"),
    "exit 1 version 1 of waymark-location is the first of its history; promote another with python -m flows.promote",
    "Forward again",
    "exit 1 the registry has no 9 of waymark-landmark; it has challenger, champion and the versions 1, 2",
    "Refused",
]


def test_promote_and_roll_back_as_an_operator_does(tmp_path):
    contest = Contest(tmp_path).make()
    os.environ["MLFLOW_TRACKING_URI"], before = contest.uri, os.environ.get("MLFLOW_TRACKING_URI")
    try:
        for name, models in ((LOCATION, ("wrong", "right")), (LANDMARK, ("right", "wrong"))):
            first, _ = (contest.add(model, name) for model in models)
            champion.make_champion(name, first, None, "the first")
    finally:
        os.environ.pop("MLFLOW_TRACKING_URI") if before is None else os.environ.update(MLFLOW_TRACKING_URI=before)
        mlflow.set_tracking_uri(None)
    prefect_home(tmp_path / ".prefect")
    with prefect_server(tmp_path / ".prefect") as api:
        environment = {
            **os.environ,
            **{"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": contest.uri, "PREFECT_HOME": str(tmp_path / ".prefect")},
            **{"PREFECT_API_URL": api, "OMP_NUM_THREADS": "1"},
        }
        result = subprocess.run(
            [sys.executable, "-c", COMMANDS], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
    assert result.returncode == 0, result.stderr[-6000:]
    assert "ModelError" not in result.stderr  # of what cannot be, a line is said and no traceback shown
    *said, last = [line for line in result.stdout.splitlines() if line.startswith(STARTS)]
    assert [line.partition(": ")[0] for line in said] == SAID
    ended = json.loads(last)
    assert ended["states"] == sorted(
        ["Promoted", "Nothing to do", "Rolled back", *["Refused"] * 2, "Forward again", *["Failed"] * 2]
    )
    assert len(set(ended["runs"])) == len(SAID)
    assert sum(name.startswith("promote waymark-location challenger 20") for name in ended["runs"]) == 3
    steps = ("smoke test of version 2", "score the challenger, version 2", "score the champion, version 1")
    assert all(ended["tasks"].count(step) == 2 for step in steps)  # of both names; what was rolled back asks for none
    assert any(line.startswith("answered for ") for line in ended["logs"])
    assert "GAP" in ended["artifacts"]["promotion-waymark-landmark"]
    assert "rolled back" in ended["artifacts"]["promotion-waymark-location"]


@pytest.mark.parametrize("command", [["flows.promote"], ["flows.rollback", "waymark-location"]])
def test_typed_by_hand_no_server_is_started(tmp_path, command):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    environment |= {"PREFECT_API_URL": "", "PREFECT_HOME": str(tmp_path / ".prefect")}
    typed = [warm.path() / "python", "-m", *command]
    result = subprocess.run(typed, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "waymark-location" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.rglob("prefect.db"))


def test_the_form_says_what_each_field_is():
    schema = parameter_schema(promote)
    fields = schema.definitions["Gate"]["properties"]
    assert set(fields) == set(Gate.__dataclass_fields__)
    for each in (*fields.values(), *schema.properties.values(), *parameter_schema(rollback).properties.values()):
        assert each["description"].endswith(".")
    assert fields["least_records"]["default"] == 50
    assert fields["confidence"]["exclusiveMaximum"] == 1


def test_a_wrong_field_of_the_form_is_refused():
    assert promote.validate_parameters({"gate": {"least_records": 7}})["gate"].least_records == 7
    with pytest.raises(ParameterTypeError, match=r"gate\.least_records: Input should be greater than or equal to 2"):
        promote.validate_parameters({"gate": {"least_records": 1}})
