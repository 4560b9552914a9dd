"""Data and results between machines: through a DVC remote, and code through git."""

import base64
import fcntl
import os
import socket
import subprocess
import zlib
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from dvc.config import Config
from prefect.states import Completed, Failed, State

from flows import children
from flows.graph import open_repo
from flows.repro import Hear, complaint, environment, reproduce, run_dvc
from waymark.errors import WaymarkError

REMOTE = "waymark"  # name of the remote in .dvc/config.local
PUSHED = "Pushed"  # state of a training whose result lies in the remote
APART = Path(".work/apart")  # where a worker keeps its clones, one for each stage, and their cache


class Handover(NamedTuple):
    """What another machine needs to stand where this checkout stands.

    Args:
        revision: commit to check out.
        clone_url: where to clone it from.
        changes: how the tracked files differ from it, dvc.lock above all: `git diff`, compressed, in Base64.
    """

    revision: str
    clone_url: str
    changes: str


def hand_over(clone_url: str | None = None) -> Handover:
    """Say where this checkout stands; it may be no checkout of git, which then no other machine can clone."""
    revision = _git("rev-parse", "HEAD").decode().strip()
    return Handover(revision, clone_url or _clone_url(revision), _changes())


def _changes() -> str:
    """Give what differs from the commit in tracked files and in dvc.lock, whether or not git knows that one."""
    with TemporaryDirectory() as scratch:
        index = {**os.environ, "GIT_INDEX_FILE": str(Path(scratch) / "index")}  # the user's own stays as it is
        _git("read-tree", "HEAD", env=index)
        _git("add", "--update", env=index)
        _git("add", "--force", "dvc.lock", env=index)
        difference = _git("diff", "--cached", "--binary", "--no-color", "--no-ext-diff", "HEAD", env=index)
    return base64.b64encode(zlib.compress(difference, 9)).decode() if difference else ""


def _clone_url(revision: str) -> str:
    """Give the origin where a branch of it holds the revision, else the folder of this checkout."""
    pushed = _git("branch", "--remotes", "--contains", revision).decode().split()
    origin = _git("remote", "get-url", "origin").decode().strip()
    return origin if origin and any(branch.startswith("origin/") for branch in pushed) else str(Path.cwd())


def _git(*arguments: str, env: Mapping[str, str] | None = None) -> bytes:
    return subprocess.run(["git", *arguments], env=env, capture_output=True, check=False).stdout


def use_remote(url: str, cache: Path | None = None) -> str:
    """Make a DVC remote the default of this checkout, in its local configuration, which git does not track.

    Args:
        url: a folder, or an address such as `ssh://host/folder` or `s3://bucket/folder`.
        cache: folder of the cache, where it is not to be the checkout's own.

    Returns:
        The address, that of a folder in full.
    """
    url = url if "://" in url else str(Path(url).resolve())
    with Config(".dvc").edit("local") as local:
        local.setdefault("remote", {})[REMOTE] = {"url": url}
        local.setdefault("core", {})["remote"] = REMOTE
        if cache is not None:
            local.setdefault("cache", {})["dir"] = str(cache.resolve())
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
        return Failed(message=f"dvc {verb} to {remote_url()}: {complaint(lines, 'it failed')}")
    return None


def train_apart(stage: str, its: Handover, remote: str | None, variables: Mapping[str, str], hear: Hear) -> State[Any]:
    """Train on a machine that sees nothing of the checkout: clone, pull, train, push.

    Raises:
        WaymarkError: there is no remote, or the revision cannot be cloned.
    """
    if remote is None:
        raise WaymarkError(
            f"{socket.gethostname()} does not see the checkout that asks for {stage}; start the pipeline with a DVC "
            "remote that both reach: --remote URL"
        )
    with _clone(stage) as folder:
        _bring(folder, its, hear)
        weights = os.environ.get("TORCH_HOME", str(Path(".cache/torch").resolve()))  # not downloaded for each stage
        with chdir(folder):
            use_remote(remote, cache=Path("../cache"))
            if failed := _transferred("pull", ["--force", *inputs_of(stage)], hear):
                return failed
            ended = reproduce(stage, {**variables, "TORCH_HOME": weights}, hear)
            if not ended.is_completed():
                return ended
            pushed = _transferred("push", ["--run-cache", stage], hear)
            return pushed or Completed(name=PUSHED, message=f"trained on {socket.gethostname()}")


@contextmanager
def _clone(stage: str) -> Iterator[Path]:
    """Give the folder of a stage's clone, which stays, so that a training that was cut off goes on in it.

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


def _bring(folder: Path, its: Handover, hear: Hear) -> None:
    """Bring a clone to where the other machine's checkout stands, but for what git ignores."""
    _run(["git", "init", "--quiet", str(folder)], hear)
    at = ["git", "-C", str(folder)]
    _run([*at, "fetch", "--quiet", "--force", its.clone_url, "+refs/heads/*:refs/theirs/*"], hear)
    _run([*at, "checkout", "--quiet", "--force", "--detach", its.revision], hear)
    _run([*at, "clean", "--quiet", "-ffd"], hear)
    if its.changes:
        patch = folder / ".git" / "changes.patch"
        patch.write_bytes(zlib.decompress(base64.b64decode(its.changes)))
        _run([*at, "apply", "--whitespace=nowarn", str(patch.resolve())], hear)


def _run(command: list[str], hear: Hear) -> None:
    lines: list[str] = []
    if children.run(command, environment({"GIT_TERMINAL_PROMPT": "0"}), lines.append) != 0:
        raise WaymarkError(
            f"{' '.join(command)}: {complaint(lines, 'failed')}; the worker needs a clone URL that it can reach "
            "(--clone-url) and that holds the revision: push it first"
        )
