"""What supervisor runs: a service in this process, with the settings kept: `python -m flows.launch mlflow`."""

import os

from flows import worker
from flows.command import option, parse
from flows.servers import supervisor
from flows.servers.addresses import OF_SERVERS, POOLS, addresses, environment, settings
from waymark.system.processes import die_with_parent

SERVERS = ("prefect", "mlflow")
WORKERS = {f"worker-{pool}": pool for pool in POOLS}


def launch(name: str) -> None:
    """Turn into a service, which ends when supervisor dies; what is left of one that was killed ends first."""
    die_with_parent()
    supervisor.kill_family(name)
    kept = settings()
    at = addresses(kept)
    own = {key: value for key, value in kept.items() if name in SERVERS or key not in OF_SERVERS}
    os.environ.update(environment(**own, **at.clients))
    if name in WORKERS:
        for key in OF_SERVERS:
            os.environ.pop(key, None)
        worker.work(WORKERS[name])
    else:
        from flows.servers import apps  # late, for workers need no server

        {"prefect": apps.serve_prefect, "mlflow": apps.serve_mlflow}[name](at)


if __name__ == "__main__":
    launch(parse("flows.launch", str(__doc__), option("service", choices=(*SERVERS, *WORKERS))).service)
