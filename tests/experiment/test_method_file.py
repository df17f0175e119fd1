from __future__ import annotations

import re
from pathlib import Path

import pytest

from conftest import ROOT
from fergen_bench.error import BenchError
from fergen_bench.experiment import reserved
from fergen_bench.experiment.method_file import read_method
from fergen_bench.experiment.project import Project
from fergen_bench.training.contract import Method
from fergen_bench.training.load import load_method
from fergen_bench.training.loop import GradientMethod

HEADER = '''"""One line about it."""
from dataclasses import dataclass
from typing import ClassVar, Literal
from fergen_bench import GradientMethod, Method, Backbone, Trunk
import torch
'''
BODY = """
@dataclass
class Mine(Method):
    version: ClassVar[int] = 3
    recipes: ClassVar[dict] = {"small": {"rate": 0.5}}
    backbone: Backbone = "suite"  # which encoder
    rate: float = 1e-3  # how fast
    count: int = 2
    kind: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = (1, 2)
    limit: float | None = None
    deep: bool = True

    def fit(self, source, ctx): ...
    def predict(self, images): ...
"""


def write(folder: Path, text: str, name: str = "mine") -> Path:
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


def test_a_method_is_read_without_running_it(tmp_path: Path) -> None:
    method = read_method(write(tmp_path, HEADER + "raise SystemExit('never run')\n" + BODY))
    assert (method.name, method.class_name, method.version, method.about) == ("mine", "Mine", 3, "One line about it.")
    parameters = {parameter.name: (parameter.default, parameter.about) for parameter in method.parameters}
    assert parameters["backbone"] == ("suite", "which encoder")
    assert parameters["rate"] == (1e-3, "how fast")
    assert parameters["sizes"] == ((1, 2), "")
    assert method.defaults("default")["rate"] == 1e-3
    assert method.defaults("small")["rate"] == 0.5


def test_a_description_is_the_comment_behind_a_field_and_nothing_else(tmp_path: Path) -> None:
    fields = (
        ('a: str = "x  # y"', ""),
        ('b: str = "x  # y"  # the colour: é # 1', "the colour: é # 1"),
        ("c: str = 'é  # '# close", "close"),
        ('d: str = """x\n  # y"""', ""),
        ('e: str = (  # not this\n        "x  # y"\n    )  # this', "this"),
        ('f: Literal["  # p", "q"] = "q"', ""),
        ('g: str = "  # "; h: int = 1  # of h', ""),
        ("i: int = 1\f  # after a form feed", "after a form feed"),
    )
    text = HEADER + "@dataclass\nclass Mine(Method):\n" + "".join(f"    {line}\n" for line, _ in fields)
    method = read_method(write(tmp_path, text))
    assert {parameter.name: parameter.about for parameter in method.parameters} == {
        **{line[0]: about for line, about in fields},
        "h": "of h",
    }


def test_inherited_parameters_come_first_and_take_new_defaults(tmp_path: Path) -> None:
    text = HEADER + "@dataclass\nclass Mine(GradientMethod):\n    own: int = 1\n    epochs: int = 5\n"
    method = read_method(write(tmp_path, text))
    assert method.parameters[0].name == "epochs"
    assert method.defaults("default")["epochs"] == 5
    assert method.parameters[-1].name == "own"
    assert {"batch_size", "learning_rate", "schedule"} <= {parameter.name for parameter in method.parameters}


def test_recipes_and_class_variables_are_inherited(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + "@dataclass\nclass Mine(DomainMethod):\n    learning_rate: float = 0.5\n")
    method = read_method(path)
    assert method.least_domains == 2
    small = method.defaults("small")
    assert (small["learning_rate"], small["batch_size"], small["optimizer"]) == (0.5, 16, "adamw")
    named = '    recipes: ClassVar[dict] = {"small": {"decay": 0.7}}\n'
    method = read_method(write(tmp_path, path.read_text() + named))
    small = method.defaults("small")
    assert (small["learning_rate"], small["batch_size"], small["decay"]) == (2e-3, 16, 0.7)
    assert method.defaults("default")["learning_rate"] == 0.5


def test_every_shipped_method_is_what_was_read(tmp_path: Path) -> None:
    project = Project(tmp_path, configured=False)
    for name, path in project.methods().items():
        method = read_method(path)
        made = load_method(path, method.class_name, method.defaults("default"))
        assert type(made)() == made, name
        assert type(made).version == method.version
        assert dict(type(made).recipes) == dict(method.recipes)
        assert type(made).needs == method.needs
        assert type(made).least_domains == method.least_domains
        assert type(made).note == method.note
        assert type(made).online == method.online


