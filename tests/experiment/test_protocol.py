from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_outline import CAFE, CORAL, PROBE, SUITE, T3A, plan

from conftest import ROOT
from fergen_bench.error import BenchError
from fergen_bench.experiment.outline import Request, outline
from fergen_bench.experiment.project import Project
from fergen_bench.experiment.protocol import Protocol, read_protocol


@pytest.mark.parametrize("path", sorted((ROOT / "protocols").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_protocol_can_be_planned(path: Path) -> None:
    protocol = read_protocol(path)
    named = {"adapted": CORAL, "batches of 8": T3A}
    method = next((method for variant, method in named.items() if variant in protocol.variants), CAFE)
    find = Project(ROOT, configured=False).method
    assert outline(protocol, str(path), SUITE, [method], Request(), find=find).outlines


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("about: x\nseed: [0]\n", r"p\.yaml:2: there is no key 'seed'; did you mean seeds\?"),
        ("str:\n", r"p\.yaml:1: there is no key 'str'"),
        ("about: x\nshifts: {int: 1}\n", r"p\.yaml:2: there is no key 'shifts\.int'"),
        ("about: x\nmethod: {str: 3}\n", r"p\.yaml:2: method\.str: takes a table"),
        ("about: x\nseeds: [1:30]\n", r"p\.yaml:2: seeds\.0: takes a whole number, not '1:30'"),
        ("about: x\nfraction: 1_0\n", r"p\.yaml:2: fraction: takes a number, not '1_0'"),
        ("about: x\nseeds: [zero]\n", r"p\.yaml:2: seeds\.0: takes a whole number, not 'zero'"),
        ("about: x\nseeds: [0, -1]\n", r"p\.yaml:2: seeds\.1: "),
        ("seeds: [0]\n", r"p\.yaml: the key 'about' is missing"),
        ("about: x\nselection: best\n", r"p\.yaml:2: selection: there is no 'best'; there are last and source-val\."),
        (
            "about: x\nselection: unknown\n",
            r"p\.yaml:2: selection: there is no 'unknown'; there are last and source-val",
        ),
        ("about: x\nabout: y\n", r"p\.yaml:2: this is not valid YAML: the key 'about' occurs twice"),
        ("about: [x\n", r"p\.yaml:\d: this is not valid YAML"),
        ("- a\n", r"p\.yaml: a protocol is a mapping"),
        ("about: x\nfraction: 2\n", r"p\.yaml:2: fraction: must be less than or equal to 1, not 2"),
        ("about: x\nfraction: [0.5, 2]\n", r"p\.yaml:2: fraction\.1: must be less than or equal to 1, not 2"),
        ("about: x\nprior: 1.5\n", r"p\.yaml:2: prior: "),
        ("about: x\nprior: .nan\n", r"p\.yaml:2: prior: "),
        ("about: x\nviews: [plain, miror]\n", r"p\.yaml:2: views\.1: there is no 'miror'"),
        ("about: x\nviews: []\n", r"p\.yaml:2: views: "),
        ("about: x\nviews: [plain, plain]\n", r"p\.yaml:2: views: each view may stand once"),
        ("about: x\nmethod: 3\n", r"p\.yaml:2: method: this takes the name of a method, .*, not 3"),
        ("about: x\nmethod: [cafe, cafe]\n", r"p\.yaml:2: method: a list names methods, each once"),
        ("about: x\nmethod: {all: {epochs: 2}}\n", r"p\.yaml:2: method: all .*takes no settings"),
        ("about: x\nmethod:\n  cafe: 0.1\n", r"p\.yaml:3: method\.cafe: takes a table of keys and values, not 0\.1"),
    ],
)
def test_a_fault_in_a_protocol_is_named_with_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(BenchError, match=message):
        read_protocol(path)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("cafe", {"cafe": {}}),
        ("[cafe, linear_probe]", {"cafe": {}, "linear_probe": {}}),
        ("{cafe: {drop: 0.2}, linear_probe: }", {"cafe": {"drop": 0.2}, "linear_probe": {}}),
    ],
)
def test_a_protocol_names_its_methods_in_three_ways(tmp_path: Path, written: str, meant: dict[str, Any]) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(f"about: x\nmethod: {written}\n")
    protocol = read_protocol(path)
    assert protocol.method == meant
    assert protocol.names(str(path), ["linear_probe", "cafe"]) == tuple(meant)


