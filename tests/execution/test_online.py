"""Runs of online methods: streams, resets, and the fitted methods that they start from."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from examples import rewritten
from running import FOLLOW, MINE, WEB, execute, make_plan

from conftest import Bench
from fergen_bench.error import BenchError
from fergen_bench.execution.layer import COUNTS
from fergen_bench.execution.plan import Plan
from fergen_bench.execution.replay import replay
from fergen_bench.experiment.project import Project
from fergen_bench.experiment.run import Job
from fergen_bench.progress import silent
from fergen_bench.records.collection import RecordFolder
from fergen_bench.records.pack import pack
from fergen_bench.records.packed import open_records
from fergen_bench.records.record import HELD_OUT, RunRecord
from fergen_bench.records.store import RecordFile, find


@pytest.fixture
def adapting(project: Project) -> Project:
    """Return a project with the methods mine and follow."""
    (project.root / "methods").mkdir()
    (project.root / "methods" / "mine.py").write_text(MINE)
    (project.root / "methods" / "follow.py").write_text(FOLLOW)
    return project


def planned(project: Project, changes: dict[str, Any] | None = None, **options: Any) -> Plan:
    """A plan of follow."""
    protocol = {"sources": ["web"], **options.pop("protocol", {})}
    return make_plan(project, changes, protocol, method="follow", **options)


def ran(project: Project, changes: dict[str, Any] | None = None, **options: Any) -> tuple[RunRecord, dict[str, Any]]:
    """The record of follow and its logits by target."""
    plan = planned(project, changes, **options)
    for outcome, _ in execute(plan, project, 0):
        assert outcome.record is not None, outcome.log
    return kept(project, plan.runs[-1])


def kept(project: Project, job: Job) -> tuple[RunRecord, dict[str, Any]]:
    file = RecordFile.open(job.spec.path(project.results / "runs"))
    return file.record, {name: part.logits for name, part in file.predictions().items()}


def test_the_base_is_trained_first_and_kept_and_then_reused(adapting: Project) -> None:
    plan = planned(adapting)
    assert [job.spec.method for job in plan.missing] == ["mine", "follow"]
    assert any("1 run is trained first, with models kept (mine): follow starts from them" in n for n in plan.notes)
    outcomes = [outcome.job.spec.method for outcome, record in execute(plan, adapting, 0) if record]
    assert outcomes == ["mine", "follow"]
    assert plan.missing[0].spec.model_path(adapting.results / "runs").is_file()
    assert not plan.missing[1].spec.model_path(adapting.results / "runs").exists()
    assert not planned(adapting).missing
    again = planned(adapting, {"stream": "sorted"})
    assert [job.spec.method for job in again.missing] == ["follow"]
    assert not planned(adapting, keep_models=True).missing, "an online method leaves no checkpoint"


def test_a_base_waits_for_its_turn_in_processes(adapting: Project) -> None:
    plan = planned(adapting)
    ended = execute(plan, adapting, 2)
    assert [(outcome.job.spec.method, bool(record)) for outcome, record in ended] == [("mine", True), ("follow", True)]


def test_a_target_alone_and_after_others_in_any_order_has_the_same_numbers(adapting: Project) -> None:
    _, alone = ran(adapting, protocol={"targets": ["film"]})
    _, before = ran(adapting, protocol={"targets": ["film", "web"]}, rerun=True)
    _, after = ran(adapting, protocol={"targets": ["grey48", "web", "film"]}, rerun=True)
    assert (list(alone), set(after) > set(before)) == (["film"], True)
    np.testing.assert_array_equal(before["film"], alone["film"])
    np.testing.assert_array_equal(after["film"], alone["film"])
    np.testing.assert_array_equal(after["web"], before["web"])


def test_predictions_are_in_the_order_of_the_images(adapting: Project) -> None:
    record, logits = ran(adapting, {"weight": 0.0})
    base = record.spec.base
    assert base is not None
    _, expected = kept_base(adapting, record)
    for target in ("web", "film"):
        np.testing.assert_array_equal(logits[target], expected[target])


def kept_base(project: Project, record: RunRecord) -> tuple[RunRecord, dict[str, Any]]:
    assert record.spec.base is not None
    file = RecordFile.open(record.spec.base.path(project.results / "runs"))
    return file.record, {name: part.logits for name, part in file.predictions().items()}


def test_stream_base_and_seed_are_in_key_record_and_label(adapting: Project) -> None:
    plans = [
        planned(adapting),
        planned(adapting, {"stream": "sorted"}),
        planned(adapting, {"stream_batch": 8}),
        planned(adapting, {"base": "mine shift=1.5"}),
        planned(adapting, protocol={"seeds": [1]}),
    ]
    specs = [plan.runs[-1].spec for plan in plans]
    assert len({spec.key for spec in specs}) == 5
    assert [spec.label for spec in specs[:4]] == [
        "follow",
        "follow (stream=sorted)",
        "follow (stream_batch=8)",
        "follow (base=mine (shift=1.5))",
    ]
    bases = [spec.base for spec in specs]
    assert [base and base.seed for base in bases] == [0, 0, 0, 0, 1]
    assert bases[0] is not None
    assert bases[0].key == plans[0].runs[0].spec.key
    record, _ = ran(adapting, {"stream": "sorted", "stream_batch": 8})
    assert (record.spec.online, record.spec.parameters["stream_batch"]) == (True, 8)
    assert record.spec.base == bases[0]
    assert find(record.spec, adapting.results / "runs") == record


def test_held_out_images_are_a_stream_where_the_base_left_them_alone(adapting: Project) -> None:
    _, logits = ran(adapting, {"stream_batch": 8}, protocol={"selection": "source-val"})
    assert HELD_OUT not in logits, "mine learns from all training images"
    text = MINE.replace("source.train", "source.fit")
    (adapting.root / "methods" / "careful.py").write_text(text)
    _, logits = ran(adapting, {"stream_batch": 8, "base": "careful"}, protocol={"selection": "source-val"})
    assert len(logits[HELD_OUT])


def test_a_corruption_is_a_stream_of_its_own(adapting: Project) -> None:
    shifts = {"shifts": {"factors": {"blur": [1]}, "targets": "all", "faces": 64}}
    together, _ = ran(adapting, protocol=shifts)
    alone, _ = ran(adapting, protocol={**shifts, "targets": ["film"], "sources": ["web"]}, rerun=True)
    cells = [{c.shift: c.confusion for c in record.shifted if c.target == "film"} for record in (together, alone)]
    assert cells[0] == cells[1] != {}


def test_both_views_are_left_out_with_a_note_and_a_prior_is_taken_out(adapting: Project) -> None:
    plan = planned(adapting, protocol={"views": ["plain", "mirror"], "prior": 0.5})
    assert any("views plain+mirror are not applied to follow" in note for note in plan.notes)
    spec = plan.runs[-1].spec
    assert (spec.views, spec.prior, spec.base and spec.base.prior) == (("plain",), 0.5, 0.0)
    execute(plan, adapting, 0)
    _, with_prior = kept(adapting, plan.runs[-1])
    _, without = ran(adapting)
    assert np.ptp((with_prior["film"] - without["film"]).std(0)) < 1e-2
    assert np.abs(with_prior["film"] - without["film"]).max() > 0.1


@pytest.mark.parametrize("alike", [True, False])
def test_a_prior_is_that_which_the_base_learned(
    adapting: Project, monkeypatch: pytest.MonkeyPatch, alike: bool
) -> None:
    even = MINE.replace("self.counts.expand(len(images), 7)", "torch.zeros(len(images), 7)")
    declared = f"    @property\n    def sources_alike(self):\n        return {alike}\n    def fit"
    (adapting.root / "methods" / "several.py").write_text(even.replace("    def fit", declared))
    # The sources of synth5-tiny have as many images each, so both ways of counting give the same frequencies.
    counts = {True: torch.arange(1, 8).double(), False: torch.arange(8, 1, -1)}
    monkeypatch.setattr("fergen_bench.execution.layer.class_counts", lambda split, alike: counts[alike])
    protocol = {"domains": ["web", "film", "grey48"], "sources": "all-but-target", "targets": ["grey48"], "prior": 0.5}
    record, logits = ran(adapting, {"base": "several", "weight": 0.0}, protocol=protocol)
    assert record.spec.sources == ("film", "web")
    stored = RecordFile.open(record.spec.path(adapting.results / "runs")).arrays()[COUNTS]
    np.testing.assert_array_equal(stored, counts[alike])
    expected = -0.5 * np.log(stored)
    np.testing.assert_allclose(logits["grey48"][0], expected - expected.max(), atol=1e-3)


def test_a_prior_is_left_out_with_a_note_where_the_base_learned_none(adapting: Project) -> None:
    path = adapting.root / "methods" / "even.py"
    path.write_text(MINE.replace("    shift: float", "    learns_prior = False\n    shift: float"))
    plan = planned(adapting, {"base": "even"}, protocol={"prior": 0.5})
    assert plan.runs[-1].spec.prior == 0.0
    assert any("prior 0.5 is not applied to follow: its base is even, and its logits" in n for n in plan.notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": "min"}, r"--set: base: no method 'min' .*did you mean mine"),
        ({"base": "follow"}, r"--set: base: follow is itself online, and a base is a method that is fitted"),
        ({"base": "' '"}, r"--set: base: no method ''"),
        ({"base": "mine 3"}, r"--set: base: '3' is not a setting; write the name of a method, then NAME=VALUE"),
        ({"base": "mine shft=3"}, r"--set: base: the method mine has no parameter 'shft'; did you mean shift"),
        ({"base": "coral adapt=true"}, r"base: coral adapts to one target .* write coral adapt=false"),
        ({"stream_batch": 0}, r"follow: stream_batch is 0; it takes 1 or more"),
        (
            {"stream_batch": 500},
            r"the stream of web has 100 images, fewer than one batch of follow, 500; lower it with",
        ),
        ({"stream": "random"}, r"--set: stream is 'random'; use 'shuffled' or 'sorted'"),
    ],
)
def test_bad_input_is_refused_in_the_plan(
    adapting: Project, bench: Bench, changes: dict[str, Any], message: str
) -> None:
    settings = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
    result = bench("run", "-m", "follow", "--sources", "web", "--seeds", "0", "--jobs", "0", "--dry-run", *settings)
    assert result.code == 2
    assert len(result.err.strip().splitlines()) == 1
    assert re.search(message, result.err), result.err


@pytest.mark.parametrize(
    ("method", "setting", "message"),
    [
        ("tent", "steps=0", "steps is 0; it takes 1 or more"),
        ("tent", "learning_rate=-0.1", "learning_rate is -0.1; it must be above 0"),
        ("sar", "momentum=1.0", "momentum is 1; it must be 0 or more, and less than 1"),
        ("sar", "rho=-1.0", "rho is -1; it must be 0 or more"),
        ("sar", "margin=0.0", "margin is 0; it must be above 0"),
        ("sar", "recovery=-0.1", "recovery is -0.1; it must be 0 or more"),
        ("t3a", "supports=0", "supports is 0; it takes 1 or more"),
    ],
)
def test_a_value_that_no_stream_starts_with_is_refused_in_the_plan(
    project: Project, bench: Bench, method: str, setting: str, message: str
) -> None:
    web = ("--sources", "web", "--seeds", "0", "--dry-run")
    result = bench("run", "-m", method, *web, "--set", setting)
    assert (result.code, result.err) == (2, f"fergen-bench: --set: {method}: {message}\n")
    if method == "t3a":
        assert bench("run", "-m", method, *web, "--set", "supports=null").code == 0


def test_a_base_that_was_not_kept_is_refused_and_trained_again_on_request(adapting: Project) -> None:
    execute(planned(adapting), adapting, 0)
    base = planned(adapting).runs[-1].spec.base
    assert base is not None
    base.model_path(adapting.results / "runs").unlink()
    assert not planned(adapting).missing, "a complete run needs no base"
    with pytest.raises(BenchError, match=r"follow starts from the checkpoint of this run, mine on web, seed 0, which"):
        planned(adapting, {"stream": "sorted"})
    plan = planned(adapting, {"stream": "sorted"}, keep_models=True)
    assert [job.spec.method for job in plan.missing] == ["mine", "follow"]


def test_a_base_among_offered_records_is_trained_since_records_have_no_checkpoint(adapting: Project) -> None:
    execute(planned(adapting), adapting, 0)
    runs = adapting.results / "runs"
    packed = adapting.root / "packed"
    pack(RecordFolder(runs), packed)
    shutil.rmtree(runs)
    plan = planned(adapting, {"stream": "sorted"}, offered=open_records(packed))
    assert [job.spec.method for job in plan.missing] == ["mine", "follow"]
    assert all(record is not None for _, record in execute(plan, adapting, 0))
    assert plan.missing[0].spec.model_path(runs).is_file()


def test_a_planned_base_among_offered_records_is_trained_in_the_same_command(adapting: Project, bench: Bench) -> None:
    execute(make_plan(adapting, protocol=WEB, method="mine"), adapting, 0)
    pack(RecordFolder(adapting.results / "runs"), adapting.root / "packed")
    shutil.rmtree(adapting.results / "runs")
    web = ("--sources", "web", "--targets", "web,film", "--seeds", "0", "--jobs", "0", "--no-track")
    done = bench("run", "-m", "mine", "-m", "follow", *web, "--records", "packed")
    assert done.code == 0, done.err
    assert "1 run is trained first, with models kept (mine)" in done.err
    assert "Nothing to do" in bench("run", "-m", "mine", "-m", "follow", *web).err


def edit_base(adapting: Project) -> None:
    """Change the text of the base's file, and nothing that it does."""
    (adapting.root / "methods" / "mine.py").write_text(MINE + "# edited\n")


