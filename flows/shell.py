"""Let a shell talk to the services that run here: `eval "$(python -m flows.shell)"`."""

import os
import shlex

from flows.servers import state, supervisor
from waymark.inference.references import ENVIRONMENT


def variables() -> dict[str, str]:
    """Return where Prefect keeps its own, and the servers of this folder that run, with user and password."""
    running, known = supervisor.services(), state.read(state.CLIENTS)
    found = {"PREFECT_HOME": os.environ["PREFECT_HOME"]}
    for name, prefix in (("prefect", "PREFECT_"), ("mlflow", "MLFLOW_")):
        if name in running and running[name].runs:
            found |= {variable: value for variable, value in known.items() if variable.startswith(prefix)}
    return found | {name: value for name, value in state.read(state.SETTINGS).items() if name == ENVIRONMENT}


if __name__ == "__main__":
    for name, value in variables().items():
        print(f"export {name}={shlex.quote(value)}")
