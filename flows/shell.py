"""Let a shell talk to the services that run here: `eval "$(python -m flows.shell)"`. Prints nothing where none runs."""

import shlex

from flows import daemons


def variables() -> dict[str, str]:
    """Give the addresses of the servers that `make up` started in this folder and that still run."""
    running = {name: daemon.url for name, daemon in daemons.known().items() if daemon.alive}
    found = {}
    if "prefect" in running:
        found["PREFECT_API_URL"] = f"{running['prefect']}/api"
    if "mlflow" in running:
        found["MLFLOW_TRACKING_URI"] = running["mlflow"]
    return found


if __name__ == "__main__":
    for name, value in variables().items():
        print(f"export {name}={shlex.quote(value)}")