def test_the_text_of_the_base_is_recorded_and_an_edited_one_is_noticed(adapting: Project) -> None:
    first, _ = ran(adapting)
    assert first.base_digest == adapting.method("mine").digest
    assert first.method_digest == adapting.method("follow").digest
    edit_base(adapting)
    warning = "record was made by another text of mine's file under the same version"
    assert any(f"1 {warning}" in said for said in planned(adapting).warnings)
    plan = planned(adapting, {"stream": "sorted"})
    assert any(f"1 {warning}" in said for said in plan.warnings), "its checkpoint is that of the other text"
    execute(plan, adapting, 0)
    mixed, _ = kept(adapting, plan.runs[-1])
    assert mixed.base_digest not in ("", first.base_digest, adapting.method("mine").digest)
    assert mixed.spec.base == first.spec.base


def test_a_base_that_is_edited_after_the_plan_is_refused(adapting: Project) -> None:
    execute(planned(adapting), adapting, 0)
    plan = planned(adapting, {"stream": "sorted"})
    edit_base(adapting)
    ((outcome, _),) = execute(plan, adapting, 0)
    assert "mine.py: this method file, or a shipped method that it imports, differs from" in (outcome.refused or "")


def test_packing_takes_rows_of_one_text_of_the_base_and_those_that_do_not_name_it(
    adapting: Project, tmp_path: Path, bench: Bench
) -> None:
    record, _ = ran(adapting)
    path = record.spec.path(adapting.results / "runs")
    rewritten(path, lambda content: content.pop("base_digest"))  # as early versions wrote it
    ran(adapting, protocol={"seeds": [1]})
    done = pack(open_records(adapting.results / "runs"), tmp_path / "packed")
    assert (done.refused, done.runs) == ([], 4)
    digests = {one.spec.seed: one.base_digest for one in open_records(tmp_path / "packed").read()[0] if one.spec.online}
    assert digests == {0: "", 1: record.base_digest}
    edit_base(adapting)
    said = bench("verify", "results")
    assert "mine: the file of this method here differs from the one that" in " ".join((said.out + said.err).split())
    ran(adapting, protocol={"seeds": [2]})
    done = pack(open_records(adapting.results / "runs"), tmp_path / "packed")
    assert "synth5-tiny: the runs of follow used 2 versions of the base's file" in " ".join(done.refused)


