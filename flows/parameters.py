"""Parameters of flows that must hold no password: Prefect keeps and shows them, and `ps` shows those of a command."""

import re
from argparse import ArgumentTypeError
from typing import Annotated

from pydantic import Field

SECRET_NAME = r"^[a-z0-9][a-z0-9-]*$"
ADDRESS = r"^([^@]*|/.*|[a-z0-9+.-]+://[^/@]*/.*|ssh://[^/:@]+@.*|[^/:@]+@[^/].*)$"  # a user for SSH is none

SecretName = Annotated[str, Field(pattern=SECRET_NAME)]  # Prefect's server checks it before it keeps a parameter
Address = Annotated[str, Field(pattern=ADDRESS)]


def secret_name(text: str) -> str:
    """Check the name of a Secret, where somebody may have written the URL itself.

    Raises:
        ArgumentTypeError: it is none; the message does not repeat it.
    """
    return _matching(
        SECRET_NAME,
        text,
        "names a Secret of Prefect, in small letters, digits and dashes, and not the URL itself; keep the URL with"
        " `python -m flows.word NAME`, or in WAYMARK_NOTIFY",
    )


def address(text: str) -> str:
    """Check the address of a remote or a repository, which may need a password, and must not hold it.

    Raises:
        ArgumentTypeError: it holds one; the message does not repeat it.
    """
    return _matching(
        ADDRESS,
        text,
        "holds a password or token; leave it out, and give it to DVC with `dvc remote modify --local`",
    )


def _matching(pattern: str, text: str, otherwise: str) -> str:
    if re.fullmatch(pattern, text) is None:
        raise ArgumentTypeError(otherwise)
    return text
