"""Imports the large libraries, and forks for each command that it is asked to run; see warm.py."""

# ruff: noqa: F401
import atexit
import ctypes
import gc
import json
import os
import random
import runpy
import select
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

prctl = ctypes.CDLL(None).prctl
prctl(1, 9)  # ends with the tests

import dvc.repo  # noqa: E402
import geopandas  # noqa: E402
import imagehash  # noqa: E402
import lightning  # noqa: E402
import mlflow.pyfunc  # noqa: E402
import mlflow.store.tracking.sqlalchemy_store  # noqa: E402
import numpy as np  # noqa: E402
import pandas  # noqa: E402
import pillow_heif  # noqa: E402
import plotly.graph_objects  # noqa: E402
import pyarrow.parquet  # noqa: E402
import pydantic  # noqa: E402
import ruamel.yaml  # noqa: E402
import scipy.optimize  # noqa: E402
import scipy.stats  # noqa: E402
import sklearn.neighbors  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402
import typer  # noqa: E402

address, python = sys.argv[1:3]
threads = sorted((task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir())
assert set(threads[:-1]) <= {"jemalloc_bg_thd"}, f"not to be forked: {threads}"  # that one takes care of itself
gc.freeze()


def work(server):
    """Fork the process that is to work, and tell who asked for it how it ended."""
    prctl(1, 9)
    asker, _ = server.accept()
    os.write(ready, b"x")  # the next one may be asked for
    size, fds, _, _ = socket.recv_fds(asker, 8, 3)
    request = b""
    while len(request) < int.from_bytes(size, "big"):
        request += asker.recv(1 << 20)
    folder, found_here, arguments, environment = json.loads(request)
    worker = os.fork()
    if worker == 0:
        prctl(1, 9)
        for fd, place in zip(fds, (0, 1, 2), strict=True):
            os.dup2(fd, place)
            os.close(fd)
        asker.close()
        os.close(ready)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        return [found_here, *arguments]
    for fd in fds:
        os.close(fd)
    asker.sendall(b"%d\n" % worker)
    ended = os.pidfd_open(worker)
    if ended not in select.select([ended, asker], [], [])[0]:  # who asked is gone
        os.kill(worker, signal.SIGKILL)
    status = os.waitpid(worker, 0)[1]
    with suppress(OSError):
        asker.sendall(b"%d\n" % status)
    os._exit(0)


with socket.socket(socket.AF_UNIX) as server:
    server.bind(address)
    server.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        taken, ready = os.pipe()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(taken)
            found_here, way, what, *rest = work(server)
            break
        os.close(ready)
        os.read(taken, 1)
        os.close(taken)

# As `python -m` would begin, in the process that is to work.
random.seed()
np.random.seed()
time.tzset()
for stream in (sys.stdout, sys.stderr):
    stream.reconfigure(write_through=bool(os.environ.get("PYTHONUNBUFFERED")))
sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
sys.executable = python
sys.path[:0] = [str(Path.cwd())] * found_here + list(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
sys.argv = [what if way == "-m" else way, *rest]
code = 0
try:
    if way == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
except SystemExit as ended:
    code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    if isinstance(ended.code, str):
        print(ended.code, file=sys.stderr)
except BaseException:
    sys.excepthook(*sys.exc_info())
    code = 1
threading._shutdown()
atexit._run_exitfuncs()
for stream in (sys.stdout, sys.stderr):
    stream.flush()
os._exit(code)  # to take all libraries apart would take a second