def test_a_submission_has_the_file_of_the_base(adapting: Project, bench: Bench) -> None:
    ran(adapting)
    done = bench("submit", "--method", "follow", "--to", "follow.zip")
    assert done.code == 0, done.err
    (adapting.root / "methods" / "mine.py").unlink()
    checked = bench("verify", "follow.zip", "--replay", "100%")
    assert checked.code == 0, checked.out + checked.err
    (adapting.root / "mine.py").write_text("def\n")
    done = bench("submit", "--method", "follow", "--method-file", "mine.py", "--to", "other.zip")
    assert "mine.py:1: this method file is not valid Python" in " ".join(done.err.split())
    (adapting.root / "methods" / "mine.py").write_text(MINE + "# edited\n")
    done = bench("submit", "--method", "follow", "--to", "other.zip")
    assert "mine.py: differs from the file that made the base of 1 of 1 record; submit that" in " ".join(
        done.err.split()
    )


def test_a_replay_trains_the_base_and_gives_the_same_numbers(adapting: Project) -> None:
    record, _ = ran(adapting)
    path = record.spec.path(adapting.results / "runs")
    again = replay(adapting, path, "cpu", {}, silent, lambda job, message: None)
    assert [images for *_, images in again.differences()] == [0] * len(record.cells)
    assert again.again.spec.key == record.spec.key


