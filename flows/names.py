"""Names of flow runs that tell those of a day from each other."""

from collections.abc import Callable
from datetime import datetime

from prefect import runtime


def dated(what: str, *parameters: str) -> Callable[[], str]:
    """Name each run of a flow by what it does, some of its parameters, and when it begins here.

    >>> dated("pipeline")()[:11]
    'pipeline 20'
    """

    def name() -> str:
        given = runtime.flow_run.parameters or {}
        words = [what, *(str(given[key]) for key in parameters if given.get(key))]
        return f"{' '.join(words)} {datetime.now().astimezone():%Y-%m-%d %H:%M:%S}"

    return name
