"""Parameters of the type File: the content of the file is part of a run, and its path is not."""

from __future__ import annotations

from typing import Any

import pytest

from conftest import Bench
from fergen_bench.error import BenchError
from fergen_bench.execution import fleet
from fergen_bench.execution import plan as planning
from fergen_bench.experiment.outline import Request, outline
from fergen_bench.experiment.project import Project
from fergen_bench.experiment.protocol import Protocol
from fergen_bench.experiment.run import Run
from fergen_bench.records.counting import load_all

METHOD = '''"""Reads a number from a file."""
from dataclasses import dataclass
import torch
from fergen_bench import File, Method
@dataclass
class Own(Method):
    numbers: File{optional} = {default!r}  # which expression is always predicted
    kind: str = "mean"
    def fit(self, source, ctx):
        self.which = int(open(self.numbers).read()) if self.numbers else 0
    def predict(self, images):
        return torch.eye(7)[[self.which] * len(images)]
'''
RUN = ("run", "--method", "own", "--sources", "web", "--targets", "web", "--seeds", "0", "--no-track", "--jobs", "0")


def write(project: Project, default: str | None = None, text: str = METHOD) -> None:
    (project.root / "methods").mkdir(exist_ok=True)
    optional = " | None" if default is None else ""
    (project.root / "methods" / "own.py").write_text(text.format(default=default, optional=optional))


def outlined(project: Project, settings: dict[str, Any] | None = None, **protocol: Any) -> Run:
    """The first run of a protocol that stands in protocols/mine.yaml."""
    asked = Protocol.model_validate({"about": "x", "sources": ["web"], "targets": ["web"], "seeds": [0], **protocol})
    place = str(project.root / "protocols" / "mine.yaml")
    methods = [project.method("own")]
    return (
        outline(asked, place, project.suite("synth5-tiny"), methods, Request(settings=settings or {})).outlines[0].run
    )


def test_other_content_is_another_run_and_another_path_is_not(project: Project, bench: Bench) -> None:
    write(project)
    (project.root / "w.txt").write_text("3")
    (project.root / "copy.txt").write_text("3")
    assert bench(*RUN, "--set", "numbers=w.txt").code == 0
    assert "Nothing to do" in bench(*RUN, "--set", "numbers=w.txt").err
    assert "Nothing to do" in bench(*RUN, "--set", f"numbers={project.root / 'copy.txt'}").err
    (project.root / "w.txt").write_text("4")
    again = bench(*RUN, "--set", "numbers=w.txt")
    assert "1 run done" in again.err
    records, faults = load_all(project.results / "runs")
    assert (len(records), faults) == (2, [])
    predicted = {sum(row[3] for row in entry.cells[0].confusion) > 0: entry.spec for entry in records}
    assert {spec.label for spec in predicted.values()} == {"own (numbers=w.txt@4e0740)", "own (numbers=w.txt@4b2277)"}
    assert predicted[True].weights == {"numbers": "4e07408562bedb8b"}  # SHA-256 of "3"
    assert predicted[True].identity()["parameters"] == {"numbers": "file", "kind": "mean"}
    assert str(project.root) not in bench("list", "own").out


def test_relative_paths_begin_where_they_are_written(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, "near.txt")
    (project.root / "protocols").mkdir()
    (project.root / "elsewhere").mkdir()
    for place in ("methods/near.txt", "protocols/near.txt", "elsewhere/near.txt"):
        (project.root / place).write_text(place)
    monkeypatch.chdir(project.root / "elsewhere")
    runs = {
        "methods": outlined(project),
        "protocols": outlined(project, variants={"a": {"numbers": "near.txt"}}),
        "elsewhere": outlined(project, {"numbers": "./near.txt"}),
    }
    for folder, run in runs.items():
        assert run.parameters["numbers"] == (project.root / folder / "near.txt").as_posix()
    assert len({run.weights["numbers"] for run in runs.values()}) == 3
    assert outlined(project, method={"own": {"numbers": "near.txt"}}).weights == runs["protocols"].weights


@pytest.mark.parametrize("default", ["", None])
def test_a_file_may_be_none(default: str | None, project: Project) -> None:
    write(project, default)
    run = outlined(project)
    assert run.weights == {}
    assert run.parameters["numbers"] == default


