"""From a plan to records: workers, failures, resuming, and the same numbers however a run is run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fergen_bench.data.domain import Domain
from fergen_bench.data.prepared import write_prepared
from fergen_bench.data.source import open_source
from fergen_bench.datasets.audit import Comparison, Comparisons, How, Pair, Side, State
from fergen_bench.error import BenchError
from fergen_bench.execution import fleet, run_plan
from fergen_bench.execution import plan as planning
from fergen_bench.execution.engine import Outcome, in_method
from fergen_bench.execution.local import InProcess, Local
from fergen_bench.experiment.outline import Request, outline
from fergen_bench.experiment.project import Project, find_project
from fergen_bench.experiment.protocol import Protocol
from fergen_bench.records import counting, record, store
from fergen_bench.records.record import RunRecord

METHOD = '''"""A method for tests."""
from dataclasses import dataclass
import os, time
import torch
from fergen_bench import Method
@dataclass
class Probe(Method):
    kind: str = "fine"
    def fit(self, source, ctx):
        print("methods may print")
        ctx.save_array("noise", torch.arange(3))
        if self.kind == "huge": ctx.save_array("huge", torch.zeros(2**22, 2))
        self.noise = torch.rand(7, generator=ctx.generator("noise")) + torch.rand(7)
        if self.kind == "error": raise RuntimeError("it broke")
        if self.kind == "killed": os.kill(os.getpid(), 9)
        if self.kind == "slow": time.sleep(60)
    def predict(self, images):
        logits = images.float().mean((2, 3)) @ torch.ones(3, 7) * self.noise
        if self.kind == "nan": logits[0, 0] = float("nan")
        if self.kind == "shape": logits = logits[:, :6]
        if self.kind == "whole": logits = (100 * logits).long()
        return logits
    def inspect(self, images):
        return {"colour": images.float().mean((2, 3))}
'''


@pytest.fixture
def lab(project: Project) -> Project:
    folder = project.root / "methods"
    folder.mkdir()
    (folder / "probe.py").write_text(METHOD)
    return project


def make_plan(
    project: Project, changes: dict[str, Any] | None = None, protocol: dict[str, Any] | None = None, **options: Any
) -> planning.Plan:
    suite = project.suite("synth5-tiny")
    asked = Protocol.model_validate(
        {"about": "x", "sources": ["web", "film"], "targets": ["web", "film"], "seeds": [0], **(protocol or {})}
    )
    planned = outline(
        asked, "p.yaml", suite, [project.method(options.pop("method", "probe"))], Request(settings=changes or {})
    )
    return planning.make_plan(project, planned, planning.PlanOptions(**options))


def execute(plan: planning.Plan, project: Project, slots: int) -> list[tuple[Outcome, RunRecord | None]]:
    ended: list[tuple[Outcome, RunRecord | None]] = []
    engine = fleet.Fleet(slots).engine("cpu", 100, project.results)
    run_plan.execute(
        plan, project, engine, lambda job, message: None, lambda outcome, entry: ended.append((outcome, entry))
    )
    return ended


def test_workers_and_one_process_give_the_same_numbers(lab: Project) -> None:
    plan = make_plan(lab)
    apart = {entry.spec.key: entry for _, entry in execute(plan, lab, 2) if entry}
    logits = {key: np.load(entry.spec.path(lab.results / "runs").with_suffix(".npz")) for key, entry in apart.items()}
    together = {entry.spec.key: entry for _, entry in execute(plan, lab, 0) if entry}
    assert set(apart) == set(together) == {job.spec.key for job in plan.runs}
    for key, entry in together.items():
        assert entry.cells == apart[key].cells
        again = np.load(entry.spec.path(lab.results / "runs").with_suffix(".npz"))
        for target in again:
            np.testing.assert_array_equal(logits[key][target], again[target])


def test_what_a_method_saves_and_what_its_faces_come_to_stand_beside_the_record(lab: Project) -> None:
    plan = make_plan(lab, protocol=WEB)
    execute(plan, lab, 0)
    job = plan.runs[0]
    arrays = store.RecordFile.open(job.spec.path(lab.results / "runs")).arrays()
    np.testing.assert_array_equal(arrays["noise"], [0, 1, 2])
    split = Domain(Path(job.folders["web"])).exam("official", True)
    faces = split.faces(slice(0, len(split))).float().mean((2, 3)).numpy()
    expected = [faces[split.labels == place].mean(0) for place in range(7)]
    np.testing.assert_allclose(arrays["web.colour.mean"], expected, rtol=1e-3)
    np.testing.assert_array_equal(arrays["web.colour.count"], np.bincount(split.labels))
    column = arrays["web.colour.varying"][0]
    assert column == faces.var(0).argmax()
    assert arrays["web.colour.top"][0, 0] == faces[:, column].argmax()
    predictions = store.RecordFile.open(job.spec.path(lab.results / "runs")).predictions()["web"]
    np.testing.assert_array_equal(predictions.labels, split.labels)


@pytest.mark.parametrize(
    ("selection", "learned", "kept"),
    [("source-val", "fit", True), ("source-val", "train", False), ("last", "fit", False)],
)
def test_held_out_faces_are_kept_where_they_were_not_learned_from(
    lab: Project, selection: str, learned: str, kept: bool
) -> None:
    file = lab.root / "methods" / "probe.py"
    file.write_text(METHOD.replace('print("methods', f'source.{learned}; print("methods'))
    plan = make_plan(lab, protocol=WEB | {"selection": selection})
    ((_, entry),) = execute(plan, lab, 0)
    assert entry is not None
    found = store.RecordFile.open(entry.spec.path(lab.results / "runs")).predictions()
    assert (record.HELD_OUT in found) == kept
    if kept:
        source = open_source([Domain(Path(plan.runs[0].folders["web"]))], seed=0)
        np.testing.assert_array_equal(found[record.HELD_OUT].labels, source.val.labels)


def test_a_method_cannot_fill_the_disk(lab: Project) -> None:
    ((outcome, _),) = execute(make_plan(lab, {"kind": "huge"}, WEB), lab, 0)
    assert "16 MB at most" in (outcome.refused or "")


def test_a_record_says_what_happened(lab: Project) -> None:
    plan = make_plan(lab, protocol={"sources": ["web"]})
    ((_, entry),) = execute(plan, lab, 1)
    assert entry is not None
    assert [cell.relation for cell in entry.cells] == ["source", "unseen"]
    assert [cell.count for cell in entry.cells] == [100, 100]
    assert entry.environment["threads"] == 1
    assert entry.environment["torch"]
    assert entry.method_digest == lab.method("probe").digest
    assert set(entry.seconds) == {"fit", "score"}


def test_what_has_a_record_is_not_run_again(lab: Project) -> None:
    execute(make_plan(lab), lab, 2)
    assert make_plan(lab).missing == ()
    assert len(make_plan(lab, rerun=True).missing) == 2
    assert len(make_plan(lab, changes={"kind": "other"}).missing) == 2
    wider = make_plan(lab, protocol={"targets": ["web", "film", "wild"]})
    assert len(wider.missing) == 2


def test_shards_share_a_plan_without_overlap(lab: Project) -> None:
    whole = [job.spec.key for job in make_plan(lab, protocol={"seeds": [0, 1, 2]}).runs]
    parts = [
        [job.spec.key for job in make_plan(lab, protocol={"seeds": [0, 1, 2]}, shard=(i, 4)).runs] for i in (1, 2, 3, 4)
    ]
    assert sorted(key for part in parts for key in part) == sorted(whole)


@pytest.mark.parametrize("slots", [0, 1])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nan", "probe.py: predict returned NaN or infinite logits on web"),
        ("shape", "probe.py: predict must return logits of the shape (100, 7), not (100, 6)"),
        ("whole", "probe.py: predict must return floating-point logits, not torch.int64"),
    ],
)
def test_wrong_logits_are_refused(lab: Project, kind: str, message: str, slots: int) -> None:
    ended = execute(make_plan(lab, {"kind": kind}), lab, slots)
    assert message in (ended[0][0].refused or "")
    assert make_plan(lab, {"kind": kind}).missing


@pytest.mark.parametrize("slots", [0, 1])
def test_what_every_run_would_meet_is_met_once(lab: Project, slots: int) -> None:
    ended = execute(make_plan(lab, {"kind": "shape"}, {"seeds": [0, 1, 2]}), lab, slots)
    assert len(ended) == 1


def test_what_one_run_meets_does_not_stop_the_others(lab: Project) -> None:
    ended = execute(make_plan(lab, {"kind": "nan"}, {"seeds": [0, 1]}), lab, 0)
    assert len(ended) == 4


def test_a_subset_of_targets_does_not_lose_the_others(lab: Project) -> None:
    runs = lab.results / "runs"
    first = make_plan(lab, protocol={"sources": ["web"], "targets": ["web", "film"]})
    execute(first, lab, 0)
    again = make_plan(lab, protocol={"sources": ["web"], "targets": ["grey48"]})
    assert list(again.missing[0].spec.targets) == ["web", "grey48", "film"]
    execute(again, lab, 0)
    found = store.find(first.runs[0].spec, runs)
    assert found is not None
    assert [cell.target for cell in found.cells] == ["web", "grey48", "film"]
    assert not make_plan(lab, protocol={"sources": ["web"], "targets": ["film"]}).missing


def write_audit(project: Project, near: int, *targets: str, part: str = "train") -> None:
    """Comparisons by which the first faces of the targets' test splits have near-duplicates in faces of web."""
    suite, store = project.suite("synth5-tiny"), Comparisons(project.comparisons)
    opened = {name: Domain(folder) for name, folder in project.prepared(suite, ["web", *targets]).items()}
    states = {name: State(name, one.fingerprint, {"train": 300, "test": 100}) for name, one in opened.items()}
    for name in targets:
        ids = opened[name].ids[opened[name].rows("test")].tolist()
        sides = [(states[name], states["web"])]
        pairs = [(Side("test", place, ids[place]), Side(part, place % 100, "x")) for place in range(near)]
        if states[name].fingerprint > states["web"].fingerprint:
            sides, pairs = [(states["web"], states[name])], [(other, one) for one, other in pairs]
        found = tuple(Pair(*pair, "near", 2, 0.99) for pair in pairs)
        store.add(Comparison(*sides[0], How("x", 0.96, 6), (), found))


