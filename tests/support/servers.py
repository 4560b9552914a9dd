"""The project's own services in a toy project: real servers, real workers, free ports; all of them stopped at the end.

with Services(clone(tmp_path / "project")) as services:
    run = services.deploy_run("nightly/nightly", {"mark": ""})
    assert services.wait(run).name == "Completed", services.logs(run)
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import chdir, suppress
from pathlib import Path

import httpx
import psutil

from flows.servers import supervisor

FINAL = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}


class Services:
    """`python -m flows.services up` in a project, as an operator has it.

    Args:
        project: of tests/support/toy.py; its prefect.yaml is what is deployed.
        variables: more of the environment that the operator has.
    """

    def __init__(self, project, **variables):
        self.project, self.folder = project, project.folder
        self.prefect_port, self.mlflow_port = free_port(), free_port()
        self.variables = {
            "PREFECT_SERVER_API_PORT": str(self.prefect_port),
            "MLFLOW_PORT": str(self.mlflow_port),
            "PREFECT_HOME": str(self.folder / ".prefect"),
            "DVC_SITE_CACHE_DIR": str(self.folder / ".dvc/tmp/site"),
            "PYTHONPATH": "",
            "WAYMARK_START_S": "600",  # on a machine that does much else
            **{name: str(value) for name, value in variables.items()},
        }
        self.api_url = f"http://127.0.0.1:{self.prefect_port}/api"
        self.mlflow_url = f"http://127.0.0.1:{self.mlflow_port}"
        self.printed = ""

    def environment(self):
        """Return what an operator's shell in the project has."""
        foreign = ("PREFECT_API_", "MLFLOW_TRACKING_", "WAYMARK_SERVICES")
        own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        path = f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"
        return {**own, "PATH": path, **self.variables}

    def command(self, *words, code=0):
        """Run a command in the project as the operator does, and return what it printed."""
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment(), capture_output=True, text=True, timeout=1500, check=False
        )
        assert done.returncode == code, done.stdout[-6000:] + done.stderr[-6000:] + self.all_logs()
        return done.stdout + done.stderr

    def up(self):
        """Start the services; what runs already stays."""
        self.printed = self.command(sys.executable, "-m", "flows.services", "up")
        return self.printed

    def down(self):
        """Stop the services."""
        return self.command(sys.executable, "-m", "flows.services", "down")

    def __enter__(self):
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *failure):
        self.down()

    @property
    def auth(self):
        """Return user and password of Prefect's server; both servers have the same unless the operator sets others."""
        known = json.loads((self.folder / ".services/clients.json").read_text())
        return tuple(known["PREFECT_API_AUTH_STRING"].split(":"))

    @property
    def mlflow_uri(self):
        """Return the address of MLflow with user and password."""
        return self.mlflow_url.replace("://", f"://{':'.join(self.auth)}@")

    def ask(self, way, path, **body):
        """Ask Prefect's API, and return its answer, again on 503 (a busy SQLite) and from a server that restarts."""

        def answered():
            try:
                answer = httpx.request(way, f"{self.api_url}{path}", json=body or None, timeout=300, auth=self.auth)
            except httpx.TransportError:
                return None
            return answer if answer.status_code != 503 else None

        answer = until(answered, 600, self.all_logs)
        assert answer.is_success, f"{answer}: {answer.text}"
        return answer.json() if answer.content else None

    def deploy_run(self, deployment, parameters=None, at=None):
        """Have a deployment run, now or at a time; return the id of the flow run."""
        found = self.ask("GET", f"/deployments/name/{deployment}")
        state = {"type": "SCHEDULED"} | ({"state_details": {"scheduled_time": at.isoformat()}} if at else {})
        made = self.ask("POST", f"/deployments/{found['id']}/create_flow_run", parameters=parameters or {}, state=state)
        return made["id"]

    def state(self, run):
        """Read the state of a flow run: its type, name and message."""
        return State(self.ask("GET", f"/flow_runs/{run}")["state"])

    def wait(self, run, *names, timeout=600):
        """Wait until a flow run has one of these names of a state, or without any has ended, and return the state."""

        def reached():
            state = self.state(run)
            return state if (state.name in names if names else state.type in FINAL) else None

        return until(reached, timeout, lambda: f"{self.state(run)}\n{self.logs(run)}\n{self.all_logs()}")

    def flow_runs(self, **filters):
        """List the flow runs, oldest first, such as `flows={"name": {"any_": ["nightly"]}}`."""
        return self.ask("POST", "/flow_runs/filter", sort="EXPECTED_START_TIME_ASC", **filters)

    def task_runs(self, run=None):
        """List (name, state's name) of the task runs, of one flow run or of all, in the order of their start."""
        time.sleep(3)  # the server writes them down once a second
        only = {"flow_runs": {"id": {"any_": [run]}}} if run else {}
        found = self.ask("POST", "/task_runs/filter", **only)
        found.sort(key=lambda each: each["start_time"] or each["expected_start_time"] or "")
        return [(each["name"], each["state_name"]) for each in found]

    def artifacts(self, key=None):
        """List the artifacts, of one key or all, oldest first."""
        only = {"artifacts": {"key": {"any_": [key]}}} if key else {}
        return sorted(self.ask("POST", "/artifacts/filter", **only), key=lambda each: each["created"])

    def cancel(self, run):
        """Ask for a flow run to be cancelled, as the button in the UI does."""
        self.ask("POST", f"/flow_runs/{run}/set_state", state={"type": "CANCELLING", "name": "Cancelling"})

    def logs(self, run):
        """Return the log of a flow run."""
        only = {"flow_run_id": {"any_": [run]}}
        return "\n".join(line["message"] for line in self.ask("POST", "/logs/filter", logs=only, sort="TIMESTAMP_ASC"))

    def all_logs(self):
        """Return the ends of the services' own logs."""
        logs = sorted((self.folder / ".services").glob("*.log"))
        return "".join(f"\n--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs)

    def known(self):
        """List the services that supervisor keeps, by name."""
        with chdir(self.folder):
            return {name: each for name, each in supervisor.services().items() if each.start}

    def family(self, name=None):
        """List the processes that came from a service, or from any."""
        with chdir(self.folder):
            return supervisor.family(name)

    def pid(self, name):
        """Return the number of a service: prefect, mlflow, worker-default or worker-gpu."""
        return self.known()[name].pid

    def kill(self, name, number=signal.SIGKILL):
        """Send a signal to a service, outright unless said otherwise."""
        os.kill(self.pid(name), number)

    def cut_power(self):
        """Kill outright all that runs, at the same moment as far as that is possible."""
        os.kill(int((self.folder / ".services/supervisord.pid").read_text()), signal.SIGKILL)
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                process.kill()


class State:
    """Of a flow run."""

    def __init__(self, answer):
        answer = answer or {}
        self.type, self.name, self.message = (answer.get(key) for key in ("type", "name", "message"))

    def __repr__(self):
        return f"{self.name} ({self.type}): {self.message}"


def free_port():
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(condition, timeout, what=lambda: ""):
    """Wait until a condition gives something true, and return that."""
    deadline = time.monotonic() + timeout
    while not (reached := condition()):
        assert time.monotonic() < deadline, what()
        time.sleep(0.5)
    return reached
