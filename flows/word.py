"""Word to the operator: in the log always, and where a URL says so as a message."""

import getpass
import logging
import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

import apprise
from prefect.automations import AutomationCore, EventTrigger, SendNotification
from prefect.blocks.notifications import SlackWebhook
from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.parameters import secret_name

NOTIFY = "WAYMARK_NOTIFY"  # where all of it goes that names no URL of its own, and word of crashes
BLOCK = "waymark-word"
CRASHED = "waymark: word of a crash"
FLOWS = ("nightly", "promote", "rollback")  # what runs inside a night is told by the night


def tell(notify: str | None, title: str, body: str) -> bool:
    """Tell the operator; what cannot be sent is said in the log, and stops nothing. Return whether it was sent.

    Args:
        notify: name of the Secret that holds the URL, as Apprise writes it: `mailtos://`, `slack://`, `ntfys://`,
            `json://host:port` and some hundred others; None for what `WAYMARK_NOTIFY` says, or else the log alone. The
            URL may hold a password, so that no log shows it.
        title: the news in one line.
        body: the rest, as text or Markdown.
    """
    logger = _logger()
    logger.info("%s\n%s", title, body)
    if not (notify or os.environ.get(NOTIFY)):
        return False
    try:
        messenger = apprise.Apprise()
        url = Secret.load(notify).get() if notify else os.environ[NOTIFY]
        if not messenger.add(url):
            logger.warning("the message %r was not sent: Apprise does not know such a URL; see notify", title)
        elif not messenger.notify(title=title, body=body):
            logger.warning("the message %r was not sent: nobody took it at the URL of notify", title)
        else:
            return True
    except Exception as error:  # a message must never fail the night that it is about
        logger.warning("the message %r was not sent: %s", title, _reason(error, notify))
    return False


def _reason(error: Exception, notify: str | None) -> str:
    if notify and isinstance(error, ValueError):  # what Prefect raises for an unknown block
        return f"Prefect has no Secret {notify!r}; make it with `python -m flows.word {notify}`"
    return type(error).__name__


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


def main() -> None:
    """Keep a URL for messages as a Secret of Prefect, which encrypts it."""
    parser = ArgumentParser(prog="python -m flows.word", description=main.__doc__)
    parser.add_argument("name", type=secret_name, help="by which `notify` names it; the URL comes from the keyboard")
    parser.add_argument("--try", dest="send", action="store_true", help="send a message to the URL that is kept")
    arguments = parser.parse_args()
    name = arguments.name
    if arguments.send:
        if not tell(name, "Waymark: a try", "Messages for operators arrive here."):
            sys.exit("not sent; the line above says why")
        print("sent")
        return
    url = (getpass.getpass("Apprise URL: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
    if not apprise.Apprise().add(url):
        sys.exit("Apprise does not know such a URL; nothing was kept")
    Secret(value=url).save(name, overwrite=True)
    print(f"kept; give --notify {name}, or set the parameter notify of a flow run to {name}")


if __name__ == "__main__":
    main()