WEB = {"sources": ["web"], "targets": ["web", "film"]}


def faces_scored(project: Project, plan: planning.Plan) -> list[int]:
    found = store.find(plan.runs[0].spec, project.results / "runs")
    assert found is not None
    return [cell.count for cell in found.cells]


def counted(project: Project, records: Iterable[RunRecord], include: bool = False) -> list[RunRecord]:
    return counting.counted(records, project, project.results / "runs", include)[0]


def stored(project: Project, plan: planning.Plan) -> RunRecord:
    found = store.find(plan.runs[0].spec, project.results / "runs")
    assert found is not None
    return found


def test_near_duplicates_are_left_out_by_counting_again_and_a_dry_run_counts_nothing(lab: Project) -> None:
    plan = make_plan(lab, protocol=WEB)
    execute(plan, lab, 0)
    whole = stored(lab, plan)
    write_audit(lab, 3, "film")
    dry = make_plan(lab, protocol=WEB, dry_run=True)
    assert dry.missing == ()
    assert dry.notes[-1].startswith("1 record would be counted again from stored predictions, without near-duplicates")
    assert faces_scored(lab, plan) == [100, 100]
    again = make_plan(lab, protocol=WEB)
    assert again.missing == ()
    assert faces_scored(lab, plan) == [100, 97]
    assert again.recounted[0].spec.excluded == again.runs[0].spec.excluded
    (cell,) = counted(lab, again.recounted)[0].cells[1:]
    assert (cell.relation, cell.mark, cell.count) == ("unseen", "3 left out", 97)
    predictions = store.RecordFile.open(plan.runs[0].spec.path(lab.results / "runs")).predictions()["film"]
    right = predictions.logits.argmax(1) == predictions.labels
    assert np.trace(cell.confusion) == right[3:].sum()
    assert make_plan(lab, protocol=WEB).recounted == ()
    everything = make_plan(lab, protocol=WEB, include_near_duplicates=True)
    assert everything.notes[-1] == "1 record was counted again from stored predictions, on all images of their targets"
    assert stored(lab, plan).cells == whole.cells


