"""Start, stop and look at the services: `python -m flows.services up|down|status`."""

import argparse
import os
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path

from flows import daemons, pools
from flows.addresses import POOLS, Addresses, addresses, environment, number
from flows.daemons import Daemon
from flows.watch import ask_for_signs
from flows.worker import name_of
from waymark.errors import WaymarkError

START_S = 300  # for a service to become healthy, unless WAYMARK_START_S says otherwise; a first start makes databases
WORKERS = tuple(f"worker-{pool}" for pool in POOLS)
STOPPED = ((WORKERS, 30.0), (("mlflow", "prefect"), 15.0))  # in this order, with so many seconds to end by themselves
FLOW_RUN = "PREFECT__FLOW_RUN_ID"  # in the environment of a flow run's process


class ServiceError(WaymarkError):
    """A service is not what it should be; the message says which, why, and where its log is."""


def up() -> None:
    """Start what does not run yet, wait until all of it is healthy, and say where it is."""
    at = addresses()
    _refuse_another_store(at)
    with daemons.only_one():
        _serve("prefect", at.prefect_url, (at.prefect_host, at.prefect_port), "PREFECT_SERVER_API_PORT", *_prefect(at))
        _serve("mlflow", at.mlflow_url, (at.mlflow_host, at.mlflow_port), "MLFLOW_PORT", *_mlflow(at))
        _wait("prefect", lambda: _answers(f"{at.api_url}/health"))
        _wait("mlflow", lambda: _answers(f"{at.mlflow_url}/health"))
        its = environment(PREFECT_API_URL=at.api_url, MLFLOW_TRACKING_URI=at.mlflow_url)
        with pools.client(at.api_url) as client:
            pools.prepare(client)
            for pool in POOLS:
                _start(f"worker-{pool}", _worker(pool), its)
            pools.deploy(its)
            ask_for_signs(client)  # late, as a server takes a moment to know automations that have just changed
            for pool in POOLS:
                since = datetime.fromisoformat(daemons.known()[f"worker-{pool}"].since)
                _wait(f"worker-{pool}", partial(pools.is_online, client, pool, name_of(pool), since))
    print(f"Prefect  {at.prefect_url}\nMLflow   {at.mlflow_url}\nlogs     {daemons.FOLDER}/*.log")


def down() -> None:
    """End the workers with their runs, then the servers, and nothing that was not started by `up`."""
    with daemons.only_one():
        started = daemons.known()
        for names, grace_s in STOPPED:
            _stop({name: started[name] for name in names if name in started}, started.get("prefect"), grace_s)
    if not started:
        print("nothing was started here")


def _stop(services: Mapping[str, Daemon], prefect: Daemon | None, grace_s: float) -> None:
    """End services at once, and for workers say of their runs that they have ended."""
    was = {name: "stopped" if daemon.alive else "had ended already" for name, daemon in services.items()}
    runs = {run for name in WORKERS if name in services for run in daemons.values(services[name], FLOW_RUN)}
    daemons.stop(*services.values(), grace_s=grace_s)
    if runs and prefect is not None and _trouble("prefect", prefect) is None:
        with pools.client(f"{prefect.url}/api") as client:
            pools.crash(client, runs, "stopped together with its worker by `make down`")
    for name, how in was.items():
        print(f"{name}: {how}")


def status() -> bool:
    """Print what runs, since when and where, and the next night; give whether all of it is well."""
    started = daemons.known()
    well = True
    for name in ("prefect", "mlflow", *WORKERS):
        daemon = started.get(name)
        trouble = _trouble(name, daemon)
        well &= trouble is None
        print(f"{name:15} {trouble or f'runs since {daemon.since}  {daemon.url}'.rstrip()}")
    if "prefect" in started and _trouble("prefect", started["prefect"]) is None:
        with pools.client(f"{started['prefect'].url}/api") as client:
            for pool in POOLS:
                names = pools.online(client, pool)
                well &= bool(names)
                print(f"pool {pool:10} {', '.join(names) + ' online' if names else 'no worker online'}")
            print(f"next night      {pools.next_night(client)}")
    return well


def _trouble(name: str, daemon: Daemon | None) -> str | None:
    """Say what is wrong with a service; None if nothing is."""
    if daemon is None:
        return "is not started; start it with `make up`"
    if not daemon.alive:
        return f"has ended; see {daemon.log}, and start it again with `make up`"
    health = {"prefect": "/api/health", "mlflow": "/health"}.get(name)
    if health is not None and not _answers(daemon.url + health):
        return f"does not answer at {daemon.url}; see {daemon.log}"
    return None


