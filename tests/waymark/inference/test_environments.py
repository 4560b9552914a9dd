"""Two environments share servers: each has names of its own, given by one setting."""

import os
import subprocess
import sys

import pytest
from closure import ROOT

NAMES = """
from tasks.registry import store
from waymark.inference import lookup, references
print(store.EXPERIMENT, store.ELSEWHERE, references.LOCATION, references.LANDMARK, *lookup.BEST)
print(*references.parse_reference("champion"))
"""
PLAIN = ["waymark", "waymark-elsewhere", *("waymark-location", "waymark-landmark") * 2]


@pytest.mark.parametrize(("environment", "after"), [("", ""), ("staging", "-staging")])
def test_experiments_and_registered_models_bear_the_name_of_the_environment(environment, after):
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "WAYMARK_ENVIRONMENT": environment}
    done = subprocess.run([sys.executable, "-c", NAMES], env=variables, capture_output=True, text=True, check=True)
    names, reference = done.stdout.splitlines()
    assert names.split() == [f"{name}{after}" for name in PLAIN]
    assert reference == f"waymark-location{after} None champion"
