"""A worker of a pool, here or on another machine: `python -m flows.worker gpu`."""

import argparse
import os
import socket
import sys
from pathlib import Path

from flows.addresses import GPU, POOLS, environment
from waymark.errors import WaymarkError
from waymark.processes import die_with_parent

WORKER = "WAYMARK_WORKER_PID"  # by which a flow run knows its worker, and ends with it
QUERY_S = {GPU: "1"}  # how often a worker asks for runs, where it is not every two seconds: trainings wait for it
CHECKOUT = "WAYMARK_CHECKOUT"  # prefect.yaml: where flow runs of this worker work


def worker_environment(pool: str) -> dict[str, str]:
    """Give what a worker hands on to its flow runs; what the user has set stays."""
    defaults = {
        "PREFECT_WORKER_QUERY_SECONDS": QUERY_S.get(pool, "2"),  # each is a write to Prefect's database
        "PREFECT_WORKER_HEARTBEAT_SECONDS": "10",
        "PREFECT_WORKER_ENABLE_CANCELLATION": "true",  # of runs that have not begun yet
        "PREFECT_RUNNER_AUTO_INSTALL_DEPENDENCIES": "false",  # uv would set up an environment beside ours
    }
    fixed = {CHECKOUT: str(Path.cwd()), WORKER: str(os.getpid())}
    return environment(**{name: os.environ.get(name, value) for name, value in defaults.items()}, **fixed)


def name_of(pool: str) -> str:
    """Name the worker of this machine and checkout in a pool."""
    return f"{pool}-{socket.gethostname()}-{Path.cwd().name}"


def end_with_worker() -> None:
    """End this flow run when its worker dies, should the worker be killed outright.

    To be called first thing in the body of each flow that has a deployment; anywhere else it does nothing.

    Raises:
        SystemExit: the worker has died already.
    """
    from prefect import runtime  # late, for it takes a second that starting a worker does not need

    started = os.environ.get("PREFECT__FLOW_RUN_ID")
    if WORKER not in os.environ or not started or runtime.flow_run.id != started:
        return  # typed by hand, or a flow inside another one
    die_with_parent()
    if os.getppid() != int(os.environ[WORKER]):
        raise SystemExit("the worker of this flow run has died")


def main() -> None:
    """Turn into a worker that works in this checkout."""
    parser = argparse.ArgumentParser(prog="python -m flows.worker", description=main.__doc__)
    parser.add_argument("pool", help=f"the pool to take runs from: {', '.join(POOLS)}")
    parser.add_argument("--name", help="how the worker is called; different for each")
    arguments = parser.parse_args()
    if not os.environ.get("PREFECT_API_URL"):
        sys.exit(
            "set PREFECT_API_URL to the server's address, such as http://HOST:4200/api, or start one with `make up`"
        )
    name = arguments.name or name_of(arguments.pool)
    command = ["-m", "prefect", "worker", "start", "--pool", arguments.pool, "--name", name, "--type", "process"]
    os.execve(sys.executable, [sys.executable, *command], worker_environment(arguments.pool))


if __name__ == "__main__":
    try:
        main()
    except WaymarkError as error:
        sys.exit(str(error))
