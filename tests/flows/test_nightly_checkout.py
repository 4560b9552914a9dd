"""The checkout of nightly runs: real git, real DVC, and runs that are killed."""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from dvc.config import Config
from operator_checkout import Operator, repro
from ruamel.yaml import YAML

import flows.nights.checkout
import flows.nights.repository
from flows.nights.checkout import AT, nightly_checkout, restore_outputs
from flows.nights.repository import CheckoutError, git
from flows.stages import children
from flows.stages.graph import is_alive
from waymark.errors import ParameterError
from waymark.system.checkout import checkout

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    operator = Operator(tmp_path_factory.mktemp("template"))
    operator.begin()
    return operator


@pytest.fixture
def operator(template, tmp_path, monkeypatch):
    shutil.copytree(template.folder, tmp_path / "operator")
    monkeypatch.chdir(tmp_path / "operator")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SHELL", "/bin/bash")  # hands on to the stage, so that this ends with DVC
    return Operator(tmp_path / "operator")


def test_the_operators_checkout_stays_as_it_is_to_the_byte(operator):
    os.utime(operator.folder / "params.yaml", (1e9, 1e9))  # which git would like to note in its index
    before = operator.contents()
    _, night = operator.night()
    assert operator.contents() == before
    assert night.trains == operator.git("rev-parse", "main")
    assert operator.made() == "first"
    assert operator.git("log", "--format=%s", "main..nights") == "Night"
    assert operator.git("diff", "--name-only", "main", "nights") == "dvc.lock"
    assert not (operator.folder / "data").exists()


def test_what_a_run_made_is_at_hand_for_everybody(operator):
    operator.night()
    became, night = operator.night()
    assert became == "skipped"
    assert night.revision == operator.git("rev-parse", "nights")
    assert operator.git("rev-list", "--count", "main..nights") == "1"  # nothing new, no commit
    assert repro() == "restored"  # in the operator's own checkout, out of the shared run cache
    shutil.rmtree(operator.folder / "data")
    (operator.folder / "dvc.lock").unlink()
    operator.git("merge", "--quiet", "nights")
    restore_outputs()
    assert (operator.folder / "data/raw/mark").read_text() == "first"
    became, night = operator.night()
    assert became == "skipped"
    assert night.revision == operator.git("rev-parse", "main")


def test_a_run_has_the_operators_files_and_the_last_runs_lock(operator):
    operator.night()
    last, head = operator.git("rev-parse", "nights"), operator.commit({"docs.md": "new"})
    with nightly_checkout() as night:
        assert (night.folder / "docs.md").read_text() == "new"
        assert (night.folder / "dvc.lock").exists()
        assert repro() == "skipped"
    assert operator.git("log", "-1", "--format=%P", "nights").split() == [last, head]
    operator.git("rm", "--quiet", "docs.md")
    operator.commit({})
    operator.night()
    assert not (operator.nights / "docs.md").exists()


def test_a_lock_that_the_operator_commits_counts_until_the_next_run(operator):
    operator.night()
    operator.mark("second")
    repro()
    head = operator.commit({})
    with nightly_checkout() as night:
        assert operator.git("rev-parse", f"{night.revision}:dvc.lock") == operator.git("rev-parse", f"{head}:dvc.lock")
        assert (night.folder / "data/raw/mark").read_text() == "second"  # before anything ran
        assert repro() == "skipped"
    operator.mark("third")
    operator.night()
    operator.commit({"docs.md": "new"})
    with nightly_checkout():
        assert repro() == "skipped"
    assert operator.made() == "third"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda folder: (folder / "params.yaml").write_text("download: {path: input}\nmarks: 2\n"), "params.yaml"),
        (lambda folder: (folder / "input/README.md").unlink(), "input/README.md"),
        (lambda folder: (folder / "tasks/new one.py").write_text(""), "tasks/new one.py"),
        (lambda folder: (folder / "dvc.lock").write_text(""), "dvc.lock"),
    ],
    ids=["changed", "deleted", "code that git does not know", "an own lock"],
)
def test_what_is_in_no_commit_is_refused_by_name_or_left_out(operator, change, named):
    change(operator.folder)
    with pytest.raises(CheckoutError, match=f"in no commit: {named}; commit them"), nightly_checkout():
        pass
    with nightly_checkout(committed_only=True) as night:
        assert night.left_out == [named]
        assert operator.git("status", "--porcelain", at=".nights/checkout") == ""


