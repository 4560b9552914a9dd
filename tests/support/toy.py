"""A small project in a folder of its own, run by the real DVC, Prefect and MLflow."""

import hashlib
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import warm
from closure import ROOT
from ruamel.yaml import YAML

yaml = YAML()
DATA_STAGES = ("download", "filter", "resize", "project", "grid", "split")


class Project:
    """A checkout and the commands that people type in it."""

    def __init__(self, folder):
        self.folder = folder

    def change(self, **changes):
        """Change params.yaml; `grid__spacing_m=30000.0` names the key grid.spacing_m."""
        params = yaml.load(self.folder / "params.yaml")
        for dotted, value in changes.items():
            *path, last = dotted.split("__")
            section = params
            for key in path:
                section = section[key]
            section[last] = value
        self.write(params)

    def write(self, params):
        """Write params.yaml."""
        yaml.dump(params, self.folder / "params.yaml")

    def params(self):
        """Read params.yaml."""
        return yaml.load(self.folder / "params.yaml")

    def run(self, *command, code=0, **variables):
        """Run a command in the project, and return what it printed."""
        here = Path(sys.executable).parent if variables else warm.path()  # variables may be meant for libraries
        environment = {**os.environ, "PATH": f"{here}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": "", **variables}
        environment.pop("MLFLOW_TRACKING_URI", None)
        environment["PREFECT_HOME"] = str(self.folder / ".prefect")
        result = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert result.returncode == code, result.stdout[-6000:] + result.stderr[-6000:]
        return result

    def repro(self, *stages, **variables):
        """Run `dvc repro`, and return the stages that really ran."""
        printed = self.run("dvc", "repro", *stages, **variables).stdout
        return [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage '")]

    def commit(self, message):
        """Commit all that git does not ignore, as a user would, and return the revision."""
        name = ("-c", "user.name=Tester", "-c", "user.email=tester@localhost")
        self.run("git", "add", "--all")
        self.run("git", *name, "commit", "--quiet", "--message", message)
        return self.run("git", "rev-parse", "HEAD").stdout.strip()

    def register(self):
        """Register the best models, as the pipeline does at its end."""
        self.run("python", "-c", "from tasks.registry.register import register_best; register_best()")

    def lock(self):
        """Read dvc.lock as it stands."""
        return (self.folder / "dvc.lock").read_text()

    def stages(self):
        """Read what dvc.lock says of each stage."""
        return YAML(typ="safe").load(self.folder / "dvc.lock")["stages"]

    def output_md5(self, stages=DATA_STAGES):
        """Return the md5 of the outputs of stages from dvc.lock."""
        locked = self.stages()
        return {f"{stage}:{out['path']}": out["md5"] for stage in stages for out in locked[stage]["outs"]}

    def bytes_of(self, *tops):
        """Hash what really lies in folders, file by file."""
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for top in tops
            for path in sorted((self.folder / top).rglob("*"))
            if path.is_file() and path.name not in (".gitignore", "README.md")
        }


def clone(folder, *, small=True, **changes):
    """Clone this checkout as it stands, with what is not committed yet, and make it small."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    prefect_home(folder / ".prefect")
    project = Project(folder)
    if small:
        (folder / "dvc.lock").unlink(missing_ok=True)
        _learn_from_pictures(project)
        changes = {**_small(project.params()["models"]), **changes}
    project.change(**changes)
    return project


def prefect_home(folder):
    """Make a home for Prefect with an empty database; to make one takes Prefect ten seconds."""
    empty = ROOT / ".pytest_cache" / f"prefect-{version('prefect')}.db"
    if not empty.exists():
        with TemporaryDirectory() as home:
            command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
            subprocess.run(command, env={**os.environ, "PREFECT_HOME": home}, capture_output=True, check=True)
            empty.parent.mkdir(exist_ok=True)
            part = empty.with_suffix(f".{os.getpid()}")  # as another process makes it, too
            shutil.copy(Path(home) / "prefect.db", part)
            part.rename(empty)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(empty, folder / "prefect.db")


def _learn_from_pictures(project):
    """Take out embeddings, which cost a pass through a large network, and what learns from them."""
    params = project.params()
    params["embeddings"] = {}
    params["models"] = {name: model for name, model in params["models"].items() if model["embeddings"] == "none"}
    project.write(params)


def _small(models):
    made = {"places": 60, "landmarks": 3, "photos": 60}
    changes = {**{f"download__synthetic__{name}": count for name, count in made.items()}, "resize__size_px": 16}
    for model in models:
        changes |= {f"models__{model}__epochs": 1, f"models__{model}__batch_size": 16}
    return changes
