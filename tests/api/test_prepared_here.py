"""Prepared domains that reports use where they exist."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from examples import SPEC, finished

from fergen_bench.api import prepared
from fergen_bench.data.domain import Domain
from fergen_bench.data.source import open_source
from fergen_bench.experiment.project import Project


def test_a_domain_is_opened_where_it_is_prepared(project: Project, web: Domain) -> None:
    found = prepared.domain(project, "synth5-tiny", "web")
    assert found is not None
    assert found.fingerprint == web.fingerprint
    assert prepared.about(project, "synth5-tiny", "web") == web.about
    for suite, name in (("no suite", "web"), ("wild5", "rafdb")):
        assert prepared.folder(project, suite, name) is None
        assert prepared.domain(project, suite, name) is None


def test_a_domain_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "data" / "web").mkdir(parents=True)
    (tmp_path / "data" / "web" / "domain.json").write_text("{")
    (tmp_path / "bench.toml").write_text('[suites.mine]\ndomains = ["web2"]\n')
    project = Project(tmp_path, configured=True)
    assert prepared.about(project, "mine", "web2") is None


def test_held_out_images_are_counted_on_the_images_of_the_run(project: Project, web: Domain) -> None:
    spec = replace(SPEC, suite="synth5-tiny", sources=("web",), fingerprints={"web": web.fingerprint})
    count = prepared.held_out(project)
    assert count(spec) == len(open_source([web], spec.seed, spec.fraction).held_out)
    assert count(replace(spec, fingerprints={"web": "another"})) is None
    assert prepared.lacking(project, [finished(spec)]) == []
