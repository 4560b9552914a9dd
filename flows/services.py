"""Start, stop and look at the services: `python -m flows.services up|down|status`."""

import os
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from flows.command import command, option
from flows.launch import SERVERS, WORKERS
from flows.locks import exclusive
from flows.servers import state, supervisor
from flows.servers.addresses import (
    OF_BOTH,
    OF_MLFLOW,
    OF_PREFECT,
    POOLS,
    Addresses,
    addresses,
    environment,
    number,
    settings,
    shown,
)
from flows.servers.supervisor import Service
from flows.worker import name_of
from flows.workers import automations, pools
from waymark.errors import WaymarkError
from waymark.system.addresses import is_web, same_server, without_credentials

START_S = 300  # for a service to become healthy, unless WAYMARK_START_S says otherwise; a first start makes databases
LAST_LINES = 15
SETTINGS_OF = {"prefect": {*OF_PREFECT, *OF_BOTH}, "mlflow": {*OF_MLFLOW, *OF_BOTH}}


class ServiceError(WaymarkError):
    """A service is not what it should be; the message says which, why, and where its log is."""


def up() -> None:
    """Start what does not run yet, wait until all of it is healthy, and print where it is."""
    wanted = settings()
    at = addresses(wanted)
    _refuse_another_store(at)
    with _alone():
        known = supervisor.services()
        _refuse_changes(wanted, known)
        _refuse_what_cannot_start(wanted, at, known)
        state.write(state.SETTINGS, wanted)
        state.write(state.CLIENTS, at.clients)
        os.environ.update(wanted | at.clients)
        if not known:
            supervisor.begin(environment(**at.clients))
        for name in SERVERS:
            _start(name, known)
        for name in SERVERS:
            _wait(name, partial(_answers, _health(name, at)))
        with pools.client(at.api_url) as client:
            pools.prepare(client)
            automations.apply(client)
            for pool in at.pools:
                _start(f"worker-{pool}", known)
            pools.deploy(environment())
            automations.ask_for_signs(client)  # late: a server takes a moment to know automations that have changed
            for pool in at.pools:
                since = supervisor.services()[f"worker-{pool}"].since
                _wait(f"worker-{pool}", partial(pools.is_online, client, pool, name_of(pool), since))
    print(f"Prefect  {at.prefect_url}\nMLflow   {at.mlflow_url}\nlogs     {state.SERVICES}/*.log")
    print(f"sign in  user and password of both are in {state.SERVICES / state.SECRET}, unless you have set others")


def down() -> None:
    """End the workers with their runs, then the servers, and nothing that was not started by `up`."""
    with _alone():
        started = {name: service for name, service in supervisor.services().items() if service.start}
        supervisor.stop(*(name for name in started if name in WORKERS))
        with suppress(Exception), _client() as client:  # a server that does not answer any more
            mine = [name_of(pool) for pool in POOLS]
            pools.crash(client, pools.open_runs(client, mine), "stopped together with its worker by `make down`")
        supervisor.end()
        supervisor.kill_family()
        for name, service in started.items():
            print(f"{name}: {'stopped' if service.runs else 'had ended already'}")
    if not started:
        print("nothing was started here")


def status() -> bool:
    """Print what runs, since when and where, and the next nightly run; return whether all of it is well."""
    at = addresses(settings())
    known, troubles = supervisor.services(), {}
    for name in (*SERVERS, *(f"worker-{pool}" for pool in at.pools)):
        troubles[name] = _trouble(name, known.get(name), at)
        url = {"prefect": at.prefect_url, "mlflow": at.mlflow_url}.get(name, "")
        since = f"runs since {known[name].since.isoformat()}  {url}".rstrip() if not troubles[name] else ""
        print(f"{name:15} {troubles[name] or since}")
    if not troubles["prefect"]:
        with _client() as client:
            for pool in POOLS:
                names = ", ".join(pools.online(client, pool))
                troubles[pool] = "" if names else "no worker online"
                print(f"pool {pool:10} {troubles[pool] or f'{names} online'}")
            print(f"next nightly    {pools.next_nightly(client)}")
    return not any(troubles.values())


def _alone() -> AbstractContextManager[None]:
    return exclusive(state.folder() / "lock", "another command starts or stops services (process {pid})", None)


@contextmanager
def _client() -> Iterator["pools.SyncPrefectClient"]:
    os.environ.update(state.read(state.CLIENTS))
    with pools.client(os.environ["PREFECT_API_URL"]) as client:
        yield client


def _trouble(name: str, service: Service | None, at: Addresses) -> str:
    """Describe what is wrong with a service; empty if nothing is."""
    if service is None or not service.start:
        return "is not started; start it with `make up`"
    if not service.runs:
        return f"has ended; see {_log(name)}, and start it again with `make up`"
    if name in SERVERS and not _answers(url := _health(name, at)):
        return f"does not answer at {url}; see {_log(name)}"
    return ""


