"""Spoil the files of a model in many ways, and load what came of it: run as a script, with a limit on memory.

Arguments: a folder with `trained/NAME` for each model and as `NAME.waymark`, a seed, the seconds to go on for.
"""

import copy
import io
import json
import resource
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from waymark.errors import ModelError
from waymark.inference.lookup import load_model

MEMORY = 6 << 30  # bytes of address space, of which torch's libraries alone take more than 2 GiB
LONGEST_LINE = 2000
LONGEST_S = 60.0
DEEP = 100_000
VALUES = (
    *(None, True, [], {}, "", "x", "x" * 100_000, "\x1b[31m", "\ud800", "../../etc/passwd", [[]], {"a": 1}),
    *(0, -1, 1, 3, 17, 200_000, 10**7, 2**31, 2**63, 10**30, 10**4000),
    *(0.0, -0.5, 1e-300, 1e300, float("nan"), float("inf"), [1] * 100_000, [None] * 100_000),
)


def leaves(document, path=()):
    """List the places of a document of lists and dictionaries, the whole among them."""
    yield path
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        if isinstance(value, dict | list | tuple):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


def replaced(document, path, value):
    """Put another value at a place of a document."""
    if not path:
        return value
    found = copy.copy(document) if isinstance(document, dict) else list(document)
    found[path[0]] = replaced(found[path[0]], path[1:], value)
    return tuple(found) if isinstance(document, tuple) else found


def spoil_document(document, random):
    """Change, remove or add a value somewhere."""
    path = random.choice(list(leaves(document)))
    value = random.choice(VALUES)
    if isinstance(document, dict) and random.random() < 0.15:
        return document | {random.choice(["extra", "", *document]): value}
    if len(path) == 1 and random.random() < 0.15:
        return {key: its for key, its in document.items() if key != path[0]}
    return replaced(document, path, value)


def as_json(document, random):
    """Write a document, sometimes as no JSON."""
    plain = json.dumps(document, default=str) if random.random() < 0.8 else '{"a": ' * DEEP
    return (
        random.choice([plain.encode(), plain.encode("utf-16"), b"[" * DEEP, b"\xff" + plain.encode()])
        if (random.random() < 0.2)
        else plain.encode()
    )


def spoil_bytes(data, random):
    """Flip, cut, repeat or insert bytes."""
    at, length = random.randrange(len(data)), random.choice([1, 4, 100, 10_000])
    noise = random.randbytes(length)
    return random.choice(
        [
            data[:at] + noise + data[at + length :],
            data[:at],
            data[at:],
            data[:at] + noise + data[at:],
            data[: at + length] + data[at:],
            data[-100:] + data[100:],
            data[:-60] + random.randbytes(60),
            b"",
        ]
    )


def spoil_zip(data, random):
    """Remove, repeat, rename, pack or replace an entry."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at = random.randrange(len(parts))
    name, content = parts[at]
    how = random.randrange(6)
    if how == 0:
        parts.pop(at)
    elif how == 1:
        parts.append((name, content))
    elif how == 2:
        parts[at] = (random.choice(["../" + name, "/" + name, "/", name.upper(), name + "\x1b[31m"]), content)
    elif how == 3:
        parts[at] = (name, spoil_bytes(content, random) if content else b"x")
    elif how == 4:
        parts.append(("bomb", b"\0" * (1 << 22)))
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED if how >= 4 else zipfile.ZIP_STORED) as archive:
        for its, content in parts:
            archive.writestr(its, content)
    return written.getvalue()


def spoil_tensor(tensor, random):
    """Give another shape, type, layout or value."""
    floating = tensor.is_floating_point()
    return random.choice(
        [
            lambda: tensor.new_zeros(()).expand(tensor.shape),
            lambda: tensor.new_zeros(()).expand(10**12),
            lambda: tensor.flatten()[:1],
            lambda: tensor.double() if tensor.dtype != torch.float64 else tensor.float(),
            lambda: tensor.to(torch.complex64) if floating else tensor.to(torch.float16),
            lambda: tensor.reshape(-1, 1).to_sparse(),
            lambda: torch.full_like(tensor, torch.nan) if floating else torch.full_like(tensor, 127),
            lambda: tensor * 1e30 if floating else tensor - 1,
            lambda: torch.empty(tensor.shape, device="meta"),
            lambda: torch.quantize_per_tensor(torch.zeros(tensor.shape), 0.1, 0, torch.qint8),
            lambda: "no tensor",
        ]
    )()


def spoil_checkpoint(data, random):
    """Change the config or a tensor, or what holds them."""
    content = torch.load(io.BytesIO(data), weights_only=True)
    how = random.random()
    if how < 0.6:
        content["config"] = spoil_document(content["config"], random)
    elif how < 0.9:
        name = random.choice(list(content["state"]))
        content["state"][name] = spoil_tensor(content["state"][name], random)
    elif how < 0.95:
        content["state"].pop(random.choice(list(content["state"])))
    else:
        content = random.choice([[], None, content["state"], content | {"format": 2}, content | {"state": None}])
    written = io.BytesIO()
    torch.save(content, written, _use_new_zipfile_serialization=random.random() < 0.9)
    return written.getvalue()


def repeated(text, rows):
    """Give a column that says one text very often, in few bytes."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array([text]))


