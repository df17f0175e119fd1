"""Hostile files do no harm: each format gets files made to harm, and one sentence results."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from examples import SPEC, example_predictions, finished
from onnx import TensorProto, helper, numpy_helper

from fergen_bench.data.domain import Domain
from fergen_bench.data.facts import DataFacts
from fergen_bench.data.prepared import write_prepared
from fergen_bench.datasets.comparisons import Comparisons
from fergen_bench.datasets.pixels import Unreadable, face_pixels
from fergen_bench.datasets.reader import Face
from fergen_bench.error import BenchError
from fergen_bench.experiment.project import Project, find_project
from fergen_bench.experiment.protocol import read_protocol
from fergen_bench.files.bounded import map_array, read_arrays
from fergen_bench.finished.model import open_model
from fergen_bench.networks.network import _stored_features
from fergen_bench.networks.weights_file import read_weights
from fergen_bench.records import counting, store
from fergen_bench.records import frame as frames
from fergen_bench.records.collection import RecordFolder
from fergen_bench.report.published import read_published
from fergen_bench.training.contract import Context, Method
from fergen_bench.training.resume import ResumeState
from fergen_bench.training.saved import restore_method

LOOSE = "loose"


class Payload:
    """The code in a pickle: it would create a file in the current folder."""

    def __reduce__(self) -> Any:
        return open, (LOOSE, "w")


@pytest.fixture(autouse=True)
def _nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / LOOSE).exists(), "a file ran code"


def npy(array: Any = None, header: bytes | None = None, body: bytes = b"") -> bytes:
    """An .npy file of an array, or with a header of one's own."""
    if header is not None:
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def npz(members: dict[str, bytes], packed: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", packed) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def shaped(shape: str, dtype: str = "<f4") -> bytes:
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()


OBJECTS = npy(np.array([Payload()], object))
ARRAYS = {
    "an object in it": OBJECTS,
    "petabytes declared": npy(header=shaped("(1125899906842624,)")),
    "a shape that overflows": npy(header=shaped("(9223372036854775807, 9223372036854775807)")),
    "a negative shape": npy(header=shaped("(-1,)")),
    "a shape of names": npy(header=shaped("('a',)")),
    "too few numbers": npy(np.arange(9))[:-8],
    "too many numbers": npy(np.arange(9)) + b"12345678",
    "a header that is a program": npy(header=b"__import__('os').system('touch loose')\n"),
    "a header nested deeply": npy(header=b"(" * 9000 + b"\n"),
    "a record type": npy(np.zeros(2, [("a", "<f4")])),
    "no header": b"\x93NUMPY\x01\x00",
    "an unknown version": b"\x93NUMPY\x09\x00\x00\x00",
    "nothing": b"",
    "an archive": npz({"a.npy": npy(np.arange(3))}),
}
ARCHIVES = {
    **{f"a member with {what}": npz({"a.npy": content}) for what, content in ARRAYS.items()},
    "a bomb": npz({f"{n}.npy": npy(header=shaped("(67108864,)", "|u1"), body=bytes(1 << 26)) for n in range(5)}),
    "lzma": npz({"a.npy": npy(np.zeros(9))}, zipfile.ZIP_LZMA),
    "no archive": b"PK\x03\x04" + bytes(40),
    "a flipped bit": (lambda whole: whole[:60] + bytes([whole[60] ^ 255]) + whole[61:])(
        npz({"a.npy": npy(np.arange(99))})
    ),
    "its end cut off": npz({"a.npy": npy(np.arange(99))})[:-30],
}


@pytest.mark.parametrize("what", ARRAYS)
def test_arrays(what: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(ARRAYS[what])
    with pytest.raises((ValueError, OSError)):
        map_array(path)
    assert _stored_features(path, (3, 2)) is None  # features are computed again


@pytest.mark.parametrize("what", ARCHIVES)
def test_archives_of_arrays(what: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(ARCHIVES[what])
    with pytest.raises((ValueError, OSError)):
        read_arrays(path)


def test_pipes_and_folders_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "r.json")
    for path in (tmp_path / "r.json", tmp_path):
        with pytest.raises(BenchError, match="cannot be read"):
            store.load(path)


def changed(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: {**content, **changes}


def in_spec(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: {**content, "spec": {**content["spec"], **changes}}


def in_cell(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: {**content, "cells": [{**content["cells"][0], **changes}]}


RECORDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a future form": changed(format=2),
    "another key": changed(key="0" * 12),
    "something unknown": changed(code="import os"),
    "a list": lambda content: [content],
    "no cells": lambda content: {name: value for name, value in content.items() if name != "cells"},
    "a path as the suite": in_spec(suite="../../etc"),
    "a path as the method": in_spec(method="/etc/passwd"),
    "a path as a source": in_spec(sources=["../x"], fingerprints={"../x": "f"}),
    "no source": in_spec(sources=[]),
    "a finished model with sources": in_spec(exposure={"trained_on": None, "pretrained_on": None}),
    "a method called external": in_spec(method="external:x"),
    "a path as the name of a finished model": in_spec(
        method="external:../x", sources=[], exposure={"trained_on": None, "pretrained_on": None}
    ),
    "text as the seed": in_spec(seed="0"),
    "a huge seed": in_spec(seed=10**30),
    "a share of training faces that is none": in_spec(fraction=float("nan")),
    "escapes in text": in_spec(note="\x1b[2J"),
    "half of a letter": in_spec(note="\ud800"),
    "text that runs backwards": in_spec(note="\u202eabc"),
    "a number as the note": in_spec(note=3),
    "weights of no parameter": in_spec(weights={"nothing": "d"}),
    "a confusion of another size": in_cell(confusion=[[1]]),
    "a ragged confusion": in_cell(confusion=[[1] * 7] * 6 + [[1]]),
    "a negative count": in_cell(confusion=[[-1] * 7] * 7),
    "a huge count": in_cell(confusion=[[10**40] * 7] * 7),
    "half a face": in_cell(confusion=[[0.5] * 7] * 7),
    "a cell of no target": in_cell(target="elsewhere"),
    "a network without a name": changed(networks={"backbone": {}}),
    "text as seconds": changed(seconds={"fit": "long"}),
}


@pytest.mark.parametrize("what", RECORDS)
def test_records(what: str, tmp_path: Path) -> None:
    """Without a checksum, as in early records, so that the content itself must be refused."""
    path = store.save(finished(), tmp_path)
    content = json.loads(path.read_text())
    del content["checksum"]
    path.write_text(json.dumps(content))
    store.load(path)
    path.write_text(json.dumps(RECORDS[what](content)))
    with pytest.raises(BenchError, match=r"cannot be read|has format 2"):
        store.load(path)
    assert counting.load_all(tmp_path)[0] == []


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"format": ' + "9" * 5000 + "}", '{"format": 1, "format": 1}', "\x00", "\ud83d", "NaN", "{}"],
)
def test_text_that_is_no_record(text: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(BenchError, match=r"cannot be read|has format"):
        store.load(path)


def test_every_flipped_bit_of_a_record_is_seen(tmp_path: Path) -> None:
    path = store.save(finished(), tmp_path, {"a": example_predictions(3), "b": example_predictions(1)})
    for file in (path, path.with_suffix(".npz")):
        whole = file.read_bytes()
        for place in range(0, len(whole), max(1, len(whole) // 150)):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
            try:  # what is between the words of a JSON file means nothing
                same = store.load(path) == finished() and file.suffix == ".json"
            except BenchError:
                continue
            if not same:
                with pytest.raises(BenchError, match="damaged"):
                    store.RecordFile.open(path).predictions()
        file.write_bytes(whole)
    assert store.load(path) == finished()


def test_predictions_of_another_shape_are_refused(tmp_path: Path) -> None:
    path = store.save(finished(), tmp_path)
    for arrays in (
        {"a": np.zeros((3, 6), np.float16)},
        {"a": np.zeros((3, 7), np.float16), "a.labels": np.zeros(2, np.uint8)},
        {"a": np.zeros((3, 7), np.float16), "a.labels": np.full(3, 9, np.uint8)},
        {"a": np.full((3, 7), np.nan, np.float16), "a.labels": np.zeros(3, np.uint8)},
        {"a": np.zeros((3, 7), "U3")},
    ):
        np.savez(path.with_suffix(".npz"), **arrays)
        with pytest.raises(BenchError, match="arrays of a are not predictions"):
            store.RecordFile.open(path).predictions()


PROTOCOLS = {
    "a thousand million values in nine lines": "a: &a [x, x]\n"
    + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "a list in itself": "about: &a [*a]",
    "deep lists": "about: " + "[" * 5000,
    "deep mappings": "\n".join(" " * depth + "a:" for depth in range(200)),
    "code": "about: !!python/object/apply:os.system ['touch loose']",
    "a wrong tag": "about: !!timestamp never",
    "a number that is none": "about: !!int 0b_",
    "a long number": "about: " + "9" * 5000,
    "megabytes": "about: " + "x" * (2 << 20),
    "bytes": "\x00\x01",
    "no mapping": "- 1",
    "numbers as keys": "1: 2",
    "merged": "<<: {about: x}\nseeds: [.nan]",
    "a path as a source": "about: x\nsources: [../../etc]\nseeds: [-1]",
}


@pytest.mark.parametrize("what", PROTOCOLS)
def test_protocols(what: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(PROTOCOLS[what])
    with pytest.raises(BenchError) as refused:
        read_protocol(path)
    assert len(str(refused.value)) < 1000


TABLES = {
    "deep": "a = " + "[" * 5000,
    "deep tables": "[" + "a." * 5000 + "a]\n",
    "a long number": "jobs = " + "9" * 5000,
    "megabytes": "# " + "x" * (2 << 20),
    "bytes": "\x00",
    "a path as the name of a domain": "[domains.'../x']\npath = 'x'",
    "a path as a domain of a suite": "[suites.mine]\ndomains = ['../../etc']",
    "a path as the name of a suite": "[suites.'../x']\ndomains = ['web']",
    "a pattern that is none": "[domains.a]\npath = 'x'\nsubject = '((('",
    "a date that is none": "jobs = 2020-99-99",
}


@pytest.mark.parametrize("what", TABLES)
def test_settings(what: str, tmp_path: Path) -> None:
    (tmp_path / "bench.toml").write_text(TABLES[what])
    with pytest.raises(BenchError) as refused:
        _ = find_project(tmp_path).settings
    assert len(str(refused.value)) < 1000


def test_names_lead_nowhere(tmp_path: Path) -> None:
    project = Project(tmp_path, configured=False)
    for name in ("../../etc/passwd", "/etc/passwd", "..", "a\0b"):
        for look_up in (project.method, project.protocol_path, project.suite):
            with pytest.raises(BenchError, match=r"no (method|protocol|suite)"):
                look_up(name)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    faces = np.zeros((7, 16, 16, 3), np.uint8)
    names = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
    columns = {"id": [f"f{n}" for n in range(7)], "expression": names, "split": ["test"] * 7}
    return write_prepared(tmp_path / "d", "d", [faces], columns, {})


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../../x"},
        {"name": 3},
        {"size": [16]},
        {"size": ["a", "b"]},
        {"counts": []},
        {"counts": {"test": {"anger": 1}}},
        {"fingerprint": "../x"},
        {"scored": 3},
    ],
)
def test_descriptions_of_prepared_domains(change: dict[str, Any], prepared: Path) -> None:
    path = prepared / "domain.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BenchError, match="is not a prepared domain"):
        Domain(prepared)


@pytest.mark.parametrize("what", ARRAYS)
def test_faces_of_prepared_domains(what: str, prepared: Path) -> None:
    (prepared / "faces.npy").write_bytes(ARRAYS[what])
    with pytest.raises(BenchError, match="not the images of this domain"):
        _ = Domain(prepared).faces


@pytest.mark.parametrize(
    "text", ["", "id\n", "id,expression,split\n", "id,expression,split\na\n" * 7, "\x00", "a" * 200_000, "\ud83d"]
)
def test_labels_of_prepared_domains(text: str, prepared: Path) -> None:
    (prepared / "labels.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(BenchError, match="not the labels of this domain"):
        _ = Domain(prepared).labels


def png(width: int, height: int, chunks: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunks + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "content",
    [
        png(60_000, 60_000),
        png(2**31 - 1, 1),
        png(8, 8),
        b"%!PS-Adobe-3.0 EPSF-3.0\n(loose) (w) file\n",  # whose decoder would be another program
        b"GIF89a" + bytes(20),
        b"\xff\xd8\xff\xe0" + bytes(200),
        pickle.dumps(Payload()),
        b"",
    ],
)
def test_images(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(Unreadable):
        face_pixels(Face("a", "test", "anger", "anger", path), 48)


def model(header: bytes, size: int | None = None, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header) if size is None else size) + header + body


def keeps(tensor: str = "", **content: Any) -> bytes:
    """A checkpoint with another content than the method's. tensor: the name of one of its tensors."""
    about = {"class": "Probe", "version": 1, "parameters": {}, "values": {}, "networks": {}, **content}
    held = {tensor: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}} if tensor else {}
    header = {"__metadata__": {"fergen-bench": json.dumps(about)}, **held}
    return model(json.dumps(header).encode(), body=b"1234" if held else b"")


@dataclass
class Probe(Method):
    """A method with attributes of several kinds: a network, a tensor, a tuple of tensors and a number."""

    width: int = 3

    def fit(self, source: Any, ctx: Context) -> None:
        self.encoder = ctx.backbone("synth")
        self.weight = torch.arange(7.0)
        self.pair = (torch.ones(2), torch.zeros(1, dtype=torch.float64))
        self.chosen = 4

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        return self.encoder(images)[:, :7] * self.weight


@pytest.mark.parametrize(
    "content",
    [
        model(b"{}", 1 << 60),
        model(b'{"a": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4000000000000]}}', body=b"1234"),
        model(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}', body=b"1234"),
        model(b"[" * 100_000),
        model(b'{"__metadata__": {"fergen-bench": "' + b"[" * 50_000 + b'"}}'),
        model(b'{"__metadata__": {"fergen-bench": "[]"}}'),
        keeps(values={"fit": 3}),
        keeps(values={"__class__": 3}),
        keeps(values={"a b": 3}),
        keeps(values={"steps": [1]}),
        keeps("attribute.pair.first"),
        keeps("attribute.pair.²"),
        keeps("attribute.fit.0"),
        keeps(networks={"encoder": {"name": "synth//etc/passwd", "statistics": "own", "digest": ""}}),
        keeps(networks={"encoder": {"name": "synth", "statistics": "other", "digest": ""}}),
        pickle.dumps(Payload()),
        b"",
    ],
)
def test_checkpoints(content: bytes, ctx: Context, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(BenchError, match="cannot be read"):
        restore_method(path, Probe(), ctx)


def test_weights(tmp_path: Path) -> None:
    torch.save(Payload(), tmp_path / "code.pt")
    (tmp_path / "code.pkl").write_bytes(pickle.dumps({"a": Payload()}))
    (tmp_path / "bomb.pt").write_bytes(npz({"archive/data.pkl": bytes(1 << 22)}))
    (tmp_path / "lies.safetensors").write_bytes(model(b"{}", 1 << 60))
    for path in sorted(tmp_path.glob("*.*")):
        with pytest.raises(BenchError, match="does not contain weights that can be loaded safely"):
            read_weights(path)


def test_an_unfinished_training(tmp_path: Path) -> None:
    torch.save({"identity": {}, "state": Payload(), "randomness": {}}, tmp_path / "k.pt")
    assert ResumeState(tmp_path / "k.pt", {}, 1).read() is None


@pytest.mark.parametrize("text", ["[]", "[" * 100_000, "{", '{"format": []}', '{"format": 1, "pairs": [1]}'])
def test_comparisons(text: str, tmp_path: Path) -> None:
    (tmp_path / "a-b.json").write_text(text)
    store = Comparisons(tmp_path)
    assert store.find("b", "a") is None
    assert "cannot be read" in store.faults[0]
    assert store.find("../a", "b") is None


@pytest.mark.parametrize(
    "text", ["", "# x\nmethod,source,target,accuracy\na,b,c,much\n", '# x\na,"b', "# x\na,b\nb,c,d\ne,f,g,h,i\n"]
)
def test_published_tables(text: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(BenchError, match=r"t\.csv: cannot be read as a table"):
        read_published(tmp_path)


BAD = '=cmd|"/c calc"!A1 <script>alert(1)</script> \\input{/etc/passwd} ~^ $\\frac$ </style>'


def test_reports_take_text_for_text(tmp_path: Path) -> None:
    """A parameter, a note, a network and a mark of a hostile record, in every file of a report."""
    from fergen_bench.report import folder, page
    from fergen_bench.report.leaderboard import LeaderboardView
    from fergen_bench.report.statistics import Evidence
    from fergen_bench.report.tables import boards, with_data

    spec = replace(SPEC, parameters={**SPEC.parameters, "gate": BAD}, note=BAD)
    facts = {name: DataFacts(BAD, BAD, False, BAD, label_rule=BAD, label_map={BAD: BAD}, crop=BAD) for name in "ab"}
    networks = {"backbone": {"name": BAD, "digest": "d" * 16}}
    for seed in (0, 1):
        store.save(finished(replace(spec, seed=seed), networks=networks, data=facts), tmp_path / "runs")
    records, faults = counting.load_all(tmp_path / "runs")
    assert not faults
    to = tmp_path / "report"
    ranked = with_data(boards(frames.cells_frame(records), "accuracy"), records)
    views = [LeaderboardView(board, "accuracy") for board in ranked]
    runs = tmp_path / "runs"
    evidence = Evidence(records, RecordFolder(runs))
    files = folder.write(to, views, evidence=evidence)
    content = page.Content({"accuracy": views}, records, RecordFolder(runs), evidence, files)
    html = page.write(to, content).read_text()
    assert "<script>alert" not in html
    text = dict.fromkeys((".md", ".csv", ".tex"), "")
    for path in files:
        if path.suffix in text:
            text[path.suffix] += path.read_text()
    assert "<script>" not in text[".md"]
    assert "\\input{" not in text[".tex"]
    assert "\\textbackslash{}input" in text[".tex"]
    assert not [cell for cell in text[".csv"].replace('"', "").split(",") if cell.startswith(("=", "+", "@"))]


def onnx_file(path: Path, change: Callable[[Any], Any]) -> Path:
    """Write a linear classifier of 3 x 4 x 4 pixels, changed."""
    weights = numpy_helper.from_array(np.zeros((48, 7), np.float32), "w")
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w"], ["y"])]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape])
        for name, shape in (("x", [3, 4, 4]), ("y", [7]))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    changed = change(model) or model
    path.write_bytes(changed if isinstance(changed, bytes) else changed.SerializeToString())
    return path


def external(location: str) -> Callable[[Any], None]:
    """Move the weights to a file of external data."""

    def change(model: Any) -> None:
        weights = model.graph.initializer[0]
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        weights.external_data.add(key="location", value=location)

    return change


def huge(model: Any) -> None:
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([2_500_000_000, 1])
    model.graph.initializer[0].raw_data = b""


def negative(model: Any) -> None:
    model.graph.initializer[0].dims[0] = -48


def custom(model: Any) -> None:
    model.graph.node[0].domain = "org.somebody"


def custom_inside(model: Any) -> None:
    inner = helper.make_graph([helper.make_node("Run", [], ["z"], domain="org.somebody")], "g", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner))


def filling(model: Any) -> None:
    shape = helper.make_tensor("s", TensorProto.INT64, [1], [1 << 40])
    model.graph.initializer.append(shape)
    model.graph.node.append(helper.make_node("ConstantOfShape", ["s"], ["z"]))


def images_of(side: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = side

    return change


def renamed(model: Any) -> None:
    model.graph.node[0].op_type = "System"


ONNX: dict[str, tuple[Callable[[Any], Any], str]] = {
    "10 GB declared": (huge, "declare 10,000,000,000 bytes"),
    "a negative shape": (negative, "declare -1,344 bytes"),
    "weights elsewhere": (external("../secret.bin"), "outside the folder of the model"),
    "weights at an absolute path": (external("/etc/passwd"), "outside the folder of the model"),
    "weights behind a link": (external("link.bin"), "outside the folder of the model"),
    "weights that are missing": (external("absent.bin"), "absent.bin, is missing"),
    "a custom operator": (custom, "custom operators \\(org.somebody.Flatten\\)"),
    "a custom operator in a branch": (custom_inside, "custom operators \\(org.somebody.Run\\)"),
    "an unknown operator": (renamed, "onnxruntime cannot load this file"),
    "a terabyte computed from a constant": (filling, "computes 1,099,511,627,776 values at once"),
    "a huge input": (images_of(100_000), "at most 2,048 pixels|cannot load this file"),
    "its end cut off": (lambda model: model.SerializeToString()[:-40], "cannot load|not an ONNX file|no operator"),
    "a pickle": (lambda model: pickle.dumps(Payload()), "not an ONNX file|no operator|cannot load"),
    "bytes": (lambda model: bytes(range(256)) * 40, "not an ONNX file"),
    "groups in groups": (lambda model: b"\x3a\x7f" * 9000, "not an ONNX file|no operator"),
}


@pytest.mark.parametrize("what", ONNX)
def test_onnx_files(what: str, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(1344))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "link.bin").symlink_to(tmp_path / "secret.bin")
    change, words = ONNX[what]
    with pytest.raises(BenchError, match=words) as refused:
        open_model(onnx_file(tmp_path / "models" / "m.onnx", change))
    assert len(str(refused.value)) < 1000


def test_weights_beside_an_onnx_file_are_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(1344))
    path = onnx_file(tmp_path / "m.onnx", external("w.bin"))
    before = open_model(path)
    assert before(np.ones((2, 3, 4, 4), np.float32)).tolist() == [[0.0] * 7] * 2
    (tmp_path / "w.bin").write_bytes(np.ones((48, 7), np.float32).tobytes())
    assert open_model(path).digest != before.digest
