"""Factor sweeps: from changed test images to protocols, runs, records and reports."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from running import METHOD, execute, make_plan
from test_protocol import SUITE

from conftest import Bench
from fergen_bench.data.corruption import CLEAN, FACTORS
from fergen_bench.data.domain import Domain, Split
from fergen_bench.error import BenchError
from fergen_bench.experiment.method_file import read_method
from fergen_bench.experiment.outline import Request, outline
from fergen_bench.experiment.project import Project
from fergen_bench.experiment.protocol import read_protocol
from fergen_bench.experiment.run import Job
from fergen_bench.records.record import RunRecord
from fergen_bench.synth.factor_sweep import images_at

CORRUPTIONS = [name for name, factor in FACTORS.items() if not factor.rendered]
RENDERED = [name for name, factor in FACTORS.items() if factor.rendered]


@pytest.fixture(scope="module")
def split(web: Domain) -> Split:
    return web.split("test")


@pytest.mark.parametrize("factor", FACTORS)
def test_a_factor_depends_on_the_image_alone_and_grows_with_its_level(split: Split, factor: str) -> None:
    some = np.array([1, 4, 7, 8])
    clean = images_at(split, some, CLEAN, 0).float()
    levels = FACTORS[factor].levels
    changes = []
    for level in levels:
        faces = images_at(split, some, factor, level)
        assert (faces.dtype, faces.shape) == (torch.uint8, clean.shape)
        assert torch.equal(faces[1:3], images_at(split, some[1:3], factor, level))
        changes.append(float((faces.float() - clean).abs().mean()))
    if factor in CORRUPTIONS:
        assert changes == sorted(changes)
        assert changes[0] > 0
    else:
        assert len(set(changes)) == len(levels)


def test_an_image_rendered_again_at_its_own_value_is_the_same(web: Domain, split: Split) -> None:
    """At the neutral value of a factor an image equals the clean one, if its world has that value."""
    positions = np.arange(20)
    again, clean = images_at(split, positions, "resolution", 1.0), images_at(split, positions, CLEAN, 0)
    assert float((again != clean).float().mean()) < 0.001
    without = images_at(split, positions, "occluder", 0.0)
    assert torch.equal(without, images_at(split, positions, CLEAN, 0))


def test_images_that_were_not_rendered_raise(tmp_path: Path) -> None:
    from test_domain import make

    other = make(tmp_path / "other", size=8).split("test")
    with pytest.raises(BenchError, match="cannot be rendered with pose"):
        images_at(other, np.arange(2), "pose", 0.2)


# ------------------------------------------------------------------------------------------------------------ protocols


@pytest.mark.parametrize(
    ("shifts", "message"),
    [
        ("  factors: [blur, pse]\n", r"p\.yaml:4: shifts\.factors\.pse: there is no factor 'pse'; did you mean pose\?"),
        ("  factors: {blur: [6]}\n", r"p\.yaml:4: shifts\.factors\.blur: 6 is not a level .* whole number from 1 to 5"),
        ("  factors: {blur: [1.5]}\n", "1.5 is not a level of blur"),
        ("  factors: {pose: [0.2, 2]}\n", "2 is not a level of pose; it takes a number from -1 to 1"),
        ("  factors: [blur]\n  face: 3\n", r"p\.yaml:5: there is no key 'shifts\.face'; did you mean faces\?"),
        ("  factors: []\n", r"p\.yaml:4: shifts\.factors: "),
    ],
)
def test_unknown_factors_raise_with_line_and_key(tmp_path: Path, shifts: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        planned(tmp_path, f"about: x\nseeds: [0]\nshifts:\n{shifts}")


def planned(tmp_path: Path, text: str, **changes: Any) -> Any:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    (tmp_path / "probe.py").write_text(METHOD)
    suite, method = replace(SUITE, **changes), read_method(tmp_path / "probe.py")
    return outline(read_protocol(path), str(path), suite, [method], Request())


def test_factors_that_no_image_can_have_raise(tmp_path: Path) -> None:
    text = "about: x\nseeds: [0]\nshifts:\n  factors: [pose]\n"
    with pytest.raises(BenchError, match=r"p\.yaml:4: shifts\.factors\.pose: only rendered faces .* others; .*blur"):
        planned(tmp_path, text, synthetic=False)
    with pytest.raises(BenchError, match=r"p\.yaml:3: shifts: the run on b\+c scores none of the targets"):
        planned(tmp_path, text + "sources: all-but-target\n")
    assert planned(tmp_path, text + "  targets: all\nsources: all-but-target\n").corruptions.levels() == {
        CLEAN: (0.0,),
        "pose": FACTORS["pose"].levels,
    }


# ----------------------------------------------------------------------------------------------------------------- runs

BLUR = {"sources": ["web"], "shifts": {"factors": {"blur": [1.0, 5.0]}, "faces": 40}}


@pytest.fixture
def lab(project: Project) -> Project:
    (project.root / "methods").mkdir()
    (project.root / "methods" / "probe.py").write_text(METHOD)
    return project


def shifts_of(entry: RunRecord | None) -> list[tuple[str, str, float, int]]:
    assert entry is not None
    return [(cell.target, cell.factor, cell.level, sum(map(sum, cell.confusion))) for cell in entry.shifted]


def test_a_checkpoint_is_scored_without_training(lab: Project) -> None:
    ((_, first),) = execute(make_plan(lab, protocol={"sources": ["web"]}, keep_models=True), lab, 0)
    plan = make_plan(lab, protocol=BLUR)
    assert [job.restore for job in plan.missing] == [True]
    assert "1 run lacks only corruption scores, which come from 1 checkpoint; nothing is trained" in plan.notes[-1]
    job = plan.missing[0]
    assert Job.from_json(json.loads(json.dumps(job.to_json()))) == replace(job, corruptions=tuple(job.corruptions))
    ((_, entry),) = execute(plan, lab, 0)
    assert shifts_of(entry) == [("web", CLEAN, 0, 40), ("web", "blur", 1, 40), ("web", "blur", 5, 40)]
    assert first is not None
    assert entry is not None
    assert (entry.cells, entry.started) == (first.cells, first.started)
    assert set(entry.seconds) == {"fit", "score", "shift"}
    assert make_plan(lab, protocol=BLUR).missing == ()
    assert make_plan(lab, protocol={"sources": ["web"]}).missing == ()
    more = {**BLUR, "shifts": {"factors": {"blur": [1.0, 2.0]}, "faces": 40}}
    (job,) = make_plan(lab, protocol=more).missing
    assert [(shift.factor, shift.level) for shift in job.corruptions] == [("blur", 2.0)]
    ((_, entry),) = execute(make_plan(lab, protocol=more), lab, 0)
    assert len(shifts_of(entry)) == 4


def test_without_a_checkpoint_the_plan_announces_that_the_run_is_repeated(lab: Project) -> None:
    execute(make_plan(lab, protocol={"sources": ["web"]}), lab, 0)
    plan = make_plan(lab, protocol=BLUR)
    assert [job.restore for job in plan.missing] == [False]
    assert "1 run has a record but no checkpoint to compute corruption scores" in plan.notes[-1]
    ((_, entry),) = execute(plan, lab, 0)
    assert len(shifts_of(entry)) == 3
    ((_, again),) = execute(make_plan(lab, protocol={"sources": ["web"]}, rerun=True), lab, 0)
    assert shifts_of(again) == shifts_of(entry), "repeating a run preserves its factor cells"


def test_a_checkpoint_of_an_edited_method_file_is_not_scored(lab: Project) -> None:
    execute(make_plan(lab, protocol={"sources": ["web"]}, keep_models=True), lab, 0)
    path = lab.root / "methods" / "probe.py"
    path.write_text(path.read_text() + "\n# another text\n")
    assert [job.restore for job in make_plan(lab, protocol=BLUR).missing] == [False]


# -------------------------------------------------------------------------------------------------------------- reports


def test_the_command_line_from_runs_to_factor_tables(bench: Bench, lab: Project) -> None:
    (lab.root / "protocols").mkdir()
    text = "about: x\nsources: [web]\ntargets: [web]\nseeds: [0]\nrename: {web: The Web}\nfraction: [0.5]\n"
    (lab.root / "protocols" / "blurred.yaml").write_text(text + "shifts: {factors: {blur: [1]}, faces: 20}\n")
    command = ("run", "--protocol", "blurred", "--method", "probe", "--no-track", "-j", "0")
    answer = bench(*command, "--dry-run")
    assert "50% of The Web" in answer.out
    assert "1 run, 0 done before, 1 to do; time left: — (no earlier run to go by)" in answer.out
    done = bench(*command)
    assert done.code == 0
    assert "probe on 50% of The Web, seed 0: in-domain" in done.err
    assert "1 run, 1 done before, 0 to do\n" in bench(*command, "--dry-run").out
    told = bench(*command, "--dry-run", "--rerun", "--seeds", "0,1,2", "-j", "2").out
    left = re.search(r"3 to do; time left: about (\d+) s, 2 at a time \(as earlier runs on this kind of device", told)
    assert left
    assert int(left[1]) >= 4, "two runs in one slot, each of which loads torch first"
    assert bench("report").code == 0
    written = (lab.results / "report" / "leaderboard.md").read_text()
    assert "## Under controlled shift: synth5-tiny (synthetic faces): trained on one source" in written
    assert "| method | pre-training | targets | clean | 1 | seeds |" in written
    assert (lab.results / "report" / "synth5-tiny-50percent-shift-blur.png").is_file()