def test_a_replay_takes_a_file_of_the_base_from_another_path(adapting: Project, bench: Bench) -> None:
    own = "@dataclass\nclass Mine(Method):\n"
    text = MINE.replace("import Method", "import File, Method").replace(own, f'{own}    file: File = "w.txt"\n')
    (adapting.root / "methods" / "mine.py").write_text(text)
    (adapting.root / "methods" / "w.txt").write_text("3")
    record, _ = ran(adapting)
    assert record.spec.base is not None
    assert record.spec.base.weights
    (adapting.root / "methods" / "w.txt").rename(adapting.root / "moved.txt")
    path = str(record.spec.path(adapting.results / "runs"))
    assert bench("run", "--replay", path).code == 2
    replayed = bench("run", "--replay", path, "--set", "file=moved.txt")
    assert replayed.code == 0, replayed.err
    assert "Equal: every confusion matrix" in replayed.out


def test_a_base_that_vanishes_before_the_run_is_one_sentence(adapting: Project) -> None:
    execute(planned(adapting), adapting, 0)
    plan = planned(adapting, {"stream": "sorted"})
    assert plan.missing[0].spec.base is not None
    plan.missing[0].spec.base.model_path(adapting.results / "runs").unlink()
    ((outcome, _),) = execute(plan, adapting, 0)
    assert "follow starts from this checkpoint of mine on web, seed 0, which was not kept" in (outcome.refused or "")


