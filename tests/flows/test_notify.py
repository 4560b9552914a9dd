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
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.utilities.callables import parameter_schema
from receiver import receiver

from flows.notify import notify
from flows.promote import promote
from flows.workers.automations import crash_notification
from waymark.system.processes import die_with_parent

pytestmark = pytest.mark.slow


def test_a_message_is_logged_and_sent(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    with receiver() as (url, messages):
        monkeypatch.setenv("WAYMARK_NOTIFY", url)
        notify(None, "the night failed", "grid: no record is left")
    message = messages.get_nowait()
    assert (message["title"], message["message"]) == ("the night failed", "grid: no record is left")
    assert "the night failed\ngrid: no record is left" in caplog.text
    assert "was not sent" not in caplog.text


def test_without_a_url_the_log_has_it(caplog):
    caplog.set_level(logging.INFO)
    notify(None, "refused", "too few records")
    assert "refused\ntoo few records" in caplog.text


@pytest.mark.parametrize("url", ["json://user:secret@127.0.0.1:1/", "nonsense://secret", "secret", "json://:secret@"])
def test_what_cannot_be_sent_is_said_without_the_url(caplog, url, monkeypatch):
    caplog.set_level(logging.DEBUG, logger="flows")
    monkeypatch.setenv("WAYMARK_NOTIFY", url)
    notify(None, "promoted", "version 3")
    assert "the message 'promoted' was not sent" in caplog.text
    assert not [
        record for record in caplog.records if "secret" in record.getMessage() and record.name == "flows.notify"
    ]


def test_a_receiver_that_refuses_is_said(caplog, monkeypatch):
    with receiver(status=500) as (url, messages):
        monkeypatch.setenv("WAYMARK_NOTIFY", url)
        notify(None, "promoted", "version 3")
    assert not messages.empty()
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


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    with prefect_server(tmp_path_factory.mktemp("server")) as api:
        yield api


def test_notify_names_a_secret_of_prefect_that_shows_its_url_to_nobody(api, caplog):
    keep = [sys.executable, "-m", "flows.notify", "ops"]
    with receiver() as (url, messages), temporary_settings({PREFECT_API_URL: api}):
        caplog.set_level(logging.WARNING)
        notify("ops", "promoted", "version 3")
        assert "Prefect has no Secret 'ops'; make it with `python -m flows.notify ops`" in caplog.text
        environment = {**os.environ, "PREFECT_API_URL": api}
        kept = subprocess.run(keep, input=url, env=environment, capture_output=True, text=True, check=True)
        assert kept.stdout == "kept; use --notify ops, or set the parameter notify of a flow run to ops\n"
        notify("ops", "promoted", "version 3")
        assert messages.get_nowait()["title"] == "promoted"
        tried = subprocess.run([*keep, "--try"], env=environment, capture_output=True, text=True, check=True)
        assert tried.stdout.splitlines()[-1] == "sent"
        assert messages.get_nowait()["title"] == "Waymark: a test"
        unknown = [*keep[:-1], "unknown", "--try"]
        refused = subprocess.run(unknown, env=environment, capture_output=True, text=True, check=False)
        assert (refused.returncode, refused.stderr.splitlines()[-1]) == (1, "not sent; the line above says why")
        with get_client(sync_client=True) as client:
            shown = client.request("POST", "/block_documents/filter", json={}).text
    assert url not in kept.stdout + kept.stderr + shown


def test_a_url_in_place_of_a_name_is_refused_before_prefect_keeps_it(api):
    """As in a form of Prefect's pages, where everybody would read it."""
    secret = "json://user:password@127.0.0.1:1/"
    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
        flow_id = client.create_flow(promote)
        schema = parameter_schema(promote).model_dump_for_openapi()
        made = client.create_deployment(flow_id, "promote", parameter_openapi_schema=schema)
        with pytest.raises(PrefectHTTPStatusError) as refused:
            client.create_flow_run_from_deployment(made, parameters={"notify": secret})
        assert refused.value.response.status_code == 409
        client.create_flow_run_from_deployment(made, parameters={"notify": "ops"})
        assert [run.parameters.get("notify") for run in client.read_flow_runs()] == ["ops"]
    typed = [sys.executable, "-m", "flows.promote", "--notify", secret]
    done = subprocess.run(typed, capture_output=True, text=True, check=False)
    assert "names a Secret of Prefect" in done.stderr
    assert secret not in done.stderr


def test_the_server_tells_of_a_run_that_crashed(api):
    """No code of ours runs any more when a process is killed outright."""
    with (
        receiver() as (url, messages),
        temporary_settings({PREFECT_API_URL: api}),
        get_client(sync_client=True) as client,
    ):
        for _ in range(2):  # a second start of the services brings no second message
            automation = crash_notification(client, url)
            for old in client.read_automations_by_name(automation.name):
                client.delete_automation(old.id)
            client.create_automation(automation)
        for name in ("nightly", "other"):
            flow_id = str(client.create_flow_from_name(name))
            running = {"flow_id": flow_id, "name": f"{name}-1", "state": {"type": "RUNNING"}}
            run = client.request("POST", "/flow_runs/", json=running).json()["id"]
            crashed = {"state": {"type": "CRASHED", "message": "its process is gone"}, "force": True}
            client.request("POST", f"/flow_runs/{run}/set_state", json=crashed)
        message = messages.get(timeout=240)
    assert message["title"] == "waymark: nightly crashed"
    assert message["message"].startswith("nightly-1: its process is gone")
    assert messages.empty()
