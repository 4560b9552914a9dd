"""Messages reach a real receiver, and one that is not there stops nothing."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from receiver import receiver

from flows.word import crash_word, tell
from waymark.processes import die_with_parent

pytestmark = pytest.mark.slow


def test_a_message_is_logged_and_sent(caplog):
    caplog.set_level(logging.INFO)
    with receiver() as (url, told):
        tell(url, "the night failed", "grid: no record is left")
    message = told.get_nowait()
    assert (message["title"], message["message"]) == ("the night failed", "grid: no record is left")
    assert "the night failed\ngrid: no record is left" in caplog.text
    assert "was not sent" not in caplog.text


def test_without_a_url_the_log_has_it(caplog):
    caplog.set_level(logging.INFO)
    tell(None, "refused", "too few records")
    assert "refused\ntoo few records" in caplog.text


def test_what_names_no_url_goes_where_the_environment_says(monkeypatch):
    with receiver() as (url, told):
        monkeypatch.setenv("WAYMARK_NOTIFY", url)
        tell(None, "promoted", "version 3")
    assert told.get_nowait()["title"] == "promoted"


@pytest.mark.parametrize("url", ["json://user:secret@127.0.0.1:1/", "nonsense://secret", "secret", "json://:secret@"])
def test_what_cannot_be_sent_is_said_without_the_url(caplog, url):
    caplog.set_level(logging.DEBUG, logger="flows")
    tell(url, "promoted", "version 3")
    assert "the message 'promoted' was not sent" in caplog.text
    assert not [record for record in caplog.records if "secret" in record.getMessage() and record.name == "flows.word"]


def test_a_receiver_that_refuses_is_said(caplog):
    with receiver(status=500) as (url, told):
        tell(url, "promoted", "version 3")
    assert not told.empty()
    assert "nobody took it" in caplog.text


@contextmanager
def prefect_server(folder):
    """Start Prefect's own server, and give the address of its API."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "prefect",
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-ui",
    ]
    environment = {**os.environ, "PREFECT_HOME": str(folder), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    environment.pop("PREFECT_API_URL", None)
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True, preexec_fn=die_with_parent
        )
    try:
        deadline = time.monotonic() + 240
        while True:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5):
                break
            assert server.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/api"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def test_the_server_tells_of_a_run_that_crashed(tmp_path):
    """No code of ours runs any more when a process is killed outright."""
    with (
        prefect_server(tmp_path) as api,
        receiver() as (url, told),
        temporary_settings({PREFECT_API_URL: api}),
        get_client(sync_client=True) as client,
    ):
        for _ in range(2):  # a second start of the services brings no second message
            automation = crash_word(client, url)
            for old in client.read_automations_by_name(automation.name):
                client.delete_automation(old.id)
            client.create_automation(automation)
        for name in ("nightly", "other"):
            flow_id = str(client.create_flow_from_name(name))
            running = {"flow_id": flow_id, "name": f"{name}-1", "state": {"type": "RUNNING"}}
            run = client.request("POST", "/flow_runs/", json=running).json()["id"]
            crashed = {"state": {"type": "CRASHED", "message": "its process is gone"}, "force": True}
            client.request("POST", f"/flow_runs/{run}/set_state", json=crashed)
        message = told.get(timeout=240)
    assert message["title"] == "waymark: nightly crashed"
    assert message["message"].startswith("nightly-1: its process is gone")
    assert told.empty()
