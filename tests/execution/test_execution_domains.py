"""The domains of a plan: checks before any run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import execute

from fergen_bench.data.domain import Domain
from fergen_bench.data.prepared import write_prepared
from fergen_bench.error import BenchError
from fergen_bench.execution import domains as execution_domains
from fergen_bench.execution import plan as planning
from fergen_bench.experiment.outline import Request, outline
from fergen_bench.experiment.project import Project, find_project
from fergen_bench.experiment.protocol import Protocol
from fergen_bench.networks.name import PACKAGED_SIZE
from fergen_bench.records import store
from fergen_bench.synth.networks import FaceEncoder, Trunk


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

    def plan(sources: list[str], targets: Any = "all", **options: Any) -> planning.Plan:
        protocol = Protocol(about="x", sources=sources, targets=targets)
        planned = outline(protocol, "p", mine, [probe], Request(seeds=[0]))
        return planning.make_plan(lab, planned, planning.PlanOptions(**options))

    with pytest.raises(BenchError, match=r"the source part has no training images of fear; add some, or pass --allow"):
        plan(["part"])
    (alone,) = plan(["whole"], ["whole"]).notes
    assert alone.startswith("audited whole, which was never compared for near-duplicates: ")
    allowed = plan(["part"], allow_missing_class=True)
    said, audited = allowed.notes
    assert said == "the target part has no images of fear: its balanced accuracy is the mean over the other expressions"
    assert audited.startswith("audited part, whole, which were never compared for near-duplicates: ")
    ((_, entry),) = execute(allowed, lab, 0)
    assert entry is not None
    assert store.find(entry.spec, lab.results / "runs") == entry
    assert plan(["whole"]).notes[:1] == allowed.notes[:1]


def test_images_larger_than_the_packaged_networks_see_are_noted(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def notes(method: str) -> list[str]:
        suite = project.suite("synth5-tiny")
        planned = outline(
            Protocol(about="x", sources=["web"], targets=["web"]), "p", suite, [project.method(method)], Request()
        )
        return [note for note in planning.make_plan(project, planned, planning.PlanOptions()).notes if "larger" in note]

    assert notes("linear_probe") == []
    monkeypatch.setattr(execution_domains, "PACKAGED_SIZE", 32)
    (note,) = notes("linear_probe")
    assert note.startswith("images of web are stored larger than the 32 pixels per side that these networks see")
    assert "--suite" in note
    monkeypatch.setattr(execution_domains, "PACKAGED", {})
    assert notes("linear_probe") == []


def test_the_packaged_networks_see_images_of_that_size() -> None:
    assert FaceEncoder.size == Trunk.size == PACKAGED_SIZE
