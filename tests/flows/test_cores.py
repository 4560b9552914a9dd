"""Trainings of one process share the cores of the machine, and no more than these."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from ruamel.yaml import YAML

from flows.workers import cores

MODELS = {"one": {"threads": 1}, "other": {"threads": 1}, "most": {"threads": 3}, "all": {}, "more": {"threads": 99}}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of four cores, with or without a GPU, and a checkout with models."""
    YAML().dump({"models": MODELS}, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cores, "CORES", 4)
    monkeypatch.setattr(cores, "_free", threading.Semaphore(4))
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    return programs


def may_begin(stage):
    """Whether a training finds room within a moment."""
    room = threading.Event()

    def train():
        with cores.taken_by(stage):
            room.set()

    threading.Thread(target=train, daemon=True).start()
    return room.wait(0.5), room


def test_those_that_name_their_threads_run_beside_each_other(machine):
    with cores.taken_by("train@one"), cores.taken_by("train@most"):
        begins, room = may_begin("block_split@other")
        assert not begins
    assert room.wait(10)


@pytest.mark.parametrize("stage", ["train@all", "train@more"])
def test_one_that_names_none_or_too_many_has_all_cores(machine, stage):
    with cores.taken_by(stage):
        begins, room = may_begin("train@one")
        assert not begins
    assert room.wait(10)


def test_beside_a_gpu_one_trains_at_a_time(machine):
    (machine / "nvidia-smi").touch(mode=0o755)
    with cores.taken_by("train@one"):
        begins, room = may_begin("train@other")
        assert not begins
    assert room.wait(10)


def test_many_at_once_take_turns_and_never_more_than_there_are(machine):
    guard, at_work, most = threading.Lock(), 0, 0

    def train(model):
        nonlocal at_work, most
        wanted = min(MODELS[model].get("threads", 4), 4)
        with cores.taken_by(f"train@{model}"):
            with guard:
                at_work += wanted
                most = max(most, at_work)
            threading.Event().wait(0.002)
            with guard:
                at_work -= wanted

    with ThreadPoolExecutor(16) as pool:
        done = [pool.submit(train, model) for model in [*MODELS] * 20]
        for future in done:
            future.result(timeout=60)
    assert most == 4
