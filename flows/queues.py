"""Which workers of the pool `gpu` may take which training.

A training without a DVC remote needs a worker that sees the checkout, and waits in that checkout's own work queue. One
whose data, code and result go through a remote waits in the pool's default queue, to which every worker listens.
"""

import hashlib
import re
import socket

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.settings import PREFECT_API_URL

from flows.addresses import GPU
from tasks.common.checkout import checkout
from waymark.errors import WaymarkError

ANY_MACHINE = "default"  # which Prefect makes with each pool


class QueueError(WaymarkError):
    """A worker cannot listen to its queues; the message says why."""


def own_queue() -> str:
    """Name the queue of this checkout; a clone elsewhere has another one, even at the same path of a namesake."""
    root, host = checkout().resolve(), socket.gethostname()
    digest = hashlib.sha256(f"{host}\0{root}\0{root.stat().st_ino}".encode()).hexdigest()
    return re.sub("[^A-Za-z0-9_.-]", "-", f"{host}-{root.name}-{digest[:8]}")  # Prefect allows no slash, & or %


def listen(pool: str) -> list[str]:
    """Make the queues that a worker of a pool in this checkout listens to, and give their names; none for all.

    Raises:
        QueueError: the server does not answer, or has no such pool.
    """
    if pool != GPU:
        return []
    try:
        with get_client(sync_client=True) as client:
            client.create_work_queue(own_queue(), work_pool_name=pool)
    except ObjectAlreadyExists:
        pass
    except ObjectNotFound:
        raise QueueError(f"Prefect at {PREFECT_API_URL.value()} has no pool {pool}; `make up` there makes it") from None
    except httpx.HTTPError as error:
        raise QueueError(f"Prefect at {PREFECT_API_URL.value()} does not answer: {error}") from None
    return [own_queue(), ANY_MACHINE]
