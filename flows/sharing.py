"""Data, code and results between machines, all of it through a DVC remote."""

import fcntl
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from uuid import uuid4

from dvc.config import Config
from dvc.fs import get_cloud_fs
from prefect.states import Completed, Failed, State

from flows.graph import open_repo
from flows.handover import UnreachableError, pack, unpack
from flows.repro import Hear, complaint, reproduce, run_dvc
from waymark.errors import WaymarkError
from waymark.system.addresses import without_credentials

REMOTE = "waymark"  # name of the remote in .dvc/config.local
PUSHED = "Pushed"  # state of a training whose result lies in the remote
APART = Path(".work/apart")  # where a worker trains for other checkouts, a folder for each stage, and their cache


def use_remote(url: str, cache: Path | None = None, options: Mapping[str, Any] | None = None) -> str:
    """Make a DVC remote the default of this checkout, in its local configuration, which git does not track.

    Args:
        url: a folder, or an address such as `ssh://host/folder` or `s3://bucket/folder`.
        cache: folder of the cache, where it is not to be the checkout's own.
        options: of the remote, such as a key file; those that it has here already stay.

    Returns:
        The address, that of a folder in full.
    """
    url = url if "://" in url else str(Path(url).resolve())
    Path(".dvc", Config.CONFIG_LOCAL).touch(mode=0o600)  # where people put the password of a remote
    with Config(".dvc").edit("local") as local:  # which writes ASCII alone, so that folders are said from here
        kept = local.setdefault("remote", {}).setdefault(REMOTE, {})
        kept.update(options or {})
        kept["url"] = url if "://" in url else os.path.relpath(url)
        local.setdefault("core", {})["remote"] = REMOTE
        if cache is not None:
            local.setdefault("cache", {})["dir"] = os.path.relpath(cache)
    return url


def remote_url() -> str | None:
    """Give the address of this checkout's default remote, where it has one."""
    config = Config(".dvc")
    name = config.get("core", {}).get("remote")
    return config["remote"][name]["url"] if name else None


def push_inputs(stage: str, hear: Hear) -> State[Any] | None:
    """Push what a stage reads of other stages, so that another machine can run it; the failure, where it fails."""
    return _transferred("push", inputs_of(stage), hear)


def push_all(hear: Hear) -> State[Any] | None:
    """Push all results with the run cache, from which `dvc repro --pull` elsewhere takes them; the failure, if any."""
    return _transferred("push", ["--run-cache"], hear)


def inputs_of(stage: str) -> list[str]:
    """List what a stage reads of other stages' outputs."""
    with open_repo() as repo:
        stages = {its.addressing: its for its in repo.index.stages}
        made = [Path(out.fs_path) for its in stages.values() for out in its.outs]
        read = [Path(dependency.fs_path) for dependency in stages[stage].deps]
        return [os.path.relpath(path) for path in read if any(path.is_relative_to(out) for out in made)]


def _transferred(verb: str, what: list[str], hear: Hear) -> State[Any] | None:
    code, lines = run_dvc([verb, *what], {}, hear)
    if code != 0:
        said = f"dvc {verb} to {remote_url()}: {complaint(lines, 'it failed')}"
        return Failed(message=without_credentials(said))
    return None


@contextmanager
def handed_over(remote: str) -> Iterator[str]:
    """Put this checkout's code into the remote, for the time of a training; give the name by which `train_apart` asks.

    Raises:
        CheckoutError: this is no git checkout.
        UnreachableError: the remote cannot be written.
    """
    store, name = _handovers(remote), uuid4().hex
    place = store.join(name)
    with TemporaryDirectory(prefix="waymark-") as scratch:
        archive = Path(scratch) / name
        pack(archive)
        with _reaching(remote):
            store.fs.put_file(str(archive), place)
    try:
        yield name
    finally:
        with suppress(Exception):  # what stays there does no harm
            store.fs.rm_file(place)


def train_apart(stage: str, handover: str, remote: str, variables: Mapping[str, str], hear: Hear) -> State[Any]:
    """Train on a machine that sees nothing of the checkout: take its code and data, train, push.

    Args:
        stage: to run.
        handover: name of the code in the remote.
        remote: through which all of it goes.
        variables: environment variables of the stage.
        hear: takes each line.

    Raises:
        UnreachableError: the remote cannot be reached from here.
        WaymarkError: another run trains the same.
    """
    options = _options()
    with _folder_of(stage) as folder:
        _bring(folder, handover, remote)
        weights = os.environ.get("TORCH_HOME", str(Path(".cache/torch").resolve()))  # not downloaded for each stage
        with chdir(folder):
            use_remote(remote, Path("../cache"), options)
            if failed := _transferred("pull", ["--force", *inputs_of(stage)], hear):
                return failed
            ended = reproduce(stage, {**variables, "TORCH_HOME": weights}, hear)
            if not ended.is_completed():
                return ended
            pushed = _transferred("push", ["--run-cache", stage], hear)
            return pushed or Completed(name=PUSHED, message=f"trained on {socket.gethostname()}")


@contextmanager
def _folder_of(stage: str) -> Iterator[Path]:
    """Give a folder for a stage, which stays, so that a training that was cut off goes on in it.

    Raises:
        WaymarkError: another run trains in it.
    """
    folder = APART / stage
    folder.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{stage}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WaymarkError(f"another run trains {stage} on {socket.gethostname()}; wait for it") from None
        yield folder


def _bring(folder: Path, handover: str, remote: str) -> None:
    """Bring a folder to where the other machine's checkout stands, but for what git ignores."""
    store = _handovers(remote)
    with TemporaryDirectory(prefix="waymark-") as scratch:
        archive = Path(scratch) / handover
        with _reaching(remote):
            store.fs.get_file(store.join(handover), str(archive))
        unpack(archive, folder)


class _Place(NamedTuple):
    """A folder of a remote."""

    fs: Any
    path: str

    def join(self, name: str) -> str:
        return str(self.fs.join(self.path, name))


def _handovers(remote: str) -> _Place:
    """Give the folder of a remote in which code lies while it is asked for."""
    kind, options, path = get_cloud_fs(Config(".dvc"), url=remote, **_options())
    fs = kind(**options)
    return _Place(fs, fs.join(path, "handovers"))


def _options() -> dict[str, Any]:
    """Read what this machine's configuration says of the remote besides its address, such as a password."""
    return {name: value for name, value in Config(".dvc")["remote"].get(REMOTE, {}).items() if name != "url"}


@contextmanager
def _reaching(remote: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # each kind of remote has errors of its own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UnreachableError(
            without_credentials(f"{socket.gethostname()} cannot reach the remote {remote}: {reason}")
        ) from error
