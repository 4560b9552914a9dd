"""A small dataset in the layout of Google Landmarks v2, and a server of it that can misbehave."""

import hashlib
import io
import tarfile
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image

LABELS = {10: 6, 27: 4, 203: 2}  # images of each landmark in train.csv; one fewer of each in train_clean.csv
CATEGORIES = {
    10: "http://commons.wikimedia.org/wiki/Category:Stari_Most_%28Mostar%29",
    27: "http://commons.wikimedia.org/wiki/Category:Crkva_svetog_%C4%90or%C4%91a",
}
HIERARCHY = {203: "http://commons.wikimedia.org/wiki/Category:Pula_Arena"}
SOLUTION = ["10", "27 203", "", ""]
TARS = {"train": 3, "test": 2, "index": 1}


def picture(seed, width=24, height=16, orientation=None):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def image_id(split, number):
    return hashlib.sha256(f"{split} {number}".encode()).hexdigest()[:16]


def member_name(its_id):
    return f"{its_id[0]}/{its_id[1]}/{its_id[2]}/{its_id}.jpg"


def make_tar(members):
    """Write members: name -> bytes, a `TarInfo` for what is no file, or None for a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as opened:
        for name, content in members.items():
            member = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if content is None:
                member.type = tarfile.DIRTYPE
            data = content if isinstance(content, bytes) else b""
            member.size, member.mtime, member.uname = len(data), 1_500_000_000, "somebody"
            opened.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def link(name, target, kind=tarfile.SYMTYPE):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@dataclass
class Dataset:
    """The files of the dataset by path, and the truth that they were made from."""

    files: dict = field(default_factory=dict)
    pictures: dict = field(default_factory=dict)  # id -> bytes
    where: dict = field(default_factory=dict)  # id -> (split, tar)
    landmarks: dict = field(default_factory=dict)  # id -> list of landmark ids, as in the full training set
    clean: set = field(default_factory=set)

    def put_tar(self, split, number, content):
        self.files[f"{split}/images_{number:03d}.tar"] = content
        text = f"{hashlib.md5(content).hexdigest()}  images_{number:03d}.tar\n"
        self.files[f"md5sum/{split}/md5.images_{number:03d}.txt"] = text.encode()

    def tar_members(self, split, number):
        return {member_name(its): self.pictures[its] for its, at in self.where.items() if at == (split, number)}


def make_dataset(bulk=0, photos=()):
    """Make the dataset; `bulk` adds as many bytes to each training tar, `photos` replace made-up pictures."""
    made = Dataset()
    labels = [landmark for landmark, count in LABELS.items() for _ in range(count)]
    truths = {
        "train": [[label] for label in labels],
        "test": [text.split() for text in SOLUTION],
        "index": [["10"], []],
    }
    photos = list(photos)
    for split, its in truths.items():
        for number, landmarks in enumerate(its):
            its_id = image_id(split, number)
            turned = 6 if number % 3 == 1 else None
            made.pictures[its_id] = photos.pop() if photos else picture(number + 1000 * len(split), orientation=turned)
            made.where[its_id] = (split, number % TARS[split])
            made.landmarks[its_id] = [str(landmark) for landmark in landmarks]
    train = [its for its, (split, _) in made.where.items() if split == "train"]
    last = {made.landmarks[its][0]: its for its in train}
    made.clean = set(train) - set(last.values())
    for split, count in TARS.items():
        for number in range(count):
            members = {"./0": None, **made.tar_members(split, number)}
            if bulk and split == "train":  # pictures that no table lists
                extra = hashlib.sha256(f"bulk {number}".encode()).hexdigest()[:16]
                members[member_name(extra)] = np.random.default_rng(number).bytes(bulk)
            made.put_tar(split, number, make_tar(members))
    _write_tables(made, train)
    return made


def _write_tables(made, train):
    def put(path, *lines):
        made.files[path] = ("\n".join(lines) + "\n").encode()

    ids = {split: [its for its, at in made.where.items() if at[0] == split] for split in TARS}
    put(
        "metadata/train.csv",
        "id,url,landmark_id",
        *(f"{its},http://pics/{its},{made.landmarks[its][0]}" for its in train),
    )
    clean = defaultdict(list)
    for its in train:
        if its in made.clean:
            clean[made.landmarks[its][0]].append(its)
    put("metadata/train_clean.csv", "landmark_id,images", *(f"{one},{' '.join(its)}" for one, its in clean.items()))
    put(
        "metadata/train_attribution.csv",
        "id,url,author,license,title",
        *(f'{its},http://page/{its},"{author(its)}",{licence(its)},"File:A\nB, ""C"".jpg"' for its in train[::-1]),
    )
    put("metadata/train_label_to_category.csv", "landmark_id,category", *(f"{k},{v}" for k, v in CATEGORIES.items()))
    put(
        "metadata/train_label_to_hierarchical.csv",
        "landmark_id,category,supercategory,hierarchical_label,natural_or_human_made",
        *(f"{k},{v},Arena,arena,human-made" for k, v in HIERARCHY.items()),
    )
    put("metadata/test.csv", "id", *ids["test"])
    put("metadata/index.csv", "id", *ids["index"])
    put(
        "ground_truth/recognition_solution_v2.1.csv",
        "id,landmarks,Usage",
        *(f"{its},{truth},Public" for its, truth in zip(ids["test"], SOLUTION, strict=True)),
    )


def author(its_id):
    return f"Ana, {its_id[:3]}"


def licence(its_id):
    return f"https://creativecommons.org/licenses/by{'-sa' if its_id[0] < '8' else ''}/3.0/"


class Server(ThreadingHTTPServer):
    """Serves files; `faults[path]` is a list of what goes wrong with the next requests of a file.

    Faults: a status (500), `("cut", n)` after n bytes, `page` (HTML with status 200), `page as tar` (the same under
    the type of a tar), `("bytes", other)`, `no range` (answers 200 to a range), `wrong range`,
    `any version` (goes on although the file is another one), `lengthless`, `hang`.
    The last fault stands for good where the list ends with `...`.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = dict(files)
        self.faults = defaultdict(list)
        self.requests = []  # (path, status, first byte)
        self.sent = Counter()  # bytes of content by path
        self.etags = True
        self.bytes_per_s = None
        self.busy = self.busiest = 0
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/bucket"

    def count(self, path):
        return sum(one == path for one, _, _ in self.requests)

    def forget(self):
        self.requests.clear()
        self.sent.clear()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """Clients that go away are what is tested."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        path = self.path.removeprefix("/bucket/")
        with server.lock:
            server.busy += 1
            server.busiest = max(server.busiest, server.busy)
            faults = server.faults[path]
            fault = faults[0] if faults else None
            if faults and faults[1:] != [...]:
                faults.pop(0)
        try:
            self.answer(path, fault)
        finally:
            with server.lock:
                server.busy -= 1

    def answer(self, path, fault):
        if path not in self.server.files:
            return self.send(path, 404, b"<Error>NoSuchKey</Error>", "application/xml")
        if isinstance(fault, int):
            return self.send(path, fault, b"<html>sorry</html>", "text/html")
        if fault in ("page", "page as tar"):
            kind = "text/html; charset=utf-8" if fault == "page" else "application/x-tar"
            return self.send(path, 200, b"<html>log in to this network</html>", kind)
        if fault == "hang":
            time.sleep(3)
            return None
        content = self.server.files[path]
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        if isinstance(fault, tuple) and fault[0] == "bytes":
            content = fault[1]
        begin = self.first_byte(etag, fault, len(content))
        if begin is not None and begin >= len(content):
            return self.send(path, 416, b"", "text/plain")
        headers = {"ETag": etag} if self.server.etags else {}
        if begin is not None:
            told = begin - 1 if fault == "wrong range" else begin
            headers["Content-Range"] = f"bytes {told}-{len(content) - 1}/{len(content)}"
        cut = fault[1] if isinstance(fault, tuple) and fault[0] == "cut" else None
        status = 200 if begin is None else 206
        return self.send(
            path, status, content[begin or 0 :], "binary/octet-stream", headers, cut, fault == "lengthless"
        )

    def first_byte(self, etag, fault, length):
        asked, condition = self.headers.get("Range"), self.headers.get("If-Range", etag)
        if asked is None or fault == "no range":
            return None
        if condition != etag and fault != "any version":
            return None
        return int(asked.removeprefix("bytes=").rstrip("-"))

    def send(self, path, status, content, kind, headers=None, cut=None, lengthless=False):
        first = int((headers or {}).get("Content-Range", "bytes 0-").split()[1].split("-")[0])
        self.server.requests.append((path, status, first))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if not lengthless:
            self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        chunk = max(1, (self.server.bytes_per_s or 50 * 2**16) // 50)
        content = content[:cut]
        for start in range(0, len(content), chunk):
            self.wfile.write(content[start : start + chunk])
            self.server.sent[path] += len(content[start : start + chunk])
            if self.server.bytes_per_s:
                time.sleep(0.02)
        if cut is not None or lengthless:
            self.close_connection = True
