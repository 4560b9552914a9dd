"""What `make up` keeps, and who may read it."""

import os
import stat
import subprocess
import sys
import threading

import pytest
from closure import ROOT

from flows.servers import state
from flows.servers.addresses import addresses, settings, shown
from waymark.errors import ParameterError

VARIABLES = ("PREFECT_", "MLFLOW_", "WAYMARK_")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith(VARIABLES) and name != "WAYMARK_TESTS":
            monkeypatch.delenv(name)
    return tmp_path


def modes(folder):
    return {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_the_secret_is_this_users_alone_and_the_same_for_all_that_ask_at_once(here):
    found, start = [], threading.Barrier(8)

    def ask():
        start.wait()
        found.append(state.secret())

    asking = [threading.Thread(target=ask) for _ in range(8)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert len(set(found)) == 1
    assert len(found[0].removeprefix("waymark:")) >= 40
    state.write(state.SETTINGS, {"MLFLOW_BACKEND_STORE_URI": "postgresql://me:secret@host/mlflow"})
    assert stat.S_IMODE((here / ".services").stat().st_mode) == 0o700
    assert modes(here / ".services") == {0o600}
    assert sorted(path.name for path in (here / ".services").iterdir()) == ["secret", "settings.json"]


def test_a_folder_that_others_may_read_is_closed(here):
    (here / ".services").mkdir(mode=0o755)
    state.secret()
    assert stat.S_IMODE((here / ".services").stat().st_mode) == 0o700


def test_settings_are_remembered_until_others_are_given(monkeypatch):
    monkeypatch.setenv("MLFLOW_PORT", "5001")
    state.write(state.SETTINGS, settings())
    monkeypatch.delenv("MLFLOW_PORT")
    assert addresses(settings()).mlflow_url == "http://127.0.0.1:5001"
    monkeypatch.setenv("MLFLOW_PORT", "5002")
    assert addresses(settings()).mlflow_url == "http://127.0.0.1:5002"
    monkeypatch.setenv("MLFLOW_PORT", "")
    assert addresses(settings()).mlflow_url == "http://127.0.0.1:5000"


def test_a_password_of_the_operators_is_that_of_server_and_client(monkeypatch):
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:pass")
    at = addresses(settings())
    assert (at.prefect_auth, at.clients["PREFECT_API_AUTH_STRING"]) == ("admin:pass", "admin:pass")
    state.write(state.SETTINGS, settings())
    monkeypatch.delenv("PREFECT_API_AUTH_STRING")
    assert addresses(settings()).prefect_auth == "admin:pass"
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "admin:new")
    assert addresses(settings()).prefect_auth == "admin:new"
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:old")
    with pytest.raises(ParameterError, match="differ; set one of them, or both to the same"):
        addresses(settings())


def test_who_listens_everywhere_is_reached_by_its_own_name_and_those_that_are_named(monkeypatch):
    assert addresses(settings()).hosts == set()
    monkeypatch.setenv("WAYMARK_ALLOWED_HOSTS", "gpu.lan, Other")
    monkeypatch.setenv("MLFLOW_HOST", "0.0.0.0")
    assert addresses(settings()).hosts == {"gpu.lan", "other", os.uname().nodename.lower()}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("WAYMARK_POOLS", "gpus", "WAYMARK_POOLS must name default, gpu or one of them, not 'gpus'"),
        ("WAYMARK_MLFLOW_AUTH", "ldap", "WAYMARK_MLFLOW_AUTH must be basic-auth or empty, not 'ldap'"),
        ("MLFLOW_PORT", "70000", "MLFLOW_PORT must be a whole number, from 1 to 65535, not '70000'"),
    ],
)
def test_a_wrong_setting_is_refused(monkeypatch, name, value, said):
    monkeypatch.setenv(name, value)
    with pytest.raises(ParameterError, match=said):
        addresses(settings())


def test_no_message_shows_a_password():
    each = {"MLFLOW_BACKEND_STORE_URI": "postgresql://me:secret@host/mlflow", "WAYMARK_NOTIFY": "slack://secret"}
    each |= {"PREFECT_SERVER_API_AUTH_STRING": "me:secret", "MLFLOW_PORT": "5000"}
    assert not [name for name in each if "secret" in shown(name, each)]
    assert shown("MLFLOW_BACKEND_STORE_URI", each) == "with MLFLOW_BACKEND_STORE_URI=postgresql://***@host/mlflow"


ASK = """
import os, flows
from tasks.registry.store import tracking_uri
print(tracking_uri(), *(os.environ.get(name) for name in ("PREFECT_API_AUTH_STRING", "MLFLOW_TRACKING_PASSWORD")))
"""


@pytest.mark.parametrize(
    ("mlflow", "prefect", "found"),
    [
        ("http://127.0.0.1:5001", "http://127.0.0.1:4201/api", "http://127.0.0.1:5001 waymark:s3 s3"),
        ("http://localhost:5001/", "http://localhost:4201/api", "http://localhost:5001/ waymark:s3 s3"),
        ("http://elsewhere:5001", "http://127.0.0.1:4202/api", "http://elsewhere:5001 None None"),
        ("http://me:own@elsewhere:5001/x", "", "http://elsewhere:5001/x None own"),
    ],
)
def test_every_command_signs_in_to_its_own_servers_and_to_no_others(here, mlflow, prefect, found):
    clients = {"PREFECT_API_URL": "http://127.0.0.1:4201/api", "PREFECT_API_AUTH_STRING": "waymark:s3"}
    clients |= {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5001", "MLFLOW_TRACKING_USERNAME": "waymark"}
    state.write(state.CLIENTS, clients | {"MLFLOW_TRACKING_PASSWORD": "s3"})
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": mlflow, "PREFECT_API_URL": prefect}
    done = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == found
