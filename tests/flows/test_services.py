"""`make up`, `make status` and `make down`, and what is left after a crash: real servers, workers and signals."""

import os
import re
import socket
import sqlite3
import stat
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest
from servers import Services, free_port, until
from toy import clone, yaml

from flows.stages.graph import is_alive

pytestmark = pytest.mark.slow


def toy_project(folder):
    """Clone the project and let its deployments run the toy flows."""
    project = clone(folder)
    deployed = yaml.load(folder / "prefect.yaml")
    for deployment in deployed["deployments"]:
        deployment["entrypoint"] = f"tests/support/toy_flows.py:{deployment['name']}"
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


def next_nightly(services):
    """Read when the next night begins from the status; None while the server has yet to schedule it."""
    line = services.command(sys.executable, "-m", "flows.services", "status").splitlines()[-1]
    if line == "next nightly    is about to be scheduled":
        return None
    assert re.fullmatch(r"next nightly    \d{4}-\d\d-\d\d \d\d:00[+-]\d\d:\d\d", line), line
    return datetime.fromisoformat(line.removeprefix("next nightly").strip())


def test_the_server_watches_for_dead_runs_and_notifies_of_crashes(services):
    services.up()  # once more changes nothing
    names = [each["name"] for each in services.ask("POST", "/automations/filter")]
    assert sorted(names) == ["waymark: notify of crashes", "waymark: pending runs", "waymark: silent runs"]


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
    before = {name: each.pid for name, each in services.known().items()}
    assert set(before) == {"prefect", "mlflow", "worker-default", "worker-gpu"}
    printed = services.up()
    assert printed.count("runs already, since") == 4
    assert f"Prefect  http://127.0.0.1:{services.prefect_port}" in printed
    assert {name: each.pid for name, each in services.known().items()} == before
    shell = services.command(sys.executable, "-m", "flows.shell").splitlines()
    user, password = services.auth
    assert set(shell) == {
        f"export PREFECT_HOME={services.folder}/.prefect",
        f"export PREFECT_API_URL={services.api_url}",
        f"export PREFECT_API_AUTH_STRING={user}:{password}",
        f"export MLFLOW_TRACKING_URI={services.mlflow_url}",
        f"export MLFLOW_TRACKING_USERNAME={user}",
        f"export MLFLOW_TRACKING_PASSWORD={password}",
    }
    status = services.command(sys.executable, "-m", "flows.services", "status")
    assert status.count("runs since") == 4
    assert status.count("online") == 2
    night = until(lambda: next_nightly(services), 120, services.all_logs)
    assert night.astimezone(ZoneInfo("Europe/Zagreb")).hour == 2


def test_both_servers_ask_for_the_secret_and_refuse_pages_and_names_of_others(services):
    """A page that is open in the operator's browser could have had a worker run a command; see flows/guard.py."""
    assert stat.S_IMODE((services.folder / ".services/secret").stat().st_mode) == 0o600
    deployment = f"{services.api_url}/deployments/"
    runs = f"{services.mlflow_url}/api/2.0/mlflow/experiments/search?max_results=1"
    for way, url in (("POST", deployment), ("GET", runs), ("GET", services.mlflow_url)):
        assert httpx.request(way, url, timeout=60).status_code == 401
        for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
            body = {"content": "{}", "headers": {**headers, "Content-Type": "text/plain"}}
            assert httpx.request(way, url, auth=services.auth, timeout=60, **body).status_code == 403
    asking = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for url in (deployment, runs):
        answered = httpx.options(url, headers=asking, timeout=60)
        assert (answered.status_code, answered.headers.get("access-control-allow-origin")) == (403, None)
    assert httpx.get(runs, auth=services.auth, timeout=60).status_code == 200
    assert not [process for process in services.family() if services.auth[1] in " ".join(process.cmdline())]


def test_the_deployments_are_those_of_prefect_yaml(services):
    found = {
        name: services.ask("GET", f"/deployments/name/{name}/{name}")
        for name in ("nightly", "tidy", "train", "promote", "rollback")
    }
    assert {name: each["work_pool_name"] for name, each in found.items()} == {
        "nightly": "default",
        "train": "gpu",
        "promote": "default",
        "rollback": "default",
        "tidy": "default",
    }
    assert all(each["description"] for each in found.values())
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
    return until(lambda: not any(is_alive(pid) for pid in pids), 120, lambda: str(pids))


def test_runs_that_a_power_cut_left_running_and_pending_become_crashed_and_block_nobody(services, tmp_path):
    """Both deployments let one run at a time. What was at work here is known to be dead, the rest after a while."""
    mark = tmp_path / "mark"
    at_work = services.deploy_run("nightly/nightly", {"mark": str(mark), "seconds": 600})
    until(mark.exists, 600, services.all_logs)
    elsewhere = services.deploy_run("train/train")
    until(lambda: services.state(elsewhere).type == "PENDING", 600, services.all_logs)
    services.cut_power()
    mark.unlink()
    services.variables |= {"WAYMARK_SILENT_S": "31", "WAYMARK_PENDING_S": "31"}  # the least for heartbeats of 30 s
    services.variables |= {"WAYMARK_POOLS": "default"}  # so that no worker is here that could know of the second
    services.up()
    state = services.state(at_work)
    assert (state.name, state.message) == ("Crashed", "the process of its worker is gone")
    until(mark.exists, 600, services.all_logs)  # the night has begun again
    (again,) = (each for each in services.flow_runs() if "repeated" in each["tags"])
    assert again["parameters"] == {"mark": str(mark), "seconds": 600}
    services.cancel(again["id"])
    assert services.wait(again["id"]).type == "CANCELLED"
    assert services.wait(services.deploy_run("nightly/nightly")).name == "Completed"
    assert services.wait(elsewhere).name == "Crashed"
    assert services.state(elsewhere).message == "no sign of life for 31 s: its process is gone"
    services.variables |= {"WAYMARK_SILENT_S": "300", "WAYMARK_PENDING_S": "300", "WAYMARK_POOLS": ""}
    services.up()
    assert services.wait(services.deploy_run("train/train")).name == "Completed"


