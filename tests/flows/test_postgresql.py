"""The services with their data in a real PostgreSQL instead of SQLite, and with passwords of the operator's own."""

import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from servers import Services, free_port, until
from test_services import toy_project

PASSWORD = secrets.token_hex(16)
PROGRAMS = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)  # where Debian puts them
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAMS is None, reason="Debian's package postgresql is not installed"),
]


@pytest.fixture
def server(tmp_path_factory):
    """Start a server of its own on a free port, and give a way to ask it."""
    pytest.importorskip("psycopg2", reason="the extra waymark[postgresql] is not installed")
    folder = Path("/tmp") / f"waymark-postgresql-{os.getpid()}"  # a socket's path must be short, and others' to enter
    folder.mkdir(mode=0o700)
    user = {"user": "nobody"} if os.geteuid() == 0 else {}  # it refuses to run as root
    if user:
        shutil.chown(folder, "nobody")
    port = free_port()

    def run(program, *arguments):
        command, variables = [str(PROGRAMS / program), *arguments], {**os.environ, "PGPASSWORD": PASSWORD}
        done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=True, **user)
        return done.stdout

    def ask(database, query):
        return run("psql", "-h", str(folder), "-p", str(port), "-U", "waymark", "-d", database, "-Atc", query)

    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    keeping = ["-U", "waymark", "--auth", "scram-sha-256", "--pwfile", str(folder / "password"), "--no-sync"]
    run("initdb", "-D", str(folder / "data"), *keeping)
    options = ["-D", str(folder / "data"), "-p", str(port), "-k", str(folder), "-h", "127.0.0.1", "-c", "fsync=off"]
    log = (folder / "log").open("wb")
    process = subprocess.Popen([str(PROGRAMS / "postgres"), *options], stdout=log, stderr=log, cwd=folder, **user)
    try:
        until(
            lambda: subprocess.run([str(PROGRAMS / "pg_isready"), "-h", str(folder), "-p", str(port)]).returncode == 0,
            60,
        )
        for database in ("prefect", "mlflow"):
            run("createdb", "-h", str(folder), "-p", str(port), "-U", "waymark", database)
        ask.address = f"waymark:{PASSWORD}@127.0.0.1:{port}"
        yield ask
    finally:
        process.terminate()
        process.wait(30)
        log.close()
        shutil.rmtree(folder)


LOG_A_RUN = "import mlflow; mlflow.set_experiment('waymark'); mlflow.log_metric('loss', 1)"


def test_both_servers_keep_their_data_in_postgresql_and_nothing_shows_its_password(tmp_path, server):
    project = toy_project(tmp_path / "project")
    own = {
        "PREFECT_API_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{server.address}/prefect",
        "MLFLOW_BACKEND_STORE_URI": f"postgresql://{server.address}/mlflow",
        "PREFECT_SERVER_API_AUTH_STRING": f"admin:{PASSWORD}",
        "WAYMARK_MLFLOW_AUTH": "basic-auth",
    }
    with Services(project, **own) as services:
        for variable in own:
            del services.variables[variable]  # it is remembered
        services.up()
        run = services.deploy_run("nightly/nightly")
        assert services.wait(run).name == "Completed", services.logs(run)
        services.variables["MLFLOW_TRACKING_URI"] = services.mlflow_url
        services.command(sys.executable, "-c", f"import flows; {LOG_A_RUN}")
        services.command(sys.executable, "-m", "flows.services", "status")
        del services.variables["MLFLOW_TRACKING_URI"]
        assert server("prefect", f"select state_name from flow_run where id = '{run}'").strip() == "Completed"
        assert server("mlflow", "select key, value from metrics").strip() == "loss|1"
        for url in (
            f"{services.api_url}/flows/count",
            f"{services.mlflow_url}/api/2.0/mlflow/users/get?username=waymark",
        ):
            assert httpx.request("POST" if "count" in url else "GET", url).status_code == 401
        assert not [line for line in command_lines() if PASSWORD in line]
        for worker in ("worker-default", "worker-gpu"):
            inside = [process.environ() for process in services.family(worker)]
            assert not [each for each in inside if "MLFLOW_BACKEND_STORE_URI" in each]
    assert PASSWORD not in services.all_logs()
    shown = [path for path in project.folder.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    assert not [path for path in shown if PASSWORD.encode() in path.read_bytes()]
    assert not list(project.folder.glob("mlflow.db*"))
    assert not list((project.folder / ".prefect").glob("prefect.db*"))


def command_lines():
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
