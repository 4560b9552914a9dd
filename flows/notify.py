"""Notifications to the operator: always logged, and sent where a URL says so: `python -m flows.notify NAME`."""

import getpass
import logging
import os
import sys
from typing import Any

import apprise
from prefect.blocks.system import Secret
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from flows.command import option, parse, secret_name

NOTIFY = "WAYMARK_NOTIFY"  # where all of them go that name no URL of their own, and those of crashes


def notify(secret: str | None, title: str, body: str) -> bool:
    """Log a message, and send it; one that cannot be sent is a warning in the log, and stops nothing.

    Args:
        secret: name of the Secret that holds the URL, as Apprise writes it: `mailtos://`, `slack://`, `ntfys://`,
            `json://host:port` and some hundred others; None for what `WAYMARK_NOTIFY` says, or else the log alone. The
            URL may hold a password, so that no log shows it.
        title: the news in one line.
        body: the rest, as text or Markdown.

    Returns:
        Whether it was sent.
    """
    logger = _logger()
    logger.info("%s\n%s", title, body)
    if not (secret or os.environ.get(NOTIFY)):
        return False
    try:
        messenger = apprise.Apprise()
        if not messenger.add(Secret.load(secret).get() if secret else os.environ[NOTIFY]):
            why = "Apprise does not know such a URL; see notify"
        elif not messenger.notify(title=title, body=body):
            why = "nobody took it at the URL of notify"
        else:
            return True
    except Exception as error:  # a message must never fail the run that it is about
        why = type(error).__name__
        if secret and isinstance(error, ValueError):  # what Prefect raises for an unknown block
            why = f"Prefect has no Secret {secret!r}; make it with `python -m flows.notify {secret}`"
    logger.warning("the message %r was not sent: %s", title, why)
    return False


def _logger() -> Any:
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger("flows.notify")  # also where it is run as a command


def main() -> None:
    """Keep a URL for messages as a Secret of Prefect, which encrypts it."""
    arguments = parse(
        "flows.notify",
        str(main.__doc__),
        option("name", type=secret_name, help="by which `notify` names it; the URL comes from the keyboard"),
        option("--try", dest="send", action="store_true", help="send a message to the URL that is kept"),
    )
    if arguments.send:
        if not notify(arguments.name, "Waymark: a test", "Messages for operators arrive here."):
            sys.exit("not sent; the line above says why")
        print("sent")
        return
    url = (getpass.getpass("Apprise URL: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
    if not apprise.Apprise().add(url):
        sys.exit("Apprise does not know such a URL; nothing was kept")
    Secret(value=url).save(arguments.name, overwrite=True)
    print(f"kept; use --notify {arguments.name}, or set the parameter notify of a flow run to {arguments.name}")


if __name__ == "__main__":
    main()
