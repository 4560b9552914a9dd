"""`make up`, `make status` and `make down`, and what is left after a crash: real servers, workers and signals."""

import dataclasses
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from servers import Services, until
from toy import clone, yaml

from flows import daemons

pytestmark = pytest.mark.slow


def toy_project(folder):
    """Clone the project and let its deployments run the toy flows."""
    project = clone(folder)
    deployed = yaml.load(folder / "prefect.yaml")
    for deployment in deployed["deployments"]:
        deployment["entrypoint"] = f"tests/flows/toy_flows.py:{deployment['name']}"
        deployment["concurrency_limit"] = {
            "limit": 1,
            "collision_strategy": "CANCEL_NEW",
        }  # of all, for the tests' sake
    yaml.dump(deployed, folder / "prefect.yaml")
    (folder / ".prefect/prefect.db").unlink()  # made by the server, as with an operator's first start
    return project


def of_folder(folder):
    """List the processes that work in a folder or carry it in their arguments."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (place / "cmdline").read_text().replace("\0", " ")
            if arguments and ((place / "cwd").resolve() == folder or str(folder) in arguments):
                found[int(place.name)] = arguments
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    project = toy_project(tmp_path_factory.mktemp("services") / "project")
    with Services(project, WAYMARK_NOTIFY="json://127.0.0.1:9/") as started:
        yield started


def next_night(services):
    """Read when the next night begins from the status; None while the server has yet to schedule it."""
    line = services.command(sys.executable, "-m", "flows.services", "status").splitlines()[-1]
    if line == "next night      is about to be scheduled":
        return None
    assert re.fullmatch(r"next night      \d{4}-\d\d-\d\d \d\d:00[+-]\d\d:\d\d", line), line
    return datetime.fromisoformat(line.removeprefix("next night").strip())


def test_the_server_watches_for_dead_runs_and_tells_of_crashes(services):
    services.up()  # once more changes nothing
    names = [its["name"] for its in services.ask("POST", "/automations/filter")]
    assert sorted(names) == ["waymark: pending runs", "waymark: silent runs", "waymark: word of a crash"]


def test_runs_go_through_the_workers_with_all_that_they_need(services, tmp_path):
    for deployment in ("nightly/nightly", "train/train"):
        mark = tmp_path / deployment.replace("/", "-")
        run = services.deploy_run(deployment, {"mark": str(mark)})
        assert services.wait(run).name == "Completed", services.logs(run)
        _, _, folder, path, api_url, tracking_uri, site, heartbeat = mark.read_text().splitlines()
        assert folder == str(services.folder)
        assert path == str(Path(sys.executable).parent)
        assert (api_url, tracking_uri) == (services.api_url, services.mlflow_url)
        assert (site, heartbeat) == (str(services.folder / ".dvc/tmp/site"), "30")


def test_up_again_starts_nothing_and_status_tells_what_runs(services):
    before = {name: daemon.pid for name, daemon in daemons.known(services.folder).items()}
    assert set(before) == {"prefect", "mlflow", "worker-default", "worker-gpu"}
    printed = services.up()
    assert printed.count("runs already, since") == 4
    assert f"Prefect  http://127.0.0.1:{services.prefect_port}" in printed
    assert {name: daemon.pid for name, daemon in daemons.known(services.folder).items()} == before
    shell = services.command(sys.executable, "-m", "flows.shell").split()
    assert shell == [
        "export",
        f"PREFECT_API_URL={services.api_url}",
        "export",
        f"MLFLOW_TRACKING_URI={services.mlflow_url}",
    ]
    status = services.command(sys.executable, "-m", "flows.services", "status")
    assert status.count("runs since") == 4
    assert status.count("online") == 2
    night = until(lambda: next_night(services), 120, services.all_logs)
    assert night.astimezone(ZoneInfo("Europe/Zagreb")).hour == 2


def test_the_deployments_are_those_of_prefect_yaml(services):
    found = {
        name: services.ask("GET", f"/deployments/name/{name}/{name}")
        for name in ("nightly", "train", "promote", "rollback")
    }
    assert {name: its["work_pool_name"] for name, its in found.items()} == {
        "nightly": "default",
        "train": "gpu",
        "promote": "default",
        "rollback": "default",
    }
    assert all(its["description"] for its in found.values())
    assert found["nightly"]["global_concurrency_limit"]["limit"] == 1
    assert found["nightly"]["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    (schedule,) = found["nightly"]["schedules"]
    assert (schedule["schedule"]["cron"], schedule["active"]) == ("0 2 * * *", True)
    assert services.ask("GET", "/work_pools/gpu")["concurrency_limit"] == 1
    assert services.ask("GET", "/work_pools/default")["concurrency_limit"] is None


def test_a_second_night_beside_the_first_is_cancelled_and_cancelling_the_first_leaves_no_child(services, tmp_path):
    mark = tmp_path / "mark"
    first = services.deploy_run("nightly/nightly", {"mark": str(mark), "seconds": 600})
    until(mark.exists, 600, services.all_logs)
    second = services.wait(services.deploy_run("nightly/nightly"))
    assert (second.name, second.message) == ("Cancelled", "Deployment concurrency limit reached.")
    services.cancel(first)
    assert services.wait(first).name == "Cancelled"
    assert gone(mark)


def gone(mark):
    """Wait until a run that left its mark, and its child, are gone."""
    pids = [int(pid) for pid in mark.read_text().split()[:2]]
    return until(lambda: not any(daemons.birth(pid) for pid in pids), 120, lambda: str(pids))


def test_runs_that_a_power_cut_left_running_and_pending_become_crashed_and_block_nobody(services, tmp_path):
    """Both deployments let one run at a time; servers, workers and runs die at the same moment."""
    mark = tmp_path / "mark"
    at_work = services.deploy_run("nightly/nightly", {"mark": str(mark), "seconds": 600})
    until(mark.exists, 600, services.all_logs)
    taken = services.deploy_run("train/train")
    until(lambda: services.state(taken).type == "PENDING", 600, services.all_logs)
    for daemon in daemons.known(services.folder).values():
        for process in daemons.family(daemon):
            process.kill()
    services.variables |= {"WAYMARK_SILENT_S": "31", "WAYMARK_PENDING_S": "31"}  # the least for heartbeats of 30 s
    services.up()
    for run in (at_work, taken):
        assert services.wait(run).name == "Crashed"
        assert services.state(run).message == "no sign of life for 31 s: its process is gone"
    services.variables |= {"WAYMARK_SILENT_S": "300", "WAYMARK_PENDING_S": "300"}
    services.up()
    for deployment in ("nightly/nightly", "train/train"):
        assert services.wait(services.deploy_run(deployment)).name == "Completed"


def test_a_run_ends_with_its_worker_that_was_killed_outright(services, tmp_path):
    mark = tmp_path / "mark"
    run = services.deploy_run("train/train", {"mark": str(mark), "seconds": 600})
    until(mark.exists, 600, services.all_logs)
    services.kill("worker-gpu")
    assert gone(mark)
    said = services.command(sys.executable, "-m", "flows.services", "status", code=1)
    assert "worker-gpu      has ended; see" in said
    assert services.state(run).type == "RUNNING", "nobody is left who could say what happened"


def test_a_server_killed_outright_and_started_again_costs_no_run(services, tmp_path):
    mark = tmp_path / "mark"
    run = services.deploy_run("nightly/nightly", {"mark": str(mark), "seconds": 25})
    until(mark.exists, 600, services.all_logs)
    services.kill("prefect")
    services.up()
    assert services.wait(run).name == "Completed", services.logs(run)


def test_down_ends_runs_and_children_and_nothing_else(services, tmp_path):
    mark = tmp_path / "mark"
    run = services.deploy_run("nightly/nightly", {"mark": str(mark), "seconds": 600})
    until(mark.exists, 600, services.all_logs)
    somebody = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], cwd=services.folder)
    try:
        said = services.down()
        assert said.count(": stopped") == 4
        assert somebody.poll() is None
        assert set(of_folder(services.folder)) == {somebody.pid}
    finally:
        somebody.kill()
        somebody.wait()
    assert not any(daemons.birth(int(pid)) for pid in mark.read_text().split()[:2])
    with sqlite3.connect(services.folder / ".prefect/prefect.db") as database:
        ((state,),) = database.execute("select state_type from flow_run where id = ?", (run,)).fetchall()
    assert state in ("CRASHED", "CANCELLED")
    assert "nothing was started here" in services.down()


def test_a_number_that_now_belongs_to_another_process_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours = daemons.start("mlflow", ["true"], os.environ)
    time.sleep(0.05)  # some ticks of the kernel, by which it says when a process was born
    with subprocess.Popen(["sleep", "600"]) as another:
        daemons.write({"mlflow": dataclasses.replace(ours, pid=another.pid)})
        assert not daemons.known()["mlflow"].alive
        daemons.stop(daemons.known()["mlflow"], grace_s=1)
        assert another.poll() is None
        another.kill()
    assert daemons.known() == {}


def test_a_server_that_does_not_start_is_named_with_the_end_of_its_log(tmp_path):
    project = clone(tmp_path / "project")
    services = Services(project, PREFECT_API_DATABASE_CONNECTION_URL="postgresql+asyncpg://nobody@127.0.0.1:1/none")
    said = services.command(sys.executable, "-m", "flows.services", "up", code=1)
    services.down()
    assert f"prefect ended while it started; see {project.folder}/.services/prefect.log, which ends with" in said
    assert "Connect call failed" in said
    assert of_folder(project.folder) == {}


def test_a_taken_port_is_refused_with_the_remedy(tmp_path):
    project = clone(tmp_path / "project")
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        port = somebody.getsockname()[1]
        services = Services(project, PREFECT_SERVER_API_PORT=port)
        said = services.command(sys.executable, "-m", "flows.services", "up", code=1)
    assert f"prefect: port {port} is taken by another process; set PREFECT_SERVER_API_PORT" in said
    assert daemons.known(project.folder) == {}
