"""Where the user's checkout is, also from a folder inside it, from an experiment or from a night."""

from pathlib import Path

EXPERIMENTS = (".dvc", "tmp", "exps")  # where `dvc exp run --queue` makes a folder for each, and removes it afterwards
NIGHT = (".nights", "checkout")  # where the nightly flow works
STORE = Path("mlflow.db")
MARKS = (Path("dvc.yaml"), STORE)  # one of them lies at the root of a checkout


def checkout() -> Path:
    """Find the root of the checkout; of an experiment or a night, of the one in which it lies.

    What is to outlive the experiment, such as its runs in MLflow, lies there. A folder that lies in no checkout counts
    as one.
    """
    here = Path.cwd()
    around = (here, *here.parents)
    for folder in around[::-1]:  # an experiment may lie inside a night
        if folder.parts[-2:] == NIGHT:
            return folder.parents[1]
        if folder.parts[-3:] == EXPERIMENTS and folder != here:
            return folder.parents[2]
    return next((folder for folder in around if any((folder / mark).exists() for mark in MARKS)), here)
