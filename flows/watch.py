"""Runs whose process is gone: they become Crashed, so that none blocks the next night."""

import os
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from prefect.automations import AutomationCore, ChangeFlowRunState, EventTrigger, Posture
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType

from flows.addresses import number
from flows.word import NOTIFY, crash_word

HEARTBEAT = "prefect.flow-run.heartbeat"
ANY = "prefect.flow-run.*"
AT_WORK = ("Running", "Cancelling")
BEFORE = ("Pending", "Submitting", "InfrastructurePending")  # between the worker's taking a run and its first line


def watch(client: SyncPrefectClient) -> None:
    """Make the automations, or change those that differ; word of crashes goes where `WAYMARK_NOTIFY` says."""
    url = os.environ.get(NOTIFY)
    for wanted in [*automations(), *([crash_word(client, url)] if url else [])]:
        found = client.read_automations_by_name(wanted.name)
        if not found:
            client.create_automation(wanted)
        elif AutomationCore.model_validate(found[0].model_dump(exclude={"id"})) != wanted:
            client.update_automation(found[0].id, wanted)


def ask_for_signs(client: SyncPrefectClient) -> None:
    """Let the wait for a sign of life begin anew for every run that is open.

    A run that was at work when the server went down may have nobody left who waits for it. One that
    lives on, here or elsewhere, answers with its next heartbeat.
    """
    open_states = {"state": {"type": {"any_": [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]}}}
    runs = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(open_states))
    if runs:
        client.request("POST", "/events", json=[_sign(run) for run in runs])


def automations() -> list[AutomationCore]:
    """Say what happens to a run that shows no sign of life any more."""
    silent = number("WAYMARK_SILENT_S", 300, least=int(os.environ["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]) + 1)
    pending = number("WAYMARK_PENDING_S", 300)
    return [
        _automation(
            "waymark: silent runs",
            "A run that says it is at work, and sends no heartbeat any more, has crashed.",
            {HEARTBEAT, *(f"prefect.flow-run.{name}" for name in AT_WORK)},
            silent,
        ),
        _automation(
            "waymark: pending runs",
            "A run that a worker has taken, and that never began, has crashed with its worker.",
            {f"prefect.flow-run.{name}" for name in BEFORE},
            pending,
        ),
    ]


def _automation(name: str, description: str, after: set[str], within_s: int) -> AutomationCore:
    return AutomationCore(
        name=name,
        description=description,
        trigger=EventTrigger(
            match={"prefect.resource.id": "prefect.flow-run.*"},
            for_each={"prefect.resource.id"},
            after=after,
            expect={ANY},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=within_s),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, message=f"no sign of life for {within_s} s: its process is gone"
            )
        ],
    )


def _sign(run: FlowRun) -> dict[str, object]:
    """Write the event from which a run's next sign of life is awaited."""
    event = HEARTBEAT if run.state_type != StateType.PENDING else "prefect.flow-run.Pending"
    resource = {"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.name": run.name}
    return {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": event,
        "resource": resource,
    }
