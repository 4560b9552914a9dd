"""Which queue trainings of a checkout wait in."""

import re
import shutil

import pytest

from flows.worker import own_name
from flows.workers.pools import QueueError, listen


def test_a_checkout_has_one_queue_wherever_its_stages_run(tmp_path, monkeypatch):
    here = tmp_path / "Marko's 100 % & more/ö"
    (here / ".nights/checkout").mkdir(parents=True)
    (here / ".dvc/tmp/exps/x").mkdir(parents=True)
    names = set()
    for folder in (here, here / ".nights/checkout", here / ".dvc/tmp/exps/x"):
        monkeypatch.chdir(folder)
        names.add(own_name())
    (name,) = names
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", name)
    shutil.copytree(here, tmp_path / "copy")
    shutil.move(here, tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "copy", here)  # the same path on the same host, and still another folder
    monkeypatch.chdir(here)
    assert own_name() != name


def test_a_worker_whose_server_does_not_answer_says_so_in_a_line():
    assert listen("default", "") == []  # flows may run by any worker of that pool
    nowhere = "http://127.0.0.1:9/api"
    with pytest.raises(QueueError, match=f"Prefect at {nowhere} does not answer"):
        listen("gpu", nowhere)
