"""Prefect's engine where a server answers, else the same functions as plain Python: no server is started for a run."""

import inspect
import sys
from functools import cache
from typing import Any

import httpx
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Completed, State

from waymark.errors import WaymarkError

PATIENCE_S = 30.0  # with a server that is busy
REFUSED = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)


class FlowError(WaymarkError):
    """A flow did not run to its end; the message is what it says of that."""


def is_served() -> bool:
    """Say whether runs are recorded by a Prefect server, which also knows workers and cancellation."""
    return FlowRunContext.get() is not None or _answers(PREFECT_API_URL.value())


@cache
def _answers(url: str | None) -> bool:
    """Ask once whether a server takes our requests; where one is named and does not, say so in one line."""
    if not url:
        return False
    try:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(httpx_settings={"timeout": PATIENCE_S}, sync_client=True) as client,
        ):
            client.hello()
    except httpx.HTTPStatusError as error:
        if error.response.status_code in REFUSED:
            return _without(url, f"refuses this user ({error.response.status_code}); see PREFECT_API_AUTH_STRING")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return _without(url, f"does not answer ({error})")
    return True


def _without(url: str, why: str) -> bool:
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
