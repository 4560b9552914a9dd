"""Load a registered model as those who use it do, in a process of its own, and ask it its own example."""

import json
import os
import subprocess
import sys

from mlflow.tracking import MlflowClient

from waymark.inference.registry import SCHEME, on_this_disk
from waymark.system.addresses import sqlite_path
from waymark.system.processes import run_command

TIMEOUT_S = 300
MARK = "smoke: "

# Imports nothing of this checkout: the version brings its own code.
CODE = """
import json, os, sys
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
import mlflow, numpy, pandas
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
answer = model.predict(model.input_example)
wanted = [column.name for column in model.metadata.signature.outputs.inputs]
numbers = [name for name in ("latitude", "longitude", "landmark_score") if name in answer]
answer[numbers] = answer[numbers].apply(pandas.to_numeric)  # None, which JSON knows, becomes NaN
finite = [name for name in numbers if numpy.isfinite(answer[name]).all()]
print({mark!r} + json.dumps({{
    "rows": [len(model.input_example), len(answer)], "columns": list(answer.columns), "wanted": wanted,
    "finite": finite, "inside": bool("latitude" not in answer or (answer["latitude"].abs().fillna(0) <= 90).all()),
}}))
"""


def smoke_fault(name: str, version: str, tracking_uri: str, needed: tuple[str, ...]) -> str | None:
    """Find what is wrong with a version; None where nothing is.

    Args:
        name: of the registered model.
        version: its number.
        tracking_uri: of the store.
        needed: columns of the answer that must be finite.
    """
    try:
        result = run_command(
            [sys.executable, "-P", "-c", CODE.format(mark=MARK), tracking_uri, _model_uri(name, version, tracking_uri)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            env={**os.environ, "PYTHONPATH": ""},  # with -P above: the modules of this checkout come last
        )
    except subprocess.TimeoutExpired:
        return f"it gave no answer within {TIMEOUT_S} s"
    answers = [line.removeprefix(MARK) for line in result.stdout.splitlines() if line.startswith(MARK)]
    if result.returncode != 0 or not answers:
        return _last_line(result.stderr) or f"it ended with exit code {result.returncode}"
    return _fault(json.loads(answers[-1]), needed)


def _model_uri(name: str, version: str, tracking_uri: str) -> str:
    """Name the version; where it lies on this disk and only a server would find it, its folder."""
    named = f"models:/{name}/{version}"
    if sqlite_path(tracking_uri) is None:
        return named
    source = MlflowClient(tracking_uri).get_model_version_download_uri(name, version)
    return on_this_disk(source, tracking_uri) if source.startswith(SCHEME) else named


def _fault(answer: dict[str, list[str]], needed: tuple[str, ...]) -> str | None:
    asked, given = answer["rows"]
    if asked != given:
        return f"it gives {given} answers to {asked} rows"
    if missing := [name for name in answer["wanted"] if name not in answer["columns"]]:
        return f"its answer lacks the columns {', '.join(missing)}"
    if infinite := [name for name in needed if name not in answer["finite"]]:
        return f"its answer has no number for {', '.join(infinite)}"
    return None if answer["inside"] else "it answers latitudes beyond the poles"


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
