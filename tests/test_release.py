"""The version, the citation and the workflow agree with the project."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from conftest import ROOT
from fergen_bench.records.collection import RecordFolder
from fergen_bench.report.page import Content
from fergen_bench.report.page.writer import citation
from fergen_bench.report.statistics import Evidence

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_citation_file_names_this_version_and_the_changelog_describes_it() -> None:
    stated = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert stated["version"] == PROJECT["version"]
    assert stated["license"] == PROJECT["license"]
    heading = f"## {PROJECT['version']} ({stated['date-released']})"
    assert heading in (ROOT / "CHANGELOG.md").read_text().splitlines()


def test_the_citation_of_a_page_is_that_of_the_citation_file() -> None:
    stated = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    content = Content(views={"accuracy": []}, records=[], stored=RecordFolder(Path()), evidence=Evidence())
    entry = citation(content)
    assert f"title   = {{{stated['title']}}}" in entry
    assert f"author  = {{{{{stated['authors'][0]['name']}}}}}" in entry


def test_the_workflow_calls_targets_and_scripts_of_the_project_alone() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["${{ matrix.command }}"]
    jobs = job["strategy"]["matrix"]["include"]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for command in (entry["command"] for entry in jobs):
        program, *words = command.split()
        assert (program == "make" and words[0] in targets) or os.access(ROOT / program, os.X_OK), command
    assert min(entry["python"] for entry in jobs) == PROJECT["requires-python"].removeprefix(">=")
