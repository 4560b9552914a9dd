"""Word to the operator: in the log always, and where a URL says so as a message."""

import logging
import os
from collections.abc import Sequence
from typing import Any

import apprise
from prefect.automations import AutomationCore, EventTrigger, SendNotification
from prefect.blocks.notifications import SlackWebhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger
from prefect.settings import PREFECT_API_URL, temporary_settings

NOTIFY = "WAYMARK_NOTIFY"  # where all of it goes that names no URL of its own, and word of crashes
BLOCK = "waymark-word"
CRASHED = "waymark: word of a crash"
FLOWS = ("nightly", "promote", "rollback")  # what runs inside a night is told by the night


def tell(url: str | None, title: str, body: str) -> None:
    """Tell the operator; what cannot be sent is said in the log, and stops nothing.

    Args:
        url: where to, as Apprise writes it: `mailtos://`, `slack://`, `ntfys://`, `json://host:port` and some
            hundred others; None for what `WAYMARK_NOTIFY` says, or else the log alone. It may hold a password, so
            that no log shows it.
        title: the news in one line.
        body: the rest, as text or Markdown.
    """
    logger = _logger()
    logger.info("%s\n%s", title, body)
    url = url or os.environ.get(NOTIFY)
    if not url:
        return
    try:
        messenger = apprise.Apprise()
        if not messenger.add(url):
            logger.warning("the message %r was not sent: Apprise does not know such a URL; see notify", title)
        elif not messenger.notify(title=title, body=body):
            logger.warning("the message %r was not sent: nobody took it at the URL of notify", title)
    except Exception as error:  # a message must never fail the night that it is about
        logger.warning("the message %r was not sent: %s", title, type(error).__name__)


def _logger() -> Any:
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger(__name__)


def crash_word(client: SyncPrefectClient, url: str, flows: Sequence[str] = FLOWS) -> AutomationCore:
    """Let Prefect's server tell of a run that crashed, whose own code can tell nothing any more.

    The URL is kept in a block of the server, which encrypts it. Its Slack block takes any URL of Apprise, and is one
    that the server knows without a module of ours.

    Args:
        client: of the server.
        url: as `tell` takes it.
        flows: whose runs are told of.

    Returns:
        An automation to create or update.
    """
    with temporary_settings({PREFECT_API_URL: str(client.api_url)}):
        block = SlackWebhook(url=url).save(BLOCK, overwrite=True)
    return AutomationCore(
        name=CRASHED,
        description="Sends a message when a run crashes.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Crashed"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "flow", "prefect.resource.name": list(flows)},
            for_each={"prefect.resource.id"},
        ),
        actions=[
            SendNotification(
                block_document_id=block,
                subject="waymark: {{ flow.name }} crashed",
                body="{{ flow_run.name }}: {{ flow_run.state.message or 'no reason given' }}\n{{ flow_run | ui_url }}",
            )
        ],
    )
