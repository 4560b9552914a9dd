"""What supervisor runs: a service, in this process and with what is remembered: `python -m flows.launch mlflow`."""

import argparse
import os

from flows import processes, worker
from flows.addresses import OF_SERVERS, POOLS, addresses, environment, settings
from waymark.system.processes import die_with_parent

SERVERS = ("prefect", "mlflow")
WORKERS = {f"worker-{pool}": pool for pool in POOLS}


def launch(name: str) -> None:
    """Turn into a service, which ends when supervisor dies; what is left of one that was killed ends first."""
    die_with_parent()
    processes.end(name)
    its = settings()
    at = addresses(its)
    own = {key: value for key, value in its.items() if name in SERVERS or key not in OF_SERVERS}
    os.environ.update(environment(**own, **at.clients))
    if name in WORKERS:
        for key in OF_SERVERS:
            os.environ.pop(key, None)
        worker.work(WORKERS[name])
    else:
        from flows import servers  # late, for workers need no server

        {"prefect": servers.serve_prefect, "mlflow": servers.serve_mlflow}[name](at)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m flows.launch", description=__doc__)
    parser.add_argument("service", choices=(*SERVERS, *WORKERS))
    launch(parser.parse_args().service)