def test_a_report_after_a_later_audit_leaves_its_near_duplicates_out_too(lab: Project) -> None:
    plan = make_plan(lab, protocol=WEB)
    execute(plan, lab, 0)
    before = stored(lab, plan)
    assert counted(lab, [before])[0].cells[1].mark == ""  # rendered faces are distinct by construction
    write_audit(lab, 3, "film")
    (cell,) = counted(lab, [before])[0].cells[1:]
    assert (cell.relation, cell.mark, cell.count, cell.left_out) == ("unseen", "3 left out", 97, (0, 1, 2))
    assert faces_scored(lab, plan) == [100, 100]  # the file is as it was
    (cell,) = counted(lab, [before], include=True)[0].cells[1:]
    assert (cell.mark, cell.count) == ("3 near-duplicates scored", 100)
    logits = plan.runs[0].spec.path(lab.results / "runs").with_suffix(".npz")
    logits.unlink()
    (cell,) = counted(lab, [before])[0].cells[1:]
    assert (cell.relation, cell.mark, cell.count, cell.uncounted) == ("unseen", "3 near-duplicates scored", 100, 3)


@pytest.mark.parametrize(
    ("near", "share", "mark"),
    [
        (4, 0.05, "4 left out"),
        (5, 0.05, "seen, 5 near-duplicates"),
        (5, 0.06, "5 left out"),
        (1, 0.01, "seen, 1 near-duplicate"),
        (100, 1.0, "seen, 100 near-duplicates"),
    ],
)
def test_a_target_is_seen_from_a_share_of_its_scored_faces_on(lab: Project, near: int, share: float, mark: str) -> None:
    with (lab.root / "bench.toml").open("a") as file:
        file.write(f"seen_share = {share}\n")
    lab = find_project(lab.root)
    plan = make_plan(lab, protocol=WEB)
    execute(plan, lab, 0)
    write_audit(lab, near, "film")
    seen = mark.startswith("seen")
    again = make_plan(lab, protocol=WEB)
    assert faces_scored(lab, again) == [100, 100 if seen else 100 - near]  # a seen target is scored whole
    (cell,) = counted(lab, [stored(lab, again)])[0].cells[1:]
    assert (cell.relation, cell.mark, cell.seen_share) == ("seen" if seen else "unseen", mark, share)


