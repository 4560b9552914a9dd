"""A tiny checkout with one stage, and what its operator does there."""

import subprocess
import sys
from pathlib import Path

from flows.nights.checkout import nightly_checkout
from flows.stages.graph import open_repo

STAGES = """
stages:
  download:
    cmd: python -m tasks.download
    deps: [tasks/download.py, waymark/__init__.py, "${download.path}"]
    params: [marks]
    outs: [data/raw]
"""
DOWNLOAD = """
import ctypes, os
from pathlib import Path
import waymark
ctypes.CDLL(None).prctl(1, 9)  # end with DVC
Path("data/raw").mkdir(parents=True)
Path("data/raw/mark").write_text(waymark.MARK)
Path(".ran").touch()
if "HOLD" in os.environ:
    os.close(os.open(os.environ["HOLD"], os.O_WRONLY))  # says that it is here
    os.open(os.environ["HOLD"], os.O_RDONLY)  # and stays
"""
FILES = {
    ".gitignore": "/.nights/\n/.work/\n/data/*\n/.ran\n/input/*\n!/input/README.md\n__pycache__/\n",
    ".dvcignore": "/.nights\n__pycache__\n",
    "dvc.yaml": STAGES,
    "params.yaml": "download: {path: input}\nmarks: 1\n",
    "tasks/__init__.py": "",
    "tasks/download.py": DOWNLOAD,
    "waymark/__init__.py": 'MARK = "first"\n',
    "input/README.md": "your pictures",
    "input/2024/a.jpg": "a",
    "input/b.jpg": "b",
}
NIGHTS_OWN = (
    ".nights",
    *(f".git/{name}" for name in ("objects", "worktrees", "logs/refs/heads/nights")),
    *(f".git/refs/heads/{name}" for name in ("nights", "nights.lock")),
)
CACHES = (".dvc/cache", ".dvc/tmp")


class Operator:
    """The operator's checkout and what they do there."""

    def __init__(self, folder):
        self.folder = folder
        self.nights = folder / ".nights/checkout"

    def begin(self):
        """Make the checkout, with a first commit."""
        self.git("init", "--quiet", "--initial-branch", "main")
        subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], cwd=self.folder, check=True)
        self.commit(FILES)

    def write(self, files):
        """Write files by name."""
        for name, text in files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)

    def git(self, *arguments, at="."):
        """Run git in the checkout, or in a folder of it."""
        command = ["git", "-C", str(self.folder / at), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def commit(self, files):
        """Write files, commit all that changed, and return the commit."""
        self.write(files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "something new")
        return self.git("rev-parse", "HEAD")

    def mark(self, text):
        """Commit code that makes other outputs."""
        return self.commit({"waymark/__init__.py": f'MARK = "{text}"\n'})

    def night(self, **options):
        """Bring everything up to date in one night, commit, and return what became of the stage, and the night."""
        with nightly_checkout(**options) as night:
            became = repro()
            night.commit_lock("Night\n")
        return became, night

    def made(self, revision="nights"):
        """Read the mark that the night's checkout holds, and whether the lock of a revision is that of its folder."""
        lock = self.git("show", f"{revision}:dvc.lock")
        assert lock == (self.nights / "dvc.lock").read_text().strip()
        return (self.nights / "data/raw/mark").read_text()

    def contents(self):
        """Read all that is theirs: files, index, branches, settings."""
        return {
            str(path): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and not any(path.is_relative_to(self.folder / top) for top in (*NIGHTS_OWN, *CACHES))
        }


def repro():
    """Bring the stage up to date with DVC in this folder, and say whether it ran, was restored, or skipped."""
    ran = Path(".ran")
    ran.unlink(missing_ok=True)
    with open_repo() as repo:
        changed = repo.reproduce()
    return "ran" if ran.exists() else "restored" if changed else "skipped"