def _prefect(at: Addresses) -> tuple[Sequence[str], Mapping[str, str]]:
    command = ["-m", "prefect", "server", "start", "--host", at.prefect_host, "--port", str(at.prefect_port)]
    # Leases in files outlive a restart of the server; from memory a run that is under way would lose its slot and end.
    leases = "prefect.server.concurrency.lease_storage.filesystem"
    its = environment(PREFECT_API_URL=at.api_url)
    its.setdefault("PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE", leases)
    # The states of stages in one write a second: each by itself would lock SQLite out from what is asked meanwhile.
    its.setdefault("PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE", "100")
    its.setdefault("PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL", "1")
    return [sys.executable, *command], its


def _mlflow(at: Addresses) -> tuple[Sequence[str], Mapping[str, str]]:
    command = ["-m", "mlflow", "server", "--host", at.mlflow_host, "--port", str(at.mlflow_port)]
    command += ["--backend-store-uri", at.mlflow_store, "--default-artifact-root", at.mlflow_artifacts]
    its = environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")  # for its own language models: more processes
    its.pop("MLFLOW_TRACKING_URI", None)
    its.setdefault("MLFLOW_WORKERS", "1")  # each takes as much memory as the first
    its.setdefault("MLFLOW_ARTIFACTS_DESTINATION", (Path.cwd() / "mlruns").as_uri())  # behind mlflow-artifacts:/
    return [sys.executable, *command], its


def _worker(pool: str) -> Sequence[str]:
    return [sys.executable, "-m", "flows.worker", pool]


def _serve(
    name: str,
    url: str,
    place: tuple[str, int],
    variable: str,
    command: Sequence[str],
    its: Mapping[str, str],
) -> None:
    """Start a server unless it runs; refuse a port that somebody else listens on."""
    daemon = daemons.known().get(name)
    if daemon is not None and daemon.alive and daemon.url != url:
        raise ServiceError(f"{name} runs at {daemon.url}, not at {url}; `make down` first, or unset {variable}")
    if (daemon is None or not daemon.alive) and not _is_free(*place):
        raise ServiceError(
            f"{name}: port {place[1]} is taken by another process; set {variable} to a free one, or stop that process"
        )
    _start(name, command, its, url)


def _start(name: str, command: Sequence[str], its: Mapping[str, str], url: str = "") -> None:
    """Start a service unless it runs."""
    daemon = daemons.known().get(name)
    if daemon is not None and daemon.alive:
        print(f"{name}: runs already, since {daemon.since}")
        return
    if daemon is not None:
        daemons.stop(daemon, grace_s=0)  # what is left of it
    daemons.start(name, command, its, url)


def _wait(name: str, healthy: Callable[[], bool]) -> None:
    """Wait for a service.

    Raises:
        ServiceError: it ended, or it is not healthy in time; with the end of its log.
    """
    daemon = daemons.known()[name]
    patience_s = number("WAYMARK_START_S", START_S)
    deadline = time.monotonic() + patience_s
    while not healthy():
        late = time.monotonic() > deadline
        if late or not daemon.alive:
            what = f"is not healthy after {patience_s} s (WAYMARK_START_S)" if late else "ended while it started"
            raise ServiceError(f"{name} {what}; see {daemon.log}, which ends with\n{daemon.last_lines()}")
        time.sleep(0.2)
    print(f"{name}: healthy")


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        return bool(answer.status == 200)
    return False


def _is_free(host: str, port: int) -> bool:
    family, kind, _, _, place = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that a server has just left is free
        try:
            probe.bind(place)
        except OSError:
            return False
    return True


def _refuse_another_store(at: Addresses) -> None:
    elsewhere = os.environ.get("MLFLOW_TRACKING_URI", at.mlflow_url).rstrip("/")
    if elsewhere not in (at.mlflow_url, at.mlflow_store):
        raise ServiceError(
            f"MLFLOW_TRACKING_URI says {elsewhere}, and the workers would write to {at.mlflow_url}; "
            "unset it, and give the server its store by MLFLOW_BACKEND_STORE_URI"
        )


def main() -> None:
    """Run as a command: exit 0, or 1 with what is wrong on stderr."""
    parser = argparse.ArgumentParser(prog="python -m flows.services", description=__doc__)
    parser.add_argument("what", choices=("up", "down", "status"))
    what = parser.parse_args().what
    try:
        if {"up": up, "down": down, "status": status}[what]() is False:
            sys.exit(1)
    except WaymarkError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