def test_images_shared_with_the_sources_test_split_make_a_target_seen_and_are_no_training_faces(lab: Project) -> None:
    plan = make_plan(lab, protocol=WEB)
    execute(plan, lab, 0)
    write_audit(lab, 3, "film", part="test")
    (cell,) = counted(lab, [stored(lab, plan)])[0].cells[1:]
    assert (cell.relation, cell.mark, cell.count) == ("unseen", "", 100)
    write_audit(lab, 20, "film", part="test")
    (cell,) = counted(lab, [stored(lab, plan)])[0].cells[1:]
    assert (cell.relation, cell.mark, cell.count) == ("seen", "seen, 20 near-duplicates", 100)


def test_targets_that_are_scored_again_with_new_ones_leave_near_duplicates_out_too(lab: Project) -> None:
    write_audit(lab, 3, "film", "wild")
    execute(make_plan(lab, protocol=WEB), lab, 0)
    wider = make_plan(lab, protocol={"sources": ["web"], "targets": ["wild"]})
    execute(wider, lab, 0)
    assert list(wider.runs[0].spec.targets) == ["web", "wild", "film"]
    assert faces_scored(lab, wider) == [100, 97, 97]


def test_without_logits_that_can_be_read_the_run_is_made_again(lab: Project) -> None:
    plan = make_plan(lab, protocol=WEB)
    execute(plan, lab, 0)
    write_audit(lab, 3, "film")
    logits = plan.runs[0].spec.path(lab.results / "runs").with_suffix(".npz")
    logits.write_bytes(logits.read_bytes()[:200])
    assert len(make_plan(lab, protocol=WEB).missing) == 1


