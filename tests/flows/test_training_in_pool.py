"""Training by a worker of the pool `gpu`: asked for, cancelled, killed. Real server, worker, DVC and signals."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from processes import running
from ruamel.yaml import YAML
from servers import Services, until
from tiny import tiny

pytestmark = pytest.mark.slow
MODELS = ("cells", "coordinates")


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    project = tiny(tmp_path_factory.mktemp("gpu") / "project")
    deployed = project.folder / "prefect.yaml"
    content = YAML().load(deployed)
    content["deployments"] = [each for each in content["deployments"] if each["name"] == "train"]
    YAML().dump(content, deployed)
    with Services(project, WAYMARK_GPU_SLOTS=1) as services:
        yield services


def file(services, name):
    return services.folder / name


def start(services):
    """Start the pipeline as an operator does who has a server."""
    variables = {**services.environment(), "PREFECT_API_URL": services.api_url}
    command = [sys.executable, "-m", "flows.pipeline"]
    return subprocess.Popen(
        command, cwd=services.folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def end(flow, code):
    printed = flow.communicate(timeout=300)[0]
    assert flow.returncode == code, printed
    return printed


def run(services, code=0):
    return end(start(services), code)


def at_work(services):
    """List the processes of pipelines and trainings, without servers and workers."""
    marks = ("tasks.tiny", "-m dvc", "prefect.engine", "prefect.flow_engine", "flows.pipeline")
    return {pid: args for pid, args in running(services.folder).items() if any(mark in args for mark in marks)}


def began(services, *models):
    return until(lambda: any(file(services, f"began-{model}").exists() for model in models), 200, services.all_logs)


@pytest.fixture
def held(services):
    """A pipeline whose first training has begun and does not end by itself."""
    for model in MODELS:
        file(services, f"began-{model}").unlink(missing_ok=True)
    file(services, "hold").touch()
    services.project.change(models__cells__seed=services.project.params()["models"]["cells"]["seed"] + 1)
    flow = start(services)
    began(services, *MODELS)
    yield flow
    file(services, "hold").unlink(missing_ok=True)
    if flow.poll() is None:
        flow.kill()
        flow.wait()


def nothing_left(services):
    until(lambda: not at_work(services), 90, lambda: str(at_work(services)) + services.all_logs())


def goes_on(services):
    """The next run finishes, and nothing half-written is taken for whole."""
    file(services, "hold").unlink(missing_ok=True)
    run(services)
    for model in MODELS:
        assert file(services, f"trained/{model}/model.txt").read_text() == f"{model}places"
    assert services.project.repro() == []


def ledger(services):
    return {row["stage"]: row for row in json.loads(services.artifacts("ledger")[-1]["data"])}


def test_a_worker_trains_and_the_next_run_spares_all(services):
    run(services)
    lines = ledger(services)
    assert lines["train@cells"]["reason"] == "ran, by a worker of the pool gpu"
    trained = services.flow_runs(flows={"name": {"any_": ["train"]}})
    assert {(each["name"], each["state_name"]) for each in trained} == {(f"train@{m}", "Completed") for m in MODELS}
    assert all(each["parent_task_run_id"] for each in trained)
    assert {each["work_queue_name"] for each in trained} != {
        "default"
    }  # that of this checkout, which others do not see
    run(services)
    again = ledger(services).values()
    assert {row["state"] for row in again} == {"Skipped"}
    assert {row["reason"] for row in again} == {"neither it nor anything before it changed"}
    assert len(services.flow_runs(flows={"name": {"any_": ["train"]}})) == len(trained)


def test_the_message_of_a_failed_training_is_the_stages(services):
    file(services, "fail-train").touch()
    services.project.change(models__cells__seed=50)
    try:
        printed = run(services, code=1)
    finally:
        file(services, "fail-train").unlink()
    assert printed.splitlines()[-1] == "train: the disk is full of cells"
    assert ledger(services)["train@cells"]["state"] == "Failed"
    assert not file(services, "trained/cells").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_training_ends_with_the_pipeline(services, held, number):
    os.kill(held.pid, number)
    held.communicate(timeout=300)
    nothing_left(services)
    (each,) = services.flow_runs(flows={"name": {"any_": ["train"]}})[-1:]
    assert services.wait(each["id"], timeout=60).type in ("CANCELLED", "CRASHED")
    if number == signal.SIGKILL:
        goes_on(services)


def test_a_training_ends_when_the_pipeline_is_cancelled(services, held):
    (parent,) = services.flow_runs(flows={"name": {"any_": ["pipeline"]}})[-1:]
    services.cancel(parent["id"])
    printed = end(held, 1)
    assert printed.splitlines()[-1] == "the flow run was cancelled"
    assert services.state(parent["id"]).type == "CANCELLED"
    nothing_left(services)


def test_a_worker_that_is_killed_takes_the_training_with_it_and_the_stage_fails(services, held):
    services.kill("worker-gpu")
    printed = end(held, 1)
    assert printed.splitlines()[-1] == "the worker's process is gone; run again, and the training goes on"
    nothing_left(services)
    services.up()
    goes_on(services)


def test_a_server_that_restarts_does_not_end_the_training(services, held):
    services.kill("prefect")
    services.up()
    assert at_work(services)
    file(services, "hold").unlink()
    end(held, 0)
    nothing_left(services)
    assert services.project.repro() == []


def test_two_pipelines_at_once_train_once(services, held):
    before = len(services.flow_runs(flows={"name": {"any_": ["pipeline"]}}))
    second = start(services)
    until(lambda: len(services.flow_runs(flows={"name": {"any_": ["pipeline"]}})) > before, 300)
    file(services, "hold").unlink()
    end(held, 0)
    end(second, 0)
    assert file(services, "trained/cells/model.txt").read_text() == "cellsplaces"
    assert services.project.repro() == []


def test_models_train_at_once_only_as_slots_allow(services):
    for model in MODELS:
        file(services, f"began-{model}").unlink(missing_ok=True)
        services.project.change(**{f"models__{model}__seed": 70})
    file(services, "hold").touch()
    flow = start(services)
    began(services, *MODELS)
    at_once = [args for args in at_work(services).values() if args.endswith(MODELS) and "tasks.tiny train" in args]
    assert len({args.split()[-1] for args in at_once}) == 1
    time.sleep(6)  # longer than the worker's way from asking to a training
    assert not all(file(services, f"began-{model}").exists() for model in MODELS)
    services.ask("PATCH", "/work_pools/gpu", concurrency_limit=2)
    assert all(began(services, model) for model in MODELS)
    file(services, "hold").unlink()
    end(flow, 0)