def test_a_run_uses_the_code_that_was_committed(operator):
    operator.write({"waymark/__init__.py": 'MARK = "not committed"\n', "notes.txt": "mine"})
    _, night = operator.night(committed_only=True)
    assert operator.made() == "first"
    assert night.left_out == ["waymark/__init__.py"]
    operator.mark("second")
    operator.night()
    assert operator.made() == "second"


def test_a_folder_that_is_no_checkout_with_a_commit_is_refused(operator, tmp_path, monkeypatch):
    for place in (operator.folder / "input", tmp_path):
        monkeypatch.chdir(place)
        with pytest.raises(CheckoutError, match="not the root of a git checkout"), nightly_checkout():
            pass


def test_two_runs_do_not_work_in_one_checkout(operator, monkeypatch):
    with nightly_checkout():
        monkeypatch.chdir(operator.folder)
        message = f"another nightly run is at work in .*operator \\(process {os.getpid()}\\); wait for it or stop it"
        with pytest.raises(CheckoutError, match=message), nightly_checkout():
            pass


def remove_checkout(operator):
    shutil.rmtree(operator.nights)


def remove_repository(operator):
    shutil.rmtree(operator.nights / ".git")


def damage_repository(operator):
    (operator.nights / ".git/HEAD").write_text("half a r")


def lose_objects(operator):
    (operator.nights / ".git/objects/info/alternates").unlink()


def name_the_commit(operator):
    operator.git("switch", "--quiet", "--create", "mine", at=".nights/checkout")


def make_a_worktree(operator):
    """As earlier versions did."""
    shutil.rmtree(operator.nights)
    operator.git("worktree", "add", "--quiet", ".nights/checkout", "nights")


def move_branch(operator):
    operator.git("update-ref", "refs/heads/nights", "main")


def leave_lock(operator):
    (operator.nights / "dvc.lock").write_text("half a li")


def leave_gits_locks(operator):
    for name in ("index.lock", "HEAD.lock", "config.lock"):
        (operator.nights / ".git" / name).touch()


def delete_branch(operator):
    operator.git("update-ref", "-d", "refs/heads/nights")


def remove_checkout_and_branch(operator):
    remove_checkout(operator)
    operator.git("branch", "-D", "nights")


@pytest.mark.parametrize(
    "damage",
    [
        remove_checkout,
        remove_repository,
        damage_repository,
        lose_objects,
        name_the_commit,
        make_a_worktree,
        move_branch,
        leave_lock,
        leave_gits_locks,
        delete_branch,
        remove_checkout_and_branch,
    ],
    ids=lambda damage: damage.__name__,
)
def test_the_next_run_makes_good_what_it_finds(operator, damage):
    operator.night()
    operator.commit({"docs.md": "new"})
    damage(operator)
    before = operator.contents()
    became, _ = operator.night()
    assert became in ("skipped", "restored")
    assert operator.contents() == before
    assert operator.made() == "first"
    assert operator.git("rev-parse", "HEAD", at=".nights/checkout") == operator.git("rev-parse", "nights")
    assert operator.git("status", "--porcelain", at=".nights/checkout") == ""
    assert operator.git("diff", "--name-only", "main", "nights") == "dvc.lock"