APART = '''"""A base with a normalisation layer that does not change its logits."""
from dataclasses import dataclass
import torch
from torch import nn
from fergen_bench import TrunkMethod
class Both(nn.Module):
    def __init__(self, used):
        super().__init__()
        self.used, self.aside = used, nn.BatchNorm2d(3)
    def forward(self, images):
        return self.used(images)
@dataclass
class Apart(TrunkMethod):
    uses: bool = True  # the other normalisation layers
    def build(self, ctx):
        return Both(super().build(ctx))
    def predict(self, images):
        return super().predict(images) if self.uses else images.float().mean((2, 3)) @ torch.ones(3, 7)
'''


@pytest.mark.parametrize(("method", "uses"), [("tent", "false"), ("sar", "false"), ("sar", "true")])
def test_a_base_that_does_not_use_the_layers_to_adapt_is_one_sentence(
    adapting: Project, method: str, uses: str
) -> None:
    (adapting.root / "methods" / "apart.py").write_text(APART)
    changes = {"base": f"apart epochs=1 uses={uses}"}
    ended = execute(make_plan(adapting, changes, WEB, method=method), adapting, 0)
    assert [bool(record) for _, record in ended] == [True, False]
    expected = (
        f"{method}: the logits of its base, apart (epochs=1{', uses=False' * (uses == 'false')}), do not depend on all "
        f"layers that {method} adapts, so these have no gradient; choose a base whose predict uses them"
    )
    assert expected in (ended[1][0].refused or ended[1][0].log)


def test_an_online_method_without_its_parameters_is_refused(adapting: Project) -> None:
    path = adapting.root / "methods" / "bare.py"
    path.write_text(MINE.replace("    shift: float", "    online: ClassVar[bool] = True\n    shift: float"))
    with pytest.raises(BenchError, match=r"Mine is online and lacks the parameter stream; derive it from OnlineMethod"):
        adapting.method("bare")


def test_an_online_run_answers_no_photographs(adapting: Project, bench: Bench) -> None:
    record, _ = ran(adapting)
    result = bench("export", str(record.spec.path(adapting.results / "runs")), "--to", "follow.onnx")
    assert result.code == 2
    assert "follow adapts to a stream of test images, so its runs leave no checkpoint" in result.err
