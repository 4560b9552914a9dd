"""Whatever stands in params.yaml is accepted, or refused in one line that names a key and says what may stand there."""

import copy
import datetime
import math
import random
import re
from contextlib import nullcontext

import pytest
import timm
import torch
from closure import ROOT
from ruamel.yaml import YAML

from tasks.common.document import check_document, check_params, stages
from tasks.common.params import load_params
from tasks.common.validation import schema_of
from waymark.errors import ModelError, ParameterError, WaymarkError

PARAMS = YAML(typ="safe").load(ROOT / "params.yaml")
REMEDIES = (
    "did you mean|known: |must |set |give |put |take |make |choose |write |use |correct |name |is a top-level key"
    "|names consist"
)
LONG = "x" * 5000
NEVER = [
    math.inf,
    -math.inf,
    math.nan,
    1e30,
    -1e30,
    10**30,
    -(10**30),
    2**5000,
    LONG,
    "\ud800",
    datetime.date(2026, 1, 2),
]
ODD = [
    *NEVER, 0, -1, 1, 2, 0.5, -0.5, 1e-320, 1e9, True, None, "", "banana", "\0", "é" * 200, "a; touch x", "$(touch x)",
    "`touch x`", "a\nb", "--debug", "../up", "\x1b[31m", [], [1, 2], ["a", "a"], [[]], {}, {"a": 1}, {"name": "x"},
    {7: 8}, datetime.datetime(2026, 1, 2), b"\x00", {1, 2},
]  # fmt: skip
HEADS = [
    {"name": "cells"}, {"name": "hybrid"}, {"name": "coordinates"}, {"name": "softmax", "hidden": [8, 8]},
    {"name": "arcface", "margin": "dynamic"}, {"name": "cosface", "scale": None}, {"name": "sphereface", "margin": 2.0},
    {"name": "attention", "stage": -2}, {"name": "joint", "place": {"name": "cells"}, "landmark": {"name": "softmax"}},
]  # fmt: skip
OPTIMIZERS = ["sgd", "adam", "adamw", "adabound"]
SCHEDULES = ["constant", "step", "plateau", "cosine", "warm_restarts", "one_cycle"]


def whole():
    """Make a document in which every kind of head, optimizer and schedule, grid, block split and ensemble stands."""
    document = copy.deepcopy(PARAMS)
    cells, landmarks = document["models"]["cells"], document["models"]["arcface"]
    for number, head in enumerate(HEADS):
        entry = copy.deepcopy(
            landmarks if head["name"] in ("softmax", "arcface", "cosface", "sphereface", "attention") else cells
        )
        entry["head"] = copy.deepcopy(head)
        if head["name"] == "coordinates":
            entry["target"] = "data/projected"
        entry["optimizer"] = {"name": OPTIMIZERS[number % len(OPTIMIZERS)], "lr": 0.01}
        entry["schedule"] = {"name": SCHEDULES[number % len(SCHEDULES)]}
        document["models"][f"{head['name']}-{number}"] = entry
    stepwise = document["models"]["cells-0"]
    stepwise.update(unfreeze=[{"epoch": 2, "blocks": 1, "lr": 0.001}], unfreeze_epoch=0)
    document["grids"] = {"fine": {"spacing_m": 20000}}
    document["block_split"] = {"cells": {}}
    document["ensembles"] = {"both": {"models": ["cells", "coordinates"], "weights": [1.0, 2.0], "combine": "mean"}}
    document["download"]["gldv2"]["tars"] = {"train": [0, 1], "index": None}
    document["download"]["quads"]["folders"] = ["one", "two"]
    document["filter"]["exclude"] = ["one"]
    return document


def readings():
    """List each stage with each entry that has a section of its own, and one of the others."""
    document = whole()
    for stage in stages():
        entries = [None] if stage.each is None else list(document[stage.each])
        for entry in entries if "{entry}" in (stage.section or "") else entries[:1]:
            yield stage, entry


READINGS = list(readings())


def set_at(document, path, value):
    *sections, last = path
    for key in sections:
        document = document[key]
    document[last] = value


def leaves(stage, entry):
    """List the paths of all keys of a stage in the document, those among them that stand for a default."""
    document = whole()
    place = stage.params(entry)[0].split(".") if stage.section != "" else []

    def inside(value, schemas, path):
        yield path
        definitions = schema_of(stage.settings).get("$defs", {})
        schemas = [each for schema in schemas for each in branches(schema, definitions)]
        if isinstance(value, dict):
            name = value.get("name")
            known = {}
            for schema in schemas:
                names = schema.get("properties", {}).get("name", {})
                if name is None or name in names.get("enum", [names.get("const")]):
                    known |= schema.get("properties", {})
            for key in dict.fromkeys([*value, *known]):
                further = (
                    [known[key]]
                    if key in known
                    else [s["additionalProperties"] for s in schemas if isinstance(s.get("additionalProperties"), dict)]
                )
                yield from inside(value.get(key), further, [*path, key])
        elif isinstance(value, list):
            for number, each in enumerate(value):
                further = [s.get("items") or s["prefixItems"][number] for s in schemas if s.get("type") == "array"]
                yield from inside(each, further, [*path, number])

    section = document
    for key in place:
        section = section[key]
    for key, schema in schema_of(stage.settings)["properties"].items():
        if key in stage.shared and key not in ("region", "crs", f"{stage.name}s"):
            continue  # another stage's section, which that one answers for
        top = key in stage.shared
        yield from inside((document if top else section).get(key), [schema], [key] if top else [*place, key])


