"""What the Prefect server keeps for this checkout: work pools, queues, limits, and the deployments of prefect.yaml."""

import os
import sys
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType, Worker
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.states import Crashed
from prefect.workers.process import ProcessWorker
from ruamel.yaml import YAML

from flows.servers.addresses import GPU, POOLS, number
from flows.worker import CHECKOUT, own_name
from waymark.errors import WaymarkError
from waymark.inference.references import environment_name
from waymark.system.processes import run_command

NIGHTLY = "nightly"
OPEN = ["RUNNING", "PENDING", "CANCELLING"]  # states of runs that have begun and not ended
AGAIN = "repeated"  # tag of a nightly run that stands in for one that was cut off
OF_WORKER = "prefect.worker.name"  # label of a run that a worker has taken
ANY_MACHINE = "default"  # the work queue that Prefect makes with each pool
DEPLOYMENTS = Path("prefect.yaml")


class QueueError(WaymarkError):
    """A worker cannot listen to its queues; the message says why."""


def client(api_url: str) -> SyncPrefectClient:
    """Connect to a server, whatever the environment said when Prefect was imported."""
    return SyncPrefectClient(api_url, auth_string=os.environ.get("PREFECT_API_AUTH_STRING"))


def prepare(client: SyncPrefectClient) -> None:
    """Make the pools where they are missing, and set how many models may train at once."""
    for pool in map(environment_name, POOLS):
        with suppress(ObjectAlreadyExists):
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(WorkPoolCreate(name=pool, type="process", base_job_template=template))
    slots = number("WAYMARK_GPU_SLOTS", 1)
    client.update_work_pool(environment_name(GPU), WorkPoolUpdate(concurrency_limit=slots))


def deploy(variables: Mapping[str, str]) -> None:
    """Apply the deployments of prefect.yaml, under the names of this environment.

    Raises:
        WaymarkError: Prefect refuses them.
    """
    variables = {name: value for name, value in variables.items() if name != CHECKOUT}  # each worker fills in its own
    content = YAML().load(DEPLOYMENTS)
    for deployment in content["deployments"]:
        deployment["name"] = environment_name(deployment["name"])
        deployment["work_pool"]["name"] = environment_name(deployment["work_pool"]["name"])
    with TemporaryDirectory(prefix="waymark-") as folder:
        named = Path(folder) / DEPLOYMENTS
        YAML().dump(content, named)
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(named)]
        done = run_command(command, env=variables, capture_output=True, text=True)
    if done.returncode != 0:
        raise WaymarkError(f"prefect.yaml could not be applied:\n{done.stdout}{done.stderr}".rstrip())
    print("deployments: applied")


def listen(pool: str, api_url: str) -> list[str]:
    """Make the queues that a worker of a pool in this checkout listens to, and return their names; none for all.

    A training without a DVC remote needs a worker that sees the checkout, and waits in the queue of that name. One
    whose data, code and result go through a remote waits in the pool's default queue, to which every worker listens.

    Raises:
        QueueError: the server does not answer, or has no such pool.
    """
    if pool != GPU:
        return []
    try:
        with client(api_url) as server, suppress(ObjectAlreadyExists):
            server.create_work_queue(own_name(), work_pool_name=environment_name(pool))
    except ObjectNotFound:
        message = f"Prefect at {api_url} has no pool {environment_name(pool)}; `make up` there makes it"
        raise QueueError(message) from None
    except httpx.HTTPError as error:
        raise QueueError(f"Prefect at {api_url} does not answer: {error}") from None
    return [own_name(), ANY_MACHINE]


def online(client: SyncPrefectClient, pool: str) -> list[str]:
    """List the workers of a pool that have sent heartbeats lately, on whichever machine."""
    return sorted(worker.name for worker in _workers(client, pool) if worker.status == "ONLINE")


def is_online(client: SyncPrefectClient, pool: str, name: str, since: datetime) -> bool:
    """Whether a worker has sent a heartbeat since a time; one of that name before it does not count."""
    heartbeats = [worker.last_heartbeat_time for worker in _workers(client, pool) if worker.name == name]
    return any(at is not None and at >= since for at in heartbeats)


def _workers(client: SyncPrefectClient, pool: str) -> list[Worker]:
    try:
        return client.read_workers_for_work_pool(environment_name(pool))
    except ObjectNotFound:
        return []


def open_runs(client: SyncPrefectClient, workers: Collection[str]) -> list[FlowRun]:
    """List the flow runs that some workers have taken, and that have not ended."""
    found = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate({"state": {"type": {"any_": OPEN}}}))
    return [run for run in found if run.labels.get(OF_WORKER) in workers]


def crash(client: SyncPrefectClient, runs: Iterable[FlowRun], message: str) -> None:
    """Set runs whose processes have ended to Crashed, unless they have reported how they ended."""
    for run in runs:
        state = client.read_flow_run(run.id).state
        if state is None or not state.is_final():
            client.set_flow_run_state(run.id, Crashed(message=message))


def repeat(client: SyncPrefectClient, runs: Iterable[FlowRun]) -> None:
    """Start nightly runs again that a power cut ended, each once: what it does may be what ends the machine."""
    for run in runs:
        with suppress(ObjectNotFound):  # its deployment is gone
            name = client.read_deployment(run.deployment_id).name if run.deployment_id is not None else ""
            nightly = name == environment_name(NIGHTLY)
            if nightly and AGAIN not in run.tags and run.state_type != StateType.CANCELLING:
                client.create_flow_run_from_deployment(
                    run.deployment_id, parameters=run.parameters, tags=[*run.tags, AGAIN]
                )


def next_nightly(client: SyncPrefectClient) -> str:
    """Write for people when the next nightly run begins."""
    found = client.read_flow_runs(
        deployment_filter=DeploymentFilter.model_validate({"name": {"any_": [environment_name(NIGHTLY)]}}),
        flow_run_filter=FlowRunFilter.model_validate({"state": {"type": {"any_": ["SCHEDULED"]}}}),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=1,
    )
    if found and found[0].expected_start_time is not None:
        return found[0].expected_start_time.astimezone().isoformat(sep=" ", timespec="minutes")
    with suppress(ObjectNotFound):  # applying the deployments drops the runs, and the server schedules them by and by
        deployment = client.read_deployment_by_name(f"{NIGHTLY}/{environment_name(NIGHTLY)}")
        if not deployment.paused and any(schedule.active for schedule in deployment.schedules):
            return "is about to be scheduled"
    return "none is scheduled"
