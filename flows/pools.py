"""What the Prefect server is told: work pools, limits, automations and the deployments of prefect.yaml."""

import os
import sys
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from datetime import datetime

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType, Worker
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed
from prefect.workers.process import ProcessWorker

from flows.addresses import GPU, POOLS, number
from flows.watch import watch
from flows.worker import CHECKOUT
from waymark.errors import WaymarkError
from waymark.system.processes import run_command

NIGHT = "nightly"
OPEN = ["RUNNING", "PENDING", "CANCELLING"]  # states of runs that have begun and not ended
AGAIN = "repeated"  # tag of a nightly run that stands in for one that was cut off
OF_WORKER = "prefect.worker.name"  # label of a run that a worker has taken


def client(api_url: str) -> SyncPrefectClient:
    """Connect to a server, whatever the environment said when Prefect was imported."""
    return SyncPrefectClient(api_url, auth_string=os.environ.get("PREFECT_API_AUTH_STRING"))


def prepare(client: SyncPrefectClient) -> None:
    """Make the pools, with the limit of trainings at once, and the automations, where they are missing or differ."""
    for pool in POOLS:
        try:
            client.read_work_pool(pool)
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(WorkPoolCreate(name=pool, type="process", base_job_template=template))
    client.update_work_pool(GPU, WorkPoolUpdate(concurrency_limit=gpu_slots()))
    watch(client)


def gpu_slots() -> int:
    """Say how many models may train at once.

    Raises:
        ParameterError: the variable is no number.
    """
    return number("WAYMARK_GPU_SLOTS", 1)


def deploy(its: Mapping[str, str]) -> None:
    """Apply the deployments of prefect.yaml.

    Raises:
        WaymarkError: Prefect refuses them.
    """
    its = {name: value for name, value in its.items() if name != CHECKOUT}  # each worker fills in its own
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = run_command(command, env=its, capture_output=True, text=True)
    if done.returncode != 0:
        raise WaymarkError(f"prefect.yaml could not be applied:\n{done.stdout}{done.stderr}".rstrip())
    print("deployments: applied")


def online(client: SyncPrefectClient, pool: str) -> list[str]:
    """List the workers of a pool that have been heard of lately, on whichever machine."""
    return sorted(worker.name for worker in _workers(client, pool) if worker.status == "ONLINE")


def is_online(client: SyncPrefectClient, pool: str, name: str, since: datetime) -> bool:
    """Say whether a worker has been heard of since a time; one of that name before it does not count."""
    heard = [worker.last_heartbeat_time for worker in _workers(client, pool) if worker.name == name]
    return any(at is not None and at >= since for at in heard)


def _workers(client: SyncPrefectClient, pool: str) -> list[Worker]:
    try:
        return client.read_workers_for_work_pool(pool)
    except ObjectNotFound:
        return []


def open_runs(client: SyncPrefectClient, workers: Collection[str] | None = None) -> list[FlowRun]:
    """List the flow runs that some workers have taken, or any, and that have not ended."""
    found = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate({"state": {"type": {"any_": OPEN}}}))
    return [run for run in found if workers is None or run.labels.get(OF_WORKER) in workers]


def crash(client: SyncPrefectClient, runs: Iterable[FlowRun], message: str) -> None:
    """Say of runs whose processes have ended that they have crashed, unless they have said how they ended."""
    for run in runs:
        state = client.read_flow_run(run.id).state
        if state is None or not state.is_final():
            client.set_flow_run_state(run.id, Crashed(message=message))


def repeat(client: SyncPrefectClient, runs: Iterable[FlowRun]) -> None:
    """Let nightly runs that a power cut ended begin again, each once: what it does may be what ends the machine."""
    for run in runs:
        with suppress(ObjectNotFound):  # its deployment is gone
            wanted = run.deployment_id is not None and client.read_deployment(run.deployment_id).name == NIGHT
            if wanted and AGAIN not in run.tags and run.state_type != StateType.CANCELLING:
                client.create_flow_run_from_deployment(
                    run.deployment_id, parameters=run.parameters, tags=[*run.tags, AGAIN]
                )


def next_night(client: SyncPrefectClient) -> str:
    """Say when the next night begins, for people."""
    found = client.read_flow_runs(
        deployment_filter=DeploymentFilter.model_validate({"name": {"any_": [NIGHT]}}),
        flow_run_filter=FlowRunFilter.model_validate({"state": {"type": {"any_": ["SCHEDULED"]}}}),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=1,
    )
    if not found or found[0].expected_start_time is None:
        return "is about to be scheduled" if _has_schedule(client) else "none is scheduled"
    return found[0].expected_start_time.astimezone().isoformat(sep=" ", timespec="minutes")


def _has_schedule(client: SyncPrefectClient) -> bool:
    """Say whether nights are to come; applying the deployments drops them, and the server makes them anew by and by."""
    try:
        deployment = client.read_deployment_by_name(f"{NIGHT}/{NIGHT}")
    except ObjectNotFound:
        return False
    return not deployment.paused and any(schedule.active for schedule in deployment.schedules)
