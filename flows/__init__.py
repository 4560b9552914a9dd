"""When and where the work runs. Prefect's home lies inside the checkout, and nothing phones home."""

import os
from pathlib import Path

os.environ.setdefault("PREFECT_HOME", str(Path(".prefect").resolve()))
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")  # its 20 s fail on a busy machine
os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "7")  # minutes: a busy SQLite, a server that is started again
os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")  # see flows/watch.py
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("DVC_SITE_CACHE_DIR", str(Path(".dvc/tmp/site").resolve()))
