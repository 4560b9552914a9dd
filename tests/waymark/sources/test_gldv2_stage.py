"""The stage `download` with the source gldv2: from a server to shards, killed and started again."""

import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pyarrow.parquet as pq
import pytest
from closure import ROOT
from gldv2_server import Server, make_dataset, make_tar
from small import run, write_params, yaml

from tasks.download import STAGE, choose_source
from waymark.errors import ParameterError
from waymark.sources.gldv2.layout import BASE_URL

pytestmark = pytest.mark.slow

TARS = {"train": [0, 1, 2], "test": [0, 1]}
BULK = 1_500_000


def prepare(folder, server, **section):
    section = {"base_url": server.url, "tars": TARS, "retries": 2, "timeout_s": 5.0, **section}
    write_params(folder, region=None, crs="auto", download__source="gldv2", download__gldv2=section)


def written(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_pictures_run_up_to_the_shards(tmp_path):
    with Server(make_dataset().files) as server:
        prepare(tmp_path, server)
        for stage in ("download", "filter", "resize"):
            result = run(tmp_path, stage)
            assert result.returncode == 0, result.stderr
    origin = json.loads((tmp_path / "data/raw/source.json").read_text())
    assert origin["counts"]["records"] == origin["counts"]["pictures"] == 13
    assert sorted(origin["licences"]) == [
        "CC0 or public domain",
        "https://creativecommons.org/licenses/by-sa/3.0/",
        "https://creativecommons.org/licenses/by/3.0/",
    ]
    landmarks = pd.read_parquet(tmp_path / "data/raw/landmarks.parquet")
    assert landmarks.to_dict("list") == {
        "landmark": ["10", "203", "27"],
        "name": ["Stari Most (Mostar)", "Pula Arena", "Crkva svetog Đorđa"],
        "images": [6, 2, 4],
    }
    assert pq.read_table(tmp_path / "data/filtered/dropped.parquet").num_rows == 0
    assert pd.read_parquet(tmp_path / "data/shards/index.parquet")["status"].tolist() == ["ok"] * 13
    assert not list((tmp_path / ".work").rglob("*.tar"))
    assert not list((tmp_path / ".work/download").iterdir())


def test_copies_in_tars_are_found(tmp_path):
    made = make_dataset()
    one, other = sorted(made.clean)[:2]
    made.pictures[one] = made.pictures[other]
    for number in TARS["train"]:
        made.put_tar("train", number, make_tar(made.tar_members("train", number)))
    with Server(made.files) as server:
        prepare(tmp_path, server, tars={"train": [0, 1, 2]})
        for stage in ("download", "filter"):
            result = run(tmp_path, stage)
            assert result.returncode == 0, result.stderr
    dropped = pq.read_table(tmp_path / "data/filtered/dropped.parquet").to_pylist()
    assert dropped == [{"record_id": other, "reason": f"exact duplicate: of {one}"}]


def test_killed_again_and_again_it_takes_nothing_twice(tmp_path):
    made = make_dataset(bulk=BULK)
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    calm.mkdir()
    killed.mkdir()
    with Server(made.files) as server:
        prepare(calm, server, at_once=2)
        prepare(killed, server, at_once=2)
        assert run(calm, "download").returncode == 0
        taken_once = dict(server.sent)
        server.forget()
        server.bytes_per_s = BULK  # a tar takes more than a second
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        for total in (400_000, 1_600_000, 2_900_000):  # in the first two tars, late in them, in the third
            stage = subprocess.Popen([sys.executable, "-m", "tasks.download"], cwd=killed, env=environment)
            deadline = time.monotonic() + 60
            while sum(server.sent.values()) < total and time.monotonic() < deadline:
                time.sleep(0.01)
            assert stage.poll() is None
            stage.send_signal(signal.SIGKILL)
            stage.wait()
            assert not (killed / "data/raw").exists()
            assert list((killed / ".work/download").rglob("*.part"))
        server.bytes_per_s = None
        result = run(killed, "download")
        assert result.returncode == 0, result.stderr
        again = sum(server.sent.values()) - sum(taken_once.values())
        whole = [path for path, status, _ in server.requests if status == 200]
        resumed = [path for path, status, _ in server.requests if status == 206]
    assert sorted(whole) == sorted(taken_once)  # each file was begun once
    assert 2 <= len(resumed) <= 6
    assert set(resumed) <= {f"train/images_{number:03d}.tar" for number in range(3)}
    assert again < 6 * 100_000  # what was on its way, of each of at most six cut connections
    assert made.files.keys() - {path for path, _, _ in server.requests} <= {
        "metadata/train.csv",
        "metadata/test.csv",
        "metadata/index.csv",
        "index/images_000.tar",
        "md5sum/index/md5.images_000.txt",
    }
    assert written(killed / "data/raw") == written(calm / "data/raw")
    assert not list((killed / ".work/download").iterdir())


def test_a_wrong_tar_is_one_line_and_leaves_the_last_download(tmp_path):
    with Server(make_dataset().files) as server:
        prepare(tmp_path, server)
        assert run(tmp_path, "download").returncode == 0
        before = written(tmp_path / "data/raw")
        server.faults["train/images_001.tar"] = ["page as tar", ...]
        result = run(tmp_path, "download")
        assert result.returncode == 1
        assert len(result.stderr.strip().splitlines()) == 1
        assert "train/images_001.tar: its MD5 is not the one that the server tells, 3 times over" in result.stderr
        assert written(tmp_path / "data/raw") == before


def test_an_interrupt_is_no_traceback(tmp_path):
    with Server(make_dataset(bulk=BULK).files) as server:
        prepare(tmp_path, server)
        server.bytes_per_s = 200_000
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tasks.download"]
        stage = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
        )
        deadline = time.monotonic() + 60
        while not server.sent["train/images_000.tar"] and time.monotonic() < deadline:
            time.sleep(0.01)
        stage.send_signal(signal.SIGINT)
        _, stderr = stage.communicate(timeout=30)
    assert stage.returncode == 130
    assert "Traceback" not in stderr