@pytest.mark.parametrize(
    ("change", "value", "message"),
    [
        ("rate", "fast", "rate takes float, not 'fast'"),
        ("count", 1.5, "count takes int, not 1.5"),
        ("count", True, "count takes int, not True"),
        ("kind", "c", "kind is 'c'; use 'a' or 'b'"),
        ("rate", float("nan"), "rate takes float, not nan"),
        ("sizes", ["x"], "sizes takes tuple[int, ...], not ('x',)"),
        ("rat", 1.0, "the method mine has no parameter 'rat'; did you mean rate?"),
        ("zebra", 1.0, "the method mine has no parameter 'zebra'; there are backbone, count"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(tmp_path: Path, change: str, value: object, message: str) -> None:
    method = read_method(write(tmp_path, HEADER + BODY))
    with pytest.raises(BenchError, match=re.escape(message)):
        method.checked({change: value}, "--set")


@pytest.mark.parametrize(("value", "expected"), [(1, 1.0), (None, None), (0.5, 0.5)])
def test_right_values_are_converted(tmp_path: Path, value: object, expected: object) -> None:
    method = read_method(write(tmp_path, HEADER + BODY))
    assert method.checked({"limit": value}, "--set") == {"limit": expected}
    assert method.checked({"sizes": [3]}, "--set") == {"sizes": (3,)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def broken(:\n", r"mine\.py:1: this method file is not valid Python"),
        ("x = 1\n", r"mine\.py: a method file contains one class .* this one has no class"),
        (BODY + BODY.replace("Mine", "Other"), r"this one has 2 classes"),
        (BODY.replace("int = 2", "int"), r"mine\.py:\d+: the parameter 'count' has no default"),
        (BODY.replace("int = 2", "int = len('ab')"), r"mine\.py:\d+: the default of 'count' is not a literal"),
        (BODY.replace("int = 2", "int = 'two'"), r"mine\.py:\d+: count takes int, not 'two'"),
        (
            BODY.replace("int = 2", "Counter = 2"),
            r"mine\.py:\d+: count has the type 'Counter', which parameters cannot",
        ),
        (
            BODY.replace("rate: float = 1e-3", "prior: float = 1e-3"),
            r"mine\.py:\d+: a parameter cannot have the name 'prior', because an option of the run has it \(--prior\);",
        ),
        (BODY.replace("count: int", "seed: int"), r"mine\.py:\d+: .* the name 'seed', because .* \(--seeds\); choose"),
        (
            BODY.replace("version: ClassVar[int]", "version: int"),
            r"'version' is a class variable .* write ClassVar\[int\]",
        ),
        (
            BODY.replace("count: int", "sampling: int"),
            r"'sampling' has the type int, .* write Literal\['natural', 'balanced'\]",
        ),
        (BODY.replace("deep: bool", "epochs: bool"), r"'epochs' has the type bool, and plans .* as int; write int, or"),
        (BODY.replace("= 3", "= 3; needs = ('txt',)"), r"the name 'txt' is unknown; did you mean text\?"),
        (BODY.replace("= 3", "= 3; needs = 'text'"), r"mine\.py:\d+: needs must be a tuple, not 'text'"),
        (BODY.replace("= 3", "= 'three'"), r"mine\.py:\d+: version must be a int, not 'three'"),
        (BODY.replace('"small": {"rate"', '"small": {"rte"'), r"recipes\['small'\]: .* did you mean rate\?"),
    ],
)
def test_a_file_that_is_no_method_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        read_method(write(tmp_path, text)).defaults("small")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "import does_not_exist\n" + BODY, r"mine\.py:6: this method file fails to load: ModuleNotFoundError"),
        (HEADER + BODY + "\nraise ValueError('no')\n", r"mine\.py:\d+: this method file fails to load: ValueError: no"),
        (HEADER + BODY.replace("@dataclass\n", ""), r"fails to load: TypeError|must be a dataclass"),
        (HEADER + BODY.replace("def predict", "def forward"), r"Mine lacks the method predict; write it, as"),
    ],
)
def test_a_method_that_cannot_be_made_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    method = read_method(path)
    with pytest.raises(BenchError, match=message):
        load_method(path, method.class_name, method.defaults("default"))


def test_the_digest_is_of_the_text(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + BODY)
    before = read_method(path).digest
    path.write_text(path.read_text() + "# another text\n")
    assert read_method(path).digest != before


