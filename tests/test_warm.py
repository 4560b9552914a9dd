"""Commands that tests/support/warm.py runs behave as those of Python itself."""

import os
import signal
import subprocess
import time

import psutil
import warm

WAIT = "from tasks import common; import os, time; print(os.getpid(), flush=True); time.sleep(600)"


def python(*arguments, **options):
    return [str(warm.path() / "python"), *arguments], {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}


def run(*arguments, **options):
    command, options = python(*arguments, **options)
    return subprocess.run(command, text=True, check=False, **options)


def test_folder_environment_arguments_streams_and_exit_code_are_those_of_the_command(tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/odd.py").write_text(
        "import os, sys\nprint(os.getcwd(), os.environ['ODD'], sys.argv[1:], input())\nsys.exit('odd: ' + __name__)"
    )
    asked = run("-m", "tasks.odd", "--x", "é", cwd=tmp_path, env={**os.environ, "ODD": "1"}, input="read\n")
    assert asked.stdout == f"{tmp_path} 1 ['--x', 'é'] read\n"
    assert (asked.stderr, asked.returncode) == ("odd: __main__\n", 1)


def test_what_is_no_stage_or_flow_runs_in_python_itself():
    assert run("-c", "import sys; print('torch' in sys.modules); sys.exit(3)").stdout == "False\n"
    assert run("-c", "import sys; sys.exit(3)").returncode == 3


def test_a_signal_reaches_the_process_that_works_and_it_ends_with_who_asked_for_it():
    for number in (signal.SIGTERM, signal.SIGKILL):
        command, options = python("-c", WAIT)
        asked = subprocess.Popen(command, text=True, **options)
        worker = psutil.Process(int(asked.stdout.readline()))
        asked.send_signal(number)
        assert asked.wait(60) == -number
        deadline = time.monotonic() + 60
        while worker.is_running() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not worker.is_running()
        asked.stdout.close()
        asked.stderr.close()