def test_a_name_that_is_no_method_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("about: x\nmethod:\n  - cafe\n  - linear_prob\n")
    with pytest.raises(BenchError, match=r"p\.yaml:4: method\.linear_prob: .* did you mean linear_probe\?"):
        read_protocol(path).names(str(path), ["linear_probe", "cafe"])


def test_all_stands_for_every_method_and_settings_are_for_the_method_they_name(tmp_path: Path) -> None:
    protocol = {"method": {"all": {}, "cafe": {"drop": 0.2, "gate": "linear"}}, "seeds": [0]}
    assert Protocol.model_validate({"about": "x", **protocol}).names("p", ["cafe", "scn"]) == ("cafe", "scn")
    variants = {"plain": {}, "tanh": {"gate": "tanh"}}
    runs = plan({**protocol, "variants": variants}, Request(sources=["a"]))
    assert [(run.parameters["drop"], run.parameters["gate"]) for run in runs] == [(0.2, "linear"), (0.2, "tanh")]
    (run,) = plan({**protocol}, Request(sources=["a"], settings={"drop": 0.3}))
    assert run.parameters["drop"] == 0.3
    (run,) = plan({"method": {"cafe": {"drop": 0.2}}, "seeds": [0]}, Request(sources=["a"]), (PROBE,))
    assert "drop" not in run.parameters
    path = tmp_path / "p.yaml"
    path.write_text("about: x\nmethod:\n  cafe: {dorp: 0.2}\nvariants:\n  one: {}\n  two: {gat: 1}\n")
    with pytest.raises(BenchError, match=r"p\.yaml:3: method\.cafe: .* no parameter 'dorp'"):
        outline(read_protocol(path), str(path), SUITE, [CAFE], Request())
    with pytest.raises(BenchError, match=r"p\.yaml:6: variants\.two: .* no parameter 'gat'"):
        outline(read_protocol(path).model_copy(update={"method": {}}), str(path), SUITE, [CAFE], Request())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sources: evry\n", r"p\.yaml:2: sources: there is no 'evry'; there are .*all-but-two and each\.$"),
        ("sources: all-but-targets\n", r"sources: there is no 'all-but-targets'; did you mean all-but-target\?$"),
        ("targets: al\n", r"p\.yaml:2: targets: there is no 'al'; did you mean all\?$"),
        ("selection: source_val\n", r"p\.yaml:2: selection: there is no 'source_val'; did you mean source-val\?$"),
        ("shifts:\n  factors: [blur]\n  targets: sources\n", r"p\.yaml:4: shifts\.targets: .*did you mean source\?$"),
        ("seeds: []\n", r"p\.yaml:2: seeds: the list is empty; add at least one entry, or remove the key$"),
        ("sources: []\n", r"p\.yaml:2: sources: the list is empty; add at least one entry"),
        ("sources: evry\nselection: best\n", r"sources: there is no 'evry'.*\(and 2 more\)$"),
    ],
)
def test_misspelt_values_are_refused_with_the_nearest_one(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(f"about: x\n{text}")
    with pytest.raises(BenchError, match=message):
        read_protocol(path)


def test_names_for_domains_must_be_of_domains_and_differ(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    for text, message in (
        ("  aa: A\n", r"p\.yaml:4: rename\.aa: .* no domain 'aa'"),
        ("  a: X\n  b: X\n", r"p\.yaml:4: rename\.a: b has the name 'X', too"),
        ("  a: b\n", r"p\.yaml:4: rename\.a: b has the name 'b', too"),
    ):
        path.write_text(f"about: x\nseeds: [0]\nrename:\n{text}")
        with pytest.raises(BenchError, match=message):
            outline(read_protocol(path), str(path), SUITE, [CAFE], Request())
    path.write_text("about: x\nseeds: [0]\nrename:\n  a: b\n  b: a\n  c: The third\n")
    assert outline(read_protocol(path), str(path), SUITE, [CAFE], Request()).shown == {
        "a": "b",
        "b": "a",
        "c": "The third",
    }
