"""The servers of Prefect and MLflow in one process each, behind a guard."""

import os
from multiprocessing import parent_process

import uvicorn
from starlette.types import ASGIApp

from flows.servers.addresses import BASIC_AUTH, Addresses, addresses, number, settings
from flows.servers.guard import Guard
from waymark.system.processes import die_with_parent

GRACE_S = 5  # for open connections, when a server is stopped
QUIET = "warning"  # no line for each request


def serve_prefect(at: Addresses) -> None:
    """Serve Prefect until it is stopped."""
    os.environ.update(_prefect_variables(at))
    from prefect.server.api.server import create_app  # late, for Prefect reads its environment when it is imported
    from prefect.settings import get_current_settings

    api = get_current_settings().server.api
    uvicorn.run(
        Guard(create_app(final=True), at.hosts, _origins("PREFECT_SERVER_CORS_ALLOWED_ORIGINS"), None),
        host=at.prefect_host,
        port=at.prefect_port,
        log_level=QUIET,
        timeout_keep_alive=api.keepalive_timeout,
        timeout_graceful_shutdown=GRACE_S,
        ws_ping_interval=api.websocket_ping_interval,
        ws_ping_timeout=api.websocket_ping_timeout,
    )


def _prefect_variables(at: Addresses) -> dict[str, str]:
    fixed = {
        "PREFECT_API_URL": at.api_url,
        "PREFECT_API_AUTH_STRING": at.prefect_auth,
        "PREFECT_SERVER_API_AUTH_STRING": at.prefect_auth,
    }
    defaults = {
        "PREFECT_UI_API_URL": "/api",  # of the server that the page came from, by whichever name
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": at.prefect_url,
        # Leases in files outlive a restart of the server; from memory a run at work would lose its slot and end.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        # The states of stages in one write a second: each by itself would lock SQLite out from what is asked meanwhile.
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    }
    return {**{name: os.environ.get(name, value) for name, value in defaults.items()}, **fixed}


def serve_mlflow(at: Addresses) -> None:
    """Serve MLflow until it is stopped, in as many processes as MLFLOW_WORKERS says."""
    os.environ.update(_mlflow_variables(at))
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores(at.mlflow_store, at.mlflow_store, at.mlflow_artifacts)  # in one process, before others
    workers = number("MLFLOW_WORKERS", 1)  # each takes as much memory as the first
    uvicorn.run(
        mlflow_app() if workers == 1 else "flows.servers.apps:mlflow_app",
        factory=workers > 1,
        workers=workers,
        host=at.mlflow_host,
        port=at.mlflow_port,
        log_level=QUIET,
        timeout_graceful_shutdown=GRACE_S,
    )


def _mlflow_variables(at: Addresses) -> dict[str, str]:
    """Return what `mlflow server` hands on to its processes; its command line would show a password of the store."""
    from mlflow.server import constants

    user, _, password = at.mlflow_auth.partition(":")
    defaults = {
        "MLFLOW_SERVER_ALLOWED_HOSTS": "*",  # the guard knows them
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # for its own language models: more processes
        "MLFLOW_AUTH_ADMIN_USERNAME": user,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": password,
    }
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    return {
        **{name: os.environ.get(name, value) for name, value in defaults.items()},
        constants.BACKEND_STORE_URI_ENV_VAR: at.mlflow_store,
        constants.REGISTRY_STORE_URI_ENV_VAR: at.mlflow_store,
        constants.ARTIFACT_ROOT_ENV_VAR: at.mlflow_artifacts,
        constants.ARTIFACTS_DESTINATION_ENV_VAR: at.mlflow_destination,
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        "_MLFLOW_SGI_NAME": "uvicorn",
    }


def mlflow_app() -> ASGIApp:
    """Return MLflow's server behind the guard, with the users of its own where WAYMARK_MLFLOW_AUTH says so."""
    if parent_process() is not None:
        die_with_parent()
    at, origins = addresses(settings()), _origins("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS")
    if os.environ.get("WAYMARK_MLFLOW_AUTH") == BASIC_AUTH:
        from mlflow.server.auth import create_app

        return Guard(create_app(), at.hosts, origins, None)
    from mlflow.server.fastapi_app import app

    return Guard(app, at.hosts, origins, at.mlflow_auth)


def _origins(variable: str) -> list[str]:
    return [origin.strip() for origin in os.environ.get(variable, "").split(",") if origin.strip()]
