"""Data, code and results between machines, all of it through a DVC remote."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from dvc.config import Config
from dvc.fs import get_cloud_fs
from prefect.states import Completed, Failed, State

from flows.locks import exclusive
from flows.stages.children import Log
from flows.stages.graph import open_repo
from flows.stages.repro import complaint, reproduce, run_dvc
from flows.workers.handover import UnreachableError, pack, unpack
from waymark.system.addresses import without_credentials

REMOTE = "waymark"  # name of the remote in .dvc/config.local
PUSHED = "Pushed"  # state of a training whose result lies in the remote
GUESTS = Path(".work/guests")  # where a worker trains for other checkouts, a folder for each stage, and their cache


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
    with Config(".dvc").edit("local") as local:  # which writes ASCII alone, so that folders are relative to here
        remote = local.setdefault("remote", {}).setdefault(REMOTE, {})
        remote.update(options or {})
        remote["url"] = url if "://" in url else os.path.relpath(url)
        local.setdefault("core", {})["remote"] = REMOTE
        if cache is not None:
            local.setdefault("cache", {})["dir"] = os.path.relpath(cache)
    return url


def push_inputs(stage: str, log: Log) -> State[Any] | None:
    """Push what a stage reads of other stages, so that another machine can run it; the failure, where it fails."""
    return _transfer("push", inputs_of(stage), log)


def push_all(log: Log) -> State[Any] | None:
    """Push all results with the run cache, from which `dvc repro --pull` elsewhere takes them; the failure, if any."""
    return _transfer("push", ["--run-cache"], log)


def inputs_of(stage: str) -> list[str]:
    """List what a stage reads of other stages' outputs."""
    with open_repo() as repo:
        stages = {found.addressing: found for found in repo.index.stages}
        made = [Path(out.fs_path) for found in stages.values() for out in found.outs]
        read = [Path(dependency.fs_path) for dependency in stages[stage].deps]
        return [os.path.relpath(path) for path in read if any(path.is_relative_to(out) for out in made)]


def _transfer(verb: str, what: list[str], log: Log) -> State[Any] | None:
    code, lines = run_dvc([verb, *what], {}, log)
    if code == 0:
        return None
    config = Config(".dvc")
    url = config["remote"].get(config.get("core", {}).get("remote"), {}).get("url")
    return Failed(message=without_credentials(f"dvc {verb} to {url}: {complaint(lines, 'it failed')}"))


@contextmanager
def handed_over(remote: str) -> Iterator[str]:
    """Keep this checkout's code in the remote while a training runs, under the name that is yielded.

    Raises:
        CheckoutError: this is no git checkout.
        UnreachableError: the remote cannot be written.
    """
    name = uuid4().hex
    with TemporaryDirectory(prefix="waymark-") as scratch:
        archive = Path(scratch) / name
        pack(archive)
        with _handover(remote, name) as (files, place):
            files.put_file(str(archive), place)
    try:
        yield name
    finally:
        with suppress(Exception), _handover(remote, name) as (files, place):  # what stays there does no harm
            files.rm_file(place)


def train_as_guest(stage: str, handover: str, remote: str, variables: Mapping[str, str], log: Log) -> State[Any]:
    """Train on a machine that sees nothing of the checkout: take its code and data, train, push.

    Args:
        stage: to run.
        handover: name of the code in the remote.
        remote: through which all of it goes.
        variables: environment variables of the stage.
        log: takes each line.

    Raises:
        UnreachableError: the remote cannot be reached from here.
        WaymarkError: another run trains the same.
    """
    folder, options = GUESTS / stage, _options()  # the folder stays, so that a training that was cut off goes on
    busy = f"another run trains {stage} on {socket.gethostname()}; wait for it"
    with exclusive(folder.with_name(f"{stage}.lock"), busy):
        with TemporaryDirectory(prefix="waymark-") as scratch:
            archive = Path(scratch) / handover
            with _handover(remote, handover) as (files, place):
                files.get_file(place, str(archive))
            unpack(archive, folder)
        with chdir(folder):
            use_remote(remote, Path("../cache"), options)
            if failed := _transfer("pull", ["--force", *inputs_of(stage)], log):
                return failed
            ended = reproduce(stage, variables, log)
            if not ended.is_completed():
                return ended
            pushed = _transfer("push", ["--run-cache", stage], log)
            return pushed or Completed(name=PUSHED, message=f"trained on {socket.gethostname()}")


@contextmanager
def _handover(remote: str, name: str) -> Iterator[tuple[Any, str]]:
    """Yield the files of a remote, and the place among them where code lies while it is asked for."""
    try:
        kind, options, path = get_cloud_fs(Config(".dvc"), url=remote, **_options())
        files = kind(**options)
        yield files, str(files.join(path, "handovers", name))
    except Exception as error:  # each kind of remote has errors of its own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        message = f"{socket.gethostname()} cannot reach the remote {remote}: {reason}"
        raise UnreachableError(without_credentials(message)) from error


def _options() -> dict[str, Any]:
    """Read what this machine's configuration has of the remote besides its address, such as a password."""
    return {name: value for name, value in Config(".dvc")["remote"].get(REMOTE, {}).items() if name != "url"}