def spoil_table(data, random):
    """Change, remove or empty a column of a Parquet file, or make it say that it is very long."""
    table = pq.read_table(io.BytesIO(data))
    at = random.randrange(table.num_columns)
    name, column = table.column_names[at], table.column(at)
    rows = table.num_rows
    options = [
        lambda: table.drop_columns([name]),
        lambda: table.slice(0, 0),
        lambda: table.set_column(at, name, pa.nulls(rows, column.type)),
        lambda: table.set_column(at, name, pa.array(["x" * 10_000] * rows)),
        lambda: table.set_column(at, name, pa.array([[0.0]] * rows)),
        lambda: table.set_column(at, name, pa.array([float("inf")] * rows)),
        lambda: table.append_column(name, column),
        lambda: pa.table({its: pa.nulls(20_000_000, table.schema.field(its).type) for its in table.column_names[:3]}),
        lambda: pa.table({its: repeated("x" * 4000, 2_000_000) for its in table.column_names}),
    ]
    written = io.BytesIO()
    pq.write_table(random.choice(options)(), written, compression="zstd", store_schema=False)
    return written.getvalue()


def spoiled_folder(model, folder, random):
    """Spoil one of the files of a model that lies in a folder; gives its checkpoint and what was done."""
    files = [model / "model.ckpt", *sorted(model.with_name(f"{model.name}-calibration").iterdir())]
    chosen = random.choice([*files, files[0], files[0]])
    for file in files:
        (folder / file.name).write_bytes(file.read_bytes())
    data = chosen.read_bytes()
    if random.random() < 0.25:
        data = spoil_bytes(data, random)
    elif chosen.suffix == ".json":
        data = as_json(spoil_document(json.loads(data), random), random)
    elif chosen.suffix == ".parquet":
        data = spoil_table(data, random)
    else:
        data = spoil_zip(data, random) if random.random() < 0.2 else spoil_checkpoint(data, random)
    (folder / chosen.name).write_bytes(data)
    return folder / "model.ckpt"


def spoiled_export(exported, folder, random):
    """Spoil an exported file: bytes, entries or manifest."""
    data = exported.read_bytes()
    how = random.random()
    if how < 0.4:
        data = spoil_bytes(data, random)
    elif how < 0.7:
        data = spoil_zip(data, random)
    else:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        parts["waymark.json"] = as_json(spoil_document(json.loads(parts["waymark.json"]), random), random)
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
        data = written.getvalue()
    (folder / "model.waymark").write_bytes(data)
    return folder / "model.waymark"


def outcome(path):
    """Load a model, which asks it once; gives `refused`, `answers`, or what is wrong with how that went."""
    start = time.perf_counter()
    found = "answers"
    try:
        load_model(str(path))
    except ModelError as error:
        line, found = str(error), "refused"
        if "\n" in line or len(line) > LONGEST_LINE:
            return f"a refusal of {len(line)} characters: {line[:300]!r}"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:300]}"
    seconds = time.perf_counter() - start
    return found if seconds < LONGEST_S else f"it took {seconds:.0f} s"


def main(root, seed, seconds):
    """Spoil and load until the time is over; prints what went wrong, as JSON."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    torch.set_num_threads(1)
    models, found, counts = sorted((root / "trained").glob("*/model.ckpt")), [], Counter()
    folder = root / "spoiled"
    folder.mkdir()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        case = counts.total()
        random = Random(f"{seed} {case}")
        torch.manual_seed(case)
        model = random.choice(models).parent
        if random.random() < 0.25:
            path = spoiled_export(root / f"{model.name}.waymark", folder, random)
        else:
            path = spoiled_folder(model, folder, random)
        came = outcome(path)
        counts[came] += 1
        if came not in ("refused", "answers"):
            found.append({"case": case, "model": model.name, "file": path.name, "wrong": came})
    print(json.dumps({"counts": counts, "found": found}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