def branches(schema, definitions):
    if "$ref" in schema:
        return branches(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    inner = schema.get("anyOf", schema.get("oneOf"))
    return [schema] if inner is None else [branch for each in inner for branch in branches(each, definitions)]


def verdict(stage, entry, document):
    """Read a document, and give what is said of it: one line of this project's, or nothing."""
    try:
        stage.read(document, entry)
    except WaymarkError as error:
        return str(error)
    return None


def names_a_key(message, document):
    """Say whether the key that a message begins with is one of the document, or said to be missing from it."""
    named = re.match(r"params\.yaml(?:: (?:unknown (?:key|section) )?| has no )([^\s:;]+)", message)
    if named is None:
        return False
    found = document
    parts = named[1].split(".")
    for depth, key in enumerate(parts):
        if isinstance(found, dict) and key in found:
            found = found[key]
        elif isinstance(found, list) and key.isdigit() and int(key) < len(found):
            found = found[int(key)]
        else:
            return depth == len(parts) - 1 and ("is missing; set it to" in message or "has no" in message)
    return True


def complain(message, document, told):
    """Hold a message against what is wanted of all of them."""
    assert message.startswith("params.yaml"), told
    assert len(message) < 1000, told
    assert message.isprintable(), told  # one line, and nothing for a terminal to obey
    assert names_a_key(message, document), told
    assert re.search(REMEDIES, message), told


@pytest.mark.parametrize(("stage", "entry"), READINGS, ids=lambda each: getattr(each, "name", each))
def test_no_value_of_any_key_is_nonsense_or_a_traceback(stage, entry):
    document = whole()
    assert verdict(stage, entry, document) is None
    draw = random.Random(f"{stage.name} {entry}")
    for path in leaves(stage, entry):
        for value in [*NEVER, *draw.sample(ODD, 8)]:
            changed = copy.deepcopy(document)
            set_at(changed, path, value)
            message = verdict(stage, entry, changed)
            told = f"{path} = {str(value)[:50]!r}: {str(message)[:300]}"
            if message is None:
                assert not any(value is never for never in NEVER), told
                continue
            complain(message, changed, told)


@pytest.mark.parametrize(("stage", "entry"), READINGS, ids=lambda each: getattr(each, "name", each))
def test_a_misspelt_key_is_told_the_right_one_and_a_missing_one_what_it_may_be(stage, entry):
    for path in leaves(stage, entry):
        if not isinstance(path[-1], str) or len(path[-1]) < 5 or path[:-1] == ["ensembles"]:
            continue
        document = whole()
        set_at(document, path, None)
        value = at(whole(), path)
        del at(document, path[:-1])[path[-1]]
        missing = verdict(stage, entry, document)
        if missing is not None and "fit" not in missing:
            complain(missing, document, f"without {path}: {missing}")
        misspelt = {"embeddings": "embeddigs"}.get(path[-1], path[-1][:-1])  # embedding is a key of its own
        at(document, path[:-1])[misspelt] = value
        message = verdict(stage, entry, document)
        if len(path) > 1 and misspelt not in stage.shared:
            where = ".".join(map(str, [*path[:-1], misspelt]))
            assert message == f"params.yaml: unknown key {where}; did you mean {path[-1]!r}?"


def at(document, path):
    for key in path:
        document = document.get(key) if isinstance(document, dict) else document[key]
    return document


@pytest.mark.parametrize("stage", {stage.name: stage for stage, _ in READINGS}.values(), ids=lambda stage: stage.name)
def test_every_number_has_bounds(stage):
    def numbers(schema, at):
        if isinstance(schema, dict):
            if schema.get("type") in ("integer", "number"):
                yield at, schema
            for key, inside in schema.items():
                yield from numbers(inside, f"{at}.{key}")
        elif isinstance(schema, list):
            for inside in schema:
                yield from numbers(inside, at)

    for where, schema in numbers(schema_of(stage.settings), stage.name):
        assert {"minimum", "exclusiveMinimum"} & set(schema), where
        assert {"maximum", "exclusiveMaximum"} & set(schema), where


CELLS, ATTENTION = PARAMS["models"]["cells"], PARAMS["models"]["attention"]
CONSIST = "names consist of letters"


@pytest.mark.parametrize(
    ("section", "value", "message"),
    [
        ("gird", {}, "unknown section gird; did you mean 'grid'?"),
        ("models", {}, "models must have at least one model"),
        ("models", {"a" * 65: CELLS}, "at most 64 in all"),
        ("models", {7: CELLS}, "models: the name 7 is no text; put it in quotes"),
        ("models", {"a; touch x": CELLS}, f"models.a; touch x: {CONSIST}"),
        ("models", {"-a": CELLS}, f"models.-a: {CONSIST}"),
        ("models", {"../up": CELLS}, f"models.../up: {CONSIST}"),
        ("models", {"big": {**CELLS, "size_px": 128}}, "models.big: size_px of the model is 128"),
        ("models", {"flat": {**CELLS, "schedule": {"name": "cosine", "lr_min": 1}}}, "models.flat: schedule.lr_min 1"),
        ("models", {"deep": {**ATTENTION, "head": {"name": "attention", "stage": -50}}}, "models.deep: mobilenetv3_sm"),
        ("models", {"a": {**CELLS, "target": "data/grids/x"}}, "models.a.target data/grids/x is not an entry of grids"),
        ("grids", {"$(touch x)": {"cells": 9}}, f"grids.$(touch x): {CONSIST}"),
        ("grids", {"both": {"cells": 9, "spacing_m": 9.0}}, "grids.both: one of spacing_m, spacing_deg and cells must"),
        ("block_split", {"cell": {}}, "block_split.cell names no model; did you mean 'cells'?"),
        ("ensembles", {"a|b": {"models": ["cells", "coordinates"]}}, f"ensembles.a|b: {CONSIST}"),
        ("crs", "banana", "crs: crs 'banana' is unknown to PROJ"),
    ],
)
def test_what_no_stage_sees_alone_is_refused_before_any_runs(section, value, message):
    document = {**copy.deepcopy(PARAMS), section: value}
    with pytest.raises(WaymarkError, match=re.escape(message)):
        check_document(document)


EMPTY = ["filter", "calibrate", "evaluate", "grids", "block_split", "ensembles"]
OTHERS = {"region": [None]} | {section: [{}] for section in EMPTY} | {"filter": [None, {}]}  # what else is fine


@pytest.mark.parametrize("section", PARAMS)
@pytest.mark.parametrize("value", [None, 3, "x", [], {}, {"x": 1}, {"x": None}, {"x": {}}, {7: {}}, math.inf, LONG])
def test_no_section_of_another_kind_is_a_traceback(section, value):
    document = {**copy.deepcopy(PARAMS), section: value}
    accepted = OTHERS.get(section, [])
    with nullcontext() if value in accepted else pytest.raises(WaymarkError, match=r"^params\.yaml.{,900}$"):
        check_document(document)


def test_weights_that_cannot_be_had_are_noticed_before_any_stage_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # where nothing answers
    document = copy.deepcopy(PARAMS)

    def refusal(weights):
        document["models"]["arcface"]["weights"] = weights
        YAML().dump(document, tmp_path / "params.yaml")
        with pytest.raises(ModelError, match=r"^params.yaml: models\.arcface: weights .*set weights to") as caught:
            check_params()
        return str(caught.value)

    assert "mobilenetv3_small_100 are not in the cache of Hugging Face and cannot be downloaded" in refusal("default")
    (tmp_path / "no.pt").write_text("no weights")
    assert "no.pt are no state dict" in refusal("no.pt")
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "other.pt")
    assert "other.pt do not fit" in refusal("other.pt")
    assert "lost.pt do not exist" in refusal("lost.pt")
    cached = tmp_path / "cache/models--timm--mobilenetv3_small_100.lamb_in1k"  # as the library lays it out
    for file, text in (("refs/main", "abc"), ("snapshots/abc/model.safetensors", "")):
        (cached / file).parent.mkdir(parents=True)
        (cached / file).write_text(text)
    document["models"]["arcface"]["weights"] = "default"
    YAML().dump(document, tmp_path / "params.yaml")
    check_params()


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("region: &r [*r]", "perhaps by an alias of itself"),
        ("models: &m {cells: *m}", "perhaps by an alias of itself"),
        (BOMB, "far too long"),
        ("a: " + "[" * 100 + "]" * 100, "nested too deeply"),
        ("- " * 100_000, "nested too deeply"),
        ("a: " + "9" * 5000, "cannot be read"),
        ("a: 2026-99-99", "cannot be read"),
        ("a: 1\na: 2", "line 2"),
        ("a: [1", "not valid YAML, line"),
        ("a: !!python/object:os.system x", "not valid YAML, line 1"),
        ("- a", "must contain sections"),
        ("", "must contain sections"),
        ('a: "\x80', "params.yaml"),
    ],
)
def test_no_text_of_a_file_is_a_traceback(text, message, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ParameterError, match=message) as caught:
        load_params(path)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()