@pytest.mark.parametrize("how", [shutil.move, shutil.copytree])
def test_a_checkout_that_was_moved_or_copied_has_nightly_runs_of_its_own(operator, tmp_path, monkeypatch, how):
    operator.night()
    old = operator.git("rev-parse", "nights")
    how(operator.folder, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere")
    there = Operator(tmp_path / "elsewhere")
    there.mark("second")
    there.night()
    assert there.made() == "second"
    alternates = (there.nights / ".git/objects/info/alternates").read_text()
    assert alternates == f"{tmp_path / 'elsewhere'}/.git/objects\n"
    if operator.folder.exists():
        assert operator.git("rev-parse", "nights") == old
        assert operator.git("status", "--porcelain", at=".nights/checkout") == ""


def test_somebodys_work_in_the_checkout_is_not_overwritten(operator):
    operator.night()
    (operator.nights / "params.yaml").write_text("mine")
    (operator.nights / "tasks/mine.py").write_text("")
    named = "no nightly run's: params.yaml, tasks/mine.py; take them away from there"
    with pytest.raises(CheckoutError, match=named), nightly_checkout():
        pass
    assert (operator.nights / "params.yaml").read_text() == "mine"
    operator.git("add", "--all", at=".nights/checkout")
    operator.git("commit", "--quiet", "--message", "by hand", at=".nights/checkout")
    with pytest.raises(CheckoutError, match="commits that are no nightly run's; take them away"), nightly_checkout():
        pass
    assert operator.git("log", "-1", "--format=%s", at=".nights/checkout") == "by hand"


def test_a_branch_that_is_in_use_elsewhere_is_refused(operator):
    operator.git("switch", "--quiet", "--create", "nights")
    with pytest.raises(CheckoutError, match=r"branch of nightly runs, and checked out in .*operator; switch"):
        operator.night()


def in_another_process(body):
    """Run a function in a process of its own, and give the process."""
    if (pid := os.fork()) == 0:
        try:
            body()
        except BaseException as error:
            os.write(2, repr(error).encode())
        finally:
            os._exit(7)
    return pid


def test_a_run_that_is_killed_before_any_of_its_steps_in_git_is_made_good(operator, monkeypatch):
    """Each run gets one step further than the one before it, from what that one left."""
    operator.night()

    def killed_before(step):
        calls = iter(range(step))

        def counted(*arguments, **options):
            if next(calls, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return git(*arguments, **options)

        for module in (flows.nights.repository, flows.nights.checkout):
            monkeypatch.setattr(module, "git", counted)
        with nightly_checkout() as night:
            (night.folder / "dvc.lock").write_text(f"# night {step}\n" + (night.folder / "dvc.lock").read_text())
            night.commit_lock("Night\n")

    step, ended = 0, signal.SIGKILL
    while ended == signal.SIGKILL:
        operator.commit({"docs.md": str(step)})
        step += 1
        ended = os.waitpid(in_another_process(lambda: killed_before(step)), 0)[1]  # noqa: B023 -- called at once
    assert os.waitstatus_to_exitcode(ended) == 7  # came to its end
    assert step > 25
    assert operator.git("show", "nights:docs.md") == str(step - 1)
    assert operator.git("show", "nights:dvc.lock").startswith(f"# night {step}")
    operator.commit({"docs.md": "the end"})
    operator.night()
    assert operator.made() == "first"
    assert operator.git("diff", "--name-only", "main", "nights") == "dvc.lock"
    assert operator.git("status", "--porcelain", at=".nights/checkout") == ""


def test_a_run_whose_git_is_killed_among_the_files_is_made_good(operator):
    operator.night()
    operator.git("config", "filter.kill.smudge", "kill -9 $PPID; cat")
    operator.commit(
        {".gitattributes": "m.dat filter=kill\n", "a.dat": "a", "m.dat": "m", "tasks/z.py": "", "z.dat": "z"}
    )
    with pytest.raises(CheckoutError, match="git checkout"):
        operator.night()
    assert not (operator.folder / AT).exists()
    operator.git("config", "--unset", "filter.kill.smudge")
    operator.git("rm", "--quiet", "a.dat")
    operator.commit({})
    became, _ = operator.night()
    assert became == "skipped"
    assert (operator.nights / "m.dat").read_text() == "m"
    assert operator.git("status", "--porcelain", "--untracked-files=no", at=".nights/checkout") == ""


def works_in(process, folder):
    try:
        return (process / "cwd").readlink() == folder
    except OSError:
        return False


def test_a_run_that_is_killed_within_a_stage_is_made_good(operator, tmp_path, monkeypatch):
    operator.night()
    operator.mark("second")
    os.mkfifo(tmp_path / "hold")

    def held():
        with nightly_checkout():
            children.run([sys.executable, "-m", "dvc", "repro"], {**os.environ, "HOLD": str(tmp_path / "hold")}, print)

    killed = in_another_process(held)
    (tmp_path / "hold").open().close()  # the stage has written its output
    assert (operator.nights / "data/raw/mark").read_text() == "second"
    with pytest.raises(CheckoutError, match=f"process {killed}"):
        operator.night()
    started = [folder for folder in Path("/proc").glob("[0-9]*") if works_in(folder, operator.nights)]
    os.kill(killed, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(killed, 0)[1]) == -signal.SIGKILL
    while any(is_alive(int(folder.name)) for folder in started):
        time.sleep(0.05)
    became, _ = operator.night()
    assert became == "ran"
    assert operator.made() == "second"


def input_md5(folder):
    stage = YAML(typ="safe").load(folder / "dvc.lock")["stages"]["download"]
    return next(dependency for dependency in stage["deps"] if dependency["path"] == "input")


def test_a_run_sees_the_operators_pictures_and_no_others(operator):
    operator.night()
    links = {str(path.relative_to(operator.nights)) for path in operator.nights.rglob("*") if path.is_symlink()}
    assert links == {"input/2024/a.jpg", "input/b.jpg"}
    first = input_md5(operator.nights)
    assert first["nfiles"] == 3
    shutil.rmtree(operator.folder / "input/2024")
    operator.write({"input/b.jpg": "another b", "input/new/c.jpg": "c"})
    became, _ = operator.night()
    assert became == "ran"
    repro()
    assert input_md5(operator.nights) == input_md5(operator.folder) != first
    assert sorted(path.name for path in (operator.nights / "input").iterdir()) == ["README.md", "b.jpg", "new"]
    shutil.rmtree(operator.folder / "input/new")
    (operator.folder / "input/b.jpg").unlink()
    operator.night(committed_only=True)
    assert [path.name for path in (operator.nights / "input").iterdir()] == ["README.md"]


def test_pictures_beside_a_table_come_along(operator):
    operator.write({"mine/places.csv": "path", "mine/images/a.jpg": "a"})
    operator.commit({".git/info/exclude": "/mine/\n", "params.yaml": "download: {path: mine/places.csv}\nmarks: 1\n"})
    with nightly_checkout() as night:
        assert (night.folder / "mine/images/a.jpg").resolve() == operator.folder / "mine/images/a.jpg"
        assert (night.folder / "mine/places.csv").is_symlink()


def test_pictures_outside_of_the_checkout_need_an_absolute_path(operator, tmp_path):
    operator.commit({"params.yaml": "download: {path: ../pictures}\nmarks: 1\n"})
    with pytest.raises(ParameterError, match=r"download.path ../pictures leads out of the checkout"):
        operator.night()
    (tmp_path / "pictures").mkdir()
    operator.commit({"params.yaml": f"download: {{path: {tmp_path / 'pictures'}}}\nmarks: 1\n"})
    operator.night()


def test_cache_remotes_and_store_are_the_operators(operator, tmp_path):
    operator.commit({".dvc/config": "[core]\n    remote = shared\n['remote \"shared\"']\n    url = ../../store\n"})
    credentials = "['remote \"web\"']\n    url = https://example.org\n    password = secret\n"
    operator.write({".dvc/config.local": f"{credentials}[cache]\n    type = hardlink\n"})
    with nightly_checkout() as night:
        config = Config(str(night.folder / ".dvc"))
        assert os.path.abspath(config["remote"]["shared"]["url"]) == str(tmp_path / "store")  # noqa: PTH100 -- a str
        assert config["remote"]["web"]["password"] == "secret"
        assert config["cache"]["dir"] == str(operator.folder / ".dvc/cache")
        assert config["cache"]["type"] == ["hardlink"]
        assert (night.folder / ".dvc/config.local").stat().st_mode & 0o077 == 0
        assert checkout() == operator.folder
        assert os.environ["MLFLOW_TRACKING_URI"] == f"sqlite:///{operator.folder}/mlflow.db"
        assert operator.git("status", "--porcelain", at=".nights/checkout") == ""
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert os.getcwd() == str(operator.folder)  # noqa: PTH109 -- a str


@pytest.mark.parametrize("given", ["sqlite:///mine.db", "http://127.0.0.1:5001", "sqlite:////srv/mine.db"])
def test_a_store_that_the_operator_names_means_the_same_in_a_nightly_run(operator, monkeypatch, given):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    with nightly_checkout():
        expected = given.replace("///mine", f"///{operator.folder}/mine")
        assert os.environ["MLFLOW_TRACKING_URI"] == expected
    assert os.environ["MLFLOW_TRACKING_URI"] == given


def test_commits_need_neither_a_name_nor_hooks_nor_a_key(operator, monkeypatch):
    for name in ("GLOBAL", "SYSTEM"):
        monkeypatch.setenv(f"GIT_CONFIG_{name}", "/dev/null")
    hook = operator.folder / ".git/hooks/post-checkout"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    operator.git("config", "commit.gpgsign", "true")
    operator.git("config", "gpg.program", "false")
    operator.night()
    assert operator.git("log", "-1", "--format=%an <%ae> %cn", "nights") == "Waymark <waymark@localhost> Waymark"
    operator.git("config", "user.name", "Ana")
    operator.git("config", "user.email", "ana@example.org")
    (operator.nights / "dvc.lock").unlink()
    operator.write({"input/d.jpg": "d"})
    operator.night()
    assert operator.git("log", "-1", "--format=%an <%ae>", "nights") == "Ana <ana@example.org>"
