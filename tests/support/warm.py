"""Runs of a project with the large libraries imported already; to import them is most of what a toy stage costs.

`warm.path()` is a folder for the front of PATH. Its `python`, `dvc` and `waymark` hand what runs stages, flows and DVC
on to a server of this test process (warm_server.py), which forks: libraries are there, and the project's own code is
imported each time, in the folder and with the arguments and environment of the command. The rest the real Python does.

The process that works is a grandchild of the server and not a child of who asked. It ends with the `python` that asked
for it, but tests of kills, signals and processes start commands with `sys.executable`, as users have them.
"""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

SERVER = Path(__file__).with_name("warm_server.py")
MODULES = {"dvc": "dvc", "waymark": "waymark"}  # of commands
ASK = """#!{python} -IS
import json, os, signal, socket, sys

name, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
if name != "python":
    arguments = ["-m", {modules!r}[name], *arguments]
elif arguments[:2] != ["-m", "dvc"] and not (
    arguments[:1] in (["-m"], ["-c"]) and arguments[1].removeprefix("from ").startswith(("tasks.", "flows."))
):
    os.execv({python!r}, [{python!r}, *arguments])
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    request = json.dumps([os.getcwd(), name == "python", arguments, dict(os.environ)]).encode()
    socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(request)
    answers = server.makefile()
    worker = int(answers.readline())
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, frame: os.kill(worker, number))
    status = int(answers.readline())
if os.WIFSIGNALED(status):
    signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
    os.kill(os.getpid(), os.WTERMSIG(status))
sys.exit(os.waitstatus_to_exitcode(status))
"""


@cache
def path():
    """Start the server, and return the folder with the `python` that asks it."""
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    address, ask = folder / "address", folder / "bin/python"
    ask.parent.mkdir()
    ask.write_text(ASK.format(python=sys.executable, address=str(address), modules=MODULES))
    ask.chmod(0o755)
    for name in MODULES:
        (ask.parent / name).symlink_to(ask)
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-P", str(SERVER), str(address), str(ask)],
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    while not address.exists():
        assert server.poll() is None, (folder / "server.log").read_text()
        time.sleep(0.05)
    return ask.parent
