"""A registered model is made again from its tags alone, by real git and DVC."""

import json
import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

pytestmark = pytest.mark.slow

LOCATION = "waymark-location"


def store(project):
    return MlflowClient(f"sqlite:///{project.folder}/mlflow.db")


def test_what_dvc_alone_trains_is_in_mlflow_before_anybody_registers_it(registered):
    (run,) = registered.runs_of_dvc
    figures = json.loads((registered.folder / "reports/models/coordinates/metrics.json").read_text())
    assert run.data.metrics["test.mean_km"] == figures["test"]["mean_km"]
    assert {"train/loss", "val/mean_km", "images_per_second"} <= set(run.data.metrics)
    assert run.data.tags["waymark.checkpoint.sha256"]
    (again,) = store(registered).search_runs(["1"])
    assert again.info.run_id == run.info.run_id


def test_lineage_is_that_of_git_and_dvc(registered, tmp_path):
    """Against DVC's own hashes of what the training depends on."""
    training = json.loads((registered.folder / "trained/coordinates/training.json").read_text())
    locked = {dep["path"]: dep["md5"] for dep in registered.stages()["train@coordinates"]["deps"]}
    assert training["lineage"]["data"].items() <= locked.items()
    nothing = "data/embeddings/none"  # an empty folder
    assert set(training["lineage"]["data"]) == {path for path in locked if path.startswith("data/") and path != nothing}
    version = store(registered).get_model_version(LOCATION, "1")
    compared = ("model", "git.revision", "git.dirty", "data.digest", "split.test_sha256", "params.sha256")
    known = {f"waymark.{name}" for name in (*compared, "content.sha256")}
    assert {tag for tag in version.tags if not tag.startswith("waymark.promotion.")} == known  # one look, not a screen
    tags = json.loads(
        Path(store(registered).download_artifacts(version.run_id, "lineage.json", str(tmp_path))).read_text()
    )
    assert {tag: version.tags[tag] for tag in known & set(tags)} == {tag: tags[tag] for tag in known & set(tags)}
    assert (tags["waymark.git.revision"], tags["waymark.git.dirty"]) == (registered.revision, "false")
    assert "champion" in store(registered).get_registered_model(LOCATION).description
    behind = {"download", "filter", "resize", "project", "split"}  # no grid: this model has no cells
    stages = {tag.split(".")[2] for tag in tags if tag.startswith("waymark.data.") and tag.endswith(".md5")}
    assert stages == behind
    for stage in behind:
        assert tags[f"waymark.data.{stage}.md5"] == registered.stages()[stage]["outs"][0]["md5"]


def test_a_registered_model_comes_out_the_same(registered, tmp_path):
    place = tmp_path / "again"
    printed = registered.run("python", "-m", "flows.rebuild", "1", "--folder", str(place)).stdout
    assert f"{LOCATION} version 1 came out the same." in printed
    for stage in ("download", "split", "train@coordinates", "evaluate@coordinates"):
        assert f"Running stage '{stage}'" in printed  # nothing was restored
    assert "| model.ckpt |" in printed
    assert "differs" not in printed
    assert len(store(registered).search_runs(["1"])) == 1  # the registry learns nothing of it
    shutil.rmtree(place)


def test_what_came_out_otherwise_is_named(registered, tmp_path):
    each = store(registered)
    version = each.get_model_version(LOCATION, "1")
    tag = "waymark.checkpoint.sha256"
    assert tag not in version.tags  # it stands in the run's lineage.json; older versions have all of it as tags
    each.set_model_version_tag(LOCATION, "1", tag, "0" * 64)
    try:
        printed = registered.run("python", "-m", "flows.rebuild", "champion", "--cached", code=1).stdout
    finally:
        each.delete_model_version_tag(LOCATION, "1", tag)
    assert "| model.ckpt | 000000000000 |" in printed
    assert "a training repeats on the same machine only" in printed
    assert "Running stage" not in printed  # all of it out of the cache


@pytest.mark.parametrize(
    ("tag", "value", "words"),
    [
        ("waymark.git.dirty", "true", "made with changes that are in no commit"),
        ("waymark.git.revision", "1" * 40, "which this checkout has not; git fetch it"),
    ],
)
def test_what_cannot_be_made_again_is_refused(registered, tag, value, words):
    each = store(registered)
    before = each.get_model_version(LOCATION, "1").tags[tag]
    each.set_model_version_tag(LOCATION, "1", tag, value)
    try:
        result = registered.run("python", "-m", "flows.rebuild", f"{LOCATION}/1", code=2)
    finally:
        each.set_model_version_tag(LOCATION, "1", tag, before)
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_an_unknown_version_is_refused(registered):
    assert (
        "the registry has no 7 of waymark-location"
        in registered.run("python", "-m", "flows.rebuild", "7", code=2).stderr
    )
