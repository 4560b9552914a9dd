"""When and where the work runs. Prefect's home lies inside the checkout, and nothing phones home."""

import logging
import os
from pathlib import Path

from flows.servers import state
from waymark.system.addresses import sqlite_url

_home = os.environ.get("PREFECT_HOME") or state.read(state.SETTINGS).get("PREFECT_HOME", ".prefect")
os.environ["PREFECT_HOME"] = str(Path(_home).resolve())
if "?" in os.environ["PREFECT_HOME"]:  # of which Prefect itself would make another address
    _database = sqlite_url(Path(os.environ["PREFECT_HOME"], "prefect.db"), "sqlite+aiosqlite")
    os.environ.setdefault("PREFECT_API_DATABASE_CONNECTION_URL", _database)
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "false")  # no server for a single run: see flows/engine.py
os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "7")  # minutes: a busy SQLite, a server that is started again
os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")  # see flows/workers/automations.py
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("DVC_SITE_CACHE_DIR", str(Path(".dvc/tmp/site").resolve()))
state.find_servers()

# What steps and library log goes into the log of the run, too.
OURS = ("flows", "tasks", "waymark")
os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", ",".join(OURS))
os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")
for name in OURS:
    logging.getLogger(name).setLevel(logging.INFO)