def test_a_run_ends_with_its_worker_that_was_killed_outright_and_the_next_worker_says_so(services, tmp_path):
    mark = tmp_path / "mark"
    run = services.deploy_run("train/train", {"mark": str(mark), "seconds": 600})
    until(mark.exists, 600, services.all_logs)
    services.kill("worker-gpu")
    assert gone(mark)
    assert services.wait(run).message == "the process of its worker is gone"
    assert services.wait(services.deploy_run("train/train")).name == "Completed"


@pytest.mark.parametrize("name", ["mlflow", "prefect", "supervisord"])
def test_what_is_killed_outright_is_started_again_at_the_ports_that_it_had(services, name):
    ports = [services.variables.pop(variable) for variable in ("PREFECT_SERVER_API_PORT", "MLFLOW_PORT")]
    if name == "supervisord":
        os.kill(int((services.folder / ".services/supervisord.pid").read_text()), 9)
    else:
        services.kill(name)
    said = services.up()
    assert f"Prefect  http://127.0.0.1:{ports[0]}\nMLflow   http://127.0.0.1:{ports[1]}\n" in said
    services.variables |= {"PREFECT_SERVER_API_PORT": ports[0], "MLFLOW_PORT": ports[1]}
    services.command(sys.executable, "-m", "flows.services", "status")


def test_settings_other_than_those_that_a_server_runs_with_are_refused(services):
    port = services.variables["MLFLOW_PORT"]
    services.variables["MLFLOW_PORT"] = str(free_port())
    try:
        said = services.command(sys.executable, "-m", "flows.services", "up", code=1)
    finally:
        services.variables["MLFLOW_PORT"] = port
    assert said.startswith(f"mlflow runs with MLFLOW_PORT={port}, not with MLFLOW_PORT=")
    assert said.endswith("`make down` first, or unset MLFLOW_PORT\n")


def test_a_worker_that_was_started_in_the_background_heeds_the_first_request_to_end(services):
    """The shell of a script lets what it starts with `&` ignore SIGINT, by which Prefect ends its worker."""
    script = f"{sys.executable} -m flows.worker gpu --name second >second.log 2>&1 & echo $!"
    variables = {**services.environment(), "PREFECT_API_URL": services.api_url}
    started = subprocess.run(["sh", "-c", script], cwd=services.folder, env=variables, capture_output=True, text=True)
    pid, log = int(started.stdout), services.folder / "second.log"
    until(lambda: "started!" in log.read_text(), 300, log.read_text)
    again = subprocess.run(
        [sys.executable, "-m", "flows.worker", "gpu", "--name", "second"],
        cwd=services.folder, env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "the worker second is at work here; choose another --name" in again.stderr
    os.kill(pid, 15)
    until(lambda: not is_alive(pid), 60, log.read_text)


def test_a_server_killed_outright_and_started_again_costs_no_run(services, tmp_path):
    mark = tmp_path / "mark"
    run = services.deploy_run("nightly/nightly", {"mark": str(mark), "seconds": 25})
    until(mark.exists, 600, services.all_logs)
    services.kill("prefect")
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
    assert not any(is_alive(int(pid)) for pid in mark.read_text().split()[:2])
    with sqlite3.connect(services.folder / ".prefect/prefect.db") as database:
        ((state,),) = database.execute("select state_type from flow_run where id = ?", (run,)).fetchall()
    assert state in ("CRASHED", "CANCELLED")
    assert "nothing was started here" in services.down()


def test_a_server_that_does_not_start_is_named_with_the_end_of_its_log(tmp_path):
    project = clone(tmp_path / "project")
    services = Services(project, PREFECT_API_DATABASE_CONNECTION_URL="postgresql+asyncpg://nobody@127.0.0.1:1/none")
    said = services.command(sys.executable, "-m", "flows.services", "up", code=1)
    services.down()
    assert f"prefect ended while it started; see {project.folder}/.services/prefect.log, which ends with" in said
    assert "Connect call failed" in said
    assert of_folder(project.folder) == {}


def test_taken_ports_are_refused_at_once_with_the_remedy_and_nothing_starts(tmp_path):
    project = clone(tmp_path / "project")
    with socket.socket() as somebody, socket.socket() as another:
        for taken in (somebody, another):
            taken.bind(("127.0.0.1", 0))
            taken.listen()
        ports = [taken.getsockname()[1] for taken in (somebody, another)]
        services = Services(project, PREFECT_SERVER_API_PORT=ports[0], MLFLOW_PORT=ports[1])
        said = services.command(sys.executable, "-m", "flows.services", "up", code=1).splitlines()
    assert said == [
        f"prefect: port {ports[0]} is taken by another process; set PREFECT_SERVER_API_PORT to a free one, or stop"
        " that process",
        f"mlflow: port {ports[1]} is taken by another process; set MLFLOW_PORT to a free one, or stop that process",
    ]
    assert services.known() == {}
