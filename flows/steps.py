"""A part of the work as a task run of Prefect, with a state, a time and a log of its own."""

from collections.abc import Callable
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.engine import is_served


def as_task(name: str, work: Callable[[], Any]) -> Any:
    """Do it within a flow, and give what it gives; without a server that records it, just do it."""
    if not is_served():
        return work()

    @task(name=name, task_run_name=name, cache_policy=NO_CACHE)
    def step() -> Any:
        return work()

    return step()
