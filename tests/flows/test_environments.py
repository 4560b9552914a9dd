"""Two environments on the same servers share no name, by one variable."""

import json
import os
import subprocess
import sys

import pytest
from closure import ROOT

from flows.servers.addresses import addresses
from waymark.errors import ParameterError

pytestmark = pytest.mark.slow

NAMES = """
import json
from flows.nights.checkout import BRANCH
from flows.promote import promote
from flows.workers.training import deployment
from waymark.inference.references import LANDMARK, LOCATION, environment_name, parse_reference

default = promote.parameters.model_dump()["properties"]["model"]["default"]
reference = parse_reference(f"{LOCATION}@champion").model
print(json.dumps([LOCATION, LANDMARK, BRANCH, environment_name("gpu"), deployment(), default, reference]))
"""
PLAIN = ["waymark-location", "waymark-landmark", "nights", "gpu", "train/train", *["waymark-location"] * 2]


@pytest.mark.parametrize("environment", ["", "staging-2"])
def test_models_branch_pools_and_deployments_are_named_by_the_environment(environment):
    variables = {**os.environ, "WAYMARK_ENVIRONMENT": environment}
    done = subprocess.run(
        [sys.executable, "-c", NAMES], cwd=ROOT, env=variables, capture_output=True, text=True, check=True
    )
    end = f"-{environment}" if environment else ""
    assert json.loads(done.stdout.splitlines()[-1]) == [f"{name}{end}" for name in PLAIN]


@pytest.mark.parametrize("name", ["a b", "Staging", "x/y"])
def test_an_environment_that_no_server_could_name_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match="WAYMARK_ENVIRONMENT must be of small letters, digits and dashes"):
        addresses({"WAYMARK_ENVIRONMENT": name})