def test_the_preflight_says_what_the_choice_means(tmp_path):
    with Server(make_dataset().files) as server:
        prepare(tmp_path, server, tars={"train": list(range(50))}, min_images=3)
        result = run(tmp_path, "reporting.preflight")
        assert result.returncode == 0, result.stderr
        said = "8 images of 2 landmarks, about 1 of them in the chosen tars; 50 tars, about 50.0 GB to download"
        assert result.stdout.startswith(said)
        assert "GB are free here" in result.stdout
        assert [path for path, _, _ in server.requests] == ["metadata/train_clean.csv"]
        server.faults["metadata/train_clean.csv"] = [404, ...]
        prepare(tmp_path, server, subset="full", landmarks=[4])
        result = run(tmp_path, "reporting.preflight")
    assert result.returncode == 1
    assert result.stderr.startswith("preflight: landmark 4 has no image in the full training set")
    assert len(result.stderr.strip().splitlines()) == 1


def settings(**section):
    document = yaml.load(ROOT / "params.yaml")
    document["download"].update(source="gldv2", gldv2=section)
    return STAGE.read(json.loads(json.dumps(document)))


def test_the_settings_reach_the_source():
    chosen = choose_source(settings(tars={"test": None, "train": [3, 1]}, min_images=250, largest=27, retries=2))
    assert (chosen.subset, chosen.landmarks, chosen.min_images, chosen.largest) == ("clean", None, 250, 27)
    assert chosen.tars == {"test": None, "train": (3, 1)}
    assert (chosen.base_url, chosen.at_once, chosen.retries, chosen.keep_tars) == (BASE_URL, 4, 2, False)
    elsewhere = choose_source(settings(base_url="http://mirror.example/gld", subset="full", landmarks=[1, 2]))
    assert (elsewhere.subset, elsewhere.landmarks, elsewhere.min_images) == ("full", (1, 2), None)
    assert elsewhere.work != chosen.work == choose_source(settings()).work  # one folder for each address


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"tars": {}}, r"download\.gldv2\.tars: must name at least one split"),
        ({"tars": {"val": [1]}}, r"unknown key download\.gldv2\.tars\.val; known: index, test, train"),
        ({"tars": {"train": []}}, r"download\.gldv2\.tars: train must name each tar once, or be null"),
        ({"tars": {"train": [1, 1]}}, r"train must name each tar once"),
        ({"tars": {"test": [20]}}, r"test has tars 0 to 19"),
        ({"tars": {"train": [-1]}}, r"download\.gldv2\.tars\.train\.0: must be a whole number from 0 up to"),
        ({"tars": [0, 1]}, r"download\.gldv2\.tars: "),
        ({"base_url": "s3://google-landmark"}, r"download\.gldv2\.base_url: "),
        ({"subset": "cleaned"}, r"download\.gldv2\.subset: .*'clean' or 'full'"),
        ({"landmarks": []}, r"download\.gldv2\.landmarks: must name at least one"),
        ({"landmarks": ["Eiffel"]}, r"download\.gldv2\.landmarks\.0: "),
        ({"min_image": 3}, r"unknown key download\.gldv2\.min_image; did you mean 'min_images'"),
        ({"at_once": 0}, r"download\.gldv2\.at_once: "),
    ],
)
def test_what_is_wrong_is_named_before_anything_runs(section, said):
    with pytest.raises(ParameterError, match=said):
        settings(**section)