@pytest.mark.parametrize("slots", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_method_that_fails_twice_at_one_line_is_given_up(lab: Project, slots: int) -> None:
    everywhere = {"sources": ["web", "film", "wild", "grey48"]}
    ended = execute(make_plan(lab, {"kind": "error"}, everywhere), lab, slots)
    assert len(ended) == 2
    assert len(list((lab.results / "failed").iterdir())) == 2


class Logged(InProcess):
    """Runs whose logs name the line of the method's file that `error` fails at, as a traceback that was caught does."""

    def _run(self, job: Any, listen: Any) -> Outcome:
        caught = (
            f'Traceback (most recent call last):\n  File "{job.method_file}", line 14, in fit\nValueError: caught\n'
        )
        outcome = super()._run(job, listen)
        return replace(outcome, log=caught + outcome.log)


def test_one_failure_after_successes_does_not_give_a_method_up(lab: Project) -> None:
    path = lab.root / "methods" / "probe.py"
    path.write_text(METHOD.replace('self.kind == "error"', "ctx.seed in (2, 5)"))
    assert "ctx.seed in (2, 5): raise" in path.read_text().splitlines()[13]
    plan = make_plan(lab, protocol={"sources": ["web"], "targets": ["web"], "seeds": [0, 1, 2, 3, 4, 5, 6]})
    ended: list[tuple[int, bool]] = []
    run_plan.execute(
        plan,
        lab,
        Logged(),
        lambda job, message: None,
        lambda outcome, entry: ended.append((outcome.job.spec.seed, entry is not None)),
    )
    # Seed 2 is the first failure, and 3 and 4 start; seed 5 is the second at that line, and 6 does not.
    assert ended == [(0, True), (1, True), (2, False), (3, True), (4, True), (5, False)]


def test_a_line_of_an_error_that_was_caught_is_not_where_a_run_failed(lab: Project) -> None:
    job = make_plan(lab).runs[0]
    caught = f'Traceback (most recent call last):\n  File "{job.method_file}", line 3, in fit\nValueError: caught\n'
    elsewhere = 'Traceback (most recent call last):\n  File "runner.py", line 9, in run_one\nRuntimeError: it broke\n'
    here = f'Traceback (most recent call last):\n  File "{job.method_file}", line 14, in fit\nRuntimeError: it broke\n'
    assert in_method(job, caught + elsewhere) == ""
    assert in_method(job, caught + here) == f" ({job.method_file}:14)"


def test_a_method_edited_under_one_version_is_said(lab: Project) -> None:
    execute(make_plan(lab), lab, 0)
    path = lab.root / "methods" / "probe.py"
    path.write_text(METHOD + "# other text\n")
    plan = make_plan(lab)
    assert plan.missing == ()
    assert "2 records were made by another text of probe's file under the same version" in plan.warnings[0]
    more = make_plan(lab, protocol={"sources": ["wild"]})
    assert len(more.missing) == 1
    assert "2 records were made by another text of probe's file" in more.warnings[0], "they would share a row"
    assert not make_plan(lab, {"kind": "other"}, {"sources": ["wild"]}).warnings
    assert not make_plan(lab, rerun=True).warnings


def test_a_method_edited_between_plan_and_run_is_refused(lab: Project) -> None:
    plan = make_plan(lab)
    (lab.root / "methods" / "probe.py").write_text(METHOD + "# other text\n")
    ((outcome, _),) = execute(plan, lab, 0)
    assert "was changed after the runs were planned; run again" in (outcome.refused or "")


def test_a_domain_prepared_anew_between_plan_and_run_is_refused(lab: Project, tmp_path: Path) -> None:
    """Else the numbers of the new faces would stand under the old ones' fingerprint."""
    plan = make_plan(lab, protocol={"sources": ["web"]})
    (job,) = plan.missing
    folder = shutil.copytree(job.folders["film"], tmp_path / "film")
    about = json.loads((folder / "domain.json").read_text())
    (folder / "domain.json").write_text(json.dumps({**about, "fingerprint": "other"}))
    moved = replace(job, folders={**job.folders, "film": str(folder)})
    ((outcome, _),) = execute(replace(plan, missing=(moved,)), lab, 0)
    assert "film was prepared again after the runs were planned; run again" in (outcome.refused or "")


def test_a_source_goes_by_the_name_its_suite_gives_it(lab: Project, tmp_path: Path) -> None:
    """What is drawn by name, such as the hold-out, does not depend on the name it was once prepared under."""
    path = lab.root / "methods" / "probe.py"
    path.write_text(METHOD.replace('RuntimeError("it broke")', "RuntimeError(str(source.names))"))
    plan = make_plan(lab, {"kind": "error"}, {"sources": ["web"]})
    (job,) = plan.missing
    folder = shutil.copytree(job.folders["web"], tmp_path / "copy")
    about = json.loads((folder / "domain.json").read_text())
    (folder / "domain.json").write_text(json.dumps({**about, "name": "copy"}))
    moved = replace(job, folders={**job.folders, "web": str(folder)})
    ((outcome, _),) = execute(replace(plan, missing=(moved,)), lab, 0)
    assert outcome.failure is not None
    assert outcome.failure.startswith("RuntimeError: ('web',)")


def test_a_failing_run_leaves_its_trace_and_the_matrix_goes_on(lab: Project) -> None:
    broken, fine = (
        make_plan(lab, {"kind": "error"}, {"sources": ["web"]}),
        make_plan(lab, protocol={"sources": ["film"]}),
    )
    both = planning.Plan(fine.suite, "test", (*broken.runs, *fine.runs), (*broken.missing, *fine.missing), ())
    ended = execute(both, lab, 1)
    assert [entry is None for _, entry in ended] == [True, False]
    assert ended[0][0].failure == f"RuntimeError: it broke ({lab.root / 'methods' / 'probe.py'}:14)"
    (trace,) = (lab.results / "failed").iterdir()
    assert "in fit" in trace.read_text()
    assert "methods may print" in trace.read_text()
    # A run that then succeeds takes its trace away.
    path = lab.root / "methods" / "probe.py"
    path.write_text(METHOD.replace('raise RuntimeError("it broke")', "pass"))
    execute(make_plan(lab, {"kind": "error"}, {"sources": ["web"]}), lab, 1)
    assert list((lab.results / "failed").iterdir()) == []


def test_a_killed_worker_is_one_failed_run(lab: Project) -> None:
    ((outcome, entry),) = execute(make_plan(lab, {"kind": "killed"}, {"sources": ["web"]}), lab, 1)
    assert entry is None
    assert "SIGKILL" in (outcome.failure or "")


def workers() -> list[int]:
    """Processes of this machine that run a worker and are children of this one."""
    answer = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return [int(line.split()[0]) for line in answer.stdout.splitlines() if "fergen_bench.execution.worker" in line]


def wait_for(condition: Any, seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


def test_leaving_early_ends_the_workers_and_nothing_is_torn(lab: Project) -> None:
    plan = make_plan(lab, {"kind": "slow"})
    started = threading.Event()

    def interrupt(job: Any, message: dict[str, Any]) -> None:
        if message.get("what") == "started":
            started.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan.execute(plan, lab, Local(2), interrupt, lambda outcome, entry: None)
    assert started.is_set()
    assert wait_for(lambda: not workers())
    assert not list((lab.results / "runs").rglob("*"))


def test_a_worker_whose_driver_is_gone_ends(lab: Project, tmp_path: Path) -> None:
    plan = make_plan(lab, {"kind": "slow"}, {"sources": ["web"]})
    job = tmp_path / "job.json"
    job.write_text(json.dumps(plan.runs[0].to_json()))
    process = subprocess.Popen(
        [sys.executable, "-m", "fergen_bench.execution.worker", str(job)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert b"started" in process.stdout.readline()
    process.stdin.close()
    assert process.wait(timeout=30) == 3


def faces_of(domain: Domain, keep: np.ndarray, folder: Path, name: str) -> Path:
    """A prepared domain with some rows of another."""
    lines = (domain.folder / "labels.csv").read_text().splitlines()
    rows = [lines[1 + place].split(",")[:3] for place in keep]
    columns = dict(zip(("id", "expression", "split"), zip(*rows, strict=True), strict=True))
    return write_prepared(folder, name, [domain.faces[keep]], columns, {"profile": "official"})


def test_a_missing_expression_is_refused_in_a_source_and_noted_in_a_target(project: Project, web: Domain) -> None:
    faces_of(web, np.flatnonzero(web.labels != 1), project.root / "part", "part")
    faces_of(web, np.flatnonzero(web.labels >= 0), project.root / "whole", "whole")
    text = (project.root / "bench.toml").read_text()
    tables = '[domains.part]\npath = "part"\n[domains.whole]\npath = "whole"\n'
    suite = '[suites.mine]\ndomains = ["part", "whole"]\nbackbone = "synth"\ntrunk = "synth-trunk"\nrecipe = "small"\n'
    (project.root / "bench.toml").write_text(text + tables + suite)
    lab = find_project(project.root)
    mine, probe = lab.suite("mine"), lab.method("linear_probe")

    def plan(sources: list[str], **options: Any) -> planning.Plan:
        planned = outline(Protocol(about="x", sources=sources), "p", mine, [probe], Request(seeds=[0]))
        return planning.make_plan(lab, planned, planning.PlanOptions(**options))

    with pytest.raises(BenchError, match=r"the source part has no training images of fear; add some, or pass --allow"):
        plan(["part"])
    allowed = plan(["part"], allow_missing_class=True)
    said, audited = allowed.notes
    assert said == "the target part has no images of fear: its balanced accuracy is the mean over the other expressions"
    assert audited.startswith("audited part, whole, which were never compared for near-duplicates: ")
    ((_, entry),) = execute(allowed, lab, 0)
    assert entry is not None
    assert store.find(entry.spec, lab.results / "runs") == entry
    assert plan(["whole"]).notes[:1] == allowed.notes[:1]
