"""A project whose stages cost nothing and last as long as a test wants; flows, DVC, git and processes are real."""

import subprocess

from ruamel.yaml import YAML
from toy import clone

STAGE = '''"""Stands in for every stage. Files of the checkout hold it, or make it fail."""

import json
import sys
import time
from pathlib import Path

from tasks.common.outputs import whole_folder
from tasks.common.stage import end_with_parent, only_writer


def main(stage, entry=""):
    end_with_parent()
    params = Path("params.yaml").read_text()
    with only_writer(f"{stage}@{entry}"):
        if Path(f"fail-{stage}").exists():
            with Path("tries").open("a") as tries:
                tries.write(stage + chr(10))
            sys.exit(f"{stage}: the disk is full of {entry}")
        if stage == "train":
            with whole_folder(Path("trained") / entry) as folder:
                (folder / "half.txt").write_text("x" * 100 if not Path("big").exists() else "x" * 10_000_000)
                Path(f"began-{entry}").touch()
                while Path("hold").exists():
                    time.sleep(0.05)
                (folder / "model.txt").write_text(entry + Path("data/raw/text.txt").read_text())
        elif stage == "download":
            import pandas as pd

            for name in ("raw", "filtered", "split"):
                with whole_folder(Path("data") / name) as folder:
                    if name == "raw":
                        (folder / "text.txt").write_text("places")
                        (folder / "source.json").write_text(json.dumps({"name": "tiny"}))
                    elif name == "filtered":
                        counts = ("records", "kept", "with_coordinates", "with_landmark", "landmarks")
                        (folder / "report.json").write_text(json.dumps({**dict.fromkeys(counts, 1), "dropped": {}}))
                    else:
                        pd.DataFrame({"split": ["train"]}).to_parquet(folder / "records.parquet")
        else:
            with whole_folder(Path("reports")) as folder:
                best = {"best_on_val": None, "best_landmark_on_val": None}
                (folder / "index.html").write_text("report")
                (folder / "compare.json").write_text(json.dumps({**best, "models": {}, "ensembles": {}, "size": {}}))


if __name__ == "__main__":
    main(*sys.argv[1:])
'''

GRAPH = {
    "stages": {
        "download": {
            "cmd": "python -m tasks.tiny download",
            "params": ["download"],
            "outs": ["data/raw", "data/filtered", "data/split"],
        },
        "train": {
            "foreach": "${models}",
            "do": {
                "cmd": "python -m tasks.tiny train ${key}",
                "deps": ["data/raw"],
                "params": ["models.${key}"],
                "outs": ["trained/${key}"],
            },
        },
        "compare": {
            "cmd": "python -m tasks.tiny compare",
            "deps": ["trained"],
            "params": ["models"],
            "outs": ["reports"],
        },
    }
}


def tiny(folder):
    """Clone this checkout with such stages in place of its own, and commit it."""
    project = clone(folder)
    models = project.params()["models"]
    project.change(models={name: models[name] for name in ("cells", "coordinates")})
    (folder / "tasks/tiny.py").write_text(STAGE)
    YAML().dump(GRAPH, folder / "dvc.yaml")
    (folder / "dvc.lock").unlink(missing_ok=True)
    with (folder / ".gitignore").open("a") as ignored:
        ignored.write("/began-*\n/tries\n")
    git(folder, "add", "--all")
    git(
        folder, "-c", "user.name=tests", "-c", "user.email=tests@example.org", "commit", "--quiet", "-m", "Make it tiny"
    )
    return project


def git(folder, *arguments):
    """Run git in a folder, and return what it printed."""
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
