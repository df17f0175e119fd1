"""Whatever stands in a file, nothing but a BenchError comes out. A second or two of each here; ten thousand cases of
each are marked slow (docs/reliability.md has their figures).
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from examples import example_predictions, finished
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fergen_bench import datasets
from fergen_bench.datasets.pixels import Unreadable, face_pixels
from fergen_bench.datasets.reader import Face, read
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.error import BenchError
from fergen_bench.experiment.project import find_project
from fergen_bench.experiment.protocol import read_protocol
from fergen_bench.files.bounded import read_arrays
from fergen_bench.records import frame as frames
from fergen_bench.records import store
from fergen_bench.records.sidecar import load_npz, unpack_predictions

Try = Callable[[bytes], None]

FOLDER = tempfile.TemporaryDirectory(prefix="fergen-fuzz-")  # for as long as the process lives
HOME = Path(FOLDER.name)


def placed(name: str, content: bytes) -> Path:
    path = HOME / name
    path.write_bytes(content)
    return path


# ------------------------------------------------------------------------------------------------- what reads each file


def a_record(content: bytes) -> None:
    """An accepted record must fit into a table, too."""
    found = store.load(placed("r.json", content))
    frames.cells_frame(frames.current([found]))
    frames.shifted_frame([found])
    repr(found.spec.title)


def predictions(content: bytes) -> None:
    file = placed("p.npz", content)
    unpack_predictions(load_npz(file), file)


def a_protocol(content: bytes) -> None:
    read_protocol(placed("p.yaml", content))


def bench_toml(content: bytes) -> None:
    placed("bench.toml", content)
    project = find_project(HOME)
    project.suites()
    project.results.joinpath("x")


def a_list(content: bytes) -> None:
    read(datasets.dataset("list", "test"), DomainSettings(path=placed("faces.txt", content), dataset="list"))


def a_table(content: bytes) -> None:
    read(datasets.dataset("csv", "test"), DomainSettings(path=placed("faces.csv", content), dataset="csv"))


def an_image(content: bytes) -> None:
    try:
        face_pixels(Face("a", "test", "anger", "anger", placed("a.png", content)), 16)
    except Unreadable as why:
        raise BenchError(str(why)) from None


# -------------------------------------------------------------------------------------------------- what they are given


def _example_record() -> bytes:
    path = store.save(finished(), HOME / "runs")
    content = json.loads(path.read_text())
    del content["checksum"]  # with it every change is seen at once, and nothing else is tried
    return json.dumps(content).encode()


def _example_images() -> None:
    """Names in lists and tables."""
    for name in ("train/a.jpg", "train/b.jpg", "test/c d.jpg"):
        (HOME / name).parent.mkdir(exist_ok=True)
        (HOME / name).write_bytes(_image("JPEG"))


def _example_predictions() -> bytes:
    path = store.save(finished(), HOME / "more", {"a": example_predictions(9)})
    return path.with_suffix(".npz").read_bytes()


def _image(kind: str, mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    pixels = (np.arange(24 * 24 * 3) % 251).astype(np.uint8).reshape(24, 24, 3)
    Image.fromarray(pixels).convert(mode).save(stream, kind)
    return stream.getvalue()


_example_images()
TOML = b"""suite = "synth5"
results = "out"
jobs = 2
[tracking]
uri = "sqlite:///x.db"
[domains.lab]
path = "lab"
labels = { joy = "happiness" }
subject = "^([^_]+)_"
size = 48
[suites.mine]
domains = ["lab", "web"]
overlaps = [["lab", "web"]]
"""
YAML = b"""about: x
sources: each
targets: all
seeds: [0, 1]
selection: last
method: {cafe: {drop: 0.2}, scn: {}}
variants: {default: {}, other: {gate: linear}}
fraction: 0.5
"""
LIST = b"""train/a.jpg happy
train/b.jpg sad
test/c d.jpg anger
"""
TABLE = b"""image,label,split
train/a.jpg,happy,train
"train/b.jpg",sad,train
test/c d.jpg,anger,test
"""
EXAMPLES: dict[str, tuple[Try, list[bytes]]] = {
    "records": (a_record, [_example_record()]),
    "predictions": (predictions, [_example_predictions()]),
    "protocols": (a_protocol, [YAML]),
    "bench.toml": (bench_toml, [TOML]),
    "lists": (a_list, [LIST]),
    "tables": (a_table, [TABLE]),
    "images": (an_image, [_image(kind) for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")]),
}

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def _replaced(draw: Any, content: Any) -> Any:
    """A tree with one part of it exchanged, removed or doubled."""
    if isinstance(content, dict) and content and draw(st.integers(0, 4)):
        name = draw(st.sampled_from(sorted(content)))
        if draw(st.integers(0, 9)) == 0:
            return {key: value for key, value in content.items() if key != name}
        return {**content, name: _replaced(draw, content[name])}
    if isinstance(content, list) and content and draw(st.integers(0, 4)):
        place = draw(st.integers(0, len(content) - 1))
        return [*content[:place], _replaced(draw, content[place]), *content[place + draw(st.integers(0, 1)) :]]
    return draw(values)


@st.composite
def trees(draw: Any, example: bytes, written: Callable[[Any], str], parsed: Callable[[bytes], Any]) -> bytes:
    """A file of the right form with other content."""
    return written(_replaced(draw, parsed(example))).encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw: Any, example: bytes) -> bytes:
    """A file with some of its bytes exchanged, cut out or doubled."""
    content = bytearray(example)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from([0, 1, 1, 2, 4, 16, 10_000])))
        kept = bytes(content[start:end])
        other = st.binary(max_size=8) | st.just(kept * 2) | st.sampled_from([b"\x00", b"\xff" * 4, b"\r\n", b"'", b"{"])
        content[start:end] = draw(other)
    return bytes(content)


def contents(kind: str) -> st.SearchStrategy[bytes]:
    _, examples = EXAMPLES[kind]
    found = [st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))]
    found += [damaged(example) for example in examples]
    if kind == "records":
        found += [trees(examples[0], json.dumps, json.loads)] * 3
    if kind == "protocols":
        found += [trees(examples[0], yaml.safe_dump, yaml.safe_load)] * 3
    return st.one_of(found)


def fuzz(kind: str, cases: int) -> int:
    """Feeds so many files to a reader. Returns how many of them were accepted."""
    attempt, _ = EXAMPLES[kind]
    accepted = 0

    @settings(max_examples=cases, database=None, suppress_health_check=list(HealthCheck))
    @given(contents(kind))
    def one(content: bytes) -> None:
        nonlocal accepted
        try:
            attempt(content)
            accepted += 1
        except BenchError:
            pass

    one()
    return accepted


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_few_files(kind: str) -> None:
    fuzz(kind, 60)


@pytest.mark.slow
@pytest.mark.parametrize("kind", EXAMPLES)
def test_ten_thousand_files(kind: str) -> None:
    print(f"{kind}: 10,000 cases, {fuzz(kind, 10_000):,} of them accepted")


def test_the_examples_themselves_are_accepted() -> None:
    for attempt, examples in EXAMPLES.values():
        for example in examples:
            attempt(example)
    assert read_arrays(HOME / "p.npz")
