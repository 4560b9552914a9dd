"""A second machine on this one: a network, a name and a view of the disk of its own, for a clone and its worker.

with SecondMachine(tmp_path, hidden=project.folder) as second:
    second.clone(origin)
    second.start("python", "-m", "flows.worker", "gpu", PREFECT_API_URL=f"http://{second.first}:4200/api")
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NAME = "second"
ENTER = 'mount -t tmpfs none "$1" && hostname "$2" && cd "$3" && shift 3 && exec "$@"'


def _missing():
    """Name what such a machine needs and this one has not."""
    if os.geteuid() != 0:
        return "it needs root"
    if shutil.which("ip") is None:
        return "it needs ip, of the package iproute2"
    tried = subprocess.run(["unshare", "--mount", "--net", "--uts", "true"], capture_output=True, check=False)
    return tried.stderr.decode().strip()


needs_namespaces = pytest.mark.skipif(bool(_missing()), reason=_missing())


class SecondMachine:
    """A host that reaches the first one over the network, and sees nothing of its checkout.

    Args:
        folder: where its clone goes.
        hidden: the checkout of the first machine.
    """

    def __init__(self, folder, hidden):
        folder.mkdir()
        self.folder, self.hidden = folder / "waymark", hidden
        self.namespace, number = f"waymark{os.getpid()}", os.getpid() % 250
        self.first, self.address = f"10.213.{number}.1", f"10.213.{number}.2"  # of the two ends
        self.process, self.log = None, folder / "second.log"

    def __enter__(self):
        ends = f"wm{os.getpid()}a", f"wm{os.getpid()}b"
        _ip("netns", "add", self.namespace)
        try:
            _ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1], "netns", self.namespace)
            _ip("address", "add", f"{self.first}/30", "dev", ends[0])
            _ip("link", "set", ends[0], "up")
            _ip("-n", self.namespace, "address", "add", f"{self.address}/30", "dev", ends[1])
            _ip("-n", self.namespace, "link", "set", ends[1], "up")
            _ip("-n", self.namespace, "link", "set", "lo", "up")
        except BaseException:
            _ip("netns", "delete", self.namespace)
            raise
        return self

    def __exit__(self, *failure):
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=120)
        _ip("netns", "delete", self.namespace)

    def clone(self, origin):
        """Clone what somebody pushed."""
        subprocess.run(["git", "clone", "--quiet", str(origin), str(self.folder)], check=True)

    def start(self, *command, **variables):
        """Start a command in the clone; it ends with this machine."""
        foreign = ("PREFECT_", "MLFLOW_", "WAYMARK_", "DVC_")  # of the tests and of the first machine
        own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        path = f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"
        enter = ["ip", "netns", "exec", self.namespace, "unshare", "--mount", "--uts", "sh", "-c", ENTER, "sh"]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*enter, str(self.hidden), NAME, str(self.folder), *command],
                env={**own, "PATH": path, "PYTHONPATH": "", **variables},
                stdout=log,
                stderr=log,
            )


def _ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