def test_how_many_domains_a_method_needs_is_read_without_running_it(tmp_path: Path) -> None:
    assert read_method(write(tmp_path, HEADER + BODY)).least_domains == 1
    changed = BODY.replace("    rate", "    least_domains: ClassVar[int] = 2\n    adapt: bool = False\n    rate")
    method = read_method(write(tmp_path, HEADER + changed))
    assert method.least_domains == 2
    assert method.adapts(method.defaults("default") | {"adapt": True})
    assert not method.adapts(method.defaults("default"))
    assert method.lack({"adapt": False}, 2) is None
    assert method.lack({"adapt": True}, 1) is None
    assert method.lack({"adapt": False}, 1) == (
        "mine compares domains and does nothing with one, it needs two; train on several sources "
        "(--protocol leave-one-out), or give it unlabelled images of the target (--protocol adaptation)"
    )


def test_the_paper_of_a_method_is_read_from_its_first_lines() -> None:
    papers = {path.stem: read_method(path).paper for path in sorted((ROOT / "methods").glob("*.py"))}
    assert [name for name, paper in papers.items() if paper is None] == ["keep_and_train"]  # a method of this project
    cafe, adapter = papers["cafe"], papers["clip_adapter"]
    assert cafe is not None
    assert (cafe.authors, cafe.title, cafe.venue) == (
        "Zhang et al.",
        "Generalizable Facial Expression Recognition",
        "ECCV 2024",
    )
    assert adapter is not None
    assert adapter.short == "arXiv 2021"


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("cafe", "images"),
        ("linear_probe", "frozen features"),
        ("zero_shot", "frozen features; a backbone with a text tower"),
        ("coral", "images; two sources, or unlabelled target images"),
        ("irm", "images"),
        ("vrex", "images; two sources, or pseudo-domains"),
    ],
)
def test_what_a_method_needs_is_said(name: str, needs: str) -> None:
    assert read_method(ROOT / "methods" / f"{name}.py").requirements == needs


@pytest.mark.parametrize(
    ("encoding", "first"), [("utf-8-sig", ""), ("utf-8", ""), ("latin-1", "# -*- coding: latin-1 -*-\n")]
)
def test_a_method_file_may_have_any_encoding_that_python_reads(tmp_path: Path, encoding: str, first: str) -> None:
    path = tmp_path / "mine.py"
    text = first + HEADER.replace("One line", "Café") + BODY
    path.write_text(text, encoding=encoding, newline="\r\n")
    method = read_method(path)
    assert method.about == "Café about it."
    assert method.parameters[0].about == "which encoder"
    defaults = {parameter.name: parameter.default for parameter in method.parameters}
    assert type(load_method(path, "Mine", defaults)).__name__ == "Mine"


def test_a_method_file_in_no_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_bytes(b"# caf\xe9\n" + (HEADER + BODY).encode())
    with pytest.raises(BenchError, match=r"mine\.py: cannot be read"):
        read_method(path)


def test_a_group_is_read_inherited_and_checked(tmp_path: Path) -> None:
    assert read_method(ROOT / "methods" / "coral.py").group == "several sources"
    assert read_method(ROOT / "methods" / "miro.py").group == "domain generalization"
    text = '@dataclass\nclass Mine(Method):\n    group = "{}"\n    def fit(self, source, ctx): ...\n'
    path = tmp_path / "mine.py"
    path.write_text(text.format("online"))
    assert read_method(path).group == "online"
    path.write_text(text.format("onlin"))
    with pytest.raises(BenchError, match=r"mine.py: group of Mine: 'onlin' is unknown; did you mean online\?"):
        read_method(path)


def test_every_shipped_method_has_a_group() -> None:
    methods = [read_method(path) for path in sorted((ROOT / "methods").glob("*.py"))]
    assert [method.name for method in methods if not method.group] == []


def test_every_class_variable_and_logged_option_is_a_reserved_name() -> None:
    annotated = {**Method.__annotations__, **GradientMethod.__annotations__}
    variables = {name for name, kind in annotated.items() if str(kind).startswith("ClassVar")}
    assert variables <= set(reserved.CLASS_VARIABLES)
    logged = {"seed", "fraction", "version", "numerics", "precision", "views", "prior", "selection", "profile", "suite"}
    assert logged <= {*reserved.OPTIONS, *reserved.CLASS_VARIABLES}


@pytest.mark.parametrize("value", ["-" * 200_000 + "1", "a" + ".a" * 200_000])
def test_an_expression_that_python_cannot_parse_is_one_sentence(value: str, tmp_path: Path) -> None:
    path = tmp_path / "long.py"
    path.write_text(f"x = {value}\n")
    with pytest.raises(BenchError, match=r"long\.py: this method file has an expression that is too long for Python"):
        read_method(path)
