"""A small project with pictures of its own, run stage by stage."""

import os
import subprocess

import numpy as np
import pandas as pd
import warm
from closure import ROOT
from PIL import Image
from ruamel.yaml import YAML

yaml = YAML()

RECORDS = 12
DATA_STAGES = ("download", "filter", "resize", "project", "grid", "split")


def write_params(folder, **changes):
    """Write the bundled params for the folder's own pictures; changes name keys as `grid__spacing_m`."""
    params = yaml.load(ROOT / "params.yaml")
    params["download"].update(source="table", path="input")
    params["filter"]["min_images"] = None
    params["resize"]["size_px"] = 16
    for entry in params["models"].values():
        entry.update(epochs=1, batch_size=8)
    for dotted, value in changes.items():
        *path, last = dotted.split("__")
        section = params
        for key in path:
            section = section[key]
        section[last] = value
    yaml.dump(params, folder / "params.yaml")


def write_table(folder, **columns):
    """Write pictures in Croatia and their table; columns replace or, where None, remove."""
    (folder / "input").mkdir(exist_ok=True)
    rng = np.random.default_rng(1)
    for number in range(RECORDS):
        pixels = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "input" / f"{number}.jpg")
    table = pd.DataFrame(
        {
            "path": [f"{number}.jpg" for number in range(RECORDS)],
            "latitude": 45.4 + rng.random(RECORDS) / 5,
            "longitude": 16.0 + rng.random(RECORDS) / 2,
        }
    )
    for name, values in columns.items():
        table = table.drop(columns=name) if values is None else table.assign(**{name: values})
    table.to_csv(folder / "input" / "photos.csv", index=False)


def run(folder, *stage, python=None):
    """Run a stage by a Python, unless named by that of warm.py."""
    return subprocess.run(
        [python or warm.path() / "python", "-m", f"tasks.{stage[0]}", *stage[1:]],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