def _health(name: str, at: Addresses) -> str:
    return {"prefect": f"{at.api_url}/health", "mlflow": f"{at.mlflow_url}/health"}[name]


def _log(name: str) -> Path:
    return (state.SERVICES / f"{name}.log").resolve()


def _refuse_changes(wanted: Mapping[str, str], known: Mapping[str, Service]) -> None:
    """Refuse settings other than those that a server runs with."""
    before = state.read(state.SETTINGS)
    for name, variables in SETTINGS_OF.items():
        changed = sorted(key for key in variables if wanted.get(key) != before.get(key))
        if name in known and known[name].runs and changed:
            raise ServiceError(
                f"{name} runs {shown(changed[0], before)}, not {shown(changed[0], wanted)}; `make down` first, or"
                f" unset {changed[0]}"
            )


def _refuse_what_cannot_start(wanted: Mapping[str, str], at: Addresses, known: Mapping[str, Service]) -> None:
    """Refuse ports that others listen on, all at once; what is left of our own servers that were killed ends first."""
    if not known:
        supervisor.kill_family()
    taken = []
    for name, host, port, variable in (
        ("prefect", at.prefect_host, at.prefect_port, "PREFECT_SERVER_API_PORT"),
        ("mlflow", at.mlflow_host, at.mlflow_port, "MLFLOW_PORT"),
    ):
        if name in known and known[name].runs:
            continue
        if name in known:
            supervisor.kill_family(name)
        if not _is_free(host, port):
            remedy = f"set {variable} to a free one, or stop that process"
            taken.append(f"{name}: port {port} is taken by another process; {remedy}")
    if taken:
        raise ServiceError("\n".join(taken))
    if at.prefect_port == at.mlflow_port:
        raise ServiceError(f"PREFECT_SERVER_API_PORT and MLFLOW_PORT are both {at.mlflow_port}; set one to a free port")
    if "WAYMARK_MLFLOW_AUTH" in wanted and find_spec("flask_wtf") is None:
        raise ServiceError("WAYMARK_MLFLOW_AUTH=basic-auth needs Flask-WTF: pip install flask-wtf")


def _start(name: str, known: Mapping[str, Service]) -> None:
    if name in known and known[name].runs:
        print(f"{name}: runs already, since {known[name].since.isoformat()}")
    else:
        supervisor.start(name)


def _wait(name: str, healthy: Callable[[], bool]) -> None:
    """Wait for a service.

    Raises:
        ServiceError: it ended, or it is not healthy in time; with the end of its log.
    """
    first, patience_s = supervisor.services().get(name), number("WAYMARK_START_S", START_S)
    deadline = time.monotonic() + patience_s
    while not healthy():
        service = supervisor.services().get(name)
        ended = service is None or first is None or service.fails or service.start != first.start
        if ended or time.monotonic() > deadline:
            supervisor.stop(name)
            what = "ended while it started" if ended else f"is not healthy after {patience_s} s (WAYMARK_START_S)"
            raise ServiceError(f"{name} {what}; see {_log(name)}, which ends with\n{_last_lines(name)}")
        time.sleep(0.2)
    print(f"{name}: healthy")


def _last_lines(name: str) -> str:
    with suppress(OSError):
        return without_credentials("\n".join(_log(name).read_text(errors="replace").splitlines()[-LAST_LINES:]))
    return ""


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        return bool(answer.status == 200)
    return False


def _is_free(host: str, port: int) -> bool:
    family, kind, _, _, place = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe, suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that a server has just left is free
        probe.bind(place)
        return True
    return False


def _refuse_another_store(at: Addresses) -> None:
    elsewhere = os.environ.get("MLFLOW_TRACKING_URI", at.mlflow_url).rstrip("/")
    if elsewhere != at.mlflow_store and not (is_web(elsewhere) and same_server(elsewhere, at.mlflow_url)):
        raise ServiceError(
            f"MLFLOW_TRACKING_URI says {without_credentials(elsewhere)}, and the workers would write to"
            f" {at.mlflow_url}; unset it, and give the server its store by MLFLOW_BACKEND_STORE_URI"
        )


def main() -> None:
    """Run as a command: exit 0, or 1 with what is wrong on stderr."""
    choices = {"up": up, "down": down, "status": status}
    with command("flows.services", str(__doc__), option("what", choices=choices)) as arguments:
        try:
            if choices[arguments.what]() is False:
                sys.exit(1)
        except WaymarkError as error:  # of several lines
            sys.exit(str(error))


if __name__ == "__main__":
    main()
