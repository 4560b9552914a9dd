"""What Prefect's server does by itself about runs whose process is gone, and whose own code can do nothing any more.

They become Crashed, so that none of them blocks the next nightly run, and the operator is notified.
"""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from prefect.automations import AutomationCore, ChangeFlowRunState, EventTrigger, Posture, SendNotification
from prefect.blocks.notifications import SlackWebhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.notify import NOTIFY
from flows.servers.addresses import number

HEARTBEAT = "prefect.flow-run.heartbeat"
RUNS = {"prefect.resource.id": "prefect.flow-run.*"}
AT_WORK = {HEARTBEAT, "prefect.flow-run.Running", "prefect.flow-run.Cancelling"}
BEFORE = {f"prefect.flow-run.{name}" for name in ("Pending", "Submitting", "InfrastructurePending")}
BLOCK = "waymark-notify"
CRASHED = "waymark: notify of crashes"
OLD = ("waymark: word of a crash",)  # names of earlier versions, whose messages would come twice
FLOWS = ("nightly", "promote", "rollback")  # a nightly run reports on what runs inside it


def apply(client: SyncPrefectClient) -> None:
    """Make the automations, or change those that differ; notifications of crashes go where `WAYMARK_NOTIFY` says."""
    for name in OLD:
        for found in client.read_automations_by_name(name):
            client.delete_automation(found.id)
    for wanted in _automations(client):
        present = client.read_automations_by_name(wanted.name)
        if not present:
            client.create_automation(wanted)
        elif AutomationCore.model_validate(present[0].model_dump(exclude={"id"})) != wanted:
            client.update_automation(present[0].id, wanted)


def _automations(client: SyncPrefectClient) -> Iterator[AutomationCore]:
    silent_s = number("WAYMARK_SILENT_S", 300, least=int(os.environ["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]) + 1)
    why = "A run that is Running, and sends no heartbeat any more, has crashed."
    yield _crash_after("waymark: silent runs", why, AT_WORK, silent_s)
    why = "A run that a worker has taken, and that never began, has crashed with its worker."
    yield _crash_after("waymark: pending runs", why, BEFORE, number("WAYMARK_PENDING_S", 300))
    if url := os.environ.get(NOTIFY):
        yield crash_notification(client, url)


def _crash_after(name: str, description: str, after: set[str], within_s: int) -> AutomationCore:
    trigger = EventTrigger(
        match=RUNS,
        for_each={"prefect.resource.id"},
        after=after,
        expect={"prefect.flow-run.*"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=within_s),
    )
    message = f"no sign of life for {within_s} s: its process is gone"
    crash = ChangeFlowRunState(state=StateType.CRASHED, message=message)
    return AutomationCore(name=name, description=description, trigger=trigger, actions=[crash])


def crash_notification(client: SyncPrefectClient, url: str, flows: Sequence[str] = FLOWS) -> AutomationCore:
    """Describe an automation by which the server notifies of a run that crashed.

    The URL is kept in a block of the server, which encrypts it. Its Slack block takes any URL of Apprise, and is one
    that the server knows without a module of ours.

    Args:
        client: of the server.
        url: as `notify` takes it.
        flows: whose runs are meant.
    """
    with temporary_settings({PREFECT_API_URL: str(client.api_url)}):
        block = SlackWebhook(url=url).save(BLOCK, overwrite=True)
    trigger = EventTrigger(
        expect={"prefect.flow-run.Crashed"},
        match=RUNS,
        match_related={"prefect.resource.role": "flow", "prefect.resource.name": list(flows)},
        for_each={"prefect.resource.id"},
    )
    send = SendNotification(
        block_document_id=block,
        subject="waymark: {{ flow.name }} crashed",
        body="{{ flow_run.name }}: {{ flow_run.state.message or 'no reason given' }}\n{{ flow_run | ui_url }}",
    )
    return AutomationCore(
        name=CRASHED, description="Sends a message when a run crashes.", trigger=trigger, actions=[send]
    )


def ask_for_signs(client: SyncPrefectClient) -> None:
    """Let the wait for a sign of life start again for every run that is open.

    A run that was at work when the server went down may have nobody left who waits for it. One that lives on, here or
    elsewhere, answers with its next heartbeat.
    """
    open_states = {"state": {"type": {"any_": [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]}}}
    runs = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(open_states))
    if runs:
        client.request("POST", "/events", json=[_sign(run) for run in runs])


def _sign(run: FlowRun) -> dict[str, object]:
    """Describe the event after which a run's next sign of life is awaited."""
    return {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": HEARTBEAT if run.state_type != StateType.PENDING else "prefect.flow-run.Pending",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.name": run.name},
    }