@pytest.mark.parametrize(
    ("settings", "protocol", "message"),
    [
        ({"numbers": "none.txt"}, {}, r"^--set: numbers: /.*/none\.txt does not exist; correct the path$"),
        ({"numbers": "methods"}, {}, r"^--set: numbers: /.*/methods is a folder; name one file$"),
        ({}, {"variants": {"a": {"numbers": "x.txt"}}}, r"mine\.yaml: variants\.a: numbers: /.*/protocols/x\.txt does"),
        ({}, {}, r"own\.py: numbers: /.*/methods/gone\.txt does not exist"),
        ({"numbers": 3}, {}, "--set: numbers takes File, not 3"),
    ],
)
def test_a_file_that_is_not_there_is_named_with_its_place(
    settings: dict[str, Any], protocol: dict[str, Any], message: str, project: Project
) -> None:
    write(project, "gone.txt")
    with pytest.raises(BenchError, match=message):
        outlined(project, settings, **protocol)


@pytest.mark.parametrize(
    ("value", "refused"),
    [
        *(("w.txt", True), ("./w.txt", True), ("sub/w", True), ("{root}/w.txt", True), ("beside.txt", True)),
        *(("mean", False), ("sub", False), ("a photo of a face.", False), ("x/y", False), ("a" * 5000 + ".b", False)),
    ],
)
def test_a_plain_text_that_is_a_file_is_refused_with_the_type_to_write(
    value: str, refused: bool, project: Project
) -> None:
    write(project)
    (project.root / "sub").mkdir()
    for name in ("w.txt", "mean", "sub/w", "methods/beside.txt"):
        (project.root / name).write_text("0")
    value = value.format(root=project.root)
    if not refused:
        assert outlined(project, {"kind": value}).parameters["kind"] == value
        return
    with pytest.raises(BenchError) as caught:
        outlined(project, {"kind": value})
    assert str(caught.value) == (
        f"--set: kind: {value!r} is a file, and the type str keeps its content out of the key of the run; write `kind: "
        f"File` in {project.root / 'methods' / 'own.py'} (from fergen_bench import File)"
    )


def test_a_plain_default_that_is_a_file_is_refused(project: Project) -> None:
    write(project, None, METHOD.replace('kind: str = "mean"', 'kinds: tuple[str, ...] = ("beside.txt",)'))
    (project.root / "methods" / "beside.txt").write_text("0")
    with pytest.raises(BenchError, match=r"own\.py: kinds: 'beside\.txt' is a file, and the type tuple\[str, \.\.\.\]"):
        outlined(project)


def test_several_files_in_one_parameter_are_refused(project: Project) -> None:
    write(project, None, METHOD.replace('kind: str = "mean"', "kinds: tuple[File, ...] = ()"))
    with pytest.raises(BenchError, match=r"File stands alone or with \| None; give each file a parameter of its own"):
        project.method("own")


def test_a_file_that_changes_between_plan_and_run_ends_the_run(project: Project) -> None:
    write(project)
    file = project.root / "w.txt"
    file.write_text("3")
    asked = Protocol.model_validate({"about": "x", "sources": ["web"], "targets": ["web"], "seeds": [0]})
    suite, methods = project.suite("synth5-tiny"), [project.method("own")]
    planned = outline(asked, "p.yaml", suite, methods, Request(settings={"numbers": str(file)}))
    plan = planning.make_plan(project, planned, planning.PlanOptions())
    file.write_text("44")
    engine = fleet.Fleet(0).engine("cpu", 1, project.results)
    engine.start(plan.missing[0], lambda job, message: None)
    (outcome,) = engine.ended(None)
    assert outcome.record is None
    assert outcome.refused == f"{file}: this file, named by numbers, was changed after the runs were planned; run again"


def test_a_replay_takes_the_same_content_from_another_path(project: Project, bench: Bench) -> None:
    write(project)
    (project.root / "w.txt").write_text("3")
    assert bench(*RUN, "--set", "numbers=w.txt").code == 0
    (record,) = project.results.glob("runs/*/own/*.json")
    (project.root / "w.txt").rename(project.root / "moved.txt")
    assert "w.txt does not exist; correct the path" in bench("run", "--replay", str(record)).err
    replayed = bench("run", "--replay", str(record), "--set", "numbers=moved.txt")
    assert replayed.code == 0, replayed.err
    assert "Equal: every confusion matrix is that of the record." in replayed.out
    (project.root / "moved.txt").write_text("4")
    other = bench("run", "--replay", str(record), "--set", "numbers=moved.txt")
    assert "was made with 4e07408562bedb8b as numbers, and" in other.err


def test_a_plan_without_the_file_that_a_method_needs_is_refused(project: Project) -> None:
    needing = METHOD.replace("    numbers:", '    needs = ("file",)\n    numbers:')
    write(project, default="", text=needing)
    with pytest.raises(BenchError, match=r"the method own needs a file; name it with --set numbers=FILE"):
        outlined(project)
    (project.root / "w.txt").write_text("3")
    assert outlined(project, {"numbers": str(project.root / "w.txt")}).weights
    assert project.method("own").requirements == "a file of trained weights"
