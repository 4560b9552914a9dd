"""Prefect's engine where a server answers, else the same functions as plain Python: no server is started for a run."""

import inspect
import sys
from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Any

import httpx
from prefect import Flow, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Completed, State

from waymark.errors import WaymarkError

PATIENCE_S = 30.0  # with a server that is busy
REFUSED = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)


class FlowError(WaymarkError):
    """A flow did not run to its end; the message is that of its state."""


def is_served() -> bool:
    """Whether runs are recorded by a Prefect server, which also knows workers and cancellation."""
    return FlowRunContext.get() is not None or _answers(PREFECT_API_URL.value())


@cache
def _answers(url: str | None) -> bool:
    """Ask once whether a server takes our requests; warn in one line where one is named and does not."""
    if not url:
        return False
    try:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(httpx_settings={"timeout": PATIENCE_S}, sync_client=True) as client,
        ):
            client.hello()
        return True
    except httpx.HTTPStatusError as error:
        if error.response.status_code not in REFUSED:
            return True
        why = f"refuses this user ({error.response.status_code}); see PREFECT_API_AUTH_STRING"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        why = f"does not answer ({error})"
    print(f"the Prefect server at {url} {why}; this run goes without it, and is not recorded there", file=sys.stderr)
    return False


def run(flow: Flow[..., Any], **parameters: Any) -> State[Any]:
    """Run a flow, also one within another, and return the state that it ends with.

    Without a server an error is raised as it is; with one it is the result of a failed state.
    """
    if is_served():
        state: State[Any] = flow(**parameters, return_state=True)
        return state
    bound = inspect.signature(flow.fn).bind(**parameters)
    bound.apply_defaults()
    returned = flow.fn(**flow.validate_parameters(bound.arguments))
    return returned if isinstance(returned, State) else Completed(data=returned)


def completed(state: State[Any]) -> State[Any]:
    """Return the state of a flow that ran to its end.

    Raises:
        WaymarkError: it did not; what the flow raised, or a FlowError with its message.
    """
    if state.is_completed():
        return state
    raised = state.result(raise_on_failure=False)
    raise raised if isinstance(raised, WaymarkError) else FlowError(state.message or "the flow did not run to its end")


def as_task(name: str, work: Callable[[], Any]) -> Any:
    """Call a function within a flow, as a task run with a state and a log of its own where a server records it."""
    if not is_served():
        return work()

    @task(name=name, task_run_name=name, cache_policy=NO_CACHE)
    def step() -> Any:
        return work()

    return step()


def dated(what: str, *parameters: str) -> Callable[[], str]:
    """Name each run of a flow by what it does, some of its parameters, and when it begins.

    >>> dated("pipeline")()[:11]
    'pipeline 20'
    """

    def name() -> str:
        given = runtime.flow_run.parameters or {}
        words = [what, *(str(given[key]) for key in parameters if given.get(key))]
        return f"{' '.join(words)} {datetime.now().astimezone():%Y-%m-%d %H:%M:%S}"

    return name
