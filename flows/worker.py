"""A worker of a pool, here or on another machine: `python -m flows.worker gpu`."""

import hashlib
import os
import re
import runpy
import signal
import socket
import sys
from pathlib import Path
from urllib.parse import quote

from flows.command import option, parse
from flows.locks import exclusive
from flows.servers import state
from flows.servers.addresses import GPU, POOLS, environment
from waymark.errors import WaymarkError
from waymark.inference.references import environment_name
from waymark.system.checkout import checkout
from waymark.system.processes import die_with_parent

WORKER = "WAYMARK_WORKER_PID"  # by which a flow run knows its worker, and ends with it
QUERY_S = {GPU: "1"}  # how often a worker asks for runs, where it is not every two seconds: trainings wait for it
CHECKOUT = "WAYMARK_CHECKOUT"  # prefect.yaml: where flow runs of this worker work


def worker_environment(pool: str) -> dict[str, str]:
    """Return what a worker hands on to its flow runs; what the user has set stays."""
    defaults = {
        "PREFECT_WORKER_QUERY_SECONDS": QUERY_S.get(pool, "2"),  # each is a write to Prefect's database
        "PREFECT_WORKER_HEARTBEAT_SECONDS": "10",
        "PREFECT_WORKER_ENABLE_CANCELLATION": "true",  # of runs that have not begun yet
        "PREFECT_RUNNER_AUTO_INSTALL_DEPENDENCIES": "false",  # uv would set up another environment
    }
    fixed = {CHECKOUT: str(Path.cwd()), WORKER: str(os.getpid())}
    return environment(**{name: os.environ.get(name, value) for name, value in defaults.items()}, **fixed)


def own_name() -> str:
    """Name this checkout on this machine; a clone has another name, even at the same path of a namesake."""
    root, host = checkout().resolve(), socket.gethostname()
    digest = hashlib.sha256(f"{host}\0{root}\0{root.stat().st_ino}".encode()).hexdigest()
    return re.sub("[^A-Za-z0-9_.-]", "-", f"{host}-{root.name}-{digest[:8]}")  # Prefect allows no slash, & or %


def name_of(pool: str) -> str:
    """Name the worker of this machine and checkout in a pool, as no other is named."""
    return f"{pool}-{own_name()}"


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


def work(pool: str, name: str = "") -> None:
    """Turn into a worker that works in this checkout.

    Runs that a worker of this name had when it was killed are dead, as they end with it: they become Crashed first,
    so that none of them blocks another; a nightly run starts again.

    Raises:
        WaymarkError: a worker of this name is at work here.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # by which Prefect stops; ignored after nohup or `&`
    name = name or name_of(pool)
    busy = f"the worker {name} is at work here; choose another --name"
    with exclusive(state.folder() / f"{quote(name, safe='')}.lock", busy):
        os.environ.update(worker_environment(pool))
        from flows.workers import pools  # late, for Prefect reads its environment when it is imported

        api_url = os.environ["PREFECT_API_URL"]
        queues = pools.listen(pool, api_url)
        with pools.client(api_url) as client:
            dead = pools.open_runs(client, [name])
            pools.crash(client, dead, "the process of its worker is gone")
            pools.repeat(client, dead)
        sys.argv = ["prefect", "worker", "start", "--pool", environment_name(pool), "--name", name, "--type", "process"]
        sys.argv += [word for queue in queues for word in ("--work-queue", queue)]
        runpy.run_module("prefect", run_name="__main__", alter_sys=True)


def main() -> None:
    """Run as a command."""
    arguments = parse(
        "flows.worker",
        str(__doc__),
        option("pool", help=f"the pool to take runs from: {', '.join(POOLS)}"),
        option("--name", default="", help="how the worker is called; different for each"),
    )
    if not os.environ.get("PREFECT_API_URL"):
        sys.exit(
            "set PREFECT_API_URL to the server's address, such as http://HOST:4200/api, or start one with `make up`"
        )
    try:
        work(arguments.pool, arguments.name)
    except WaymarkError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
