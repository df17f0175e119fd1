"""`fergen-bench site` writes a folder of pages, and keeps its hands off other folders."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import fergen_bench as fb
import links
import sketching
from conftest import Bench
from fergen_bench.api import site
from fergen_bench.api.display import Display


@pytest.fixture(scope="module")
def finished_site(probe_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a site about the results of two methods."""
    folder = tmp_path_factory.mktemp("site") / "public"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fergen_bench.report.figures.save", sketching.save)
        patch.chdir(probe_runs.parents[1])
        fb.site(folder, records=probe_runs.parent)
    return folder


@pytest.fixture
def public(finished_site: Path, tmp_path: Path) -> Path:
    """Return a copy of the site."""
    return shutil.copytree(finished_site, tmp_path / "public")


def test_a_site_has_an_index_leaderboards_and_methods_with_working_links(public: Path, results: fb.Results) -> None:
    assert links.faults(public) == []
    index = (public / "index.html").read_text(encoding="utf-8")
    assert f'href="leaderboards/{results.suite}/index.html#b0"' in index
    leaderboard = (public / "leaderboards" / results.suite / "index.html").read_text(encoding="utf-8")
    assert 'href="../../index.html"' in leaderboard
    assert 'href="../../methods/' in leaderboard
    assert "Documentation" not in index
    assert (public / "methods" / "cafe.html").is_file()


def test_a_second_site_replaces_the_first_and_nothing_else(public: Path, results: fb.Results) -> None:
    (public / "CNAME").write_text("mine")
    listing = public / site.LISTING
    (public / "methods" / "gone.html").write_text("old")
    (public / "old").mkdir()
    (public / "old" / "gone.html").write_text("old")
    outside = public.parent / "mine.txt"
    outside.write_text("mine")
    listing.write_text(f"{listing.read_text()}\nmethods/gone.html\nold/gone.html\n../mine.txt\n{outside}\n")
    fb.site(public, records=results.folder)
    assert not (public / "methods" / "gone.html").exists()
    assert not (public / "old").exists()
    assert (public / "CNAME").read_text() == outside.read_text() == "mine"


def test_a_link_in_the_folder_does_not_lead_a_page_out_of_it(results: fb.Results, tmp_path: Path) -> None:
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / site.LISTING).write_text("")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "public" / "methods").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(fb.BenchError, match=r"methods/\w+\.html: a link leads out of .*public\. Remove the link\."):
        fb.site(tmp_path / "public", records=results.folder)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("taken",), r"taken: this folder contains mine\.txt, which is not part of a site\. Name a new or an empty"),
        (("taken/mine.txt",), r"mine\.txt: this is a file\. Name a folder for the site\."),
        (("new", "--records", "nowhere"), r"nowhere: this folder or file does not exist\."),
        (("new", "--records", "results"), r"results/runs: no scored records\. Make some with: fergen-bench run"),
        (("new", "--docs", "mkdocs.yml"), r"--docs: mkdocs\.yml does not exist\. Name the mkdocs\.yml"),
    ],
)
def test_bad_input_ends_in_one_sentence(
    bench: Bench, project: object, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    result = bench("site", *arguments)
    assert result.code == 2
    assert len(result.err.strip().splitlines()) == 1
    assert re.search(sentence, result.err), result.err
    assert not (tmp_path / "new").exists() or list((tmp_path / "new").iterdir()) == []
    assert (tmp_path / "taken" / "mine.txt").read_text() == "mine"


def test_documentation_needs_mkdocs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mkdocs.yml").write_text("site_name: x\n")
    monkeypatch.setattr(site, "find_spec", lambda name: None)
    with pytest.raises(fb.BenchError, match=r"--docs: MkDocs is not installed here\. .*fergen-bench\[docs\]"):
        fb.site(tmp_path / "new", docs=tmp_path / "mkdocs.yml")


def test_documentation_is_linked_from_the_index_and_its_fault_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built = subprocess.CompletedProcess([], 0, "", "")

    def build(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        folder = Path(command[command.index("--site-dir") + 1])
        folder.mkdir()
        (folder / "index.html").touch()
        (folder / "findings.html").touch()
        return built

    monkeypatch.setattr(site.subprocess, "run", build)
    found = site._documents(tmp_path / "mkdocs.yml", tmp_path, Display())
    assert found == {"Findings": "docs/findings.html", "Documentation": "docs/index.html"}
    built = subprocess.CompletedProcess([], 1, "INFO    -  x\n", "WARNING -  a.md contains a link\nAborted\n")
    (tmp_path / "other").mkdir()
    with pytest.raises(
        fb.BenchError, match=r"mkdocs\.yml: mkdocs build failed: WARNING -  a\.md contains a link\. See"
    ):
        site._documents(tmp_path / "mkdocs.yml", tmp_path / "other", Display())
